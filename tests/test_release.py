"""A release of a small build whose every row is known: what lies in it, and what keeps it from being made."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from corpusmith import hub_parquet, layout, line_files
from corpusmith.config import resolve_config
from corpusmith.errors import InputError
from corpusmith.files import read_json, write_json
from corpusmith.identity import item_id, shard_names
from corpusmith.provenance import commit_of
from corpusmith.released import RELEASED as RELEASED_TABLE
from corpusmith.released import TOP_K
from corpusmith.run_stats import write_run_stats
from corpusmith.table_files import read_rows, row_count, write_table
from corpusmith.tables import DROPPED, FILTERED, REJECTED, SEGMENTS, Table
from small_build import (
    NAME,
    RELEASED,
    ROOT,
    SOURCES,
    SPLITS,
    TARGETS,
    Made,
    all_bytes,
    config_of,
    expected_rows,
    front_matter,
    in_order,
    judge_and_split,
    load,
    make,
)
from translation_tables import Answer, call_program, run_program


@pytest.fixture(scope="session")
def unreleased(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def released(unreleased: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = unreleased.copy(tmp_path_factory.mktemp("released"))
    assert made.write() == 9
    return made


@pytest.fixture
def made(unreleased: Made, tmp_path: Path) -> Made:
    return unreleased.copy(tmp_path)


# --- what lies in a release ---


def json_lines(path: Path) -> list[dict[str, Any]]:
    *lines, end = path.read_bytes().split(b"\n")
    assert end == b""
    assert not any(line.endswith(b"\r") for line in lines)
    return [json.loads(line) for line in lines]


def test_the_splits_hold_the_known_rows_as_parquet_and_as_json_lines(released: Made) -> None:
    parquet = {
        split: pq.read_table(released.release / "data" / f"{split}-00000-of-00001.parquet").to_pylist()
        for split in SPLITS
    }
    # 6 tenths of 9 rows.
    assert [len(parquet[split]) for split in ("train", "test")] == [5, 4]
    assert in_order(parquet["train"] + parquet["test"]) == expected_rows()
    for split in SPLITS:
        assert json_lines(released.release / "json" / f"{split}.jsonl") == parquet[split]


def test_top_k_holds_the_best_distinct_answers_of_every_released_row(released: Made) -> None:
    tables = [pq.read_table(released.release / "top_k" / f"{split}-00000-of-00001.parquet") for split in SPLITS]
    rows = in_order([row for table in tables for row in table.to_pylist()])
    assert [row["source"] for row in rows] == [SOURCES[number] for number in RELEASED]
    for number, row in zip(RELEASED, rows, strict=True):
        assert row["top_k"] == [
            {"sample": 1, "text": TARGETS[number], "score": number / 100},
            {"sample": 2, "text": TARGETS[number] + " ", "score": number / 100 + 1},
        ]


def test_stats_count_every_stage_in_order(released: Made) -> None:
    def stage(name: str, taken: int, kept: int, *tokens: int, unit: str = "items", **dropped: int) -> dict[str, Any]:
        prompt, completion = tokens or (0, 0)
        counts = {"in": taken, "kept": kept, "dropped": dropped}
        return {"stage": name, "unit": unit, **counts, "prompt_tokens": prompt, "completion_tokens": completion}

    expected = [
        stage("read", 9, 8, unit="documents", not_json=1),
        stage("sample", 50, 24, unit="segments", not_drawn=20, outside_buckets=6),
        stage("prefilter/generate", 24, 24, 48 * 7, 48 * 3),
        stage("prefilter/score", 24, 24),
        stage("prefilter/select", 24, 16, answer_cut_off=1, gain_too_small=6, no_answer=1),
        stage("final/generate", 16, 16, 48 * 7, 48 * 3),
        stage("final/score", 16, 16),
        stage("final/select", 16, 14, answer_cut_off=1, no_answer=1),
        stage("filter", 14, 11, max_score=1, numbers=2),
        stage("filter-judge/generate", 11, 11, 11 * 7, 11 * 3),
        stage("judge", 11, 9, judge=1, no_verdict=1),
        stage("release", 9, 9),
    ]
    assert read_json(released.stats) == expected


def test_the_manifest_lists_every_file_with_its_checksum_and_rows(released: Made) -> None:
    manifest = read_json(released.release / "manifest.json")
    assert (manifest["dataset"], manifest["recipe"], manifest["rows"]) == (NAME, "translation", {"train": 5, "test": 4})
    tables = {path.relative_to(released.folder).as_posix() for path in released.folder.rglob("*.parquet")}
    assert {entry["path"] for entry in manifest["files"]} == {
        path for path in tables if not path.startswith("release/")
    }
    files = {path.relative_to(released.release).as_posix() for path in released.release.rglob("*") if path.is_file()}
    assert [entry["path"] for entry in manifest["release"]] == sorted(files - {"manifest.json"})
    assert len(files) == 11
    assert {"assets/scores.png", "croissant.json"} < files
    for folder, entries in ((released.folder, manifest["files"]), (released.release, manifest["release"])):
        for entry in entries:
            path = folder / entry["path"]
            assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            assert entry["size"] == len(path.read_bytes())
            if path.suffix == ".parquet":
                assert entry["rows"] == pq.read_table(path).num_rows
            elif path.suffix == ".jsonl":
                assert entry["rows"] == len(json_lines(path))
            else:
                assert "rows" not in entry
    assert manifest["stages"] == read_json(released.stats)


def test_the_manifest_names_models_environments_and_commit(released: Made) -> None:
    manifest = read_json(released.release / "manifest.json")
    assert list(manifest["models"]) == ["teacher", "metric", "judge"]
    assert manifest["models"]["metric"] == {
        "identity": "id-metric",
        "origin": "hub",
        "repo": "someone/metric",
        "revision": "ab12",
        "parameters": 7,
        "dtype": "float32",
    }
    (environment,) = manifest["environments"]
    text = (ROOT / "envs" / "data.yaml").read_text()
    assert (environment["name"], environment["sha256"]) == ("data", hashlib.sha256(text.encode()).hexdigest())
    assert all(pin in text for pin in environment["pins"])
    assert any(pin.startswith("pyarrow==") for pin in environment["pins"])
    assert manifest["commit"] == commit_of(ROOT)


def test_the_resolved_config_is_one_that_rebuilds_the_release(released: Made) -> None:
    found = yaml.safe_load((released.release / "resolved_config.yaml").read_text(encoding="utf-8"))
    # An evaluation says what a release is like, and changes none; nor does it where it is published.
    left_out = ("evaluation", "publish")
    dataset = {key: value for key, value in released.config["datasets"][NAME].items() if key not in left_out}
    assert found["datasets"] == {NAME: dataset}
    assert layout.release_config(resolve_config(found), NAME) == found
    # How fast things run determines nothing.
    assert released.config["models"]["teacher"]["batch_size"] == 3
    assert "batch_size" not in found["models"]["teacher"]


# --- loading it ---


def test_datasets_loads_the_splits_with_their_rows_and_types(released: Made, tmp_path: Path) -> None:
    found = load([released.release], tmp_path)[str(released.release)]
    types = {"item_id": "string", "source": "string", "target": "string"}
    types |= {"score": "float64", "mean_score": "float64", "candidates": "int32"}
    assert {split: len(value["rows"]) for split, value in found.items()} == {"train": 5, "test": 4}
    assert all(value["types"] == types for value in found.values())
    assert in_order(found["train"]["rows"] + found["test"]["rows"]) == expected_rows()


def test_a_split_without_rows_is_left_out_and_the_others_can_be_loaded(made: Made, tmp_path: Path) -> None:
    rows = list(read_rows(made.folder / "judged" / "kept.parquet", FILTERED))
    write_table(made.folder / "filtered" / "train.parquet", FILTERED, rows)
    write_table(made.folder / "filtered" / "test.parquet", FILTERED, [])
    assert made.write() == 9
    assert read_json(made.release / "manifest.json")["rows"] == {"train": 9, "test": 0}
    front, _ = front_matter(made.release / "README.md")
    assert [entry["split"] for entry in front["configs"][0]["data_files"]] == ["train"]
    assert [path.name for path in (made.release / "data").iterdir()] == ["train-00000-of-00001.parquet"]
    found = load([made.release], tmp_path / "home")[str(made.release)]
    assert in_order(found["train"]["rows"]) == expected_rows()
    assert list(found) == ["train"]


def test_a_large_split_is_cut_into_files_without_losing_a_row(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file ends with the rows that reach its size, and sizes are looked at every two rows: 2, 2 and 1.
    monkeypatch.setattr(hub_parquet, "BYTES_PER_FILE", 1)
    for table in (RELEASED_TABLE, TOP_K):
        monkeypatch.setattr(table, "row_group", 2)
    made.write()
    whole = json_lines(made.release / "json" / "train.jsonl")
    for folder in ("data", "top_k"):
        files = sorted((made.release / folder).glob("train-*"))
        assert [path.name for path in files] == [f"train-0000{number}-of-00003.parquet" for number in range(3)]
        assert [pq.read_table(path).num_rows for path in files] == [2, 2, 1]
        rows = pa.concat_tables(map(pq.read_table, files)).to_pylist()
        assert [row["item_id"] for row in rows] == [row["item_id"] for row in whole]
        if folder == "data":
            assert rows == whole
    assert [row["item_id"] for row in whole] == [
        row["item_id"] for row in read_rows(made.folder / "filtered" / "train.parquet", FILTERED)
    ]


# --- the same bytes, and nothing of the machine ---


def test_the_program_gives_the_same_bytes_in_any_folder_and_order_and_tells_no_secret(
    unreleased: Made, released: Made, tmp_path: Path
) -> None:
    secrets = {"HF_TOKEN": "hf_pkWxyzzy123", "OPENAI_API_KEY": "sk-plughplugh", "MY_OWN_KEY": "twelve-pears-at-dawn"}
    found = []
    for number, name in enumerate(("here", "or/over there")):
        made = unreleased.copy(tmp_path / name, random.Random(number))
        # Something else that lies about.
        write_json(made.folder / "sources" / "summary.json", {"number": number})
        settings = {"PYTHONHASHSEED": str(number), "TZ": ("UTC", "Asia/Seoul")[number], "LC_ALL": "C"}
        result = run_program("release_dataset.py", *made.flags(), env={**os.environ, **secrets, **settings})
        assert "released 9 rows" in result.stderr
        found.append(all_bytes(made.release) | {"stats.json": made.stats.read_bytes()})
    assert found[0] == found[1]
    assert found[0] == all_bytes(released.release) | {"stats.json": released.stats.read_bytes()}
    for path, content in found[0].items():
        text = content
        if path.endswith(".parquet"):
            table = pq.read_table(tmp_path / "here" / "dataset" / "release" / path)
            text = repr((table.to_pylist(), table.schema.metadata)).encode()
        for hidden in (*secrets.values(), str(tmp_path), str(unreleased.folder)):
            assert hidden.encode() not in text


def test_a_release_takes_the_place_of_an_older_one_whole(made: Made, released: Made) -> None:
    (made.release / "data").mkdir(parents=True)
    (made.release / "data" / "train-00000-of-00009.parquet").write_bytes(b"old")
    made.write()
    assert all_bytes(made.release) == all_bytes(released.release)


# --- rows that are unaccounted for ---


def change_table(path: Path, table: Table, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    rows = list(read_rows(path, table))
    change(rows)
    write_table(path, table, rows)


def drop(rows: list[dict[str, Any]]) -> None:
    del rows[-1]


def duplicate(rows: list[dict[str, Any]]) -> None:
    rows.append(rows[0])


def exchange(rows: list[dict[str, Any]]) -> None:
    rows[0]["item_id"] = item_id("another one")


def duplicate_and_drop(rows: list[dict[str, Any]]) -> None:
    rows[-1] = rows[0] | {"item_id": rows[-2]["item_id"]}


COUNTED = {
    "sources/segments": SEGMENTS,
    "prefilter/dropped": DROPPED,
    "filtered/train": FILTERED,
    "filtered/test": FILTERED,
    "filtered/rejected": REJECTED,
}


@pytest.mark.parametrize("change", [drop, duplicate, exchange, duplicate_and_drop])
@pytest.mark.parametrize("name", COUNTED)
def test_a_changed_table_fails_the_release(made: Made, name: str, change: Callable[[Any], Any]) -> None:
    change_table(made.folder / f"{name}.parquet", COUNTED[name], change)
    with pytest.raises(InputError, match="rows are unaccounted for"):
        made.write()
    assert not made.release.exists()
    assert not made.stats.exists()


@pytest.mark.parametrize("change", [drop, duplicate, exchange])
def test_a_changed_shard_of_dropped_items_fails_the_release(made: Made, change: Callable[[Any], Any]) -> None:
    paths = [made.folder / "final" / "dropped" / f"{shard}.parquet" for shard in shard_names(2)]
    change_table(next(path for path in paths if row_count(path)), DROPPED, change)
    with pytest.raises(InputError, match="the pool has 24, the release and everything that was dropped have"):
        made.write()


def test_a_row_in_two_splits_fails_the_release(made: Made) -> None:
    row = next(read_rows(made.folder / "filtered" / "train.parquet", FILTERED))
    change_table(made.folder / "filtered" / "test.parquet", FILTERED, lambda rows: rows.append(row))
    with pytest.raises(InputError, match="between judge and release: 9 kept, 10 taken in"):
        made.write()


def test_a_row_that_is_released_and_rejected_fails_the_release(made: Made) -> None:
    def release_it(rows: list[dict[str, Any]]) -> None:
        rows[0]["item_id"] = next(read_rows(made.folder / "filtered" / "train.parquet", FILTERED))["item_id"]

    change_table(made.folder / "filtered" / "rejected.parquet", REJECTED, release_it)
    with pytest.raises(InputError, match="have 24, not the same ones"):
        made.write()


def change_account(path: Path, **values: Any) -> None:
    account = read_json(path)
    for name, value in values.items():
        account[name] = value(account[name])
    write_json(path, account)


def more(number: int) -> int:
    return number + 1


ACCOUNTS = {
    "sources/sample": "sample",
    "prefilter/completions/0000-of-0002": "prefilter/generate",
    "prefilter/scores/0001-of-0002": "prefilter/score",
    "prefilter/select": "prefilter/select",
    "final/completions/0001-of-0002": "final/generate",
    "final/scores/0000-of-0002": "final/score",
    "final/selected/0000-of-0002": "final/select",
    "checked": "filter",
    "filter-judge/completions/0000-of-0001": "filter-judge/generate",
    "judged": "judge",
}


@pytest.mark.parametrize("name", ACCOUNTS)
def test_an_account_that_does_not_add_up_fails_the_release(made: Made, name: str) -> None:
    change_account(made.folder / f"{name}.account.json", kept=more)
    with pytest.raises(InputError, match=f"stage {ACCOUNTS[name]}: .* came in, but .* were kept"):
        made.write()
    assert not made.release.exists()


@pytest.mark.parametrize("name", ACCOUNTS)
def test_an_account_of_more_rows_than_there_were_fails_the_release(made: Made, name: str) -> None:
    change_account(made.folder / f"{name}.account.json", kept=more, **{"in": more})
    with pytest.raises(InputError, match=f"rows are unaccounted for between .*{ACCOUNTS[name]}"):
        made.write()


def test_an_account_of_other_rows_fails_the_release(made: Made) -> None:
    other = item_id("another one")
    change_account(made.folder / "judged.account.json", ids=lambda ids: ids | {"kept": other})
    with pytest.raises(InputError, match="stage judge: the items that came out are not those that came in"):
        made.write()


def test_an_account_of_as_many_other_rows_fails_the_release(made: Made) -> None:
    others = {"taken": item_id("another one"), "kept": item_id("another one")}
    change_account(made.folder / "final" / "scores" / "0000-of-0002.account.json", ids=lambda ids: ids | others)
    with pytest.raises(InputError, match=r"final/generate and final/score: .*\(as many, but not the same ones\)"):
        made.write()


def test_the_account_of_another_shard_fails_the_release(made: Made) -> None:
    accounts = [made.folder / "final" / "scores" / f"{shard}.account.json" for shard in shard_names(2)]
    shutil.copyfile(*accounts)
    with pytest.raises(InputError, match="between final/generate and final/score"):
        made.write()


def test_a_missing_account_is_one_line_that_names_it(made: Made) -> None:
    (made.folder / "judged.account.json").unlink()
    result = call_program("release_dataset.py", *made.flags())
    assert result.returncode == 1
    assert "judged.account.json" in result.stderr
    assert "Traceback" not in result.stderr
    assert not made.release.exists()


# --- too few rows ---


def test_an_empty_release_fails_and_says_which_stage_dropped_what(made: Made) -> None:
    judge_and_split(made.folder, lambda _: Answer(None, "bad"))
    result = call_program("release_dataset.py", *made.flags())
    assert result.returncode == 1
    error, *way_down, hint = result.stderr[result.stderr.index("error: ") :].strip().splitlines()
    assert error.startswith(f"error: {NAME}: 0 rows passed, the release asks for at least 1")
    assert [line.strip() for line in way_down] == [
        "read: 9 documents in, 8 kept (not_json 1)",
        "sample: 50 segments in, 24 kept (not_drawn 20, outside_buckets 6)",
        "prefilter/generate: 24 items in, 24 kept",
        "prefilter/score: 24 items in, 24 kept",
        "prefilter/select: 24 items in, 16 kept (gain_too_small 6, answer_cut_off 1, no_answer 1)",
        "final/generate: 16 items in, 16 kept",
        "final/score: 16 items in, 16 kept",
        "final/select: 16 items in, 14 kept (answer_cut_off 1, no_answer 1)",
        "filter: 14 items in, 11 kept (numbers 2, max_score 1)",
        "filter-judge/generate: 11 items in, 11 kept",
        "judge: 11 items in, 0 kept (judge 11)",
    ]
    assert hint.endswith("dataset/filtered/rejected.parquet")
    assert not made.release.exists()
    assert not made.stats.exists()


def test_the_config_may_ask_for_more_rows(made: Made) -> None:
    made.config = config_of(SPLITS, minimum=9)
    assert made.write() == 9
    made.config = config_of(SPLITS, minimum=10)
    with pytest.raises(InputError, match=r"9 rows passed, the release asks for at least 10 \(release.minimum_rows\)"):
        made.write()
    # A try asks for one.
    made.config = made.config | {"limit": 12}
    assert made.write() == 9


# --- the commit ---


def test_the_commit_says_whether_tracked_files_differ(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert commit_of(tmp_path) == {"id": None, "modified": None}
    git("init")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("1")
    git("add", "scripts", "b.py")
    git("commit", "-m", "first")
    (tmp_path / "results").write_text("not tracked")
    assert commit_of(tmp_path / "scripts") == {"id": git("rev-parse", "HEAD"), "modified": False}
    (tmp_path / "b.py").write_text("2")
    assert commit_of(tmp_path / "scripts") == {"id": git("rev-parse", "HEAD"), "modified": True}


# --- run stats ---


def test_run_stats_add_up_over_the_shards_of_each_stage(tmp_path: Path) -> None:
    numbers = {
        "prefilter/completions/0000-of-0002": ("prefilter/generate", 600, 10, 1, 2, 8.0),
        "prefilter/completions/0001-of-0002": ("prefilter/generate", 300, 0, 3, 0, 4.0),
        "prefilter/scores/0000-of-0001": ("prefilter/score", 0, 40, 0, 0, 0.0),
        "final/completions/0000-of-0001": ("final/generate", 100, 0, 0, 0, 3.0),
    }
    for name, (stage, asked, from_store, failed, retries, seconds) in numbers.items():
        path = tmp_path / f"{name}.run-stats.json"
        counts = {"asked": asked, "from_store": from_store, "failed": failed, "retries": retries}
        write_run_stats(path, stage, **counts, seconds=seconds)
    run_program(
        *("collect_run_stats.py", "--dataset", tmp_path, "--run-stats", tmp_path / "run-stats.json", "--tables"),
        *("prefilter/completions=2", "prefilter/scores=1", "final/completions=1"),
    )

    def entry(stage: str, *values: float) -> dict[str, Any]:
        names = ("asked", "from_store", "failed", "retries", "seconds", "items_per_second")
        return {"stage": stage, **dict(zip(names, values, strict=True))}

    assert read_json(tmp_path / "run-stats.json") == [
        entry("prefilter/generate", 900, 10, 4, 2, 12.0, 75.0),
        entry("prefilter/score", 0, 40, 0, 0, 0.0, 0.0),
        entry("final/generate", 100, 0, 0, 0, 3.0, 33.3),
    ]


def test_json_lines_begin_a_new_file_where_one_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_files, "BYTES_PER_FILE", 30)
    rows = [{"text": "x" * size} for size in (3, 3, 50, 3)]
    with line_files.LineFiles(tmp_path, "train") as lines:
        for row in rows:
            lines.write(row)
    found = {path.name: path.read_text().splitlines() for path in sorted(tmp_path.iterdir())}
    assert list(found) == ["train-00001.jsonl", "train-00002.jsonl", "train-00003.jsonl", "train.jsonl"]
    order = ["train.jsonl", "train-00001.jsonl", "train-00002.jsonl", "train-00003.jsonl"]
    assert [json.loads(line) for name in order for line in found[name]] == rows
