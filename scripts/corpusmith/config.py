"""The config: checked against a closed schema before there is a graph, defaults filled in.

Imported by the Snakefile in every job of a cluster: nothing heavy here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from corpusmith.errors import InputError
from corpusmith.evaluations.settings import evaluation_contradictions
from corpusmith.licensing import licence_contradictions, tuning_licence_contradictions
from corpusmith.publish_targets import publishing_contradictions
from corpusmith.recipes import RECIPES, recipe_of
from corpusmith.recipes.common import filter_contradictions, one_of
from corpusmith.tuning.settings import fill_tuning, tuning_contradictions

SCHEMAS = Path(__file__).resolve().parents[2] / "config" / "schemas"
Config = dict[str, Any]
_ORIGINS = {"models": ("repo", "path", "toy", "openai"), "scorers": ("repo", "path", "toy")}
# Engines with settings of their own, under a key of the engine's name.
_ENGINES = ("openai", "vllm")
# Parameters of a call that the openai engine alone decides.
_OF_THE_ENGINE = ("model", "messages", "prompt", "n", "stream")
# Metrics of the scorers of the toy world.
_TOY_METRICS = ("metricx-24", "reward")
_TAKEN = ("models", "evals", "logs", "benchmarks", "folders")

# JSON Schema takes 2.0 for an integer and infinity for a number; the programs' flags do not.
_TYPES = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda _, value: (
            isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        ),
    }
)
_Validator = extend(Draft202012Validator, type_checker=_TYPES)


def resolve_config(given: Mapping[str, Any], schemas: Path = SCHEMAS) -> Config:
    """The whole config with every default filled in.

    Raises InputError with one line for each thing that is wrong: the key's path, what is wrong, what is allowed.
    """
    found = _load_schemas(schemas)
    registry = Registry().with_resources((name, DRAFT202012.create_resource(schema)) for name, schema in found.items())
    config = _copied(given)
    _refuse(_odd_keys(config, ()))
    problems = [*_problems(config, found["config.yaml"], registry, ())]
    recipes = dict(_recipes(config))
    for name, recipe in recipes.items():
        problems += _problems(config["datasets"][name], found[recipe], registry, ("datasets", name))
    _refuse(problems)
    _fill_engines(config)
    fill_tuning(config)
    _fill(config, found["config.yaml"], found, "config.yaml")
    for name, recipe in recipes.items():
        _fill(config["datasets"][name], found[recipe], found, recipe)
    _refuse(_contradictions(config))
    _refuse(line for name in config["datasets"] for line in licence_contradictions(config, name))
    _refuse(tuning_licence_contradictions(config))
    return config


def _refuse(problems: Iterable[str]) -> None:
    if lines := dict.fromkeys(f"config: {problem}" for problem in problems):
        raise InputError("\n".join(lines))


def _copied(value: Any) -> Any:
    """A copy in which nothing is shared: what a YAML alias names twice is filled in twice."""
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value


def _odd_keys(value: Any, parts: tuple[Any, ...]) -> Iterator[str]:
    """Keys that YAML does not take for text: 2024, no, null."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                yield f"{_path([*parts, _said(key)])}: a key is text; allowed: the same in quotes"
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in entries:
        yield from _odd_keys(part, (*parts, key))


def _recipes(config: Any) -> Iterator[tuple[str, str]]:
    """Each dataset that names a recipe, with the recipe's schema."""
    datasets = config.get("datasets") if isinstance(config, dict) else None
    for name, dataset in datasets.items() if isinstance(datasets, dict) else ():
        recipe = dataset.get("recipe") if isinstance(dataset, dict) else None
        if isinstance(recipe, str) and recipe in RECIPES:
            yield name, f"{recipe}.yaml"


@cache
def _load_schemas(folder: Path) -> dict[str, dict[str, Any]]:
    # The C loader is ten times faster, and the Snakefile is read three times in every job.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    schemas = {
        path.name: yaml.load(path.read_text(encoding="utf-8"), Loader=loader) for path in sorted(folder.glob("*.yaml"))
    }
    for schema in schemas.values():
        # jsonschema would follow it to its own validator, with its own idea of types.
        del schema["$schema"]
    return schemas


def _problems(value: Any, schema: Mapping[str, Any], registry: Registry, prefix: tuple[str, ...]) -> Iterator[str]:
    errors = _Validator(schema, registry=registry).iter_errors(value)
    for error in sorted(errors, key=lambda error: [str(part) for part in error.absolute_path]):
        yield from _describe(error, prefix)


def _describe(error: ValidationError, prefix: tuple[str, ...]) -> Iterator[str]:
    parts = [*prefix, *error.absolute_path]
    schema, value = error.schema, error.instance
    if error.validator == "additionalProperties":
        known = sorted(schema.get("properties", {}))
        for name in value:
            if name not in known:
                yield f"{_path([*parts, name])}: there is no such key; allowed: {', '.join(known)}"
    elif error.validator in ("required", "anyOf"):
        for name in schema["required"] if error.validator == "required" else schema["anyOf"][0]["required"]:
            if name not in value:
                yield f"{_path([*parts, name])}: is missing; it has to be given"
    elif error.validator == "pattern":
        yield f"{_path(parts)}: {_said(value)} does not fit here; allowed: what matches {schema['pattern']}"
    else:
        allowed = _allowed(schema)
        if schema.get("type") == "string" and not isinstance(value, (str, list, dict)):
            allowed += ", in quotes"
        what = f"{_path(parts)}: {_said(value)} is not allowed"
        yield what + (f"; allowed: {allowed}" if allowed else f" ({error.message})")


def _path(parts: Iterable[Any]) -> str:
    """A key's path on one line, whatever its parts are."""
    names = (str(part) for part in parts)
    return ".".join(name if name.isprintable() else repr(name) for name in names) or "(top level)"


def _said(value: Any) -> str:
    """A value as YAML spells it where that differs from Python, and not at length."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_KINDS = {
    "object": "keys with values",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "of length {} or more",
    "minItems": "of length {} or more",
    "maxItems": "of length {} or less",
    "minProperties": "{} or more of them",
}


def _allowed(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    types = schema.get("type", [])
    known = sorted(schema.get("properties", ())) if schema.get("additionalProperties") is False else []
    keys = f" ({', '.join(known)})" if known else ""
    named = _KINDS | {"object": _KINDS["object"] + keys}
    kinds = " or ".join(named[kind] for kind in ([types] if isinstance(types, str) else types))
    limits = [words.format(schema[name]) for name, words in _LIMITS.items() if name in schema]
    return ", ".join([*([kinds] if kinds else []), *limits, *(["each once"] if schema.get("uniqueItems") else [])])


def _fill_engines(config: Config) -> None:
    """Fills in what depends on the engine, which a schema's default cannot."""
    for entry in config.get("models", {}).values():
        if entry["engine"] == "openai":
            entry.setdefault("device", "cpu")
        if entry["engine"] == "vllm":
            entry.setdefault("vllm", {})


def _fill(value: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any], document: str) -> None:
    """Fills in the defaults of a value that its schema has let pass, and puts its keys into the schema's order.

    So configs that say the same are written the same.
    """
    schema, document = _follow(schema, schemas, document)
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            target, where = _follow(part, schemas, document)
            default = part.get("default", target.get("default"))
            if name not in value and ("default" in part or "default" in target):
                value[name] = copy.deepcopy(default)
            if name in value:
                value[name] = value.pop(name)
                _fill(value[name], target, schemas, where)
        extra = schema.get("additionalProperties")
        if isinstance(extra, Mapping):
            for name in value:
                if name not in schema.get("properties", {}):
                    _fill(value[name], extra, schemas, document)
    elif isinstance(value, list) and "items" in schema:
        for part in value:
            _fill(part, schema["items"], schemas, document)


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
    yield from publishing_contradictions(config)
    yield from tuning_contradictions(config)
    yield from evaluation_contradictions(config)
    for kind in ("models", "scorers"):
        for name, entry in config[kind].items():
            yield from one_of(f"{kind}.{name}", entry, _ORIGINS[kind])
            tokenizer = entry.get("tokenizer")
            if isinstance(tokenizer, Mapping):
                yield from one_of(f"{kind}.{name}.tokenizer", tokenizer, ("repo", "path"))
            if entry["device"] == "cpu" and entry["tp"] > 1:
                yield f"{kind}.{name}.tp: {entry['tp']} GPUs for a model with device: cpu; allowed: 1, or device: cuda"
            check = _check_engine if kind == "models" else _check_scorer
            yield from check(f"{kind}.{name}", entry)
    for name in sorted(set(config["models"]) & set(config["scorers"])):
        yield f"scorers.{name}: there is a model of that name; allowed: any other name"
    for name, dataset in config["datasets"].items():
        if name in _TAKEN:
            yield f"datasets.{name}: the results have a folder of that name; allowed: any other name"
        path, recipe = f"datasets.{name}", recipe_of(dataset)
        yield from one_of(f"{path}.sources", dataset["sources"], recipe.SOURCES)
        released = recipe.released_texts(dataset)
        yield from filter_contradictions(path, dataset, config, recipe.TEXTS, recipe.NUMBERS, released)
        yield from recipe.contradictions(path, dataset, config)


def _check_engine(path: str, entry: Mapping[str, Any]) -> Iterator[str]:
    engine = entry["engine"]
    for name in _ENGINES:
        if name in entry and name != engine:
            yield f"{path}.{name}: the engine of this model is {engine}; allowed: engine: {name}, or no such key"
    if engine == "openai":
        if any(origin in entry for origin in _ORIGINS["models"]) and "openai" not in entry:
            yield f"{path}.openai: is missing; it has to be given, as the engine openai asks a server"
        if entry["device"] != "cpu":
            yield f"{path}.device: {entry['device']} for a model that a server runs; allowed: cpu, or no such key"
        for name in entry.get("openai", {}).get("extra_body", {}):
            if name in _OF_THE_ENGINE:
                yield f"{path}.openai.extra_body.{name}: is set for every call; allowed: any other parameter"
    if engine == "vllm" and entry["dtype"] == "float64":
        yield f"{path}.dtype: vLLM knows no float64; allowed: float32, bfloat16, float16"


def _check_scorer(path: str, entry: Mapping[str, Any]) -> Iterator[str]:
    metric = entry["metric"]
    if metric == "reward" and "reward" not in entry:
        yield f"{path}.reward: is missing; it has to be given, as it says how the model reads"
    if metric != "reward" and "reward" in entry:
        yield f"{path}.reward: the metric of this scorer is {metric}; allowed: metric: reward, or no such key"
    if metric == "comet" and "tokenizer" not in entry:
        yield f"{path}.tokenizer: is missing; it has to be given: the repo or path of COMET's encoder"
    if metric not in _TOY_METRICS and "toy" in entry:
        yield f"{path}.toy: there is no toy scorer of {metric}; allowed: metric: {' or '.join(_TOY_METRICS)}"
    if "toy" in entry and entry.get("reward", {}).get("form", "pair") != "pair":
        yield f"{path}.reward.form: the toy reward model reads pairs; allowed: pair"
    if metric != "metricx-24" and entry["compile"]:
        yield f"{path}.compile: true for {metric}; allowed: false"
