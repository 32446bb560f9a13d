"""Selects the best of the solutions that were made of each problem, by their grades.

in:  item_id 5d…, sample 3, text "… \\boxed{14}"   and   item_id 5d…, sample 3, right true
out: item_id 5d…, problem "Mina had …", answer "14", generated_solution "… \\boxed{14}", pass_rate 0.3125, sample 3
     and a table of all solutions of the problems that stay
"""

from __future__ import annotations

import argparse

from corpusmith.accounting import Account
from corpusmith.identity import shard_names
from corpusmith.maths.selection import Band, Choice, GradedTables, select_solutions
from corpusmith.program import argument_parser, log, run


def main() -> None:
    """Parses the flags and selects."""
    parser = argument_parser(__doc__)
    parser.add_argument("--problems", required=True, help="table of distinct problems")
    parser.add_argument("--step", required=True, help="folder of the step that solved")
    parser.add_argument("--shards", required=True, type=int, help="how many shards the step has")
    parser.add_argument(
        "--order",
        nargs="+",
        choices=["right", "shortest", "longest", "first"],
        default=["right", "shortest", "first"],
        help="what makes a solution the better one, the most important first (default: right shortest first)",
    )
    parser.add_argument(
        "--only-right",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether a problem without a right solution is dropped (default: it is)",
    )
    parser.add_argument("--at-least", type=float, help="least pass rate of a problem (default: no limit)")
    parser.add_argument("--at-most", type=float, help="greatest pass rate of a problem (default: no limit)")
    parser.add_argument("--generation-model", required=True, help="what made the solutions")
    parser.add_argument("--stage", default="select", help="name of the stage (default: %(default)s)")
    parser.add_argument("--kept", required=True, help="table of kept rows to write")
    parser.add_argument("--rejected", required=True, help="table of rejected rows to write")
    parser.add_argument("--samples", required=True, help="table of all solutions of kept problems to write")
    parser.add_argument("--account", required=True, help="account of problems to write")
    flags = parser.parse_args()
    kinds = ("requests", "completions", "graded", "grades")
    names = [f"{shard}.parquet" for shard in shard_names(flags.shards)]
    tables = [GradedTables(*(f"{flags.step}/{kind}/{name}" for kind in kinds)) for name in names]
    choice = Choice(flags.order, flags.only_right, Band(flags.at_least, flags.at_most))
    account = Account(flags.stage)
    select_solutions(
        flags.problems,
        tables,
        choice,
        flags.generation_model,
        flags.kept,
        flags.rejected,
        flags.samples,
        account,
    )
    account.write(flags.account)
    log.info("solutions of %s of %s problems stay", f"{account.kept.count:,}", f"{account.taken.count:,}")


if __name__ == "__main__":
    run(main)
