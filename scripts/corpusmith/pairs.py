"""What a scorer is asked, and what it answers. Apart from the scorers, so that asking loads none of their libraries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Pair:
    """What is scored.

    source: what the answer is held against: a text to translate, or, for scorers that judge conversations, the
    conversation so far as JSON (see `corpusmith.metrics`). reference: a right answer, where one is known.
    """

    source: str
    hypothesis: str
    reference: str | None = None


@dataclass(frozen=True)
class PairQuestion:
    """A pair that wants a score. handle: the caller's number for it; label: what a log calls it."""

    handle: int
    pair: Pair
    label: str = ""


@dataclass(frozen=True)
class PairScore:
    """A score. truncated: whether the scorer saw only the beginning; error: why there is no score."""

    handle: int
    score: float
    truncated: bool
    error: str | None = None


class Scored(NamedTuple):
    """What a scorer says of one pair. place: its number among the pairs; the rest as in PairScore."""

    place: int
    score: float
    truncated: bool
    error: str | None = None


def no_score(question: PairQuestion, reason: str) -> PairScore:
    """The answer to a pair that gets no score, on one line."""
    return PairScore(question.handle, math.nan, False, " ".join(reason.split()))
