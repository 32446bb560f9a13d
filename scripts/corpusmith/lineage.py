"""The way of one row through a dataset, read from the files of its build alone.

Every table of a build has item_id, so that whatever lies between a source and the release, and between a source and
the reason why it is not in the release, can be found by it. Tables of problems are found by problem_id as well, what a
model made up as an instruction by sample_id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as arrow_dataset
import pyarrow.parquet as parquet
import yaml

from corpusmith.errors import InputError
from corpusmith.files import read_json
from corpusmith.identity import parse_shard, shard_of

_ID = re.compile("[0-9a-f]{32}")
_SHARD = re.compile(r"\d{4}-of-\d{4}")
_IDS = ("item_id", "problem_id", "sample_id")
# Columns by which an item's row names what it came from.
_ORIGINS = ("problem_id", "sample_id")
_INSTRUCTIONS = "sources/instructions.parquet"
_OF_WHAT_LEFT = re.compile(r"/(dropped|rejected|bad_rows)[^/]*(/[^/]*)?$")
# A text that many rows hold is no name of one of them.
MOST_FOUND = 5


@dataclass(frozen=True)
class Station:
    """One table on the way, as a path below the dataset's folder, and its rows of the item."""

    table: str
    rows: list[dict[str, Any]]


@dataclass
class Way:
    """Where an item was in a dataset. sources: its ways through the datasets that this one is made of."""

    dataset: str
    item: str
    stations: list[Station]
    sources: list[Way] = field(default_factory=list)

    @property
    def fate(self) -> str:
        """What became of the item, in a line."""
        for station in reversed(self.stations):
            if station.table.startswith("filtered/") and not station.table.startswith("filtered/rejected"):
                return f"is in the split {Path(station.table).stem} of {self.dataset}"
        for station in self.stations:
            for row in station.rows:
                if row.get("reason") and _OF_WHAT_LEFT.search(station.table):
                    return f"left {self.dataset} in {station.table}: {_why(row)}"
        return f"is in tables of {self.dataset}, and in no split"

    def as_json(self) -> dict[str, Any]:
        """The way as it is written."""
        return {
            "dataset": self.dataset,
            "item_id": self.item,
            "fate": self.fate,
            "tables": [{"table": station.table, "rows": station.rows} for station in self.stations],
            "sources": [way.as_json() for way in self.sources],
        }


def _why(row: Mapping[str, Any]) -> str:
    return row["reason"] + (f" ({row['detail']})" if row.get("detail") else "")


def find_items(results: Path, dataset: str, what: str) -> list[str]:
    """The ids of the items that something names: an id itself, or a text that stands in one of their columns.

    A text that is a whole column's value goes before one that is part of it. None where no table holds the text. Raises
    InputError for an id that no table holds, and where more is found than can be told apart.
    """
    tables = build_tables(results / dataset)
    if _ID.fullmatch(what):
        if any(_rows(results / dataset / name, what) for name in tables):
            return [what]
        raise InputError(f"{results / dataset}: no table holds item {what}; is it of another dataset?")
    for compare in (pc.equal, _contains):
        found: dict[str, str] = {}
        for name in tables:
            for item in _with_text(results / dataset / name, what, compare):
                found.setdefault(_became(results / dataset, item), name)
                if len(found) > MOST_FOUND:
                    raise InputError(_too_many(found))
        if found:
            return list(found)
    return []


def _too_many(found: Mapping[str, str]) -> str:
    some = "\n".join(f"  {item}  {name}" for item, name in list(found.items())[:MOST_FOUND])
    return f"more than {MOST_FOUND} items hold that text; name one by its id, or give more of it:\n{some}\n  …"


def _contains(column: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    return pc.match_substring(column, what)


def _with_text(path: Path, what: str, compare: Any) -> Iterator[str]:
    file = parquet.ParquetFile(path, pre_buffer=False)
    names = file.schema_arrow.names
    if "item_id" not in names:
        return
    texts = [column.name for column in file.schema_arrow if pa.types.is_string(column.type) and column.name not in _IDS]
    for batch in file.iter_batches(1024, columns=["item_id", *texts]):
        for name in texts:
            matches = pc.fill_null(compare(batch.column(name), what), False)
            yield from batch.column("item_id").filter(matches).to_pylist()


def trace(results: Path, dataset: str, item: str, seen: Sequence[tuple[str, str]] = ()) -> Way:
    """The way of an item through a dataset, and before that through the datasets that it is made of."""
    folder = results / dataset
    item = _became(folder, item)
    found = {name: _rows(folder / name, item) for name in build_tables(folder)}
    # Rows that keep their solutions have ids of their own; what was found out about their problem is part of the way,
    # and so is what a model was asked and said before it was an instruction.
    origins = {row[key] for rows in found.values() for row in rows for key in _ORIGINS if row.get(key)} - {item}
    for name in found:
        for origin in sorted(origins):
            found[name] += [row for row in _rows(folder / name, origin, ["item_id"]) if row not in found[name]]
    way = Way(dataset, item, [Station(name, rows) for name, rows in found.items() if rows])
    before = {
        row["item_id"] for station in way.stations if station.table == "sources/rows.parquet" for row in station.rows
    }
    for source in made_of(folder, dataset):
        for one in sorted(before):
            if (source, one) not in seen and (results / source).is_dir():
                earlier = trace(results, source, one, [*seen, (dataset, item)])
                way.sources += [earlier] if earlier.stations else []
    return way


def _became(folder: Path, item: str) -> str:
    """The instruction that a sample became; any other item as it is."""
    path = folder / _INSTRUCTIONS
    rows = _rows(path, item, ["sample_id"]) if path.exists() else []
    return rows[0]["item_id"] if rows else item


def _rows(path: Path, item: str, columns: Iterable[str] = _IDS) -> list[dict[str, Any]]:
    """The rows of an item in a table; none where the table is another shard's, or knows no items."""
    if _SHARD.fullmatch(path.stem):
        number, count = parse_shard(path.stem)
        if shard_of(item, count) != number:
            return []
    names = parquet.read_schema(path).names
    wanted = [arrow_dataset.field(name) == item for name in columns if name in names]
    if not wanted:
        return []
    rows: list[dict[str, Any]] = parquet.read_table(path, filters=reduce(or_, wanted)).to_pylist()
    return rows


def build_tables(folder: Path) -> list[str]:
    """The tables of a build in the order of the way of the data.

    Where nothing is released yet, which says the order: sources first, splits last, the others by name.
    """
    manifest = folder / "release" / "manifest.json"
    if manifest.exists():
        listed = [file["path"] for file in read_json(manifest)["files"]]
        return [name for name in listed if (folder / name).exists()]
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    if not found:
        raise InputError(f"{folder}: no tables there; name a dataset that is built, and --results where it lies")
    ends = {"sources": 0, "filtered": 2}
    found.sort(key=lambda name: (ends.get(name.split("/")[0], 1), name))
    return [name for name in found if not name.startswith("release/")]


def made_of(folder: Path, dataset: str) -> list[str]:
    """The datasets whose releases this one is made of, by its release's config."""
    entry = config_of(folder, dataset)
    found: list[str] = [] if entry is None else entry["sources"].get("dataset", [])
    return found


def config_of(folder: Path, dataset: str) -> dict[str, Any] | None:
    """The dataset's part of its release's config; None where nothing is released yet."""
    config = folder / "release" / "resolved_config.yaml"
    if not config.exists():
        return None
    found: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))["datasets"][dataset]
    return found


# --- for people ---

_SHOWN = 300


def way_lines(way: Way, whole: bool = False) -> Iterator[str]:
    """The way as lines of text: what became of the item, then each table with its columns. whole: texts uncut."""
    for source in way.sources:
        yield from way_lines(source, whole)
        yield ""
    yield f"{way.item} {way.fate}"
    for station in way.stations:
        for row in station.rows:
            yield f"  {station.table}"
            for name, value in row.items():
                if value is not None and name not in ("item_id", "key") and value != []:
                    yield f"    {name}: {_shown(value, whole)}"


def _shown(value: Any, whole: bool) -> str:
    text = " ".join(str(value).split()) if not whole else str(value)
    return text if whole or len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"
