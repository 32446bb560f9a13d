"""Reading rows with labels: the same rows from every kind of file, in slices, and only what is asked for."""

from __future__ import annotations

import csv
import gzip
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.documents import Source
from corpusmith.errors import InputError
from corpusmith.labelled_rows import check_columns, plan, slice_of
from corpusmith.read_ahead import in_order
from corpusmith.row_cells import cells_of_array, cells_of_values

NAMES = {"problem": "question", "answer": "answer"}
ROWS = [
    {"question": "What is 2+2?", "answer": "4", "other": "x"},
    {"question": 'A "quoted", long\nproblem — π', "answer": None, "other": "y"},
    {"question": "  [blank]  ", "answer": "\\frac{1}{2}", "other": "{"},
]


def write_json(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: Sequence[dict[str, Any]], row_group: int = 2) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=row_group)
    return path


WRITERS = {
    "rows.json": write_json,
    "lines.json": write_lines,
    "rows.jsonl": write_lines,
    "rows.jsonl.gz": write_lines,
    "rows.csv": write_csv,
    "rows.parquet": write_parquet,
}


def read(paths: Sequence[Path], names: dict[str, Any] = NAMES, **slice_: Fraction) -> list[tuple[Any, ...]]:
    """File, number and the cells of each row; the reason in place of a bad cell, or of the row's cells."""
    found = []
    for job in plan([Source(path.name, path) for path in paths], names, **slice_).jobs:
        for chunk in job():
            columns = list(check_columns(names))
            for start, stop, part in chunk.parts(columns, np.ones(len(chunk.numbers), bool)):
                for place in range(start, stop):
                    cells = [
                        part[name].bad[place - start].reason
                        if place - start in part[name].bad
                        else part[name].values[place - start].as_py()
                        for name in columns
                    ]
                    bad = chunk.unreadable.get(place)
                    found.append((chunk.file, int(chunk.numbers[place]), *([bad.reason] if bad else cells)))
    return found


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, ROWS)
    assert read([path]) == [(name, number, row["question"], row["answer"]) for number, row in enumerate(ROWS, start=1)]


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_column_is_named_with_what_was_found(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, ROWS)
    with pytest.raises(InputError, match=r"no column 'expected', to be read as answer; found: question, answer, other"):
        plan([Source(name, path)], {**NAMES, "answer": "expected"})


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.lists(st.decimals(0, 1, places=3), max_size=4),
    st.sampled_from(["rows.parquet", "rows.jsonl", "rows.csv", "rows.json"]),
)
@settings(max_examples=40)
def test_slices_that_meet_hold_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], cuts: list[Any], name: str
) -> None:
    folder = tmp_path_factory.mktemp("slices")
    paths, rows = [], []
    for number, size in enumerate(sizes):
        made = [{"question": f"{number} {row}", "answer": "1"} for row in range(size)]
        paths.append(WRITERS[name](folder / f"{number}-{name}", made))
        rows += [(paths[-1].name, row + 1, f"{number} {row}", "1") for row in range(size)]
    ends = [Fraction(0), *sorted(map(Fraction, cuts)), Fraction(1)]
    slices = [read(paths, start=start, end=end) for start, end in pairwise(ends)]
    assert [row for part in slices for row in part] == rows
    for part, start, end in zip(slices, ends[:-1], ends[1:], strict=True):
        first, last = slice_of(start, end, len(rows))
        assert part == rows[first:last]


def test_the_border_of_a_slice_is_exact() -> None:
    # 0.29 * 100 is 28.999999999999996 in floats, and 0.07 * 100 is 7.000000000000001.
    assert slice_of(Fraction("0.07"), Fraction("0.29"), 100) == (7, 29)
    assert slice_of(Fraction("0.1"), Fraction("0.25"), 7) == (0, 1)


def test_the_plan_knows_how_many_rows_it_has_where_that_is_cheap(tmp_path: Path) -> None:
    lines, table = write_lines(tmp_path / "a.jsonl", ROWS), write_parquet(tmp_path / "b.parquet", ROWS)
    assert plan([Source("b.parquet", table)], NAMES).rows == 3
    assert plan([Source("a.jsonl", lines)], NAMES).rows is None
    both = [Source("a.jsonl", lines), Source("b.parquet", table)]
    assert plan(both, NAMES, Fraction(1, 2)).rows == 3


def test_only_columns_that_are_asked_for_and_groups_with_rows_that_stay_are_read(tmp_path: Path) -> None:
    rows = [{"question": f"{number} " * 50, "answer": str(number)} for number in range(6)]
    path = write_parquet(tmp_path / "a.parquet", rows)
    column = pq.read_metadata(path).row_group(0).column(0)
    data = bytearray(path.read_bytes())
    # The problems of the first two rows are no longer to be read.
    begin = column.dictionary_page_offset or column.data_page_offset
    data[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    (job,) = plan([Source("a.parquet", path)], NAMES).jobs
    (chunk,) = job()
    assert chunk.cells(["answer"])["answer"].values.to_pylist() == list("012345")
    with pytest.raises(InputError, match=r"a\.parquet: is no Parquet file, or a broken one"):
        list(chunk.parts(["problem"], np.array([True] * 6)))

    def problems(wanted: list[int]) -> list[str]:
        parts = list(chunk.parts(["problem"], np.isin(np.arange(6), wanted)))
        assert [start for start, _, _ in parts] + [6] == [0] + [stop for _, stop, _ in parts]
        return [text for _, _, part in parts for text in part["problem"].values.to_pylist()]

    assert problems([]) == []
    assert problems([3, 4]) == [rows[3]["question"], rows[4]["question"]]


def test_rows_that_cannot_be_read_stand_among_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"question": "a", "answer": 1}\n\n{"question": \n["question"]\n\xff\n{"question": "b"}\n'
        b'{"answer": NaN, "question": "\\ud800"}\n{"question": {"text": "c"}, "answer": true}\n'
        b'{"question": 3, "answer": ["1"]}\n{"question": "d\\u0000", "answer": 1e400}'
    )
    assert read([path]) == [
        ("a.jsonl", 1, "a", "1"),
        ("a.jsonl", 3, "not_json"),
        ("a.jsonl", 4, "not_an_object"),
        ("a.jsonl", 5, "not_utf8"),
        ("a.jsonl", 6, "b", None),
        ("a.jsonl", 7, "not_unicode", "not_finite"),
        ("a.jsonl", 8, "not_a_text", "not_a_text"),
        ("a.jsonl", 9, "not_a_text", "not_a_text"),
        ("a.jsonl", 10, "nul_character", "not_finite"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"rows": [\n{"question": "a"}]}', "row 1: the file holds no JSON array of objects"),
        ('[{"question": "a", "answer": "b"} {"question": "b"}]', "row 2: no comma before it"),
        ('[{"question": "a", "answer": "b"}, {"question": "b"', "row 2: Expecting ',' delimiter"),
        ('[{"question": "a", "answer": "b"}', "row 1: the array does not end"),
        ('[{"question": "a", "answer": "b"},\n]', "row 2: Expecting value"),
        ("{\n}", "no JSON array of objects"),
    ],
)
def test_a_broken_array_is_refused_with_the_row(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json: row \d") as caught:
        read([tmp_path / "a.json"])
    assert said in str(caught.value)


def test_an_array_is_read_whatever_its_length_and_spaces(tmp_path: Path) -> None:
    rows = [{"question": f"{number} " + "é" * (number * 997 % 5000), "answer": str(number)} for number in range(1500)]
    for indent in (None, 3):
        (tmp_path / "a.json").write_text(json.dumps(rows, indent=indent, ensure_ascii=False) + "\n ", encoding="utf-8")
        assert [row[2:] for row in read([tmp_path / "a.json"])] == [tuple(row.values()) for row in rows]
    (tmp_path / "a.json").write_text(" [ ] ")
    assert read([tmp_path / "a.json"]) == []


def test_rows_of_csv_with_other_numbers_of_cells_are_set_aside_and_open_quotes_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfquestion,answer\r\na,1\r\n\r\nb\r\nc,1,2\r\n\xff,\r\n")
    assert read([path]) == [
        ("a.csv", 1, "a", "1"),
        ("a.csv", 2, "wrong_number_of_cells"),
        ("a.csv", 3, "wrong_number_of_cells"),
        ("a.csv", 4, "not_unicode", None),
    ]
    path.write_text('question,answer\na,1\n"b,2\nc,3\n')
    with pytest.raises(InputError, match=r"a\.csv: row 2 \(up to line 4\): .*repair its quotes"):
        read([path])
    path.write_text("question,answer,answer\na,1,2\n")
    with pytest.raises(InputError, match="two columns have one name"):
        read([path])


@given(st.lists(st.one_of(st.none(), st.floats())), st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))))
def test_numbers_are_the_same_texts_from_json_and_from_parquet(floats: list[Any], whole: list[Any]) -> None:
    for values, type_ in ((floats, pa.float64()), (whole, pa.int64())):
        from_json = cells_of_values("answer", "answer", values)
        from_parquet = cells_of_array("answer", "answer", pa.array(values, type_, from_pandas=False))
        assert from_json.values.to_pylist() == from_parquet.values.to_pylist()
        assert {place: bad.reason for place, bad in from_json.bad.items()} == {
            place: bad.reason for place, bad in from_parquet.bad.items()
        }
        for value, text in zip(values, from_json.values.to_pylist(), strict=True):
            assert text is None or (
                Fraction(text) == Fraction(value)
                if isinstance(value, int)
                else float(text) == value and not text.endswith(".0")
            )


def test_arrow_columns_of_any_type_become_texts_or_bad_cells() -> None:
    def cells(array: pa.Array, name: str = "answer") -> list[Any]:
        found = cells_of_array(name, "c", array)
        return [found.bad[place].reason if place in found.bad else found.values[place].as_py() for place in range(2)]

    assert cells(pa.array(["a", None], pa.large_string())) == ["a", None]
    assert cells(pa.array(["a", "b"], pa.string_view())) == ["a", "b"]
    assert cells(pa.array(["a", None]).dictionary_encode()) == ["a", None]
    assert cells(pa.nulls(2)) == [None, None]
    assert cells(pa.array([0.1, 18.0], pa.float32())) == ["0.1", "18"]
    assert cells(pa.array(["0.25", None]).cast(pa.decimal128(5, 3))) == ["0.250", None]
    assert cells(pa.array([True, None])) == ["not_a_text", None]
    assert cells(pa.array([{"a": 1}, None])) == ["not_a_text", None]
    assert cells(pa.array([["a"], None])) == ["not_a_text", None]
    assert cells(pa.array([1, None]), "problem") == ["not_a_text", None]
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.int32([0, 1, 4])), pa.py_buffer(b"a\xed\xa0\x80")]
    )
    assert cells(broken) == ["a", "not_unicode"]
    assert cells(pa.array(["x\0", "a", "b\0"]).slice(1, 2)) == ["a", "nul_character"]
    assert cells(pa.array(["x\0", "a", "b", "c\0"]).slice(1, 2)) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.parquet", "no such file"),
        ("a.xlsx", r"only \.parquet, \.json, \.jsonl, \.jsonl\.gz, \.csv are read"),
        ("empty.csv", "the file is empty"),
        ("text.parquet", "is no Parquet file, or a broken one"),
        ("text.jsonl.gz", "is no gzip file"),
    ],
)
def test_files_that_cannot_be_read_are_named_before_anything_is(tmp_path: Path, name: str, said: str) -> None:
    if not name.startswith("missing"):
        (tmp_path / name).write_text("" if name.startswith("empty") else "some text, but no more than that")
    with pytest.raises(InputError, match=f"{name}.*: .*{said}"):
        plan([Source(name, tmp_path / name)], NAMES)


@pytest.mark.parametrize("columns", [{}, {"problem": None}, {"problem": "a", "text": "b"}, {"problem": ["a"]}])
def test_a_mapping_of_columns_without_a_problem_or_with_other_names_is_refused(columns: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="columns: "):
        check_columns(columns)


# --- working ahead ---


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 4))
@settings(max_examples=50)
def test_results_come_in_the_order_of_the_jobs(sizes: list[int], threads: int) -> None:
    jobs = [
        lambda number=number, size=size: iter([(number, place) for place in range(size)])
        for number, size in enumerate(sizes)
    ]
    assert list(in_order(jobs, threads, ahead=2)) == [
        (number, place) for number, size in enumerate(sizes) for place in range(size)
    ]


def test_an_error_comes_behind_the_results_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise InputError("broken")

    with pytest.raises(InputError, match="broken"):
        list(in_order([lambda: iter([0]), failing, lambda: iter(range(100))], 3, ahead=1))
    with closing(in_order([lambda: iter([0]), failing], 2)) as results:
        assert [next(results), next(results)] == [0, 1]


def test_threads_end_where_no_more_is_wanted() -> None:
    before = threading.active_count()
    with closing(in_order([lambda: iter(range(10**9))] * 3, 2, ahead=3)) as results:
        assert next(results) == 0
        assert threading.active_count() == before + 2
    assert threading.active_count() == before
