"""Task files of lm-evaluation-harness: which files they read, and whether anything of theirs lies on the Hub.

    task: sums
    dataset_path: json
    dataset_kwargs: {data_files: {test: sums.jsonl}}     # beside the task file

Imported by the Snakefile: nothing heavy here.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from corpusmith.errors import InputError

# Builders of the library datasets that read files: all other paths of datasets are those of the Hub, or folders.
_OF_FILES = ("json", "csv", "parquet", "text", "arrow", "pandas", "xml")


class _Loader(yaml.SafeLoader):
    """Reads `!function module.name` as the text behind it."""


def _function(loader: yaml.Loader, node: yaml.ScalarNode) -> str:
    return f"!function {loader.construct_scalar(node)}"


_Loader.add_constructor("!function", _function)


def read_task_file(path: str | Path) -> dict[str, Any]:
    """A task file as it stands, functions as text. Raises InputError where it is no YAML with keys."""
    try:
        found = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is no task of lm-evaluation-harness: it has no keys")
    return found


def files_of_task(path: str | Path) -> list[str]:
    """The files that a task of the user's is made of: its own, what it includes, its functions' and its data's."""
    return list(dict.fromkeys(_files(Path(path))))


def needs_fetching(path: str | Path) -> bool:
    """Whether a task file may read anything of the Hub."""
    config = read_task_file(path)
    if "include" in config or "custom_dataset" in config or "class" in config or has_tasks_by_name(config):
        return True
    dataset = config.get("dataset_path")
    return dataset is not None and not is_local(dataset)


def has_tasks_by_name(config: Mapping[str, Any]) -> bool:
    """Whether a task file is a group, whose tasks may be lm-evaluation-harness's own."""
    return "group" in config or isinstance(config.get("task"), list)


def is_local(dataset_path: str) -> bool:
    """Whether a dataset's path stands for files of this machine."""
    return dataset_path in _OF_FILES or Path(dataset_path).expanduser().is_absolute()


def resolved_data_files(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The config of a task whose data files lie relative to a folder."""
    found = dict(config)
    options = dict(found.get("dataset_kwargs") or {})
    if "data_files" in options:
        options["data_files"] = _resolved(options["data_files"], folder)
    if isinstance(options.get("data_dir"), str):
        options["data_dir"] = _absolute(options["data_dir"], folder)
    found |= {"dataset_kwargs": options} if options else {}
    parts = found.get("task")
    if isinstance(parts, list):
        found["task"] = [resolved_data_files(part, folder) if isinstance(part, Mapping) else part for part in parts]
    return found


def _resolved(value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping):
        return {key: _resolved(part, folder) for key, part in value.items()}
    if isinstance(value, list):
        return [_resolved(part, folder) for part in value]
    return _absolute(value, folder)


def _absolute(path: str, folder: Path) -> str:
    # Addresses, such as hf://datasets/…, are left as they are.
    return path if "://" in path else str(folder / path)


def _files(path: Path) -> Iterator[str]:
    yield str(path)
    config = read_task_file(path)
    includes = config.get("include", [])
    for include in includes if isinstance(includes, list) else [includes]:
        yield from _files(path.parent / include)
    for text in _texts(config):
        if text.startswith("!function "):
            module = path.parent / f"{text.removeprefix('!function ').rpartition('.')[0].replace('.', '/')}.py"
            if module.is_file():
                yield str(module)
    for data in _data_files(config):
        if "://" not in data:
            pattern = str(path.parent / data)
            yield from sorted(glob.glob(pattern, recursive=True)) or [pattern]


def _data_files(config: Mapping[str, Any]) -> Iterator[str]:
    yield from _texts((config.get("dataset_kwargs") or {}).get("data_files", []))
    parts = config.get("task")
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict):
            yield from _data_files(part)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(part)
