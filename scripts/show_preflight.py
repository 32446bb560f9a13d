"""Shows what became of the smallest question to a model or scorer: a line, and the same as JSON.

in:  a folder with a table of completions or scores of one row; or without, where the program failed
out: teacher  ok        41.3 s  Hello! How can I help you today?
     metricx  FAILED    12.0 s  error: 2 GPUs are asked for, this machine has 1 (see results/logs/…/metricx.log)
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.files import write_json
from corpusmith.preflight import outcome_line, read_outcome
from corpusmith.program import argument_parser, run


def main() -> None:
    """Parses the flags and prints a line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--name", required=True, help="name of the model or scorer in the config")
    parser.add_argument("--answer", required=True, type=Path, help="folder with its answer or score")
    parser.add_argument("--log", required=True, type=Path, help="log of the program that asked")
    parser.add_argument("--benchmark", required=True, type=Path, help="what Snakemake measured of that program")
    parser.add_argument("--width", type=int, default=0, help="width of the column of names (default: 0)")
    parser.add_argument("--outcome", required=True, help="JSON file to write")
    flags = parser.parse_args()
    outcome = read_outcome(flags.name, flags.answer, flags.log, flags.benchmark)
    print(outcome_line(outcome, flags.width))
    write_json(flags.outcome, outcome)


if __name__ == "__main__":
    run(main)
