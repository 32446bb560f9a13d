"""Where everything lies, and what the config says of each step: what the rules ask instead of computing.

No path is spelled twice: rules and programs name files through this module or through wildcards.
Imported by the Snakefile: nothing heavy here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from corpusmith.identity import shard_names
from corpusmith.metrics import KINDS

Config = Mapping[str, Any]
# Settings of a model or scorer that change no answer and no score, only where and how fast they are made; and, beside
# them, those of engines.
_MACHINE = (
    "batch_size", "tokens_per_batch", "compile", "memory_mb", "runtime_minutes", "tp", "stall_timeout",
    "drain_seconds", "cpus", "parameters_b", "resources",
)  # fmt: skip
_TUNING = {
    "openai": (
        "api_key_variable",
        "concurrency",
        "requests_per_minute",
        "tokens_per_minute",
        "timeout_seconds",
        "max_retries",
        "proxies",
        "samples_per_call",
    ),
    "vllm": ("gpu_memory_utilization", "max_num_seqs"),
}
# The step that holds a release against references, and what the steps of its metrics begin with.
EVALUATION = "evaluation"
_METRIC_STEP = f"{EVALUATION}-"
# Three answers to each released source that has a reference are work for one job.
EVALUATION_SHARDS = 1
# The template of a release's card.
CARD = "scripts/corpusmith/templates/card.md.jinja"
# What the identity of a model behind an API stands for.
_ADDRESS = ("base_url", "model", "identity")


def results_folder(config: Config) -> str:
    """The folder of the results: with a limit its number is part of the name, so that a try never mixes in."""
    return config["results"] if config["limit"] is None else f"{config['results']}-limit-{config['limit']}"


def models_folder(config: Config) -> str:
    """The folder of the toy models: they are the same with and without a limit."""
    return f"{config['results']}/models"


def entry_of(config: Config, name: str) -> Mapping[str, Any]:
    """The config of a model or scorer by name."""
    return config["models"][name] if name in config["models"] else config["scorers"][name]


def receipt_of(config: Config, name: str) -> str:
    """The receipt of a model or scorer: what it is and which files it has."""
    entry = entry_of(config, name)
    if "toy" in entry:
        return f"{models_folder(config)}/{name}/receipt.json"
    return f"resources/models/{name}/{'server' if 'openai' in entry else 'fetch'}.json"


def tokenizer_receipt_of(config: Config, name: str) -> str:
    """The receipt of where a scorer's tokenizer lies: beside its checkpoint unless the config says otherwise."""
    if "tokenizer" in entry_of(config, name):
        return f"resources/models/{name}/tokenizer.json"
    return receipt_of(config, name)


def counting_receipt_of(config: Config, dataset: str) -> str:
    """The receipt of the tokenizer that counts: of a model that is named only for that, no weights are fetched."""
    entry = config["datasets"][dataset]
    if "tokenizer" not in entry["sources"]:
        return receipt_of(config, entry["prefilter"]["model"])
    name = entry["sources"]["tokenizer"]
    return receipt_of(config, name) if "toy" in entry_of(config, name) else f"resources/models/{name}/tokenizer.json"


def environment_of(config: Config, kind: str, name: str) -> str:
    """The environment for a kind of work (an engine, a metric) on the device of a model or scorer."""
    # An API is asked from a CPU: there is one environment for it.
    return f"{kind}-cpu" if entry_of(config, name)["device"] == "cpu" and kind != "openai" else kind


def engine_environment_of(config: Config, name: str) -> str:
    """The environment for a model's engine on the model's device."""
    return environment_of(config, entry_of(config, name)["engine"], name)


def engine_settings(config: Config, name: str) -> dict[str, Any]:
    """Settings of a model's engine on which its answers depend."""
    entry = entry_of(config, name)
    left_out = (*_TUNING.get(entry["engine"], ()), *_ADDRESS)
    return {key: value for key, value in entry.get(entry["engine"], {}).items() if key not in left_out}


def engine_tuning(config: Config, name: str) -> dict[str, Any]:
    """Settings of a model's engine that only say where its answers come from, and how fast.

    What answers is known by the model's identity, which is in its receipt.
    """
    entry = entry_of(config, name)
    taken = (*_TUNING.get(entry["engine"], ()), "base_url", "model")
    return {key: value for key, value in entry.get(entry["engine"], {}).items() if key in taken}


def server_identity(config: Config, name: str) -> str:
    """What a model behind an API is known by: what the server calls it and the server's host, or as the config says."""
    openai = entry_of(config, name)["openai"]
    return openai["identity"] or f"api:{urlsplit(openai['base_url']).netloc.lower()}/{openai['model']}"


def gpus_of(config: Config, name: str) -> int:
    """GPUs of a job that runs a model or scorer."""
    entry = entry_of(config, name)
    return entry["tp"] if entry["device"] == "cuda" else 0


def scorer_program_of(config: Config, name: str) -> str:
    """The program that runs a scorer."""
    return KINDS[entry_of(config, name)["metric"]].program


def scorer_environment_of(config: Config, name: str) -> str:
    """The environment for a scorer's program on the scorer's device."""
    return environment_of(config, KINDS[entry_of(config, name)["metric"]].environment, name)


def scorer_options(config: Config, name: str, references: bool) -> list[str]:
    """Flags of a scorer's program on which its scores depend. references: whether it may read them."""
    entry = entry_of(config, name)
    if entry["metric"] != "reward":
        return [] if references else ["--no-references"]
    reward = entry["reward"]
    flags = ["--form", reward["form"]]
    if reward["max_length"] is not None:
        flags += ["--max-length", str(reward["max_length"])]
    return flags


def scorer_tuning(config: Config, name: str) -> list[str]:
    """Flags of a scorer's program that only say how it runs."""
    entry = entry_of(config, name)
    if entry["metric"] == "reward":
        return ["--trust-remote-code"] if entry["reward"]["trust_remote_code"] else []
    return ["--compile"] if entry["compile"] else []


def api_jobs_of(config: Config, name: str) -> int:
    """Whether a job asks an API, as a count."""
    return int(entry_of(config, name).get("engine") == "openai")


def step_of(config: Config, dataset: str, step: str) -> Mapping[str, Any]:
    """The config of a step by its name in the results.

    baseline, which the toy demo draws from random sources to compare with, is asked as final is. The metrics of an
    evaluation are a step each, of tables that they share.
    """
    entry = config["datasets"][dataset]
    if step == "judge":
        return entry["filter"]["judge"]
    if step.startswith(_METRIC_STEP):
        evaluation = entry["evaluation"]
        metric = evaluation["metrics"][step.removeprefix(_METRIC_STEP)]
        return metric | {"shards": EVALUATION_SHARDS, "max_failed": evaluation["max_failed"]}
    return entry["final"] if step == "baseline" else entry[step]


def scored_step(step: str) -> str:
    """The step whose requests and completions a step scores: its own, or the evaluation's."""
    return EVALUATION if step.startswith(_METRIC_STEP) else step


def metric_steps(config: Config, dataset: str) -> dict[str, str]:
    """The steps of an evaluation, by the names of their metrics."""
    evaluation = config["datasets"][dataset]["evaluation"]
    return {} if evaluation is None else {name: f"{_METRIC_STEP}{name}" for name in evaluation["metrics"]}


def evaluation_flags(config: Config, dataset: str) -> list[str]:
    """The metrics of an evaluation as flags of evaluate_release.py: name, which is better, folder of the scores."""
    evaluation, flags = config["datasets"][dataset]["evaluation"], []
    for name, step in metric_steps(config, dataset).items():
        kind = KINDS[entry_of(config, evaluation["metrics"][name]["scorer"])["metric"]]
        folder = f"{results_folder(config)}/{dataset}/{step}/scores"
        flags += ["--metric", name, "lower" if kind.lower_is_better else "higher", folder]
    return flags


def evaluated_datasets(config: Config) -> list[str]:
    """Datasets whose releases are held against references."""
    return [name for name, entry in config["datasets"].items() if entry["evaluation"] is not None]


def edited_files(config: Config) -> list[str]:
    """Files that people edit and programs read in the middle of a build: prompts, the card, what releases record."""
    steps = [(name, step) for name in config["datasets"] for step in _steps(config, name)]
    prompts = [step_of(config, *step).get("prompt") for step in steps]
    recorded = [f"envs/{name}.yaml" for dataset in config["datasets"] for name in environments(config, dataset)]
    return sorted({CARD, *filter(None, prompts), *recorded})


def shards_of(config: Config, dataset: str, step: str) -> list[str]:
    """Names of the shards of a step."""
    return shard_names(step_of(config, dataset, step)["shards"])


def pool_of(config: Config, dataset: str) -> int:
    """How many segments are sampled, the limit applied."""
    pool = config["datasets"][dataset]["sources"]["pool"]
    return pool if config["limit"] is None else min(pool, config["limit"])


def models_of(config: Config, dataset: str) -> dict[str, str]:
    """Models and scorers behind a dataset's release, by name, each with its receipt."""
    entry = config["datasets"][dataset]
    names = [entry[step][role] for step in ("prefilter", "final") for role in ("model", "scorer")]
    if entry["filter"]["judge"] is not None:
        names.append(entry["filter"]["judge"]["model"])
    return {name: receipt_of(config, name) for name in dict.fromkeys(names)}


def release_config(config: Config, dataset: str) -> dict[str, Any]:
    """What determines a release, and nothing else: the dataset, its models and scorers, the limit.

    Settings that only say where and how fast things run are left out, so that they change no release.
    """
    models: dict[str, Any] = {}
    scorers: dict[str, Any] = {}
    entry = config["datasets"][dataset]
    counting = entry["sources"].get("tokenizer")
    for name in dict.fromkeys([*models_of(config, dataset), *([counting] if counting is not None else [])]):
        kind = models if name in config["models"] else scorers
        kind[name] = _without_tuning(entry_of(config, name))
    return {
        "limit": config["limit"],
        "models": models,
        "scorers": scorers,
        # An evaluation says what a release is like, and changes none.
        "datasets": {dataset: {key: value for key, value in entry.items() if key != EVALUATION}},
    }


def _without_tuning(entry: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in entry.items() if key not in _MACHINE}
    for engine, tuning in _TUNING.items():
        if engine in found:
            found[engine] = {key: value for key, value in found[engine].items() if key not in tuning}
    return found


def toy_models(config: Config, kind: str) -> list[str]:
    """Names of the models or scorers that are built as part of the toy world."""
    return [name for name, entry in config[kind].items() if "toy" in entry]


def toy_datasets(config: Config) -> list[str]:
    """Datasets whose truth is known, because their sources are of the toy language."""
    return [name for name, entry in config["datasets"].items() if "toy" in entry["sources"]]


# --- the way of the data: entries are NAME, or FOLDER=SHARDS where there is one file for each shard ---


def expand(folder: str | Path, entries: Iterable[str], suffix: str) -> list[Path]:
    """The files of entries, below a folder."""
    paths: list[Path] = []
    for entry in entries:
        name, separator, shards = entry.rpartition("=")
        names = [f"{name}/{shard}" for shard in shard_names(int(shards))] if separator else [entry]
        paths += [Path(folder) / f"{found}{suffix}" for found in names]
    return paths


def _steps(config: Config, dataset: str) -> list[str]:
    judge = config["datasets"][dataset]["filter"]["judge"]
    return ["prefilter", "final", *(["judge"] if judge is not None else [])]


def _sharded(config: Config, dataset: str, step: str, kind: str) -> str:
    return f"{step}/{kind}={step_of(config, dataset, step)['shards']}"


def _kinds(step: str) -> tuple[str, ...]:
    return ("completions",) if step == "judge" else ("completions", "scores")


def stages(config: Config, dataset: str) -> list[str]:
    """Where the accounts of all stages lie, in order."""
    found = ["sources/read", "sources/sample"]
    for step in _steps(config, dataset):
        found += [_sharded(config, dataset, step, kind) for kind in _kinds(step)]
        if step == "prefilter":
            found.append("prefilter/select")
        elif step == "final":
            found += [_sharded(config, dataset, step, "selected"), "checked"]
        else:
            found.append("judged")
    return found


def tables(config: Config, dataset: str) -> list[str]:
    """Every table of the build, in order."""
    found = ["sources/segments", "sources/bad_rows"]
    for step in _steps(config, dataset):
        found += [_sharded(config, dataset, step, kind) for kind in ("requests", *_kinds(step))]
        if step == "prefilter":
            found += ["prefilter/dropped", "final/sources"]
        elif step == "final":
            found += [_sharded(config, dataset, step, kind) for kind in ("selected", "dropped")]
            found += ["checked/kept", "checked/rejected"]
        else:
            found += ["judged/kept", "judged/rejected"]
    splits = [f"filtered/{split}" for split in config["datasets"][dataset]["splits"]]
    return [*found, *splits, "filtered/rejected"]


def dropped(config: Config, dataset: str) -> list[str]:
    """The tables of everything that left between the pool and the release."""
    return ["prefilter/dropped", _sharded(config, dataset, "final", "dropped"), "filtered/rejected"]


def asking(config: Config, dataset: str) -> list[str]:
    """The tables that models and scorers made: those with run stats."""
    steps = _steps(config, dataset)
    if "toy" in config["datasets"][dataset]["sources"]:
        steps.append("baseline")
    found = [_sharded(config, dataset, step, kind) for step in steps for kind in _kinds(step)]
    return [*found, *(_sharded(config, dataset, step, "scores") for step in metric_steps(config, dataset).values())]


def filters(config: Config, dataset: str) -> list[str]:
    """Folders of what each filter kept and rejected, in order."""
    return ["checked", "judged"] if "judge" in _steps(config, dataset) else ["checked"]


def environments(config: Config, dataset: str) -> list[str]:
    """Names of the environments behind a release."""
    found = {"data"}
    for step in _steps(config, dataset):
        step_config = step_of(config, dataset, step)
        found.add(engine_environment_of(config, step_config["model"]))
        if "scorer" in step_config:
            found.add(scorer_environment_of(config, step_config["scorer"]))
    return sorted(found)
