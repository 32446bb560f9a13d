"""Rows of a source that never came into a dataset: what the source says, and why they went.

    source_ways(Path("results"), "toy-maths-hard", "Sora had 5 bags")
    -> Way: toy.jsonl.gz row 17 left toy-maths-hard in sources/dropped_rows.parquet: pass_rate_too_high

Of such rows a build keeps place and reason alone, as there may be millions: their texts are looked for in the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as arrow_dataset
import pyarrow.parquet as parquet

from corpusmith.documents import Source, expand_globs, name_sources, read_receipt
from corpusmith.labelled_rows import Chunk, plan, with_usual_columns
from corpusmith.lineage import MOST_FOUND, Station, Way, config_of
from corpusmith.recipes import maths

_DROPPED, _BAD = "sources/dropped_rows.parquet", "sources/bad_rows.parquet"


def source_ways(results: Path, dataset: str, what: str) -> list[Way]:
    """The ways of rows of a dataset's source that hold a text, whole or in part, and were dropped; at most a few.

    None for other recipes than maths, and before there is a release. Raises InputError where the source is gone.
    """
    folder = results / dataset
    entry = config_of(folder, dataset)
    if entry is None or entry["recipe"] != "maths" or not (folder / _DROPPED).exists():
        return []
    sources = _sources(folder, results, entry)
    columns = with_usual_columns(sources, maths.columns_of(entry))
    ways = []
    for job in plan(sources, columns).jobs:
        for chunk in job():
            for row in _matches(chunk, [name for name, column in columns.items() if column is not None], what):
                reason = _reason(folder, chunk.file, row["row"])
                if reason is not None:
                    ways.append(Way(dataset, f"{chunk.file} row {row['row']}", [Station("source", [row]), reason]))
                    if len(ways) == MOST_FOUND:
                        return ways
    return ways


def _sources(folder: Path, results: Path, entry: dict[str, Any]) -> list[Source]:
    sources = entry["sources"]
    if "hub" in sources:
        return read_receipt(folder / "sources" / "fetch.json")
    if "toy" in sources:
        patterns = [str(folder / "sources" / "toy.jsonl.gz")]
    elif "dataset" in sources:
        patterns = [str(results / name / "release" / "data" / "*.parquet") for name in sources["dataset"]]
    else:
        patterns = sources["files"]
    return name_sources(expand_globs(patterns))


def _matches(chunk: Chunk, names: list[str], what: str) -> Iterator[dict[str, Any]]:
    cells = chunk.cells(names)
    found = np.zeros(len(chunk.numbers), bool)
    for name in names:
        texts = cells[name].values.cast("string")
        found |= pc.fill_null(pc.match_substring(texts, what), False).to_numpy(zero_copy_only=False)
    for place in np.flatnonzero(found).tolist():
        row: dict[str, Any] = {"file": chunk.file, "row": int(chunk.numbers[place])}
        yield row | {name: cells[name].values[place].as_py() for name in names}


def _reason(folder: Path, file: str, row: int) -> Station | None:
    """Why a row is not there: what the table of dropped rows says, or that of bad ones."""
    for name, column in ((_DROPPED, "row"), (_BAD, "line")):
        here = (arrow_dataset.field("file") == file) & (arrow_dataset.field(column) == row)
        found = parquet.read_table(folder / name, filters=here).to_pylist()
        if found:
            return Station(name, found)
    return None
