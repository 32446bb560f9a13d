"""Workers for tests of what stands between them and who asks: importable, as they run in processes of their own."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from corpusmith.engines.protocol import EngineDied, OutOfMemory
from corpusmith.errors import InputError
from corpusmith.pairs import Pair, PairQuestion, PairScore, Scored

HANG, DIE, MEMORY, BUG, WRONG, SLOW, GATE = "hang", "die", "memory", "bug", "wrong", "slow", "gate "


def question(handle: int, text: str) -> PairQuestion:
    return PairQuestion(handle, Pair("source", text), f"label {handle}")


class LengthWorker:
    """Answers a batch at a time with the lengths of the texts; some texts bring its process to an end, or to none."""

    retries = 0
    heard = math.inf

    def __init__(self, batch: int = 4, capacity: int = 16) -> None:
        self.capacity, self._batch = capacity, batch
        self._waiting: list[PairQuestion] = []

    def submit(self, question: PairQuestion) -> None:
        assert len(self._waiting) < self.capacity
        self._waiting.append(question)

    def collect(self, timeout: float | None = None) -> Sequence[PairScore]:
        batch, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
        for asked in batch:
            self.meet(asked.pair.hypothesis)
        return [PairScore(asked.handle, float(len(asked.pair.hypothesis)), False) for asked in batch]

    def meet(self, text: str) -> None:
        if text == HANG:
            time.sleep(3600)
        elif text == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        elif text == MEMORY:
            raise MemoryError("the text is too long")
        elif text == BUG:
            raise RuntimeError("a bug\nof two lines")
        elif text == WRONG:
            raise InputError("no such model")
        elif text.startswith(SLOW):
            time.sleep(float(text.removeprefix(SLOW) or 0.5))
        elif text.startswith(GATE):
            # Nobody makes the file where the caller does not come back.
            end = time.monotonic() + 60
            while not Path(text.removeprefix(GATE)).exists():
                assert time.monotonic() < end, "the gate stays closed"
                time.sleep(0.01)

    def close(self) -> None:
        self._waiting = []


class TroubledWorker(LengthWorker):
    """The same without a process: whatever would end it raises what stands for that."""

    def meet(self, text: str) -> None:
        if text == HANG:
            self._hangs = True
        elif text == DIE:
            raise EngineDied("it died")
        elif text == MEMORY:
            raise OutOfMemory("out of memory")

    def __init__(self, batch: int = 4, capacity: int = 16) -> None:
        super().__init__(batch, capacity)
        self.heard, self._hangs = time.monotonic(), False

    def collect(self, timeout: float | None = None) -> Sequence[PairScore]:
        answers = [] if self._hangs else super().collect(timeout)
        if self._hangs:
            # Time passes only as long as the caller is ready to wait.
            time.sleep(min(timeout or 0.0, 0.01))
            return []
        self.heard = time.monotonic()
        return answers


class SmallMemory(LengthWorker):
    """Holds so many questions of a batch, and runs out of memory with more."""

    def __init__(self, batch: int, holds: int) -> None:
        super().__init__(batch, capacity=2 * batch)
        self._holds = holds

    def collect(self, timeout: float | None = None) -> Sequence[PairScore]:
        if min(self._batch, len(self._waiting)) > self._holds:
            raise OutOfMemory("out of memory")
        return super().collect(timeout)


class NeverStarts(LengthWorker):
    """There is something wrong with it."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.meet(what)


class WhereWorker(LengthWorker):
    """Answers with the number of the device that it sees."""

    def collect(self, timeout: float | None = None) -> Sequence[PairScore]:
        time.sleep(0.01)
        device = float(os.environ["CUDA_VISIBLE_DEVICES"])
        return [PairScore(answer.handle, device, False) for answer in super().collect(timeout)]


class LengthScorer:
    """Scores with the length of the answer, at once."""

    def __init__(self, *, parts: int, tokens_per_batch: int) -> None:
        pass

    def prepare(self, pairs: Sequence[Pair]) -> Sequence[Pair]:
        return pairs

    def score_batches(self, pairs: Sequence[Pair]) -> Iterator[list[Scored]]:
        yield [Scored(place, float(len(pair.hypothesis)), False) for place, pair in enumerate(pairs)]
