"""The config's check: what is refused and in which words, which defaults are filled in; and what its pages say."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from corpusmith import layout
from corpusmith.config import SCHEMAS, resolve_config
from corpusmith.errors import InputError
from corpusmith.filters import DEFAULT_RULES, TranslationRules

Config = dict[str, Any]
CONFIGS = sorted([*(ROOT / "config").glob("*.yaml"), *(ROOT / "config" / "examples").glob("*.yaml")])
TOY = "datasets.toy-translation"

SMALL = """
models:
  toy-base: {engine: transformers, toy: {steps: 700}, device: cpu}
scorers:
  toy-metricx: {metric: metricx-24, toy: {steps: 1700}, device: cpu}
datasets:
  toy-translation:
    recipe: translation
    source_language: {code: en, name: English}
    target_language: {code: ko, name: Korean}
    sources: {toy: {documents: 10}, pool: 10, edges: [0, 10, 20]}
    prefilter: {model: toy-base, scorer: toy-metricx, shards: 2, keep: 5}
    final: {model: toy-base, scorer: toy-metricx, n: 32}
    splits: {train: 0.9, test: 0.1}
"""

# Every mapping that a config may have, so that an unknown key can be tried in each.
EVERYTHING = """
models:
  teacher: {engine: transformers, repo: owner/teacher}
  toy-base: {engine: transformers, toy: {seed: 1}}
  on-gpus: {engine: vllm, repo: owner/model, vllm: {max_num_seqs: 8}}
  server: {engine: openai, openai: {base_url: "https://example.org/v1", model: large}}
scorers:
  metric: {metric: metricx-24, repo: owner/metric, tokenizer: {repo: owner/tokenizer}}
  toy-metricx: {metric: metricx-24, toy: {seed: 1}}
  rewarding: {metric: reward, repo: owner/reward, reward: {form: chat}}
datasets:
  from-hub:
    recipe: translation
    source_language: {code: en, name: English}
    target_language: {code: ko, name: Korean}
    sources: {hub: {repo: owner/data, files: ["*.gz"]}, pool: 10, tokenizer: teacher}
    prefilter: {model: teacher, scorer: metric, keep: 5}
    final: {model: teacher, scorer: metric}
    filter:
      rules: {max_score: 4.0}
      judge: {model: teacher, prompt: judge.txt, verdicts: [good, bad], accept: [good]}
    splits: {train: 0.9, test: 0.1}
    release: {licence: cc-by-4.0}
  solved:
    recipe: maths
    sources:
      files: [problems.jsonl]
      columns: {problem: question}
      labels: {pass_rate: {at_most: 0.5}, solution_tokens: {at_most: 100}}
      tokenizer: teacher
    solve: {model: teacher}
    check: {answer: boxed}
    judge: {model: teacher}
    select: {solutions: generated, pass_rate: {at_most: 0.5}}
    filter:
      deduplicate: {keep: {column: pass_rate, order: lowest}}
      decontaminate: {benchmarks: [test.jsonl]}
      safety: {allow: ["*@example.com"]}
  split-of-hub:
    recipe: maths
    sources: {hub: {split: "owner/data:default:train"}}
  toy-problems:
    recipe: maths
    sources: {toy: {problems: 10}}
  from-toy:
    recipe: translation
    source_language: {code: en, name: English}
    target_language: {code: de, name: German}
    sources: {toy: {documents: 10}, pool: 10}
    prefilter: {model: toy-base, scorer: toy-metricx, keep: 5}
    final: {model: toy-base, scorer: toy-metricx}
    evaluation:
      references: {toy: {}}
      metrics:
        with-references: {scorer: toy-metricx}
tuning:
  student: {method: sft, base: teacher, data: {files: [rows.jsonl]}, lora: {r: 4}, resources: {qos: low}}
  prompted: {method: sft, base: teacher, data: {files: [rows.jsonl]}, adaptation: prompt, prompt: {tokens: 4}}
"""
# Mappings in which names are the user's: there a new key is a new entry and not an unknown one.
NAMED = {("models",), ("scorers",), ("datasets",), ("datasets", "from-hub", "splits")}
NAMED |= {("datasets", "from-toy", "evaluation", "metrics"), ("tuning",)}


PLACES = {"maths": "datasets.MATHS", "instructions": "datasets.INSTRUCTIONS"}


@cache
def described() -> dict[str, Mapping[str, Any]]:
    """Every key of the schemas by its path, NAME for a name of the user's: what it may be, `required` added.

    MATHS and INSTRUCTIONS are names of datasets of those recipes. Entries of a list go by the path of the list.
    """
    schemas = {file.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in SCHEMAS.glob("*.yaml")}
    found: dict[str, Mapping[str, Any]] = {}

    def follow(schema: Mapping[str, Any], file: str) -> tuple[Mapping[str, Any], str]:
        while "$ref" in schema:
            name, _, pointer = schema["$ref"].partition("#/")
            file = name.removesuffix("#") or file
            target = schemas[file]
            for part in pointer.split("/") if pointer else []:
                target = target[part]
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        return schema, file

    def walk(schema: Mapping[str, Any], file: str, path: str) -> None:
        for name, part in schema.get("properties", {}).items():
            key = f"{path}.{name}".removeprefix(".")
            entry, where = follow(part, file)
            found[key] = {**entry, "required": name in schema.get("required", [])}
            walk(entry, where, key)
        names = schema.get("additionalProperties")
        if isinstance(names, Mapping):
            entry, where = follow(names, file)
            walk(entry, where, f"{path}.NAME")
        if isinstance(schema.get("items"), Mapping):
            walk(*follow(schema["items"], file), path)

    walk(schemas["config.yaml"], "config.yaml", "")
    for recipe in found["datasets.NAME.recipe"]["enum"]:
        walk(schemas[f"{recipe}.yaml"], f"{recipe}.yaml", PLACES.get(recipe, "datasets.NAME"))
    return found


def small() -> Config:
    return yaml.safe_load(SMALL)


def everything() -> Config:
    return yaml.safe_load(EVERYTHING)


def put(config: Config, path: str, value: Any) -> None:
    """Sets the value at a path such as models.toy-base.tp; what is not there on the way is made."""
    *parents, last = path.split(".")
    for name in parents:
        config = config.setdefault(name, {})
    config[last] = value


def drop(config: Config, path: str) -> None:
    *parents, last = path.split(".")
    for name in parents:
        config = config[name]
    del config[last]


def mappings(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all mappings in a config."""
    if isinstance(value, dict):
        yield path
        for name, part in value.items():
            yield from mappings(part, (*path, name))


def values(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all values in a config, those in lists too, but for the whole."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in entries:
        yield (*path, name)
        yield from values(part, (*path, name))


def at(config: Any, path: tuple[str | int, ...]) -> Any:
    for name in path:
        config = config[name]
    return config


def problems(config: Config) -> list[str]:
    """What is wrong with a config, a line each; each begins with the key's path."""
    with pytest.raises(InputError) as caught:
        resolve_config(config)
    lines = str(caught.value).split("\n")
    assert len(lines) == len(set(lines))
    assert all(line.startswith("config: ") for line in lines)
    return [line.removeprefix("config: ") for line in lines]


# --- what is refused ---


@pytest.mark.parametrize("path", [path for path in mappings(everything()) if path not in NAMED], ids=".".join)
def test_an_unknown_key_is_refused_at_every_level_with_the_keys_that_there_are(path: tuple[str, ...]) -> None:
    config = everything()
    at(config, path)["colour"] = "blue"
    (line,) = problems(config)
    assert line.startswith(".".join([*path, "colour"]) + ": there is no such key; allowed: ")
    allowed = line.partition("allowed: ")[2].split(", ")
    assert allowed == sorted(allowed)
    assert set(at(everything(), path)) <= set(allowed)


REQUIRED = [
    "models.teacher.engine",
    "models.server.openai.base_url",
    "models.server.openai.model",
    "scorers.metric.metric",
    "datasets.from-hub.recipe",
    "datasets.from-hub.source_language",
    "datasets.from-hub.source_language.code",
    "datasets.from-hub.source_language.name",
    "datasets.from-hub.target_language",
    "datasets.from-hub.target_language.code",
    "datasets.from-hub.target_language.name",
    "datasets.from-hub.sources",
    "datasets.from-hub.sources.pool",
    "datasets.from-hub.sources.hub.repo",
    "datasets.from-hub.sources.hub.files",
    "datasets.from-hub.prefilter",
    "datasets.from-hub.prefilter.model",
    "datasets.from-hub.prefilter.scorer",
    "datasets.from-hub.prefilter.keep",
    "datasets.from-hub.final",
    "datasets.from-hub.final.model",
    "datasets.from-hub.final.scorer",
    "datasets.from-hub.filter.judge.model",
    "datasets.from-hub.filter.judge.prompt",
    "datasets.from-hub.filter.judge.verdicts",
    "datasets.from-hub.filter.judge.accept",
]


@pytest.mark.parametrize("path", REQUIRED)
def test_a_required_key_that_is_missing_is_named(path: str) -> None:
    config = everything()
    drop(config, path)
    assert problems(config) == [f"{path}: is missing; it has to be given"]


def test_something_has_to_be_built() -> None:
    config = everything()
    for name in ("datasets", "tuning", "folders", "evaluations"):
        config.pop(name, None)
    assert problems(config) == ["datasets: is missing; it has to be given"]


LANGUAGE_KEYS, TOY_KEYS = "code, name", "learns, seed, steps"
JUDGE_KEYS = "accept, max_failed, model, prompt, shards, temperature, verdicts, votes"
SAFETY_KEYS = "allow, columns, emails, phone_numbers, secrets"
MODEL_KEYS = (
    "batch_size, cpus, device, drain_seconds, dtype, engine, licence, max_length, memory_mb, openai, parameters_b,"
    " path, publish, repo, resources, revision, runtime_minutes, stall_timeout, toy, tp, trust_remote_code, vllm"
)
WRONG_VALUES = [
    # path, value, how it is said, what is allowed
    ("results", 3, "3", "text, in quotes"),
    ("limit", 0, "0", "a whole number or null, at least 1"),
    ("limit", "200", "'200'", "a whole number or null, at least 1"),
    ("models", None, "null", "keys with values"),
    ("models", ["toy-base"], "['toy-base']", "keys with values"),
    ("models.toy-base", "owner/model", "'owner/model'", f"keys with values ({MODEL_KEYS})"),
    ("models.toy-base.toy", None, "null", f"keys with values ({TOY_KEYS})"),
    ("models.toy-base.device", "gpu", "'gpu'", "cpu, cuda"),
    ("models.toy-base.dtype", "fp32", "'fp32'", "float64, float32, bfloat16, float16"),
    ("models.toy-base.tp", 0, "0", "a whole number, at least 1"),
    ("models.toy-base.tp", True, "true", "a whole number, at least 1"),
    ("models.toy-base.trust_remote_code", "yes please", "'yes please'", "true or false"),
    ("scorers.toy-metricx.metric", "bleu", "'bleu'", "metricx-24, reward, comet"),
    ("datasets", {}, "{}", "keys with values, 1 or more of them"),
    ("datasets", [], "[]", "keys with values, 1 or more of them"),
    (TOY, ["recipe", "translation"], "['recipe', 'translation']", "keys with values"),
    (f"{TOY}.recipe", "poetry", "'poetry'", "translation, maths, instructions"),
    (f"{TOY}.recipe", ["translation"], "['translation']", "translation, maths, instructions"),
    (f"{TOY}.source_language", "en", "'en'", f"keys with values ({LANGUAGE_KEYS})"),
    # YAML takes an unquoted no, the code of Norwegian, for false.
    (f"{TOY}.target_language.code", False, "false", "text, in quotes"),
    (f"{TOY}.target_language.name", "", "''", "text, of length 1 or more"),
    (f"{TOY}.sources.pool", 1e6, "1000000.0", "a whole number, at least 1"),
    (f"{TOY}.sources.pool", "1e6", "'1e6'", "a whole number, at least 1"),
    (f"{TOY}.sources.blob_share", 1.5, "1.5", "a number, at least 0, at most 1"),
    (f"{TOY}.sources.edges", [10], "[10]", "a list, of length 2 or more"),
    (f"{TOY}.sources.edges.0", -1, "-1", "a whole number, at least 0"),
    (f"{TOY}.prefilter.temperature", 0, "0", "a number, above 0"),
    (f"{TOY}.prefilter.shards", 10_000, "10000", "a whole number, at least 1, at most 9999"),
    (f"{TOY}.final.n", 32.0, "32.0", "a whole number, at least 1"),
    (f"{TOY}.final.temperature", float("inf"), "inf", "a number, at least 0"),
    (f"{TOY}.final.temperature", float("nan"), "nan", "a number, at least 0"),
    (f"{TOY}.filter.rules.numbers", 0.5, "0.5", "true or false"),
    (f"{TOY}.filter.rules.script", None, "null", "a number or true or false, at least 0, at most 1"),
    (
        f"{TOY}.filter.rules.length_ratio",
        [3],
        "[3]",
        "a list or true or false, of length 2 or more, of length 2 or less",
    ),
    (f"{TOY}.filter.judge", "gpt", "'gpt'", f"keys with values ({JUDGE_KEYS}) or null"),
    (f"{TOY}.filter.safety", True, "true", f"keys with values ({SAFETY_KEYS}) or null"),
    (f"{TOY}.filter.safety.phone_numbers", "US", "'US'", "true or false or a list, of length 1 or more, each once"),
    (f"{TOY}.splits", {}, "{}", "keys with values, 1 or more of them"),
    (f"{TOY}.splits.train", 0, "0", "a number, above 0"),
]


@pytest.mark.parametrize(("path", "value", "said", "allowed"), WRONG_VALUES)
def test_a_value_of_the_wrong_kind_is_one_line_that_says_what_is_allowed(
    path: str, value: Any, said: str, allowed: str
) -> None:
    config = small()
    *parents, last = path.split(".")
    if last.isdigit():
        at(config, tuple(parents))[int(last)] = value
    else:
        put(config, path, value)
    assert problems(config) == [f"{path}: {said} is not allowed; allowed: {allowed}"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("results", "my results"),
        ("results", "results/"),
        ("results", ""),
        (f"{TOY}.target_language.code", "KO"),
        (f"{TOY}.target_language.code", "korean"),
        (f"{TOY}.target_language.code", "ko-KR"),
    ],
)
def test_text_of_the_wrong_form_is_one_line_that_says_which_form_is_allowed(path: str, value: str) -> None:
    config = small()
    put(config, path, value)
    (line,) = problems(config)
    assert line.startswith(f"{path}: {value!r} does not fit here; allowed: what matches ")
    pattern = line.partition("what matches ")[2]
    assert not re.search(pattern, value)
    assert re.search(pattern, at(resolve_config(small()), tuple(path.split("."))))


@pytest.mark.parametrize("name", ["", "my data", "a/b", "../up", ".hidden", "übersetzung"])
@pytest.mark.parametrize("kind", ["models", "scorers", "datasets"])
def test_a_name_that_could_be_no_folder_is_refused(kind: str, name: str) -> None:
    config = small()
    config[kind][name] = next(iter(config[kind].values()))
    (line,) = problems(config)
    assert line.startswith(f"{kind}: {name!r} does not fit here; ")


@pytest.mark.parametrize("name", ["rejected", "Train", "1st", "my-split"])
def test_a_split_has_a_plain_name_that_is_not_rejected(name: str) -> None:
    config = small()
    config["datasets"]["toy-translation"]["splits"][name] = 0.1
    (line,) = problems(config)
    assert line.startswith(f"{TOY}.splits: {name!r} does not fit here; ")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2024: {}", "2024"),
        ("no: {}", "false"),
        ("null: {}", "null"),
        ("1.5: {}", "1.5"),
        ("2024-01-01: {}", "datetime"),
    ],
)
@pytest.mark.parametrize("path", [(), ("models",), ("datasets", "toy-translation", "splits")])
def test_a_key_that_yaml_takes_for_something_else_than_text_is_named(
    path: tuple[str, ...], written: str, said: str
) -> None:
    config = small()
    at(config, path).update(yaml.safe_load(written))
    (line,) = problems(config)
    assert line.startswith(".".join([*path, said]))
    assert line.endswith(": a key is text; allowed: the same in quotes")


SERVER = {"base_url": "https://example.org/v1", "model": "large"}
CONTRADICTIONS = [
    (
        "a model that is not defined",
        f"{TOY}.prefilter.model",
        "toy",
        f"{TOY}.prefilter.model: there is no model 'toy'; allowed: toy-base",
    ),
    (
        "a scorer where a model is wanted",
        f"{TOY}.final.model",
        "toy-metricx",
        f"{TOY}.final.model: there is no model 'toy-metricx'; allowed: toy-base",
    ),
    (
        "a scorer that is not defined",
        f"{TOY}.final.scorer",
        "metricx",
        f"{TOY}.final.scorer: there is no scorer 'metricx'; allowed: rewarding, toy-metricx",
    ),
    (
        "a tokenizer of no model",
        f"{TOY}.sources.tokenizer",
        "gemma",
        f"{TOY}.sources.tokenizer: there is no model 'gemma'; allowed: toy-base",
    ),
    (
        "a judge that is not defined",
        f"{TOY}.filter.judge",
        {"model": "judge", "prompt": "judge.txt", "verdicts": ["good", "bad"], "accept": ["good"]},
        f"{TOY}.filter.judge.model: there is no model 'judge'; allowed: toy-base",
    ),
    (
        "an accepted verdict that is none",
        f"{TOY}.filter.judge",
        {"model": "toy-base", "prompt": "judge.txt", "verdicts": ["good", "bad"], "accept": ["good", "fine"]},
        f"{TOY}.filter.judge.accept: 'fine' is no verdict; allowed: 'good', 'bad'",
    ),
    (
        "many greedy answers",
        f"{TOY}.final.temperature",
        0,
        f"{TOY}.final.temperature: 0 makes all 32 answers of a source equal; allowed: above 0, or n: 1",
    ),
    (
        "several GPUs on a CPU",
        "models.toy-base.tp",
        2,
        "models.toy-base.tp: 2 GPUs for a model with device: cpu; allowed: 1, or device: cuda",
    ),
    (
        "several GPUs for a scorer on a CPU",
        "scorers.toy-metricx.tp",
        4,
        "scorers.toy-metricx.tp: 4 GPUs for a model with device: cpu; allowed: 1, or device: cuda",
    ),
    (
        "edges that fall",
        f"{TOY}.sources.edges",
        [0, 20, 10],
        f"{TOY}.sources.edges: [0, 20, 10] do not rise; allowed: each edge above the one before",
    ),
    (
        "an edge twice",
        f"{TOY}.sources.edges",
        [0, 10, 10],
        f"{TOY}.sources.edges: [0, 10, 10] do not rise; allowed: each edge above the one before",
    ),
    (
        "two origins of a model",
        "models.toy-base.repo",
        "owner/model",
        "models.toy-base: repo and toy of repo, path, toy, openai given; allowed: exactly one",
    ),
    (
        "two origins of a tokenizer",
        "scorers.toy-metricx.tokenizer",
        {"repo": "owner/tokenizer", "path": "tokenizer"},
        "scorers.toy-metricx.tokenizer: repo and path of repo, path given; allowed: exactly one",
    ),
    (
        "a tokenizer from nowhere",
        "scorers.toy-metricx.tokenizer",
        {},
        "scorers.toy-metricx.tokenizer: none of repo, path given; allowed: exactly one",
    ),
    (
        "two origins of sources",
        f"{TOY}.sources.files",
        ["*.gz"],
        f"{TOY}.sources: files and toy of files, hub, toy given; allowed: exactly one",
    ),
    (
        "the same language twice",
        f"{TOY}.target_language",
        {"code": "en", "name": "British English"},
        f"{TOY}.target_language.code: is the source language; allowed: another one",
    ),
    (
        "a threshold that is only on",
        f"{TOY}.filter.rules.max_score",
        True,
        f"{TOY}.filter.rules.max_score: true says no threshold; allowed: a number, or false",
    ),
    (
        "a ratio without room",
        f"{TOY}.filter.rules.length_ratio",
        [2, 2],
        f"{TOY}.filter.rules.length_ratio: 2 is not below 2; allowed: the least ratio first",
    ),
    (
        "a model named as a scorer",
        "models.toy-metricx",
        {"engine": "transformers", "repo": "owner/model"},
        "scorers.toy-metricx: there is a model of that name; allowed: any other name",
    ),
    (
        "a server for an engine that asks none",
        "models.other",
        {"engine": "transformers", "openai": SERVER},
        "models.other.openai: the engine of this model is transformers; allowed: engine: openai, or no such key",
    ),
    (
        "settings of vLLM for another engine",
        "models.toy-base.vllm",
        {},
        "models.toy-base.vllm: the engine of this model is transformers; allowed: engine: vllm, or no such key",
    ),
    (
        "an engine that asks a server and has none",
        "models.other",
        {"engine": "openai", "repo": "owner/model"},
        "models.other.openai: is missing; it has to be given, as the engine openai asks a server",
    ),
    (
        "a server on a GPU of one's own",
        "models.other",
        {"engine": "openai", "openai": SERVER, "device": "cuda"},
        "models.other.device: cuda for a model that a server runs; allowed: cpu, or no such key",
    ),
    (
        "several GPUs for a server",
        "models.other",
        {"engine": "openai", "openai": SERVER, "tp": 2},
        "models.other.tp: 2 GPUs for a model with device: cpu; allowed: 1, or device: cuda",
    ),
    (
        "a parameter that every call has already",
        "models.other",
        {"engine": "openai", "openai": {**SERVER, "extra_body": {"n": 4}}},
        "models.other.openai.extra_body.n: is set for every call; allowed: any other parameter",
    ),
    (
        "a server's name without a tokenizer to count with",
        f"{TOY}.prefilter.model",
        "server",
        f"{TOY}.sources.tokenizer: 'server' answers over HTTP and has no tokenizer here; allowed: the name of a model"
        " with repo, path or toy, of which only the tokenizer is fetched",
    ),
    (
        "a tokenizer of a server",
        f"{TOY}.sources.tokenizer",
        "server",
        f"{TOY}.sources.tokenizer: 'server' answers over HTTP and has no tokenizer here; allowed: the name of a model"
        " with repo, path or toy, of which only the tokenizer is fetched",
    ),
    (
        "a reward model that does not say how it reads",
        "scorers.other",
        {"metric": "reward", "repo": "owner/reward"},
        "scorers.other.reward: is missing; it has to be given, as it says how the model reads",
    ),
    (
        "a form of another metric",
        "scorers.toy-metricx.reward",
        {"form": "pair"},
        "scorers.toy-metricx.reward: the metric of this scorer is metricx-24; allowed: metric: reward, or no such key",
    ),
    (
        "COMET without its encoder",
        "scorers.other",
        {"metric": "comet", "repo": "owner/comet"},
        "scorers.other.tokenizer: is missing; it has to be given: the repo or path of COMET's encoder",
    ),
    (
        "a toy that is no COMET",
        "scorers.other",
        {"metric": "comet", "toy": {}, "tokenizer": {"repo": "owner/encoder"}},
        "scorers.other.toy: there is no toy scorer of comet; allowed: metric: metricx-24 or reward",
    ),
    (
        "a toy reward model that reads conversations",
        "scorers.other",
        {"metric": "reward", "toy": {}, "reward": {"form": "chat"}},
        "scorers.other.reward.form: the toy reward model reads pairs; allowed: pair",
    ),
    (
        "layers compiled that are not ours",
        "scorers.other",
        {"metric": "comet", "repo": "owner/comet", "tokenizer": {"repo": "owner/encoder"}, "compile": True},
        "scorers.other.compile: true for comet; allowed: false",
    ),
    (
        "the most rewarded taken for the best of an error score",
        f"{TOY}.final.scorer",
        "rewarding",
        f"{TOY}.final.scorer: a reward counts no errors; allowed: one with metric: metricx-24",
    ),
    (
        "the truth of a language that is no toy",
        f"{TOY}.evaluation",
        {"references": {}},
        f"{TOY}.evaluation.references: none of files, toy given; allowed: exactly one",
    ),
    (
        "a metric of no scorer",
        f"{TOY}.evaluation",
        {"references": {"toy": {}}, "metrics": {"mine": {"scorer": "metricx"}}},
        f"{TOY}.evaluation.metrics.mine.scorer: there is no scorer 'metricx'; allowed: rewarding, toy-metricx",
    ),
    (
        "float64 in vLLM",
        "models.other",
        {"engine": "vllm", "repo": "owner/model", "dtype": "float64"},
        "models.other.dtype: vLLM knows no float64; allowed: float32, bfloat16, float16",
    ),
]


@pytest.mark.parametrize(
    ("path", "value", "line"), [case[1:] for case in CONTRADICTIONS], ids=[case[0] for case in CONTRADICTIONS]
)
def test_what_cannot_be_at_once_is_one_line(path: str, value: Any, line: str) -> None:
    config = small()
    config["models"]["server"] = {"engine": "openai", "openai": SERVER}
    config["scorers"]["rewarding"] = {"metric": "reward", "repo": "owner/reward", "reward": {"form": "chat"}}
    put(config, path, value)
    # Names that are allowed are those of small(), and the server's.
    assert problems(config) == [line.replace("allowed: toy-base", "allowed: server, toy-base")]


@pytest.mark.parametrize(
    ("path", "origins"),
    [
        ("models.toy-base.toy", "repo, path, toy, openai"),
        ("scorers.toy-metricx.toy", "repo, path, toy"),
        (f"{TOY}.sources.toy", "files, hub, toy"),
    ],
)
def test_what_comes_from_nowhere_is_one_line(path: str, origins: str) -> None:
    config = small()
    drop(config, path)
    assert problems(config) == [f"{path.rpartition('.')[0]}: none of {origins} given; allowed: exactly one"]


@pytest.mark.parametrize("name", ["models", "evals", "logs", "benchmarks"])
def test_a_dataset_cannot_have_the_name_of_a_folder_of_the_results(name: str) -> None:
    config = small()
    config["datasets"][name] = config["datasets"].pop("toy-translation")
    assert problems(config) == [f"datasets.{name}: the results have a folder of that name; allowed: any other name"]


@pytest.mark.parametrize(
    "address",
    [
        "example.org/v1",
        "ftp://example.org/v1",
        "https://user:password@example.org/v1",
        "https://example.org/v1?key=secret",
        "https://example.org/v1#secret",
        "https:///v1",
        "https://example.org/a b",
    ],
)
def test_an_address_that_is_none_or_holds_more_than_one_is_refused(address: str) -> None:
    config = everything()
    put(config, "models.server.openai.base_url", address)
    (line,) = problems(config)
    assert line.startswith("models.server.openai.base_url: ")


@pytest.mark.parametrize(
    "address", ["http://localhost:8000/v1", "https://api.example.org", "http://[::1]:8000/v1/", "http://node-7/a/b/v1"]
)
def test_an_address_of_a_server_is_allowed_with_its_port_and_path(address: str) -> None:
    config = everything()
    put(config, "models.server.openai.base_url", address)
    assert resolve_config(config)["models"]["server"]["openai"]["base_url"] == address


@pytest.mark.parametrize("path", ["models.server.openai.extra_body", "models.on-gpus.vllm.options"])
def test_what_json_cannot_say_is_refused_in_settings_that_are_free(path: str) -> None:
    config = everything()
    put(config, f"{path}.nested", {"list": [1, "two", None, {"three": 0.5}], "when": yaml.safe_load("2026-01-31")})
    (line,) = problems(config)
    assert line.startswith(f"{path}.nested.when: ")
    put(config, f"{path}.nested.when", "2026-01-31")
    assert at(resolve_config(config), (*path.split("."), "nested", "list", 3, "three")) == 0.5


def test_settings_of_an_engine_are_filled_in_for_that_engine_alone() -> None:
    models = resolve_config(everything())["models"]
    assert models["server"]["device"] == "cpu"
    assert models["server"]["openai"]["concurrency"] == 64
    assert models["on-gpus"]["vllm"] == {
        "gpu_memory_utilization": 0.9,
        "max_num_seqs": 8,
        "quantization": None,
        "options": {},
    }
    assert [name for name in models if "vllm" in models[name]] == ["on-gpus"]
    config = everything()
    del config["models"]["on-gpus"]["vllm"]
    assert resolve_config(config)["models"]["on-gpus"]["vllm"]["max_num_seqs"] == 256


def test_one_answer_at_temperature_0_is_allowed() -> None:
    config = small()
    config["datasets"]["toy-translation"]["final"] |= {"temperature": 0, "n": 1}
    assert resolve_config(config)["datasets"]["toy-translation"]["final"]["n"] == 1


def test_several_problems_are_a_line_each_whatever_their_level() -> None:
    config = small()
    config |= {"colour": 1, "shape": 2}
    config["models"]["toy-base"]["tp"] = "two"
    put(config, f"{TOY}.splits.train", -1)
    drop(config, f"{TOY}.final.model")
    drop(config, f"{TOY}.final.scorer")
    config["datasets"]["second"] = {"recipe": "translation", "size": 1}
    assert sorted(line.partition(": ")[0] for line in problems(config)) == sorted(
        [
            "colour",
            "shape",
            "models.toy-base.tp",
            f"{TOY}.splits.train",
            f"{TOY}.final.model",
            f"{TOY}.final.scorer",
            "datasets.second.size",
            *(
                f"datasets.second.{key}"
                for key in ("source_language", "target_language", "sources", "prefilter", "final")
            ),
        ]
    )


# --- defaults ---


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_committed_config_resolves(file: Path) -> None:
    config = resolve_config(yaml.safe_load(file.read_text(encoding="utf-8")))
    for name, dataset in config["datasets"].items():
        for step in {entry.split("/")[0] for entry in layout.asking(config, name)}:
            prompt = layout.step_of(config, name, step).get("prompt")
            assert prompt is None or (ROOT / prompt).is_file(), f"{name}.{step}.prompt"
        if dataset["recipe"] != "translation":
            continue
        rules = TranslationRules(
            dataset["filter"]["rules"], dataset["source_language"]["code"], dataset["target_language"]["code"]
        )
        # An empty answer at the worst score breaks what it can break.
        assert {breach.rule for breach in rules.check("A source.", "", 25.0)} >= {"empty", "max_score"}


def test_the_full_size_build_resolves_with_its_teacher_by_api_too() -> None:
    text = (ROOT / "config" / "examples" / "translategemma-en-ko.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    (block,) = re.findall(r"^  # teacher:\n(?:  # .*\n)+", text, flags=re.MULTILINE)
    config["models"] |= yaml.safe_load(re.sub("^  # ", "", block, flags=re.MULTILINE))
    dataset = config["datasets"]["translategemma-en-ko"]
    dataset["sources"]["tokenizer"] = "counter"
    resolved = resolve_config(config)
    assert resolved["models"]["teacher"]["engine"] == "openai"
    # The key is named and not told.
    assert re.fullmatch("[A-Z_]+", resolved["models"]["teacher"]["openai"]["api_key_variable"])


def test_the_full_size_build_is_the_one_that_the_report_describes() -> None:
    text = (ROOT / "config" / "examples" / "translategemma-en-ko.yaml").read_text(encoding="utf-8")
    config = resolve_config(yaml.safe_load(text))
    dataset = config["datasets"]["translategemma-en-ko"]
    assert (dataset["source_language"]["code"], dataset["target_language"]["code"]) == ("en", "ko")
    assert dataset["sources"]["hub"]["repo"] == "allenai/MADLAD-400"
    assert (dataset["sources"]["pool"], dataset["sources"]["blob_tokens"]) == (1_000_000, 512)
    assert (dataset["prefilter"]["keep"], dataset["final"]["n"]) == (10_000, 128)
    teacher = config["models"][dataset["final"]["model"]]
    assert teacher["engine"] == "vllm"
    # The longest source, the prompt around it and the longest answer have room.
    longest = max(dataset["sources"]["edges"][-1], dataset["sources"]["blob_tokens"])
    assert longest + 150 + dataset["final"]["max_tokens"] <= teacher["max_length"]
    assert "metricx-24-hybrid-xxl" in config["scorers"][dataset["final"]["scorer"]]["repo"]


def test_the_filter_rules_have_the_defaults_that_the_programs_have() -> None:
    rules = resolve_config(small())["datasets"]["toy-translation"]["filter"]["rules"]
    assert rules == DEFAULT_RULES
    assert {name: type(value) for name, value in rules.items()} == {
        name: type(value) for name, value in DEFAULT_RULES.items()
    }


def test_a_rule_that_is_given_leaves_the_others_at_their_defaults() -> None:
    config = small()
    put(config, f"{TOY}.filter", {"rules": {"numbers": False, "max_score": 3}})
    rules = resolve_config(config)["datasets"]["toy-translation"]["filter"]["rules"]
    assert rules == DEFAULT_RULES | {"numbers": False, "max_score": 3}


def test_defaults_are_filled_in_at_every_level() -> None:
    config = resolve_config(everything())
    assert config["results"] == "results"
    assert config["limit"] is None
    assert config["models"]["teacher"]["revision"] == "main"
    assert config["models"]["teacher"]["device"] == "cuda"
    assert config["scorers"]["metric"]["tokenizer"] == {"repo": "owner/tokenizer", "revision": "main"}
    hub, toy = config["datasets"]["from-hub"], config["datasets"]["from-toy"]
    assert hub["sources"]["hub"]["revision"] == "main"
    assert hub["sources"]["edges"] == [0, 10, 20, 40, 80, 120, 200, 400, 800]
    assert (hub["final"]["n"], hub["final"]["temperature"], hub["final"]["keep_top"]) == (128, 1.0, 4)
    assert hub["filter"]["judge"]["shards"] == 16
    assert toy["filter"]["judge"] is None
    assert toy["splits"] == {"train": 1.0}
    assert toy["release"] == {
        "description": "",
        "licence": None,
        "licence_override": None,
        "about": None,
        "minimum_rows": 1,
    }


def test_what_has_no_default_stays_out() -> None:
    config = resolve_config(small())
    assert not {"repo", "path"} & set(config["models"]["toy-base"])
    assert not {"files", "hub", "tokenizer"} & set(config["datasets"]["toy-translation"]["sources"])


def test_defaults_are_never_shared_between_two_places() -> None:
    config = resolve_config(everything())
    hub, toy = config["datasets"]["from-hub"], config["datasets"]["from-toy"]
    hub["sources"]["edges"].append(1600)
    assert toy["sources"]["edges"][-1] == 800
    assert resolve_config(everything())["datasets"]["from-hub"]["sources"]["edges"][-1] == 800


def test_what_a_yaml_alias_names_twice_is_filled_in_by_the_defaults_of_each_place() -> None:
    text = SMALL.replace("toy: {steps: 700}", "toy: &both {seed: 3}").replace("toy: {steps: 1700}", "toy: *both")
    config = resolve_config(yaml.safe_load(text))
    of_model, of_scorer = (described()[f"{kind}.NAME.toy.steps"]["default"] for kind in ("models", "scorers"))
    assert of_model != of_scorer
    assert config["models"]["toy-base"]["toy"] == {"steps": of_model, "seed": 3, "learns": "world"}
    assert config["scorers"]["toy-metricx"]["toy"] == {"steps": of_scorer, "seed": 3}


def test_the_config_that_is_given_is_not_changed() -> None:
    config = everything()
    resolve_config(config)
    assert config == everything()


def test_the_order_of_keys_in_the_file_does_not_matter() -> None:
    def turned(value: Any) -> Any:
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    # Names of the user's stay in their order: splits stand in the card as they stand in the config.
    config = turned(everything())
    for path in NAMED:
        entries = at(config, path)
        for name in reversed(list(entries)):
            entries[name] = entries.pop(name)
    assert json.dumps(resolve_config(config)) == json.dumps(resolve_config(everything()))


@pytest.mark.parametrize("text", [SMALL, EVERYTHING], ids=["small", "everything"])
def test_a_resolved_config_resolves_to_itself(text: str) -> None:
    resolved = resolve_config(yaml.safe_load(text))
    assert resolve_config(copy.deepcopy(resolved)) == resolved


@pytest.mark.parametrize("name", ["from-hub", "from-toy"])
def test_the_config_that_a_release_comes_with_builds_that_release(name: str) -> None:
    released = layout.release_config(resolve_config(everything()), name)
    again = resolve_config(yaml.safe_load(yaml.safe_dump(released)))
    assert layout.release_config(again, name) == released


def test_the_tiny_config_shares_the_models_of_the_demo_and_no_other_folder() -> None:
    tiny = resolve_config(yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text(encoding="utf-8")))
    full = resolve_config(yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8")))
    assert tiny["models"].items() <= full["models"].items()
    assert tiny["scorers"].items() <= full["scorers"].items()
    assert layout.models_folder(tiny) == layout.models_folder(full)
    assert layout.results_folder(tiny) != layout.results_folder(full)
    assert layout.pool_of(tiny, "toy-translation") == 40
    assert tiny["datasets"]["toy-translation"]["final"]["n"] == 8


# --- whatever is typed ---

KEYS = st.one_of(st.text(max_size=12), st.sampled_from(["colour", "model", "n", "a\nb", "a.b", ""]))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**7),
    st.floats(),
    st.text(max_size=12),
    st.dates(),
    st.binary(max_size=4),
)
ODD_KEYS = st.one_of(KEYS, st.integers(), st.booleans(), st.none(), st.floats(), st.dates())
ANYTHING = st.recursive(
    SCALARS,
    lambda parts: st.one_of(st.lists(parts, max_size=3), st.dictionaries(ODD_KEYS, parts, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=50)
@given(path=st.sampled_from([path for path in mappings(everything()) if path not in NAMED]), key=KEYS, value=ANYTHING)
def test_any_key_that_is_not_known_is_one_line(path: tuple[str, ...], key: str, value: Any) -> None:
    (allowed,) = {line.partition("allowed: ")[2] for line in problems(_with(everything(), path, "no such key", 1))}
    if key in allowed.split(", ") or _has_odd_key(value):
        return
    (line,) = problems(_with(everything(), path, key, value))
    assert line.endswith(f": there is no such key; allowed: {allowed}")


def _with(config: Config, path: tuple[str, ...], key: str, value: Any) -> Config:
    at(config, path)[key] = value
    return config


def _has_odd_key(value: Any) -> bool:
    if isinstance(value, dict):
        return any(not isinstance(key, str) or _has_odd_key(part) for key, part in value.items())
    return isinstance(value, list) and any(map(_has_odd_key, value))


@settings(max_examples=150)
@given(changes=st.lists(st.tuples(st.sampled_from(list(values(everything()))), ANYTHING), min_size=1, max_size=3))
def test_whatever_stands_in_place_of_a_value_is_refused_in_lines_or_can_be_built_with(
    changes: list[tuple[tuple[str | int, ...], Any]],
) -> None:
    config = everything()
    for path, value in changes:
        try:
            parent = at(config, path[:-1])
            parent[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took its place away
    try:
        resolved = resolve_config(config)
    except InputError as error:
        lines = str(error).split("\n")
        assert len(lines) == len(set(lines))
        assert all(re.fullmatch(r"config: .*: .+", line) for line in lines)
        return
    # What goes through is written as JSON and YAML into flags and releases.
    json.dumps(resolved, allow_nan=False)
    assert yaml.safe_load(yaml.safe_dump(resolved)) == resolved


@settings(max_examples=50)
@given(paths=st.sets(st.sampled_from(REQUIRED), min_size=1, max_size=4))
def test_any_required_keys_that_are_missing_are_a_line_each(paths: set[str]) -> None:
    config = everything()
    # What is missing inside of what is missing is not missed.
    outer = {path for path in paths if not any(path.startswith(f"{other}.") for other in paths)}
    # Without its recipe nobody knows what else a dataset has to have.
    if "datasets.from-hub.recipe" in outer:
        outer = {path for path in outer if not path.startswith("datasets.from-hub.") or path.endswith(".recipe")}
    for path in sorted(paths, reverse=True):
        drop(config, path)
    assert set(problems(config)) == {f"{path}: is missing; it has to be given" for path in outer}


@pytest.mark.parametrize("whole", [None, [], "text", 3, {}])
def test_a_config_that_is_no_config_is_one_line(whole: Any) -> None:
    assert len(problems(whole)) == 1
