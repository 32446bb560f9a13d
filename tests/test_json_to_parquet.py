"""Any folder of JSON as a release: what is in its tables, its card, its manifest, and what stays after a change."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from corpusmith import json_files, json_parquet
from corpusmith.accounting import Account
from corpusmith.errors import InputError
from corpusmith.json_files import BadJson, blocks
from corpusmith.json_folder import publish
from corpusmith.table_files import read_rows
from corpusmith.tables import BAD_ROWS
from translation_tables import SCRIPTS, call_program

ROWS = [
    {"id": 1, "when": "2024-01-02", "messages": [{"role": "user", "content": "Grüße"}], "meta": {"a": {"b": 1}}},
    {"id": 2, "when": "2024-01-02T10:00:00Z", "messages": [], "meta": None},
    {"id": 3, "when": None, "messages": [{"role": "user", "content": None, "name": "x"}], "meta": {"a": {"c": [1.5]}}},
]


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") and data[:2] != b"\x1f\x8b" else data)
    return folder


def release(folder: Path, output: Path, max_bad: float = 0.01, threads: int = 2, **more: Any) -> Account:
    bad_rows = output.with_name(output.name + ".bad_rows.parquet")
    return publish(folder, output, bad_rows, max_bad, threads, more.get("title"), more.get("licence"))


def table(output: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(output / "data" / f"{name}.parquet").to_pylist()


def content(output: Path) -> dict[str, bytes]:
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def bad_rows(output: Path) -> list[tuple[str, int, str]]:
    found = read_rows(output.with_name(output.name + ".bad_rows.parquet"), BAD_ROWS)
    return [(row["file"], row["line"], row["reason"]) for row in found]


FORMS = {
    "lines.jsonl": lines(ROWS),
    "packed.jsonl.gz": lines(ROWS),
    "windows.ndjson": "\ufeff" + lines(ROWS).replace("\n", "\r\n\r\n").rstrip(),
    "array.json": json.dumps(ROWS),
    "pretty_array.json.gz": "\ufeff \n" + json.dumps(ROWS, indent=2),
    "pretty.json": "\n".join(json.dumps(row, indent=4) for row in ROWS),
    "packed_pretty.ndjson.gz": "\n\n".join(json.dumps(row, indent=1) for row in ROWS) + "\n",
}


@pytest.mark.parametrize("block", [7, 100, 4 << 20])
@pytest.mark.parametrize("name", FORMS)
def test_all_forms_of_json_give_the_same_rows_wherever_they_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, block: int
) -> None:
    monkeypatch.setattr(blocks, "__defaults__", (None, block))
    folder = write(tmp_path / "in", {f"train/{name}": FORMS[name]})
    account = release(folder, tmp_path / "out", max_bad=0)
    assert (account.kept.count, account.taken.count) == (3, 3)
    names = {"role": None, "content": None, "name": None}
    assert table(tmp_path / "out", f"train_{name.split('.')[0]}") == [
        row
        | {"messages": [names | message for message in row["messages"]]}
        | {"meta": row["meta"] and {"a": {"b": None, "c": None} | row["meta"]["a"]}}
        for row in ROWS
    ]


def test_every_reader_opens_every_file_and_finds_the_same_rows(tmp_path: Path) -> None:
    import datasets
    import duckdb
    import pandas
    import polars

    odd = [{"n": None, "e": {}, "l": [], "s": {"n": None, "l": [[]]}, "x": 1}, {"l": [None], "x": 0.5}]
    expected = [
        {"n": None, "e": "{}", "l": [], "s": {"n": None, "l": [[]]}, "x": 1.0, "y": None},
        {"n": None, "e": None, "l": [None], "s": None, "x": 0.5, "y": None},
        {"n": None, "e": None, "l": None, "s": None, "x": None, "y": "y"},
    ]
    folder = write(
        tmp_path / "in", {"train/a.json": json.dumps(odd), "train/b.jsonl": '{"y": "y"}', "test/c.jsonl": lines(odd)}
    )
    out = tmp_path / "out"
    release(folder, out)
    assert table(out, "train_a") + table(out, "train_b") == expected
    paths = [str(out / "data" / f"train_{name}.parquet") for name in "ab"]
    assert [row for path in paths for row in polars.read_parquet(path).to_dicts()] == expected
    columns = list(expected[0])
    found = duckdb.sql(f"select * from read_parquet({paths})").fetchall()
    assert [dict(zip(columns, row, strict=True)) for row in found] == expected
    frame = pandas.concat([pandas.read_parquet(path) for path in paths])
    assert frame["y"].tolist()[2] == "y"
    assert frame["e"].tolist()[0] == "{}"
    assert frame["x"].tolist()[:2] == [1.0, 0.5]
    # The two splits have different columns: each is a config.
    for split, rows in (
        ("train", expected),
        ("test", [{k: v for k, v in row.items() if k != "y"} for row in expected[:2]]),
    ):
        loaded = datasets.load_dataset(str(out), split, split=split, cache_dir=str(tmp_path / "cache"))
        assert loaded.to_list() == rows


def test_the_card_loads_every_split_and_keeps_the_users_text(tmp_path: Path) -> None:
    import datasets

    files = {
        "train/a.jsonl": lines(ROWS),
        "train_extra/b.jsonl": lines(ROWS[:2]),
        "c.json": json.dumps(ROWS[:1]),
        "original_README.md": "---\ntags: [mine]\nconfigs: none\n---\n# My data\n\n--- so it is\n",
        "training.log": "loss 1\n",
        ".hidden.json": "no",
    }
    files["train_extra/b.jsonl"] = lines(ROWS)
    out = tmp_path / "out"
    release(write(tmp_path / "in", dict(files)), out, licence="cc-by-4.0")
    text = (out / "README.md").read_text()
    assert text.endswith("---\n\n# My data\n\n--- so it is\n")
    front = yaml.safe_load(text.split("---\n")[1])
    assert (front["tags"], front["license"], front["size_categories"]) == (["mine"], "cc-by-4.0", ["n<1K"])
    for split, count in (("train", 4), ("train_extra", 3)):
        name = [] if len(front["configs"]) == 1 else [split]
        loaded = datasets.load_dataset(str(out), *name, split=split, cache_dir=str(tmp_path / "cache"))
        assert loaded.num_rows == count
        assert loaded[0]["when"] == "2024-01-02"
    assert (out / "training.log").read_text() == "loss 1\n"
    assert (out / "json/train/c.json").read_text() == files["c.json"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["kind"], manifest["rows"]) == ("json_folder", {"train": 4, "train_extra": 3})
    expected = sorted(name for name in content(out) if name != "manifest.json" and not name.startswith("."))
    assert [entry["path"] for entry in manifest["release"]] == expected
    for entry in manifest["release"]:
        data = (out / entry["path"]).read_bytes()
        assert (entry["sha256"], entry["size"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert {entry["path"]: entry["rows"] for entry in manifest["release"] if "rows" in entry} == {
        "data/train_a.parquet": 3,
        "data/train_c.parquet": 1,
        "data/train_extra_b.parquet": 3,
    }


def test_rows_that_are_no_objects_are_set_aside_with_their_places(tmp_path: Path) -> None:
    bad = [
        b'{"a": NaN}',
        b'{"a": ',
        b"[1]",
        b'{"a": "\xff"}',
        b'{"a": 1, "a": 2}',
        b'{"a": "\\ud800"}',
        b'{"a": 1e999}',
        b'{"a": 1} {"a": 2}',
    ]
    good = [b'{"a": %d}' % number for number in range(92)]
    folder = write(tmp_path / "in", {"x.jsonl": b"\n".join(good[:50] + bad + [b""] + good[50:])})
    account = release(folder, tmp_path / "out", max_bad=0.08)
    account.check()
    assert (account.taken.count, account.kept.count) == (100, 92)
    reasons = [
        "not_a_number",
        "not_json",
        "not_an_object",
        "not_utf8",
        "key_twice",
        "not_utf8",
        "number_too_large",
        "not_json",
    ]
    assert bad_rows(tmp_path / "out") == [("x.jsonl", 51 + place, reason) for place, reason in enumerate(reasons)]
    assert table(tmp_path / "out", "train_x") == [{"a": number} for number in range(92)]
    with pytest.raises(
        InputError, match=r"x.jsonl: 8 of 100 rows cannot be read(.|\n)*51: not_a_number: \{\"a\": NaN\}(.|\n)*55: key"
    ) as error:
        release(folder, tmp_path / "out", max_bad=0.07)
    assert len(str(error.value).splitlines()) == 6


def test_an_array_and_pretty_objects_set_bad_elements_aside_too(tmp_path: Path) -> None:
    pretty = '{\n "a": 1\n}\n{\n "a": oh\n}\n{\n "a": 3\n}\n'
    folder = write(tmp_path / "in", {"x.json": '[{"a": 1}, 5, {"a": NaN}, {"a": 4}]', "y.json": pretty})
    release(folder, tmp_path / "out", max_bad=0.5)
    assert bad_rows(tmp_path / "out") == [
        ("x.json", 2, "not_an_object"),
        ("x.json", 3, "not_a_number"),
        ("y.json", 4, "not_json"),
    ]
    assert table(tmp_path / "out", "train_x") == [{"a": 1}, {"a": 4}]
    assert table(tmp_path / "out", "train_y") == [{"a": 1}, {"a": 3}]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jsonl": '{"a": 1}\n\n{"a": {"b": 1}}\n'}, r"a.jsonl: line .* 3: column a: an object, where an integer"),
        ({"a.jsonl": '{"m": [{"t": 1}]}', "b.json": '[{}, {"m": [{"t": "x"}]}]'}, r"2: column m.*t: text, .*a.jsonl"),
        ({"a.jsonl": '{"a": 1}\n{"a": 9223372036854775808}\n'}, r"a.jsonl: .* 2: column a: the integer 92233720368547"),
        ({"a.jsonl": '{"a": 9007199254740993}\n', "b.jsonl": '{"a": 0.5}\n'}, r"(a|b).jsonl: .* 1: column a"),
        ({"a.jsonl.gz": gzip.compress(lines(ROWS * 99).encode())[:-300]}, r"a.jsonl.gz: broken gzip"),
        ({"a.json": '[{"a": 1}, {"a": 2}'}, r"a.json: element 3: no comma"),
        ({"a.json": '[{"a": 1} {"a": 2}]'}, r"a.json: element 2: no comma"),
        ({"a.json": '[{"a": 1}, {"a" 2}]'}, r"a.json: element 2: the array is broken"),
        ({"a.json": "[]"}, "no row of the split train has a column"),
        ({"x/a.json": "{}", "x/a.jsonl.gz": "{}"}, r"a.json and .*a.jsonl.gz would both become data/x_a.parquet"),
        ({"x/y_a.json": "{}", "x_y/a.json": "{}"}, r"would both become data/x_y_a.parquet"),
        ({"x-y/a.json": "{}"}, "'x-y' can be no split's name"),
        ({"all/a.json": "{}"}, "'all' can be no split's name"),
        ({"a[1].json": "{}"}, "a file's name must be free of"),
        ({"notes.txt": "x"}, "no JSON files in it"),
    ],
)  # fmt: skip
def test_what_cannot_be_published_is_refused_with_its_place(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        release(write(tmp_path / "in", files), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_types_that_differ_far_apart_are_found_at_their_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "__defaults__", (None, 64))
    rows = lines([{"a": None}] * 100 + [{"a": 1}] * 100 + [{"a": [2]}] + [{"a": None}] * 100)
    with pytest.raises(InputError, match=r"x.jsonl: line \(or element\) 201: column a: a list, where an integer"):
        release(write(tmp_path / "in", {"x.jsonl": rows}), tmp_path / "out")


A, B, C = '{"x": 1}\n', '{"x": 2.5, "y": {"z": []}}\n', '{"y": {"z": ["t"], "w": null}, "x": null}\n'


@pytest.mark.parametrize("threads", [1, 5])
def test_after_any_history_the_release_is_that_of_a_fresh_run(tmp_path: Path, threads: int) -> None:
    states: list[dict[str, str | bytes]] = [
        {"train/a.jsonl": A, "test/a.jsonl": A},
        {"train/a.jsonl": A, "train/b.jsonl": B, "test/a.jsonl": A, "notes.md": "n"},
        {"train/a.jsonl": A, "train/b.jsonl": B, "train/c.json.gz": C, "original_README.log": "mine"},
        {"train/a.jsonl": A, "train/c.jsonl": C},
        {"train/a.jsonl": A},
        {"train/a.jsonl": A + A, "train/deep/a.jsonl": A},
    ]
    for number, state in enumerate(states):
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        folder = write(tmp_path / "in", state)
        release(folder, tmp_path / "out", threads=threads)
        release(folder, tmp_path / f"fresh{number}")
        assert content(tmp_path / "out") == content(tmp_path / f"fresh{number}")
        assert (tmp_path / "out.bad_rows.parquet").read_bytes() == (
            tmp_path / f"fresh{number}.bad_rows.parquet"
        ).read_bytes()


def test_only_what_changed_is_written_again(tmp_path: Path) -> None:
    bad = "oh\n" + '{"x": 3}\n' * 200
    folder = write(tmp_path / "in", {"train/a.jsonl": A, "train/b.jsonl": B, "test/c.jsonl": bad})
    out = tmp_path / "out"
    release(folder, out)
    names = ("data/train_a.parquet", "data/train_b.parquet", "data/test_c.parquet", "json/train/a.jsonl")

    def written() -> list[int]:
        return [(out / name).stat().st_ino for name in names]

    first = written()
    # The same content under a new time is no change.
    os.utime(folder / "train/a.jsonl", (1, 1))
    write(folder, {"train/b.jsonl": B + B})
    account = release(folder, out)
    assert [one == other for one, other in zip(first, written(), strict=True)] == [True, False, True, True]
    assert (account.taken.count, account.kept.count, bad_rows(out)) == (204, 203, [("test/c.jsonl", 1, "not_json")])
    # A column more in one file is a column more in all of its split.
    second = written()
    write(folder, {"train/b.jsonl": C})
    release(folder, out)
    assert [one == other for one, other in zip(second, written(), strict=True)] == [False, False, True, True]
    # What somebody broke is made anew.
    whole = content(out)
    (out / "data/test_c.parquet").write_bytes(b"oh")
    (out / "json/train/a.jsonl").unlink()
    release(folder, out)
    assert content(out) == whole


def test_a_file_whose_columns_change_on_the_way_is_written_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "__defaults__", (None, 256))
    monkeypatch.setattr(json_parquet, "ROW_GROUP_BYTES", 600)
    rows = [{"a": n if n < 150 else n + 0.5} | ({"b": {"c": [str(n)]}} if n > 180 else {}) for n in range(200)]
    folder = write(tmp_path / "in", {"x.jsonl": lines(rows)})
    release(folder, tmp_path / "out", threads=4)
    assert table(tmp_path / "out", "train_x") == [{"b": None} | row for row in rows]
    release(folder, tmp_path / "one", threads=1)
    assert content(tmp_path / "one") == content(tmp_path / "out")
    metadata = pq.read_metadata(tmp_path / "out/data/train_x.parquet")
    assert metadata.num_row_groups > 3
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert metadata.row_group(0).column(0).has_column_index


def test_a_run_that_was_killed_is_ended_by_the_next_one(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"train/{n}.jsonl": lines([{"n": n, "t": "word " * 50}] * 3000) for n in range(8)}
    files["train/7.jsonl"] = lines([{"n": 0.5, "new": None}])
    folder = write(tmp_path / "in", files)
    release(folder, tmp_path / "fresh")
    command = [
        sys.executable,
        str(SCRIPTS / "json_to_parquet.py"),
        "--folder",
        str(folder),
        "--output",
        str(tmp_path / "out"),
    ]
    killed = 0
    for wait in (1, 3, 5, 7):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list((tmp_path / "out").glob("data/*"))) < wait:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        # Without a manifest nobody takes what is there for a release; with one, all of it is there, also where the
        # kill came between the manifest and the end of the program.
        if (tmp_path / "out/manifest.json").exists():
            for entry in json.loads((tmp_path / "out/manifest.json").read_text())["release"]:
                assert hashlib.sha256((tmp_path / "out" / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
        if wait == 3:
            write(folder, {"gone.jsonl": A})
        else:
            (folder / "gone.jsonl").unlink(missing_ok=True)
    assert killed
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_the_program_says_what_it_kept_and_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", {"a.jsonl": "oh\n" + A * 199, "b.csv": "x", "original_README": "# T"})
    result = call_program("json_to_parquet.py", "--folder", folder, "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "199 of 200 rows kept; set aside in" in result.stderr
    assert "b.csv: is no JSON file" in result.stderr
    result = call_program("json_to_parquet.py", "--folder", folder, "--output", tmp_path / "out", "--max-bad", 0)
    assert result.returncode == 1
    assert "line (or element) 1: not_json: oh" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", {"a.jsonl": A})
    other = write(tmp_path / "home", {"thesis.md": "x"})
    with pytest.raises(InputError, match="is not empty, and no release"):
        release(folder, other)
    assert content(other) == {"thesis.md": b"x"}
    for output in (folder / "out", tmp_path, folder):
        with pytest.raises(InputError, match="must not lie within"):
            release(folder, output)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=2), VALUES, max_size=3), max_size=6),
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
)
def test_whatever_the_values_and_cuts_all_rows_are_found(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], size: int, array: bool, ascii_only: bool
) -> None:
    # One that begins with an object on a line is one of lines.
    assume(array or not rows or rows[0])
    path = tmp_path_factory.mktemp("json", numbered=True) / "x.json"
    dumped = [json.dumps(row, ensure_ascii=ascii_only, indent=1) for row in rows]
    path.write_text("[" + ",".join(dumped) + "]" if array else "\n".join(dumped), encoding="utf-8")
    found = [json_files.value_of(*row) for block in blocks(path, size=size) for row in block.places()]
    assert found == rows
    assert not [bad for block in blocks(path, size=size) for bad in block.bad]
    assert not any(isinstance(value, BadJson) for value in found)


def test_hidden_files_are_passed_over_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(tmp_path / "in", {"a.jsonl": A, ".b.json": "oh", ".git/c.json": "oh", "train/.d.txt": "oh"})
    with caplog.at_level(logging.WARNING, "corpusmith"):
        assert release(folder, tmp_path / "out").kept.count == 1
    assert not caplog.records


@pytest.mark.parametrize("line", ['{"a": 1} {"a": 2}', '{"a":\n1}'])
def test_a_line_is_one_row_even_where_arrow_would_read_more_or_less(tmp_path: Path, line: str) -> None:
    folder = write(tmp_path / "in", {"x.jsonl": f'{{"a": 0}}\n{line}\n{{"a": 3}}\n'})
    release(folder, tmp_path / "out", max_bad=0.5)
    assert table(tmp_path / "out", "train_x") == [{"a": 0}, {"a": 3}]
    assert bad_rows(tmp_path / "out")[0] == ("x.jsonl", 2, "not_json")
