"""Selects rows, with the solutions that they came with, by the measured pass rates of their problems.

in:  item_id 9f…, problem_id 5d…, problem "Mina had …", generated_solution "…"   and   item_id 5d…, pass_rate 0.3125
out: the rows whose problem's pass rate is in the band, with that pass rate; without grades, all rows
"""

from __future__ import annotations

from corpusmith.accounting import Account
from corpusmith.identity import shard_names
from corpusmith.maths.selection import Band, read_grades, select_rows
from corpusmith.program import argument_parser, log, run


def main() -> None:
    """Parses the flags and selects."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of labelled rows")
    parser.add_argument("--grades", help="folder of the tables of graded problems; without it all rows stay")
    parser.add_argument("--shards", type=int, help="how many shards that folder holds")
    parser.add_argument("--at-least", type=float, help="least pass rate (default: no limit)")
    parser.add_argument("--at-most", type=float, help="greatest pass rate (default: no limit)")
    parser.add_argument("--stage", default="select", help="name of the stage (default: %(default)s)")
    parser.add_argument("--kept", required=True, help="table of kept rows to write")
    parser.add_argument("--rejected", required=True, help="table of rejected rows to write")
    parser.add_argument("--account", required=True, help="account of rows to write")
    flags = parser.parse_args()
    if flags.grades and not flags.shards:
        parser.error("--grades needs --shards")
    grades = None
    if flags.grades:
        grades = read_grades(f"{flags.grades}/{shard}.parquet" for shard in shard_names(flags.shards))
    account = Account(flags.stage)
    select_rows(flags.rows, grades, Band(flags.at_least, flags.at_most), flags.kept, flags.rejected, account)
    account.write(flags.account)
    log.info("selected %s of %s rows", f"{account.kept.count:,}", f"{account.taken.count:,}")


if __name__ == "__main__":
    run(main)
