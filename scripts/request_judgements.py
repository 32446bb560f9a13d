"""Asks a judge about rows: from a table of rows to one shard of a table of requests.

in:  item_id 9f…, source "…", target "…"
out: item_id 9f…, request verdict, messages [user: "Is this …?"], choices [good, bad]
"""

from __future__ import annotations

from corpusmith.judging import judge_requests
from corpusmith.program import argument_parser, log, run
from corpusmith.prompts import load_prompt
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import REQUESTS, ROWS


def main() -> None:
    """Parses the flags and writes the shard."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of what is judged")
    parser.add_argument("--recipe", required=True, choices=sorted(ROWS), help="the recipe that the rows are of")
    parser.add_argument("--shard", required=True, help="which shard, such as 0007-of-0064")
    parser.add_argument("--prompt", required=True, help="file of the prompt, a jinja template with columns of the rows")
    parser.add_argument("--verdicts", required=True, nargs="+", help="what the judge may answer")
    parser.add_argument("--votes", type=int, default=1, help="verdicts on each row (default: 1)")
    parser.add_argument("--temperature", type=float, default=0.0, help="of the verdicts (default: 0.0)")
    parser.add_argument("--requests", required=True, help="table of requests to write")
    flags = parser.parse_args()
    tables = ROWS[flags.recipe]
    rows = read_rows(flags.rows, tables.kept, ["item_id", *tables.texts])
    prompt = load_prompt(flags.prompt)
    requests = judge_requests(rows, flags.shard, prompt, flags.verdicts, flags.votes, flags.temperature)
    log.info("%s requests in shard %s", write_table(flags.requests, REQUESTS, requests), flags.shard)


if __name__ == "__main__":
    run(main)
