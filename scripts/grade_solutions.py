"""Says of each solution whether it is right, and of each problem which share of its solutions is: one shard.

in:  a shard of solved problems: requests, completions, checked, answers; and what the judge said, where there is one
out: item_id 5d…, sample 3, answer "14", right true, reason same_text
     item_id 5d…, answer "14", answer_origin given, samples 16, right 5, pass_rate 0.3125
"""

from __future__ import annotations

from corpusmith.accounting import Account
from corpusmith.maths.grading import SolveTables, checked_problems, grade_solutions, read_votes
from corpusmith.program import argument_parser, log, run


def main() -> None:
    """Parses the flags and grades the shard."""
    parser = argument_parser(__doc__)
    parser.add_argument("--requests", required=True, help="table of what was asked about the problems")
    parser.add_argument("--completions", required=True, help="table of their solutions")
    parser.add_argument("--checked", required=True, help="table of what checking said of each")
    parser.add_argument("--answers", required=True, help="table of the problems' answers")
    parser.add_argument("--verdicts", help="table of what the judge said; without it nothing was put to one")
    parser.add_argument("--accept", nargs="+", default=[], help="the verdicts that say that a solution is right")
    parser.add_argument("--stage", default="solve/grade", help="name of the stage (default: %(default)s)")
    parser.add_argument("--graded", required=True, help="table of graded solutions to write")
    parser.add_argument("--grades", required=True, help="table of graded problems to write")
    parser.add_argument("--account", required=True, help="account of problems to write")
    flags = parser.parse_args()
    tables = SolveTables(flags.requests, flags.completions, flags.checked, flags.answers)
    votes = read_votes(flags.verdicts, flags.accept) if flags.verdicts else {}
    account = Account(flags.stage)
    decided = grade_solutions(checked_problems(tables), votes, flags.graded, flags.grades, account)
    account.write(flags.account)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(decided.items())) or "none"
    log.info("graded the solutions of %s problems: %s", f"{account.kept.count:,}", reasons)


if __name__ == "__main__":
    run(main)
