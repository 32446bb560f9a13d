"""A worker that is started when it is first asked, and started anew where it hangs, dies or runs out of memory.

Of what was in flight then, nobody knows which question did it. So all of them are asked again, a part at a time, and
then a part of the part that was in flight when it happened again, until it is one question alone: that one is given up,
and the rest has its answers. One bad prompt costs one row, not a night.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from corpusmith.engines.protocol import (
    A,
    Answer,
    EngineDied,
    OutOfMemory,
    Prompt,
    Q,
    Question,
    Renderer,
    Worker,
    failure,
)
from corpusmith.errors import InputError
from corpusmith.program import log
from corpusmith.stopping import Stopping

# 1,024 in flight, then 64, 4 and 1: it happens four times until a question stands alone.
_PARTS = 16
# Out of memory the batch is halved as well, and is mostly what was wrong.
_PARTS_OUT_OF_MEMORY = 4
_SMALLEST_SHARE = 1 / 16
_MAX_RESTARTS = 16
_NAMED = 16


@dataclass
class _Suspects(Generic[Q]):
    """Questions that were in flight when something happened. at_once: how many of them may be in flight together."""

    at_once: int
    questions: deque[Q] = field(default_factory=deque)


class SupervisedWorker(Generic[Q, A]):
    """Passes questions to a worker.

    start: starts one, with a share of the batch that the config asks for, 1 at first, halved where memory does not
    suffice. give_up: the answer to a question that has none, with the reason. stall_timeout: seconds without a sign of
    life after which a worker hangs. stopping: where the job has to stop, none is started, but Stopped raised.
    Raises InputError where one has been started again too often.
    """

    def __init__(
        self,
        start: Callable[[float], Worker[Q, A]],
        give_up: Callable[[Q, str], A],
        *,
        stall_timeout: float,
        stopping: Stopping | None = None,
        max_restarts: int = _MAX_RESTARTS,
    ) -> None:
        self._start, self._give_up = start, give_up
        self._stopping = stopping or Stopping(None, 0.0)
        self._stall_timeout, self._max_restarts = stall_timeout, max_restarts
        self._worker: Worker[Q, A] | None = None
        self._share, self._restarts, self._retries = 1.0, 0, 0
        self._waiting: deque[Q] = deque()
        self._suspects: list[_Suspects[Q]] = []
        self._in_flight: dict[int, Q] = {}
        self._given_up: list[A] = []
        self._asked_at = 0.0

    @property
    def retries(self) -> int:
        """How often a question was asked again."""
        return self._retries + (self._worker.retries if self._worker is not None else 0)

    @property
    def capacity(self) -> int:
        """How many questions may be in flight; to know that, the worker has to start."""
        return self._started().capacity

    @property
    def heard(self) -> float:
        """When the worker last gave a sign of life."""
        return self._worker.heard if self._worker is not None else time.monotonic()

    def submit(self, question: Q) -> None:
        """Takes a question."""
        self._waiting.append(question)
        if not self._suspects:
            self._feed()

    def collect(self, timeout: float | None = None) -> Sequence[A]:
        """Waits until some answers are there and gives them."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while self._in_flight or self._waiting or self._suspects or self._given_up:
            answers: Sequence[A]
            if self._given_up:
                answers, self._given_up = self._given_up, []
                return answers
            self._feed()
            now = time.monotonic()
            silent = now - max(self.heard, self._asked_at)
            try:
                patience = min(end - now, self._stall_timeout - silent)
                answers = self._started().collect(max(0.0, patience) if math.isfinite(patience) else None)
            except EngineDied as error:
                self._restart(str(error), out_of_memory=isinstance(error, OutOfMemory))
                continue
            for answer in answers:
                del self._in_flight[answer.handle]
            now = time.monotonic()
            # Of several workers one may hang while others answer.
            if self._in_flight and now - max(self.heard, self._asked_at) >= self._stall_timeout:
                self._restart(f"no sign of life for {self._stall_timeout:g} seconds", out_of_memory=False)
            if answers:
                return answers
            if now >= end:
                break
        return []

    def close(self) -> None:
        """Frees what the worker holds, where it was started."""
        if self._worker is not None:
            self._retries += self._worker.retries
            worker, self._worker = self._worker, None
            worker.close()

    def _started(self) -> Worker[Q, A]:
        while self._worker is None:
            try:
                # Nobody looks while a model is loaded: a signal ends the job at once then.
                with self._stopping.unattended():
                    self._worker = self._start(self._share)
            except OutOfMemory as error:
                if self._share <= _SMALLEST_SHARE:
                    raise InputError(f"does not start with {self._share:g} of its batch either: {error}") from error
                self._restart(str(error), out_of_memory=True)
            except EngineDied as error:
                if self._restarts == 0:
                    raise InputError(f"does not start: {error}") from error
                self._restart(str(error), out_of_memory=False)
        return self._worker

    def _feed(self) -> None:
        """Passes on as much as may be in flight: what is suspect first, and nothing else beside it."""
        while self._waiting or self._suspects:
            worker = self._started()
            if self._suspects:
                group = self._suspects[-1]
                if not group.questions and not self._in_flight:
                    self._suspects.pop()
                    continue
                source, room = group.questions, min(group.at_once, worker.capacity)
            else:
                source, room = self._waiting, worker.capacity
            if not source or len(self._in_flight) >= room:
                return
            question = source.popleft()
            if not self._in_flight:
                self._asked_at = time.monotonic()
            self._in_flight[question.handle] = question
            try:
                worker.submit(question)
            except EngineDied as error:
                self._restart(str(error), out_of_memory=isinstance(error, OutOfMemory))

    def _restart(self, reason: str, *, out_of_memory: bool) -> None:
        """Ends the worker, so that another one is started; decides what becomes of the questions in flight."""
        self.close()
        # A scheduler that ends a job tells all of its processes: that a worker ends then says nothing of questions.
        self._stopping.check()
        hanging, self._in_flight = list(self._in_flight.values()), {}
        self._restarts += 1
        if self._restarts > self._max_restarts:
            raise InputError(f"given up after {self._max_restarts} restarts; the last time: {reason}")
        if out_of_memory:
            self._share /= 2
        if len(hanging) == 1:
            log.error("%s, with one question in flight, which is given up: %s", reason, hanging[0].label)
            self._given_up.append(self._give_up(hanging[0], f"{reason}, when nothing else was asked"))
            # It was this question, and not the size of the batch.
            self._share = 1.0
        elif hanging:
            self._retries += len(hanging)
            named = "; ".join(question.label for question in hanging[:_NAMED])
            more = f"; and {len(hanging) - _NAMED:,} more" if len(hanging) > _NAMED else ""
            log.error("%s, with %s questions in flight: %s%s", reason, f"{len(hanging):,}", named, more)
            parts = _PARTS_OUT_OF_MEMORY if out_of_memory else _PARTS
            self._suspects.append(_Suspects(math.ceil(len(hanging) / parts), deque(hanging)))
        else:
            log.error("%s", reason)
        log.info("starting it again (%s of at most %s times)", self._restarts, self._max_restarts)


class SupervisedEngine(SupervisedWorker[Question, Answer]):
    """An engine whose prompts are made without it: where the store answers everything, it never starts."""

    def __init__(
        self,
        renderer: Renderer,
        start: Callable[[float], Worker[Question, Answer]],
        *,
        stall_timeout: float,
        stopping: Stopping | None = None,
    ) -> None:
        super().__init__(start, failure, stall_timeout=stall_timeout, stopping=stopping)
        self.family, self.template = renderer.family, renderer.template
        self._renderer = renderer

    def prepare(self, request: Mapping[str, Any]) -> Prompt:
        """The prompt of a row of a requests table."""
        return self._renderer.prepare(request)
