"""Tasks of lm-evaluation-harness: by name, or from a YAML file of the user's with data files beside it.

    found = find_task("hellaswag", None)
    loaded = load_task(found)     # reads its data: from the cache, or, where that is allowed, from the Hub

Programs import this only when they run: lm-evaluation-harness alone takes seconds.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError
from corpusmith.evaluations.task_files import has_tasks_by_name, is_local, resolved_data_files

_CLOSEST = 5
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True)
class FoundTask:
    """A task before its data is read. manager: knows its name; datasets: those of the Hub; file: that of the user."""

    name: str
    manager: Any
    datasets: tuple[str, ...]
    file: Path | None = None


@dataclass(frozen=True)
class LoadedTask:
    """A task with its data. root: lm-evaluation-harness's object for it; tasks: those of a group, or the one."""

    found: FoundTask
    root: Any
    tasks: Mapping[str, Any]

    @property
    def is_group(self) -> bool:
        """Whether it is a group of tasks."""
        return self.found.name not in self.tasks

    @property
    def metrics(self) -> list[str]:
        """Names of its metrics without filters, sorted."""
        return sorted({name for task in self.tasks.values() for name in task.aggregation()})


def find_task(name: str | None, file: str | Path | None) -> FoundTask:
    """The task of a name, or in a file. Raises InputError with the closest names where there is none."""
    if file is not None:
        return _in_file(Path(file))
    from lm_eval.tasks import TaskManager

    assert name is not None
    manager = TaskManager()
    if name not in manager.task_index:
        closest = difflib.get_close_matches(name, manager.all_tasks, _CLOSEST, 0.6)
        hint = f"; close to it: {', '.join(closest)}" if closest else ""
        raise InputError(
            f"lm-evaluation-harness has no task {name!r}{hint}; `lm_eval ls tasks` lists all, and a task of your own"
            " is given as a YAML file"
        )
    return FoundTask(name, manager, tuple(dict.fromkeys(_datasets(manager, name))))


def load_task(found: FoundTask) -> LoadedTask:
    """Reads a task's data. Raises InputError where it cannot be had, or where the task has no number of its own."""
    try:
        loaded = found.manager.load([found.name])
    except Exception as error:
        problem = _data_problem(found, error)
        if problem is None:
            raise
        raise InputError(problem) from error
    _check_nltk(found)
    tasks, groups = loaded["tasks"], loaded.get("groups", {})
    if found.name in tasks:
        return LoadedTask(found, tasks[found.name], tasks)
    if found.name not in groups or not groups[found.name].aggregate_metric_list:
        parts = sorted(tasks)
        more = f" and {len(parts) - 10} more" if len(parts) > 10 else ""
        raise InputError(
            f"task {found.name}: is a list of tasks without a number of its own; name them one by one:"
            f" {', '.join(parts[:10])}{more}"
        )
    return LoadedTask(found, groups[found.name], tasks)


def check_allowed(loaded: LoadedTask, confirm_unsafe_code: bool) -> None:
    """Raises InputError where a task runs code that a model wrote, and nobody allowed that."""
    unsafe = sorted(name for name, task in loaded.tasks.items() if getattr(task, "UNSAFE_CODE", False))
    if unsafe and not confirm_unsafe_code:
        raise InputError(
            f"task {loaded.found.name}: runs code that the model writes on this machine ({', '.join(unsafe[:5])});"
            " where that is meant, allow it with confirm_unsafe_code: true (--confirm-unsafe-code)"
        )


def check_metrics(loaded: LoadedTask, wanted: Iterable[str]) -> None:
    """Raises InputError where the task has no such metric. wanted: names, those of filters behind a comma."""
    for metric in wanted:
        if metric.partition(",")[0] not in loaded.metrics:
            raise InputError(
                f"task {loaded.found.name}: has no metric {metric!r}; allowed: {', '.join(loaded.metrics)}"
            )


def _in_file(path: Path) -> FoundTask:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import TaskIndex

    config = _read_task_file(path)
    name = config.get("group") or config["task"]
    manager = TaskManager(include_defaults=has_tasks_by_name(config))
    # Not by its path: its data files are resolved by now.
    manager.task_index[name] = TaskIndex.entry_from_config(config)
    return FoundTask(name, manager, tuple(dict.fromkeys(_datasets(manager, name))), path)


def _read_task_file(path: Path) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    if not path.is_file():
        raise InputError(f"{path}: there is no such task file; give the path of a YAML file with a key task")
    try:
        config = load_yaml(path)
    except Exception as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: is no task of lm-evaluation-harness ({line})") from error
    if not isinstance(config.get("group") or config.get("task"), str):
        raise InputError(f"{path}: has no key task with the task's name; docs/evaluation-of-models.md shows one")
    return resolved_data_files(config, path.resolve().parent)


def _datasets(manager: Any, name: str) -> Iterator[str]:
    """What of the Hub a task, or the tasks of a group, read."""
    from lm_eval.tasks._yaml_loader import load_yaml

    entry = manager.task_index.get(name)
    if entry is None:
        return
    for part in sorted(entry.tags) if entry.kind.name == "TAG" else ():
        yield from _datasets(manager, part)
    config = load_yaml(entry.yaml_path, resolve_func=False) if entry.yaml_path else entry.cfg or {}
    yield from _of_the_hub(config)
    parts = config.get("task")
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict):
            yield from _of_the_hub(part)
        yield from _datasets(manager, part if isinstance(part, str) else part.get("task") or part.get("group"))


def _of_the_hub(config: Mapping[str, Any]) -> Iterator[str]:
    path = config.get("dataset_path")
    if isinstance(path, str) and not is_local(path):
        yield path


def _data_problem(found: FoundTask, error: Exception) -> str | None:
    """What to say where a task's data could not be read; None where something else is wrong."""
    from datasets.exceptions import DatasetNotFoundError

    line = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        return f"task {found.name}: needs the Python package {error.name}, which this environment has not"
    if not found.datasets:
        return f"task {found.name}: its data cannot be read ({line})" if _is_of_data(error) else None
    named = "the dataset " + " and ".join(found.datasets) + " of the Hub"
    missing = isinstance(error, FileNotFoundError) or "find cache" in line or "offline" in line.lower()
    if (_is_offline() and missing) or (_is_of_network(error) and not isinstance(error, DatasetNotFoundError)):
        return f"task {found.name}: needs {named}, which is not in the cache of this machine; {_how_to_fetch(found)}"
    if isinstance(error, DatasetNotFoundError):
        return (
            f"task {found.name}: needs {named}, and the Hub shows none ({line}); if it is gated, accept its terms and"
            " set HF_TOKEN"
        )
    return f"task {found.name}: needs {named}, which cannot be read ({line})" if _is_of_data(error) else None


def _check_nltk(found: FoundTask) -> None:
    """Tasks that need data of NLTK fetch them when they are loaded; where that fails, they go on, up to the scores."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("lm_eval.tasks.")]
    if not any(hasattr(module, "download_nltk_resources") for module in modules):
        return
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        raise InputError(
            f"task {found.name}: needs punkt_tab of NLTK, which is not on this machine; {_how_to_fetch(found)}"
        ) from None


def _how_to_fetch(found: FoundTask) -> str:
    what = f"--task {found.name}" if found.file is None else f"--task-file {found.file}"
    return (
        f"on a machine with internet run `python scripts/fetch_task.py {what}`, with the same HF_HOME"
        " (under Snakemake the rule fetch_task does it where Snakemake runs)"
    )


def _is_offline() -> bool:
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in _OFFLINE)


def _is_of_network(error: BaseException) -> bool:
    """Whether an error, or what led to it, is one of the network's."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionError | TimeoutError) or type(seen).__module__.split(".")[0] in _NETWORK:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


_NETWORK = ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub", "aiohttp")


def _is_of_data(error: Exception) -> bool:
    return isinstance(error, OSError | ValueError | RuntimeError | KeyError) or _is_of_network(error)
