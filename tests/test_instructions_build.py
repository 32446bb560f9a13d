"""A build of the instructions recipe with Snakemake: instructions, responses, pairs, a tuned model, its evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as parquet
import pytest
import yaml

from checkout import Checkout, need_control
from corpusmith.lineage import trace
from hub_server import HubServer

pytestmark = pytest.mark.slow

# Models that are hardly trained: what they say is poor, and all of it is asked, scored, tuned and measured for real.
SMALL = """
models:
  toy-instruct: &cpu {engine: transformers, toy: {steps: 120, learns: commands}, device: cpu, dtype: float64}
scorers:
  toy-reward: {metric: reward, reward: {form: pair}, toy: {steps: 20}, device: cpu, dtype: float64}
datasets:
  made-up:
    recipe: instructions
    sources:
      pre_query: {model: toy-instruct, family: qwen3, count: 60, max_tokens: 48, shards: 2}
    respond: {model: toy-instruct, scorer: toy-reward, n: 2, temperature: 1.0, max_tokens: 32, shards: 1}
    preferences: {model: toy-instruct, scorer: toy-reward, n: 2, temperatures: [0.7, 1.0], max_tokens: 32, shards: 1}
    tag: {model: toy-instruct, prompt: tag.txt}
    select: {repetition: false, difficulty: [very easy, easy, medium, hard, very hard]}
    filter:
      deduplicate: {near: false}
      neighbours: {model: toy-instruct, similarity: 0.9999, keep: {column: reward, order: highest}}
      safety: {}
      best: {rows: 25, by: {column: reward, order: highest}}
    splits: {train: 0.8, test: 0.2}
tuning:
  student: &tuning
    method: sft
    base: toy-instruct
    data: {dataset: made-up}
    arguments: {num_train_epochs: 1}
    device: cpu
  preferring:
    <<: *tuning
    method: dpo
    adapter: student
    data: {dataset: made-up, config: preferences}
    publish: {repo: me/preferring}
hub: {xet: false}
evaluations:
  models: [preferring]
  tasks:
    toy-commands: {file: config/evals/toy-commands.yaml, chat_template: true, limit: 12}
  device: cpu
  dtype: float32
"""


def config_of(checkout: Checkout, name: str, count: int) -> str:
    config = yaml.safe_load(SMALL)
    config["datasets"]["made-up"]["sources"]["pre_query"]["count"] = count
    (checkout.folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    # The toy model sees 1,024 characters.
    (checkout.folder / "tag.txt").write_text("Tag: {{ instruction }}")
    return f"{name}.yaml"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """All of it, built once."""
    need_control()
    checkout = Checkout.with_environments(tmp_path_factory)
    checkout.snakemake("--configfile", config_of(checkout, "small", 60))
    return checkout


def table(checkout: Checkout, name: str) -> list[dict[str, Any]]:
    return parquet.read_table(checkout.folder / "results" / "made-up" / f"{name}.parquet").to_pylist()


def test_the_release_holds_conversations_and_pairs_of_the_same_split(built: Checkout, tmp_path: Path) -> None:
    release = str(built.folder / "results" / "made-up" / "release")
    rows = datasets.load_dataset(release, cache_dir=str(tmp_path))
    pairs = datasets.load_dataset(release, "preferences", cache_dir=str(tmp_path))
    kept = {row["item_id"] for row in table(built, "best/kept")}
    assert {row["item_id"] for split in rows.values() for row in split} == kept
    assert len(kept) == 25
    apart = sorted((row["reward"] for row in table(built, "safe/kept")), reverse=True)
    assert sorted((row["reward"] for row in table(built, "best/kept")), reverse=True) == apart[:25]
    assert {row["reason"] for row in table(built, "best/rejected")} == {"not_among_best"}
    for row in rows["train"]:
        assert row["messages"] == [
            {"role": "user", "content": row["instruction"]},
            {"role": "assistant", "content": row["response"]},
        ]
    assert sum(map(len, pairs.values())) == len(table(built, "preferences/kept")) > 0
    for name, split in pairs.items():
        assert set(split["item_id"]) <= set(rows[name]["item_id"])
        for pair in split:
            assert pair["chosen_score"] > pair["rejected_score"]
            assert len(pair["responses"]) == 4


def test_the_counts_of_all_stages_add_up(built: Checkout) -> None:
    stages = json.loads((built.folder / "results" / "made-up" / "stats.json").read_text())
    for stage in stages:
        assert stage["in"] == stage["kept"] + sum(stage["dropped"].values()), stage["stage"]
    by_name = {stage["stage"]: stage for stage in stages}
    assert by_name["sources/instructions"]["in"] == 60
    assert by_name["select"]["in"] == by_name["sources/instructions"]["kept"]
    assert by_name["preferences"]["in"] == by_name["release"]["kept"] == 25


def test_rows_are_tagged_in_the_words_that_tags_have(built: Checkout) -> None:
    tagged = table(built, "selected/kept")
    assert not [row for row in table(built, "selected/rejected") if "untagged" in row["reasons"]]
    assert {row["difficulty"] for row in tagged} <= {"very easy", "easy", "medium", "hard", "very hard"}
    assert {row["quality"] for row in tagged} <= {"very poor", "poor", "average", "good", "excellent"}
    assert all(row["category"] and row["language"] for row in tagged)


def test_the_best_of_the_responses_is_taken(built: Checkout) -> None:
    rewards: dict[str, list[float]] = {}
    shard = "0000-of-0001"
    answered = {
        (row["item_id"], row["sample"])
        for row in table(built, f"respond/completions/{shard}")
        if row["finish_reason"] == "stop" and row["text"].strip()
    }
    for row in table(built, f"respond/scores/{shard}"):
        if (row["item_id"], row["sample"]) in answered:
            rewards.setdefault(row["item_id"], []).append(row["score"])
    for row in table(built, "selected/kept"):
        assert row["reward"] == max(rewards[row["item_id"]])
        assert row["candidates"] == len(rewards[row["item_id"]])


def test_a_tuned_model_and_its_base_are_measured_on_the_same_items(built: Checkout) -> None:
    folder = built.folder / "results" / "evals"
    names = ("toy-instruct", "student", "preferring")
    measured = {name: json.loads((folder / name / "toy-commands.json").read_text()) for name in names}
    assert {value["samples"] for value in measured.values()} == {12}
    said = (folder / "comparison.md").read_text()
    for name in names:
        assert (
            f"| {name} | toy-commands | exact_match | {measured[name]['metrics']['exact_match']['value']:.4f}" in said
        )
    trained = json.loads((built.folder / "results" / "models" / "preferring" / "training.json").read_text())
    assert (trained["method"], trained["adapter_of"], trained["base"]) == ("dpo", "student", "toy-instruct")
    assert not (built.folder / "results" / "models" / "preferring" / "checkpoints").exists()


def test_a_tuned_model_is_published_with_a_card_that_tells_how_it_was_tuned(
    built: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built.folder / "results" / "models" / "preferring" / "model"
    with HubServer() as hub:
        for name, value in hub.environment(built.folder / "home", HF_TOKEN=hub.token).items():
            monkeypatch.setenv(name, value)
        said = built.snakemake("--configfile", "small.yaml", "--", "upload").stdout
        assert "upload preferring to me/preferring, a private repository, on main" in said
        repo = hub.repos["models", "me/preferring"]
        held = {path: blob.content for path, blob in repo.commits[repo.branches["main"]].items()}
    assert held.pop(".gitattributes")
    card = held.pop("README.md").decode()
    assert held == {path.name: path.read_bytes() for path in model.iterdir() if not path.name.startswith(".")}
    # Base, rows and the tuning before are the toy world's, and nobody's.
    assert "license: cc0-1.0" in card
    assert "By DPO on" in card
    assert "going on with student" in card


def test_a_row_is_explained_from_the_sample_that_it_was(built: Checkout) -> None:
    for name in ("filtered/train", "filtered/rejected", "sources/dropped_samples"):
        for row in table(built, name)[:5]:
            way = trace(built.folder / "results", "made-up", row["item_id"])
            assert any(station.table.startswith("instruct/completions/") for station in way.stations)
            assert row.get("reason") is None or row["reason"] in way.fate


def test_more_instructions_pay_for_the_difference_and_a_second_build_does_nothing(built: Checkout) -> None:
    assert built.plan("--configfile", "small.yaml") == {}
    target = "results/made-up/sources/instructions.parquet"
    before = [row["instruction"] for row in table(built, "sources/instructions")]
    built.snakemake("--configfile", config_of(built, "larger", 80), "--", target)
    stats = [
        json.loads(path.read_text())
        for path in (built.folder / "results" / "made-up" / "instruct" / "completions").glob("*.run-stats.json")
    ]
    assert sum(stat["asked"] for stat in stats) == 20
    assert sum(stat["from_store"] for stat in stats) == 60
    assert [row["instruction"] for row in table(built, "sources/instructions")][: len(before)] == before
