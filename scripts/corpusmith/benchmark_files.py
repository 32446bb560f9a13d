"""The texts of benchmark files: JSON, JSONL, CSV, Parquet, and plain text with a row a line.

    {"question": "Mina has 3 apples …", "choices": ["3", "5"], "answer": 5}      line 7 of test.jsonl

gives row 7 with the texts question: "Mina has 3 apples …", choices: "3" and choices: "5". Rows count from 1: lines in
JSONL and plain text, rows otherwise. A line that cannot be read is an error: a benchmark that is read in part would
pass as compared.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpusmith.documents import Source, read_lines
from corpusmith.errors import InputError

SUFFIXES = (".json", ".jsonl", ".jsonl.gz", ".csv", ".parquet", ".txt", ".txt.gz")
_MAX_LINE_BYTES = 2**28
_MAX_CSV_FIELD = 2**27

Texts = list[tuple[str, str]]
"""Field and text; in plain text the field is empty."""


def read_benchmark(source: Source, fields: Sequence[str] | None = None) -> Iterator[tuple[int, Texts]]:
    """The rows of a file, each with its texts.

    fields: those whose texts count (default: all); where a field is a list or an object, every text in it counts.
    Raises InputError, with the place, for what cannot be read, and for a file where no row has any of the fields.
    """
    suffix = next((suffix for suffix in SUFFIXES[::-1] if source.name.endswith(suffix)), None)
    if suffix is None:
        raise InputError(f"{source.path}: a benchmark is one of {', '.join(SUFFIXES)}; convert it")
    if not source.path.is_file():
        raise InputError(f"{source.path}: no such file; correct the path or fetch it again")
    found: set[str] = set()
    any_field = fields is None
    for number, row in _ROWS_OF[suffix](source, fields):
        if isinstance(row, str):
            any_field = True
            yield number, [("", row)]
            continue
        found.update(row)
        names = [name for name in (row if fields is None else fields) if name in row]
        any_field = any_field or bool(names)
        yield number, [(name, text) for name in names for text in _texts_in(row[name])]
    if not any_field:
        raise InputError(
            f"{source.path}: no row has a field {' or '.join(fields or [])}; found: {', '.join(sorted(found))};"
            " correct --benchmark-columns"
        )


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts_in(inner)


Rows = Iterator[tuple[int, Any]]


def _lines(source: Source) -> Iterator[tuple[int, str]]:
    for line in read_lines([source], _MAX_LINE_BYTES):
        place = f"{source.path}: line {line.number}"
        if not line.whole:
            raise InputError(f"{place}: is longer than {_MAX_LINE_BYTES:,} bytes; correct the file")
        try:
            yield line.number, line.data.decode("utf-8").removeprefix("\ufeff").strip()
        except UnicodeDecodeError as error:
            raise InputError(f"{place}: is not UTF-8 ({error.reason}); correct the file") from error


def _jsonl_rows(source: Source, fields: Sequence[str] | None) -> Rows:
    for number, text in _lines(source):
        place = f"{source.path}: line {number}"
        yield number, _checked(_parsed(text, place), place)


def _json_rows(source: Source, fields: Sequence[str] | None) -> Rows:
    try:
        text = source.path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source.path}: byte {error.start}: is not UTF-8; correct the file") from error
    value = _parsed(text, str(source.path))
    if isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        value = lists[0] if len(lists) == 1 else value
    if not isinstance(value, list):
        raise InputError(f"{source.path}: is no list of rows, nor an object with one; convert it to JSONL")
    for number, row in enumerate(value, 1):
        yield number, _checked(row, f"{source.path}: row {number}")


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: is no JSON ({error}); correct the file") from error


def _checked(row: Any, place: str) -> Any:
    if not isinstance(row, dict | str):
        raise InputError(f"{place}: is neither an object nor a text: {row!r:.100}; correct the file")
    return row


def _csv_rows(source: Source, fields: Sequence[str] | None) -> Rows:
    csv.field_size_limit(_MAX_CSV_FIELD)
    number = 0
    try:
        with open(source.path, encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file, strict=True), 1):
                if None in row or None in row.values():
                    raise InputError(
                        f"{source.path}: row {number} has more or fewer fields than the header; correct the file"
                    )
                yield number, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{source.path}: row {number + 1}: cannot be read ({error}); correct the file") from error


def _parquet_rows(source: Source, fields: Sequence[str] | None) -> Rows:
    number = 0
    try:
        with pq.ParquetFile(source.path, pre_buffer=False) as file:
            # Pictures and sounds are no texts, and large.
            names = [field.name for field in file.schema_arrow if _may_hold_text(field.type)]
            chosen = names if fields is None else [name for name in names if name in fields]
            for batch in file.iter_batches(batch_size=256, columns=chosen or names):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{source.path}: row {number + 1}: cannot be read ({text}); fetch it again") from error


def _may_hold_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_) or pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _may_hold_text(type_.value_type)
    if pa.types.is_struct(type_):
        return any(_may_hold_text(field.type) for field in type_)
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


_ROWS_OF = {
    ".json": _json_rows,
    ".jsonl": _jsonl_rows,
    ".jsonl.gz": _jsonl_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
    ".txt": lambda source, fields: _lines(source),
    ".txt.gz": lambda source, fields: _lines(source),
}
