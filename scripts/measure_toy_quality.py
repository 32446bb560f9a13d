"""Measures a toy dataset against the truth: greedy, single samples, best of several, filtered.

in:  completions and scores of prefilter, final and baseline; the filtered splits
out: {"selected": {"greedy": {"exact": 0.41, "chrf": 90.2, "rows": 150}, "sampled": …, "best_of": {"2": …},
      "filtered": …}, "random": {…}}
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.files import write_json
from corpusmith.identity import shard_names
from corpusmith.program import argument_parser, log, run
from corpusmith.quality_lines import quality_lines
from corpusmith.table_files import read_rows
from corpusmith.tables import SELECTED_SOURCES
from corpusmith.toy.quality import measure_answers, measure_filtered


def main() -> None:
    """Parses the flags and measures."""
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", required=True, type=Path, help="folder of the dataset's results")
    parser.add_argument("--prefilter-shards", required=True, type=int, help="shards of the prefilter step")
    parser.add_argument("--final-shards", required=True, type=int, help="shards of the final and the baseline step")
    parser.add_argument("--n", required=True, type=int, help="answers for each source")
    parser.add_argument("--splits", required=True, nargs="+", help="names of the splits")
    parser.add_argument("--quality", required=True, help="file to write")
    flags = parser.parse_args()

    def tables(step: str, shards: int) -> list[tuple[Path, Path]]:
        names = [f"{shard}.parquet" for shard in shard_names(shards)]
        return [(flags.folder / step / "completions" / name, flags.folder / step / "scores" / name) for name in names]

    def sources(step: str) -> dict[str, str]:
        rows = read_rows(flags.folder / step / "sources.parquet", SELECTED_SOURCES, ["item_id", "text"])
        return {row["item_id"]: row["text"] for row in rows}

    prefilter, final = tables("prefilter", flags.prefilter_shards), tables("final", flags.final_shards)
    baseline = tables("baseline", flags.final_shards)
    selected = measure_answers(sources("final"), prefilter, final, flags.n)
    selected["filtered"] = measure_filtered(flags.folder / "filtered" / f"{split}.parquet" for split in flags.splits)
    quality = {"selected": selected, "random": measure_answers(sources("baseline"), baseline, baseline, flags.n)}
    write_json(flags.quality, quality)
    for line in quality_lines(quality):
        log.info(line)


if __name__ == "__main__":
    run(main)
