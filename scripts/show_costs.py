"""Shows what the heavy jobs of a build took: for each dataset, model and tuning the jobs, wall and CPU time, memory.

in:  results/benchmarks, as Snakemake writes it; the wall time of jobs that ran side by side is added up
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.job_costs import cost_lines, job_costs
from corpusmith.program import argument_parser, run


def main() -> None:
    """Parses the flags and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("folder", type=Path, help="folder of the benchmarks, such as results/benchmarks")
    print("\n".join(cost_lines(job_costs(parser.parse_args().folder))))


if __name__ == "__main__":
    run(main)
