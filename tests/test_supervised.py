"""Workers in processes of their own, and what becomes of questions where a worker hangs, dies or wants more memory."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hosted_workers
from conftest import ROOT
from corpusmith.asking import ask
from corpusmith.engines import supervised as supervised_worker
from corpusmith.engines.hosted import HostedWorker
from corpusmith.engines.protocol import EngineDied, OutOfMemory, Worker
from corpusmith.engines.supervised import SupervisedWorker
from corpusmith.errors import InputError
from corpusmith.pairs import PairQuestion, PairScore, no_score
from corpusmith.stopping import Stopped, Stopping
from hosted_workers import (
    BUG,
    DIE,
    GATE,
    HANG,
    MEMORY,
    WRONG,
    LengthWorker,
    NeverStarts,
    SmallMemory,
    TroubledWorker,
    question,
)

NEVER = Stopping(None, 0.0)


def children() -> set[int]:
    """The processes that this one has started and that still run."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z" and b"resource_tracker" not in cmdline(status.parent):
            found.add(int(status.parent.name))
    return found


def cmdline(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def answers(worker: Worker[PairQuestion, PairScore], texts: Iterable[str]) -> dict[int, PairScore]:
    """Asks for all texts; each is answered once."""
    found: dict[int, PairScore] = {}

    def take(answer: PairScore) -> None:
        assert answer.handle not in found
        found[answer.handle] = answer

    ask(worker, (question(handle, text) for handle, text in enumerate(texts)), take, NEVER)
    return found


# --- a process of its own ---


def test_a_hosted_worker_answers_and_leaves_nothing_behind() -> None:
    before = children()
    worker: HostedWorker[PairQuestion, PairScore] = HostedWorker(partial(LengthWorker, batch=3, capacity=7))
    assert worker.capacity == 7
    texts = ["x" * (place % 50) for place in range(300)]
    found = answers(worker, texts)
    assert [found[place].score for place in range(300)] == [len(text) for text in texts]
    assert worker.collect() == []
    worker.close()
    assert children() == before


def test_questions_can_be_handed_over_while_the_process_is_busy_and_does_not_read(tmp_path: Path) -> None:
    worker: HostedWorker[PairQuestion, PairScore] = HostedWorker(partial(LengthWorker, capacity=400))
    # The process is busy until this one has handed over the rest.
    gate = tmp_path / "open"
    worker.submit(question(0, f"{GATE}{gate}"))
    # Far more than a pipe holds.
    for handle in range(1, 300):
        worker.submit(question(handle, "x" * 20_000))
    gate.touch()
    found = 0
    while found < 300:
        found += len(worker.collect())
    worker.close()


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (DIE, EngineDied, "SIGKILL; the machine may have run out of memory"),
        (MEMORY, OutOfMemory, "MemoryError: the text is too long"),
        (BUG, EngineDied, "RuntimeError: a bug"),
        (WRONG, InputError, "no such model"),
    ],
)
def test_how_a_hosted_worker_ends_is_told(text: str, kind: type[Exception], says: str) -> None:
    before = children()
    worker: HostedWorker[PairQuestion, PairScore] = HostedWorker(LengthWorker)
    worker.submit(question(0, text))
    with pytest.raises(kind) as caught:
        worker.collect(30)
    assert type(caught.value) is kind
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    worker.close()
    assert children() == before
    # The same before it has started.
    with pytest.raises(kind, match=says.split(";")[0]):
        HostedWorker(partial(NeverStarts, text))
    assert children() == before


def test_one_that_hangs_is_waited_for_as_long_as_was_said_and_can_be_ended() -> None:
    before = children()
    worker: HostedWorker[PairQuestion, PairScore] = HostedWorker(LengthWorker)
    worker.submit(question(0, HANG))
    begin = time.monotonic()
    assert worker.collect(0.3) == []
    assert 0.3 <= time.monotonic() - begin < 20
    assert worker.heard < begin
    worker.close()
    assert time.monotonic() - begin < 60
    assert children() == before


OWNER = """
import sys, time
from functools import partial
sys.path[:0] = {paths!r}
from corpusmith.engines.hosted import HostedWorker
from hosted_workers import HANG, LengthWorker, question
if __name__ == "__main__":
    worker = HostedWorker(LengthWorker)
    worker.submit(question(0, HANG))
    print(worker._process.pid, flush=True)
    time.sleep(3600)
"""


def test_no_worker_outlives_an_owner_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "owner.py"
    program.write_text(OWNER.format(paths=[str(ROOT / "scripts"), str(ROOT / "tests")]))
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        hosted = int(owner.stdout.readline())
        owner.kill()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{hosted}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- started again ---


class PretendedTime:
    """Time that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self._now = 1000.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        # More than a rounding takes away.
        self._now += seconds + 1e-6


def supervised(start: Any, **settings_: Any) -> SupervisedWorker[PairQuestion, PairScore]:
    return SupervisedWorker(start, no_score, **{"stall_timeout": 60.0} | settings_)


@settings(max_examples=60)
@given(
    count=st.integers(1, 300),
    troubles=st.dictionaries(st.integers(0, 299), st.sampled_from([HANG, DIE, MEMORY]), max_size=2),
    capacity=st.integers(1, 60),
    batch=st.integers(1, 20),
)
def test_what_brings_a_worker_down_is_given_up_and_all_else_is_answered(
    count: int, troubles: dict[int, str], capacity: int, batch: int
) -> None:
    texts = [troubles.get(place, "x" * (place % 7)) for place in range(count)]
    with pytest.MonkeyPatch.context() as patch:
        # What takes longer on a busy machine is no hanging.
        clock = PretendedTime()
        for module in (supervised_worker, hosted_workers):
            patch.setattr(module, "time", clock)
        worker = supervised(lambda share: TroubledWorker(batch, capacity), stall_timeout=0.05)
        found = answers(worker, texts)
    assert sorted(found) == list(range(count))
    failed = {handle for handle, answer in found.items() if answer.error is not None}
    assert failed == {place for place in troubles if place < count}
    assert all(found[place].score == len(texts[place]) for place in range(count) if place not in failed)


def test_one_that_hangs_is_named_given_up_and_the_rest_answered_in_real_processes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = children()
    texts = ["x"] * 40
    texts[17] = HANG
    starts: list[float] = []

    def start(share: float) -> HostedWorker[PairQuestion, PairScore]:
        starts.append(share)
        return HostedWorker(partial(LengthWorker, batch=4, capacity=32))

    worker = supervised(start, stall_timeout=5.0)
    with caplog.at_level(logging.INFO):
        found = answers(worker, texts)
    worker.close()
    assert [handle for handle, answer in found.items() if answer.error is not None] == [17]
    assert found[17].error == "no sign of life for 5 seconds, when nothing else was asked"
    assert sum(answer.score for answer in found.values() if answer.error is None) == 39
    # 32 in flight, then 2, then the one.
    assert starts == [1.0] * len(starts)
    assert 3 <= len(starts) <= 4
    assert "with one question in flight, which is given up: label 17" in caplog.text
    assert children() == before


def test_out_of_memory_the_batch_is_halved_until_it_fits() -> None:
    shares: list[float] = []

    def start(share: float) -> SmallMemory:
        shares.append(share)
        return SmallMemory(int(64 * share), holds=20)

    worker = supervised(start)
    found = answers(worker, ["x"] * 500)
    assert all(answer.error is None for answer in found.values())
    assert shares == [1.0, 0.5, 0.25]
    assert worker.retries > 0


def test_a_batch_that_does_not_fit_at_the_start_is_halved_and_at_last_refused() -> None:
    def needs(most: float, share: float) -> LengthWorker:
        if share > most:
            raise OutOfMemory("no room for the model")
        return LengthWorker()

    assert len(answers(supervised(partial(needs, 0.25)), ["x"] * 5)) == 5
    with pytest.raises(InputError, match=r"does not start with 0[.]0625 of its batch either: no room"):
        answers(supervised(partial(needs, 0.01)), ["x"])


def test_one_that_fails_at_its_first_start_is_not_started_again() -> None:
    started = []

    def start(share: float) -> LengthWorker:
        started.append(share)
        raise EngineDied("a broken driver")

    with pytest.raises(InputError, match="does not start: a broken driver"):
        answers(supervised(start), ["x"])
    assert len(started) == 1


def test_restarts_are_bounded() -> None:
    started = []

    def start(share: float) -> TroubledWorker:
        started.append(share)
        return TroubledWorker()

    with pytest.raises(InputError, match="given up after 5 restarts; the last time: it died"):
        answers(supervised(start, max_restarts=5), [DIE] * 100)
    assert len(started) == 6


def test_a_job_that_has_to_stop_starts_nothing_again() -> None:
    started = []

    def start(share: float) -> TroubledWorker:
        started.append(share)
        return TroubledWorker()

    with Stopping(None, 60.0) as stopping:
        worker = supervised(start, stopping=stopping)

        def questions() -> Iterable[PairQuestion]:
            yield question(0, "x")
            os.kill(os.getpid(), signal.SIGTERM)
            yield question(1, "x")

        # The first is in flight when the signal comes; whatever comes back of it is taken.
        taken: list[PairScore] = []
        with pytest.raises(Stopped, match="SIGTERM"):
            ask(worker, questions(), taken.append, stopping)
        assert [answer.handle for answer in taken] == [0]
        worker.submit(question(2, DIE))
        with pytest.raises(Stopped):
            worker.collect()
    assert len(started) == 1


def test_nothing_is_started_for_nothing() -> None:
    worker = supervised(lambda share: pytest.fail("started"))
    assert answers(worker, []) == {}
    worker.close()
