"""One file of JSON to one Parquet file, as the Hub wants it, in one pass where the schema is known early enough.

Blocks of rows are read ahead by one thread, parsed by Arrow in others, and joined and written in their order, so that
neither their number nor what ends first changes a byte. A block that Arrow does not take as it is is looked at row by
row in Python: there it shows what is wrong, and where.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from corpusmith.errors import InputError
from corpusmith.files import naming
from corpusmith.hub_parquet import CHUNKING
from corpusmith.json_files import BLOCK_BYTES, BadJson, Block, CopyingFile, bad_json, blocks, value_of
from corpusmith.json_schemas import (
    NOTHING,
    TypesDiffer,
    check_exact,
    conform,
    from_inferred,
    has_odd_numbers,
    join,
    type_of,
    writable,
)
from corpusmith.read_ahead import in_order

# Of JSON, which is longer than its columns: less than 100 MB of them.
ROW_GROUP_BYTES = 24 * BLOCK_BYTES
PARQUET_OPTIONS = {
    "compression": "zstd",
    "write_page_checksum": True,
    "use_content_defined_chunking": CHUNKING,
    "write_page_index": True,
}


@dataclass
class Parsed:
    """What a block holds. type: of its rows, joined with what was known; size: see Block."""

    table: pa.Table
    type: pa.DataType
    bad: list[BadJson]
    size: int


def _read(data: bytes, type_: pa.DataType | None, *, one_a_line: bool = False) -> pa.Table:
    """Rows by Arrow: of this type, or of what it infers. Raises pa.ArrowInvalid where it does not take them.

    one_a_line: that no row is on several lines, which is faster to read.
    """
    if not data.strip():
        return pa.schema(list(type_ or [])).empty_table()
    parsing = pyarrow.json.ParseOptions(newlines_in_values=not one_a_line)
    if type_ is not None:
        parsing = pyarrow.json.ParseOptions(
            explicit_schema=pa.schema(list(type_)),
            newlines_in_values=not one_a_line,
            unexpected_field_behavior="error",
        )
    reading = pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1)
    table = pyarrow.json.read_json(pa.BufferReader(data), reading, parsing)
    # Text that is not UTF-8 is found here.
    table.validate(full=True)
    return table


def parse(block: Block, known: pa.DataType, path: Path) -> Parsed:
    """The block's rows. known: a type of the rows before. Raises InputError where their types differ."""
    return _parse_quickly(block, known) or _parse_by_row(block, known, path)


def _parse_quickly(block: Block, known: pa.DataType) -> Parsed | None:
    try:
        try:
            table, type_ = _read(block.data, known, one_a_line=True), known
        except pa.ArrowInvalid:
            type_ = join(known, from_inferred(pa.struct(list(_read(block.data, None).schema))))
            table = _read(block.data, type_)
        if any(has_odd_numbers(chunk) for column in table.columns for chunk in column.chunks):
            return None
    except (pa.ArrowInvalid, TypesDiffer, UnicodeDecodeError):
        return None
    # Otherwise a row lies on several lines, or several on one.
    if table.num_rows != block.breaks and table.num_rows != block.count():
        return None
    return Parsed(table, type_, block.bad, block.size)


def _parse_by_row(block: Block, known: pa.DataType, path: Path) -> Parsed:
    bad, rows, type_ = list(block.bad), [], known
    for place, data in block.places():
        value = value_of(place, data)
        if isinstance(value, BadJson):
            bad.append(value)
            continue
        try:
            type_ = join(type_, type_of(value))
            check_exact(value, type_)
        except TypesDiffer as error:
            raise _refused(path, place, error) from error
        rows.append((place, data))
    try:
        table = _read(b"\n".join(data for _, data in rows), type_)
    except pa.ArrowInvalid:
        # JSON to Python that is none to Arrow.
        taken = []
        for place, data in rows:
            try:
                _read(data, type_)
                taken.append(data)
            except pa.ArrowInvalid:
                bad.append(bad_json(place, "not_json", data))
        table = _read(b"\n".join(taken), type_)
    return Parsed(table, type_, sorted(bad, key=lambda row: row.place), block.size)


def _refused(path: Path, place: int, error: TypesDiffer) -> InputError:
    return InputError(
        f"{path}: line (or element) {place}: {error}; make them the same, or move the file to another split"
    )


def refusal(path: Path, type_: pa.DataType, where: str = "") -> InputError:
    """Why rows of the file do not fit the type: the first one that does not. where: whose type it is."""
    for block in blocks(path):
        for place, data in block.places():
            value = value_of(place, data)
            if not isinstance(value, BadJson):
                try:
                    type_ = join(type_, type_of(value))
                    check_exact(value, type_)
                except TypesDiffer as error:
                    refused = _refused(path, place, error)
                    return InputError(f"{refused}{where}")
    return InputError(f"{path}: its columns fit together no more; was the file changed?")


@dataclass
class Converted:
    """What a file holds. type: of its rows; written: the type that they were written as, None where they were not."""

    type: pa.DataType = NOTHING
    rows: int = 0
    bad: list[BadJson] = field(default_factory=list)
    written: pa.DataType | None = None


class _Groups:
    """Rows on their way into row groups."""

    def __init__(self, path: Path, target: Path, type_: pa.DataType) -> None:
        self._path, self._target, self._type = path, target, type_
        self.schema = pa.schema([(field.name, writable(field.type)) for field in type_])
        self._writer = pq.ParquetWriter(target, self.schema, **PARQUET_OPTIONS)
        self._writer.add_key_value_metadata({"content_defined_chunking": json.dumps(CHUNKING)})
        self._tables: list[pa.Table] = []
        self._size = 0
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def add(self, parsed: Parsed) -> None:
        """Rows of a block. A row group ends where the next block would make it too large."""
        if self._tables and self._size + parsed.size > ROW_GROUP_BYTES:
            self._flush()
        own = parsed.table
        try:
            columns = [
                conform(own.column(field.name).combine_chunks(), field.type)
                if field.name in own.column_names
                else pa.nulls(own.num_rows, field.type)
                for field in self.schema
            ]
        except pa.ArrowInvalid as error:
            raise refusal(self._path, self._type) from error
        self._tables.append(pa.Table.from_arrays(columns, schema=self.schema))
        self._size += parsed.size

    def _flush(self) -> None:
        # While one row group is encoded the rows of the next one are parsed.
        tables, self._tables, self._size = self._tables, [], 0
        self._wait()
        self._writing = self._thread.submit(self._encode, tables)

    def _encode(self, tables: list[pa.Table]) -> None:
        # One batch, as pages are cut anew with each.
        whole = pa.concat_tables(tables).combine_chunks()
        tables.clear()
        if whole.num_rows:
            with naming(self._target):
                self._writer.write_table(whole, row_group_size=whole.num_rows)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self, whole: bool) -> None:
        """Ends the file; where it is not whole, what is not yet written is left out."""
        try:
            if whole and self._tables:
                self._flush()
            self._wait()
        finally:
            self._thread.shutdown()
            with naming(self._target):
                self._writer.close()


def _parsed(
    path: Path, file: IO[bytes] | CopyingFile | None, known: Callable[[], pa.DataType], threads: int
) -> Generator[Parsed]:
    """The blocks in order. known: the type of the blocks that were used; it is asked when a block is begun."""
    with (
        contextlib.closing(in_order([lambda: blocks(path, file)], 1)) as source,
        ThreadPoolExecutor(max(1, threads - 1)) as pool,
    ):
        waiting: deque[Future[Parsed]] = deque()
        try:
            for number, block in enumerate(source):
                waiting.append(pool.submit(parse, block, known(), path))
                # The first one is waited for: with its type the others need not infer any.
                if number == 0 or len(waiting) > threads + 4:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def convert(
    path: Path,
    target: Path,
    hint: pa.DataType | None = None,
    file: IO[bytes] | CopyingFile | None = None,
    threads: int = 2,
) -> Converted:
    """Reads a file and writes its rows to `target`, as a type that holds `hint` and the rows of the first block.

    hint: a type of other files; file: what to read instead of the path. A block that does not fit what is written ends
    the writing, not the reading: `written` is None then, and `target` to be written anew. Raises InputError as `blocks`
    does, and where types differ within the file.
    """
    found = Converted()
    groups: _Groups | None = None
    begun = False
    try:
        for parsed in _parsed(path, file, lambda: found.type, threads):
            try:
                found.type = join(found.type, parsed.type)
            except TypesDiffer as error:
                raise refusal(path, NOTHING) from error
            found.rows += parsed.table.num_rows
            found.bad += parsed.bad
            if not begun:
                begun = True
                found.written = _joined(found.type, hint)
                if found.written is not None:
                    groups = _Groups(path, target, found.written)
            if groups is not None:
                if _joined(found.written, found.type) != found.written:
                    groups.close(whole=False)
                    groups, found.written = None, None
                else:
                    groups.add(parsed)
    except BaseException:
        if groups is not None:
            groups.close(whole=False)
        raise
    if groups is not None:
        groups.close(whole=True)
    return found


def _joined(first: pa.DataType, second: pa.DataType | None) -> pa.DataType | None:
    """Their join, or None where there is none: whoever asks again, with the whole file, says so."""
    try:
        return first if second is None else join(first, second)
    except TypesDiffer:
        return None


def write(
    path: Path,
    target: Path,
    own: pa.DataType,
    type_: pa.DataType,
    file: IO[bytes] | CopyingFile | None = None,
    threads: int = 2,
) -> None:
    """Writes the file's rows to `target` as a type that theirs, which is known, was joined into."""
    groups = _Groups(path, target, type_)
    whole = False
    try:
        for parsed in _parsed(path, file, lambda: own, threads):
            groups.add(parsed)
        whole = True
    finally:
        groups.close(whole)
