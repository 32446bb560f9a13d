"""Asks for solutions: from a table of problems to one shard of a table of requests.

in:  item_id 5d…, problem "Mina had …", answer "14"
out: item_id 5d…, request solution, messages [user: "Solve …"], temperature 0.7, n 16, reference "14"
"""

from __future__ import annotations

from corpusmith.maths.problems import Solving, solution_requests
from corpusmith.program import argument_parser, log, run
from corpusmith.prompts import load_prompt
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import PROBLEMS, REQUESTS


def main() -> None:
    """Parses the flags and writes the shard."""
    parser = argument_parser(__doc__)
    parser.add_argument("--problems", required=True, help="table of distinct problems")
    parser.add_argument("--shard", required=True, help="which shard, such as 0007-of-0064")
    parser.add_argument("--prompt", required=True, help="file of the prompt, a jinja template with problem")
    parser.add_argument("--n", type=int, required=True, help="solutions of each problem")
    parser.add_argument("--temperature", type=float, default=0.7, help="of the solutions (default: 0.7)")
    parser.add_argument("--top-p", type=float, default=1.0, help="of the solutions (default: 1.0)")
    parser.add_argument("--top-k", type=int, default=0, help="of the solutions; 0 is all (default: 0)")
    parser.add_argument("--max-tokens", type=int, required=True, help="most tokens of a solution")
    parser.add_argument("--requests", required=True, help="table of requests to write")
    flags = parser.parse_args()
    solving = Solving(flags.n, flags.temperature, flags.top_p, flags.top_k, flags.max_tokens)
    problems = read_rows(flags.problems, PROBLEMS, ["item_id", "problem", "answer"])
    rows = solution_requests(problems, flags.shard, load_prompt(flags.prompt), solving)
    log.info("%s requests in shard %s", write_table(flags.requests, REQUESTS, rows), flags.shard)


if __name__ == "__main__":
    run(main)
