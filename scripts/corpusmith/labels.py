"""Labels of maths problems by which rows stay: pass rate, problem type, source, inference mode, solution length.

labels = parse_labels({"pass_rate": {"at_most": 0.25, "not_available": "drop"}, "problem_type": None})
parse_pass_rate("0.25"), parse_pass_rate("n/a")                                  0.25, None
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from corpusmith.errors import InputError

LISTED = ("problem_type", "problem_source", "inference_mode")
NOT_AVAILABLE = ("drop", "keep", "fail")

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Band:
    """Both ends belong to it; None is no end."""

    at_least: float | None = None
    at_most: float | None = None

    @property
    def open(self) -> bool:
        """Whether it has no ends."""
        return self.at_least is None and self.at_most is None


@dataclass(frozen=True)
class Labels:
    """Which rows stay. not_available: what becomes of rows without a pass rate; listed: by column, what may stand."""

    pass_rate: Band = Band()
    not_available: str = "keep"
    listed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    solution_tokens: Band = Band()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that decide, in the order in which they do."""
        rate = () if self.pass_rate.open and self.not_available == "keep" else ("pass_rate",)
        return (*rate, *(name for name in LISTED if name in self.listed))


def parse_labels(value: Any) -> Labels:
    """Labels as they are written in a config. Raises InputError that names the wrong key.

    Every key may be missing or null. Where the pass rate has a bound, rows without one are dropped unless
    `not_available` says otherwise; where it has none, they are kept.
    """
    labels = _object(value, "labels", ("pass_rate", *LISTED, "solution_tokens"))
    rate = _object(labels.get("pass_rate"), "labels.pass_rate", ("at_least", "at_most", "not_available"))
    tokens = _object(labels.get("solution_tokens"), "labels.solution_tokens", ("at_least", "at_most"))
    band = _band(rate, "labels.pass_rate", 1.0)
    not_available = rate.get("not_available")
    if not_available is None:
        not_available = "keep" if band.open else "drop"
    if not_available not in NOT_AVAILABLE:
        raise InputError(f"labels.pass_rate.not_available: {not_available!r} is none of {', '.join(NOT_AVAILABLE)}")
    listed = {}
    for name in LISTED:
        values = labels.get(name)
        if values is None:
            continue
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            raise InputError(f"labels.{name}: {values!r} is no list of texts; write the values of rows that stay")
        listed[name] = frozenset(values)
    return Labels(band, not_available, listed, _band(tokens, "labels.solution_tokens", None))


def _object(value: Any, place: str, keys: Iterable[str]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not set(value) <= set(keys):
        raise InputError(f"{place}: {value!r:.200}: write an object with none but the keys {', '.join(keys)}")
    return value


def _band(value: Mapping[str, Any], place: str, most: float | None) -> Band:
    for end in (value.get("at_least"), value.get("at_most")):
        number = isinstance(end, int if most is None else int | float) and not isinstance(end, bool)
        if end is not None and not (number and end >= 0 and (most is None or end <= most)):
            wanted = "a whole number, 0 or more" if most is None else f"a number from 0 to {most:g}"
            raise InputError(f"{place}: {end!r} is no bound; write {wanted}, or null")
    band = Band(value.get("at_least"), value.get("at_most"))
    if band.at_least is not None and band.at_most is not None and band.at_least > band.at_most:
        raise InputError(f"{place}: at_least {band.at_least} is above at_most {band.at_most}: no row could stay")
    return band


def parse_pass_rate(text: str | None) -> float | None:
    """A pass rate: 0 to 1, or None where it is not available. Raises ValueError for anything else."""
    if text is None:
        return None
    stripped = "".join(text.split())
    if stripped.lower() == "n/a":
        return None
    number = text.strip()
    if _NUMBER.fullmatch(number) is None or not 0 <= float(number) <= 1:
        raise ValueError(f"{text!r} is neither a number from 0 to 1 nor n/a")
    return abs(float(number))


def pass_rates(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Pass rates (float64, NaN where there is none) and which of them are bad. Each spelling is parsed once."""
    encoded = texts.dictionary_encode()
    rates, bad = [], []
    for text in encoded.dictionary.to_pylist():
        try:
            rate = parse_pass_rate(text)
        except ValueError:
            rates.append(np.nan)
            bad.append(True)
        else:
            rates.append(np.nan if rate is None else rate)
            bad.append(False)
    # The last place is that of nulls.
    places = encoded.indices.fill_null(len(rates)).to_numpy(zero_copy_only=False)
    return np.array([*rates, np.nan])[places], np.array([*bad, False])[places]
