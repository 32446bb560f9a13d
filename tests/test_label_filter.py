"""The label filter as a program: which rows stay, what is said of the others, and what it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

import filter_by_labels
from corpusmith.accounting import Account, read_account
from corpusmith.errors import InputError
from corpusmith.identity import item_id
from corpusmith.label_filter import SeenIds
from corpusmith.labelled_rows import OPENMATHREASONING
from corpusmith.models import describe_folder, write_receipt
from corpusmith.table_files import open_table, read_rows, write_table
from corpusmith.tables import BAD_ROWS, DROPPED_ROWS, LABELLED_ROWS, ROW_GROUP_OF_LONG_TEXTS

SCRIPTS = Path(filter_by_labels.__file__).parent


def row(number: int, rate: Any = "0.25", **other: Any) -> dict[str, Any]:
    return {
        "problem": f"What is {number} + 1?",
        "expected_answer": str(number + 1),
        "generated_solution": f"It is \\boxed{{{number + 1}}}.",
        "problem_type": "has_answer_extracted",
        "problem_source": "made",
        "inference_mode": "cot",
        "generation_model": "by-hand",
        "pass_rate_72b_tir": rate,
        **other,
    }


class Filter:
    """Runs the program in this process on files of a folder, and reads what it wrote."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, patch

    def write(self, *rows: Any, name: str = "a.jsonl") -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(value) + "\n" for value in rows))
        return path

    def __call__(self, labels: Any = None, *flags: Any, glob: str = "*.jsonl") -> list[dict[str, Any]]:
        source = () if "--fetched" in flags else ("--glob", self.folder / glob)
        outputs = ("--rows", self.folder / "rows", "--bad-rows", self.folder / "bad", "--account", self.folder / "acc")
        outputs += ("--dropped-rows", self.folder / "gone")
        given = (*source, "--dataset", "made", "--labels", json.dumps(labels or {}), *flags, *outputs)
        self._patch.setattr(sys, "argv", ["filter_by_labels.py", *map(str, given)])
        filter_by_labels.main()
        rows = list(read_rows(self.folder / "rows", LABELLED_ROWS))
        self.account.check()
        assert self.account.kept.count == len(rows)
        # Each row that was read is in one of the three tables, and the account says the same of each reason.
        gone = list(read_rows(self.folder / "gone", DROPPED_ROWS))
        bad = list(read_rows(self.folder / "bad", BAD_ROWS))
        assert Counter(row["reason"] for row in [*gone, *bad]) == self.account.reasons
        places = [(row["file"], row["row"]) for row in [*rows, *gone]]
        assert len(set(places)) == len(places)
        return rows

    @property
    def account(self) -> Account:
        return read_account(self.folder / "acc")

    @property
    def bad(self) -> list[tuple[Any, ...]]:
        return [(bad["line"], bad["reason"]) for bad in read_rows(self.folder / "bad", BAD_ROWS)]


@pytest.fixture
def filter_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Filter:
    return Filter(tmp_path, monkeypatch)


def test_real_rows_at_a_quarter_are_those_of_a_plain_loop(filter_rows: Filter, shared_data: Path) -> None:
    path = shared_data / "math" / "solutions.jsonl"
    kept, seen = [], set()
    frame = pd.read_json(path, lines=True, dtype=False)
    for number, record in enumerate(frame.to_dict("records"), start=1):
        texts = tuple(record[name] for name in ("problem", "expected_answer", "generated_solution"))
        if record["pass_rate_72b_tir"] == "n/a" or float(record["pass_rate_72b_tir"]) > 0.25 or texts in seen:
            continue
        seen.add(texts)
        kept.append((number, *texts, record["problem_type"], float(record["pass_rate_72b_tir"])))
    columns = json.dumps({**OPENMATHREASONING, "inference_mode": None})
    labels = {"pass_rate": {"at_most": 0.25, "not_available": "drop"}}
    rows = filter_rows(labels, "--columns", columns, "--fetched", write_receipt_of(filter_rows.folder, path))
    names = ("row", "problem", "answer", "generated_solution", "problem_type", "pass_rate")
    assert [tuple(row[name] for name in names) for row in rows] == kept
    assert len(kept) == 1991
    assert filter_rows.account.reasons == {
        "pass_rate_not_available": 364,
        "pass_rate_too_high": 1644,
        "repeated_row": 1,
    }
    assert {row["file"] for row in rows} == {"data/solutions.jsonl"}


def write_receipt_of(folder: Path, path: Path) -> Path:
    receipt = folder / "receipt.json"
    receipt.write_text(json.dumps({"files": [{"path": f"data/{path.name}", "local": str(path)}]}))
    return receipt


def test_a_row_is_kept_as_it_is_with_its_ids_and_its_place(filter_rows: Filter) -> None:
    filter_rows.write(row(1), row(2, " 0.5 ", problem="What \n is\t2 + 1? ", expected_answer=3.0))
    first, second = filter_rows({"pass_rate": {"at_least": 0.25, "at_most": 0.5}})
    assert first == {
        "item_id": item_id("What is 1 + 1?", "2", "It is \\boxed{2}."),
        "problem_id": item_id("problem", "What is 1 + 1?"),
        "problem": "What is 1 + 1?",
        "answer": "2",
        "generated_solution": "It is \\boxed{2}.",
        "problem_type": "has_answer_extracted",
        "problem_source": "made",
        "inference_mode": "cot",
        "generation_model": "by-hand",
        "pass_rate": 0.25,
        "dataset": "made",
        "file": "a.jsonl",
        "row": 1,
    }
    assert (second["problem"], second["answer"], second["pass_rate"]) == ("What \n is\t2 + 1? ", "3", 0.5)
    assert second["problem_id"] == item_id("problem", "What is 2 + 1?")


LABELLED = [
    row(1, "0.0"),
    row(2, 0.1),
    row(3, "0.5"),
    row(4, 1),
    row(5, "N/A "),
    row(6, None),
    row(7, "0.1", problem_type="converted_proof"),
    row(8, "0.1", problem_source=None),
    row(9, "0.1", inference_mode="tir"),
]


@pytest.mark.parametrize(
    ("labels", "kept", "reasons"),
    [
        ({}, "123456789", {}),
        ({"pass_rate": {"at_most": 0.1}}, "12789", {"pass_rate_too_high": 2, "pass_rate_not_available": 2}),
        (
            {"pass_rate": {"at_least": 0.1, "at_most": 0.5, "not_available": "keep"}},
            "2356789",
            {"pass_rate_too_low": 1, "pass_rate_too_high": 1},
        ),
        ({"pass_rate": {"not_available": "drop"}}, "1234789", {"pass_rate_not_available": 2}),
        ({"problem_type": ["converted_proof", "other"]}, "7", {"problem_type": 8}),
        ({"problem_source": ["made"]}, "12345679", {"problem_source": 1}),
        (
            {"pass_rate": {"at_least": 0.1}, "problem_type": ["has_answer_extracted"], "inference_mode": ["cot"]},
            "2348",
            {"pass_rate_too_low": 1, "pass_rate_not_available": 2, "problem_type": 1, "inference_mode": 1},
        ),
    ],
)
def test_rows_stay_by_their_labels(filter_rows: Filter, labels: Any, kept: str, reasons: dict[str, int]) -> None:
    filter_rows.write(*LABELLED)
    assert "".join(str(row["row"]) for row in filter_rows(labels)) == kept
    assert filter_rows.account.reasons == reasons
    assert filter_rows.account.taken.count == 9
    assert filter_rows.account.unit == "rows"


def test_a_row_without_a_pass_rate_fails_with_its_place_where_that_is_asked_for(filter_rows: Filter) -> None:
    filter_rows.write(*LABELLED)
    labels = {"pass_rate": {"at_most": 0.1, "not_available": "fail"}}
    with pytest.raises(InputError, match=r"a\.jsonl: row 5: the pass rate is not available"):
        filter_rows(labels)
    assert not (filter_rows.folder / "rows").exists()
    # What stands behind the last row that is wanted does not count.
    assert len(filter_rows(labels, "--limit", 2)) == 2


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "a.jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "a.jsonl.gz": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "a.json": lambda frame, path: frame.to_json(path, orient="records"),
    "a.csv": lambda frame, path: frame.to_csv(path, index=False),
    "a.parquet": lambda frame, path: frame.to_parquet(path, row_group_size=100),
}


def test_every_kind_of_file_and_any_number_of_threads_give_the_same_bytes(filter_rows: Filter) -> None:
    rates = ["0.0", "0.125", "0.5", "n/a", None]
    rows = [
        row(number % 990, rates[number % 5], generated_solution=f'π\n{number % 990}, "so"' * 20, problem_source=None)
        for number in range(1000)
    ]
    found = {}
    for name, write in WRITERS.items():
        write(pd.DataFrame(rows), filter_rows.folder / name)
        receipt = write_receipt_of(filter_rows.folder, filter_rows.folder / name)
        for threads in (1, 3):
            flags = ("--fetched", receipt, "--threads", threads)
            kept = filter_rows({"pass_rate": {"at_most": 0.125, "not_available": "keep"}}, *flags)
            # Without the file's name.
            write_table(filter_rows.folder / "same", LABELLED_ROWS, ({**row, "file": ""} for row in kept))
            account = (filter_rows.folder / "acc").read_bytes()
            found[name, threads] = (filter_rows.folder / "same").read_bytes(), account
    assert len(set(found.values())) == 1
    assert filter_rows.account.reasons == {"pass_rate_too_high": 200, "repeated_row": 8}


BAD = {
    "not_json": '{"problem": "a"',
    "bad_pass_rate": json.dumps(row(2, "abc")),
    "not_finite": json.dumps(row(3, float("nan"))),
    "not_a_text": json.dumps(row(4, True)),
    "no_problem": json.dumps(row(5, problem=None)),
    "empty_problem": json.dumps(row(6, problem=" \n")),
    "problem_too_long": json.dumps(row(7, problem="x" * 100_000)),
    "nul_character": json.dumps(row(8, generated_solution="a\0b")),
    "not_unicode": json.dumps(row(9, problem="a\ud800b")),
}


def test_each_bad_row_is_set_aside_with_its_place_and_reason(filter_rows: Filter) -> None:
    lines = [*BAD.values(), json.dumps(row(10, 1.7)), json.dumps(row(11, "-0.1")), json.dumps(row(12, {"a": 1}))]
    (filter_rows.folder / "a.jsonl").write_text("\n".join([json.dumps(row(1)), *lines]))
    assert [row["row"] for row in filter_rows({}, "--max-bad-share", 1)] == [1]
    reasons = [*BAD, "bad_pass_rate", "bad_pass_rate", "not_a_text"]
    assert filter_rows.bad == list(enumerate(reasons, start=2))
    assert filter_rows.account.reasons == Counter(reasons)
    excerpts = [bad["excerpt"] for bad in read_rows(filter_rows.folder / "bad", BAD_ROWS)]
    assert excerpts[0] == BAD["not_json"]
    assert excerpts[1] == '{"pass_rate_72b_tir": "abc"}'
    assert excerpts[6] == '{"problem": "' + "x" * 187
    assert excerpts[8] == '{"problem": "a?b"}'


def test_too_many_bad_rows_fail_and_are_named(filter_rows: Filter) -> None:
    filter_rows.write(*(row(number, "abc" if number in (4, 70) else "0.5") for number in range(1, 101)))
    with pytest.raises(InputError, match=r"2 of the first 100 rows \(2\.0%\) are bad.*row 4: the pass rate.*row 70"):
        filter_rows({})
    assert not (filter_rows.folder / "rows").exists()
    assert len(filter_rows({}, "--max-bad-share", 0.02)) == 98


def test_a_row_that_goes_by_its_labels_need_not_be_right_otherwise(filter_rows: Filter) -> None:
    filter_rows.write(row(1), row(2, "0.5", problem=None), row(3, "abc", problem_type="x"))
    filter_rows({"pass_rate": {"at_most": 0.25}, "problem_type": ["has_answer_extracted"]}, "--max-bad-share", 1)
    assert filter_rows.account.reasons == {"pass_rate_too_high": 1, "bad_pass_rate": 1}


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_reading_stops_behind_the_last_row_that_is_wanted(filter_rows: Filter, name: str) -> None:
    frame = pd.DataFrame([row(number // 2, "0.1" if number % 4 < 2 else "0.9") for number in range(1000)])
    WRITERS[name](frame, filter_rows.folder / name)
    rows = filter_rows({"pass_rate": {"at_most": 0.5}}, "--limit", 150, glob=name)
    # Of each four rows the first stays, the second repeats it, the others go.
    assert [row["row"] for row in rows] == [1 + 4 * number for number in range(150)]
    assert filter_rows.account.taken.count == 597
    assert filter_rows.account.reasons == {"repeated_row": 149, "pass_rate_too_high": 298}


def test_slices_hold_all_rows_between_them(filter_rows: Filter) -> None:
    for name, first in (("a.jsonl", 0), ("b.jsonl", 7)):
        filter_rows.write(*(row(number) for number in range(first, first + 7)), name=name)
    cuts = ["0", "0.1", "0.35", "0.5", "1"]
    found = [filter_rows({}, "--start", start, "--end", end) for start, end in pairwise(cuts)]
    assert [len(rows) for rows in found] == [1, 3, 3, 7]
    assert [row["answer"] for rows in found for row in rows] == [str(number + 1) for number in range(14)]


def test_a_table_of_ours_is_read_by_its_own_columns(filter_rows: Filter) -> None:
    path = filter_rows.folder / "ours.parquet"
    names = ("problem", "answer", "generated_solution", "problem_type", "pass_rate", "dataset")
    values = [["a", "b", "c"], ["1", None, "3"], [None] * 3, ["t"] * 3, [0.1, None, 0.75], ["x"] * 3]
    types = (pa.string(), pa.string(), pa.string(), pa.string(), pa.float64(), pa.string())
    arrays = [pa.array(column, type_) for column, type_ in zip(values, types, strict=True)]
    pq.write_table(pa.table(arrays, list(names)), path)
    columns = json.dumps({name: name for name in names[:-1]})
    rows = filter_rows({"pass_rate": {"at_most": 0.5, "not_available": "keep"}}, "--columns", columns, glob=path.name)
    assert [(row["problem"], row["answer"], row["pass_rate"]) for row in rows] == [("a", "1", 0.1), ("b", None, None)]
    assert rows[0]["problem_source"] is None


def test_solutions_stay_by_their_length_in_tokens(filter_rows: Filter) -> None:
    folder = filter_rows.folder / "model"
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    receipt = filter_rows.folder / "model.json"
    write_receipt(receipt, describe_folder(folder, "words", "local", tokenizer_only=True))
    lengths = [2, 3, 5, 6, 0]
    filter_rows.write(*(row(number, generated_solution="w " * length) for number, length in enumerate(lengths)), row(9))
    labels = {"solution_tokens": {"at_least": 3, "at_most": 5}}
    assert [row["row"] for row in filter_rows(labels, "--tokenizer-of", receipt)] == [2, 3, 6]
    assert filter_rows.account.reasons == {"solution_too_short": 2, "solution_too_long": 1}
    with pytest.raises(InputError, match="--tokenizer-of"):
        filter_rows(labels)


@pytest.mark.parametrize(
    ("labels", "flags", "said"),
    [
        ({"inference_mode": ["cot"]}, ["--columns", '{"inference_mode": null}'], "inference_mode, but the columns"),
        ({}, ["--columns", '{"problem": "question"}'], "no column 'question'.*found: problem, expected_answer"),
        ({}, ["--columns", "problem"], "--columns is no JSON"),
        ({}, ["--start", "0.5", "--end", "0.25"], "--start 0.5 --end 0.25"),
        ({}, ["--limit", "0"], "--limit 0: must be 1 or more"),
        ({"pass_rate": 0.1}, [], "labels.pass_rate"),
    ],
)
def test_wrong_flags_are_named(filter_rows: Filter, labels: Any, flags: list[str], said: str) -> None:
    filter_rows.write(row(1))
    with pytest.raises(InputError, match=said):
        filter_rows(labels, *flags)


def test_columns_that_are_not_named_are_looked_for_and_need_not_be_there_unless_they_decide(
    filter_rows: Filter,
) -> None:
    filter_rows.write({"problem": "a", "expected_answer": "1", "question": "b"}, {"problem": "c", "question": "d"})
    assert [(found["problem"], found["answer"]) for found in filter_rows({})] == [("a", "1"), ("c", None)]
    columns = ["--columns", '{"problem": "question", "answer": null}']
    assert [(found["problem"], found["answer"]) for found in filter_rows({}, *columns)] == [("b", None), ("d", None)]
    with pytest.raises(InputError, match=r"no column 'inference_mode'.*found: problem, expected_answer, question"):
        filter_rows({"inference_mode": ["cot"]})
    with pytest.raises(InputError, match="no column 'mode'"):
        filter_rows({}, "--columns", '{"inference_mode": "mode"}')


def test_an_answer_of_blanks_is_none(filter_rows: Filter) -> None:
    filter_rows.write(
        *({"problem": f"a {place}", "expected_answer": text} for place, text in enumerate(["", " ", "1"]))
    )
    assert [found["answer"] for found in filter_rows({})] == [None, None, "1"]


def test_memory_does_not_grow_with_a_row_group(tmp_path: Path) -> None:
    # 50 and 200 MB of text in one row group, as pandas would write it.
    peaks = []
    for count in (5_000, 20_000):
        rows = pa.Table.from_pylist([row(number, "0.1" if number % 10 else "0.9") for number in range(count)])
        solutions = pa.array([f"{number} " + "so it is, and then " * 520 for number in range(count)])
        place = rows.schema.get_field_index("generated_solution")
        pq.write_table(rows.set_column(place, "generated_solution", solutions), tmp_path / "a.parquet")
        command = "import filter_by_labels; filter_by_labels.main();"
        # Not ru_maxrss, which begins with what this process has.
        command += "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
        flags = ["--glob", tmp_path / "a.parquet", "--labels", '{"pass_rate": {"at_most": 0.5}}', "--dataset", "x"]
        flags += [
            "--rows",
            tmp_path / "r",
            "--bad-rows",
            tmp_path / "b",
            "--dropped-rows",
            tmp_path / "g",
            "--account",
            tmp_path / "c",
        ]
        result = subprocess.run(
            [sys.executable, "-c", command, *map(str, flags)], cwd=SCRIPTS, capture_output=True, text=True, check=True
        )
        peaks.append(int(result.stdout) / 1024)
    assert peaks[1] - peaks[0] < 60


@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=12), st.integers(0, 2))
def test_ids_are_new_once(batches: list[list[int]], place: int) -> None:
    ids, seen = SeenIds(), set()
    for batch in batches:
        # Zero bytes at any place: numpy drops those at the end of what it gives back.
        values = [number.to_bytes(1 + place * 7, "big").ljust(16, b"\0") for number in batch]
        wanted = []
        for value in values:
            wanted.append(value not in seen)
            seen.add(value)
        assert ids.add(np.array(values, "S16")).tolist() == wanted


@given(st.lists(st.integers(1, 700), max_size=6), st.booleans())
@settings(max_examples=15)
def test_a_table_is_the_same_bytes_however_its_batches_are_cut(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], end_with_rows: bool
) -> None:
    folder = tmp_path_factory.mktemp("batches")
    count = sum(sizes)
    rows = [
        {column.name: None for column in LABELLED_ROWS.columns}
        | {"item_id": f"{number:032x}", "problem_id": "a", "problem": f"p{number}", "dataset": "d", "file": "f"}
        | {"row": number, "pass_rate": None if number % 3 else number / 7, "generated_solution": "é" * (number % 50)}
        for number in range(count + 2)
    ]
    write_table(folder / "rows", LABELLED_ROWS, rows)
    whole = pa.RecordBatch.from_pylist(rows, LABELLED_ROWS.schema)
    with open_table(folder / "batches", LABELLED_ROWS) as writer:
        writer.write(rows[0])
        start = 1
        for size in sizes:
            writer.write_batch(whole.slice(start, size))
            start += size
        writer.write(rows[-1]) if end_with_rows else writer.write_batch(whole.slice(start))
        assert writer.count == len(rows)
    assert (folder / "batches").read_bytes() == (folder / "rows").read_bytes()
    groups = pq.read_metadata(folder / "rows")
    sizes = [groups.row_group(group).num_rows for group in range(groups.num_row_groups)]
    assert sizes[:-1] == [ROW_GROUP_OF_LONG_TEXTS] * (len(sizes) - 1)


def test_a_batch_of_other_columns_or_with_missing_values_is_refused(tmp_path: Path) -> None:
    schema = LABELLED_ROWS.schema
    missing = pa.record_batch([pa.nulls(2, field.type) for field in schema], schema=schema)
    other = pa.record_batch({"item_id": ["a"]})
    for batch, said in ((missing, "row 0 has no item_id"), (other, "none of a table of labelled rows")):
        with pytest.raises(InputError, match=said), open_table(tmp_path / "a", LABELLED_ROWS) as writer:
            writer.write_batch(batch)
