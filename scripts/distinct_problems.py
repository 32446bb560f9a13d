"""Lists each problem of some rows once, and the problems whose rows have different answers.

in:  problem_id 5d…, problem "Mina had …", answer "14"   (as many rows as there are solutions)
out: item_id 5d…, problem "Mina had …", answer "14", rows 8
     item_id 5d…, answers ["14", "15"], counts [7, 1]    where they differ
"""

from __future__ import annotations

from corpusmith.accounting import Account
from corpusmith.maths.problems import distinct_problems
from corpusmith.program import argument_parser, log, run


def main() -> None:
    """Parses the flags and lists the problems."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of labelled rows")
    parser.add_argument("--stage", default="sources/problems", help="name of the stage (default: %(default)s)")
    parser.add_argument("--problems", required=True, help="table of distinct problems to write")
    parser.add_argument("--conflicts", required=True, help="table of problems with different answers to write")
    parser.add_argument("--account", required=True, help="account of rows to write")
    flags = parser.parse_args()
    account = Account(flags.stage, "rows")
    conflicting = distinct_problems(flags.rows, flags.problems, flags.conflicts, account)
    account.write(flags.account)
    log.info("%s distinct problems in %s rows", f"{account.kept.count:,}", f"{account.taken.count:,}")
    if conflicting:
        log.warning(
            "%s problems have rows with different answers; the most frequent one counts: %s",
            f"{conflicting:,}",
            flags.conflicts,
        )


if __name__ == "__main__":
    run(main)
