"""Asks a judge about translations: from a table of rows to one shard of a table of requests.

in:  item_id 9f…, source "…", target "…"
out: item_id 9f…, request verdict, messages [user: "Is this …?"], choices [good, bad]
"""

from __future__ import annotations

from corpusmith.judging import judge_requests
from corpusmith.program import argument_parser, log, run
from corpusmith.prompts import load_prompt
from corpusmith.tables import FILTERED, REQUESTS, read_rows, write_table


def main() -> None:
    """Parses the flags and writes the shard."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of what is judged")
    parser.add_argument("--shard", required=True, help="which shard, such as 0007-of-0064")
    parser.add_argument("--prompt", required=True, help="file of the prompt, a jinja template with source and target")
    parser.add_argument("--verdicts", required=True, nargs="+", help="what the judge may answer")
    parser.add_argument("--requests", required=True, help="table of requests to write")
    flags = parser.parse_args()
    rows = read_rows(flags.rows, FILTERED, ["item_id", "source", "target"])
    requests = judge_requests(rows, flags.shard, load_prompt(flags.prompt), flags.verdicts)
    log.info("%s requests in shard %s", write_table(flags.requests, REQUESTS, requests), flags.shard)


if __name__ == "__main__":
    run(main)
