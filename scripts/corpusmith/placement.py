"""Where jobs of models and scorers run: GPUs, CPUs, memory, time, partition, from the config and the cluster.

What can never run is told when the graph is made, by -n too, and not after hours in a queue. Used by the Snakefile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from corpusmith import layout
from corpusmith.cluster import Partition, asked_partitions, both, read_partitions
from corpusmith.errors import InputError
from corpusmith.gpu_memory import find_model_config, memory_problem
from corpusmith.models import read_receipt

# A job on GPUs has for each a process that computes, and beside them what tokenizes and hands on answers.
_CPUS_PER_GPU = 4
# A job that finds everything in the store loads no model.
_MEMORY_WITHOUT_MODEL = 4000
# After that, more memory is not what a job lacks; attempts are used up by ends of time, too.
_MOST_TIMES_MEMORY = 3
# What a job asks of a cluster beside GPUs, CPUs, memory and time.
_ASKED = ("slurm_partition", "slurm_extra", "gpu_model", "constraint", "qos")
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
        self._chosen: dict[str, tuple[float | None, float | None]] = {}

    def resources(self, name: str, gpus: int, attempt: int) -> dict[str, int | str | None]:
        """What a job asks for that runs a model or scorer on so many GPUs; None for what it does not ask.

        gpus: 0 where nothing is left to compute. Raises InputError where no node could ever run it.
        """
        entry = layout.entry_of(self._config, name)
        placed = entry["resources"]
        memory, minutes = self._limits(name)
        idle = not gpus and entry["device"] == "cuda"
        asked_memory = entry["memory_mb"] * min(attempt, _MOST_TIMES_MEMORY)
        found: dict[str, int | str | None] = {
            **{key: self._defaults.get(key) for key in _ASKED},
            "gpu": gpus,
            "cpus_per_task": 1 if idle else cpus_of(entry),
            "mem_mb": int(min(asked_memory, memory or asked_memory)),
            "runtime": int(min(entry["runtime_minutes"], minutes or entry["runtime_minutes"])),
            # GPUs of one job are on one node.
            "nodes": 1,
        }
        if idle:
            return found | {"mem_mb": min(entry["memory_mb"], _MEMORY_WITHOUT_MODEL)}
        own = {
            "slurm_partition": placed["partition"],
            "slurm_extra": _extra(placed),
            "gpu_model": placed["gpu_model"] if gpus else None,
            "constraint": placed["constraint"],
            "qos": placed["qos"],
        }
        return found | {key: value for key, value in own.items() if value is not None}

    def check(self, name: str) -> None:
        """Raises InputError where no node could ever run a model or scorer, as far as anybody knows."""
        self._limits(name)

    def _limits(self, name: str) -> tuple[float | None, float | None]:
        """Most memory in MB and longest wall time in minutes where a model or scorer can run; None without a limit."""
        if name not in self._chosen:
            entry = layout.entry_of(self._config, name)
            kind = "models" if name in self._config["models"] else "scorers"
            problems = [*_problems(entry, self._config, name)]
            places = self._places(entry)
            fitting = [place for place in places if not [*_misfits(entry, place)]]
            if places and not fitting:
                problems += [misfit for place in places for misfit in _misfits(entry, place)]
            problems += self._unknown(entry)
            if problems:
                raise InputError("\n".join(f"config: {kind}.{name}.{problem}" for problem in problems))
            self._chosen[name] = (
                _largest(place.memory_mb for place in fitting),
                _largest(place.minutes for place in fitting),
            )
        return self._chosen[name]

    def _places(self, entry: Mapping[str, Any]) -> list[Partition]:
        """Partitions in which its jobs may run; none where nothing is known of them."""
        named = entry["resources"]["partition"] or self._defaults.get("slurm_partition")
        known = self._partitions
        if named:
            return [known.get(name, Partition(name)) for name in str(named).split(",")]
        if self._file:
            return [known[partition.name] for partition in self._file]
        return [partition for partition in known.values() if partition.is_default]

    def _unknown(self, entry: Mapping[str, Any]) -> Iterable[str]:
        """Partitions that the cluster does not have."""
        there = {partition.name for partition in self._cluster}
        for name in str(entry["resources"]["partition"] or "").split(","):
            if name and there and name not in there:
                yield f"resources.partition: this cluster has no {name}; allowed: {', '.join(sorted(there))}"

    @cached_property
    def _cluster(self) -> list[Partition]:
        return list(self._asked()) if hasattr(self._settings, "partition_config") else []

    @cached_property
    def _file(self) -> list[Partition]:
        path = getattr(self._settings, "partition_config", None)
        return [] if path is None else read_partitions(path)

    @cached_property
    def _partitions(self) -> dict[str, Partition]:
        return both(self._file, self._cluster)


def default_resources(given: Mapping[str, Any] | None) -> dict[str, str]:
    """What a profile or command line says of resources of all jobs, as far as it is more than a formula."""
    found = {name: getattr(value, "value", value) for name, value in (given or {}).items() if name in _ASKED}
    return {name: str(value) for name, value in found.items() if value is not None and not callable(value)}


def cpus_of(entry: Mapping[str, Any]) -> int:
    """CPUs of a job that runs a model or scorer."""
    if entry["cpus"] is not None:
        return int(entry["cpus"])
    return _CPUS_PER_GPU * entry["tp"] if entry["device"] == "cuda" else 1


def _problems(entry: Mapping[str, Any], config: layout.Config, name: str) -> Iterable[str]:
    """What its own config says against it."""
    most = entry["resources"]["gpus_per_node"]
    if entry["device"] == "cuda" and most is not None and entry["tp"] > most:
        yield f"tp: {entry['tp']} GPUs on one node, and a node has {most}; allowed: at most {most}"
    try:
        receipt = None if "openai" in entry else read_receipt(layout.receipt_of(config, name))
    except InputError:
        receipt = None
    problem = memory_problem(entry, receipt, find_model_config(receipt))
    if problem is not None:
        yield f"tp: {entry['tp']}: it {problem}"


def _misfits(entry: Mapping[str, Any], place: Partition) -> Iterable[str]:
    """Why its jobs cannot run in a partition."""
    gpus, model = entry["tp"] if entry["device"] == "cuda" else 0, entry["resources"]["gpu_model"]
    if place.gpus is not None and gpus > place.gpus:
        yield f"tp: {gpus} GPUs on one node, and a node of partition {place.name} has {place.gpus}"
    if model is not None and place.gpu_models is not None and model not in place.gpu_models:
        models = ", ".join(sorted(place.gpu_models))
        yield f"resources.gpu_model: partition {place.name} has no {model}; allowed: {models}"
    if place.memory_mb is not None and entry["memory_mb"] > place.memory_mb:
        yield f"memory_mb: {entry['memory_mb']}, and a node of partition {place.name} has {place.memory_mb:g}"
    if place.cpus is not None and cpus_of(entry) > place.cpus:
        yield f"cpus: {cpus_of(entry)}, and a node of partition {place.name} has {place.cpus:g}"


def _largest(limits: Iterable[float | None]) -> float | None:
    """The loosest of some limits; None where one is no limit, or there are none."""
    found = list(limits)
    return None if None in found or not found else max(limit for limit in found if limit is not None)


def _extra(placed: Mapping[str, Any]) -> str | None:
    words = [f"--reservation={placed['reservation']}"] if placed["reservation"] else []
    return " ".join([*words, *([placed["extra"]] if placed["extra"] else [])]) or None
