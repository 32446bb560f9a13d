"""Rows of maths problems with labels, from Parquet, JSON, JSON Lines and CSV, in chunks.

A row of a file, and the cells of it by the names that all programs use:

    {"problem": "What is 2+2?", "expected_answer": 4, "pass_rate_72b_tir": "0.25", …}
    problem "What is 2+2?", answer "4", pass_rate "0.25", …

The columns of a chunk are read when they are asked for: from Parquet only they, and at last only the rows wanted.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpusmith.documents import Source, check_sources
from corpusmith.errors import InputError
from corpusmith.row_cells import Bad, Cells, cells_of_array, cells_of_values
from corpusmith.row_files import count_rows, rows_of

# Our names and those of nvidia/OpenMathReasoning.
OPENMATHREASONING: dict[str, str | None] = {
    "problem": "problem",
    "answer": "expected_answer",
    "generated_solution": "generated_solution",
    "problem_type": "problem_type",
    "problem_source": "problem_source",
    "inference_mode": "inference_mode",
    "generation_model": "generation_model",
    "pass_rate": "pass_rate_72b_tir",
}
COLUMNS = tuple(OPENMATHREASONING)
SUFFIXES = (".parquet", ".json", ".jsonl", ".jsonl.gz", ".csv")
_ROWS_OF_A_CHUNK = 256
_ROWS_TO_FIND_COLUMNS_IN = 1_000
_JOB_BYTES = 64 << 20
_BATCH_BYTES = 8 << 20
_BATCH_ROWS = (16, 8192)


class Chunk(Protocol):
    """Some consecutive rows of a file.

    numbers: row or line of each (int64); unreadable: rows, by position, that have no cells.
    """

    file: str
    numbers: np.ndarray
    unreadable: dict[int, Bad]

    def cells(self, names: Sequence[str]) -> dict[str, Cells]:
        """The cells of all rows, by our names of columns."""

    def parts(self, names: Sequence[str], wanted: np.ndarray) -> Iterator[tuple[int, int, dict[str, Cells]]]:
        """Cells of the wanted rows (a bool for each row), part by part: first position, one behind the last, cells."""


@dataclass
class RowsInMemory:
    """A Chunk of rows of JSON or CSV. values: by our names, as long as numbers; columns: the source's names."""

    file: str
    numbers: np.ndarray
    unreadable: dict[int, Bad]
    columns: Mapping[str, str]
    values: dict[str, list[Any]]

    def cells(self, names: Sequence[str]) -> dict[str, Cells]:
        """See Chunk."""
        return {name: cells_of_values(name, self.columns[name], self.values[name]) for name in names}

    def parts(self, names: Sequence[str], wanted: np.ndarray) -> Iterator[tuple[int, int, dict[str, Cells]]]:
        """See Chunk."""
        places = np.flatnonzero(wanted).tolist()
        yield (
            *(0, len(self.numbers)),
            {
                name: cells_of_values(name, self.columns[name], [self.values[name][place] for place in places])
                for name in names
            },
        )


class GroupRows(NamedTuple):
    """Rows of a row group of Parquet, by their places in it: from `first` up to the one before `last`."""

    group: int
    first: int
    last: int


@dataclass
class RowsOfParquet:
    """A Chunk of consecutive rows of Parquet. first_number: the first one's row in the file, from 1."""

    source: Source
    metadata: pq.FileMetaData
    columns: Mapping[str, str]
    groups: Sequence[GroupRows]
    first_number: int
    unreadable: dict[int, Bad] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = self.source.name
        count = sum(rows.last - rows.first for rows in self.groups)
        self.numbers = np.arange(self.first_number, self.first_number + count, dtype=np.int64)

    def _open(self) -> pq.ParquetFile:
        # The compressed columns are read bit by bit, not whole.
        return pq.ParquetFile(self.source.path, metadata=self.metadata, pre_buffer=False, buffer_size=1 << 20)

    def _columns(self, names: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(self.columns[name] for name in names))

    def _cells(self, names: Sequence[str], rows: pa.Table | pa.RecordBatch) -> dict[str, Cells]:
        return {name: cells_of_array(name, self.columns[name], rows[self.columns[name]]) for name in names}

    def cells(self, names: Sequence[str]) -> dict[str, Cells]:
        """See Chunk."""
        if not names:
            return {}
        with _reading(self.source), self._open() as file:
            groups = [rows.group for rows in self.groups]
            table = file.read_row_groups(groups, self._columns(names), use_threads=False)
            return self._cells(names, table.slice(self.groups[0].first, len(self.numbers)))

    def parts(self, names: Sequence[str], wanted: np.ndarray) -> Iterator[tuple[int, int, dict[str, Cells]]]:
        """See Chunk."""
        start = 0
        with _reading(self.source), self._open() as file:
            for rows in self.groups:
                stop = start + rows.last - rows.first
                for batch in self._batches(file, names, rows, wanted[start:stop]):
                    chosen = wanted[start : start + len(batch)]
                    yield start, start + len(batch), self._cells(names, batch.filter(pa.array(chosen)))
                    start += len(batch)
                if start < stop:
                    yield start, stop, {name: Cells(pa.array([], pa.string()), {}) for name in names}
                start = stop

    def _batches(
        self, file: pq.ParquetFile, names: Sequence[str], rows: GroupRows, wanted: np.ndarray
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a group, up to the last wanted one or a little further."""
        if not wanted.any():
            return
        left = rows.first + int(np.flatnonzero(wanted)[-1]) + 1
        group = self.metadata.row_group(rows.group)
        least, most = _BATCH_ROWS
        size = min(max(least, _BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)), most)
        seen = 0
        for batch in file.iter_batches(size, [rows.group], self._columns(names), use_threads=False):
            first = max(rows.first - seen, 0)
            seen += len(batch)
            if first < len(batch):
                yield batch.slice(first, min(len(batch), rows.last - seen + len(batch)) - first)
            if seen >= left:
                return


@contextlib.contextmanager
def _reading(source: Source) -> Iterator[None]:
    """What Arrow says of a broken file becomes an InputError."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{source.path}: is no Parquet file, or a broken one ({text}); fetch it again") from error


# --- which rows, and how they are cut ---


@dataclass(frozen=True)
class Plan:
    """The rows to read. jobs: each gives its chunks when called; rows: how many, where it was cheap to know."""

    jobs: list[Callable[[], Iterator[Chunk]]]
    rows: int | None


def check_columns(columns: Mapping[str, Any]) -> dict[str, str]:
    """Our names and the source's for the columns that it has. Raises InputError for a mapping that is none."""
    for name, column in columns.items():
        if name not in COLUMNS or not isinstance(column, str | None) or column == "":
            raise InputError(
                f"columns: {name}: {column!r}: map some of {', '.join(COLUMNS)} each to a name of the source's, or null"
            )
    if not columns.get("problem"):
        raise InputError('columns: no problem; say which column holds the problems, as {"problem": "question"}')
    return {name: columns[name] for name in COLUMNS if columns.get(name) is not None}


def check_files(sources: Sequence[Source]) -> None:
    """Raises InputError for the first file that is missing, empty, or of no kind that is read."""
    check_sources([source for source in sources if source.name.endswith((".jsonl", ".jsonl.gz"))])
    for source in sources:
        if not source.name.endswith(SUFFIXES):
            raise InputError(
                f"{source.path}: only {', '.join(SUFFIXES)} are read; convert the file or narrow the pattern"
            )
        if not source.path.is_file():
            raise InputError(f"{source.path}: no such file; correct the path or fetch it again")
        if not source.path.stat().st_size:
            raise InputError(f"{source.path}: the file is empty; fetch it again or leave it out")


def slice_of(start: Fraction, end: Fraction, rows: int) -> tuple[int, int]:
    """First row of a slice and the one behind its last: slices that meet share no row and leave none out."""
    return math.floor(start * rows), math.floor(end * rows)


def plan(
    sources: Sequence[Source],
    columns: Mapping[str, Any] = OPENMATHREASONING,
    start: Fraction = Fraction(0),
    end: Fraction = Fraction(1),
) -> Plan:
    """What to read of the files: from the share `start` of all their rows, in order, up to the share `end`.

    columns: our names and the source's, None for columns that it does not have. Raises InputError, with the file,
    where there is nothing to read or a column is missing.
    """
    named = check_columns(columns)
    check_files(sources)
    metadata = {source: _metadata(source) for source in sources if source.name.endswith(".parquet")}
    for source in sources:
        _check_names(source, named, metadata.get(source))
    whole = (start, end) == (0, 1)
    counts: list[int | None] = [
        metadata[source].num_rows if source in metadata else None if whole else count_rows(source) for source in sources
    ]
    known = [count for count in counts if count is not None]
    total = sum(known) if len(known) == len(counts) else None
    first, last = (0, None) if total is None else slice_of(start, end, total)
    jobs: list[Callable[[], Iterator[Chunk]]] = []
    for source, count in zip(sources, counts, strict=True):
        size = math.inf if count is None else count
        from_, to = max(first, 0), size if last is None else min(last, size)
        if from_ < to and source in metadata:
            jobs += _parquet_jobs(source, metadata[source], named, from_, int(to))
        elif from_ < to:
            jobs.append(partial(_chunks, source, named, from_, None if to == math.inf else int(to)))
        if total is not None and last is not None:
            first, last = first - int(size), last - int(size)
    begin, behind = (0, 0) if total is None else slice_of(start, end, total)
    return Plan(jobs, None if total is None else behind - begin)


def _metadata(source: Source) -> pq.FileMetaData:
    with _reading(source):
        return pq.read_metadata(source.path)


def with_usual_columns(
    sources: Sequence[Source], columns: Mapping[str, Any], needed: Iterable[str] = ()
) -> dict[str, Any]:
    """The columns, and for those that are not mentioned OpenMathReasoning's where a file has one of that name.

    The problem, and what is needed, are looked for there in any case.
    """
    check_files(sources)
    found = {
        name
        for source in sources
        for name in _names(source, _metadata(source) if source.name.endswith(".parquet") else None)
    }
    wanted = {"problem", *needed}
    usual = {name: column for name, column in OPENMATHREASONING.items() if name in wanted or column in found}
    return {**usual, **columns}


def _names(source: Source, metadata: pq.FileMetaData | None) -> list[str]:
    """Names of the columns of a file: of its first rows where it is no Parquet; none where it has no such row."""
    if metadata is not None:
        with _reading(source):
            return list(metadata.schema.to_arrow_schema().names)
    rows = (row for _, row in islice(rows_of(source), _ROWS_TO_FIND_COLUMNS_IN) if isinstance(row, dict))
    return list(dict.fromkeys(name for row in rows for name in row))


def _check_names(source: Source, columns: Mapping[str, str], metadata: pq.FileMetaData | None) -> None:
    found = _names(source, metadata)
    if not found:
        return
    for name, column in columns.items():
        if column not in found:
            raise InputError(
                f"{source.path}: no column {column!r}, to be read as {name}; found: {', '.join(found)}."
                " Correct the columns, or map it to null where the source has none"
            )


def _parquet_jobs(
    source: Source, metadata: pq.FileMetaData, columns: Mapping[str, str], first: int, last: int
) -> Iterator[Callable[[], Iterator[Chunk]]]:
    """Row groups, small ones together, and of the first and the last one what lies between `first` and `last`."""
    groups: list[GroupRows] = []
    begin, size, number = 0, 0, first + 1
    for place in range(metadata.num_row_groups):
        group = metadata.row_group(place)
        from_, to = max(first - begin, 0), min(last - begin, group.num_rows)
        begin += group.num_rows
        if from_ < to:
            groups.append(GroupRows(place, from_, to))
            size += group.total_byte_size
        if groups and (size >= _JOB_BYTES or begin >= last):
            chunk = RowsOfParquet(source, metadata, columns, groups, number)
            yield partial(iter, [chunk])
            number += len(chunk.numbers)
            groups, size = [], 0
            if begin >= last:
                return


def _chunks(source: Source, columns: Mapping[str, str], first: int, last: int | None) -> Iterator[Chunk]:
    left = islice(rows_of(source), first, last)
    while rows := list(islice(left, _ROWS_OF_A_CHUNK)):
        values = [row if isinstance(row, dict) else {} for _, row in rows]
        yield RowsInMemory(
            source.name,
            np.array([number for number, _ in rows], np.int64),
            {place: row for place, (_, row) in enumerate(rows) if isinstance(row, Bad)},
            columns,
            {name: [row.get(column) for row in values] for name, column in columns.items()},
        )
