"""Tables in files: the one way to write and to read them, batch by batch.

Tables are Parquet files with zstd, cut into row groups of as many rows as their kind has (ROW_GROUP, fewer where rows
hold long texts) however they were written, so that the same rows are the same bytes.
"""

from __future__ import annotations

import contextlib
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpusmith.errors import InputError
from corpusmith.files import naming, whole_file
from corpusmith.tables import ROW_GROUP, Table


class TableWriter:
    """Writes one table, row by row, whole or not at all. Use `open_table`.

    count: rows that were written; bytes: size of those in Arrow that are in row groups or wait for more of one.
    """

    def __init__(
        self,
        path: Path,
        partial: Path,
        table: Table,
        most_bytes: int | None,
        options: Mapping[str, Any],
        metadata: Mapping[str, str],
    ) -> None:
        self._path, self._table, self._most_bytes = path, table, most_bytes
        self._writer = pq.ParquetWriter(partial, table.schema, compression="zstd", write_page_checksum=True, **options)
        if metadata:
            self._writer.add_key_value_metadata(dict(metadata))
        self._rows: list[Mapping[str, Any]] = []
        # Behind the batches, in the order in which they came, and together with them less than a row group.
        self._batches: list[pa.RecordBatch] = []
        self._in_batches = 0
        # Where row groups are cut by their bytes: what the next one has so far.
        self._group: list[pa.RecordBatch] = []
        self._group_bytes = 0
        self.count = self.bytes = 0

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds one row, a value for each column."""
        self._rows.append(row)
        self.count += 1
        if self._in_batches + len(self._rows) == self._table.row_group:
            self._flush()

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Adds rows as an Arrow batch, with the table's columns in their order.

        Raises InputError where a column is missing, has another type, or has nulls without being optional.
        """
        if batch.schema.names != self._table.schema.names or batch.schema.types != self._table.schema.types:
            raise InputError(
                f"{self._path}: rows of {', '.join(f'{field.name} {field.type}' for field in batch.schema)}"
                f" are none of a table of {self._table.name}"
            )
        for column in self._table.columns:
            if not column.optional and batch.column(column.name).null_count:
                place = batch.column(column.name).is_null().to_pylist().index(True)
                raise InputError(f"{self._path}: row {self.count + place} has no {column.name}")
        self._batch_rows()
        while batch.num_rows:
            part = batch.slice(0, self._table.row_group - self._in_batches)
            self._hold(part)
            self.count += part.num_rows
            batch = batch.slice(part.num_rows)
            if self._in_batches == self._table.row_group:
                self._flush()

    def write_all(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows."""
        for row in rows:
            self.write(row)

    def _hold(self, batch: pa.RecordBatch) -> None:
        self._batches.append(pa.record_batch(batch.columns, schema=self._table.schema))
        self._in_batches += batch.num_rows

    def _flush(self) -> None:
        self._batch_rows()
        if not self._batches:
            return
        # Arrow cuts pages anew with each batch: one is written, so that it does not matter how the rows came in.
        whole = self._batches[0] if len(self._batches) == 1 else pa.concat_batches(self._batches)
        self._batches, self._in_batches = [], 0
        self.bytes += whole.nbytes
        if self._most_bytes is None:
            self._write_group(whole)
            return
        for part in _parts(whole, self._most_bytes):
            if self._group_bytes + part.nbytes > self._most_bytes:
                self._end_group()
            self._group.append(part)
            self._group_bytes += part.nbytes

    def _end_group(self) -> None:
        if self._group:
            whole = pa.concat_batches(self._group)
            self._group, self._group_bytes = [], 0
            self._write_group(whole)

    def _write_group(self, whole: pa.RecordBatch) -> None:
        with naming(self._path):
            self._writer.write_batch(whole, row_group_size=whole.num_rows)

    def _batch_rows(self) -> None:
        if not self._rows:
            return
        columns = []
        first = self.count - len(self._rows)
        for column in self._table.columns:
            values = [row.get(column.name) for row in self._rows]
            if not column.optional and None in values:
                place = values.index(None)
                raise InputError(f"{self._path}: row {first + place} has no {column.name}: {self._rows[place]!r:.300}")
            try:
                columns.append(_array(values, column.type))
            except _MISFITS as error:
                place = _first_bad(values, column.type)
                raise InputError(
                    f"{self._path}: row {first + place}: {column.name} = {values[place]!r:.200} is no {column.type}"
                    f" ({error})"
                ) from error
        self._rows.clear()
        self._hold(pa.record_batch(columns, schema=self._table.schema))

    def close(self) -> None:
        """Writes what is left and the file's end."""
        self._flush()
        self._end_group()
        with naming(self._path):
            self._writer.close()


def _parts(batch: pa.RecordBatch, most_bytes: int) -> Iterator[pa.RecordBatch]:
    """The batch in parts of at most so many bytes, or of one row."""
    if batch.nbytes <= most_bytes or batch.num_rows == 1:
        yield batch
        return
    middle = batch.num_rows // 2
    yield from _parts(batch.slice(0, middle), most_bytes)
    yield from _parts(batch.slice(middle), most_bytes)


# What Arrow, or Python on its behalf, says of a value that does not fit its column.
_MISFITS = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError)
_KINDS = (
    (pa.types.is_boolean, bool),
    (pa.types.is_string, str),
    (pa.types.is_integer, numbers.Integral),
    (pa.types.is_floating, numbers.Real),
    (pa.types.is_list, (list, tuple)),
    (pa.types.is_struct, Mapping),
)


def _array(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    _check_kinds(values, type_)
    return pa.array(values, type_)


def _check_kinds(values: Iterable[Any], type_: pa.DataType) -> None:
    """Arrow alone would cut 1.5 to 1 for an integer, and take a text for the list of its letters."""
    given = [value for value in values if value is not None]
    wanted = next((kind for is_of, kind in _KINDS if is_of(type_)), object)
    for kind in {type(value) for value in given}:
        if not issubclass(kind, wanted) or (kind is bool and wanted is not bool):
            raise pa.ArrowTypeError(f"it is of type {kind.__name__}")
    if pa.types.is_list(type_):
        _check_kinds(chain.from_iterable(given), type_.value_type)
    elif pa.types.is_struct(type_):
        for field in type_:
            _check_kinds((value.get(field.name) for value in given), field.type)


def _first_bad(values: Sequence[Any], type_: pa.DataType) -> int:
    for place, value in enumerate(values):
        try:
            _array([value], type_)
        except _MISFITS:
            return place
    return 0


class open_table:
    """Context manager that gives a TableWriter; the file appears when the block ends well.

    most_bytes: row groups are as large as they can be with at most so many bytes in Arrow, instead of having the rows
    that their kind says. metadata: of the file. options: passed on to pyarrow.parquet.ParquetWriter.
    """

    def __init__(
        self,
        path: str | Path,
        table: Table,
        most_bytes: int | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._path, self._table, self._options = Path(path), table, options
        self._most_bytes, self._metadata = most_bytes, metadata or {}
        self._whole = whole_file(self._path)

    def __enter__(self) -> TableWriter:
        partial = self._whole.__enter__()
        self._writer = TableWriter(self._path, partial, self._table, self._most_bytes, self._options, self._metadata)
        return self._writer

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool | None:
        if kind is None:
            try:
                self._writer.close()
            except BaseException as error:
                self._whole.__exit__(type(error), error, error.__traceback__)
                raise
        return self._whole.__exit__(kind, value, trace)


def write_table(path: str | Path, table: Table, rows: Iterable[Mapping[str, Any]], **options: Any) -> int:
    """Writes a whole table; returns the number of rows. options: as of `open_table`."""
    with open_table(path, table, **options) as writer:
        writer.write_all(rows)
        return writer.count


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Whatever Arrow says of a file that is not there or cannot be read becomes an InputError."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; build it first") from error
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{path}: cannot be read ({os.strerror(error.errno)})") from error
        text = " ".join(str(error).split())
        raise InputError(f"{path}: is no Parquet file, or a broken one ({text}); delete it and build again") from error


def _open(path: str | Path, table: Table) -> pq.ParquetFile:
    with _reading(path):
        # What is buffered ahead is kept until the file is closed: all of it, in the end.
        file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
    found = file.schema_arrow
    for column in table.columns:
        place = found.get_field_index(column.name)
        if place < 0:
            raise InputError(
                f"{path}: no column {column.name!r}; a table of {table.name} has one. Found: {', '.join(found.names)}"
            )
        if not found.field(place).type.equals(column.type):
            raise InputError(f"{path}: column {column.name!r} is {found.field(place).type}, it should be {column.type}")
    return file


def read_batches(
    path: str | Path, table: Table, columns: Sequence[str] | None = None, batch_size: int = ROW_GROUP
) -> Iterator[pa.RecordBatch]:
    """The table's rows as Arrow batches, in order, in flat memory. Raises InputError where it is no such table."""
    with _open(path, table) as file, _reading(path):
        required = [
            column.name
            for column in table.columns
            if not column.optional and (columns is None or column.name in columns)
        ]
        names = list(columns) if columns is not None else [column.name for column in table.columns]
        row = 0
        for batch in file.iter_batches(batch_size=batch_size, columns=names):
            for name in required:
                if batch.column(name).null_count:
                    place = batch.column(name).is_null().to_pylist().index(True)
                    raise InputError(f"{path}: row {row + place}: no {name}")
            yield batch.select(names)
            row += batch.num_rows


def read_rows(
    path: str | Path, table: Table, columns: Sequence[str] | None = None, batch_size: int = 1024
) -> Iterator[dict[str, Any]]:
    """The table's rows as dicts, in order, in flat memory."""
    for batch in read_batches(path, table, columns, batch_size):
        with _reading(path):
            rows = batch.to_pylist()
        yield from rows


def row_count(path: str | Path) -> int:
    """How many rows a Parquet file holds."""
    with _reading(path):
        return pq.read_metadata(path).num_rows
