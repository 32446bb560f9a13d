"""Whole builds with Snakemake, of the toy world on config/tiny.yaml, in a copy of the checkout."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import datasets
import pyarrow.parquet as parquet
import pytest
import yaml
from sacrebleu.metrics import CHRF

from checkout import Checkout, bytes_of, need_control
from corpusmith.lineage import trace
from corpusmith.toy.translation import translate

pytestmark = pytest.mark.slow

TINY = ("--configfile", "config/tiny.yaml")
DATASET = "results-limit-40/toy-translation"
EVALUATION = {"pair_references", "score", "evaluate_release", "collect_run_stats"}
# What the selection and all behind it is made by.
AFTER_SELECTION = {
    "select_sources", "request_translations", "generate", "score", "select_best", "filter_translations",
    "merge_rejected", "write_split", "release_dataset", "collect_run_stats", "draw_baseline_sources",
    "measure_toy_quality", *EVALUATION,
}  # fmt: skip
AFTER_FILTER = {
    "filter_translations", "merge_rejected", "write_split", "release_dataset", "measure_toy_quality", *EVALUATION,
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The tiny dataset, built once with all its models."""
    need_control()
    return Checkout.with_release(tmp_path_factory)


def read(checkout: Checkout, name: str):
    return json.loads((checkout.folder / DATASET / name).read_text())


def rows_of(folder: Path) -> int:
    return sum(parquet.read_metadata(path).num_rows for path in folder.glob("*.parquet"))


def test_a_release_is_what_load_dataset_reads(built: Checkout, tmp_path: Path):
    loaded = datasets.load_dataset(str(built.folder / DATASET / "release"), cache_dir=str(tmp_path))
    filtered = built.folder / DATASET / "filtered"
    assert {split: len(rows) for split, rows in loaded.items()} == {
        split: parquet.read_metadata(filtered / f"{split}.parquet").num_rows for split in ("train", "test")
    }
    assert sum(len(rows) for rows in loaded.values()) > 0


def test_every_row_is_explained_released_or_not(built: Checkout):
    folder = built.folder / DATASET
    names = ("filtered/train", "filtered/test", "filtered/rejected", "prefilter/dropped")
    for name in names:
        for row in parquet.read_table(folder / f"{name}.parquet").slice(0, 10).to_pylist():
            way = trace(folder.parent, folder.name, row["item_id"])
            stations = {station.table: station.rows for station in way.stations}
            assert stations["sources/segments.parquet"][0]["line"] > 0
            assert any("/completions/" in table for table in stations)
            assert any("/scores/" in table for table in stations)
            reason = row.get("reason")
            assert reason in way.fate if reason else way.fate.startswith(f"is in the split {name.split('/')[1]}")


def test_the_counts_of_all_stages_add_up(built: Checkout):
    stages = read(built, "stats.json")
    for stage in stages:
        assert stage["in"] == stage["kept"] + sum(stage["dropped"].values()), stage["stage"]
    by_name = {stage["stage"]: stage for stage in stages}
    assert list(by_name) == [
        "read", "sample", "prefilter/generate", "prefilter/score", "prefilter/select",
        "final/generate", "final/score", "final/select", "filter", "release",
    ]  # fmt: skip
    assert by_name["prefilter/select"]["in"] == 40
    assert by_name["prefilter/select"]["kept"] == 16
    assert by_name["release"]["kept"] == rows_of(built.folder / DATASET / "release" / "data")
    completions = built.folder / DATASET / "final" / "completions"
    tokens = sum(
        sum(parquet.read_table(path)["completion_tokens"].to_pylist()) for path in completions.glob("*.parquet")
    )
    assert rows_of(completions) == 16 * 8
    assert by_name["final/generate"]["completion_tokens"] == tokens


def test_run_stats_say_what_was_asked(built: Checkout):
    stages = {stage["stage"]: stage for stage in read(built, "run-stats.json")}
    # The baseline, which asks the same of sources that it draws by chance, may have been before.
    for step, samples in (("prefilter", 80), ("final", 128)):
        stage = stages[f"{step}/generate"]
        assert stage["asked"] + stage["from_store"] == samples
    for stage in stages.values():
        assert {"asked", "from_store", "failed", "retries", "seconds", "items_per_second"} <= set(stage)


def test_the_release_is_held_against_references_beside_what_it_could_have_been(built: Checkout):
    found = read(built, "evaluation/metrics.json")
    released = [
        row
        for split in ("train", "test")
        for row in parquet.read_table(built.folder / DATASET / "filtered" / f"{split}.parquet").to_pylist()
    ]
    # The truth of every source of the toy world is known.
    assert found["rows"] == {"in": len(released), "kept": len(released), "dropped": {}}
    assert read(built, "evaluation/pairing.json")["released"]["kept"] == len(released)
    by_truth = {system: value["score"] for system, value in found["corpus_metrics"]["chrF"]["systems"].items()}
    expected = CHRF().corpus_score(
        [row["target"] for row in released], [[translate(row["source"]) for row in released]]
    )
    assert by_truth["released"] == pytest.approx(expected.score, abs=1e-5)
    assert by_truth["released"] >= by_truth["sampled"]
    # What was chosen by is in the release, and known already.
    blind = found["metrics"]["metricx-qe"]["systems"]["released"]
    assert blind["mean"] == pytest.approx(sum(row["score"] for row in released) / len(released), abs=1e-5)
    stages = {stage["stage"]: stage for stage in read(built, "run-stats.json")}
    assert stages["evaluation-metricx-qe/score"]["asked"] == 0
    assert stages["evaluation-metricx/score"]["asked"] > 0


def test_a_changed_evaluation_leaves_the_release_alone(built: Checkout):
    evaluation = {"references": {"toy": {}}, "metrics": {"quality": {"scorer": "toy-metricx"}}}
    planned = built.plan("--configfile", built.config("evaluation", datasets__toy_translation__evaluation=evaluation))
    assert set(planned) == {"score", "evaluate_release", "collect_run_stats"}
    assert planned["score"] == 1
    without = built.config("unevaluated", datasets__toy_translation__evaluation=None)
    assert set(built.plan("--configfile", without)) <= {"collect_run_stats"}


def test_a_second_build_has_nothing_to_do(built: Checkout):
    assert "Nothing to be done" in built.snakemake(*TINY).stdout


def test_a_changed_number_of_kept_sources_rebuilds_nothing_before_the_selection(built: Checkout):
    planned = built.plan("--configfile", built.config("keep", datasets__toy_translation__prefilter__keep=12))
    assert "select_sources" in planned
    assert set(planned) <= AFTER_SELECTION
    # final's two shards and the baseline's two; the prefilter's one is not among them.
    assert planned["generate"] == 4


def test_a_changed_filter_rebuilds_the_filter_and_what_follows(built: Checkout):
    changed = built.config("filter", datasets__toy_translation__filter={"rules": {"max_score": 3.0}})
    planned = built.plan("--configfile", changed)
    assert "filter_translations" in planned
    assert set(planned) <= AFTER_FILTER


def test_a_comment_in_a_program_rebuilds_nothing_and_a_changed_line_what_it_made(built: Checkout):
    program = built.folder / "scripts" / "generate.py"
    before = program.read_text()
    try:
        program.write_text(before.replace("def main()", "# A remark.\ndef main()", 1))
        assert built.plan(*TINY) == {}
        program.write_text(before.replace('help="table of requests"', 'help="a table of requests"', 1))
        planned = built.plan(*TINY)
        assert planned["generate"] == 5
        assert "sample_sources" not in planned
        assert "train_toy_language_model" not in planned
    finally:
        program.write_text(before)
    assert built.plan(*TINY) == {}


def test_one_target_is_built_without_what_it_does_not_need(built: Checkout):
    target = f"{DATASET}/filtered/train.parquet"
    planned = built.plan(*TINY, "--forceall", target)
    assert "write_split" in planned
    assert not {"release_dataset", "measure_toy_quality", "merge_rejected"} & set(planned)


def test_machine_settings_rebuild_nothing(built: Checkout):
    changed = built.config("machine", **{"models__toy-base__batch_size": 16, "models__toy-base__memory_mb": 2000})
    assert built.plan("--configfile", changed) == {}


@pytest.mark.thorough
def test_building_again_gives_the_same_bytes_in_another_order_of_answers(built: Checkout):
    before = bytes_of(built.folder / DATASET / "release")
    stats = (built.folder / DATASET / "stats.json").read_bytes()
    shutil.rmtree(built.folder / "results-limit-40")
    # Another batch size changes which answers are computed beside each other; another store knows none of them.
    changed = built.config(
        "batches",
        store="another-store",
        **{"models__toy-base__batch_size": 37, "scorers__toy-metricx__tokens_per_batch": 999},
    )
    built.snakemake("--configfile", changed)
    assert bytes_of(built.folder / DATASET / "release") == before
    assert (built.folder / DATASET / "stats.json").read_bytes() == stats


def test_building_again_asks_nothing_that_was_answered_and_more_answers_pay_for_the_difference(built: Checkout):
    before = bytes_of(built.folder / DATASET / "release")
    shutil.rmtree(built.folder / "results-limit-40")
    built.snakemake(*TINY)
    stages = read(built, "run-stats.json")
    assert [stage["asked"] for stage in stages] == [0] * len(stages)
    assert all(stage["from_store"] > 0 for stage in stages)
    assert bytes_of(built.folder / DATASET / "release") == before
    # Three more for each of the sixteen, and the same ones as before in other shards.
    changes = {"datasets__toy_translation__final__n": 11, "datasets__toy_translation__final__shards": 3}
    shutil.copytree(built.folder / "results" / "models", built.folder / "more" / "models")
    folder = built.folder / "more-limit-40" / "toy-translation"
    config = built.config("more", results="more", **changes)
    target = "more-limit-40/toy-translation/checked/kept.parquet"
    built.snakemake("--configfile", config, "--rerun-triggers", "mtime", "--", target)
    stats = stats_of(folder)
    assert stats["prefilter/generate"] == (0, 80)
    asked, known = stats["final/generate"]
    # The baseline may have asked some of the same before.
    assert 0 < asked <= 16 * 3
    assert asked + known == 16 * 11


def stats_of(folder: Path) -> dict[str, tuple[int, int]]:
    """What was asked and what was in the store, by step and kind, added up over shards."""
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for path in sorted(folder.glob("*/*/*.run-stats.json")):
        stats = json.loads(path.read_text())
        asked, known = found[stats["stage"]]
        found[stats["stage"]] = asked + stats["asked"], known + stats["from_store"]
    return dict(found)


def texts_of(folder: Path) -> dict[tuple[str, str, int], str]:
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]
    return {(row["item_id"], row["request"], row["sample"]): row["text"] for row in rows}


@pytest.mark.thorough
def test_a_larger_n_asks_for_the_difference_and_a_second_dataset_with_the_same_requests_for_nothing(built: Checkout):
    changes = {
        "results": "grown",
        "store": "grown-store",
        "datasets__toy_translation__prefilter__keep": 4,
        "datasets__toy_translation__final__shards": 1,
    }
    shutil.copytree(built.folder / "results" / "models", built.folder / "grown" / "models")
    folder = built.folder / "grown-limit-40" / "toy-translation"
    target = "grown-limit-40/toy-translation/release/manifest.json"
    few = built.config("few", **changes, datasets__toy_translation__final__n=32)
    built.snakemake("--configfile", few, "--rerun-triggers", "mtime", "--", target)
    # A greedy and a sampled answer of 40 sources; 32 of 4, of which that sampled one is the first.
    stats = stats_of(folder)
    assert (stats["prefilter/generate"], stats["final/generate"]) == ((80, 0), (4 * 31, 4))
    before = texts_of(folder / "final" / "completions")

    many = built.config("many", **changes, datasets__toy_translation__final__n=128)
    shutil.rmtree(built.folder / "grown-limit-40")
    built.snakemake("--configfile", many, "--rerun-triggers", "mtime", "--", target)
    assert (stats_of(folder)["prefilter/generate"], stats_of(folder)["final/generate"]) == ((0, 80), (4 * 96, 4 * 32))
    after = texts_of(folder / "final" / "completions")
    assert len(after) == 4 * 128
    assert {key: after[key] for key in before} == before
    # Equal answers to one source are scored once; the prefilter has scored those of its own, too.
    asked_before = before | texts_of(folder / "prefilter" / "completions")
    scored, scored_before = ({(item, text) for (item, _, _), text in texts.items()} for texts in (after, asked_before))
    assert stats_of(folder)["final/score"] == (len(scored - scored_before), len(scored & scored_before))

    # Under another name, in other shards and batches, with another filter.
    config = yaml.safe_load(Path(many).read_text())
    config["datasets"]["twin"] = config["datasets"]["toy-translation"] | {"filter": {"rules": {"max_score": 20.0}}}
    config["datasets"]["twin"]["final"] = config["datasets"]["twin"]["final"] | {"shards": 3}
    config["models"]["toy-base"]["batch_size"] = 5
    twin = built.folder / "twin.yaml"
    twin.write_text(yaml.safe_dump(config))
    target = "grown-limit-40/twin/release/manifest.json"
    built.snakemake("--configfile", str(twin), "--rerun-triggers", "mtime", "--", target)
    stats = stats_of(built.folder / "grown-limit-40" / "twin")
    assert sorted(stats) == ["final/generate", "final/score", "prefilter/generate", "prefilter/score"]
    assert {asked for asked, _ in stats.values()} == {0}
    assert stats["final/generate"] == (0, 4 * 128)
    assert texts_of(built.folder / "grown-limit-40" / "twin" / "final" / "completions") == after


@pytest.mark.thorough
def test_other_sampling_and_another_prompt_are_paid_for_where_they_are_asked(built: Checkout):
    shutil.copytree(built.folder / "results" / "models", built.folder / "other" / "models")
    folder = built.folder / "other-limit-40" / "toy-translation"
    target = "other-limit-40/toy-translation/final/completions/0000-of-0001.parquet"
    prompt = (built.folder / "config" / "prompts" / "toy-translate.txt").read_text()
    (built.folder / "other.txt").write_text(f"{prompt} ")
    known = set()
    for name, value in [("temperature", 1.1), ("max_tokens", 119), ("prompt", "other.txt")]:
        changes = {f"datasets__toy_translation__final__{name}": value, "datasets__toy_translation__final__shards": 1}
        config = built.config("other", results="other", **changes)
        built.snakemake("--configfile", config, "--rerun-triggers", "mtime", "--", target)
        stats = stats_of(folder)
        assert (stats["prefilter/generate"], stats["prefilter/score"][0]) == ((0, 80), 0)
        assert stats["final/generate"] == (16 * 8, 0)
        keys = set(parquet.read_table(built.folder / target)["key"].to_pylist())
        assert len(keys) == 16
        assert not keys & known
        known |= keys
        shutil.rmtree(folder / "final")


def gpus_of_jobs(printed: str) -> dict[tuple[str, str, str], set[str]]:
    """The GPUs that jobs which ask a model or scorer were started with, by dataset, step and rule."""
    found = defaultdict(set)
    for rule, job in re.findall(r"^(?:local)?rule (generate|score):\n((?: .*\n)+)", printed, re.MULTILINE):
        dataset, step = re.search(r"wildcards: dataset=([^,]+), step=([^,]+),", job).groups()
        found[dataset, step, rule].add(re.search(r"resources: .*\bgpu=(\d+)", job)[1])
    return dict(found)


def test_with_everything_found_no_gpu_is_queued_and_nothing_is_loaded(
    built: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The same dataset for GPUs, which are not here: what a CPU has answered is known by the same keys."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    checkout = Checkout(tmp_path / "checkout", built.environments)
    for kind in ("transformers", "metricx"):
        shutil.copy(checkout.folder / "envs" / f"{kind}-cpu.yaml", checkout.folder / "envs" / f"{kind}.yaml")
    shutil.copytree(built.folder / "results" / "models", checkout.folder / "results" / "models")
    shutil.copytree(built.folder / "store", checkout.folder / "store")
    changes = {"models__toy-base__device": "cuda", "scorers__toy-metricx__device": "cuda"}
    target = f"{DATASET}/release/manifest.json"

    def build(name: str, *targets: str, **more: object) -> subprocess.CompletedProcess[str]:
        config = checkout.config(name, **changes, **more)
        flags = ("--rerun-triggers", "mtime", "--resources", "gpu=4")
        return checkout.snakemake("--configfile", config, *flags, "--", target, *targets, check=False)

    done = build("cuda")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "loading" not in done.stdout
    asking = [(step, rule) for step in ("prefilter", "final") for rule in ("generate", "score")]
    assert gpus_of_jobs(done.stdout) == {("toy-translation", *job): {"0"} for job in asking}
    assert {asked for asked, _ in stats_of(checkout.folder / DATASET).values()} == {0}
    assert not list((checkout.folder / DATASET).rglob("*.missing.json"))
    assert bytes_of(checkout.folder / DATASET / "release" / "data") == bytes_of(
        built.folder / DATASET / "release" / "data"
    )

    # More answers for each source than any test has asked for, all in one shard: now its job asks for a GPU, and there
    # is none. Another dataset, of which everything is found, is built all the same.
    shutil.rmtree(checkout.folder / "results-limit-40")
    config = yaml.safe_load((checkout.folder / "cuda.yaml").read_text())
    more = json.loads(json.dumps(config["datasets"]["toy-translation"]))
    more["final"] |= {"n": 12, "shards": 1}
    done = build("cuda-more", "results-limit-40/more/release/manifest.json", datasets__more=more)
    assert done.returncode != 0
    found = gpus_of_jobs(done.stdout)
    assert found.pop(("more", "final", "generate")) == {"1"}
    assert set.union(*found.values()) == {"0"}
    assert ("more", "final", "score") not in found
    assert "loading" not in done.stdout
    assert re.findall(r"^Error in rule (\w+):", done.stdout, re.MULTILINE) == ["generate"]
    log = checkout.folder / "results-limit-40" / "logs" / "generate" / "more" / "final" / "0000-of-0001.log"
    *_, last = log.read_text().splitlines()
    assert last.startswith("error: --tp 1 asks for 1 GPUs, this job sees 0; ")
    assert "Traceback" not in done.stdout
    assert (checkout.folder / target).exists()
    assert {asked for asked, _ in stats_of(checkout.folder / DATASET).values()} == {0}


@pytest.mark.thorough
def test_filters_of_every_recipe_come_before_a_judge_that_answers_with_one_of_its_verdicts(built: Checkout):
    prompt = built.folder / "judge.txt"
    prompt.write_text("Korean: {{ source }} {{ target }}")
    judge = {"model": "toy-base", "prompt": "judge.txt", "verdicts": ["good", "bad"], "accept": ["good"], "shards": 2}
    sources = parquet.read_table(built.folder / DATASET / "checked" / "kept.parquet")["source"].to_pylist()
    (built.folder / "known.jsonl").write_text(json.dumps({"text": sources[0]}) + "\n")
    known = {"benchmarks": ["known.jsonl"], "ngram": 4}
    every = {"rules": {"max_score": False}, "deduplicate": {}, "decontaminate": known, "safety": {}}
    config = built.config(
        "judge",
        results="judged",
        datasets__toy_translation__filter={**every, "judge": judge},
        datasets__toy_translation__release={"minimum_rows": 1, "title": "Judged"},
    )
    # The models are those of the first build: only what the judge sees is new.
    shutil.copytree(built.folder / "results" / "models", built.folder / "judged" / "models")
    built.snakemake("--configfile", config, "--rerun-triggers", "mtime", check=False)
    judged = built.folder / "judged-limit-40" / "toy-translation"
    answers = [
        row
        for path in (judged / "filter-judge" / "completions").glob("*.parquet")
        for row in parquet.read_table(path).to_pylist()
    ]
    assert answers
    assert {row["text"] for row in answers} <= {"good", "bad"}
    rejected = parquet.read_table(judged / "decontaminated" / "rejected.parquet").to_pylist()
    assert sources[0] in [row["source"] for row in rejected]
    before = parquet.read_table(judged / "safe" / "kept.parquet")["item_id"].to_pylist()
    assert sorted(row["item_id"] for row in answers) == sorted(before)
    assert set(before) < set(parquet.read_table(judged / "checked" / "kept.parquet")["item_id"].to_pylist())
    kept = parquet.read_table(judged / "judged" / "kept.parquet")["item_id"].to_pylist()
    assert sorted(kept) == sorted(row["item_id"] for row in answers if row["text"] == "good")


def of_files(sources: dict[str, object]) -> dict[str, object]:
    """Changes of a config for sources of the user's, whose truth nobody knows."""
    return {"datasets__toy_translation__sources": sources, "datasets__toy_translation__evaluation": None}


def test_sources_that_cannot_be_read_stop_the_build_before_a_model_is_loaded(built: Checkout):
    folder = built.folder / "bad"
    folder.mkdir(exist_ok=True)
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "Mina bought 3 books."}\n' * 500)[:60])
    sources = {"files": ["bad/*.jsonl.gz"], "pool": 10, "edges": [0, 60]}
    config = built.config("bad", results="unread", **of_files(sources))
    shutil.copytree(built.folder / "results" / "models", built.folder / "unread" / "models", dirs_exist_ok=True)
    done = built.snakemake("--configfile", config, "--rerun-triggers", "mtime", check=False)
    assert done.returncode != 0
    assert "bad/cut.jsonl.gz" in done.stdout
    assert "loading" not in done.stdout


def test_a_pattern_without_files_and_a_wrong_key_are_one_line_each(built: Checkout):
    sources = {"files": ["nowhere/*.jsonl.gz"], "pool": 10}
    done = built.snakemake(
        "-n",
        "--configfile",
        built.config("nowhere", results="none", **of_files(sources)),
        check=False,
    )
    assert done.returncode != 0
    assert "nowhere/*.jsonl.gz" in done.stdout
    assert "Traceback" not in done.stdout
    done = built.snakemake("-n", "--configfile", built.config("wrong", models__other={"engin": "x"}), check=False)
    assert done.returncode != 0
    assert "models.other" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.thorough
def test_real_text_runs_to_a_release_or_to_a_clear_statement_that_nothing_passed(built: Checkout, shared_data: Path):
    sources = {"files": [str(shared_data / "translation" / "*.jsonl.gz")], "pool": 40, "edges": [0, 60, 200, 600]}
    config = built.config("real", results="real", **of_files(sources))
    shutil.copytree(built.folder / "results" / "models", built.folder / "real" / "models")
    dataset = "real-limit-40/toy-translation"
    done = built.snakemake(
        "--configfile", config, "--rerun-triggers", "mtime", "--", f"{dataset}/release/manifest.json", check=False
    )
    rejected = parquet.read_table(built.folder / dataset / "filtered" / "rejected.parquet").to_pylist()
    assert all(row["reason"] and row["source"] for row in rejected)
    # The toy teacher knows no English but the toy world's.
    assert done.returncode != 0
    assert "0 rows passed, the release asks for at least 1" in done.stdout, done.stdout[-3000:]
    assert not (built.folder / dataset / "release" / "manifest.json").exists()
