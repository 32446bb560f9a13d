"""The config: checked against a closed schema before there is a graph, defaults filled in.

Imported by the Snakefile in every job of a cluster: nothing heavy here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource

from corpusmith.errors import InputError

SCHEMAS = Path(__file__).resolve().parents[2] / "config" / "schemas"
Config = dict[str, Any]
_ORIGINS = ("repo", "path", "toy")
_TAKEN = ("models", "evals", "logs", "benchmarks")
_SOURCES = ("files", "hub", "toy")


def resolve_config(given: Mapping[str, Any], schemas: Path = SCHEMAS) -> Config:
    """The whole config with every default filled in.

    Raises InputError with one line for each thing that is wrong: the key's path, what is wrong, what is allowed.
    """
    found = _load_schemas(schemas)
    registry = Registry().with_resources((name, Resource.from_contents(schema)) for name, schema in found.items())
    config = copy.deepcopy(dict(given))
    problems = list(_problems(config, found["config.yaml"], registry, ()))
    if not problems:
        _fill(config, found["config.yaml"], found, "config.yaml")
        for name, dataset in config["datasets"].items():
            recipe = f"{dataset['recipe']}.yaml"
            problems += _problems(dataset, found[recipe], registry, ("datasets", name))
            if not problems:
                _fill(dataset, found[recipe], found, recipe)
    problems = problems or list(_contradictions(config))
    if problems:
        raise InputError("\n".join(f"config: {problem}" for problem in problems))
    return config


def _load_schemas(folder: Path) -> dict[str, dict[str, Any]]:
    # The C loader is ten times faster, and the Snakefile is read three times in every job.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {
        path.name: yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - a safe loader
        for path in sorted(folder.glob("*.yaml"))
    }


def _problems(value: Any, schema: Mapping[str, Any], registry: Registry, prefix: tuple[str, ...]) -> Iterator[str]:
    errors = Draft202012Validator(schema, registry=registry).iter_errors(value)
    for error in sorted(errors, key=lambda error: [str(part) for part in error.absolute_path]):
        yield _describe(error, prefix)


def _describe(error: ValidationError, prefix: tuple[str, ...]) -> str:
    path = ".".join([*prefix, *(str(part) for part in error.absolute_path)]) or "(top level)"
    schema, value = error.schema, error.instance
    if error.validator == "additionalProperties":
        known = sorted(schema.get("properties", {}))
        unknown = sorted(set(value) - set(known))
        path = ".".join(part for part in [*prefix, *map(str, error.absolute_path), unknown[0]])
        return f"{path}: there is no such key; allowed: {', '.join(known)}"
    if error.validator == "required":
        missing = next(name for name in schema["required"] if name not in value)
        path = ".".join(part for part in [*prefix, *map(str, error.absolute_path), missing])
        return f"{path}: is missing; it has to be given"
    if error.validator == "pattern":
        return f"{path}: {value!r} is no name here; allowed: what matches {schema['pattern']}"
    allowed = _allowed(schema)
    return f"{path}: {_short(value)} is not allowed" + (f"; allowed: {allowed}" if allowed else f" ({error.message})")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _allowed(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    types = schema.get("type")
    if types is None:
        return ""
    allowed = " or ".join(types) if isinstance(types, list) else types
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "minLength": "of a length of at least",
        "minItems": "with at least this many entries:",
        "maxItems": "with at most this many entries:",
        "minProperties": "with at least this many keys:",
    }
    limits = [f"{words[name]} {schema[name]}" for name in words if name in schema]
    return ", ".join([allowed, *limits])


def _fill(value: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any], document: str) -> None:
    """Fills in the defaults of a value that its schema has let pass."""
    schema, document = _follow(schema, schemas, document)
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            target, where = _follow(part, schemas, document)
            default = part.get("default", target.get("default"))
            if name not in value and ("default" in part or "default" in target):
                value[name] = copy.deepcopy(default)
            if name in value:
                _fill(value[name], target, schemas, where)
        extra = schema.get("additionalProperties")
        if isinstance(extra, Mapping):
            for name in value:
                if name not in schema.get("properties", {}):
                    _fill(value[name], extra, schemas, document)


def _follow(schema: Mapping[str, Any], schemas: Mapping[str, Any], document: str) -> tuple[Mapping[str, Any], str]:
    while "$ref" in schema:
        file, _, pointer = schema["$ref"].partition("#")
        document = file or document
        target = schemas[document]
        for part in pointer.strip("/").split("/") if pointer else []:
            target = target[part]
        schema = target
    return schema, document


def _contradictions(config: Config) -> Iterator[str]:
    """What a schema cannot say: names that do not exist, settings that exclude each other."""
    for kind in ("models", "scorers"):
        for name, entry in config[kind].items():
            yield from _one_of(f"{kind}.{name}", entry, _ORIGINS)
            tokenizer = entry.get("tokenizer")
            if isinstance(tokenizer, Mapping):
                yield from _one_of(f"{kind}.{name}.tokenizer", tokenizer, ("repo", "path"))
            if entry["device"] == "cpu" and entry["tp"] > 1:
                yield f"{kind}.{name}.tp: {entry['tp']} GPUs for a model with device: cpu; allowed: 1, or device: cuda"
    for name in sorted(set(config["models"]) & set(config["scorers"])):
        yield f"scorers.{name}: there is a model of that name; allowed: any other name"
    for name, dataset in config["datasets"].items():
        if name in _TAKEN:
            yield f"datasets.{name}: the results have a folder of that name; allowed: any other name"
        yield from _CHECKS[dataset["recipe"]](f"datasets.{name}", dataset, config)


def _one_of(path: str, entry: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    given = [name for name in names if name in entry]
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        yield f"{path}: {found} of {', '.join(names)} given; allowed: exactly one"


def _check_translation(path: str, dataset: Mapping[str, Any], config: Config) -> Iterator[str]:
    yield from _one_of(f"{path}.sources", dataset["sources"], _SOURCES)
    named = [("sources.tokenizer", "models", dataset["sources"].get("tokenizer"))]
    for step in ("prefilter", "final"):
        named += [(f"{step}.model", "models", dataset[step]["model"]), (f"{step}.scorer", "scorers", dataset[step]["scorer"])]
    judge = dataset["filter"]["judge"]
    if judge is not None:
        named.append(("filter.judge.model", "models", judge["model"]))
        for verdict in judge["accept"]:
            if verdict not in judge["verdicts"]:
                yield f"{path}.filter.judge.accept: {verdict!r} is no verdict; allowed: {', '.join(judge['verdicts'])}"
    for key, kind, name in named:
        if name is not None and name not in config[kind]:
            yield f"{path}.{key}: there is no {kind[:-1]} {name!r}; allowed: {', '.join(sorted(config[kind])) or 'none is defined'}"
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
    if isinstance(ratio, list) and ratio[0] > ratio[1]:
        yield f"{path}.filter.rules.length_ratio: {ratio[0]} is above {ratio[1]}; allowed: least first"
    if dataset["source_language"]["code"] == dataset["target_language"]["code"]:
        yield f"{path}.target_language.code: is the source language; allowed: another one"


_THRESHOLD_RULES = ("copied_source", "script", "language", "length_ratio", "repetition", "max_score")
_CHECKS = {"translation": _check_translation}
