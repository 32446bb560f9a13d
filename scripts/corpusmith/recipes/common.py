"""What recipes have in common: filters behind what the recipe itself selects, and the wording of contradictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Entry = Mapping[str, Any]
# A filter's judge is a step of its own.
FILTER_JUDGE = "filter-judge"
# Filters of every recipe in their order, the dearest last, and the folders of what they keep and reject.
_FILTERS = {"deduplicate": "deduplicated", "decontaminate": "decontaminated", "judge": "judged"}


def sharded(step: str, kind: str, shards: int) -> str:
    """The entry of a table that is cut into shards."""
    return f"{step}/{kind}={shards}"


def filters(entry: Entry, first: str) -> list[str]:
    """Folders of what each filter kept and rejected, in order; first: the recipe's own."""
    return [first, *(folder for name, folder in _FILTERS.items() if entry["filter"][name] is not None)]


def filter_steps(entry: Entry) -> list[str]:
    """The steps that filters ask."""
    return [FILTER_JUDGE] if entry["filter"]["judge"] is not None else []


def filter_stages(entry: Entry, first: str) -> list[str]:
    """Accounts of the filters."""
    found = filters(entry, first)
    if "judged" in found:
        found.insert(-1, sharded(FILTER_JUDGE, "completions", entry["filter"]["judge"]["shards"]))
    return found


def filter_tables(entry: Entry, first: str) -> list[str]:
    """Tables of the filters, of the splits and of what was rejected."""
    found = []
    for folder in filters(entry, first):
        if folder == "judged":
            shards = entry["filter"]["judge"]["shards"]
            found += [sharded(FILTER_JUDGE, kind, shards) for kind in ("requests", "completions")]
        found += [f"{folder}/kept", f"{folder}/rejected"]
    return [*found, *(f"filtered/{split}" for split in entry["splits"]), "filtered/rejected"]


# --- contradictions ---


def one_of(path: str, entry: Entry, names: tuple[str, ...]) -> Iterator[str]:
    """A line unless exactly one of some keys is given."""
    given = [name for name in names if name in entry]
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        yield f"{path}: {found} of {', '.join(names)} given; allowed: exactly one"


def unknown_names(path: str, named: Iterable[tuple[str, str, str | None]], config: Entry) -> Iterator[str]:
    """A line for each model or scorer that is not defined. named: key, models or scorers, name."""
    for key, kind, name in named:
        if name is not None and name not in config[kind]:
            defined = ", ".join(sorted(config[kind])) or "none is defined"
            yield f"{path}.{key}: there is no {kind[:-1]} {name!r}; allowed: {defined}"


def judge_contradictions(path: str, judge: Entry) -> Iterator[str]:
    """What cannot be right of a judge: verdicts that it does not know, votes that can be even or are all the same."""
    for verdict in judge["accept"]:
        if verdict not in judge["verdicts"]:
            yield f"{path}.accept: {verdict!r} is no verdict; allowed: {', '.join(map(repr, judge['verdicts']))}"
    if judge["votes"] % 2 == 0:
        yield f"{path}.votes: {judge['votes']} votes can be even; allowed: an odd number"
    if judge["votes"] > 1 and judge["temperature"] == 0:
        yield f"{path}.temperature: 0 makes all {judge['votes']} votes equal; allowed: above 0, or votes: 1"


def filter_contradictions(
    path: str, entry: Entry, config: Entry, texts: Iterable[str], numbers: Iterable[str]
) -> Iterator[str]:
    """What cannot be right of the filters of every recipe. texts, numbers: columns of its rows that hold such."""
    texts, numbers = list(texts), list(numbers)
    judge, deduplicate, decontaminate = (entry["filter"][name] for name in ("judge", "deduplicate", "decontaminate"))
    if judge is not None:
        yield from unknown_names(path, [("filter.judge.model", "models", judge["model"])], config)
        yield from judge_contradictions(f"{path}.filter.judge", judge)
    named: list[tuple[str, str | None, list[str]]] = []
    if deduplicate is not None:
        named.append(("deduplicate.column", deduplicate.get("column"), texts))
        if deduplicate["keep"] is not None:
            named.append(("deduplicate.keep.column", deduplicate["keep"]["column"], numbers))
        if deduplicate["near"] is True:
            yield f"{path}.filter.deduplicate.near: true says no similarity; allowed: a number, or false"
    if decontaminate is not None:
        named += [("decontaminate.columns", column, texts) for column in decontaminate.get("columns", [])]
    for key, column, known in named:
        if column is not None and column not in known:
            kind = "texts" if known is texts else "numbers"
            yield f"{path}.filter.{key}: {column!r} is no column of {kind}; allowed: {', '.join(known)}"
