"""What recipes have in common: filters behind what the recipe itself selects, and the wording of contradictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Entry = Mapping[str, Any]
# A filter's judge is a step of its own.
FILTER_JUDGE = "filter-judge"
# What texts that are released beside the rows are called among the columns.
SAMPLES = "samples"
# Filters of every recipe in their order, and the folders of what they keep and reject: the dearest looks at what others
# leave, and the best are chosen of what may be released.
_FILTERS = {
    "deduplicate": "deduplicated",
    "neighbours": "apart",
    "decontaminate": "decontaminated",
    "safety": "safe",
    "judge": "judged",
    "best": "best",
}


def sharded(step: str, kind: str, shards: int) -> str:
    """The entry of a table that is cut into shards."""
    return f"{step}/{kind}={shards}"


def filters(entry: Entry, first: str) -> list[str]:
    """Folders of what each filter kept and rejected, in order; first: the recipe's own."""
    return [first, *(folder for name, folder in _FILTERS.items() if entry["filter"][name] is not None)]


def filter_steps(entry: Entry) -> list[str]:
    """The steps that filters ask."""
    return [FILTER_JUDGE] if entry["filter"]["judge"] is not None else []


def filters_with_models(entry: Entry) -> list[Entry]:
    """The settings of filters that run a model themselves."""
    return [entry["filter"]["neighbours"]] if entry["filter"]["neighbours"] is not None else []


def filter_stages(entry: Entry, first: str) -> list[str]:
    """Accounts of the filters."""
    found = filters(entry, first)
    if "judged" in found:
        found.insert(found.index("judged"), sharded(FILTER_JUDGE, "completions", entry["filter"]["judge"]["shards"]))
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


def deduplicate_flags(entry: Entry, column: str) -> list[str]:
    """How duplicates are found, as flags of deduplicate.py. column: what they are known by where nothing is said."""
    settings = entry["filter"]["deduplicate"]
    near = "off" if settings["near"] is False else str(settings["near"])
    flags = ["--column", settings.get("column", column), "--near", near, "--ngram", str(settings["ngram"])]
    flags.append("--numbers-distinct" if settings["numbers_distinct"] else "--no-numbers-distinct")
    if settings["keep"] is not None:
        flags += ["--keep", settings["keep"]["column"], settings["keep"]["order"]]
    return flags


def neighbours_flags(entry: Entry, column: str) -> list[str]:
    """Which rows are neighbours, as flags of drop_neighbours.py. column: as above."""
    settings = entry["filter"]["neighbours"]
    flags = ["--column", settings.get("column", column), "--similarity", str(settings["similarity"])]
    flags += ["--dtype", settings["dtype"], "--max-length", str(settings["max_length"])]
    flags += [f"--prefix={settings['prefix']}"] if settings["prefix"] else []
    if settings["keep"] is not None:
        flags += ["--keep", settings["keep"]["column"], settings["keep"]["order"]]
    return flags


def decontaminate_flags(entry: Entry, column: str) -> list[str]:
    """What is held against benchmarks, as flags of decontaminate.py. column: as above."""
    settings = entry["filter"]["decontaminate"]
    flags = ["--column", *settings.get("columns", [column]), "--ngram", str(settings["ngram"])]
    return [*flags, *(["--benchmark-columns", *settings["benchmark_columns"]] if settings["benchmark_columns"] else [])]


def best_flags(entry: Entry) -> list[str]:
    """How many rows stay, and what makes them the best, as flags of keep_best.py."""
    settings = entry["filter"]["best"]
    flags = ["--best", str(settings["rows"])]
    return flags if settings["by"] is None else [*flags, "--by", settings["by"]["column"], settings["by"]["order"]]


def safety_flags(entry: Entry, texts: Iterable[str]) -> list[str]:
    """What is not to be released, as flags of filter_unsafe.py. texts: all that is released, the samples aside."""
    settings = entry["filter"]["safety"]
    columns = [column for column in settings.get("columns", texts) if column != SAMPLES]
    return ["--column", *columns, *finder_flags(entry)]


def finder_flags(entry: Entry) -> list[str]:
    """What is looked for, wherever that is."""
    settings = entry["filter"]["safety"]
    numbers = settings["phone_numbers"]
    flags = [] if settings["emails"] else ["--no-emails"]
    flags += [] if numbers else ["--no-phone-numbers"]
    flags += [] if settings["secrets"] else ["--no-secrets"]
    flags += ["--regions", *numbers] if isinstance(numbers, list) else []
    # A pattern may begin with a dash.
    return [*flags, *(f"--allow={pattern}" for pattern in settings["allow"])]


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


def counting_contradictions(path: str, model: str | None, config: Entry) -> Iterator[str]:
    """A line where the model that counts tokens has no tokenizer here."""
    if "openai" in config["models"].get(model, {}):
        yield (
            f"{path}.sources.tokenizer: {model!r} answers over HTTP and has no tokenizer here; allowed: the"
            " name of a model with repo, path or toy, of which only the tokenizer is fetched"
        )


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
    path: str, entry: Entry, config: Entry, texts: Iterable[str], numbers: Iterable[str], released: Iterable[str]
) -> Iterator[str]:
    """What cannot be right of the filters of every recipe.

    texts, numbers: columns of its rows that hold such; released: where its releases hold texts.
    """
    texts, numbers, released = list(texts), list(numbers), list(released)
    judge, deduplicate, decontaminate, safety = (
        entry["filter"][name] for name in ("judge", "deduplicate", "decontaminate", "safety")
    )
    if judge is not None:
        yield from unknown_names(path, [("filter.judge.model", "models", judge["model"])], config)
        yield from judge_contradictions(f"{path}.filter.judge", judge)
    named: list[tuple[str, str | None, list[str]]] = []
    neighbours = entry["filter"]["neighbours"]
    if neighbours is not None:
        yield from unknown_names(path, [("filter.neighbours.model", "models", neighbours["model"])], config)
        if "openai" in config["models"].get(neighbours["model"], {}):
            yield (
                f"{path}.filter.neighbours.model: {neighbours['model']!r} answers over HTTP and has no hidden states"
                " here; allowed: a model with repo, path or toy"
            )
        named.append(("neighbours.column", neighbours.get("column"), texts))
        if neighbours["keep"] is not None:
            named.append(("neighbours.keep.column", neighbours["keep"]["column"], numbers))
    if deduplicate is not None:
        named.append(("deduplicate.column", deduplicate.get("column"), texts))
        if deduplicate["keep"] is not None:
            named.append(("deduplicate.keep.column", deduplicate["keep"]["column"], numbers))
        if deduplicate["near"] is True:
            yield f"{path}.filter.deduplicate.near: true says no similarity; allowed: a number, or false"
    if decontaminate is not None:
        named += [("decontaminate.columns", column, texts) for column in decontaminate.get("columns", [])]
    if safety is not None:
        named += [("safety.columns", column, released) for column in safety.get("columns", [])]
        if not (safety["emails"] or safety["phone_numbers"] or safety["secrets"]):
            yield (
                f"{path}.filter.safety: nothing is looked for; allowed: null, or one of emails, phone_numbers and"
                " secrets that is not false"
            )
    best = entry["filter"]["best"]
    if best is not None:
        if best["by"] is not None:
            known = numbers if best["by"]["order"] in ("lowest", "highest") else texts
            named.append(("best.by.column", best["by"]["column"], known))
        if best["rows"] < entry["release"]["minimum_rows"]:
            yield (
                f"{path}.filter.best.rows: {best['rows']:,} rows can be released, fewer than release.minimum_rows"
                f" {entry['release']['minimum_rows']:,}; allowed: at least as many"
            )
    for key, column, known in named:
        if column is not None and column not in known:
            kind = "numbers" if known is numbers else "texts"
            yield f"{path}.filter.{key}: {column!r} is no column of {kind}; allowed: {', '.join(known)}"
