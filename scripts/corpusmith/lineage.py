"""The way of one row through a dataset, read from the files of its build alone.

Every table of a build has item_id, so that whatever lies between a source and the release, and between a source and
the reason why it is not in the release, can be found by it. Tables of problems are found by problem_id as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
_IDS = ("item_id", "problem_id")
# A text that many rows hold is no name of one of them.
_MOST_FOUND = 5


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
                if row.get("reason") and station.table.split("/")[-1].startswith(("dropped", "rejected")):
                    return f"left {self.dataset} {_place(station)}: {_why(row)}"
                if row.get("reason") and "/dropped/" in station.table:
                    return f"left {self.dataset} {_place(station)}: {_why(row)}"
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


def _place(station: Station) -> str:
    return f"in {station.table}"


def _why(row: Mapping[str, Any]) -> str:
    return row["reason"] + (f" ({row['detail']})" if row.get("detail") else "")


def find_items(results: Path, dataset: str, what: str) -> list[str]:
    """The ids of the items that something names: an id itself, or a text that stands in one of their columns.

    A text that is a whole column's value goes before one that is part of it. Raises InputError where nothing is found,
    or more than can be told apart.
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
                found.setdefault(item, name)
        if len(found) > _MOST_FOUND:
            some = "\n".join(f"  {item}  {name}" for item, name in list(found.items())[:_MOST_FOUND])
            raise InputError(f"{len(found)} items hold that text; name one by its id, or give more of it:\n{some}\n  …")
        if found:
            return list(found)
    raise InputError(f"{results / dataset}: no table holds such a text, whole or in part")


def _contains(column: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    return pc.match_substring(column, what)


def _with_text(path: Path, what: str, compare: Any) -> Iterator[str]:
    file = parquet.ParquetFile(path)
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
    found = {name: _rows(folder / name, item) for name in build_tables(folder)}
    # Rows that keep their solutions have ids of their own; what was found out about their problem is part of the way.
    problems = {row["problem_id"] for rows in found.values() for row in rows if row.get("problem_id")} - {item}
    for name in found:
        for problem in sorted(problems):
            found[name] += [row for row in _rows(folder / name, problem, ["item_id"]) if row not in found[name]]
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
    condition = wanted[0] if len(wanted) == 1 else wanted[0] | wanted[1]
    rows: list[dict[str, Any]] = parquet.read_table(path, filters=condition).to_pylist()
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
    config = folder / "release" / "resolved_config.yaml"
    if not config.exists():
        return []
    entry = yaml.safe_load(config.read_text(encoding="utf-8"))["datasets"][dataset]
    found: list[str] = entry["sources"].get("dataset", [])
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
