"""What a scorer is asked, and what it answers. Apart from the scorers, so that asking loads none of their libraries."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Pair:
    """What is scored. reference: a right translation, where one is known."""

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


def no_score(question: PairQuestion, reason: str) -> PairScore:
    """The answer to a pair that gets no score, on one line."""
    return PairScore(question.handle, math.nan, False, " ".join(reason.split()))


class Scorer(Protocol):
    """What scores pairs."""

    def score_batches(self, pairs: Sequence[Pair]) -> Iterator[list[tuple[int, float, bool]]]:
        """Of each pair its place among the pairs, its score and whether the scorer saw only its beginning.

        In an order of the scorer's own, batch by batch as they come.
        """


class ScoringWorker:
    """A scorer as a worker. window: pairs that are sorted by length together: enough for batches of like length."""

    retries = 0
    heard = math.inf

    def __init__(self, scorer: Scorer, window: int) -> None:
        self._scorer, self._window = scorer, window
        # While one window is scored, the next one comes.
        self.capacity = 2 * window
        self._waiting: list[PairQuestion] = []
        self._current: Sequence[PairQuestion] = []
        self._batches: Iterator[list[tuple[int, float, bool]]] = iter(())

    def submit(self, question: PairQuestion) -> None:
        """Takes a question."""
        self._waiting.append(question)

    def collect(self, timeout: float | None = None) -> Sequence[PairScore]:
        """Scores one batch, however long that takes."""
        batch = next(self._batches, None)
        if batch is None:
            if not self._waiting:
                return []
            self._current, self._waiting = self._waiting[: self._window], self._waiting[self._window :]
            self._batches = self._scorer.score_batches([question.pair for question in self._current])
            batch = next(self._batches)
        return [PairScore(self._current[place].handle, score, truncated) for place, score, truncated in batch]

    def close(self) -> None:
        """Drops the scorer."""
        self._batches = iter(())
        del self._scorer
