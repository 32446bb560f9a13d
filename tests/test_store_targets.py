"""The targets around the store: what is in it, few files, nothing unused; failures asked again; preflight."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from checkout import Checkout, need_control
from conftest import ROOT
from corpusmith import layout, used_answers
from corpusmith.chat_templates import takes_messages
from corpusmith.config import resolve_config
from corpusmith.errors import InputError
from corpusmith.failures import count_failed
from corpusmith.files import read_json, write_json, write_text
from corpusmith.identity import digest, item_id, shard_names
from corpusmith.models import describe_api_model, describe_folder, read_receipt, write_receipt
from corpusmith.preflight import asked_steps, outcome_line, read_outcome
from corpusmith.retrying import raise_retry_mark, read_retry_mark
from corpusmith.run_stats import run_stats_path, write_run_stats
from corpusmith.store import COMPLETION, SCORE, Store, completion_entry, score_entry
from corpusmith.store.reader import whole_keys
from corpusmith.store_report import names_of
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, REQUESTS, ROW_GROUP, SCORES
from corpusmith.used_answers import used_keys, with_limits
from translation_tables import call_program, run_program

MODEL, OTHER = "hub:owner/model@1", "sha256:" + "5" * 64
METRIC = f"metricx-24 {OTHER} float64"


def key_of(name: object) -> str:
    return digest("test", str(name))


def completion(key: str, sample: int = 0, error: str | None = None) -> dict[str, Any]:
    return {
        "item_id": item_id(key),
        "request": "sampled",
        "sample": sample,
        "text": "" if error else "답",
        "finish_reason": "error" if error else "stop",
        "prompt_tokens": 3,
        "completion_tokens": 1,
        "error": error,
        "key": key,
    }


def score(key: str, value: float | None = 1.0, error: str | None = None) -> dict[str, Any]:
    row = {"item_id": item_id(key), "request": "sampled", "sample": 0, "score": value, "truncated": False}
    return row | {"error": error, "key": key}


def write_step(step: Path, shard: str, completions: Iterable[Mapping[str, Any]], scores: Any = None) -> None:
    """Tables of one shard of a step, requests among them, as a build leaves them. scores: None for a step without."""
    write_table(step / "requests" / f"{shard}.parquet", REQUESTS, [])
    write_table(step / "completions" / f"{shard}.parquet", COMPLETIONS, completions)
    if scores is not None:
        write_table(step / "scores" / f"{shard}.parquet", SCORES, scores)


def write_answers(store: Store, keys: Iterable[bytes], model: str = MODEL) -> None:
    answer = {"finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 1}
    with store.writer(COMPLETION, model) as writer:
        for key in keys:
            writer.add(key, {"text": key.hex(), **answer})


def write_scores(store: Store, keys: Iterable[bytes], metric: str = METRIC) -> None:
    with store.writer(SCORE, metric) as writer:
        for key in keys:
            writer.add(key, {"score": 1.0, "truncated": False})


def found(store: Store, keys: Iterable[bytes], model: str = MODEL) -> set[bytes]:
    return set(store.lookup(COMPLETION, model, keys))


def receipt(path: Path, identity: str) -> str:
    write_receipt(path, describe_api_model(path.stem, identity))
    return f"{path.stem}={path}"


def python(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a few lines in a process of their own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


# --- the report ---


def test_the_report_says_what_is_in_the_store_and_what_the_last_builds_asked(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    entries = [completion_entry(key_of(number), 0) for number in range(1200)]
    write_answers(store, entries[:1000])
    write_answers(store, entries[1000:])
    write_scores(store, [score_entry(key_of("score"))])
    news = tmp_path / "results" / "news"
    for shard, failed in (("0000-of-0003", 2), ("0001-of-0003", 1)):
        path = run_stats_path(news / "final" / "completions" / f"{shard}.parquet")
        write_run_stats(path, "final/generate", asked=1100, from_store=4, failed=failed, retries=0, seconds=1.0)
    models = [
        receipt(tmp_path / "teacher.json", MODEL),
        receipt(tmp_path / "judge.json", MODEL),
        receipt(tmp_path / "metric.json", OTHER),
        f"absent={tmp_path}/absent.json",
    ]
    tables = [f"{news}/final/completions=3", f"{news}/final/scores=3", f"{tmp_path}/results/old/final/completions=2"]
    output = tmp_path / "report.json"
    done = run_program(
        "report_store.py", "--store", store.folder, "--models", *models, "--tables", *tables, "--json", output
    )
    value = read_json(output)
    sizes = {model["kind"]: model["bytes"] for model in value["models"]}
    on_disk = {
        kind: sum(path.stat().st_size for path in (store.folder / kind).rglob("*.parquet"))
        for kind in ("completions", "scores")
    }
    assert sizes == on_disk
    assert value == {
        "store": str(store.folder),
        "models": [
            {
                **{"kind": "completions", "model": MODEL, "names": ["teacher", "judge"], "answers": 1200},
                **{"bytes": sizes["completions"], "segments": 2, "journals": 0, "set_aside": 0},
            },
            {
                **{"kind": "scores", "model": METRIC, "names": ["metric"], "answers": 1},
                **{"bytes": sizes["scores"], "segments": 1, "journals": 0, "set_aside": 0},
            },
        ],
        "datasets": [
            {
                "dataset": str(news),
                "stages": [
                    {"stage": "final/generate", "shards": 3, "built": 2, "asked": 2200, "from_store": 8, "failed": 3},
                    {"stage": "final/score", "shards": 3, "built": 0, "asked": 0, "from_store": 0, "failed": 0},
                ],
            },
            {
                "dataset": str(tmp_path / "results" / "old"),
                "stages": [
                    {"stage": "final/generate", "shards": 2, "built": 0, "asked": 0, "from_store": 0, "failed": 0}
                ],
            },
        ],
    }
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{store.folder}: 1,201 answers, ")
    kinds = [re.split(r"  +", line) for line in lines[2:5]]
    assert kinds[0] == ["kind", "name", "answers", "bytes", "segments", "journals", "set aside", "model"]
    assert kinds[1][:3] == ["completions", "teacher, judge", "1,200"]
    assert kinds[1][4:] == ["2", "0", "0", MODEL]
    assert kinds[2] == ["scores", "metric", "1", f"{sizes['scores'] / 1000:.1f} kB", "1", "0", "0", METRIC]
    assert lines[5:] == [
        "",
        f"{news}: what its tables were made of when they were last built",
        "",
        "stage           shards  asked  from store  failed",
        "final/generate  2 of 3  2,200           8       3",
        "final/score     0 of 3      0           0       0",
        "",
        f"{tmp_path}/results/old: nothing is built yet",
    ]


def test_a_missing_store_is_said_and_none_is_made(tmp_path: Path) -> None:
    store = tmp_path / "none"
    for program in ("report_store.py", "compact_store.py"):
        done = run_program(program, "--store", store)
        assert f"{store}: " in done.stdout
        assert done.stderr == ""
    assert not store.exists()


def test_many_files_are_worth_a_hint_and_few_after_it_was_followed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keys = [completion_entry(key_of(number), 0) for number in range(101)]
    for key in keys[:100]:
        write_answers(store, [key])
    assert "store_compact" not in run_program("report_store.py", "--store", tmp_path).stdout
    write_answers(store, keys[100:])
    assert f"{MODEL}: 101 files" in run_program("report_store.py", "--store", tmp_path).stdout
    done = run_program("compact_store.py", "--store", tmp_path)
    # 64 files at once, and what becomes of them with the others.
    assert re.search(r"completions +- +0 +102 into 2 ", done.stdout), done.stdout
    assert found(store, keys) == set(keys)
    assert "store_compact" not in run_program("report_store.py", "--store", tmp_path).stdout


def test_a_model_is_named_by_its_whole_identity_alone() -> None:
    names = {"api:host/m": ["short"], "api:host/m 2": ["spaced"], OTHER: ["metric"]}
    assert names_of("api:host/m", names) == ["short"]
    assert names_of("api:host/m 2", names) == ["short", "spaced"]
    assert names_of("api:host/m2", names) == []
    assert names_of(METRIC, names) == ["metric"]


# --- what is used ---


def test_the_keys_of_tables_are_those_that_the_store_knows_answers_by(tmp_path: Path) -> None:
    keys = [key_of(number) for number in range(40)] + ["0" * 32, "f" * 30 + "00", "00" + "A" * 30]
    samples = [0, 1, 255, 256, 2**31 - 1]
    rows = [completion(key, sample) for key in keys for sample in samples]
    write_step(tmp_path / "news" / "final", "0000-of-0002", rows[::2], [score(key) for key in keys])
    write_step(tmp_path / "news" / "final", "0001-of-0002", rows[::-1], [])
    used = used_keys(tmp_path, [], [])
    entries = sorted({completion_entry(key, sample) for key in keys for sample in samples})
    assert whole_keys(COMPLETION, used["completions"]) == entries
    assert whole_keys(SCORE, used["scores"]) == sorted(map(score_entry, keys))


WHERE = st.sampled_from(["results", "results-limit-7", "kept", "kept-limit-1", "nowhere"])
NUMBERED = st.lists(st.tuples(WHERE, st.integers(0, 60)), max_size=80)


@settings(max_examples=20)
@given(answers=NUMBERED, scores=NUMBERED, chooser=st.randoms(use_true_random=False))
def test_nothing_that_a_table_names_is_ever_pruned_and_nothing_else_stays(
    answers: list[tuple[str, int]], scores: list[tuple[str, int]], chooser: random.Random
) -> None:
    entry_of = {number: completion_entry(key_of(number // 4), number % 4) for number in range(61)}
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        # As with millions of keys: merged on the way.
        patch.setattr(used_answers, "_WAITING", 5)
        folder = Path(name)
        store = Store(folder / "store")
        models = {entry: chooser.choice([MODEL, OTHER]) for entry in entry_of.values()}
        for model in (MODEL, OTHER):
            write_answers(store, [entry for entry in models if models[entry] == model], model)
        metrics = [score_entry(key_of(number)) for number in range(61)]
        write_scores(store, metrics)
        (folder / "kept" / "empty" / "final" / "completions").mkdir(parents=True)
        write_step(folder / "kept" / "empty" / "judge", "0000-of-0001", [])
        for place in ("results", "results-limit-7", "kept", "kept-limit-1", "nowhere"):
            step = folder / place / chooser.choice(["news", "deep/er"]) / "final"
            here = [completion(key_of(number // 4), number % 4) for where, number in answers if where == place]
            scored = [score(key_of(number)) for where, number in scores if where == place]
            cut = chooser.randint(0, len(here))
            write_step(step, "0000-of-0002", here[:cut], scored)
            write_step(step, "0001-of-0002", here[cut:], [])
        named = {entry_of[number] for where, number in answers if where != "nowhere"}
        scored_entries = {metrics[number] for where, number in scores if where != "nowhere"}
        kept = [folder / "kept"]
        foreseen = store.prune(lambda: used_keys(folder / "results", kept, []))
        assert found(store, entry_of.values()) | found(store, entry_of.values(), OTHER) == set(entry_of.values())
        assert store.prune(lambda: used_keys(folder / "results", kept, []), dry=False) == foreseen
        for model in (MODEL, OTHER):
            assert found(store, entry_of.values(), model) == {entry for entry in named if models[entry] == model}
        assert set(store.lookup(SCORE, METRIC, metrics)) == scored_entries
        assert sum(gone.answers for gone in foreseen) == 122 - len(named) - len(scored_entries)
        left = {(kept.kind, kept.model) for kept in store.report()}
        expected = {("completions", models[entry]) for entry in named}
        assert left == expected | ({("scores", METRIC)} if scored_entries else set())


def test_results_with_a_limit_lie_beside_those_without(tmp_path: Path) -> None:
    for name in ("res.1", "res.1-limit-40", "res.1-limit-7", "res.1-limit-x", "res.1-limit-7-old", "resx1-limit-3"):
        (tmp_path / name).mkdir()
    (tmp_path / "res.1-limit-8").write_text("no folder")
    assert [path.name for path in with_limits(tmp_path / "res.1")] == ["res.1", "res.1-limit-40", "res.1-limit-7"]
    assert [path.name for path in with_limits(tmp_path / "res.1-limit-7")] == ["res.1-limit-7"]
    assert with_limits(tmp_path / "none" / "results") == []


def test_answers_of_a_dataset_behind_a_link_are_found_though_links_run_in_circles(tmp_path: Path) -> None:
    write_step(tmp_path / "disk" / "news" / "final", "0000-of-0001", [completion(key_of(1))])
    results = tmp_path / "results"
    results.mkdir()
    (results / "news").symlink_to(tmp_path / "disk" / "news")
    (tmp_path / "disk" / "news" / "around").symlink_to(results)
    assert whole_keys(COMPLETION, used_keys(results, [], [])["completions"]) == [completion_entry(key_of(1), 0)]


# --- pruning: what it refuses ---


class Build:
    """A finished build of one dataset: one step in two shards, another with one and without scores; and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results, self.store = folder, folder / "results", Store(folder / "store")
        self.keys = [completion_entry(key_of(number), 0) for number in range(4)]
        for number, shard in enumerate(shard_names(2)):
            rows = [completion(key_of(number))]
            write_step(self.results / "news" / "final", shard, rows, [score(key_of(number))])
        write_step(self.results / "news" / "judge", "0000-of-0001", [completion(key_of(2))])
        write_answers(self.store, self.keys)
        tables = [f"{self.results}/news/{entry}" for entry in ("final/completions=2", "final/scores=2")]
        self.flags = ["--store", self.store.folder, "--results", self.results, "--tables", *tables]

    def prune(self, *flags: object) -> subprocess.CompletedProcess[str]:
        return call_program("prune_store.py", *self.flags, *flags)

    def whole(self) -> bool:
        return found(self.store, self.keys) == set(self.keys)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


def test_pruning_says_what_would_go_and_removes_it_only_when_told(build: Build) -> None:
    done = build.prune("--models", receipt(build.folder / "teacher.json", MODEL))
    assert done.returncode == 0
    assert f"{build.results}, with a limit and without, name 3 completions and 2 scores." in done.stdout
    assert re.search(rf"completions +teacher +1 +\S+ \S+ +what is not used +{re.escape(MODEL)}", done.stdout)
    assert "Nothing is removed yet" in done.stdout
    assert "store_prune={delete: true}" in done.stdout
    assert build.whole()
    done = build.prune("--delete")
    assert "Removed: 1 answers" in done.stdout
    assert found(build.store, build.keys) == set(build.keys[:3])
    assert "nothing to remove" in build.prune("--delete").stdout


def test_a_model_that_nothing_uses_goes_as_a_whole(build: Build) -> None:
    write_answers(build.store, build.keys[:1], OTHER)
    # An answer of the same key: keys are of one model, but pruning does not rely on it.
    assert "what is not used" in build.prune().stdout
    write_answers(build.store, build.keys[3:], "another")
    assert re.search(r"completions +- +1 .* all of the model +another", build.prune("--delete").stdout)
    assert {found.model for found in build.store.report()} == {MODEL, OTHER}


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("news/final/completions/0001-of-0002.parquet", "completions/0001-of-0002.parquet"),
        ("news/final/scores/0001-of-0002.parquet", "scores/0001-of-0002.parquet"),
        ("news/judge/completions/0000-of-0001.parquet", "judge/completions/0000-of-0001.parquet"),
        ("news/final", "final/scores/0000-of-0002.parquet"),
    ],
)
def test_the_answers_of_a_build_that_is_not_finished_are_not_pruned(build: Build, lost: str, said: str) -> None:
    path = build.results / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = build.prune("--delete")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Finish the build first" in done.stderr
    assert build.whole()


@pytest.mark.parametrize("place", ["results-limit-3", "results/another", "kept"])
def test_requests_without_answers_stop_pruning_wherever_they_lie(build: Build, place: str) -> None:
    for number in range(9):
        write_table(build.folder / place / "old" / "final" / "requests" / f"{number:04d}-of-0009.parquet", REQUESTS, [])
    done = build.prune("--delete", "--keep", *([build.folder / "kept"] if place == "kept" else []))
    assert done.returncode == 1
    assert f"{place}/old/final/completions/0000-of-0009.parquet" in done.stderr
    assert "and 4 more" in done.stderr
    assert build.whole()


@pytest.mark.parametrize("kept", ["no-such-folder", "store", "."])
def test_a_folder_to_keep_that_has_no_tables_is_taken_for_a_mistake(build: Build, kept: str) -> None:
    (build.folder / "results").rename(build.folder / "elsewhere")
    (build.folder / "results").mkdir()
    shutil.rmtree(build.folder / "elsewhere")
    done = build.prune("--delete", "--keep", build.folder / kept)
    assert done.returncode == 1
    assert f"{build.folder / kept}: no tables of answers there" in done.stderr
    assert build.whole()


@pytest.mark.parametrize("key", ["k", "", "g" * 32, "0" * 31 + "ü", "0" * 33])
def test_a_key_that_is_none_stops_pruning_and_is_named_with_its_row(build: Build, key: str) -> None:
    rows = [completion(key_of(number)) for number in range(2)] + [completion(key)]
    path = build.results / "news" / "final" / "completions" / "0001-of-0002.parquet"
    write_table(path, COMPLETIONS, rows)
    done = build.prune("--delete")
    assert done.returncode == 1
    assert f"{path}: row 2: {key!r} is no key" in done.stderr
    assert build.whole()


def test_a_table_that_is_broken_stops_pruning(build: Build) -> None:
    path = build.results / "news" / "final" / "scores" / "0001-of-0002.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    done = build.prune("--delete")
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert build.whole()


def test_a_folder_that_may_not_be_read_hides_no_keys(build: Build) -> None:
    hidden = build.results / "news" / "judge"
    hidden.chmod(0)
    for path in (build.results, *build.results.parents):
        if os.geteuid() == 0 and path.owner() == "root" and path != Path("/") and not path.stat().st_mode & 0o005:
            path.chmod(path.stat().st_mode | 0o005)
    program = (
        "import os, sys\n"
        "from corpusmith.program import run\n"
        "from corpusmith.used_answers import used_keys\n"
        "if os.geteuid() == 0: os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "run(lambda: print(used_keys(sys.argv[1], [], [])))\n"
    )
    done = python(program, build.results)
    hidden.chmod(0o755)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(f"error: {hidden}: Permission denied\n")


def test_keys_in_tables_with_a_row_for_each_of_a_million_answers_take_little_memory(tmp_path: Path) -> None:
    rows = 1_000_000
    chooser = np.random.default_rng(1)
    digits = chooser.integers(0, 16, (rows // 10, 32), dtype=np.uint8)
    keys = np.repeat(np.array(list(b"0123456789abcdef"), np.uint8)[digits], 10, axis=0)
    table = {
        column.name: pa.array([None if column.optional else "x"] * rows, column.type)
        for column in COMPLETIONS.columns
        if pa.types.is_string(column.type)
    } | {column.name: pa.array(np.zeros(rows, np.int32)) for column in COMPLETIONS.columns if column.type == pa.int32()}
    table["key"] = pa.array(keys.view("S32").ravel().astype(str).tolist())
    table["sample"] = pa.array(np.tile(np.arange(10, dtype=np.int32), rows // 10))
    path = tmp_path / "results" / "news" / "final" / "completions" / "0000-of-0001.parquet"
    path.parent.mkdir(parents=True)
    columns = [table[column.name] for column in COMPLETIONS.columns]
    pq.write_table(pa.Table.from_arrays(columns, schema=COMPLETIONS.schema), path, row_group_size=ROW_GROUP)
    program = (
        "import re, sys; from pathlib import Path; from corpusmith.used_answers import used_keys\n"
        "most = lambda: int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = most(); used = used_keys(sys.argv[1], [], [])['completions']\n"
        "print(len(used), most() - before)"
    )
    done = python(program, tmp_path / "results")
    distinct, kilobytes = map(int, done.stdout.split())
    assert distinct == rows
    # 20 MB of keys, and as much for each of some copies; a set of Python's own bytes would be more than that alone.
    assert kilobytes < 110_000


# --- asking again what failed ---


def retry(*tables: str) -> str:
    return run_program("retry_failed.py", "--tables", *tables).stdout


def test_exactly_the_shards_with_failures_are_marked(tmp_path: Path) -> None:
    step = tmp_path / "news" / "final"
    good, bad = completion(key_of(1)), completion(key_of(2), error="gave up")
    # An answer that failed has no score, which is no failure of the scorer.
    write_step(step, "0000-of-0004", [good, bad, bad], [score(key_of(1)), score(key_of(2), None)])
    write_step(step, "0001-of-0004", [good], [score(key_of(1), None, "gave up"), score(key_of(3), None, "gave up")])
    write_step(step, "0002-of-0004", [good], [score(key_of(1))])
    tables = [f"{step}/completions=4", f"{step}/scores=4"]
    lines = retry(*tables).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["due", "again", "failed"],
        [f"{step}/completions/0000-of-0004.parquet", "2"],
        [f"{step}/scores/0001-of-0004.parquet", "2"],
    ]
    assert "2 tables are not built yet" in lines[-1]
    marks = {path.relative_to(step).as_posix(): path.read_text() for path in step.rglob("*.retry")}
    assert marks == {"completions/0000-of-0004.retry": "1\n", "scores/0001-of-0004.retry": "1\n"}
    retry(*tables)
    assert read_retry_mark(step / "completions" / "0000-of-0004.parquet") == 2
    assert read_retry_mark(step / "completions" / "0002-of-0004.parquet") == 0


def test_where_nothing_failed_nothing_is_marked(tmp_path: Path) -> None:
    step = tmp_path / "news" / "final"
    write_step(step, "0000-of-0001", [completion(key_of(1))], [])
    assert retry(f"{step}/completions=1", f"{step}/scores=1") == "No table has a failed row: nothing is due again.\n"
    assert list(step.rglob("*.retry")) == []


def test_a_table_of_scores_that_is_older_than_their_failures_has_none(tmp_path: Path) -> None:
    path = tmp_path / "news" / "final" / "scores" / "0000-of-0001.parquet"
    write_step(tmp_path / "news" / "final", path.stem, [], [score(key_of(1), None, "gave up")])
    assert count_failed(path) == 1
    pq.write_table(pq.read_table(path).drop_columns(["error"]), path)
    assert count_failed(path) == 0
    # Its keys are used all the same.
    assert whole_keys(SCORE, used_keys(tmp_path, [], [])["scores"]) == [score_entry(key_of(1))]


def test_a_mark_counts_up_and_one_that_is_none_is_named(tmp_path: Path) -> None:
    table = tmp_path / "completions" / "0000-of-0001.parquet"
    assert read_retry_mark(table) == 0
    assert [raise_retry_mark(table) for _ in range(11)] == list(range(1, 12))
    write_text(table.with_suffix(".retry"), "twice")
    with pytest.raises(InputError, match=r"0000-of-0001\.retry: 'twice' is no number"):
        read_retry_mark(table)


def test_what_the_snakefile_imports_for_this_is_light() -> None:
    program = (
        "import sys, corpusmith.retrying, corpusmith.preflight; "
        "print([name for name in ('numpy', 'pyarrow', 'pandas', 'torch') if name in sys.modules])"
    )
    assert python(program).stdout == "[]\n"


# --- preflight ---


def config_of(**changes: Any) -> dict[str, Any]:
    """A resolved config of two datasets: two models and two scorers are used, one of each is not."""
    dataset: dict[str, Any] = {
        "recipe": "translation",
        "source_language": {"code": "en", "name": "English"},
        "target_language": {"code": "ko", "name": "Korean"},
        "sources": {"files": ["*.jsonl.gz"], "pool": 10},
        "prefilter": {"model": "small", "scorer": "metric", "keep": 5},
        "final": {"model": "small", "scorer": "metric"},
    }
    judge = {"model": "server", "prompt": "judge.txt", "verdicts": ["good", "bad"], "accept": ["good"]}
    other = dataset | {"filter": {"judge": judge}, "final": {"model": "small", "scorer": "large-metric"}}
    server = {"engine": "openai", "openai": {"base_url": "https://example.com/v1", "model": "m"}}
    return resolve_config(
        {
            "models": {
                "unused": {"engine": "vllm", "repo": "a/b"},
                "small": {"engine": "vllm", "repo": "a/b"},
                "server": server,
            },
            "scorers": {name: {"metric": "metricx-24", "repo": "a/c"} for name in ("metric", "large-metric", "other")},
            "datasets": {"news": dataset, "web": other},
            **changes,
        }
    )


def test_each_model_that_a_dataset_uses_is_asked_once_as_a_step_asks_it() -> None:
    config = config_of()
    assert asked_steps(config) == {
        "small": ("news", "prefilter"),
        "metric": ("news", "prefilter"),
        "large-metric": ("web", "final"),
        "server": ("web", "filter-judge"),
    }
    used = {name for dataset in config["datasets"] for name in layout.models_of(config, dataset)}
    assert set(asked_steps(config)) == used


def model_folder(folder: Path, **files: str) -> Path:
    """A folder that looks like a model; files by their names, a dot as a double underscore, a slash as a triple one."""
    for name, text in ({"config__json": "{}", "model__bin": "weights"} | files).items():
        write_text(folder / name.replace("___", "/").replace("__", "."), text)
    return folder


@pytest.mark.parametrize(
    ("files", "chat"),
    [
        ({"tokenizer_config__json": '{"chat_template": "{{ messages }}"}'}, True),
        ({"tokenizer_config__json": '{"chat_template": [{"name": "default", "template": "x"}]}'}, True),
        ({"tokenizer_config__json": '{"chat_template": null}'}, False),
        ({"tokenizer_config__json": "{}", "chat_template__jinja": "x"}, True),
        ({"chat_template__json": '{"chat_template": "x"}'}, True),
        ({"additional_chat_templates___default__jinja": "x"}, True),
        ({"tokenizer__json": "{}"}, False),
    ],
)
def test_a_model_is_asked_with_a_message_where_it_has_a_chat_template(
    tmp_path: Path, files: dict[str, str], chat: bool
) -> None:
    path = tmp_path / "fetch.json"
    write_receipt(path, describe_folder(model_folder(tmp_path / "model", **files), "model", "local"))
    assert takes_messages(read_receipt(path)) is chat


def test_a_server_is_asked_with_a_message_and_a_model_without_a_template_with_a_prompt(tmp_path: Path) -> None:
    receipt(tmp_path / "server.json", "api:example.com/m")
    write_receipt(tmp_path / "base.json", describe_folder(model_folder(tmp_path / "base"), "base", "local"))
    message = [{"role": "user", "content": "Hello"}]
    for name, messages, prompt in (("server", message, None), ("base", None, "Hello")):
        table = tmp_path / f"{name}.parquet"
        run_program("request_preflight.py", "--model", tmp_path / f"{name}.json", "--requests", table)
        (row,) = read_rows(table, REQUESTS)
        assert (row["messages"], row["prompt"]) == (messages, prompt)
        assert (row["n"], row["temperature"], row["max_tokens"]) == (1, 0.0, 16)


def test_what_became_of_a_question_is_a_line(tmp_path: Path) -> None:
    log, benchmark = tmp_path / "teacher.log", tmp_path / "teacher.tsv"
    write_text(benchmark, "s\th:m:s\tmax_rss\n41.2583\t0:00:41\t1.0\n")

    def line(folder: Path) -> str:
        return outcome_line(read_outcome("teacher", folder, log, benchmark), 9)

    row = completion(key_of(1)) | {"text": "Hello!\nHow can I help you? " + "x" * 100}
    write_table(tmp_path / "answered" / "completions.parquet", COMPLETIONS, [row])
    words = ("Hello! How can I help you? " + "x" * 100)[:80]
    assert line(tmp_path / "answered") == f"teacher    ok        41.3 s  {words}"
    write_table(tmp_path / "empty" / "completions.parquet", COMPLETIONS, [row | {"text": ""}])
    assert line(tmp_path / "empty") == "teacher    ok        41.3 s  (an empty answer)"
    write_table(tmp_path / "scored" / "scores.parquet", SCORES, [score(key_of(1), 0.25)])
    assert line(tmp_path / "scored") == "teacher    ok        41.3 s  0.25"
    write_table(tmp_path / "failed" / "completions.parquet", COMPLETIONS, [completion(key_of(1), error="no template")])
    assert line(tmp_path / "failed") == f"teacher    FAILED    41.3 s  no template (see {log})"
    # Nothing was written: the log tells, its error before what came after it.
    write_text(log, "12:00:00 loading\nTraceback (most recent call last):\nRuntimeError: out of memory\n\n")
    assert line(tmp_path / "none") == f"teacher    FAILED    41.3 s  RuntimeError: out of memory (see {log})"
    write_text(log, "error: 2 GPUs are asked for\n12:00:01 the end\n")
    assert line(tmp_path / "none") == f"teacher    FAILED    41.3 s  error: 2 GPUs are asked for (see {log})"
    log.unlink()
    benchmark.unlink()
    assert line(tmp_path / "none") == f"teacher    FAILED            no word in its log (see {log})"


def test_preflight_fails_where_one_failed_and_names_it_with_its_log(tmp_path: Path) -> None:
    for name, works in (("teacher", True), ("metric", False)):
        write_json(tmp_path / f"{name}.json", {"name": name, "ok": works, "log": f"logs/{name}.log"})
    done = call_program("check_preflight.py", "--outcomes", tmp_path / "teacher.json", tmp_path / "metric.json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: 1 of 2 failed: metric (see logs/metric.log)\n"
    assert run_program("check_preflight.py", "--outcomes", tmp_path / "teacher.json").stdout == (
        "All 1 models and scorers answer.\n"
    )


def call_in_rule(rule: str, file: str) -> dict[str, str]:
    """The flags that a rule gives its program, with what they are given."""
    text = (ROOT / "rules" / file).read_text(encoding="utf-8")
    body = text[text.index(f"rule {rule}:") :].split("\n\n\n")[0]
    lines = re.findall(r'^        " ?(.*)"$', body[body.index("shell:") :], flags=re.MULTILINE)
    return dict(line.split(" ", 1) if line.startswith("--") else (line, "") for line in lines)


@pytest.mark.parametrize(
    ("asks", "build", "file"),
    [("preflight_generate", "generate", "generate.smk"), ("preflight_score", "score", "score.smk")],
)
def test_preflight_asks_as_the_build_asks_but_for_the_store(asks: str, build: str, file: str) -> None:
    """A flag that the build's rule gets has to be given in preflight, too."""
    asked, built = call_in_rule(asks, "preflight.smk"), call_in_rule(build, file)
    of_the_store = {"--store", "--commit-seconds", "{params.missing}"}
    assert set(built) - of_the_store - set(asked) == {"2>&1 | tee {log}"}
    assert set(asked) - set(built) == {
        "mkdir -p {output.answer};" if build == "generate" else "mkdir -p {output.score};",
        "2>&1 | tee {log} || true",
    }
    others = ("--max-failed", "--stage", "--completions", "--scores", "--account")
    for flag in set(asked) & set(built) - set(others):
        assert asked[flag] == built[flag]


# --- through Snakemake ---

DATASET = "toys-limit-40/toy-translation"
TARGET = f"{DATASET}/run-stats.json"
# Sources that are longer become prompts that no toy model takes.
LONGEST = 70


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """All that models and scorers make of the tiny dataset, by hardly trained ones: some prompts cannot be asked."""
    need_control()
    checkout = Checkout.with_environments(tmp_path_factory)
    prompt = f"Korean: {{{{ text }}}}{{% if text|length > {LONGEST} %}}{{{{ text * 300 }}}}{{% endif %}}\n"
    (checkout.folder / "long.txt").write_text(prompt)
    steps = {"prompt": "long.txt", "max_failed": 1.0}
    changes: dict[str, object] = {"results": "toys", "models__toy-base__toy": {"steps": 60}}
    changes["scorers__toy-metricx__toy"] = {"steps": 20}
    # Such models release nothing that could be held against references.
    changes["datasets__toy_translation__evaluation"] = None
    for step in ("prefilter", "final"):
        changes |= {f"datasets__toy_translation__{step}__{key}": value for key, value in steps.items()}
    checkout.config("toys", **changes)
    checkout.snakemake("--configfile", "toys.yaml", "--", TARGET)
    return checkout


def call(checkout: Checkout, target: str, *flags: str, config: str = "toys.yaml") -> subprocess.CompletedProcess[str]:
    """Runs a target as a user does; what the jobs print is in stdout, what Snakemake says in stderr."""
    command = [ROOT / ".venv" / "bin" / "snakemake", "--profile", "profiles/local", "--conda-prefix"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [*map(str, command), str(checkout.environments), target, *flags, "--configfile", config],
        cwd=checkout.folder, env=environment, text=True, capture_output=True, check=False,
    )  # fmt: skip


def entries_of(checkout: Checkout) -> set[bytes]:
    """What all tables of the build name, read row by row."""
    paths = (checkout.folder / DATASET).glob("*/completions/*.parquet")
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    return {completion_entry(row["key"], row["sample"]) for row in rows if row["error"] is None}


@pytest.mark.slow
def test_snakemake_reports_and_compacts_the_store_and_builds_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    need_control()
    built, config = Checkout.with_release(tmp_path_factory), "config/tiny.yaml"
    before = built.plan("--configfile", config)
    done = call(built, "store_report", config=config)
    assert done.returncode == 0, done.stderr
    stats = {stage["stage"]: stage for stage in read_json(built.folder / TARGET.replace("toys", "results"))}
    for stage, value in stats.items():
        pattern = rf"^{stage} +\d of \d +{value['asked']} +{value['from_store']} +{value['failed']}$"
        assert len(re.findall(pattern, done.stdout, flags=re.MULTILINE)) == 1, done.stdout
    assert len(re.findall("^completions +toy-base ", done.stdout, flags=re.MULTILINE)) == 1
    assert len(re.findall("^scores +toy-metricx ", done.stdout, flags=re.MULTILINE)) == 1
    assert done.stdout.startswith("store: ")
    done = call(built, "store_compact", config=config)
    assert re.search(r"^completions +toy-base +0 +\d+ into 1 ", done.stdout, flags=re.MULTILINE)
    for model in Store(built.folder / "store").report():
        assert (model.segments, model.journals) == (1, 0)
    assert built.plan("--configfile", config) == before
    missing = call(built, "store_report", "--config", "store=none", "limit=3", config=config)
    assert "none: there is no store here yet" in missing.stdout
    assert "results-limit-3/toy-translation: nothing is built yet" in missing.stdout


@pytest.mark.slow
@pytest.mark.thorough
def test_snakemake_prunes_what_no_build_uses_when_it_is_told(built: Checkout) -> None:
    store = Store(built.folder / "store")
    entries = entries_of(built)
    assert len(entries) > 100
    (model,) = {found.model for found in store.report() if found.kind == "completions"}
    more = [completion_entry(key_of(number), 0) for number in range(3)]
    write_answers(store, more, model)
    write_answers(store, more, "of an old build")
    everything = {*entries, *more}
    done = call(built, "store_prune")
    assert done.returncode == 0, done.stderr
    assert re.search(r"completions +toy-base +3 .* what is not used ", done.stdout)
    assert re.search(r"completions +- +3 .* all of the model +of an old build", done.stdout)
    assert done.stdout.count("Nothing is removed yet") == 1
    assert found(store, everything, model) == everything
    # Another config's results, which are not finished: they are named by keep, or by lying beside with a limit.
    requests = built.folder / "toys-limit-9" / "old" / "final" / "requests" / "0000-of-0001.parquet"
    write_table(requests, REQUESTS, [])
    done = call(built, "store_prune", "--config", "store_prune={delete: true}")
    assert done.returncode == 1
    assert "old/final/completions/0000-of-0001.parquet" in done.stdout
    assert found(store, everything, model) == everything
    shutil.rmtree(built.folder / "toys-limit-9")
    done = call(built, "store_prune", "--config", "store_prune={delete: true, keep: [nowhere]}")
    assert done.returncode == 1
    assert "nowhere: no tables of answers there" in done.stdout
    done = call(built, "store_prune", "--config", "store_prune={delete: true}")
    assert done.returncode == 0, done.stderr
    assert "Removed: 6 answers" in done.stdout
    assert found(store, everything, model) == entries
    assert {found.model for found in store.report() if found.kind == "completions"} == {model}
    # What was used is all that a build needs: nothing is asked again.
    shutil.rmtree(built.folder / "toys-limit-40")
    built.snakemake("--configfile", "toys.yaml", "--", TARGET)
    stages = read_json(built.folder / TARGET)
    assert [stage["asked"] for stage in stages] == [0] * len(stages)
    assert entries_of(built) == entries


def reasons_of(planned: str) -> Iterator[tuple[str, str]]:
    """The first output of each job of a plan, and why the job is due."""
    for block in planned.split("\n\n"):
        job = dict(re.findall(r"^    (output|reason): (.*?)(?:, .*)?$", block, flags=re.MULTILINE))
        if len(job) == 2:
            yield job["output"], job["reason"]


@pytest.mark.slow
@pytest.mark.thorough
def test_retry_failed_makes_the_shards_with_failures_due_and_no_others(built: Checkout) -> None:
    flags = ("--configfile", "toys.yaml", "--", TARGET)
    assert built.plan(*flags) == {}
    segments = pq.read_table(built.folder / DATASET / "sources" / "segments.parquet")
    texts = {row["item_id"]: row["text"] for row in segments.to_pylist()}
    failing: dict[str, int] = {}
    for path in sorted((built.folder / DATASET).glob("*/requests/*.parquet")):
        for row in pq.read_table(path, columns=["item_id", "n"]).to_pylist():
            if len(texts[row["item_id"]]) > LONGEST:
                table = f"{DATASET}/{path.parent.parent.name}/completions/{path.name}"
                failing[table] = failing.get(table, 0) + row["n"]
    assert 0 < len(failing) < 5
    done = call(built, "retry_failed")
    assert done.returncode == 0, done.stderr
    due = dict(re.findall(rf"^({DATASET}\S+\.parquet) +(\d+)$", done.stdout, flags=re.MULTILINE))
    assert {table: int(count) for table, count in due.items()} == failing
    planned = built.snakemake("-n", *flags).stdout
    reasons = dict(reasons_of(planned))
    assert {output for output, reason in reasons.items() if "Params have changed" in reason} == set(failing)
    # Everything else follows from these.
    followed = {reason for output, reason in reasons.items() if output not in failing}
    assert followed
    assert all(reason.startswith("Input files updated by another job:") for reason in followed)
    jobs = built.plan(*flags)
    assert not {"sample_sources", "train_toy_language_model"} & set(jobs)
    built.snakemake(*flags)
    assert built.plan(*flags) == {}
    marks = {path.relative_to(built.folder).as_posix() for path in (built.folder / DATASET).rglob("*.retry")}
    assert marks == {table.replace(".parquet", ".retry") for table in failing}


@pytest.mark.slow
@pytest.mark.thorough
def test_preflight_asks_each_model_anew_and_shows_those_that_work_beside_those_that_do_not(built: Checkout) -> None:
    def contents() -> list[Any]:
        return Store(built.folder / "store").report()

    before = contents()
    done = call(built, "preflight")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^toy-base     ok +\d+\.\d s  \S", done.stdout, flags=re.MULTILINE)) == 1, done.stdout
    assert len(re.findall(r"^toy-metricx  ok +\d+\.\d s  -?\d+\.\d+$", done.stdout, flags=re.MULTILINE)) == 1
    assert done.stdout.count("All 2 models and scorers answer.") == 1
    assert contents() == before
    logs = built.folder / "toys-limit-40" / "logs" / "preflight"
    assert {path.suffix for path in logs.rglob("*") if path.is_file()} == {".log"}

    # One is asked and fails, one could not even be fetched: whoever works is shown all the same.
    judge = {"model": "server", "prompt": "long.txt", "verdicts": ["good", "bad"], "accept": ["good"]}
    server = {"engine": "openai", "openai": {"base_url": "http://127.0.0.1:9/v1", "model": "m", "max_retries": 0}}
    config = read_config(built, "toys.yaml")
    config["models"] |= {"server": server, "absent": {"engine": "transformers", "path": "absent", "device": "cpu"}}
    config["datasets"]["toy-translation"]["filter"] = {"judge": judge}
    write_json(built.folder / "failing.json", config)
    done = call(built, "preflight", config="failing.json")
    assert done.returncode == 1
    assert len(re.findall(r"^toy-base     ok ", done.stdout, flags=re.MULTILINE)) == 1
    failed = re.findall(r"^server       FAILED .*127\.0\.0\.1:9.* \(see (\S+)\)$", done.stdout, flags=re.MULTILINE)
    assert len(failed) == 1
    assert (built.folder / failed[0]).is_file()
    assert f"error: 1 of 3 failed: server (see {failed[0]})" in done.stdout
    config["datasets"]["toy-translation"]["final"]["model"] = "absent"
    write_json(built.folder / "failing.json", config)
    done = call(built, "preflight", config="failing.json")
    assert done.returncode == 1
    assert re.search(r"^toy-base +ok ", done.stdout, flags=re.MULTILINE)
    assert re.search(r"^server +FAILED ", done.stdout, flags=re.MULTILINE)
    assert "model absent: there is no folder absent" in done.stdout
    # What is left of a failure is no answer of the next time.
    done = call(built, "preflight")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^toy-base +ok ", done.stdout, flags=re.MULTILINE)


def read_config(checkout: Checkout, name: str) -> dict[str, Any]:
    return yaml.safe_load((checkout.folder / name).read_text())
