"""Tables: written and read through their schema; a wrong one is an error that names file, column and row."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from corpusmith import tables
from corpusmith.errors import InputError
from corpusmith.table_files import open_table, read_batches, read_rows, row_count, write_table
from corpusmith.tables import COMPLETIONS, DROPPED, REQUESTS, ROW_GROUP, SCORES, SEGMENTS, Table

ALL_TABLES = {table.name: table for table in vars(tables).values() if isinstance(table, Table)}
ITEM = "0" * 31 + "1"

# Writes and reads a table of as many rows as it is told, and says how much memory it took at most, in KiB.
WRITE_AND_READ = """
import resource, sys
from corpusmith.table_files import open_table, read_rows
from corpusmith.tables import COMPLETIONS
rows, path = int(sys.argv[1]), sys.argv[2]
with open_table(path, COMPLETIONS) as writer:
    for number in range(rows):
        writer.write({
            "item_id": f"{number:032x}", "request": "sampled", "sample": number % 128, "text": f"answer {number}",
            "finish_reason": "stop", "prompt_tokens": 5, "completion_tokens": 3, "error": None, "key": f"{number:032x}",
        })
assert sum(row["completion_tokens"] for row in read_rows(path, COMPLETIONS)) == 3 * rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def score(number: int, **other: Any) -> dict[str, Any]:
    row = {"item_id": f"{number:032x}", "request": "sampled", "sample": number, "score": 1.5, "truncated": False}
    return {**row, "error": None, "key": "ab", **other}


def request(**other: Any) -> dict[str, Any]:
    row = {"item_id": ITEM, "request": "greedy", "temperature": 0.0, "top_p": 1.0, "top_k": 0, "max_tokens": 8}
    return {**row, "prompt": "one", "stop": [], "first_sample": 0, "n": 1, **other}


def scores(count: int) -> Iterator[dict[str, Any]]:
    return (score(number) for number in range(count))


def values_of(type_: pa.DataType) -> st.SearchStrategy[Any]:
    """Values of an Arrow type, as Python has them."""
    if pa.types.is_string(type_):
        return st.text(max_size=8)
    if pa.types.is_boolean(type_):
        return st.booleans()
    if pa.types.is_integer(type_):
        return st.integers(-(2 ** (type_.bit_width - 1)), 2 ** (type_.bit_width - 1) - 1)
    if pa.types.is_floating(type_):
        return st.floats(allow_nan=False)
    if pa.types.is_list(type_):
        return st.lists(values_of(type_.value_type), max_size=3)
    assert pa.types.is_struct(type_)
    return st.fixed_dictionaries({field.name: values_of(field.type) for field in type_})


def rows_of(table: Table) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Tables of a kind."""
    columns = {
        column.name: st.none() | values_of(column.type) if column.optional else values_of(column.type)
        for column in table.columns
    }
    return st.lists(st.fixed_dictionaries(columns), max_size=5)


def message_of(action: Callable[[], object]) -> str:
    """The one line of the InputError that an action ends with."""
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_named(message: str, *words: str) -> None:
    for word in words:
        assert word in message


# --- writing and reading ---


@pytest.mark.parametrize("name", ALL_TABLES)
def test_rows_of_every_kind_are_read_as_they_were_written(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    table = ALL_TABLES[name]
    path = tmp_path_factory.mktemp("tables") / "a.parquet"

    @settings(max_examples=15)
    @given(rows=rows_of(table))
    def check(rows: list[dict[str, Any]]) -> None:
        assert write_table(path, table, rows) == len(rows)
        assert list(read_rows(path, table)) == rows
        assert row_count(path) == len(rows)

    check()


def test_there_are_tables_for_the_whole_way_of_the_data() -> None:
    assert {"segments", "requests", "completions", "scores", "selected answers", "rejected"} <= set(ALL_TABLES)
    for table in ALL_TABLES.values():
        assert all(column.meaning for column in table.columns)
        assert table.name in ("bad rows", "dropped rows") or table.columns[0].name == "item_id"


@pytest.mark.parametrize("name", ALL_TABLES)
def test_an_empty_table_is_valid(tmp_path: Path, name: str) -> None:
    path = tmp_path / "empty.parquet"
    assert write_table(path, ALL_TABLES[name], []) == 0
    assert list(read_rows(path, ALL_TABLES[name])) == []
    assert row_count(path) == 0


def test_other_libraries_read_types_meanings_and_which_columns_are_required(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", SCORES, scores(3))
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.names == ["item_id", "request", "sample", "score", "truncated", "error", "key"]
    assert schema.field("sample").type == pa.int32()
    assert [field.name for field in schema if field.nullable] == ["score", "error"]
    assert schema.field("truncated").metadata[b"meaning"] == b"whether the scorer saw only the beginning"
    assert pq.read_table(tmp_path / "a.parquet").column("sample").to_pylist() == [0, 1, 2]


def test_only_the_columns_that_are_asked_for_are_read_in_the_order_asked(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", SCORES, [score(7)])
    rows = list(read_rows(tmp_path / "a.parquet", SCORES, ["score", "item_id"]))
    assert [list(row.items()) for row in rows] == [[("score", 1.5), ("item_id", "0" * 31 + "7")]]


def test_columns_may_stand_in_another_order_and_beside_others(tmp_path: Path) -> None:
    schema = pa.schema([("extra", pa.int8()), *reversed(SCORES.schema)])
    pq.write_table(pa.Table.from_pylist([score(7, extra=1)], schema), tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet", SCORES)) == [score(7)]


def test_values_that_a_table_has_no_column_for_are_left_out(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", SCORES, [score(7, comment="good")])
    assert list(read_rows(tmp_path / "a.parquet", SCORES)) == [score(7)]


@pytest.mark.parametrize("count", [1, ROW_GROUP - 1, ROW_GROUP, ROW_GROUP + 1, 2 * ROW_GROUP + 5])
def test_rows_keep_their_order_over_row_groups_and_batches(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.parquet"
    assert write_table(path, SCORES, scores(count)) == count
    assert [row["sample"] for row in read_rows(path, SCORES, batch_size=1000)] == list(range(count))
    sizes = [batch.num_rows for batch in read_batches(path, SCORES, batch_size=1000)]
    assert sum(sizes) == count
    assert max(sizes) <= 1000
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert groups == [ROW_GROUP] * (count // ROW_GROUP) + [count % ROW_GROUP] * (count % ROW_GROUP > 0)


def test_the_same_rows_are_the_same_bytes_however_they_are_written(tmp_path: Path) -> None:
    rows = [score(number, score=None if number % 3 else number / 7) for number in range(ROW_GROUP + 100)]
    write_table(tmp_path / "at-once.parquet", SCORES, rows)
    write_table(tmp_path / "again.parquet", SCORES, iter(rows))
    with open_table(tmp_path / "in-parts.parquet", SCORES) as writer:
        for start, end in pairwise([0, 1, 5000, 5000, ROW_GROUP + 3, len(rows)]):
            writer.write_all(rows[start:end])
    backwards = [dict(reversed(row.items())) for row in rows]
    write_table(tmp_path / "backwards.parquet", SCORES, backwards)
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 4
    assert len(set(contents.values())) == 1


def test_options_of_arrow_s_writer_are_passed_on(tmp_path: Path) -> None:
    with open_table(tmp_path / "a.parquet", SCORES, write_page_index=True) as writer:
        writer.write_all(scores(3))
    assert pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(0).has_offset_index
    assert list(read_rows(tmp_path / "a.parquet", SCORES)) == list(scores(3))


@pytest.mark.slow
def test_a_million_rows_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    def peak(rows: int) -> float:
        command = [sys.executable, "-c", WRITE_AND_READ, str(rows), str(tmp_path / "a.parquet")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
        return int(result.stdout) / 1024

    few, million = peak(50_000), peak(1_000_000)
    # The rows alone, as Python's dicts, would take more than 500 MiB; the file's index grows by a few.
    assert million - few < 50


# --- rows that do not fit ---

BAD_VALUES = {
    "a number for a text": ("item_id", 5),
    "bytes for a text": ("item_id", b"5"),
    "half of a surrogate pair": ("item_id", "\ud800"),
    "a text for a number": ("score", "high"),
    "a fraction for a whole number": ("sample", 1.5),
    "a whole number written as a float": ("sample", 1.0),
    "a truth value for a number": ("sample", True),
    "a number beyond 32 bits": ("sample", 2**31),
    "a number beyond 64 bits": ("sample", 2**80),
    "a number for a truth value": ("truncated", 1),
    "a list for a number": ("score", [1.0]),
}


@pytest.mark.parametrize(("column", "value"), BAD_VALUES.values(), ids=BAD_VALUES)
@pytest.mark.parametrize("place", [0, 7, ROW_GROUP + 3])
def test_a_value_that_does_not_fit_names_file_column_and_row(
    tmp_path: Path, column: str, value: object, place: int
) -> None:
    path = tmp_path / "scores" / "0000-of-0002.parquet"
    rows = [*scores(place), score(place, **{column: value}), *scores(3)]
    message = message_of(lambda: write_table(path, SCORES, rows))
    type_ = SCORES.schema.field(column).type
    assert_named(message, f"{path}: row {place}: {column} = ", f" is no {type_}")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("stop", "###"),
        ("stop", {"a", "b"}),
        ("stop", [5]),
        ("token_ids", [1, 2.5]),
        ("token_ids", "12"),
        ("messages", "Translate this."),
        ("messages", ["Translate this."]),
        ("messages", [{"role": "user", "content": 5}]),
        ("choices", "yes"),
        ("json_schema", {"type": "object"}),
    ],
)
def test_a_nested_value_that_does_not_fit_names_file_column_and_row(tmp_path: Path, column: str, value: object) -> None:
    path = tmp_path / "requests.parquet"
    message = message_of(lambda: write_table(path, REQUESTS, [request(), request(**{column: value})]))
    assert_named(message, f"{path}: row 1: {column} = ")


@pytest.mark.parametrize("column", [column.name for column in SCORES.columns if not column.optional])
@pytest.mark.parametrize("place", [0, ROW_GROUP + 3])
def test_a_missing_value_names_file_column_and_row(tmp_path: Path, column: str, place: int) -> None:
    path = tmp_path / "scores.parquet"
    absent = score(place)
    del absent[column]
    for row in (absent, score(place, **{column: None})):
        message = message_of(lambda row=row: write_table(path, SCORES, [*scores(place), row]))
        assert_named(message, f"{path}: row {place} has no {column}")
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_rows_are_made_leaves_no_table(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield from scores(ROW_GROUP + 1)
        raise InputError("corpus.jsonl, line 5: is no JSON")

    with pytest.raises(InputError, match="line 5"):
        write_table(tmp_path / "a.parquet", SCORES, rows())
    assert list(tmp_path.iterdir()) == []


# --- files that are no such table ---


def write_with(path: Path, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


def without(column: str) -> pa.Schema:
    return SCORES.schema.remove(SCORES.schema.get_field_index(column))


def with_type(column: str, type_: pa.DataType) -> pa.Schema:
    return SCORES.schema.set(SCORES.schema.get_field_index(column), pa.field(column, type_))


@pytest.mark.parametrize("column", [column.name for column in SCORES.columns])
def test_a_missing_column_is_named_with_the_file(tmp_path: Path, column: str) -> None:
    path = tmp_path / "scores.parquet"
    write_with(path, without(column), [score(1)])
    message = message_of(lambda: list(read_rows(path, SCORES)))
    assert_named(message, str(path), f"no column '{column}'")


@pytest.mark.parametrize(
    ("column", "type_"),
    [
        ("sample", pa.int64()),
        ("score", pa.float32()),
        ("score", pa.string()),
        ("item_id", pa.large_string()),
        ("truncated", pa.int8()),
    ],
)
def test_a_column_of_another_type_is_named_with_both_types(tmp_path: Path, column: str, type_: pa.DataType) -> None:
    path = tmp_path / "scores.parquet"
    write_with(path, with_type(column, type_), [])
    message = message_of(lambda: list(read_rows(path, SCORES)))
    assert_named(message, str(path), f"'{column}' is {type_}", f"should be {SCORES.schema.field(column).type}")


def test_even_a_column_that_is_not_asked_for_must_be_right(tmp_path: Path) -> None:
    write_with(tmp_path / "a.parquet", with_type("score", pa.string()), [])
    message = message_of(lambda: list(read_rows(tmp_path / "a.parquet", SCORES, ["item_id"])))
    assert_named(message, "'score'")


@pytest.mark.parametrize("place", [0, 1023, 1024, 3000])
def test_a_null_in_a_required_column_is_named_with_file_and_row(tmp_path: Path, place: int) -> None:
    path = tmp_path / "scores.parquet"
    nullable = pa.schema([field.with_nullable(True) for field in SCORES.schema])
    write_with(path, nullable, [*scores(place), score(place, request=None), *scores(50)])
    for batch_size in (7, 1024):
        message = message_of(lambda size=batch_size: list(read_rows(path, SCORES, batch_size=size)))
        assert message == f"{path}: row {place}: no request"
    assert sum(1 for _ in read_rows(path, SCORES, ["item_id"])) == place + 51


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    for read in (lambda path: list(read_rows(path, SCORES)), row_count):
        message = message_of(lambda read=read: read(tmp_path / "none.parquet"))
        assert_named(message, str(tmp_path / "none.parquet"), "no such file")


@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"item_id,score\n1,2\n", b"\x1f\x8b" * 100, b"PAR1" + b"\x00" * 100 + b"\x10\x00\x00\x00PAR1"],
)
def test_what_is_no_parquet_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.parquet"
    path.write_bytes(content)
    for read in (lambda: list(read_rows(path, SCORES)), lambda: row_count(path)):
        assert_named(message_of(read), f"{path}: is no Parquet file, or a broken one", "delete it and build again")


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    for read in (lambda: list(read_rows(tmp_path, SCORES)), lambda: row_count(tmp_path)):
        assert_named(message_of(read), str(tmp_path))


def test_a_parquet_file_cut_anywhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    write_table(path, SCORES, scores(2000))
    whole = path.read_bytes()
    for length in [*range(0, len(whole), len(whole) // 40), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert_named(message_of(lambda: list(read_rows(path, SCORES))), str(path), "broken")
        assert_named(message_of(lambda: row_count(path)), str(path), "broken")


def test_a_changed_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "segments.parquet"
    row = {"kind": "sentence", "tokens": 5, "bucket": "0-10", "file": "a.jsonl", "line": 1, "start": 0, "end": 9}
    rows = [{"item_id": f"{number:032x}", "text": f"문장 {number}", **row} for number in range(2000)]
    write_table(path, SEGMENTS, rows)
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    draws = random.Random(1)
    noticed = unnoticed = 0
    for _ in range(300):
        changed = bytearray(whole)
        changed[draws.randrange(footer)] ^= draws.randrange(1, 256)
        path.write_bytes(changed)
        try:
            unnoticed += list(read_rows(path, SEGMENTS)) != rows
        except InputError as error:
            noticed += 1
            assert str(path) in str(error)  # noqa: PT017 - what matters is that nothing else is raised
    # The checksums are those of pages; the few bytes of their headers have none.
    assert noticed > 280
    assert unnoticed <= 3


def test_a_broken_page_is_named_though_the_rows_before_it_were_read(tmp_path: Path) -> None:
    path = tmp_path / "completions.parquet"
    answer = {"request": "greedy", "sample": 0, "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1}
    texts = random.Random(1)
    write_table(
        path,
        COMPLETIONS,
        (
            {"item_id": ITEM, "key": "ab", "text": texts.randbytes(20).hex(), "error": None, **answer}
            for _ in range(2 * ROW_GROUP)
        ),
    )
    column = pq.read_metadata(path).row_group(1).column(3)
    changed = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    changed[start + column.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(changed)
    read: list[dict[str, Any]] = []
    message = message_of(lambda: read.extend(read_rows(path, COMPLETIONS)))
    assert_named(message, str(path), "broken")
    assert len(read) == ROW_GROUP


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dropped.parquet"
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00"), pa.py_buffer(b"\xff\xfe")]
    )
    right = pa.array(["a"])
    columns = {"item_id": right, "stage": right, "reason": broken, "detail": right}
    pq.write_table(pa.table(columns), path)
    assert_named(message_of(lambda: list(read_rows(path, DROPPED))), str(path))
