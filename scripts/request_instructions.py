"""Asks for instructions: one shard of a table of requests, each a sample behind a model's bare pre-query template.

    python scripts/request_instructions.py --model results/models/mine/receipt.json --family qwen3 \\
        --shard 0000-of-0001 --settings '{"count": 1500, "topics": [{"name": "general", "share": 1.0, "system": null}],
        "sampling": [{"share": 1.0, "temperature": 1.0, "top_p": 1.0}], "max_tokens": 512, "stop": ["\\n"]}' \\
        --requests requests.parquet

out: item_id 5d…, request instruction, token_ids [151644, 872, 198], temperature 1.0, first_sample 17, n 1
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from corpusmith.errors import InputError
from corpusmith.instructions.drawing import instruction_requests, read_drawing
from corpusmith.models import folder_of, read_receipt
from corpusmith.pre_query import FAMILIES, PreQuery, pre_query_ids
from corpusmith.program import argument_parser, json_object, log, run
from corpusmith.table_files import write_table
from corpusmith.tables import REQUESTS


def main() -> None:
    """Parses the flags and writes the shard."""
    parser = argument_parser(__doc__)
    parser.add_argument("--model", required=True, help="receipt of the model, whose tokenizer is used")
    template = parser.add_mutually_exclusive_group(required=True)
    template.add_argument("--family", choices=sorted(FAMILIES), help="the family of models whose template it is")
    template.add_argument("--template", help="the template itself, up to the first word of a user")
    parser.add_argument("--system-template", help="the same with a system prompt, {system} in its place")
    parser.add_argument("--settings", required=True, metavar="JSON", help="sources.pre_query of a dataset's config")
    parser.add_argument("--limit", type=int, help="ask for so many at most (default: all)")
    parser.add_argument("--shard", required=True, help="which shard, such as 0007-of-0064")
    parser.add_argument("--requests", required=True, help="table of requests to write")
    flags = parser.parse_args()
    if flags.system_template is not None and flags.template is None:
        raise InputError("--system-template goes with --template; a family knows its own")
    drawing = read_drawing(json_object(flags.settings, "--settings"), flags.limit)
    query = FAMILIES[flags.family] if flags.family else PreQuery(flags.template, flags.system_template)
    tokenizer = _tokenizer(folder_of(read_receipt(flags.model)))
    token_ids = {topic.name: pre_query_ids(tokenizer, query.text(topic.system)) for topic in drawing.topics}
    rows = instruction_requests(drawing, token_ids, flags.shard)
    log.info("%s requests in shard %s", f"{write_table(flags.requests, REQUESTS, rows):,}", flags.shard)


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{path}: no such file; instructions are asked for by token ids, which a fast tokenizer gives")
    return Tokenizer.from_file(str(path))


if __name__ == "__main__":
    run(main)
