"""Shows what a toy build came to: where the release lies, its rows, how good its translations are.

in:  results/toy-translation, with release/ and quality.json in it, and evaluation/metrics.json where there is one
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.evaluation_lines import evaluation_lines
from corpusmith.files import read_json
from corpusmith.program import argument_parser, run
from corpusmith.quality_lines import quality_lines


def main() -> None:
    """Parses the flags and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("folder", type=Path, help="folder of the dataset's results")
    folder = parser.parse_args().folder
    rows = read_json(folder / "release" / "manifest.json")["rows"]
    print(f"{folder / 'release'}: " + ", ".join(f"{count:,} rows in {split}" for split, count in rows.items()))
    print("\n".join(quality_lines(read_json(folder / "quality.json"))))
    evaluation = folder / "evaluation" / "metrics.json"
    if evaluation.exists():
        print("\n".join(evaluation_lines(read_json(evaluation))))


if __name__ == "__main__":
    run(main)
