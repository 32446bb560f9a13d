"""What is in a store, and what the last builds asked of it: for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from corpusmith.layout import expand
from corpusmith.models import read_receipt
from corpusmith.plain_text import size_text, table_lines
from corpusmith.run_stats import add_up_run_stats, run_stats_path
from corpusmith.store import Store

# More files than this in a model's folder make look-ups slow.
_MANY_FILES = 100
_STAGES = {"completions": "generate", "scores": "score"}
Names = Mapping[str, list[str]]


def names_by_identity(pairs: Iterable[str]) -> dict[str, list[str]]:
    """What a config calls the models that it knows, by identity. pairs: NAME=RECEIPT; receipts need not be there."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, receipt = pair.partition("=")
        if Path(receipt).exists():
            found.setdefault(read_receipt(receipt).identity, []).append(name)
    return found


def names_of(model: str, names: Names) -> list[str]:
    """What a config calls a model of the store, which is known by an identity, a metric by one among other words."""
    return [name for identity, found in names.items() if f" {identity} " in f" {model} " for name in found]


def describe_models(store: Store, names: Names) -> list[dict[str, Any]]:
    """What the store holds of each model."""
    return [
        {
            "kind": found.kind,
            "model": found.model,
            "names": names_of(found.model, names),
            "answers": found.answers,
            "bytes": found.bytes,
            "segments": found.segments,
            "journals": found.journals,
            "set_aside": found.set_aside,
        }
        for found in store.report()
    ]


def describe_builds(entries: Iterable[str]) -> list[dict[str, Any]]:
    """What the last build of each table asked. entries: FOLDER=SHARDS, the folders DATASET/STEP/KIND."""
    datasets: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        paths = [run_stats_path(table) for table in expand("", [entry], ".parquet")]
        folder = paths[0].parent
        built = [path for path in paths if path.exists()]
        stage: dict[str, Any] = {
            "stage": f"{folder.parent.name}/{_STAGES[folder.name]}",
            "shards": len(paths),
            "built": len(built),
        }
        added_up = add_up_run_stats(built)
        for key in ("asked", "from_store", "failed"):
            stage[key] = sum(found[key] for found in added_up)
        datasets.setdefault(str(folder.parent.parent), []).append(stage)
    return [{"dataset": dataset, "stages": stages} for dataset, stages in datasets.items()]


def report_lines(folder: Path, models: Sequence[Mapping[str, Any]], builds: Iterable[Mapping[str, Any]]) -> list[str]:
    """The report as text. folder: the store's."""
    return [*_model_lines(folder, models), *(line for build in builds for line in _build_lines(build))]


def _model_lines(folder: Path, models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not models:
        yield f"{folder}: nothing is in it yet" if folder.exists() else f"{folder}: there is no store here yet"
        return
    answers, size = (sum(model[key] for model in models) for key in ("answers", "bytes"))
    yield f"{folder}: {answers:,} answers, {size_text(size)}"
    yield ""
    yield from table_lines(
        ["kind", "name", ">answers", ">bytes", ">segments", ">journals", ">set aside", "model"],
        [
            (
                model["kind"],
                ", ".join(model["names"]) or "-",
                model["answers"],
                size_text(model["bytes"]),
                model["segments"],
                model["journals"],
                model["set_aside"],
                model["model"],
            )
            for model in models
        ],
    )
    hints = [line for model in models for line in _hints(model)]
    yield from ["", *hints] if hints else []


def _hints(model: Mapping[str, Any]) -> Iterator[str]:
    what = f"{model['kind']} of {', '.join(model['names']) or model['model']}"
    files = model["segments"] + model["journals"]
    if files > _MANY_FILES:
        yield f"{what}: {files:,} files; look-ups are faster in few: snakemake store_compact"
    if model["set_aside"]:
        yield f"{what}: {model['set_aside']:,} damaged files are set aside (*.damaged); what was lost is asked again"


def _build_lines(build: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    if not any(stage["built"] for stage in build["stages"]):
        yield f"{build['dataset']}: nothing is built yet"
        return
    yield f"{build['dataset']}: what its tables were made of when they were last built"
    yield ""
    yield from table_lines(
        ["stage", ">shards", ">asked", ">from store", ">failed"],
        [
            (
                stage["stage"],
                f"{stage['built']:,} of {stage['shards']:,}",
                stage["asked"],
                stage["from_store"],
                stage["failed"],
            )
            for stage in build["stages"]
        ],
    )
