"""Builds of the maths recipe with Snakemake: by labels, solved anew, and kept by measured pass rates."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import datasets
import pyarrow.parquet as parquet
import pytest
import yaml

from checkout import Checkout, bytes_of, need_control
from corpusmith.lineage import trace

pytestmark = pytest.mark.slow

# All three ways: by labels, solved anew, and kept by measured pass rates.
MATHS = """
datasets:
  toy-maths-hard:
    recipe: maths
    sources:
      toy: {problems: 120}
      labels: {pass_rate: {at_most: 0.75, not_available: drop}}
  toy-maths:
    recipe: maths
    sources: {dataset: [toy-maths-hard]}
    solve: {model: toy-base, prompt: config/prompts/toy-solve.txt, n: 4, temperature: 1.0, max_tokens: 120, shards: 2}
    judge: {model: toy-base, prompt: config/prompts/toy-judge.txt, verdicts: [right, wrong], accept: [right]}
    select: {solutions: generated}
    filter:
      deduplicate: {ngram: 3}
      decontaminate: {benchmarks: [benchmark.jsonl], ngram: 4}
    splits: {train: 0.8, test: 0.2}
  toy-maths-banded:
    recipe: maths
    sources: {dataset: [toy-maths-hard], end: 0.5}
    solve: {model: toy-base, prompt: config/prompts/toy-solve.txt, n: 4, temperature: 1.0, max_tokens: 120, shards: 3}
    select: {pass_rate: {at_least: 0.25, at_most: 0.75}}
"""
MATHS_LIMIT = 40


def maths_config(checkout: Checkout, name: str, **changes: object) -> str:
    """A config of the maths datasets, with the models of config/tiny.yaml; changes are of toy-maths."""
    tiny = yaml.safe_load((checkout.folder / "config" / "tiny.yaml").read_text())
    config = yaml.safe_load(MATHS) | {"models": tiny["models"], "limit": MATHS_LIMIT}
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = config["datasets"]["toy-maths"]
        for folder in folders:
            place = place[folder]
        place[last] = value
    (checkout.folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return f"{name}.yaml"


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The maths datasets, built once."""
    need_control()
    built = Checkout.with_models(tmp_path_factory)
    # Every problem about apples or books shares four words with one of these.
    asked = [{"question": f"Think first: HOW many {thing} does it take to be rich?"} for thing in ("apples", "books")]
    (built.folder / "benchmark.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    built.snakemake("--configfile", maths_config(built, "maths"), "--rerun-triggers", "mtime")
    return built


def maths_table(checkout: Checkout, name: str, dataset: str = "toy-maths") -> list[dict]:
    return parquet.read_table(
        checkout.folder / f"results-limit-{MATHS_LIMIT}" / dataset / f"{name}.parquet"
    ).to_pylist()


def test_hard_problems_are_those_that_a_plain_loop_finds(solved: Checkout):
    source = solved.folder / "results-limit-40" / "toy-maths-hard" / "sources" / "toy.jsonl.gz"
    with gzip.open(source, "rt") as lines:
        rows = list(map(json.loads, lines))
    hard = [row for row in rows if row["pass_rate_72b_tir"] != "n/a" and float(row["pass_rate_72b_tir"]) <= 0.75]
    distinct = dict.fromkeys((row["problem"], row["expected_answer"], row["generated_solution"]) for row in hard)
    found = maths_table(solved, "sources/rows", "toy-maths-hard")
    assert [(row["problem"], row["answer"], row["generated_solution"]) for row in found] == [*distinct][:MATHS_LIMIT]


def test_solutions_are_checked_judged_and_the_right_ones_released(solved: Checkout):
    folder = solved.folder / "results-limit-40" / "toy-maths"
    quality = json.loads((folder / "quality.json").read_text())
    shares = {stage["name"]: stage for stage in quality["stages"]}
    problems = maths_table(solved, "sources/problems")
    assert shares["made here"]["rows"] == 4 * len(problems)
    assert shares["graded right"]["right"] > shares["made here"]["right"]
    assert shares["released"]["right"] > 0.9
    # Released is what boxes the answer, or says it in words that the judge takes for it.
    released = maths_table(solved, "filtered/train") + maths_table(solved, "filtered/test")
    assert shares["released"]["rows"] == len(released) > 0
    assert all(row["right"] and row["generation_model"] == "toy-base" for row in released)
    assert len({row["problem"] for row in released}) == len(released)
    assert {row["dataset"] for row in released} == {"toy-maths-hard"}
    samples = parquet.read_table(folder / "release" / "samples").to_pylist()
    assert {row["item_id"] for row in samples} == {row["item_id"] for row in released}


def test_the_judge_is_asked_about_what_was_left_undecided_alone(solved: Checkout):
    folder = solved.folder / "results-limit-40" / "toy-maths"
    undecided = [
        (row["item_id"], row["sample"])
        for path in sorted((folder / "solve" / "checked").glob("*.parquet"))
        for row in parquet.read_table(path).to_pylist()
        if row["verdict"] == "undecided"
    ]
    verdicts = [
        row
        for path in sorted((folder / "judge" / "completions").glob("*.parquet"))
        for row in parquet.read_table(path).to_pylist()
    ]
    assert [(row["item_id"], int(row["request"].removeprefix("verdict-"))) for row in verdicts] == undecided
    assert undecided
    assert {row["text"] for row in verdicts} <= {"right", "wrong"}


def test_what_a_benchmark_holds_is_not_released_and_the_match_is_named(solved: Checkout):
    rejected = [row for row in maths_table(solved, "filtered/rejected") if row["reason"] == "contaminated"]
    assert rejected
    about = re.compile("How many (apples|books) does")
    assert all(about.search(row["problem"]) for row in rejected)
    released = maths_table(solved, "filtered/train") + maths_table(solved, "filtered/test")
    assert not any(about.search(row["problem"]) for row in released)
    folder = solved.folder / "results-limit-40" / "toy-maths"
    matches = json.loads((folder / "decontaminated" / "matches.json").read_text())["matches"]
    assert {match["item_id"] for match in matches} == {row["item_id"] for row in rejected}


def test_rows_of_a_slice_stay_by_the_measured_pass_rate(solved: Checkout):
    rows = maths_table(solved, "sources/rows", "toy-maths-banded")
    assert len(rows) == len(maths_table(solved, "filtered/train", "toy-maths-hard")) // 2
    kept = maths_table(solved, "selected/kept", "toy-maths-banded")
    grades = {
        row["item_id"]: row
        for path in (solved.folder / "results-limit-40" / "toy-maths-banded" / "solve" / "grades").glob("*.parquet")
        for row in parquet.read_table(path).to_pylist()
    }
    wanted = [row["item_id"] for row in rows if 0.25 <= (grades[row["problem_id"]]["pass_rate"] or 0) <= 0.75]
    assert [row["item_id"] for row in kept] == wanted
    assert all(row["pass_rate_samples"] <= 4 for row in kept)


def test_every_row_is_explained_back_to_the_file_that_it_is_from(solved: Checkout):
    results = solved.folder / "results-limit-40"
    for dataset, name in (
        ("toy-maths", "filtered/train"),
        ("toy-maths", "filtered/rejected"),
        ("toy-maths-banded", "filtered/train"),
        ("toy-maths-banded", "filtered/rejected"),
    ):
        for row in maths_table(solved, name, dataset)[:10]:
            way = trace(results, dataset, row["item_id"])
            stations = {
                "/".join(station.table.removesuffix(".parquet").split("/")[:2]): station.rows
                for station in way.stations
            }
            assert len(stations["solve/completions"]) >= 4
            assert {"solve/graded", "solve/grades", "sources/problems"} <= set(stations)
            assert way.sources
            for source in way.sources:
                assert source.dataset == "toy-maths-hard"
                assert source.stations[0].rows[0]["file"] == "toy.jsonl.gz"
            assert row["reason"] in way.fate if "reason" in row else way.fate.startswith("is in the split train")


def test_maths_datasets_are_loaded_by_datasets_and_every_row_is_accounted_for(solved: Checkout, tmp_path: Path):
    for name in ("toy-maths-hard", "toy-maths", "toy-maths-banded"):
        folder = solved.folder / "results-limit-40" / name
        loaded = datasets.load_dataset(str(folder / "release"), cache_dir=str(tmp_path / name))
        manifest = json.loads((folder / "release" / "manifest.json").read_text())
        assert {split: len(rows) for split, rows in loaded.items()} == {k: n for k, n in manifest["rows"].items() if n}
        wanted = {"problem", "answer", "generated_solution", "problem_type", "pass_rate", "dataset", "item_id"}
        assert wanted <= set(loaded["train"].column_names)
        for stage in json.loads((folder / "stats.json").read_text()):
            assert stage["in"] == stage["kept"] + sum(stage["dropped"].values())


def test_maths_are_built_again_without_asking_and_a_changed_choice_asks_nothing(solved: Checkout):
    folder = solved.folder / "results-limit-40"
    before = bytes_of(folder / "toy-maths" / "release")
    shutil.rmtree(folder / "toy-maths")
    built = solved.snakemake("--configfile", maths_config(solved, "maths"), "--rerun-triggers", "mtime")
    assert "loading toy-base" not in built.stdout
    assert bytes_of(folder / "toy-maths" / "release") == before
    stages = json.loads((folder / "toy-maths" / "run-stats.json").read_text())
    assert {stage["asked"] for stage in stages} == {0}
    changed = maths_config(solved, "longest", select={"solutions": "generated", "order": ["right", "longest"]})
    planned = solved.plan("--configfile", changed, "--", "results-limit-40/toy-maths/release/manifest.json")
    assert "select_solutions" in planned
    assert not {"generate", "check_solutions", "grade_solutions"} & set(planned)
