"""Jobs that SLURM's executor would wait for for ever."""

from __future__ import annotations

import asyncio
import logging

import pytest

from corpusmith.job_watch import JobWatch

LOG = logging.getLogger("test")


def watched(*looks: dict[str, str] | None, why: dict[str, str] | None = None) -> list[dict[str, str] | None]:
    """What the executor is told at each look, where SLURM says this, and this of jobs that wait."""
    answers = iter(looks)

    async def query(command: str, logger: object) -> tuple[dict[str, str] | None, float | None]:
        found = next(answers)
        return (None, None) if found is None else (dict(found), 0.1)

    watch = JobWatch(query, lambda: why or {}, LOG)
    return [asyncio.run(watch("squeue", LOG))[0] for _ in looks]


def test_states_are_handed_on_as_they_are() -> None:
    looks = [{"1": "PENDING"}, {"1": "RUNNING", "2": "PENDING"}, {"1": "COMPLETED", "2": "FAILED"}]
    assert watched(*looks) == looks


def test_a_job_that_stays_preempted_has_failed_and_one_that_is_queued_again_has_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stays, again = {"1": "PREEMPTED", "2": "RUNNING"}, {"1": "PENDING", "2": "RUNNING"}
    assert watched(stays, stays, again, stays, stays, again)[-1] == again
    with caplog.at_level(logging.WARNING):
        *_, before, told = watched({"1": "RUNNING", "2": "RUNNING"}, stays, stays, stays)
    assert before == stays
    assert told == {"1": "CANCELLED", "2": "RUNNING"}
    assert "job 1 was preempted" in caplog.text
    assert "job 2" not in caplog.text


def test_a_job_that_was_there_and_is_forgotten_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    there, gone = {"1": "RUNNING", "2": "RUNNING"}, {"2": "RUNNING"}
    assert watched(there, gone, gone, there, gone, gone)[-1] == gone
    with caplog.at_level(logging.WARNING):
        assert watched(there, gone, gone, gone)[-1] == {"1": "FAILED", "2": "RUNNING"}
    assert "job 1 is no longer known" in caplog.text


def test_a_job_that_has_ended_may_be_forgotten_and_one_that_is_not_listed_yet_is_waited_for() -> None:
    assert watched({"1": "COMPLETED"}, {}, {}, {}, {}) == [{"1": "COMPLETED"}, {}, {}, {}, {}]


def test_a_slurm_that_does_not_answer_proves_nothing() -> None:
    there = {"1": "RUNNING"}
    assert watched(there, {}, None, None, None, {}, there) == [there, {}, None, None, None, {}, there]


def test_a_job_is_told_to_have_failed_once() -> None:
    *_, told, after = watched({"1": "RUNNING"}, {}, {}, {}, {})
    assert told == {"1": "FAILED"}
    assert after == {}


def test_what_waits_in_vain_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("corpusmith.job_watch._SECONDS_BETWEEN_REASONS", 0.0)
    pending = {"1": "PENDING", "2": "PENDING", "3": "RUNNING"}
    with caplog.at_level(logging.WARNING):
        assert (
            watched(pending, pending, why={"1": "launch failed requeued held", "3": "held", "9": "held"})
            == [pending] * 2
        )
    assert [record.getMessage() for record in caplog.records] == [
        "SLURM job 1 does not start by itself: launch failed requeued held"
    ]
