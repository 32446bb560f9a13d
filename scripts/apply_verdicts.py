"""Keeps the rows that the judge accepts; the others go, with what it said.

in:  item_id 9f…, source "…", target "…"   and   item_id 9f…, request verdict, text "good"
out: the rows with an accepted verdict, and the others with reason judge
"""

from __future__ import annotations

from corpusmith.accounting import Account
from corpusmith.identity import shard_names
from corpusmith.judging import apply_verdicts
from corpusmith.program import argument_parser, log, run
from corpusmith.tables import ROWS


def main() -> None:
    """Parses the flags and applies the verdicts."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of what was judged")
    parser.add_argument("--recipe", required=True, choices=sorted(ROWS), help="the recipe that the rows are of")
    parser.add_argument("--step", required=True, help="folder of the judge's step, with completions/ in it")
    parser.add_argument("--shards", required=True, type=int, help="how many shards the step has")
    parser.add_argument("--accept", required=True, nargs="+", help="the verdicts that keep a row")
    parser.add_argument("--stage", default="judge", help="name of the stage in accounts (default: judge)")
    parser.add_argument("--kept", required=True, help="table of kept rows to write")
    parser.add_argument("--rejected", required=True, help="table of rejected rows to write")
    parser.add_argument("--account", required=True, help="account of rows to write")
    flags = parser.parse_args()
    account = Account(flags.stage)
    completions = [f"{flags.step}/completions/{shard}.parquet" for shard in shard_names(flags.shards)]
    apply_verdicts(flags.rows, ROWS[flags.recipe], completions, flags.accept, flags.kept, flags.rejected, account)
    account.write(flags.account)
    log.info("the judge let %s of %s rows pass", account.kept.count, account.taken.count)


if __name__ == "__main__":
    run(main)
