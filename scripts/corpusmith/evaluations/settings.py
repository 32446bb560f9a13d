"""What the config says of evaluations: which models on which tasks, the files of both, and what contradicts itself.

Imported by the Snakefile: nothing heavy here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from corpusmith import gpu_memory, layout
from corpusmith.errors import InputError
from corpusmith.evaluations.task_files import files_of_task, needs_fetching
from corpusmith.models import read_receipt

Config = Mapping[str, Any]
KEY = "evaluations"


def evaluated(config: Config) -> list[str]:
    """The models that are evaluated: those that the config names, each behind what it is held against."""
    names = [found for name in config[KEY]["models"] for found in [*reversed(_standing_on(config, name)), name]]
    return list(dict.fromkeys(names))


def base_of(config: Config, name: str) -> str | None:
    """The model of `models` that an adaptation was tuned from; None for a model."""
    return str(config["tuning"][name]["base"]) if is_tuned(config, name) else None


def compared(config: Config) -> list[tuple[str, str]]:
    """Each adaptation with what it is held against: the tuning that it went on with, and its base."""
    return [(name, other) for name in evaluated(config) for other in _standing_on(config, name)]


def _standing_on(config: Config, name: str) -> list[str]:
    """The same of one, the nearest first; none of a model."""
    if not is_tuned(config, name):
        return []
    earlier = config["tuning"][name].get("adapter")
    return [*([earlier] if earlier is not None else []), config["tuning"][name]["base"]]


def is_tuned(config: Config, name: str) -> bool:
    """Whether a name is that of an adaptation."""
    return name in config.get("tuning", {})


def receipt_of(config: Config, name: str) -> str:
    """The receipt of a model or of an adaptation."""
    return f"{_tuned(config, name)}/receipt.json" if is_tuned(config, name) else layout.receipt_of(config, name)


def training_of(config: Config, name: str) -> str:
    """What tells of an adaptation's training."""
    return f"{_tuned(config, name)}/training.json"


def _tuned(config: Config, name: str) -> str:
    return f"{layout.results_folder(config)}/models/{name}"


def folder(config: Config) -> str:
    """The folder of all results of evaluations."""
    return f"{layout.results_folder(config)}/evals"


def results(config: Config) -> list[str]:
    """The result of every model on every task and harness."""
    measured = [*config[KEY]["tasks"], *config[KEY]["harnesses"]]
    return [f"{folder(config)}/{model}/{task}.json" for model in evaluated(config) for task in measured]


def comparisons(config: Config) -> list[str]:
    """What is built of evaluations: nothing where the config names none."""
    return [f"{folder(config)}/comparison.md"] if results(config) else []


def task_files(config: Config, name: str) -> list[str]:
    """The files of a task of the user's. One that the build makes is not read: its data come along with it."""
    file = config[KEY]["tasks"][name]["file"]
    if file is None:
        return []
    return files_of_task(file) if _can_be_read(config, file) else [file]


def fetched(config: Config, name: str) -> list[str]:
    """What tells that a task's data are in the cache; none where they are files."""
    file = config[KEY]["tasks"][name]["file"]
    if file is not None and not (_can_be_read(config, file) and needs_fetching(file)):
        return []
    return [f"resources/tasks/{name}.json"]


def _can_be_read(config: Config, file: str) -> bool:
    """Not what is made by the build: it would be read once it is there, and inputs of its job would change."""
    return Path(file).is_file() and not Path(file).is_relative_to(layout.results_folder(config))


def which_task(config: Config, name: str) -> list[str]:
    """A task as flags of programs."""
    task = config[KEY]["tasks"][name]
    flags = ["--task-file", task["file"]] if task["file"] is not None else ["--task", task["task"] or name]
    return [*flags, *(["--confirm-unsafe-code"] if task["confirm_unsafe_code"] else [])]


def fetch_flags(config: Config, name: str) -> list[str]:
    """A task as flags of fetch_task.py, which looks whether it has the metrics that are compared."""
    metrics = config[KEY]["tasks"][name]["metrics"]
    return [*which_task(config, name), *(["--metrics", *metrics] if metrics else [])]


def task_flags(config: Config, name: str) -> list[str]:
    """How a task is run, as flags of evaluate_model.py."""
    task, flags = config[KEY]["tasks"][name], which_task(config, name)
    limits = [limit for limit in (task["limit"], config["limit"]) if limit is not None]
    values = {"--num-fewshot": task["num_fewshot"], "--limit": min(limits, default=None)}
    values |= {"--system-instruction": task["system_instruction"], "--seed": config[KEY]["seed"]}
    for flag, value in values.items():
        flags += [flag, str(value)] if value is not None else []
    flags += ["--gen-kwargs", json.dumps(task["gen_kwargs"])] if task["gen_kwargs"] else []
    return [*flags, *(["--chat-template"] if task["chat_template"] else [])]


def model_flags(config: Config, name: str) -> list[str]:
    """A model and what runs it, as flags of evaluate_model.py."""
    flags, settings = base_flags(config, name), config[KEY]
    flags += ["--backend", settings["backend"]]
    flags += ["--model-args", json.dumps(settings["model_args"])] if settings["model_args"] else []
    return [*flags, *machine_flags(config, name)]


def base_flags(config: Config, name: str) -> list[str]:
    """What an adaptation stands on, as flags."""
    base = base_of(config, name)
    return [] if base is None else ["--base", receipt_of(config, base)]


def machine_flags(config: Config, name: str) -> list[str]:
    """Where and in which numbers a model runs, as flags of evaluate_model.py and run_harness.py."""
    settings = config[KEY]
    flags = ["--device", settings["device"], "--dtype", settings["dtype"]]
    flags += ["--max-length", str(settings["max_length"])] if settings["max_length"] is not None else []
    trusted = config["models"][base_of(config, name) or name]["trust_remote_code"]
    return [*flags, *(["--trust-remote-code"] if trusted else [])]


def harness_flags(config: Config, name: str) -> list[str]:
    """A harness as flags of run_harness.py."""
    harness = config[KEY]["harnesses"][name]
    flags = ["--command", json.dumps(harness["command"]), "--folder", harness["folder"], "--found", harness["result"]]
    flags += ["--metrics", json.dumps(harness["metrics"])]
    flags += ["--samples", harness["samples"]] if harness["samples"] is not None else []
    server = harness["server"]
    flags += ["--server", json.dumps(server["command"])] if server["command"] else []
    return [*flags, "--health", server["health"], "--start-seconds", str(server["start_seconds"])]


def comparison_flags(config: Config) -> list[str]:
    """What is compared, as flags of compare_evaluations.py."""
    flags = ["--evaluations", folder(config), "--models", *evaluated(config)]
    for name, task in config[KEY]["tasks"].items():
        flags += ["--task", name, *task["metrics"]]
    for name in config[KEY]["harnesses"]:
        flags += ["--task", name]
    for name, base in compared(config):
        flags += ["--compare", name, base]
    for name in evaluated(config):
        flags += ["--training", name, training_of(config, name)] if is_tuned(config, name) else []
    return flags


def environment(config: Config, harness: bool = False) -> str:
    """The environment of a job that evaluates, or of one that serves a model to a harness."""
    settings = config[KEY]
    if not harness and settings["backend"] == "vllm":
        return "benchmark-vllm"
    return ("vllm" if harness else "benchmark") + ("-cpu" if settings["device"] == "cpu" else "")


def as_model(config: Config) -> dict[str, Any]:
    """A config of one model with the needs of these jobs, for what places jobs of models."""
    settings = config[KEY]
    # A model that a server runs is one of which no memory is known.
    entry = {"engine": "openai", "openai": {}, "tp": settings["gpus"], "parameters_b": None}
    kept = ("device", "dtype", "max_length", "cpus", "memory_mb", "runtime_minutes", "resources")
    return {"models": {KEY: entry | {key: settings[key] for key in kept}}, "scorers": {}}


def memory_problem(config: Config, name: str) -> str | None:
    """Why a model cannot run on these GPUs, as far as anybody knows; None where nothing speaks against it."""
    settings, root = config[KEY], base_of(config, name) or name
    entry = as_model(config)["models"][KEY] | {"parameters_b": config["models"][root]["parameters_b"]}
    if settings["backend"] == "vllm":
        entry |= {"vllm": {"gpu_memory_utilization": 0.9, "options": {}, "quantization": None} | _only_known(settings)}
    try:
        receipt = read_receipt(layout.receipt_of(config, root))
    except InputError:
        receipt = None
    problem = gpu_memory.memory_problem(entry, receipt, gpu_memory.find_model_config(receipt))
    return None if problem is None else f"config: evaluations.gpus: {settings['gpus']}: {root} {problem}"


def _only_known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the harness's arguments say of vLLM's memory."""
    known = ("gpu_memory_utilization", "quantization")
    return {name: value for name, value in settings["model_args"].items() if name in known}


def evaluation_contradictions(config: Config) -> Iterator[str]:
    """Models that there are not or that have no files, tasks that are two things, devices that do not fit."""
    settings, tuning = config[KEY], config.get("tuning", {})
    known = [*(name for name, entry in config["models"].items() if "openai" not in entry), *tuning]
    for place, name in enumerate(settings["models"]):
        path = f"{KEY}.models.{place}"
        if name in config["models"] and "openai" in config["models"][name]:
            yield f"{path}: {name} is asked over HTTP, and has no files to evaluate; allowed: {_listed(known)}"
        elif name not in known:
            yield f"{path}: there is no model or tuning {name}; allowed: {_listed(known)}"
    for name, task in settings["tasks"].items():
        path = f"{KEY}.tasks.{name}"
        if task["task"] is not None and task["file"] is not None:
            yield f"{path}: task and file are both given; allowed: one of them"
        yield from _file_problems(f"{path}.file", task["file"])
        if name in settings["harnesses"]:
            yield f"{KEY}.harnesses.{name}: there is a task of that name; allowed: any other name"
    measured = [*settings["tasks"], *settings["harnesses"]]
    if settings["models"] and not measured:
        yield f"{KEY}.tasks: there is no task to evaluate on; allowed: one or more, or no models"
    if measured and not settings["models"]:
        yield f"{KEY}.models: there is no model to evaluate; allowed: {_listed(known)}"
    if settings["device"] == "cpu" and settings["gpus"] > 1:
        yield f"{KEY}.gpus: {settings['gpus']} GPUs with device: cpu; allowed: 1, or device: cuda"
    if settings["backend"] == "vllm" and settings["device"] == "cpu":
        yield f"{KEY}.device: cpu with backend: vllm; allowed: cuda, or backend: hf"
    if settings["backend"] == "vllm" and settings["tasks"]:
        yield from _prompted(config, f"{KEY}.backend: vllm", "backend: hf")
    for name, harness in settings["harnesses"].items():
        if not harness["server"]["command"]:
            yield from _prompted(config, f"{KEY}.harnesses.{name}: served by vLLM", "a server.command that runs it")
    if settings["dtype"] == "float64" and (settings["backend"] == "vllm" or settings["harnesses"]):
        yield f"{KEY}.dtype: vLLM knows no float64; allowed: float32, bfloat16, float16"


def _prompted(config: Config, what: str, allowed: str) -> Iterator[str]:
    """vLLM runs no trained prompt."""
    for name in config[KEY]["models"]:
        if is_tuned(config, name) and config["tuning"][name]["adaptation"] == "prompt":
            yield f"{what}, which runs no trained prompt such as {name}; allowed: {allowed}, or evaluate others"


def _file_problems(path: str, file: str | None) -> Iterator[str]:
    # One that is missing may be made by the build.
    if file is None or not Path(file).is_file():
        return
    try:
        needs_fetching(file)
        files_of_task(file)
    except (InputError, OSError) as error:
        yield f"{path}: {error}; allowed: a YAML file with a task of lm-evaluation-harness"


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none, as there is none with files"
