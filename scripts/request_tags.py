"""Asks for tags of instructions: from a table of instructions to one shard of a table of requests.

    python scripts/request_tags.py --instructions instructions.parquet --shard 0000-of-0001 \\
        --prompt config/prompts/tag-instruction.txt --requests requests.parquet

in:  item_id 5d…, instruction "Add 12 and 30."
out: item_id 5d…, request tags, messages [user: "You label …"], json_schema {"properties": {"difficulty": …, …}}

Answers are JSON of that schema: {"difficulty": "very easy", "quality": "good", "category": "Math", "language": "en"}.
"""

from __future__ import annotations

from corpusmith.instructions.tags import (
    CATEGORIES,
    DIFFICULTIES,
    LANGUAGES,
    QUALITIES,
    TagChoices,
    tag_requests,
)
from corpusmith.program import argument_parser, log, run
from corpusmith.prompts import load_prompt
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import INSTRUCTIONS, REQUESTS


def main() -> None:
    """Parses the flags and writes the shard."""
    parser = argument_parser(__doc__)
    parser.add_argument("--instructions", required=True, help="table of instructions")
    parser.add_argument("--shard", required=True, help="which shard, such as 0007-of-0064")
    parser.add_argument(
        "--prompt",
        required=True,
        help="file of the prompt, a jinja template with instruction and, as lists, difficulties, qualities, categories"
        " and languages",
    )
    parser.add_argument(
        "--difficulty", nargs="+", default=DIFFICULTIES, help=f"its values (default: {', '.join(DIFFICULTIES)})"
    )
    parser.add_argument("--quality", nargs="+", default=QUALITIES, help=f"its values (default: {', '.join(QUALITIES)})")
    parser.add_argument(
        "--category", nargs="+", default=CATEGORIES, help=f"its values (default: {', '.join(CATEGORIES)})"
    )
    parser.add_argument(
        "--language", nargs="+", default=LANGUAGES, help=f"its values (default: {', '.join(LANGUAGES)})"
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="of the tags (default: 0.0)")
    parser.add_argument("--requests", required=True, help="table of requests to write")
    flags = parser.parse_args()
    choices = TagChoices(flags.difficulty, flags.quality, flags.category, flags.language)
    rows = read_rows(flags.instructions, INSTRUCTIONS, ["item_id", "instruction"])
    requests = tag_requests(rows, flags.shard, load_prompt(flags.prompt), choices, flags.temperature)
    log.info("%s requests in shard %s", f"{write_table(flags.requests, REQUESTS, requests):,}", flags.shard)


if __name__ == "__main__":
    run(main)
