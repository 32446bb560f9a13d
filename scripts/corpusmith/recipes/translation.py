"""The translation recipe: sources, a prefilter, the best of many answers, rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from corpusmith.metrics import KINDS
from corpusmith.recipes.common import (
    Entry,
    counting_contradictions,
    one_of,
    sharded,
    unknown_names,
)

CARD = "scripts/corpusmith/templates/translation.md.jinja"
# The filter that is its own, before those of every recipe.
FILTER = "checked"
SOURCES = ("files", "hub", "toy")
_REFERENCES = ("files", "toy")
_THRESHOLD_RULES = ("copied_source", "script", "language", "length_ratio", "repetition", "max_score")
# Columns of its rows that filters may name. The first text is what duplicates are known by.
TEXTS = ("source", "target")
NUMBERS = ("score", "mean_score", "candidates")


def steps(entry: Entry) -> list[str]:
    """Names of its steps, in order."""
    return ["prefilter", "final"]


def step_of(entry: Entry, step: str) -> Entry:
    """A step's config. baseline, which the toy demo draws from random sources, is asked as final is."""
    found: Entry = entry["final"] if step == "baseline" else entry[step]
    return found


def writers(entry: Entry) -> list[str]:
    """Models that write what is released."""
    return [entry["final"]["model"]]


def toy_steps(entry: Entry) -> list[str]:
    """Steps that only the demo asks, to compare with."""
    return ["baseline"] if "toy" in entry["sources"] else []


def counting(entry: Entry) -> str:
    """The model whose tokenizer counts."""
    found: str = entry["sources"].get("tokenizer", entry["prefilter"]["model"])
    return found


def kinds(entry: Entry, step: str) -> tuple[str, ...]:
    """Kinds of tables that models and scorers make in a step."""
    return ("completions", "scores")


def pool(entry: Entry) -> str:
    """The table of items that everything is counted from."""
    return "sources/segments"


def stages(entry: Entry) -> list[str]:
    """Accounts along the way."""
    found = ["sources/read", "sources/sample"]
    for step in ("prefilter", "final"):
        found += [sharded(step, kind, entry[step]["shards"]) for kind in kinds(entry, step)]
        found.append("prefilter/select" if step == "prefilter" else sharded(step, "selected", entry[step]["shards"]))
    return found


def side_stages(entry: Entry) -> list[str]:
    """Accounts beside it."""
    return []


def tables(entry: Entry) -> list[str]:
    """Every table, in order."""
    found = ["sources/segments", "sources/bad_rows"]
    for step in ("prefilter", "final"):
        shards = entry[step]["shards"]
        found += [sharded(step, kind, shards) for kind in ("requests", *kinds(entry, step))]
        if step == "prefilter":
            found += ["prefilter/dropped", "final/sources"]
        else:
            found += [sharded(step, kind, shards) for kind in ("selected", "dropped")]
    return found


def dropped(entry: Entry) -> list[str]:
    """Tables of what left between the pool and the filters."""
    return ["prefilter/dropped", sharded("final", "dropped", entry["final"]["shards"])]


def environments(entry: Entry) -> tuple[str, ...]:
    """Environments of its own programs, beside that of all data."""
    return ()


def samples(entry: Entry) -> list[str]:
    """Tables of further answers to released items; none, as its rows hold their best ones."""
    return []


def released_texts(entry: Entry) -> list[str]:
    """Where its releases hold texts: of the columns, top_k holds further answers."""
    return [*TEXTS, "top_k"]


def learnt(entry: Entry) -> dict[str, Any]:
    """How its rows become some to tune a model on: asked as the model was that wrote them."""
    languages = {key: entry[key] for key in ("source_language", "target_language")}
    return {
        "prompt": entry["final"]["prompt"],
        "completion": "target",
        "columns": {"text": "source"},
        "values": languages,
    }


def contradictions(path: str, dataset: Entry, config: Entry) -> Iterator[str]:
    """What a schema cannot say."""
    named: list[tuple[str, str, Any]] = [("sources.tokenizer", "models", dataset["sources"].get("tokenizer"))]
    for step in ("prefilter", "final"):
        named += [
            (f"{step}.model", "models", dataset[step]["model"]),
            (f"{step}.scorer", "scorers", dataset[step]["scorer"]),
        ]
    yield from counting_contradictions(path, counting(dataset), config)
    evaluation = dataset["evaluation"]
    if evaluation is not None:
        yield from one_of(f"{path}.evaluation.references", evaluation["references"], _REFERENCES)
        if "toy" in evaluation["references"] and "toy" not in dataset["sources"]:
            yield f"{path}.evaluation.references.toy: the sources are not of the toy language; allowed: files"
        for metric, entry in evaluation["metrics"].items():
            named.append((f"evaluation.metrics.{metric}.scorer", "scorers", entry["scorer"]))
    for step in ("prefilter", "final"):
        scorer = config["scorers"].get(dataset[step]["scorer"])
        if scorer is not None and not KINDS[scorer["metric"]].lower_is_better:
            allowed = ", ".join(metric for metric, kind in KINDS.items() if kind.lower_is_better)
            yield f"{path}.{step}.scorer: a {scorer['metric']} counts no errors; allowed: one with metric: {allowed}"
    yield from unknown_names(path, named, config)
    final = dataset["final"]
    if final["temperature"] == 0 and final["n"] > 1:
        yield f"{path}.final.temperature: 0 makes all {final['n']} answers of a source equal; allowed: above 0, or n: 1"
    edges = dataset["sources"]["edges"]
    if edges != sorted(set(edges)):
        yield f"{path}.sources.edges: {edges} do not rise; allowed: each edge above the one before"
    for rule, threshold in dataset["filter"]["rules"].items():
        if threshold is True and rule in _THRESHOLD_RULES:
            yield f"{path}.filter.rules.{rule}: true says no threshold; allowed: a number, or false"
    ratio = dataset["filter"]["rules"]["length_ratio"]
    if isinstance(ratio, list) and ratio[0] >= ratio[1]:
        yield f"{path}.filter.rules.length_ratio: {ratio[0]} is not below {ratio[1]}; allowed: the least ratio first"
    if dataset["source_language"]["code"] == dataset["target_language"]["code"]:
        yield f"{path}.target_language.code: is the source language; allowed: another one"
