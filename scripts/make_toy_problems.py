"""Makes solved word problems of the toy world, in OpenMathReasoning's form: one JSON object a line, gzip.

A row for each solution: right about as often as the problem's pass rate says, now and then with its answer in words
or without a box. Problems without an extracted answer have the pass rate n/a.

out: {"expected_answer": "9", "problem_type": "has_answer_extracted", …, "pass_rate_72b_tir": "0.84375",
      "problem": "Mina had 5 eggs and bought 4 more. How many eggs does Mina have?",
      "generated_solution": "5 + 4 = 9. \\\\boxed{9}", "inference_mode": "cot", "used_in_kaggle": false}
"""

from __future__ import annotations

from corpusmith.program import argument_parser, log, run
from corpusmith.toy.problems import write_problems


def main() -> None:
    """Parses the flags and writes the problems."""
    parser = argument_parser(__doc__)
    parser.add_argument("--problems", type=int, required=True, help="how many distinct problems")
    parser.add_argument("--seed", type=int, required=True, help="seed of the drawing")
    parser.add_argument("--problems-file", required=True, help="file to write, .jsonl.gz")
    flags = parser.parse_args()
    rows = write_problems(flags.problems, flags.seed, flags.problems_file)
    log.info("%s problems, %s rows", flags.problems, rows)


if __name__ == "__main__":
    run(main)
