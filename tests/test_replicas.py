"""Several workers of one kind, each in a process of its own with a device of its own, as one worker."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial

import pytest

from corpusmith.engines.hosted import HostedWorker
from corpusmith.engines.protocol import EngineDied
from corpusmith.engines.replicas import Replicas
from corpusmith.engines.supervised import SupervisedWorker
from corpusmith.pairs import PairQuestion, PairScore, no_score
from hosted_workers import DIE, HANG, SLOW, LengthWorker, NeverStarts, WhereWorker
from test_supervised import answers, children


def start(kind: type[LengthWorker], device: str, **settings: int) -> HostedWorker[PairQuestion, PairScore]:
    return HostedWorker(partial(kind, **settings), {"CUDA_VISIBLE_DEVICES": device})


def replicas(count: int, kind: type[LengthWorker] = LengthWorker, **settings: int) -> Replicas[PairQuestion, PairScore]:
    return Replicas([partial(start, kind, str(device), **settings) for device in range(count)])


def test_each_question_is_answered_once_and_each_device_has_its_share() -> None:
    before = children()
    worker = replicas(3, WhereWorker, batch=4, capacity=20)
    assert worker.capacity == 60
    found = answers(worker, ["x"] * 300)
    assert sorted(found) == list(range(300))
    shares = Counter(answer.score for answer in found.values())
    assert sorted(shares) == [0.0, 1.0, 2.0]
    # A slow one has less than a third, and what it can hold at least.
    assert min(shares.values()) >= 20
    assert worker.collect() == []
    worker.close()
    assert children() == before


def test_one_that_is_slow_holds_nobody_up() -> None:
    worker = replicas(2, batch=1, capacity=4)
    found = answers(worker, [f"{SLOW} 5", *["x"] * 60])
    # What was asked last of the quick one came before the answer of the slow one.
    assert list(found).index(0) > 20
    worker.close()


def test_none_stays_behind_where_one_does_not_start() -> None:
    before = children()
    with pytest.raises(EngineDied, match="SIGKILL"):
        Replicas([partial(start, LengthWorker, "0"), partial(HostedWorker, partial(NeverStarts, DIE))])
    assert children() == before


def test_one_that_hangs_is_noticed_while_the_others_have_work_for_long(caplog: pytest.LogCaptureFixture) -> None:
    worker = SupervisedWorker(lambda share: replicas(2, batch=1, capacity=4), no_score, stall_timeout=5.0)
    found = answers(worker, [HANG, *[SLOW] * 40])
    worker.close()
    # While the other one had still work to do: after ten of its forty.
    assert re.search(r"no sign of life for 5 seconds, with [5-8] questions in flight", caplog.text)
    assert [handle for handle, answer in found.items() if answer.error is not None] == [0]


@pytest.mark.parametrize("trouble", [HANG, DIE])
def test_one_that_hangs_or_dies_beside_others_that_go_on_is_noticed(trouble: str) -> None:
    before = children()
    texts = ["x"] * 200
    texts[5] = trouble
    worker = SupervisedWorker(lambda share: replicas(2, batch=2, capacity=8), no_score, stall_timeout=5.0)
    found = answers(worker, texts)
    worker.close()
    assert [handle for handle, answer in found.items() if answer.error is not None] == [5]
    assert sum(answer.score for answer in found.values() if answer.error is None) == 199
    assert children() == before
