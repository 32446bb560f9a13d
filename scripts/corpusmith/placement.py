"""Where jobs of models and scorers run: GPUs, CPUs, memory, time, partition, from the config and the cluster.

What can never run is told when the graph is made, by -n too, and not after hours in a queue. Used by the Snakefile.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from corpusmith import layout
from corpusmith.cluster import Partition, asked_partitions, both, read_partitions
from corpusmith.errors import InputError
from corpusmith.gpu_memory import find_model_config, memory_problem
from corpusmith.models import ModelReceipt, read_receipt
from corpusmith.tuning.settings import quantization_of

# A job on GPUs has for each a process that computes, and beside them what tokenizes and hands on answers.
_CPUS_PER_GPU = 4
# A job that finds everything in the store loads no model.
_MEMORY_WITHOUT_MODEL = 4000
# After that, more memory is not what a job lacks; attempts are used up by ends of time, too.
_MOST_TIMES_MEMORY = 3
# What a job asks of a cluster beside GPUs, CPUs, memory and time.
_ASKED = ("slurm_partition", "slurm_extra", "gpu_model", "constraint", "qos")
_FILE_VARIABLE = "SNAKEMAKE_SLURM_PARTITIONS"
# What Snakemake's formulas can tell jobs apart by.
_OF_A_JOB = {"wildcards", "input", "attempt", "threads"}
PLACED = ("gpu", "cpus_per_task", "mem_mb", "runtime", "nodes", *_ASKED)


class Placement:
    """The resources of jobs that run a model or scorer.

    config: with defaults; executor_settings: tells what the SLURM executor was told, None under any other; defaults:
    resources of all jobs, by the profile; asked: the cluster's partitions.
    """

    def __init__(
        self,
        config: layout.Config,
        executor_settings: Any = None,
        defaults: Mapping[str, str] | None = None,
        asked: Callable[[], Iterable[Partition]] = asked_partitions,
    ) -> None:
        self._config, self._settings, self._defaults, self._asked = config, executor_settings, defaults or {}, asked
        self._chosen: dict[str, list[Partition]] = {}

    def resources(self, name: str, gpus: int, attempt: int) -> dict[str, int | str | None]:
        """What a job asks for that runs a model or scorer on so many GPUs; None for what it does not ask.

        gpus: 0 where nothing is left to compute. Raises InputError where no node could ever run it.
        """
        return self._resources(layout.entry_of(self._config, name), self._fitting(name), gpus, attempt)

    def resources_of_tuning(self, name: str, attempt: int) -> dict[str, int | str | None]:
        """What the job of a tuning asks for. Raises InputError where no node could ever run it."""
        entry = self._config["tuning"][name]
        gpus = entry["gpus"] if entry["device"] == "cuda" else 0
        return self._resources(entry, self._fitting_tuning(name), gpus, attempt)

    def _resources(
        self, entry: Mapping[str, Any], fitting: list[Partition], gpus: int, attempt: int
    ) -> dict[str, int | str | None]:
        placed = entry["resources"]
        idle = not gpus and entry["device"] == "cuda"
        memory, minutes = entry["memory_mb"] * min(attempt, _MOST_TIMES_MEMORY), entry["runtime_minutes"]
        if idle:
            memory, places = min(entry["memory_mb"], _MEMORY_WITHOUT_MODEL), self._places(None)
            # More time than those without GPUs give would put it into the queue for GPUs.
            fitting = [place for place in places if not place.gpus] or places
        memory, minutes = _within(memory, minutes, fitting)
        found: dict[str, int | str | None] = {
            **{key: self._defaults.get(key) for key in _ASKED},
            "gpu": gpus,
            "cpus_per_task": 1 if idle else cpus_of(entry),
            "mem_mb": memory,
            "runtime": minutes,
            # GPUs of one job are on one node.
            "nodes": 1,
        }
        if not gpus:
            # The executor would ask for GPUs of it.
            found["gpu_model"] = None
        if idle:
            return found
        own = {
            "slurm_partition": placed["partition"],
            "slurm_extra": _extra(placed),
            "gpu_model": placed["gpu_model"] if gpus else None,
            "constraint": placed["constraint"],
            "qos": placed["qos"],
        }
        return found | {key: value for key, value in own.items() if value is not None}

    def _fitting(self, name: str) -> list[Partition]:
        """Partitions where a model or scorer can run, none where nothing is known. Raises InputError if none fits."""
        if name not in self._chosen:
            entry = layout.entry_of(self._config, name)
            kind = "models" if name in self._config["models"] else "scorers"
            self._chosen[name] = self._choose(f"{kind}.{name}", entry, _problems(entry, self._config, name))
        return self._chosen[name]

    def _fitting_tuning(self, name: str) -> list[Partition]:
        """The same for a tuning, whose name no model has."""
        if name not in self._chosen:
            entry = self._config["tuning"][name]
            self._chosen[name] = self._choose(f"tuning.{name}", entry, _problems_of_tuning(entry, self._config))
        return self._chosen[name]

    def _choose(self, path: str, entry: Mapping[str, Any], own: Iterable[str]) -> list[Partition]:
        """Partitions that fit. own: what the config says against it already. Raises InputError if none fits."""
        problems, places = [*own], self._places(entry["resources"]["partition"])
        fitting = [place for place in places if not [*_misfits(entry, place)]]
        if places and not fitting:
            problems += [misfit for place in places for misfit in _misfits(entry, place)]
        problems += self._unknown(entry)
        if problems:
            raise InputError("\n".join(f"config: {path}.{problem}" for problem in problems))
        return fitting

    def _places(self, own: str | None) -> list[Partition]:
        """Partitions in which jobs may run that name `own`; none where nothing is known of them."""
        named = own or self._defaults.get("slurm_partition")
        known = self._partitions
        if named:
            return [known.get(name, Partition(name)) for name in str(named).split(",")]
        if self._file:
            return [known[partition.name] for partition in self._file]
        return [partition for partition in known.values() if partition.is_default]

    def _unknown(self, entry: Mapping[str, Any]) -> Iterable[str]:
        """Partitions that the cluster does not have."""
        there = {partition.name for partition in self._cluster}
        named = entry["resources"]["partition"] or self._defaults.get("slurm_partition") or ""
        for name in str(named).split(","):
            if name and there and name not in there:
                where = "" if entry["resources"]["partition"] else " (slurm_partition of the profile)"
                yield f"resources.partition{where}: this cluster has no {name}; allowed: {', '.join(sorted(there))}"

    @property
    def _on_slurm(self) -> bool:
        """No other executor has a setting of that name."""
        return hasattr(self._settings, "partition_config")

    @cached_property
    def _cluster(self) -> list[Partition]:
        return list(self._asked()) if self._on_slurm else []

    @cached_property
    def _file(self) -> list[Partition]:
        # The executor, too, heeds this variable where it is told of no file.
        path = (self._settings.partition_config or os.environ.get(_FILE_VARIABLE)) if self._on_slurm else None
        return read_partitions(path) if path else []

    @cached_property
    def _partitions(self) -> dict[str, Partition]:
        return both(self._file, self._cluster)


def default_resources(given: Mapping[str, Any] | None) -> dict[str, str]:
    """What a profile or command line says of resources of all jobs, as far as it is more than a formula.

    given: Snakemake's, of which each value that is no number is worked out anew for each job.
    """
    found = {name: _constant(value) for name, value in (given or {}).items() if name in _ASKED}
    return {name: str(value) for name, value in found.items() if value is not None}


def _constant(value: Any) -> Any:
    """The value of a default that is the same for all jobs; None where it is not."""
    if not hasattr(value, "is_evaluable"):
        return None if callable(value) else value
    if value.is_evaluable():
        if not isinstance(value.raw, str) or _names(value.raw) & _OF_A_JOB:
            return None
        value = value.evaluate(None, input=None, attempt=1, threads=1, rulename="", async_run=None)
    return None if value.is_evaluable() else value.value


def _names(expression: str) -> set[str]:
    """The names in an expression; none where it is none, which Snakemake takes for text."""
    try:
        return {node.id for node in ast.walk(ast.parse(expression, mode="eval")) if isinstance(node, ast.Name)}
    except SyntaxError:
        return set()


def cpus_of(entry: Mapping[str, Any]) -> int:
    """CPUs of a job that runs a model or scorer."""
    if entry["cpus"] is not None:
        return int(entry["cpus"])
    return _CPUS_PER_GPU * entry[_gpus_key(entry)] if entry["device"] == "cuda" else 1


def _gpus_key(entry: Mapping[str, Any]) -> str:
    """What says how many GPUs: those of a tuning share no model."""
    return "gpus" if "gpus" in entry else "tp"


def _problems(entry: Mapping[str, Any], config: layout.Config, name: str) -> Iterable[str]:
    """What its own config says against it."""
    yield from _too_many(entry)
    receipt = _receipt(config, name)
    problem = memory_problem(entry, receipt, find_model_config(receipt))
    if problem is not None:
        yield f"tp: {entry['tp']}: it {problem}"


def _problems_of_tuning(entry: Mapping[str, Any], config: layout.Config) -> Iterable[str]:
    """The same for a tuning: each of its GPUs holds all of the base's weights."""
    yield from _too_many(entry)
    if quantization_of(entry) != "none":
        return
    dtype = "float32" if entry["adaptation"] == "full" else "bfloat16" if entry["dtype"] == "auto" else entry["dtype"]
    base = layout.entry_of(config, entry["base"])
    whole = {
        "engine": "transformers",
        "tp": 1,
        "dtype": dtype,
        "parameters_b": base["parameters_b"],
        "device": entry["device"],
        "resources": entry["resources"],
    }
    problem = memory_problem(whole, _receipt(config, entry["base"]), None)
    if problem is not None:
        yield f"base: {entry['base']}: it {problem}"


def _too_many(entry: Mapping[str, Any]) -> Iterable[str]:
    key, most = _gpus_key(entry), entry["resources"]["gpus_per_node"]
    if entry["device"] == "cuda" and most is not None and entry[key] > most:
        yield f"{key}: {entry[key]} GPUs on one node, and a node has {most}; allowed: at most {most}"


def _receipt(config: layout.Config, name: str) -> ModelReceipt | None:
    """A model's receipt where it was fetched."""
    try:
        return None if "openai" in layout.entry_of(config, name) else read_receipt(layout.receipt_of(config, name))
    except InputError:
        return None


def _misfits(entry: Mapping[str, Any], place: Partition) -> Iterable[str]:
    """Why its jobs cannot run in a partition."""
    key, model = _gpus_key(entry), entry["resources"]["gpu_model"]
    gpus = entry[key] if entry["device"] == "cuda" else 0
    if place.gpus is not None and gpus > place.gpus:
        yield f"{key}: {gpus} GPUs on one node, and a node of partition {place.name} has {place.gpus}"
    if model is not None and place.gpu_models is not None and model not in place.gpu_models:
        models = ", ".join(sorted(place.gpu_models))
        yield f"resources.gpu_model: partition {place.name} has no {model}; allowed: {models}"
    if place.memory_mb is not None and entry["memory_mb"] > place.memory_mb:
        yield f"memory_mb: {entry['memory_mb']}, and a node of partition {place.name} has {place.memory_mb:g}"
    if place.cpus is not None and cpus_of(entry) > place.cpus:
        yield f"cpus: {cpus_of(entry)}, and a node of partition {place.name} has {place.cpus:g}"


def _within(memory_mb: int, minutes: int, places: Iterable[Partition]) -> tuple[int, int]:
    """What of so much memory and time one partition has: the one with most memory, without which no attempt helps."""
    had = (
        (
            memory_mb if place.memory_mb is None else int(min(memory_mb, place.memory_mb)),
            minutes if place.minutes is None else int(min(minutes, place.minutes)),
        )
        for place in places
    )
    return max(had, default=(memory_mb, minutes))


def _extra(placed: Mapping[str, Any]) -> str | None:
    words = [f"--reservation={placed['reservation']}"] if placed["reservation"] else []
    return " ".join([*words, *([placed["extra"]] if placed["extra"] else [])]) or None
