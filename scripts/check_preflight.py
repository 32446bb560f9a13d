"""Fails where a model or scorer did not answer the smallest question, and says which.

in:  the outcome of each: {"name": "teacher", "ok": false, "log": "results/logs/…/teacher.log", …}
out: error: 1 of 4 failed: teacher (see results/logs/…/teacher.log)
"""

from __future__ import annotations

from corpusmith.errors import InputError
from corpusmith.files import read_json
from corpusmith.program import argument_parser, run


def main() -> None:
    """Parses the flags and checks."""
    parser = argument_parser(__doc__)
    parser.add_argument("--outcomes", required=True, nargs="+", help="JSON files that show_preflight.py wrote")
    outcomes = [read_json(path) for path in parser.parse_args().outcomes]
    if failed := [f"{outcome['name']} (see {outcome['log']})" for outcome in outcomes if not outcome["ok"]]:
        raise InputError(f"{len(failed)} of {len(outcomes)} failed: {', '.join(failed)}")
    print(f"All {len(outcomes)} models and scorers answer.")


if __name__ == "__main__":
    run(main)
