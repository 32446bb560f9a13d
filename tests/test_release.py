"""A release of a small build whose every row is known: what lies in it, and what keeps it from being made."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from corpusmith import layout, release
from corpusmith.accounting import Account
from corpusmith.config import resolve_config
from corpusmith.errors import InputError
from corpusmith.files import read_json, write_json
from corpusmith.generation import tally_items
from corpusmith.identity import item_id, shard_names
from corpusmith.judging import apply_verdicts, judge_requests
from corpusmith.release import Build, commit_of, size_category, write_release
from corpusmith.run_stats import write_run_stats
from corpusmith.tables import (
    BAD_ROWS,
    DROPPED,
    FILTERED,
    REJECTED,
    REQUESTS,
    ROWS,
    SEGMENTS,
    SELECTED_SOURCES,
    Table,
    read_rows,
    row_count,
    write_table,
)
from corpusmith.toy.translation import Clause, Sentence, english, korean
from corpusmith.translation import Asking, Language, select_best, select_sources, translation_requests
from translation_tables import FAILED, Answer, Answers, call_program, run_program, segment, write_answers

ROOT = Path(__file__).resolve().parent.parent
NAME = "mini"
LANGUAGES = (Language("English", "en"), Language("Korean", "ko"))
JUDGE = {"model": "judge", "prompt": "p.txt", "verdicts": ["good", "bad"], "accept": ["good"], "shards": 1}
SPLITS = {"train": 0.6, "test": 0.4}

# --- a build, made by the real programs around hand-made answers ---
#
# 24 sources. 0 and 1 have no whole answers; of the others the 16 with the largest gain are kept, 8 to 23. All answers
# to 8 are cut off, all to 9 fail; the best ones to 10 and 11 have a wrong number; 12 scores badly; the judge says no to
# 13 and nothing to 14. So 15 to 23 are released.

RELEASED = range(15, 24)


def sentence(number: int, shift: int = 0) -> Sentence:
    names = ("Mina", "Minjun", "Suyeon")
    return Sentence("", names[number % 3], "", (Clause("sold", 21 + number + shift, "pears"),), " and ")


SOURCES = [english(sentence(number)) for number in range(24)]
TARGETS = [korean(sentence(number)) for number in range(24)]


def prefilter_answers(number: int) -> dict[str, list[Answer]]:
    pair = {"greedy": [Answer(20.0)], "sampled": [Answer(20.0 - number / 2)]}
    faults = {0: {"greedy": [FAILED]}, 1: {"sampled": [Answer(0.0, finish_reason="length")]}}
    return pair | faults.get(number, {})


def final_answers(number: int) -> list[Answer]:
    if number == 8:
        return [Answer(0.0, TARGETS[number], finish_reason="length")] * 3
    if number == 9:
        return [FAILED] * 3
    best = korean(sentence(number, shift=1000)) if number in (10, 11) else TARGETS[number]
    score = 6.0 if number == 12 else number / 100
    return [Answer(9.0, "배."), Answer(score, best), Answer(score + 1, best + " ")]


def verdict(number: int) -> Answer:
    return {13: Answer(None, "bad"), 14: FAILED}.get(number, Answer(None, "good"))


def config_of(splits: Mapping[str, float], minimum: int = 1) -> dict[str, Any]:
    step = {"model": "teacher", "scorer": "metric", "prompt": "p.txt", "shards": 2}
    entry = {
        "recipe": "translation",
        "source_language": {"code": "en", "name": "English"},
        "target_language": {"code": "ko", "name": "Korean"},
        "sources": {"files": ["*.jsonl.gz"], "pool": 24},
        "prefilter": step | {"keep": 16},
        "final": step | {"n": 3, "keep_top": 2},
        "filter": {"judge": JUDGE},
        "splits": dict(splits),
        "release": {
            "title": "Pears: sold – 배",
            "licence": "cc-by-4.0",
            "description": "Small, {{ but }} complete.",
            "minimum_rows": minimum,
        },
    }
    model = {"engine": "transformers", "repo": "someone/something", "device": "cpu", "batch_size": 3}
    return resolve_config(
        {
            "models": {"teacher": model, "judge": model},
            "scorers": {"metric": {"metric": "metricx-24", "repo": "someone/metric", "device": "cpu"}},
            "datasets": {NAME: entry},
        }
    )


@dataclass
class Made:
    """A build in a folder."""

    folder: Path
    config: dict[str, Any]
    release: Path = field(init=False)
    stats: Path = field(init=False)

    def __post_init__(self) -> None:
        self.release, self.stats = self.folder / "release", self.folder / "stats.json"

    @property
    def build(self) -> Build:
        return Build(
            name=NAME,
            folder=self.folder,
            stages=layout.stages(self.config, NAME),
            tables=layout.tables(self.config, NAME),
            dropped=layout.dropped(self.config, NAME),
            pool=self.folder / "sources" / "segments.parquet",
            card=ROOT / layout.card_of(self.config, NAME),
            splits={
                split: self.folder / "filtered" / f"{split}.parquet"
                for split in self.config["datasets"][NAME]["splits"]
            },
            config=layout.release_config(self.config, NAME),
            models={name: self.folder.parent / f"{name}.json" for name in ("teacher", "metric", "judge")},
            environments=[ROOT / "envs" / "data.yaml"],
        )

    def write(self) -> int:
        return write_release(self.build, self.release, self.stats)

    def flags(self) -> list[Any]:
        """The same as flags of the program."""
        build = self.build
        models = [f"{name}={path}" for name, path in build.models.items()]
        return [
            *("--dataset", NAME, "--folder", self.folder, "--config", json.dumps(build.config)),
            *("--stages", *build.stages, "--tables", *build.tables, "--dropped", *build.dropped),
            *("--pool", build.pool, "--card", build.card, "--splits", *build.splits, "--models", *models),
            *("--environments", *build.environments),
            *("--manifest", self.release / "manifest.json", "--stats", self.stats),
        ]

    def copy(self, parent: Path, order: random.Random | None = None) -> Made:
        """The build in another folder, its files made in another order."""
        files = sorted(path for path in self.folder.parent.rglob("*") if path.is_file())
        if order is not None:
            order.shuffle(files)
        for path in files:
            target = parent / path.relative_to(self.folder.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return Made(parent / self.folder.name, self.config)


def make(parent: Path) -> Made:
    """Makes the build, as far as the release."""
    made = Made(parent / "dataset", config_of(SPLITS))
    folder, numbers = made.folder, {item_id(text): number for number, text in enumerate(SOURCES)}
    for name in ("teacher", "metric", "judge"):
        receipt = {
            "name": name,
            "origin": "hub",
            "repo": f"someone/{name}",
            "revision": "ab12",
            "identity": f"id-{name}",
        }
        write_json(parent / f"{name}.json", receipt | {"parameters": 7, "dtype": "float32", "files": [], "folder": "f"})

    sources = folder / "sources"
    write_table(sources / "segments.parquet", SEGMENTS, map(segment, SOURCES))
    bad_row = {"file": "a.jsonl.gz", "line": 3, "reason": "not_json", "excerpt": "{"}
    write_table(sources / "bad_rows.parquet", BAD_ROWS, [bad_row])
    for account, taken, kept, reasons in (
        (Account("read", "documents"), 9, 8, {"not_json": 1}),
        (Account("sample", "segments"), 50, 24, {"not_drawn": 20, "outside_buckets": 6}),
    ):
        account.taken.count, account.kept.count, account.dropped.count = taken, kept, taken - kept
        account.reasons.update(reasons)
        account.write(sources / f"{account.stage}.account.json")

    def ask(step: str, rows: Path, table: Table, greedy: bool, n: int, answers: Answers) -> list[tuple[Path, Path]]:
        asking = Asking(n=n, greedy=greedy, temperature=1.0, top_p=1.0, top_k=0, max_tokens=20)
        for shard in shard_names(2):
            texts = read_rows(rows, table, ["item_id", "text"])
            requests = translation_requests(texts, shard, lambda text, **_: text, LANGUAGES, asking)
            write_table(folder / step / "requests" / f"{shard}.parquet", REQUESTS, requests)
        tables = write_answers(folder / step, answers, 2)
        account_for_answers(folder, step, ("generate", "score"), 2)
        return tables

    answers: dict[str, Any] = {item: prefilter_answers(number) for item, number in numbers.items()}
    tables = ask("prefilter", sources / "segments.parquet", SEGMENTS, True, 1, answers)
    account = Account("prefilter/select")
    select_sources(
        *(sources / "segments.parquet", tables, 16, folder / "final" / "sources.parquet"),
        *(folder / "prefilter" / "dropped.parquet", account),
    )
    account.write(folder / "prefilter" / "select.account.json")

    kept = [row["item_id"] for row in read_rows(folder / "final" / "sources.parquet", SELECTED_SOURCES)]
    answers = {item: {"sampled": final_answers(numbers[item])} for item in kept}
    tables = ask("final", folder / "final" / "sources.parquet", SELECTED_SOURCES, False, 3, answers)
    for shard, (completions, scores) in zip(shard_names(2), tables, strict=True):
        account = Account("final/select")
        paths = [folder / "final" / kind / f"{shard}.parquet" for kind in ("requests", "selected", "dropped")]
        select_best(paths[0], completions, scores, 2, paths[1], paths[2], account)
        account.write(folder / "final" / "selected" / f"{shard}.account.json")

    checked = folder / "checked"
    run_program(
        *("filter_translations.py", "--selected", folder / "final" / "selected", "--shards", 2),
        *("--source-language", "en", "--target-language", "ko", "--kept", checked / "kept.parquet"),
        *("--rejected", checked / "rejected.parquet", "--account", folder / "checked.account.json"),
    )
    judge_and_split(folder, verdict)
    return made


def judge_and_split(folder: Path, verdict_on: Callable[[int], Answer]) -> None:
    """What follows the rules."""
    checked, judged, filtered = folder / "checked", folder / "judged", folder / "filtered"
    rows = list(read_rows(checked / "kept.parquet", FILTERED))
    requests = judge_requests(rows, "0000-of-0001", lambda **_: "?", JUDGE["verdicts"])
    write_table(folder / "filter-judge" / "requests" / "0000-of-0001.parquet", REQUESTS, requests)
    answers = {row["item_id"]: {"verdict": [verdict_on(SOURCES.index(row["source"]))]} for row in rows}
    ((completions, _),) = write_answers(folder / "filter-judge", answers)
    shutil.rmtree(folder / "filter-judge" / "scores")
    account_for_answers(folder, "filter-judge", ("generate",), 1)
    account = Account("judge")
    apply_verdicts(
        *(checked / "kept.parquet", ROWS["translation"], [completions], JUDGE["accept"], judged / "kept.parquet"),
        *(judged / "rejected.parquet", account),
    )
    account.write(folder / "judged.account.json")

    # The first rows go to train, the others to test: which rows a split gets is tested elsewhere.
    rows = list(read_rows(judged / "kept.parquet", FILTERED))
    train = round(SPLITS["train"] * len(rows))
    write_table(filtered / "train.parquet", FILTERED, rows[:train])
    write_table(filtered / "test.parquet", FILTERED, rows[train:])
    both = [read_rows(place / "rejected.parquet", REJECTED) for place in (checked, judged)]
    write_table(filtered / "rejected.parquet", REJECTED, [row for rows in both for row in rows])


def account_for_answers(folder: Path, step: str, names: Sequence[str], shards: int) -> None:
    """The accounts of generate and score; each answer of these tables has 7 tokens of prompt and 3 of its own."""
    for name, kind in zip(names, ("completions", "scores"), strict=False):
        for shard in shard_names(shards):
            account = Account(f"{step}/{name}")
            tally_items(folder / step / "requests" / f"{shard}.parquet", account)
            if name == "generate":
                rows = row_count(folder / step / "completions" / f"{shard}.parquet")
                account.prompt_tokens, account.completion_tokens = 7 * rows, 3 * rows
            account.write(folder / step / kind / f"{shard}.account.json")


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


def expected_rows() -> list[dict[str, Any]]:
    return [
        {
            "item_id": item_id(SOURCES[number]),
            "source": SOURCES[number],
            "target": TARGETS[number],
            "score": number / 100,
            "mean_score": round((9.0 + number / 100 + number / 100 + 1) / 3, 6),
            "candidates": 3,
        }
        for number in RELEASED
    ]


def in_order(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: SOURCES.index(row["source"]))


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
    tables = [pq.read_table(released.release / "top_k" / f"{split}.parquet") for split in SPLITS]
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
    assert len(files) == 9
    for folder, entries in ((released.folder, manifest["files"]), (released.release, manifest["release"])):
        for entry in entries:
            path = folder / entry["path"]
            assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
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
    # An evaluation says what a release is like, and changes none.
    dataset = {key: value for key, value in released.config["datasets"][NAME].items() if key != "evaluation"}
    assert found["datasets"] == {NAME: dataset}
    assert layout.release_config(resolve_config(found), NAME) == found
    # How fast things run determines nothing.
    assert released.config["models"]["teacher"]["batch_size"] == 3
    assert "batch_size" not in found["models"]["teacher"]


def front_matter(card: Path) -> tuple[dict[str, Any], str]:
    head, front, body = card.read_text(encoding="utf-8").split("---\n", 2)
    assert head == ""
    return yaml.safe_load(front), body


def test_the_cards_yaml_names_the_files_of_every_split(released: Made) -> None:
    front, _ = front_matter(released.release / "README.md")
    assert (front["language"], front["license"]) == (["en", "ko"], "cc-by-4.0")
    assert (front["task_categories"], front["size_categories"]) == (["translation"], ["n<1K"])
    (config,) = front["configs"]
    assert [entry["split"] for entry in config["data_files"]] == ["train", "test"]
    files = [path.relative_to(released.release).as_posix() for path in released.release.rglob("*") if path.is_file()]
    for entry in config["data_files"]:
        matched = [file for file in files if fnmatch.fnmatchcase(file, entry["path"])]
        assert matched == [f"data/{entry['split']}-00000-of-00001.parquet"]
        # Nor those of another split whose name begins alike.
        assert not fnmatch.fnmatchcase(f"data/{entry['split']}_hard-00000-of-00001.parquet", entry["path"])


def test_the_cards_text_tells_what_was_done_and_what_was_lost(released: Made) -> None:
    _, body = front_matter(released.release / "README.md")
    assert "# Pears: sold – 배\n\nSmall, {{ but }} complete.\n" in body
    assert "5 rows in `train`, 4 rows in `test`" in body
    assert "answered 3 times by `teacher`; `metric` chose the best answer, rules and a judge removed" in body
    assert "| final/select | items | 16 | 14 | answer_cut_off 1, no_answer 1 |\n" in body
    assert "- `teacher`: someone/teacher at ab12, identity `id-teacher`\n" in body
    assert all(f"- `{name}`: " in body for name in expected_rows()[0])


@pytest.mark.parametrize(
    ("rows", "category"),
    [(999, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M"), (10**7, "10M<n<100M")],
)
def test_the_card_names_the_hubs_size_category(rows: int, category: str) -> None:
    assert size_category(rows) == category


# --- loading it ---

LOAD = """
import json, sys
from datasets import load_dataset
found = {}
for folder in sys.argv[1:]:
    loaded = load_dataset(folder)
    found[folder] = {
        split: {"types": {name: str(kind.dtype) for name, kind in rows.features.items()}, "rows": rows.to_list()}
        for split, rows in loaded.items()
    }
print(json.dumps(found))
"""


def load(folders: Sequence[Path], home: Path) -> dict[str, Any]:
    """What `datasets` makes of releases, in a process without network and with a cache of its own."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, *map(str, folders)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


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


@pytest.mark.parametrize("parts", [3, 4])
def test_a_large_split_is_cut_into_files_without_losing_a_row(
    made: Made, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    # Of 5 rows, neither 3 nor 4 files hold equal shares: 2, 2 and 1, and none is empty.
    metadata = pq.read_metadata(made.folder / "filtered" / "train.parquet")
    monkeypatch.setattr(release, "_BYTES_PER_FILE", metadata.row_group(0).total_byte_size // parts + 1)
    made.write()
    files = sorted((made.release / "data").glob("train-*"))
    assert [path.name for path in files] == [f"train-0000{number}-of-00003.parquet" for number in range(3)]
    whole = json_lines(made.release / "json" / "train.jsonl")
    assert [pq.read_table(path).num_rows for path in files] == [2, 2, 1]
    assert pa.concat_tables(map(pq.read_table, files)).to_pylist() == whole
    assert [row["item_id"] for row in whole] == [
        row["item_id"] for row in read_rows(made.folder / "filtered" / "train.parquet", FILTERED)
    ]
    assert pq.read_table(made.release / "top_k" / "train.parquet").num_rows == len(whole) == 5


# --- the same bytes, and nothing of the machine ---


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
