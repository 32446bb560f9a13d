"""Jobs that end in time: real programs under real signals, and a pretend squeue."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import ROOT
from corpusmith import stopping as module
from corpusmith.errors import InputError
from corpusmith.stopping import Stopped, Stopping, job_end, parse_deadline

# Loads, runs until it has a reason to stop, drains for as long as it may, keeps what it has.
JOB = """
import json, sys, time
from corpusmith.program import run
from corpusmith.stopping import Stopping
order = json.loads(sys.argv[1])
def say(what): print(json.dumps([what, time.time()]), flush=True)
def main():
    try:
        with Stopping(order["deadline"], order["drain_seconds"]) as stopping:
            say("loading")
            time.sleep(order["load"])
            with stopping.attended():
                if order["load_late"]:
                    with stopping.unattended():
                        say("loading late")
                        time.sleep(order["load_late"])
                say("running")
                while stopping.reason is None:
                    time.sleep(0.01)
                say("draining")
                while not stopping.expired():
                    time.sleep(0.01)
            say("keeping")
            stopping.check()
            say("never")
    finally:
        say("cleaned up")
run(main)
"""
# A squeue that does not answer.
SILENT = "exec sleep 20"
KEPT = "; what is finished is kept, start again to go on"

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a job."""
    started: list[subprocess.Popen[str]] = []

    def begin(**order: Any) -> subprocess.Popen[str]:
        order = {"deadline": None, "drain_seconds": 0.5, "load": 0, "load_late": 0, **order}
        process = subprocess.Popen(
            [sys.executable, "-c", JOB, json.dumps(order)],
            env=os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "TZ": "KST-9"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def heard(process: subprocess.Popen[str], expected: str) -> float:
    """When a job says what it is expected to say next."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    what, when = json.loads(line)
    assert what == expected
    return when


def end(process: subprocess.Popen[str]) -> tuple[list[str], list[str]]:
    """What a job says until it ends, and the lines of its log, without the time."""
    assert process.stdout is not None
    assert process.stderr is not None
    process.wait(timeout=300)
    lines = [line.rstrip("\n") for line in process.stderr]
    lines = [line if line.startswith("stopped:") else line.partition(" ")[2] for line in lines]
    return [json.loads(line)[0] for line in process.stdout], lines


# --- SIGTERM ---


def test_the_first_sigterm_lets_what_is_under_way_come_back(start: Start) -> None:
    job = start(drain_seconds=1.0)
    heard(job, "loading")
    heard(job, "running")
    sent = time.time()
    job.terminate()
    assert heard(job, "draining") - sent < 15
    assert 1.0 <= heard(job, "keeping") - sent < 15
    said, lines = end(job)
    assert said == ["cleaned up"]
    assert job.returncode == 143
    reason = "the job was told to end (SIGTERM)"
    assert lines == [
        f"{reason}: nothing more is begun, what is under way is waited for a while",
        f"stopped: {reason}{KEPT}",
    ]


def test_the_second_sigterm_ends_it_at_once(start: Start) -> None:
    job = start(drain_seconds=3600)
    heard(job, "loading")
    heard(job, "running")
    job.terminate()
    heard(job, "draining")
    begin = time.monotonic()
    job.terminate()
    said, lines = end(job)
    assert time.monotonic() - begin < 15
    assert (said, lines[1:], job.returncode) == (["cleaned up"], ["ended by a signal: SIGTERM"], 143)


@pytest.mark.parametrize("place", ["load", "load_late"])
def test_while_nobody_looks_sigterm_ends_it_at_once(start: Start, place: str) -> None:
    job = start(drain_seconds=3600, **{place: 60})
    heard(job, "loading")
    if place == "load_late":
        heard(job, "loading late")
    begin = time.monotonic()
    job.terminate()
    said, lines = end(job)
    assert time.monotonic() - begin < 15
    assert (said, lines, job.returncode) == (["cleaned up"], ["ended by a signal: SIGTERM"], 143)


def test_after_a_late_load_sigterm_is_looked_for_again(start: Start) -> None:
    job = start(load_late=0.1)
    for what in ("loading", "loading late", "running"):
        heard(job, what)
    job.terminate()
    assert end(job)[0] == ["draining", "keeping", "cleaned up"]
    assert job.returncode == 143


def test_who_was_told_to_end_loads_no_more() -> None:
    with Stopping(None, 60.0) as stopping, stopping.attended():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped, match="SIGTERM") as raised, stopping.unattended():
            pytest.fail("nobody would look for a long time")
        assert raised.value.status == 143
        # It is looked for again: nothing but a second one would end this process here.
        assert stopping.reason == raised.value.args[0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that goes on only when it is told to."""
    found = SimpleNamespace(now=1_800_000_000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: found.now, monotonic=lambda: found.now - 1e9))
    return found


def test_slurm_does_not_wait_longer_than_twenty_seconds_and_some(clock: SimpleNamespace) -> None:
    with Stopping(None, 3600.0) as stopping, stopping.attended():
        clock.now += 500
        os.kill(os.getpid(), signal.SIGTERM)
        clock.now += 19.9
        assert not stopping.expired()
        clock.now += 0.2
        assert stopping.expired()


def test_afterwards_sigterm_does_what_it_did_before() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with Stopping(None, 60.0):
            # The one of before does not end this process, so that this one has to.
            with pytest.raises(SystemExit) as raised:
                os.kill(os.getpid(), signal.SIGTERM)
            assert raised.value.code == 143
        assert heard == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)
    with Stopping(None, 60.0), pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_thread_knows_its_end_of_time_and_leaves_signals_alone() -> None:
    found: list[object] = []

    def look() -> None:
        with Stopping(time.time() + 1, 60.0) as stopping:
            found.append(signal.getsignal(signal.SIGTERM))
            found.append(stopping.reason is not None)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before, True]
    assert signal.getsignal(signal.SIGTERM) == before


# --- the end of time ---


def test_before_the_end_of_time_it_drains_and_keeps_what_it_has(start: Start) -> None:
    deadline = time.time() + 24
    job = start(deadline=deadline, drain_seconds=20.0)
    heard(job, "loading")
    heard(job, "running")
    assert -20 <= heard(job, "draining") - deadline < -10
    assert -10 <= heard(job, "keeping") - deadline < 0
    said, lines = end(job)
    assert (said, job.returncode) == (["cleaned up"], 75)
    # The zone of the job is nine hours ahead.
    local = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(deadline + 9 * 3600))
    assert lines[1] == f"stopped: the time of the job ends at {local}{KEPT}"


def test_a_sigterm_near_the_end_of_time_is_what_it_ends_by(start: Start) -> None:
    deadline = time.time() + 20
    job = start(deadline=deadline, drain_seconds=19.9)
    for what in ("loading", "running", "draining"):
        heard(job, what)
    job.terminate()
    assert -9.95 <= heard(job, "keeping") - deadline < 0
    assert end(job)[1][1:] == [f"stopped: the job was told to end (SIGTERM){KEPT}"]
    assert job.returncode == 143


@pytest.mark.parametrize(("drain_seconds", "margin"), [(120.0, 20.0), (10.0, 5.0), (0.0, 0.0)])
def test_some_time_is_left_to_keep_what_has_come_back(
    clock: SimpleNamespace, drain_seconds: float, margin: float
) -> None:
    deadline = clock.now + 1000
    stopping = Stopping(deadline, drain_seconds)
    clock.now = deadline - drain_seconds - 0.1
    assert (stopping.reason, stopping.expired()) == (None, False)
    stopping.check()
    clock.now = deadline - max(margin + 0.1, drain_seconds - 0.1)
    assert stopping.expired() is False
    clock.now = deadline - margin + 0.1
    assert stopping.expired() is True
    reason = stopping.reason
    assert reason is not None
    with pytest.raises(Stopped) as raised:
        stopping.check()
    assert (raised.value.args, raised.value.status) == ((reason,), 75)
    # Somebody sets the clock.
    clock.now -= 10_000
    assert stopping.reason == reason


def test_without_an_end_of_time_it_goes_on(clock: SimpleNamespace) -> None:
    stopping = Stopping(None, 120.0)
    clock.now *= 2
    assert (stopping.reason, stopping.expired()) == (None, False)
    stopping.check()


# --- SLURM ---


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Puts a squeue onto the PATH that does what it is told; gives the file in which it writes how it was called."""

    def put(rest: str) -> Path:
        program, called = tmp_path / "bin" / "squeue", tmp_path / "called"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho \"$* $SLURM_TIME_FORMAT $SQUEUE_USERS\" >> '{called}'\n{rest}\n")
        program.chmod(0o755)
        return called

    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    monkeypatch.setenv("SQUEUE_USERS", "somebody")
    monkeypatch.setenv("TZ", "KST-9")
    time.tzset()
    yield put
    monkeypatch.undo()
    time.tzset()


def test_slurm_tells_when_the_job_ends(squeue: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    called = squeue("echo 2026-11-21T14:05:00")
    # 2026-11-21 is day 20778 since 1970; 14:05 there is 05:05 UTC.
    assert job_end() == 20778 * 86400 + 5 * 3600 + 5 * 60
    assert called.read_text() == "-h -j 4711 -o %e standard \n"
    for word in ("N/A", "NONE", "Unknown", "UNLIMITED", "INVALID"):
        squeue(f"echo {word}")
        assert job_end() is None
    assert caplog.records == []


@pytest.mark.parametrize(
    ("rest", "trouble"),
    [
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "slurm_load_jobs error: Invalid job id"),
        ("exit 3", "exit status 3"),
        ("echo tomorrow", "tomorrow"),
        ("echo 14:05", "14:05"),
        ("printf '2026-11-21T14:05:00\\n2026-11-21T15:05:00\\n'", "unconverted data"),
        ("printf '\\377'", "does not match"),
        ("true", "does not match"),
        (SILENT, "timed out after 0.3 seconds"),
        (None, "squeue"),
    ],
)
def test_a_squeue_that_does_not_tell_is_one_warning(
    squeue: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    rest: str | None,
    trouble: str,
) -> None:
    if rest == SILENT:
        monkeypatch.setattr(module, "_SECONDS_FOR_SQUEUE", 0.3)
    if rest is not None:
        squeue(rest)
    assert job_end() is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("squeue does not tell when this job ends")
    assert trouble in record.getMessage()
    assert "\n" not in record.getMessage()


def test_without_slurm_nobody_is_asked(squeue: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    called = squeue("echo 2026-11-21T14:05:00")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert job_end() is None
    assert not called.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T14:05:00", 20778 * 86400 + 18300),
        ("2026-11-21 14:05", 20778 * 86400 + 18300),
        ("2026-11-21T05:05:00Z", 20778 * 86400 + 18300),
        ("2026-11-21T00:05:00.5-05:00", 20778 * 86400 + 18300.5),
        ("1795237500", 1795237500),
        ("1795237500.25", 1795237500.25),
    ],
)
def test_a_deadline_is_a_time_with_or_without_zone(squeue: object, text: str, expected: float) -> None:
    assert parse_deadline(text) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-11-21", "14:05", "2026-13-21T14:05", "-5", "nan", "inf", "1e9", "9" * 30, "2026-W47-6"]
)
def test_what_is_no_time_is_no_deadline(text: str) -> None:
    with pytest.raises(InputError, match="is no time; write it like 2026-11-21T14:05:00"):
        parse_deadline(text)
