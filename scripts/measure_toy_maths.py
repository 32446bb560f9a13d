"""Measures a toy maths dataset against the truth: the share of right solutions before and after each filter.

in:  the rows of the sources, the solutions and their grades, what each filter kept, the splits
out: {"stages": [{"name": "all solutions", "right": 0.61, "rows": 1600}, …], "judge": {"right": 0.93, …}}
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.files import write_json
from corpusmith.identity import shard_names
from corpusmith.program import argument_parser, log, run
from corpusmith.quality_lines import maths_lines
from corpusmith.toy.maths_quality import (
    Share,
    generated_solutions,
    given_solutions,
    kept_solutions,
    quality,
    share_of,
    sourced_solutions,
)


def main() -> None:
    """Parses the flags and measures."""
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", required=True, type=Path, help="folder of the dataset's results")
    parser.add_argument("--source", type=Path, help="file of toy problems, before any label was looked at")
    parser.add_argument("--shards", type=int, help="shards of the step that solved; without it nothing was solved")
    parser.add_argument("--accept", help="the judge's verdict on a right solution; without it there is no judge")
    parser.add_argument("--filters", required=True, nargs="+", help="folders of what each filter kept, in order")
    parser.add_argument("--splits", required=True, nargs="+", help="names of the splits")
    parser.add_argument("--quality", required=True, help="file to write")
    flags = parser.parse_args()
    stages: dict[str, Share] = {}
    judged = None
    if flags.source:
        stages["of the source"] = share_of(sourced_solutions(flags.source))
    if flags.shards:
        judge = flags.folder / "judge" if flags.accept else None
        problems, solve = flags.folder / "sources" / "problems.parquet", flags.folder / "solve"
        found = generated_solutions(problems, solve, judge, shard_names(flags.shards), flags.accept or "")
        stages["made here"], stages["graded right"], judged = found.all, found.graded_right, found.judge
    else:
        stages["by labels"] = share_of(given_solutions(flags.folder / "sources" / "rows.parquet"))
    for name in flags.filters:
        stages[name] = share_of(kept_solutions([flags.folder / name / "kept.parquet"]))
    paths = [flags.folder / "filtered" / f"{split}.parquet" for split in flags.splits]
    stages["released"] = share_of(kept_solutions(paths))
    measured = quality(stages, judged)
    write_json(flags.quality, measured)
    for line in maths_lines(measured):
        log.info(line)


if __name__ == "__main__":
    run(main)
