"""The picture of a card: how the recipe's number is distributed over the released and the rejected rows.

    released, rejected = Counted.of(number, tables_of_rows), Counted.of(number, tables_of_rejected_rows)
    write_picture(release / "assets" / "scores.png", number, released, rejected)

The rows are streamed into fixed bins, so that memory is flat. The same counts give the same bytes, with one version of
matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from corpusmith.files import whole_file
from corpusmith.program import log
from corpusmith.released import Number
from corpusmith.table_files import read_batches
from corpusmith.tables import Table

# Of Okabe and Ito: told apart by all who see colours differently, and in grey.
_RELEASED, _REJECTED = "#0072B2", "#D55E00"
_MOST_BARS = 50


class Counted:
    """Counts of a number in the bins of its `Number`. Values outside count in the first or the last one.

    count: values that there are; missing: rows without one; total: their sum.
    """

    def __init__(self, number: Number) -> None:
        self._number = number
        self.bins = np.zeros(number.bins, dtype=np.int64)
        self.count = self.missing = 0
        self.total = 0.0

    @classmethod
    def of(cls, number: Number, table: Table, paths: Iterable[Path]) -> Counted:
        """The counts of some tables. Raises InputError where one is no such table."""
        counted = cls(number)
        for path in paths:
            for batch in read_batches(path, table, [number.column]):
                column = batch.column(0)
                values = column.drop_null().to_numpy(zero_copy_only=False)
                finite = values[np.isfinite(values)]
                counted.missing += len(column) - len(finite)
                counted.add(finite)
        return counted

    def add(self, values: np.ndarray) -> None:
        """Counts finite values."""
        number = self._number
        # Rounded before it is cut: 0.3 / 0.1 is 2.9999999999999996.
        places = np.floor(np.round((values - number.lowest) * (number.bins / (number.highest - number.lowest)), 6))
        self.bins += np.bincount(np.clip(places, 0, number.bins - 1).astype(np.int64), minlength=number.bins)
        self.count += len(values)
        self.total += float(values.sum())

    @property
    def mean(self) -> float | None:
        """The mean of the values; none where there is none."""
        return self.total / self.count if self.count else None


def write_picture(path: Path, number: Number, released: Counted, rejected: Counted) -> bool:
    """Writes the picture, as PNG; returns whether there is one: not where no released row has the number."""
    if released.count == 0:
        log.warning("no released row has %s: the card has no picture of it", number.column)
        return False
    import matplotlib
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    edges, shown = _bars(number, [released.bins, rejected.bins])
    # A user's own matplotlibrc changes no release.
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.stairs(shown[0], edges, fill=True, color=_RELEASED, label=f"released ({released.count:,})")
        if rejected.count:
            axes.stairs(shown[1], edges, color=_REJECTED, linewidth=2, label=f"rejected ({rejected.count:,})")
        axes.set_xlabel(number.label)
        axes.set_ylabel("rows")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend()
        with whole_file(path) as partial:
            # Software would be the version of matplotlib.
            canvas.print_png(partial, metadata={"Software": None})
    return True


def _bars(number: Number, counts: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Edges and counts as they are shown: as far as there are values, in bars that can be told apart."""
    edges = np.linspace(number.lowest, number.highest, number.bins + 1)
    last = int(np.flatnonzero(sum(counts))[-1]) + 1
    together = -(-last // _MOST_BARS)
    bars = -(-last // together)
    whole = [np.append(count, np.zeros(together, dtype=np.int64))[: bars * together] for count in counts]
    shown = [count.reshape(bars, together).sum(axis=1) for count in whole]
    step = edges[1] - edges[0]
    return np.minimum(number.lowest + step * together * np.arange(bars + 1), number.highest), shown
