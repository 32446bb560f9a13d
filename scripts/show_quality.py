"""Shows what toy builds came to: where each release lies, its rows, how good they are against the truth.

in:  results/toy-translation, with release/ and quality.json in it, and evaluation/metrics.json where there is one
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.evaluation_lines import evaluation_lines
from corpusmith.files import read_json
from corpusmith.program import argument_parser, run
from corpusmith.quality_lines import instructions_lines, maths_lines, quality_lines

_LINES = {"translation": quality_lines, "maths": maths_lines, "instructions": instructions_lines}


def main() -> None:
    """Parses the flags and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of the datasets' results")
    for folder in parser.parse_args().folders:
        manifest = read_json(folder / "release" / "manifest.json")
        rows = ", ".join(f"{count:,} rows in {split}" for split, count in manifest["rows"].items())
        print(f"{folder / 'release'}: {rows}")
        print("\n".join(_LINES[manifest["recipe"]](read_json(folder / "quality.json"))))
        evaluation = folder / "evaluation" / "metrics.json"
        if evaluation.exists():
            print("\n".join(evaluation_lines(read_json(evaluation))))


if __name__ == "__main__":
    run(main)
