"""Every adaptation against what it was tuned from: differences with their standard errors.

    difference(base, tuned, "exact_match")      # of two results of one task, with what each item got

Both have answered the same items, so that where the scores of items are at hand the standard error is that of the mean
of their differences, d_i = tuned_i - base_i over n items: sqrt(sum((d_i - mean d)^2) / (n - 1) / n). Where they are
not, or where a metric is no mean of them, it is sqrt(stderr_base^2 + stderr_tuned^2), as if the items were others; as
a rule that is too large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from corpusmith.errors import InputError
from corpusmith.evaluations.results import read_result, scores_by_metric

PAIRED, UNPAIRED = "paired", "unpaired"
# A difference of fewer standard errors is noise.
ENOUGH = 2.0
# The mean of the scores of items is the metric itself, but for rounding.
_SAME = 1e-9
# Settings that say how fast a model runs, or what only its own files decide.
_MACHINE = ("batch_size", "gpus", "device", "trust_remote_code", "server", "command")


@dataclass(frozen=True)
class Measured:
    """A model's result on a task. path: TASK.json, with TASK.samples.parquet beside it where there is one."""

    model: str
    task: str
    path: Path

    @cached_property
    def result(self) -> dict[str, Any]:
        """What TASK.json holds."""
        return read_result(self.path)

    @cached_property
    def scores(self) -> dict[str, dict[tuple[str, int, str], float]]:
        """What the items got, by metric; nothing where nobody wrote it down."""
        samples = self.path.with_suffix(".samples.parquet")
        return scores_by_metric(samples) if samples.is_file() else {}

    def named(self, names: Sequence[str]) -> list[str]:
        """The metrics of some names, or all; a name without a filter stands for it with any.

        Raises InputError where there is none of that name.
        """
        known = list(self.result["metrics"])
        found = [
            [name] if name in known else [metric for metric in known if metric.partition(",")[0] == name]
            for name in names
        ]
        for name, metrics in zip(names, found, strict=True):
            if not metrics:
                # Says what there is.
                self.metric(name)
        return [metric for metrics in found for metric in metrics] if names else known

    def metric(self, name: str) -> Mapping[str, Any]:
        """A metric. Raises InputError where there is none of that name."""
        metrics: dict[str, Mapping[str, Any]] = self.result["metrics"]
        if name not in metrics:
            raise InputError(f"{self.path}: has no metric {name!r}; allowed: {', '.join(metrics)}")
        return metrics[name]


@dataclass(frozen=True)
class Difference:
    """A metric of an adaptation less that of what it was tuned from. stderr: None where nobody knows it.

    kind: how the standard error was computed, paired or unpaired; items: of how many items.
    """

    base: float
    tuned: float
    stderr: float | None
    kind: str
    items: int | None
    higher_is_better: bool | None

    @property
    def value(self) -> float:
        """The difference."""
        return self.tuned - self.base

    @property
    def verdict(self) -> str:
        """What may be said of it, in words."""
        if self.stderr is None:
            return "no standard error"
        if self.value == 0 or abs(self.value) < ENOUGH * self.stderr:
            return "within noise"
        if self.higher_is_better is None:
            return "higher" if self.value > 0 else "lower"
        return "better" if (self.value > 0) == self.higher_is_better else "worse"


def difference(base: Measured, tuned: Measured, metric: str) -> Difference:
    """The difference of two models on one task. Raises InputError where they were not evaluated in the same way."""
    _check_alike(base, tuned)
    first, second = base.metric(metric), tuned.metric(metric)
    known = (first["value"], second["value"])
    items = tuned.result["samples"]
    paired = _paired(base.scores.get(metric), tuned.scores.get(metric), known)
    if paired is not None:
        stderr, items = paired
        return Difference(*known, stderr, PAIRED, items, second["higher_is_better"])
    both = first["stderr"], second["stderr"]
    unpaired = None if None in both else math.hypot(*both)
    return Difference(*known, unpaired, UNPAIRED, items, second["higher_is_better"])


def _paired(
    base: Mapping[Any, float] | None, tuned: Mapping[Any, float] | None, known: tuple[float, float]
) -> tuple[float | None, int] | None:
    """Standard error and number of items; None where the metric is not the mean over the same items."""
    if not base or not tuned or base.keys() != tuned.keys():
        return None
    items = sorted(base)
    values = np.array([[scores[item] for item in items] for scores in (base, tuned)])
    if np.any(np.abs(values.mean(axis=1) - known) > _SAME * np.maximum(1.0, np.abs(known))):
        return None
    if len(items) < 2:
        return None, len(items)
    return float((values[1] - values[0]).std(ddof=1) / math.sqrt(len(items))), len(items)


def _check_alike(base: Measured, tuned: Measured) -> None:
    """What differs between two results but for the model makes the difference mean nothing."""
    first, second = base.result, tuned.result
    pairs = {key: (first[key], second[key]) for key in ("task", "version", "samples")}
    settings = first["settings"], second["settings"]
    for key in sorted(set(settings[0]) | set(settings[1])):
        if key not in _MACHINE:
            pairs[key] = settings[0].get(key), settings[1].get(key)
    for key, (one, other) in pairs.items():
        if one != other:
            raise InputError(
                f"{tuned.path}: was evaluated with {key} {other}, and {base.path} with {one}; delete the older of them"
                " and build again"
            )
