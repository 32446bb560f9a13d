"""An evaluation in a few lines for people. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from corpusmith.plain_text import table_lines


def evaluation_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """A table with a line for each metric: every system's number, and what the released answers are ahead of greedy."""
    rows = results["rows"]
    left_out = sum(rows["dropped"].values())
    yield f"Against references, {rows['kept']:,} sources" + (
        f" ({left_out:,} left out: no answer):" if left_out else ":"
    )
    metrics = results["corpus_metrics"] | results["metrics"]
    systems = list(next(iter(metrics.values()))["systems"])
    lines = []
    for name, metric in metrics.items():
        numbers = [_number(metric["systems"][system]) for system in systems]
        ahead = metric["against_greedy"]["released"]
        lines.append([f"  {name}", metric["direction"], *numbers, _number(ahead, sign="+")])
    yield from table_lines(["  metric", "better", *(f">{system}" for system in systems), ">released - greedy"], lines)


def _number(values: Mapping[str, Any], sign: str = "") -> str:
    number = next(values[name] for name in ("score", "mean", "difference") if name in values)
    if number is None:
        return "-"
    error = values.get("standard_error")
    return f"{number:{sign}.2f}" + (f" ± {error:.2f}" if error is not None else "")
