"""The comparison as a picture: each difference with two standard errors on each side, a panel for each task and metric.

The same differences give the same bytes, with one version of matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from corpusmith.evaluations.comparison import ENOUGH
from corpusmith.evaluations.comparison_table import Line
from corpusmith.files import whole_file

# Of Okabe and Ito: told apart by all who see colours differently, and in grey.
_COLOURS = {"better": "#009E73", "higher": "#009E73", "worse": "#D55E00", "lower": "#D55E00"}
_NOISE = "#666666"
_WIDTH, _HEIGHT_OF_LINE, _HEIGHT_OF_PANEL = 8.0, 0.32, 0.9


def write_picture(path: Path, lines: Sequence[Line]) -> None:
    """Writes the picture, as PNG. Without differences it says so."""
    import matplotlib
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        panels.setdefault((line.task, line.metric), []).append(line)
    heights = [_HEIGHT_OF_PANEL + _HEIGHT_OF_LINE * len(found) for found in panels.values()] or [1.0]
    # A user's own matplotlibrc changes nothing.
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=120, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        if not panels:
            figure.text(0.5, 0.5, "no adaptation was evaluated", ha="center", va="center")
        else:
            axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
            for one, ((task, metric), found) in zip(axes, panels.items(), strict=True):
                _draw(one, f"{task}: {metric}", found)
            axes[-1].set_xlabel(f"difference, ±{ENOUGH:g} standard errors")
        with whole_file(path) as partial:
            # Software would be the version of matplotlib.
            canvas.print_png(partial, metadata={"Software": None})


def _draw(axes: object, title: str, lines: Sequence[Line]) -> None:
    places = range(len(lines) - 1, -1, -1)
    for place, line in zip(places, lines, strict=True):
        found = line.difference
        colour = _COLOURS.get(found.verdict, _NOISE)
        error = None if found.stderr is None else ENOUGH * found.stderr
        axes.errorbar(found.value, place, xerr=error, fmt="o", color=colour, capsize=3)  # type: ignore[attr-defined]
    axes.axvline(0.0, color="black", linewidth=1)  # type: ignore[attr-defined]
    axes.set_yticks(list(places), [f"{line.model} – {line.against}" for line in lines])  # type: ignore[attr-defined]
    axes.set_ylim(-0.6, len(lines) - 0.4)  # type: ignore[attr-defined]
    axes.grid(axis="x", alpha=0.3)  # type: ignore[attr-defined]
    axes.set_title(title, loc="left", fontsize=10)  # type: ignore[attr-defined]
