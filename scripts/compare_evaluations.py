"""Compares models: every adaptation against what it was tuned from, with standard errors and what it cost.

    python scripts/compare_evaluations.py --evaluations results/evals --models base student --task toy exact_match \\
        --compare student base --training student results/models/student/training.json \\
        --comparison results/evals/comparison.md --picture results/evals/comparison.png

Input: EVALUATIONS/MODEL/TASK.json with what each item got beside it, and training.json of the adaptations. Output, a
page and a picture; of the page one line:

    | student | base | toy | exact_match | 0.7500 | 0.5000 | +0.2500 | 0.0833 (paired) | better |
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError
from corpusmith.evaluations.comparison import Measured, difference
from corpusmith.evaluations.comparison_picture import write_picture
from corpusmith.evaluations.comparison_table import Line, page
from corpusmith.files import read_json, write_text
from corpusmith.program import argument_parser, log, run

_OF_A_TRAINING = (
    "base", "adapter_of", "method", "adaptation", "rows", "steps", "seconds", "parameters", "trainable_parameters",
    "peak_memory_mb", "device",
)  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--evaluations", required=True, help="folder of the results")
    parser.add_argument("--models", nargs="+", required=True, help="models, in the order in which they are shown")
    parser.add_argument(
        "--task", nargs="+", action="append", required=True, help="a task, then its metrics (default: all); repeated"
    )
    parser.add_argument(
        "--compare", nargs=2, action="append", default=[], help="an adaptation, and what it is held against; repeated"
    )
    parser.add_argument(
        "--training", nargs=2, action="append", default=[], help="an adaptation, and its training.json; repeated"
    )
    parser.add_argument("--comparison", required=True, help="Markdown file to write")
    parser.add_argument("--picture", required=True, help="PNG file to write")
    return parser.parse_args()


def main() -> None:
    """Compares them."""
    arguments = _arguments()
    folder = Path(arguments.evaluations)
    measured = {
        (model, task): Measured(model, task, folder / model / f"{task}.json")
        for task, *_ in arguments.task
        for model in arguments.models
    }
    shown = {task: metrics for task, *metrics in arguments.task}
    everything = [(found, found.named(shown[task])) for (_, task), found in measured.items()]
    lines = [
        Line(model, against, task, metric, difference(measured[against, task], measured[model, task], metric))
        for task, metrics in shown.items()
        for metric in _shared(measured, task, metrics)
        for model, against in arguments.compare
    ]
    trainings = {name: _training(path) for name, path in arguments.training}
    picture = os.path.relpath(arguments.picture, Path(arguments.comparison).parent)
    write_picture(Path(arguments.picture), lines)
    write_text(arguments.comparison, page(lines, everything, trainings, Path(picture).as_posix()))
    for line in lines:
        found = line.difference
        log.info(
            "%s against %s, %s %s: %+.4f, %s", line.model, line.against, line.task, line.metric, found.value,
            found.verdict,
        )  # fmt: skip


def _shared(measured: dict[tuple[str, str], Measured], task: str, metrics: Sequence[str]) -> list[str]:
    """The metrics that all models have of a task, in the order of the first."""
    names = [found.named(metrics) for (_, other), found in measured.items() if other == task]
    return [name for name in names[0] if all(name in others for others in names)]


def _training(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file; train the adaptation first")
    found = read_json(path)
    missing = [key for key in _OF_A_TRAINING if not isinstance(found, dict) or key not in found]
    if missing:
        raise InputError(f"{path}: tells of no training: {missing[0]} is missing; delete it and build again")
    return dict(found)


if __name__ == "__main__":
    run(main)
