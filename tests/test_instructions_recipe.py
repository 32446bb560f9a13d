"""The instructions recipe in the config and in the graph: what stands where, and which settings exclude each other."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from corpusmith import layout
from corpusmith.config import resolve_config
from corpusmith.errors import InputError
from corpusmith.instructions.drawing import read_drawing
from corpusmith.instructions.rules import ResponseRules
from corpusmith.licensing import release_licence
from corpusmith.recipes import instructions
from test_layout import outputs_of_rules

MODELS = {
    "teacher": {"engine": "vllm", "repo": "owner/teacher", "licence": "apache-2.0"},
    "tagger": {"engine": "openai", "openai": {"base_url": "https://api.example.com/v1", "model": "large"}},
    "embedder": {"engine": "transformers", "path": "embedder", "device": "cpu", "licence": "mit"},
}
SCORERS = {"reward": {"metric": "reward", "repo": "owner/reward", "reward": {"form": "pair"}}}
WHOLE = {
    "recipe": "instructions",
    "sources": {"pre_query": {"model": "teacher", "family": "qwen3", "count": 30, "shards": 2}},
    "respond": {"model": "teacher", "scorer": "reward", "shards": 3},
    "tag": {"model": "tagger"},
    "preferences": {"model": "teacher", "scorer": "reward", "shards": 4},
    "filter": {"deduplicate": {}, "neighbours": {"model": "embedder"}, "safety": {}, "best": {"rows": 20}},
}


def resolved(**changes: Any) -> dict[str, Any]:
    """A checked config of one dataset; a changed value of None leaves the key out."""
    dataset = {key: value for key, value in (copy.deepcopy(WHOLE) | changes).items() if value is not None}
    return resolve_config({"models": MODELS, "scorers": SCORERS, "datasets": {"mine": dataset}})


def test_every_table_and_account_is_the_output_of_a_rule() -> None:
    for config in (resolved(), resolved(sources={"files": ["tasks.jsonl"]}, tag=None, preferences=None, filter={})):
        entries = [*layout.tables(config, "mine"), *layout.asking(config, "mine"), *layout.samples(config, "mine")]
        entries += layout.dropped(config, "mine")
        paths = [path.as_posix() for path in layout.expand("", entries, ".parquet")]
        accounts = [*layout.stages(config, "mine"), *layout.side_stages(config, "mine")]
        paths += [path.as_posix() for path in layout.expand("", accounts, ".account.json")]
        outputs = outputs_of_rules()
        assert [path for path in paths if not any(output.fullmatch(path) for output in outputs)] == []


def test_the_way_of_the_rows_goes_from_the_samples_through_every_filter() -> None:
    config = resolved()
    assert layout.stages(config, "mine") == [
        "instruct/completions=2", "sources/instructions", "respond/completions=3", "respond/scores=3",
        "selected", "deduplicated", "apart", "safe", "best",
    ]  # fmt: skip
    # Tags lie in the shards of the responses.
    assert layout.side_stages(config, "mine") == [
        "tag/completions=3", "prefer/completions=4", "prefer/scores=4", "preferences",
    ]  # fmt: skip
    assert layout.kept_before(config, "mine", "safe") == "apart"
    assert layout.samples(config, "mine") == ["preferences/kept"]
    # Pairs are made of what passed the filter: it cannot wait for them.
    assert layout.safety_samples(config, "mine") == []
    assert layout.pool_table(config, "mine") == "sources/instructions"


def test_without_a_scorer_and_pairs_no_score_is_made() -> None:
    config = resolved(respond={"model": "teacher"}, preferences=None, tag=None)
    assert layout.stages(config, "mine")[2:4] == ["respond/completions=16", "selected"]
    assert layout.models_of(config, "mine").keys() == {"teacher", "embedder"}
    assert layout.environments(config, "mine") == ["data", "embeddings-cpu", "vllm"]


def test_a_release_names_all_its_models_and_is_bound_by_those_that_write() -> None:
    config = resolved()
    assert layout.models_of(config, "mine").keys() == {"teacher", "reward", "tagger", "embedder"}
    parts = {part["name"]: part["role"] for part in release_licence(config, "mine")["parts"]}
    assert (parts["teacher"], parts["tagger"], parts["reward"]) == ("model", "chooser", "scorer")
    assert set(parts.values()) <= {"model", "chooser", "scorer"}


def test_programs_take_what_the_config_gives_them() -> None:
    config = resolved(select={"reward": -1.5, "response_characters": {"at_most": 900}, "language": True})
    entry = config["datasets"]["mine"]
    rules = instructions.selection_rules(entry)
    assert rules["least_reward"] == -1.5
    assert rules["response_characters"] == [None, 900]
    assert rules["language"] == ["en"]
    assert "instruction_characters" not in rules
    assert ResponseRules(rules, scored=True, tagged=True).wanted_tags() == {}
    unscored = resolved(respond={"model": "teacher"}, preferences=None, tag=None)["datasets"]["mine"]
    ResponseRules(instructions.selection_rules(unscored), scored=False)
    left_out = ("model", "family", "system_template", "shards", "max_failed")
    drawing = {key: value for key, value in entry["sources"]["pre_query"].items() if key not in left_out}
    assert read_drawing(drawing).count == 30


BY_REWARD = {"column": "reward", "order": "highest"}


def query(**changes: Any) -> dict[str, Any]:
    return {"pre_query": {**WHOLE["sources"]["pre_query"], **changes}}  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sources": query(template="<s>[INST] ")}, "sources.pre_query: family and template of family, template given"),
        ({"sources": query(model="tagger")}, "sources.pre_query.model: 'tagger' answers over HTTP"),
        ({"sources": query(model="nobody")}, "sources.pre_query.model: there is no model 'nobody'"),
        ({"sources": query(system_template="{system}")}, "system_template: goes with template"),
        (
            {"sources": query(family="gemma", topics=[{"name": "a", "system": "Be brief."}])},
            "topics: a has a system prompt, and the template has no place for one",
        ),
        ({"sources": query(topics=[{"name": "a"}, {"name": "a"}])}, "topics: two have one name"),
        ({"sources": {"files": ["x.jsonl"], **query()}}, "sources: pre_query and files of pre_query, files given"),
        ({"respond": {"model": "teacher", "n": 4, "scorer": "reward"}}, "temperature: 0 makes all 4 responses equal"),
        ({"respond": {"model": "teacher", "n": 4, "temperature": 1}}, "respond.n: 4 responses, and no scorer"),
        ({"respond": {"model": "teacher"}, "select": {"reward": 1}}, "select.reward: nothing is rewarded"),
        (
            {"respond": {"model": "teacher"}, "filter": {"best": {"rows": 5, "by": BY_REWARD}}},
            "filter.best.by.column: nothing is rewarded",
        ),
        (
            {"respond": {"model": "teacher"}, "filter": {"deduplicate": {"keep": BY_REWARD}}},
            "filter.deduplicate.keep.column: nothing is rewarded",
        ),
        (
            {"filter": {"best": {"rows": 5, "by": {"column": "response", "order": "lowest"}}}},
            "filter.best.by.column: 'response' is no column of numbers; allowed: reward, candidates",
        ),
        (
            {"filter": {"best": {"rows": 5, "by": {"column": "reward", "order": "longest"}}}},
            "filter.best.by.column: 'reward' is no column of texts; allowed: instruction, response",
        ),
        (
            {"filter": {"best": {"rows": 5}}, "release": {"minimum_rows": 6}},
            "filter.best.rows: 5 rows can be released, fewer than release.minimum_rows 6",
        ),
        ({"tag": None, "select": {"quality": ["good"]}}, "select.quality: nothing is tagged"),
        ({"select": {"response_characters": {"at_least": 9, "at_most": 5}}}, "at_least 9 is above at_most 5"),
        ({"select": {"repetition": True}}, "select.repetition: true says no share"),
        (
            {"preferences": {"model": "teacher", "scorer": "reward", "rule": "fixed_margin"}},
            "preferences.margin: goes with rule: fixed_margin",
        ),
        (
            {"preferences": {"model": "teacher", "scorer": "reward", "n": 1}},
            "preferences.n: a pair takes two responses",
        ),
        (
            {"preferences": {"model": "teacher", "scorer": "reward", "temperatures": [0]}},
            "preferences.temperatures: 0 makes all 5 responses equal",
        ),
        ({"filter": {"neighbours": {"model": "tagger"}}}, "filter.neighbours.model: 'tagger' answers over HTTP"),
        (
            {"filter": {"deduplicate": {"keep": {"column": "score", "order": "highest"}}}},
            "filter.deduplicate.keep.column: 'score' is no column of numbers; allowed: reward, candidates",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_refused_by_their_path(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        resolved(**changes)
    assert said in str(caught.value)
    assert str(caught.value).startswith("config: datasets.mine.")
