"""The maths recipe: rows by their labels, problems solved and graded, solutions selected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from corpusmith.recipes.common import (
    SAMPLES,
    Entry,
    counting_contradictions,
    judge_contradictions,
    sharded,
    unknown_names,
)

CARD = "scripts/corpusmith/templates/maths.md.jinja"
# The filter that is its own, before those of every recipe.
FILTER = "selected"
SOURCES = ("files", "hub", "dataset", "toy")
GENERATED = "generated"
# Where no model is asked to solve.
_SOLVE = "config/prompts/solve.txt"
# Columns of its rows that filters may name. The first text is what duplicates are known by.
TEXTS = (
    "problem", "answer", "generated_solution", "problem_type", "problem_source", "inference_mode", "generation_model",
)  # fmt: skip
NUMBERS = ("pass_rate", "pass_rate_samples")
# Columns of a release that another dataset can be made of.
RELEASED = (*TEXTS, "pass_rate")


def generates(entry: Entry) -> bool:
    """Whether solutions are made here; else rows keep those that they came with."""
    return entry["solve"] is not None and entry["select"]["solutions"] == GENERATED


def generating_datasets(config: Entry) -> list[str]:
    """Datasets of the recipe whose solutions are made here."""
    return [name for name, entry in config["datasets"].items() if entry["recipe"] == "maths" and generates(entry)]


def keeping_datasets(config: Entry) -> list[str]:
    """Those whose rows keep the solutions that they came with."""
    return [name for name, entry in config["datasets"].items() if entry["recipe"] == "maths" and not generates(entry)]


def origin_of(entry: Entry, dataset: str) -> str:
    """What rows come from, as the column dataset says it. dataset: the entry's name."""
    sources = entry["sources"]
    if "hub" in sources:
        return str(sources["hub"]["split"].split(":")[0])
    return "+".join(sources["dataset"]) if "dataset" in sources else dataset


def columns_of(entry: Entry) -> dict[str, str | None]:
    """The columns of the sources by our names, where the config or the source says them."""
    return {name: name for name in RELEASED} if "dataset" in entry["sources"] else dict(entry["sources"]["columns"])


def steps(entry: Entry) -> list[str]:
    """Names of its steps, in order."""
    return [step for step in ("solve", "judge") if entry[step] is not None]


def step_of(entry: Entry, step: str) -> Entry:
    """A step's config. What the judge is asked about lies in the shards of the solutions."""
    return {**entry["judge"], "shards": entry["solve"]["shards"]} if step == "judge" else entry[step]


def writers(entry: Entry) -> list[str]:
    """Models that write what is released."""
    return [entry["solve"]["model"]] if generates(entry) else []


def toy_steps(entry: Entry) -> list[str]:
    """Steps that only the demo asks."""
    return []


def counting(entry: Entry) -> str | None:
    """The model whose tokenizer counts the tokens of solutions; none where nothing is counted."""
    if entry["sources"]["labels"]["solution_tokens"] is None:
        return None
    found: str | None = entry["sources"].get("tokenizer")
    return found


def kinds(entry: Entry, step: str) -> tuple[str, ...]:
    """Kinds of tables that models make in a step."""
    return ("completions",)


def pool(entry: Entry) -> str:
    """The table of items that everything is counted from: problems where they are solved, rows where those stay."""
    return "sources/problems" if generates(entry) else "sources/rows"


def _solving(entry: Entry) -> list[str]:
    """Accounts of the problems."""
    if entry["solve"] is None:
        return []
    shards = entry["solve"]["shards"]
    return ["sources/problems", *(sharded("solve", kind, shards) for kind in ("completions", "graded"))]


def _judging(entry: Entry) -> list[str]:
    """Accounts of what the judge was asked: some of the problems."""
    return [sharded("judge", "completions", entry["solve"]["shards"])] if entry["judge"] is not None else []


def stages(entry: Entry) -> list[str]:
    """Accounts along the way."""
    solving = _solving(entry) if generates(entry) else []
    return ["sources/read", *solving]


def side_stages(entry: Entry) -> list[str]:
    """Accounts beside it: where rows stay, their problems are solved beside them."""
    return [*([] if generates(entry) else _solving(entry)), *_judging(entry)]


def tables(entry: Entry) -> list[str]:
    """Every table, in order."""
    found = ["sources/rows", "sources/bad_rows", "sources/dropped_rows"]
    if entry["solve"] is not None:
        shards = entry["solve"]["shards"]
        found += ["sources/problems", "sources/conflicts"]
        found += [sharded("solve", kind, shards) for kind in ("requests", "completions", "checked", "answers")]
        if entry["judge"] is not None:
            found += [sharded("judge", kind, shards) for kind in ("requests", "completions")]
        found += [sharded("solve", kind, shards) for kind in ("graded", "grades")]
    return [*found, *samples(entry)]


def dropped(entry: Entry) -> list[str]:
    """Tables of what left between the pool and the filters."""
    return []


def environments(entry: Entry) -> tuple[str, ...]:
    """Environments of its own programs, beside that of all data."""
    return ("maths",) if entry["solve"] is not None else ()


def samples(entry: Entry) -> list[str]:
    """The table of all graded solutions to problems whose best one is released; none where rows keep their own."""
    return ["selected/samples"] if generates(entry) else []


def released_texts(entry: Entry) -> list[str]:
    """Where its releases hold texts: columns, and the samples."""
    return [*TEXTS, *([SAMPLES] if samples(entry) else [])]


def learnt(entry: Entry) -> dict[str, Any]:
    """How its rows become some to tune a model on: asked as the model is that solves them."""
    prompt = _SOLVE if entry["solve"] is None else entry["solve"]["prompt"]
    return {"prompt": prompt, "completion": "generated_solution", "columns": {}, "values": {}}


def contradictions(path: str, dataset: Entry, config: Entry) -> Iterator[str]:
    """What a schema cannot say."""
    sources, solve, judge = dataset["sources"], dataset["solve"], dataset["judge"]
    named: list[tuple[str, str, Any]] = [("sources.tokenizer", "models", sources.get("tokenizer"))]
    named += [(f"{step}.model", "models", dataset[step]["model"]) for step in ("solve", "judge") if dataset[step]]
    yield from unknown_names(path, named, config)
    if sources["start"] >= sources["end"]:
        yield f"{path}.sources.start: {sources['start']} is not below end {sources['end']}; allowed: less than that"
    yield from counting_contradictions(path, sources.get("tokenizer"), config)
    if sources["labels"]["solution_tokens"] is not None and "tokenizer" not in sources:
        yield f"{path}.sources.tokenizer: is missing; it has to be given, as labels.solution_tokens counts by it"
    for key, band in (
        ("sources.labels.pass_rate", sources["labels"]["pass_rate"]),
        ("sources.labels.solution_tokens", sources["labels"]["solution_tokens"] or {}),
        ("select.pass_rate", dataset["select"]["pass_rate"]),
    ):
        least, most = band.get("at_least"), band.get("at_most")
        if least is not None and most is not None and least > most:
            yield f"{path}.{key}: at_least {least} is above at_most {most}; allowed: at most that"
    if sources["columns"] and "dataset" in sources:
        yield f"{path}.sources.columns: datasets of the config have columns of ours; allowed: no such key"
    if judge is not None:
        yield from judge_contradictions(f"{path}.judge", judge)
    if solve is None:
        if judge is not None:
            yield f"{path}.judge: nothing is solved that it could judge; allowed: null, or solve as well"
        if dataset["select"]["solutions"] == GENERATED:
            yield f"{path}.select.solutions: generated, but nothing is solved; allowed: given, or solve as well"
        if dataset["select"]["pass_rate"] != {"at_least": None, "at_most": None}:
            yield f"{path}.select.pass_rate: is measured by solving; allowed: sources.labels.pass_rate, or solve"
    elif solve["temperature"] == 0 and solve["n"] > 1:
        yield f"{path}.solve.temperature: 0 makes all {solve['n']} solutions equal; allowed: above 0, or n: 1"
    yield from _pattern(f"{path}.check", dataset["check"])
    yield from _circles(path, dataset, config)


def _pattern(path: str, check: Entry) -> Iterator[str]:
    """What cannot be right of a pattern: found out here, not after everything was solved."""
    pattern = check["pattern"]
    if (check["answer"] == "pattern") != (pattern is not None):
        if pattern is None:
            yield f"{path}.pattern: is missing; it has to be given where check.answer is pattern"
        else:
            yield f"{path}.answer: {check['answer']} looks for no pattern; allowed: pattern, or no check.pattern"
    if pattern is not None:
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"{path}.pattern: {pattern!r} is no regular expression ({error}); allowed: one of Python's"


def _circles(path: str, dataset: Entry, config: Entry) -> Iterator[str]:
    """Datasets that a dataset is made of: they have to exist, and none may be made of itself."""
    waiting, seen = list(dataset["sources"].get("dataset", [])), set()
    while waiting:
        name = waiting.pop()
        if name not in config["datasets"]:
            others = ", ".join(sorted(config["datasets"]))
            yield f"{path}.sources.dataset: there is no dataset {name!r}; allowed: {others}"
        elif config["datasets"][name]["recipe"] != dataset["recipe"]:
            other = config["datasets"][name]["recipe"]
            yield f"{path}.sources.dataset: {name} is of the recipe {other}; allowed: datasets of the recipe maths"
        elif config["datasets"][name] is dataset:
            yield f"{path}.sources.dataset: is made of itself; allowed: datasets that are not made of this one"
            return
        elif name not in seen:
            seen.add(name)
            waiting += config["datasets"][name]["sources"].get("dataset", [])
