"""Asks a judge about solutions that checking left undecided: one shard of a table of requests.

in:  a shard of solved problems: requests, completions, checked, answers
out: item_id 5d…, request verdict-3, messages [user: "Is … the same as …?"], choices [Yes, No]
"""

from __future__ import annotations

from corpusmith.maths.grading import SolveTables, checked_problems, verdict_requests
from corpusmith.program import argument_parser, log, run
from corpusmith.prompts import load_prompt
from corpusmith.table_files import write_table
from corpusmith.tables import REQUESTS


def main() -> None:
    """Parses the flags and writes the shard."""
    parser = argument_parser(__doc__)
    parser.add_argument("--solve-requests", required=True, help="table of what was asked about the problems")
    parser.add_argument("--completions", required=True, help="table of their solutions")
    parser.add_argument("--checked", required=True, help="table of what checking said of each")
    parser.add_argument("--answers", required=True, help="table of the problems' answers")
    names = "problem, expected_answer, predicted_answer, solution"
    parser.add_argument("--prompt", required=True, help=f"file of the prompt, a jinja template with {names}")
    parser.add_argument("--verdicts", required=True, nargs="+", help="what the judge may answer")
    parser.add_argument("--votes", type=int, default=1, help="verdicts on each solution (default: 1)")
    parser.add_argument("--temperature", type=float, default=0.0, help="of the verdicts (default: 0.0)")
    parser.add_argument("--requests", required=True, help="table of requests to write")
    flags = parser.parse_args()
    problems = checked_problems(SolveTables(flags.solve_requests, flags.completions, flags.checked, flags.answers))
    rows = verdict_requests(problems, load_prompt(flags.prompt), flags.verdicts, flags.votes, flags.temperature)
    log.info("%s solutions are put to the judge", write_table(flags.requests, REQUESTS, rows))


if __name__ == "__main__":
    run(main)
