"""Several workers that are alike, as one: each GPU with a model of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Generic

from corpusmith.engines.hosted import HostedWorker
from corpusmith.engines.protocol import A, Q


class Replicas(Generic[Q, A]):
    """Starts workers, and shares out the questions: each goes to the one that has least to do.

    They start one after the other, as a model passes through main memory on its way to its GPU. Raises what one of them
    raises that does not start, or that fails later: then none of them goes on.
    """

    def __init__(self, starts: Sequence[Callable[[], HostedWorker[Q, A]]]) -> None:
        self._workers: list[HostedWorker[Q, A]] = []
        try:
            for start in starts:
                self._workers.append(start())
        except BaseException:
            self.close()
            raise
        self._in_flight = [0] * len(self._workers)
        self._busy_since = [0.0] * len(self._workers)
        self.capacity = sum(worker.capacity for worker in self._workers)

    @property
    def retries(self) -> int:
        """How often a question was asked again."""
        return sum(worker.retries for worker in self._workers)

    @property
    def heard(self) -> float:
        """When the one of those that have work which has been silent longest gave a sign of life."""
        signs = [max(self._workers[place].heard, self._busy_since[place]) for place in self._busy()]
        return min(signs, default=time.monotonic())

    def submit(self, question: Q) -> None:
        """Takes a question."""
        place = min(range(len(self._workers)), key=self._in_flight.__getitem__)
        if not self._in_flight[place]:
            self._busy_since[place] = time.monotonic()
        self._in_flight[place] += 1
        self._workers[place].submit(question)

    def collect(self, timeout: float | None = None) -> Sequence[A]:
        """Waits until some answers are there and gives them."""
        busy = {self._workers[place].fileno(): place for place in self._busy()}
        answers: list[A] = []
        for descriptor in wait(list(busy), timeout) if busy else ():
            place = busy[descriptor]  # type: ignore[index]
            some = self._workers[place].collect(0.0)
            self._in_flight[place] -= len(some)
            answers += some
        return answers

    def close(self) -> None:
        """Ends all of them."""
        for worker in self._workers:
            worker.close()

    def _busy(self) -> list[int]:
        return [place for place, count in enumerate(self._in_flight) if count]
