"""A scorer as a worker: pairs in, scores out, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from corpusmith.pairs import Pair, PairQuestion, PairScore, Scored, no_score


class Scorer(Protocol):
    """What scores pairs, in two parts: the first is for a CPU, and may run while the second scores other pairs."""

    def prepare(self, pairs: Sequence[Pair]) -> Any:
        """The pairs as `score_batches` wants them."""

    def score_batches(self, prepared: Any) -> Iterator[list[Scored]]:
        """What it says of each pair, in an order of its own, batch by batch as they come."""


class ScoringWorker:
    """A scorer as a worker. window: pairs that are sorted by length together: enough for batches of like length."""

    retries = 0
    heard = math.inf

    def __init__(self, scorer: Scorer, window: int) -> None:
        self._scorer, self._window = scorer, window
        # One window is scored, one prepared, and the next one comes.
        self.capacity = 3 * window
        self._waiting: list[PairQuestion] = []
        self._current: Sequence[PairQuestion] = []
        self._batches: Iterator[list[Scored]] = iter(())
        self._next: tuple[Sequence[PairQuestion], Future[Any]] | None = None
        self._preparing = ThreadPoolExecutor(1, "prepares pairs")

    def submit(self, question: PairQuestion) -> None:
        """Takes a question."""
        self._waiting.append(question)
        if self._next is None and len(self._waiting) >= self._window:
            self._prepare()

    def collect(self, timeout: float | None = None) -> Sequence[PairScore]:
        """Scores one batch, however long that takes."""
        batch = next(self._batches, None)
        if batch is None:
            if self._next is None:
                if not self._waiting:
                    return []
                self._prepare()
            assert self._next is not None
            (self._current, prepared), self._next = self._next, None
            self._batches = self._scorer.score_batches(prepared.result())
            if len(self._waiting) >= self._window:
                self._prepare()
            batch = next(self._batches)
        return [_answer(self._current[scored.place], scored) for scored in batch]

    def close(self) -> None:
        """Drops the scorer."""
        self._preparing.shutdown(cancel_futures=True)
        self._batches, self._next = iter(()), None
        del self._scorer

    def _prepare(self) -> None:
        some, self._waiting = self._waiting[: self._window], self._waiting[self._window :]
        self._next = some, self._preparing.submit(self._scorer.prepare, [question.pair for question in some])


def _answer(question: PairQuestion, scored: Scored) -> PairScore:
    if scored.error is not None:
        return no_score(question, scored.error)
    return PairScore(question.handle, scored.score, scored.truncated)
