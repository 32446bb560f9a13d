"""The instructions recipe: instructions of a model or of people, responses, their selection, and preference pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from corpusmith.recipes.common import Entry, one_of, sharded, unknown_names

CARD = "scripts/corpusmith/templates/instructions.md.jinja"
# The filter that is its own, before those of every recipe.
FILTER = "selected"
SOURCES = ("pre_query", "files")
# Columns of its rows that filters may name. The first text is what duplicates are known by.
TEXTS = ("instruction", "response")
NUMBERS = ("reward", "candidates")
PREFERENCES = "preferences"


def drawn(entry: Entry) -> bool:
    """Whether a model makes up the instructions; else they are read from tasks."""
    return "pre_query" in entry["sources"]


def drawing_datasets(config: Entry) -> list[str]:
    """Datasets of the recipe whose instructions a model makes up."""
    return _datasets(config, True)


def reading_datasets(config: Entry) -> list[str]:
    """Those whose instructions are read from tasks."""
    return _datasets(config, False)


def _datasets(config: Entry, wanted: bool) -> list[str]:
    return [
        name
        for name, entry in config["datasets"].items()
        if entry["recipe"] == "instructions" and drawn(entry) == wanted
    ]


def steps(entry: Entry) -> list[str]:
    """Names of its steps, in order."""
    optional = [("tag", "tag"), ("prefer", PREFERENCES)]
    return [
        *(["instruct"] if drawn(entry) else []),
        "respond",
        *(step for step, key in optional if entry[key] is not None),
    ]


def step_of(entry: Entry, step: str) -> Entry:
    """A step's config. Instructions are tagged in the shards of their responses."""
    if step == "instruct":
        found: Entry = entry["sources"]["pre_query"]
        return found
    if step == "tag":
        return {**entry["tag"], "shards": entry["respond"]["shards"]}
    if step == "prefer":
        return _without_null_scorer(entry[PREFERENCES])
    return _without_null_scorer(entry["respond"])


def _without_null_scorer(step: Entry) -> Entry:
    return {name: value for name, value in step.items() if name != "scorer" or value is not None}


def writers(entry: Entry) -> list[str]:
    """Models that write what is released."""
    found = [step_of(entry, step)["model"] for step in steps(entry) if step != "tag"]
    return list(dict.fromkeys(found))


def toy_steps(entry: Entry) -> list[str]:
    """Steps that only the demo asks."""
    return []


def counting(entry: Entry) -> str | None:
    """The model whose tokenizer counts: none, as nothing is counted."""
    return None


def kinds(entry: Entry, step: str) -> tuple[str, ...]:
    """Kinds of tables that models and scorers make in a step."""
    return ("completions", "scores") if "scorer" in step_of(entry, step) else ("completions",)


def pool(entry: Entry) -> str:
    """The table of items that everything is counted from."""
    return "sources/instructions"


def _made(entry: Entry, step: str) -> list[str]:
    return [sharded(step, kind, step_of(entry, step)["shards"]) for kind in kinds(entry, step)]


def stages(entry: Entry) -> list[str]:
    """Accounts along the way."""
    asked = _made(entry, "instruct") if drawn(entry) else []
    return [*asked, "sources/instructions", *_made(entry, "respond")]


def side_stages(entry: Entry) -> list[str]:
    """Accounts beside it: tags, and the responses that pairs are made of."""
    found = _made(entry, "tag") if entry["tag"] is not None else []
    if entry[PREFERENCES] is not None:
        found += [*_made(entry, "prefer"), PREFERENCES]
    return found


def tables(entry: Entry) -> list[str]:
    """Every table, in order."""
    found = []
    if drawn(entry):
        found += [sharded("instruct", kind, step_of(entry, "instruct")["shards"]) for kind in ("requests",)]
        found += [*_made(entry, "instruct"), "sources/instructions", "sources/dropped_samples"]
    else:
        found += ["sources/instructions", "sources/bad_rows", "sources/dropped_rows"]
    for step in steps(entry):
        if step != "instruct":
            found += [sharded(step, "requests", step_of(entry, step)["shards"]), *_made(entry, step)]
    return [*found, *([f"{PREFERENCES}/kept", f"{PREFERENCES}/rejected"] if entry[PREFERENCES] is not None else [])]


def dropped(entry: Entry) -> list[str]:
    """Tables of what left between the pool and the filters."""
    return []


def environments(entry: Entry) -> tuple[str, ...]:
    """Environments of its own programs, beside that of all data."""
    return ()


def samples(entry: Entry) -> list[str]:
    """The table of preference pairs of released rows, where there are such."""
    return [f"{PREFERENCES}/kept"] if entry[PREFERENCES] is not None else []


def released_texts(entry: Entry) -> list[str]:
    """Where filters look for what should not be released. Pairs are made behind them, and are looked at as they are."""
    return [*TEXTS]


def selection_rules(entry: Entry) -> dict[str, Any]:
    """Which rows stay, as select_responses.py reads it."""
    select = entry["select"]
    same = ("quality", "difficulty", "category", "language_tag", "untagged", "refusal_phrases", "repetition")
    bands = {name: select[name] for name in ("instruction_characters", "response_characters")}
    return {
        **{name: select[name] for name in same},
        **{name: [band["at_least"], band["at_most"]] for name, band in bands.items() if set(band.values()) != {None}},
        "least_reward": select["reward"],
        "ends_with_colon": ["instruction"] if select["ends_with_colon"] else None,
        "refusal": select["refusals"],
        "language": entry["languages"] if select["language"] else None,
    }


def learnt(entry: Entry) -> None:
    """How its rows become some to tune a model on: they hold conversations."""
    return


def contradictions(path: str, dataset: Entry, config: Entry) -> Iterator[str]:
    """What a schema cannot say."""
    named: list[tuple[str, str, Any]] = []
    places = {"instruct": "sources.pre_query", "prefer": PREFERENCES}
    for step in steps(dataset):
        asked, place = step_of(dataset, step), places.get(step, step)
        named.append((f"{place}.model", "models", asked["model"]))
        named.append((f"{place}.scorer", "scorers", asked.get("scorer")))
    yield from unknown_names(path, named, config)
    if drawn(dataset):
        yield from _of_the_drawing(f"{path}.sources.pre_query", dataset["sources"]["pre_query"], config)
    respond, pairs, select = dataset["respond"], dataset[PREFERENCES], dataset["select"]
    if respond["temperature"] == 0 and respond["n"] > 1:
        yield f"{path}.respond.temperature: 0 makes all {respond['n']} responses equal; allowed: above 0, or n: 1"
    if respond["scorer"] is None:
        if select["reward"] is not None:
            yield f"{path}.select.reward: nothing is rewarded; allowed: null, or respond.scorer as well"
        yield from _by_reward(path, dataset["filter"])
        if respond["n"] > 1:
            yield f"{path}.respond.n: {respond['n']} responses, and no scorer says which is best; allowed: 1"
    if dataset["tag"] is None:
        for key in ("difficulty", "quality", "category", "language_tag"):
            if select[key] is not None:
                yield f"{path}.select.{key}: nothing is tagged; allowed: null, or tag as well"
    for key in ("instruction_characters", "response_characters"):
        least, most = select[key]["at_least"], select[key]["at_most"]
        if least is not None and most is not None and least > most:
            yield f"{path}.select.{key}: at_least {least} is above at_most {most}; allowed: at most that"
    if select["repetition"] is True:
        yield f"{path}.select.repetition: true says no share; allowed: a number, or false"
    if pairs is not None:
        if (pairs["rule"] == "fixed_margin") != (pairs["margin"] is not None):
            yield f"{path}.preferences.margin: goes with rule: fixed_margin; allowed: both, or neither"
        if 0 in pairs["temperatures"] and pairs["n"] > 1:
            yield f"{path}.preferences.temperatures: 0 makes all {pairs['n']} responses equal; allowed: above 0"
        if len(pairs["temperatures"]) * pairs["n"] < 2:
            yield f"{path}.preferences.n: a pair takes two responses; allowed: 2 or more, or several temperatures"


def _by_reward(path: str, filters: Entry) -> Iterator[str]:
    """A line for each filter that lets rewards decide where there are none."""
    for name, key in (("deduplicate", "keep"), ("neighbours", "keep"), ("best", "by")):
        settings = filters[name]
        if settings is not None and settings[key] is not None and settings[key]["column"] == "reward":
            yield f"{path}.filter.{name}.{key}.column: nothing is rewarded; allowed: another, or respond.scorer as well"


def _of_the_drawing(path: str, drawing: Entry, config: Entry) -> Iterator[str]:
    yield from one_of(path, drawing, ("family", "template"))
    if drawing["system_template"] is not None and "template" not in drawing:
        yield f"{path}.system_template: goes with template; allowed: null, as a family knows its own"
    names = [topic["name"] for topic in drawing["topics"]]
    if len(set(names)) < len(names):
        yield f"{path}.topics: two have one name; allowed: each its own"
    without = drawing.get("family") == "gemma" or ("template" in drawing and drawing["system_template"] is None)
    for topic in drawing["topics"]:
        if topic["system"] is not None and without:
            yield (
                f"{path}.topics: {topic['name']} has a system prompt, and the template has no place for one; allowed:"
                " system: null, or another template"
            )
    if "openai" in config["models"].get(drawing["model"], {}):
        yield (
            f"{path}.model: {drawing['model']!r} answers over HTTP and has no tokenizer here, which a pre-query"
            " template needs; allowed: a model with repo, path or toy"
        )
