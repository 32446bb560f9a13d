"""The maths recipe's part of a config: what cannot be at once is refused, with its key and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from corpusmith.config import resolve_config
from corpusmith.errors import InputError

MODEL = {"engine": "transformers", "repo": "a/b"}
SERVER = {"engine": "openai", "openai": {"base_url": "https://example.org/v1", "model": "large"}}
SOLVE = {"solve": {"model": "solver"}}


def resolve(others: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    dataset = {"recipe": "maths", "sources": {"files": ["a.jsonl"]}, **keys}
    return resolve_config(
        {"models": {"solver": MODEL, "server": SERVER}, "datasets": {"maths": dataset, **(others or {})}}
    )


def made_of(*names: str) -> dict[str, Any]:
    return {"recipe": "maths", "sources": {"dataset": [*names]}}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"sources": {"files": ["a"], "toy": {}}}, "sources: files and toy of files, hub, dataset, toy given"),
        ({"sources": {}}, "sources: none of files, hub, dataset, toy given"),
        ({"sources": {"hub": {"split": "a/b"}}}, "sources.hub.split: 'a/b' does not fit"),
        ({"sources": {"dataset": ["none"]}}, "sources.dataset: there is no dataset 'none'; allowed: maths"),
        ({"sources": {"dataset": ["maths"]}}, "sources.dataset: is made of itself"),
        ({"sources": {"files": ["a"], "start": 0.5, "end": 0.5}}, "sources.start: 0.5 is not below end 0.5"),
        (
            {"sources": {"files": ["a"], "labels": {"solution_tokens": {"at_most": 9}}}},
            "sources.tokenizer: is missing",
        ),
        (
            {"sources": {"files": ["a"], "labels": {"pass_rate": {"at_least": 0.5, "at_most": 0.1}}}},
            "sources.labels.pass_rate: at_least 0.5 is above at_most 0.1",
        ),
        ({"sources": {"files": ["a"], "columns": {"problem": None}}}, "sources.columns.problem: null is not allowed"),
        ({"solve": {"model": "other"}}, "solve.model: there is no model 'other'; allowed: server, solver"),
        ({"solve": {"model": "solver", "temperature": 0}}, "solve.temperature: 0 makes all 16 solutions equal"),
        ({"judge": {"model": "solver"}}, "judge: nothing is solved that it could judge"),
        ({"select": {"solutions": "generated"}}, "select.solutions: generated, but nothing is solved"),
        ({"select": {"pass_rate": {"at_most": 0.5}}}, "select.pass_rate: is measured by solving"),
        ({**SOLVE, "judge": {"model": "solver", "votes": 2, "temperature": 1}}, "judge.votes: 2 votes can be even"),
        ({**SOLVE, "judge": {"model": "solver", "votes": 3}}, "judge.temperature: 0 makes all 3 votes equal"),
        ({**SOLVE, "judge": {"model": "solver", "accept": ["maybe"]}}, "judge.accept: 'maybe' is no verdict"),
        ({**SOLVE, "check": {"answer": "pattern"}}, "check.pattern: is missing"),
        ({"filter": {"deduplicate": {"near": True}}}, "filter.deduplicate.near: true says no similarity"),
        (
            {"filter": {"deduplicate": {"column": "source"}}},
            "filter.deduplicate.column: 'source' is no column of texts; allowed: problem",
        ),
        (
            {"filter": {"deduplicate": {"keep": {"column": "length", "order": "lowest"}}}},
            "filter.deduplicate.keep.column: 'length' is no column of numbers; allowed: pass_rate",
        ),
        (
            {"filter": {"decontaminate": {"benchmarks": ["b"], "columns": ["target"]}}},
            "filter.decontaminate.columns: 'target' is no column of texts",
        ),
        (
            {"filter": {"safety": {"columns": ["target"]}}},
            "filter.safety.columns: 'target' is no column of texts; allowed: problem",
        ),
        # Where no solutions are made, there are no samples.
        ({"filter": {"safety": {"columns": ["samples"]}}}, "safety.columns: 'samples' is no column of texts"),
        (
            {"filter": {"safety": {"emails": False, "phone_numbers": False, "secrets": False}}},
            "filter.safety: nothing is looked for; allowed: null",
        ),
        # A column of the wrong kind would be refused when all is solved.
        ({"filter": {"deduplicate": {"column": "pass_rate"}}}, "'pass_rate' is no column of texts"),
        ({**SOLVE, "check": {"pattern": "A: (.*)"}}, "check.answer: boxed looks for no pattern"),
        ({**SOLVE, "check": {"answer": "pattern", "pattern": "("}}, "check.pattern: '(' is no regular expression"),
        ({"sources": {"files": ["a"], "tokenizer": "server"}}, "sources.tokenizer: 'server' answers over HTTP"),
    ],
)
def test_what_cannot_be_at_once_is_refused_with_what_is_allowed(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as raised:
        resolve(**keys)
    (line,) = [line for line in str(raised.value).splitlines() if said in line]
    assert line.startswith("config: datasets.maths.")
    assert "allowed: " in line or "it has to be given" in line


def test_a_dataset_of_another_recipe_is_no_source() -> None:
    step = {"model": "solver", "scorer": "scorer"}
    translation = {
        "recipe": "translation",
        "source_language": {"code": "en", "name": "English"},
        "target_language": {"code": "ko", "name": "Korean"},
        "sources": {"files": ["a.jsonl"], "pool": 1},
        "prefilter": {**step, "keep": 1},
        "final": step,
    }
    scorers = {"scorer": {"metric": "metricx-24", "repo": "a/b"}}
    datasets = {"maths": made_of("news"), "news": translation}
    with pytest.raises(InputError, match="news is of the recipe translation"):
        resolve_config({"models": {"solver": MODEL}, "scorers": scorers, "datasets": datasets})


def test_a_circle_of_datasets_is_refused_and_a_row_of_them_is_not() -> None:
    others = {"first": made_of("maths"), "second": made_of("first")}
    assert resolve(others)["datasets"]["second"]["sources"]["dataset"] == ["first"]
    with pytest.raises(InputError, match=r"datasets.first.sources.dataset: is made of itself"):
        resolve({"first": made_of("second"), "second": made_of("first")})
