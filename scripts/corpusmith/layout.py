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
from corpusmith.recipes import common, recipe_of
from corpusmith.recipes.common import FILTER_JUDGE, sharded

Config = Mapping[str, Any]
# Settings of a model or scorer that change no answer and no score, only where and how fast they are made; and, beside
# them, those of engines.
_MACHINE = (
    "batch_size", "tokens_per_batch", "compile", "memory_mb", "runtime_minutes", "tp", "stall_timeout",
    "drain_seconds", "cpus", "parameters_b", "resources", "publish",
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


def counting_receipt_of(config: Config, dataset: str) -> str | None:
    """The receipt of the tokenizer that counts: of a model that is named only for that, no weights are fetched."""
    entry = config["datasets"][dataset]
    name = recipe_of(entry).counting(entry)
    if name is None or "tokenizer" not in entry["sources"] or "toy" in entry_of(config, name):
        return None if name is None else receipt_of(config, name)
    return f"resources/models/{name}/tokenizer.json"


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

    The metrics of an evaluation are a step each, of tables that they share.
    """
    entry = config["datasets"][dataset]
    if step.startswith(_METRIC_STEP):
        evaluation = entry[EVALUATION]
        metric = evaluation["metrics"][step.removeprefix(_METRIC_STEP)]
        return metric | {"shards": EVALUATION_SHARDS, "max_failed": evaluation["max_failed"]}
    found: Mapping[str, Any] = (
        entry["filter"]["judge"] if step == FILTER_JUDGE else recipe_of(entry).step_of(entry, step)
    )
    return found


def scored_step(step: str) -> str:
    """The step whose requests and completions a step scores: its own, or the evaluation's."""
    return EVALUATION if step.startswith(_METRIC_STEP) else step


def metric_steps(config: Config, dataset: str) -> dict[str, str]:
    """The steps of an evaluation, by the names of their metrics."""
    evaluation = config["datasets"][dataset].get(EVALUATION)
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
    return [name for name, entry in config["datasets"].items() if entry.get(EVALUATION) is not None]


def card_of(config: Config, dataset: str) -> str:
    """The template of a release's card."""
    found: str = recipe_of(config["datasets"][dataset]).CARD
    return found


def edited_files(config: Config) -> list[str]:
    """Files that people edit and programs read in the middle of a build: prompts, cards, what releases record."""
    steps = [(name, step) for name in config["datasets"] for step in _steps(config, name)]
    prompts = [step_of(config, *step).get("prompt") for step in steps]
    recorded = [f"envs/{name}.yaml" for dataset in config["datasets"] for name in environments(config, dataset)]
    cards = [card_of(config, dataset) for dataset in config["datasets"]]
    abouts = [entry["release"]["about"] for entry in config["datasets"].values()]
    return sorted({*cards, *filter(None, [*prompts, *abouts]), *recorded})


def shards_of(config: Config, dataset: str, step: str) -> list[str]:
    """Names of the shards of a step."""
    return shard_names(step_of(config, dataset, step)["shards"])


def pool_of(config: Config, dataset: str) -> int:
    """How many segments are sampled, the limit applied."""
    pool = config["datasets"][dataset]["sources"]["pool"]
    return pool if config["limit"] is None else min(pool, config["limit"])


def models_of(config: Config, dataset: str) -> dict[str, str]:
    """Models and scorers behind a dataset's release, by name, each with its receipt."""
    steps = [step_of(config, dataset, step) for step in _steps(config, dataset)]
    steps += common.filters_with_models(config["datasets"][dataset])
    names = [step[role] for step in steps for role in ("model", "scorer") if role in step]
    return {name: receipt_of(config, name) for name in dict.fromkeys(names)}


def release_config(config: Config, dataset: str) -> dict[str, Any]:
    """What determines a release, and nothing else: the dataset, those that it is made of, their models, the limit.

    Settings that only say where and how fast things run are left out, so that they change no release.
    """
    models: dict[str, Any] = {}
    scorers: dict[str, Any] = {}
    datasets: dict[str, Any] = {}
    for made_of in _with_sources(config, dataset):
        entry = config["datasets"][made_of]
        # An evaluation says what a release is like, and changes none; nor does it where it is published.
        datasets[made_of] = {key: value for key, value in entry.items() if key not in (EVALUATION, "publish")}
        counting = entry["sources"].get("tokenizer")
        for name in dict.fromkeys([*models_of(config, made_of), *([counting] if counting is not None else [])]):
            kind = models if name in config["models"] else scorers
            kind[name] = _without_tuning(entry_of(config, name))
    return {"limit": config["limit"], "models": models, "scorers": scorers, "datasets": datasets}


def _with_sources(config: Config, dataset: str) -> list[str]:
    """A dataset, and those whose releases are its sources, at first or at second hand; each once."""
    found = [dataset]
    for name in found:
        found += [source for source in config["datasets"][name]["sources"].get("dataset", []) if source not in found]
    return found


def _without_tuning(entry: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in entry.items() if key not in _MACHINE}
    for engine, tuning in _TUNING.items():
        if engine in found:
            found[engine] = {key: value for key, value in found[engine].items() if key not in tuning}
    return found


def toy_models(config: Config, kind: str) -> list[str]:
    """Names of the models or scorers that are built as part of the toy world."""
    return [name for name, entry in config[kind].items() if "toy" in entry]


def toy_scorers(config: Config, metric: str) -> list[str]:
    """Names of the scorers of a metric that are built as part of the toy world."""
    return [name for name in toy_models(config, "scorers") if config["scorers"][name]["metric"] == metric]


def toy_datasets(config: Config) -> list[str]:
    """Datasets whose quality the demo measures: their truth is known."""
    return [name for name, entry in config["datasets"].items() if is_toy(config, entry)]


def is_toy(config: Config, entry: Mapping[str, Any]) -> bool:
    """Whether a dataset's sources are of the toy world, at first or at second hand."""
    sources = entry["sources"]
    if "pre_query" in sources:
        return "toy" in entry_of(config, sources["pre_query"]["model"])
    made_of = sources.get("dataset", [])
    return "toy" in sources or (bool(made_of) and all(is_toy(config, config["datasets"][name]) for name in made_of))


# --- filters of every recipe ---


def deduplicate_flags(config: Config, dataset: str) -> list[str]:
    """How duplicates are found, as flags of deduplicate.py."""
    entry = config["datasets"][dataset]
    return common.deduplicate_flags(entry, recipe_of(entry).TEXTS[0])


def neighbours_flags(config: Config, dataset: str) -> list[str]:
    """Which rows are neighbours, as flags of drop_neighbours.py."""
    entry = config["datasets"][dataset]
    return common.neighbours_flags(entry, recipe_of(entry).TEXTS[0])


def neighbours_model(config: Config, dataset: str) -> str:
    """The model whose embeddings say which rows are neighbours."""
    found: str = config["datasets"][dataset]["filter"]["neighbours"]["model"]
    return found


def decontaminate_flags(config: Config, dataset: str) -> list[str]:
    """What is held against benchmarks, as flags of decontaminate.py."""
    entry = config["datasets"][dataset]
    return common.decontaminate_flags(entry, recipe_of(entry).TEXTS[0])


def best_flags(config: Config, dataset: str) -> list[str]:
    """How many rows stay, and which, as flags of keep_best.py."""
    return common.best_flags(config["datasets"][dataset])


def safety_flags(config: Config, dataset: str) -> list[str]:
    """What is not to be released, as flags of filter_unsafe.py."""
    entry = config["datasets"][dataset]
    return common.safety_flags(entry, recipe_of(entry).released_texts(entry))


def safety_samples(config: Config, dataset: str) -> list[str]:
    """Tables of further answers that filter_unsafe.py looks at."""
    entry = config["datasets"][dataset]
    released = recipe_of(entry).released_texts(entry)
    named = entry["filter"]["safety"].get("columns", released)
    return samples(config, dataset) if common.SAMPLES in released and common.SAMPLES in named else []


# --- the way of the data: entries are NAME, or FOLDER=SHARDS where there is one file for each shard ---


def expand(folder: str | Path, entries: Iterable[str], suffix: str) -> list[Path]:
    """The files of entries, below a folder."""
    paths: list[Path] = []
    for entry in entries:
        name, separator, shards = entry.rpartition("=")
        names = [f"{name}/{shard}" for shard in shard_names(int(shards))] if separator else [entry]
        paths += [Path(folder) / f"{found}{suffix}" for found in names]
    return paths


def _recipe(config: Config, dataset: str, name: str) -> Any:
    """What the dataset's recipe says of it."""
    entry = config["datasets"][dataset]
    return getattr(recipe_of(entry), name)(entry)


def _steps(config: Config, dataset: str) -> list[str]:
    return [*_recipe(config, dataset, "steps"), *common.filter_steps(config["datasets"][dataset])]


def _kinds(config: Config, dataset: str, step: str) -> tuple[str, ...]:
    if step == FILTER_JUDGE:
        return ("completions",)
    entry = config["datasets"][dataset]
    found: tuple[str, ...] = recipe_of(entry).kinds(entry, step)
    return found


def pool_table(config: Config, dataset: str) -> str:
    """The table of items that a release is counted from."""
    found: str = _recipe(config, dataset, "pool")
    return found


def stages(config: Config, dataset: str) -> list[str]:
    """Where the accounts of all stages lie that items go through, in order."""
    entry = config["datasets"][dataset]
    return [*_recipe(config, dataset, "stages"), *common.filter_stages(entry, recipe_of(entry).FILTER)]


def side_stages(config: Config, dataset: str) -> list[str]:
    """Where the accounts lie of stages that items do not go through themselves."""
    return list(_recipe(config, dataset, "side_stages"))


def tables(config: Config, dataset: str) -> list[str]:
    """Every table of the build, in order."""
    entry = config["datasets"][dataset]
    return [*_recipe(config, dataset, "tables"), *common.filter_tables(entry, recipe_of(entry).FILTER)]


def dropped(config: Config, dataset: str) -> list[str]:
    """The tables of everything that left between the pool and the release."""
    return [*_recipe(config, dataset, "dropped"), "filtered/rejected"]


def samples(config: Config, dataset: str) -> list[str]:
    """Tables of further answers to released items."""
    return list(_recipe(config, dataset, "samples"))


def asking(config: Config, dataset: str) -> list[str]:
    """The tables that models and scorers made: those with run stats."""
    steps = [*_steps(config, dataset), *_recipe(config, dataset, "toy_steps")]
    kinds = [(step, kind) for step in steps for kind in _kinds(config, dataset, step)]
    kinds += [(step, "scores") for step in metric_steps(config, dataset).values()]
    return [sharded(step, kind, step_of(config, dataset, step)["shards"]) for step, kind in kinds]


def asking_datasets(config: Config) -> list[str]:
    """Datasets that ask a model or scorer anything."""
    return [name for name in config["datasets"] if asking(config, name)]


def filters(config: Config, dataset: str) -> list[str]:
    """Folders of what each filter kept and rejected, in order."""
    entry = config["datasets"][dataset]
    return common.filters(entry, recipe_of(entry).FILTER)


def kept_before(config: Config, dataset: str, folder: str) -> str:
    """The folder whose kept rows a filter reads."""
    found = filters(config, dataset)
    return found[found.index(folder) - 1]


def environments(config: Config, dataset: str) -> list[str]:
    """Names of the environments behind a release."""
    found = {"data", *_recipe(config, dataset, "environments")}
    for step in _steps(config, dataset):
        step_config = step_of(config, dataset, step)
        found.add(engine_environment_of(config, step_config["model"]))
        if "scorer" in step_config:
            found.add(scorer_environment_of(config, step_config["scorer"]))
    for settings in common.filters_with_models(config["datasets"][dataset]):
        found.add(environment_of(config, "embeddings", settings["model"]))
    return sorted(found)
