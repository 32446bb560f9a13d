"""The comparison as a page of Markdown: the same results give the same bytes.

| model   | against | task | metric      | it    | the other | difference | standard error | |
| student | base    | toy  | exact_match | 0.750 | 0.500     | +0.250     | 0.083 (paired) | better |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpusmith.evaluations.comparison import ENOUGH, PAIRED, UNPAIRED, Difference, Measured

_NOTHING = "–"


@dataclass(frozen=True)
class Line:
    """One difference: which model, against which, on what."""

    model: str
    against: str
    task: str
    metric: str
    difference: Difference


def page(
    lines: Sequence[Line],
    measured: Sequence[tuple[Measured, Sequence[str]]],
    trainings: Mapping[str, Mapping[str, Any]],
    picture: str | None,
) -> str:
    """The whole page. measured: every result with the metrics that are shown; trainings: training.json by model."""
    parts = ["# Models compared\n"]
    if lines:
        parts += ["## Adaptations against what they were tuned from\n", _differences(lines)]
        parts += [f"![Differences with two standard errors on each side]({picture})\n"] if picture else []
        parts += [_how(lines)]
    if trainings:
        parts += ["## What the adaptations cost\n", _costs(trainings)]
    parts += ["## All models\n", _values(measured)]
    return "\n".join(parts)


def _differences(lines: Iterable[Line]) -> str:
    rows = []
    for line in lines:
        found = line.difference
        error = _NOTHING if found.stderr is None else f"{_number(found.stderr)} ({found.kind})"
        rows.append(
            [line.model, line.against, line.task, line.metric, _number(found.tuned), _number(found.base),
             _signed(found.value), error, found.verdict]
        )  # fmt: skip
    head = ["model", "against", "task", "metric", "model's", "the other's", "difference", "standard error", "verdict"]
    return _table(head, "llllrrrrl", rows)


def _how(lines: Sequence[Line]) -> str:
    kinds = {line.difference.kind for line in lines if line.difference.stderr is not None}
    said = [
        f"*Within noise*: the difference is smaller than {ENOUGH:g} standard errors. Of differences that are nothing"
        f" but noise, about one in twenty is larger; there are {len(lines)} here."
    ]
    if PAIRED in kinds:
        said.append(
            "*Paired*: both models answered the same items; the standard error is that of the mean of the differences"
            " d of the n items, sqrt(sum((d − mean d)²) / (n − 1) / n)."
        )
    if UNPAIRED in kinds:
        said.append(
            "*Unpaired*: the metric is no mean over items, or their scores are not known; the standard error is"
            " sqrt(a² + b²) of those of the two models, which is mostly too large."
        )
    if any(line.difference.stderr is None for line in lines):
        said.append("*No standard error*: there is none for this metric, so that nothing can be said of noise.")
    return " ".join(said) + "\n"


def _costs(trainings: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, training in trainings.items():
        share = training["trainable_parameters"] / training["parameters"]
        peak = training["peak_memory_mb"]
        rows.append(
            [name, training["base"], training["adapter_of"] or _NOTHING, training["method"], training["adaptation"],
             f"{training['rows']:,}", f"{training['steps']:,}", _time(training["seconds"]),
             f"{training['trainable_parameters']:,}", f"{share:.3%}", _NOTHING if peak is None else f"{peak:,.0f} MB",
             training["device"]]
        )  # fmt: skip
    head = ["model", "base", "goes on with", "method", "adaptation", "rows", "steps", "training time",
            "trained parameters", "of all", "peak memory", "device"]  # fmt: skip
    return _table(head, "lllllrrrrrrl", rows)


def _values(measured: Sequence[tuple[Measured, Sequence[str]]]) -> str:
    rows = []
    for found, metrics in measured:
        for name in metrics:
            metric = found.metric(name)
            error = metric["stderr"]
            shown = _number(metric["value"]) + (f" ± {_number(error)}" if error is not None else "")
            items = found.result["samples"]
            rows.append([found.model, found.task, name, shown, _NOTHING if items is None else f"{items:,}"])
    return _table(["model", "task", "metric", "value ± standard error", "items"], "lllrr", rows)


def _table(head: Sequence[str], sides: str, rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---:" if side == "r" else "---" for side in sides], *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"


def _signed(value: float) -> str:
    # No minus before a zero.
    shown = _number(value)
    return shown.replace("-", "−") if value < 0 and float(shown.replace(",", "")) != 0 else f"+{_number(abs(value))}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
