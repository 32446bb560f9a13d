"""The numbers in the result file of a harness, such as AgentBench.

    numbers_of({"overall": {"success": 0.4}}, {"success": {"value": "overall.success"}}, None)

A place is keys with dots between; in a list it is a number from 0. A key with dots in it is found, too, where nothing
else fits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from corpusmith.errors import InputError


def metrics_of(found: Any, wanted: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, dict[str, Any]]:
    """The metrics of a result file. wanted: by name, where value and stderr are, and which is better.

    where: the file, for errors. Raises InputError where a number is missing.
    """
    metrics = {}
    for name, metric in wanted.items():
        stderr = metric.get("stderr")
        metrics[name] = {
            "value": number_at(found, metric["value"], where),
            "stderr": None if stderr is None else number_at(found, stderr, where),
            "higher_is_better": metric.get("higher_is_better", True),
        }
    return metrics


def number_at(found: Any, place: str, where: str) -> float:
    """The number at a place. Raises InputError where there is none."""
    value = _at(found, place)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        keys = ", ".join(map(str, found)) if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise InputError(f"{where}: has no number at {place!r}; at the top it has {keys}")
    return float(value)


def _at(found: Any, place: str) -> Any:
    if isinstance(found, Mapping) and place in found:
        return found[place]
    parts = place.split(".")
    for end in range(len(parts) - 1, 0, -1):
        head, rest = ".".join(parts[:end]), ".".join(parts[end:])
        if isinstance(found, Mapping) and head in found:
            value = _at(found[head], rest)
            if value is not None:
                return value
    if isinstance(found, list) and parts[0].isdigit() and int(parts[0]) < len(found):
        value = found[int(parts[0])]
        return value if len(parts) == 1 else _at(value, ".".join(parts[1:]))
    return None
