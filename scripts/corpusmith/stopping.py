"""How a long job ends in time: with what it has paid for, and so that the next one goes on from there."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

from corpusmith.errors import InputError

# That of corpusmith.program, which imports this module.
log = logging.getLogger("corpusmith")
_TERMINATED = 128 + signal.SIGTERM
# SLURM kills what still runs 30 s after SIGTERM, where KillWait is not set: the rest is for keeping what has come back.
_SECONDS_AFTER_SIGTERM = 20.0
# Of the time to drain, at most half, and no more than this, is for keeping what has come back.
_SECONDS_TO_COMMIT = 20.0
_SECONDS_FOR_SQUEUE = 30.0
# What SLURM says of a job that has no end, or none that it knows.
_NO_END = ("N/A", "NONE", "UNKNOWN", "UNLIMITED", "INFINITE", "INVALID")


class Stopped(Exception):
    """The job has to end before its work is done; what it has is kept.

    reason: one line, also as text of the exception; status: the exit status of the program.
    """

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


class Stopping:
    """Knows when a job has to stop: on SIGTERM, or when its end of time draws near. A context manager.

    deadline: end of time in seconds since 1970, None for none; drain_seconds: how long before it nothing new is begun.
    Who runs the loop of the job says so with `attended`, and looks at `reason` in it every second or so:

        with Stopping(deadline, 120.0) as stopping:
            with stopping.attended():
                while work is left or in flight:
                    if stopping.reason is None: begin more
                    else if nothing is in flight or stopping.expired(): stopping.check()
                    take what has come back, waiting a second at most

    Where nobody looks, SIGTERM ends the program at once, as it does without this class; a second one does so anywhere.
    """

    def __init__(self, deadline: float | None, drain_seconds: float) -> None:
        self._deadline, self._drain_seconds = deadline, drain_seconds
        self._attended = False
        self._terminated: float | None = None
        self._late = False
        self._said = False
        self._before: Any = None
        self._installed = False

    def __enter__(self) -> Stopping:
        # Python lets no other thread do that.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_signal)
            self._installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._before)
            self._installed = False

    @property
    def reason(self) -> str | None:
        """None while the job may go on; else one line that says why it must begin nothing more."""
        found = self._reason()
        if found is not None and not self._said:
            self._said = True
            log.warning("%s: nothing more is begun, what is under way is waited for a while", found)
        return found

    def expired(self) -> bool:
        """Whether to wait no longer for what is under way either: what has come back is to be kept now."""
        told, deadline = self._terminated, self._deadline
        if told is not None and time.monotonic() >= told + min(self._drain_seconds, _SECONDS_AFTER_SIGTERM):
            return True
        return deadline is not None and time.time() >= deadline - min(self._drain_seconds / 2, _SECONDS_TO_COMMIT)

    def check(self) -> None:
        """Raises Stopped where there is a reason to stop. Not for a job whose work is done all the same."""
        reason = self.reason
        if reason is not None:
            raise Stopped(reason, os.EX_TEMPFAIL if self._terminated is None else _TERMINATED)

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Inside, the first SIGTERM is a reason and no end: somebody looks at it, again and again."""
        before, self._attended = self._attended, True
        try:
            yield
        finally:
            self._attended = before

    @contextmanager
    def unattended(self) -> Iterator[None]:
        """Inside, within `attended`, nobody looks for long, as while a model is loaded: SIGTERM ends it at once.

        Raises Stopped where there is a reason to stop already.
        """
        before, self._attended = self._attended, False
        try:
            # After the change: a signal comes either before it, and is seen here, or ends the program.
            self.check()
            yield
        finally:
            self._attended = before

    def _reason(self) -> str | None:
        if self._terminated is not None:
            return "the job was told to end (SIGTERM)"
        if self._deadline is None:
            return None
        # Once late, always late, also where somebody sets the clock.
        self._late = self._late or time.time() >= self._deadline - self._drain_seconds
        end = datetime.fromtimestamp(self._deadline).isoformat(" ", "seconds")
        return f"the time of the job ends at {end}" if self._late else None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._attended and self._terminated is None:
            self._terminated = time.monotonic()
            return
        if callable(self._before):
            self._before(number, frame)
        raise SystemExit(_TERMINATED)


def job_end() -> float | None:
    """When SLURM ends this job, in seconds since 1970; None where there is no end or nobody tells."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    # Settings of the user's may change what is listed, and how times are written.
    settings = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    try:
        said = subprocess.run(
            ["squeue", "-h", "-j", job, "-o", "%e"],
            env=settings | {"SLURM_TIME_FORMAT": "standard"},
            capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS_FOR_SQUEUE, check=True,
        ).stdout.strip()  # fmt: skip
        if said.upper() in _NO_END:
            return None
        return datetime.strptime(said, "%Y-%m-%dT%H:%M:%S").timestamp()
    except subprocess.CalledProcessError as error:
        trouble = " ".join(error.stderr.split()) or f"exit status {error.returncode}"
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        trouble = " ".join(str(error).split())
    log.warning("squeue does not tell when this job ends: it will not stop by itself before that (%s)", trouble)
    return None


def parse_deadline(text: str) -> float:
    """Seconds since 1970 from such, or from an ISO date and time, local where it names no zone. Raises InputError."""
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
            datetime.fromtimestamp(seconds)
            return seconds
        # A date alone would be its first moment, which nobody means by it.
        if re.match(r"\d{4}-\d\d-\d\d[T ]\d", text):
            return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        pass
    raise InputError(
        f"deadline {text!r} is no time; write it like 2026-11-21T14:05:00, with or without a zone such as +09:00,"
        " or in seconds since 1970"
    )
