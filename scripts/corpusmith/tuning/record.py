"""What a training was like: a table of its losses, and their picture.

step	epoch	loss	learning_rate	grad_norm	mean_token_accuracy	eval_loss
1	0.05	2.3125	0.0002	1.53	0.41
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from corpusmith.files import whole_file, write_text

# Of what trainers log.
_EACH_STEP = ("step", "epoch", "loss", "learning_rate", "grad_norm")
COLUMNS = {
    "sft": (*_EACH_STEP, "mean_token_accuracy", "eval_loss"),
    "dpo": (*_EACH_STEP, "rewards/accuracies", "rewards/margins", "eval_loss"),
}
# Of Okabe and Ito: told apart by all who see colours differently, and in grey.
_TRAINED, _EVALUATED = "#0072B2", "#D55E00"
# With more points than this a mean over some of them is drawn.
_MOST_POINTS = 200


def loss_rows(history: Iterable[Mapping[str, Any]], method: str) -> list[dict[str, float]]:
    """A row for each step that was logged, in order: what was logged for one step at several times in one row."""
    rows: dict[int, dict[str, float]] = {}
    for logged in history:
        if "loss" in logged or "eval_loss" in logged:
            row = rows.setdefault(logged["step"], {})
            row |= {name: logged[name] for name in COLUMNS[method] if name in logged}
    return [rows[step] for step in sorted(rows)]


def write_losses(path: str | Path, rows: Sequence[Mapping[str, float]], method: str) -> None:
    """The table, tab-separated, with numbers as the trainer gave them; a cell is empty where nothing was logged."""
    lines = ["\t".join(COLUMNS[method])]
    lines += ["\t".join(f"{row[name]:.10g}" if name in row else "" for name in COLUMNS[method]) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def write_loss_picture(path: str | Path, rows: Sequence[Mapping[str, float]], title: str) -> None:
    """The losses over the steps, as PNG. The same rows give the same bytes, with one version of matplotlib."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # A user's own matplotlibrc changes nothing.
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        trained = [(row["step"], row["loss"]) for row in rows if "loss" in row]
        together = math.ceil(len(trained) / _MOST_POINTS)
        label = "training" if together <= 1 else f"training, mean of {together}"
        axes.plot(*_columns(_means(trained, together)), color=_TRAINED, label=label)
        evaluated = [(row["step"], row["eval_loss"]) for row in rows if "eval_loss" in row]
        if evaluated:
            axes.plot(*_columns(evaluated), color=_EVALUATED, marker="o", label="evaluation")
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend()
        with whole_file(path) as partial:
            # Software would be the version of matplotlib.
            canvas.print_png(partial, metadata={"Software": None})


def _means(points: Sequence[tuple[float, float]], together: int) -> list[tuple[float, float]]:
    """Means of so many points each, at the last one's step."""
    if together <= 1:
        return list(points)
    parts = [points[start : start + together] for start in range(0, len(points), together)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [step for step, _ in points], [value for _, value in points]
