"""What the config says is published, and where. Imported by the Snakefile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from corpusmith.licences import UNKNOWN
from corpusmith.licensing import model_licence

KINDS = ("datasets", "folders", "models", "tuning")
# What goes into repositories of models.
_OF_MODELS = ("models", "tuning")


def published(config: Mapping[str, Any], kind: str) -> list[str]:
    """Names of what is published. kind: one of KINDS."""
    return [name for name, entry in config[kind].items() if entry["publish"] is not None]


def upload_flags(config: Mapping[str, Any], kind: str, name: str) -> list[str]:
    """Where something is published, as flags of upload.py."""
    publish, hub = config[kind][name]["publish"], config["hub"]
    flags = ["--repo", publish["repo"], "--branch", publish["branch"], "--token-variable", hub["token_variable"]]
    flags += ["--public"] if not publish["private"] else []
    flags += ["--pull-request"] if publish["pull_request"] else []
    flags += ["--replaces", publish["replaces"]] if publish["replaces"] is not None else []
    # Named, so that a receipt of another Hub is none of this one.
    endpoint = hub["endpoint"] or os.environ.get("HF_ENDPOINT")
    flags += ["--endpoint", endpoint.rstrip("/")] if endpoint else []
    return [*flags, *([] if hub["xet"] else ["--no-xet"])]


def folder_files(path: str) -> list[str]:
    """The files of a folder of JSON; the folder itself where it is not there, so that its name is said."""
    folder = Path(path)
    found = [file for file in folder.rglob("*") if file.is_file()]
    return sorted(str(file) for file in found if not _is_hidden(file.relative_to(folder))) or [path]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def destination(config: Mapping[str, Any], kind: str, name: str) -> str:
    """Where something is published, for people."""
    publish = config[kind][name]["publish"]
    where = "a private repository" if publish["private"] else "a public repository"
    how = "as a pull request" if publish["pull_request"] else f"on {publish['branch']}"
    hub = config["hub"]["endpoint"]
    return f"{publish['repo']}, {where}, {how}" + (f", at {hub}" if hub else "")


def publishing_contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    """Pull requests to other branches than main, models that lie on the Hub, two things in one place."""
    places: dict[tuple[str, str, str], str] = {}
    visible: dict[tuple[str, str], tuple[str, bool]] = {}
    for kind in KINDS:
        for name in published(config, kind):
            entry, path = config[kind][name], f"{kind}.{name}.publish"
            publish = entry["publish"]
            if publish["pull_request"] and publish["branch"] != "main":
                yield f"{path}.branch: a pull request is made to main; allowed: main, or pull_request: false"
            if kind == "models" and not ("toy" in entry or "path" in entry):
                yield f"{path}: the model was not built here; allowed: no such key, or a model with path or toy"
            if kind == "models" and not publish["private"] and model_licence(entry) == UNKNOWN:
                yield f"models.{name}.licence: is unknown, and the model is to be public; it has to be given"
            repo = ("models" if kind in _OF_MODELS else "datasets", publish["repo"].lower())
            other, private = visible.setdefault(repo, (f"{kind}.{name}", publish["private"]))
            if private != publish["private"]:
                yield f"{path}.private: {other} says otherwise of the same repo; allowed: the same in both"
            place = (*repo, publish["branch"])
            if place in places:
                yield f"{path}.repo: {places[place]} is published there; allowed: another repo or branch"
            places[place] = f"{kind}.{name}"
    for name, entry in config["folders"].items():
        if entry["publish"] is not None and not entry["publish"]["private"] and entry["licence"] is None:
            yield f"folders.{name}.licence: is unknown, and the release is to be public; it has to be given"
