"""What a run did: written beside each table that a model or a scorer made, an input of nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from corpusmith.files import read_json, write_json


def run_stats_path(table: str | Path) -> Path:
    """Where the run stats of a table lie: beside it."""
    return Path(table).with_suffix(".run-stats.json")


def write_run_stats(
    path: str | Path, stage: str, *, asked: int, from_store: int, failed: int, retries: int, seconds: float
) -> None:
    """Writes the run stats of one table. seconds: asking alone, without loading the model."""
    write_json(
        path,
        {
            "stage": stage,
            "asked": asked,
            "from_store": from_store,
            "failed": failed,
            "retries": retries,
            "seconds": round(seconds, 3),
        },
    )


def add_up_run_stats(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """One entry a stage, in the order in which stages first appear; seconds add up over shards."""
    stages: dict[str, dict[str, Any]] = {}
    for path in paths:
        value = read_json(path)
        whole = stages.setdefault(value["stage"], {"stage": value["stage"]})
        for name in ("asked", "from_store", "failed", "retries", "seconds"):
            whole[name] = whole.get(name, 0) + value[name]
    for whole in stages.values():
        whole["seconds"] = round(whole["seconds"], 3)
        whole["items_per_second"] = round(whole["asked"] / whole["seconds"], 1) if whole["seconds"] > 0 else 0.0
    return list(stages.values())
