"""A worker in a process of its own, that can be ended while it hangs, and whose memory is freed with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import secrets
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic

from tqdm import tqdm

from corpusmith.engines.process_guard import end_marked, release, start_guard
from corpusmith.engines.protocol import OUT_OF_MEMORY, A, EngineDied, OutOfMemory, Q, Worker
from corpusmith.errors import InputError
from corpusmith.program import set_up_log

_MARK = "CORPUSMITH_HOSTED"
_SECONDS_TO_CLOSE = 5.0
# What the process says, each with something: how many questions it takes, answers, why it ends.
_READY, _ANSWERS, _WRONG, _NO_MEMORY, _DIED = "ready", "answers", "wrong", "no memory", "died"


class HostedWorker(Generic[Q, A]):
    """Starts a process, makes a worker there, and passes questions and answers on.

    make: makes the worker; it can be pickled. environment: variables of that process, beside those of this one.
    Raises InputError where that does, OutOfMemory where its memory does not suffice, EngineDied where it fails in any
    other way.
    """

    retries = 0

    def __init__(self, make: Callable[[], Worker[Q, A]], environment: Mapping[str, str] | None = None) -> None:
        self._in_flight = 0
        self._folder = tempfile.TemporaryDirectory(prefix="corpusmith-hosted-", ignore_cleanup_errors=True)
        self._mark = f"{_MARK}={secrets.token_hex(8)}"
        self._guard = start_guard(self._mark, Path(self._folder.name))
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, theirs), name="corpusmith worker", daemon=True)
        name, _, token = self._mark.partition("=")
        with _environment({**(environment or {}), name: token}):
            self._process.start()
        theirs.close()
        # What the process does not read yet must not hold up whoever asks: it may hang.
        self._outbox: queue.SimpleQueue[Q | None] = queue.SimpleQueue()
        threading.Thread(target=self._send, name="questions", daemon=True).start()
        try:
            self.capacity: int = self._receive(None)
        except BaseException:
            self.close()
            raise
        self.heard = time.monotonic()

    def fileno(self) -> int:
        """Of what can be read as soon as something came: several of these can be waited for together."""
        return self._connection.fileno()

    def submit(self, question: Q) -> None:
        """Takes a question."""
        self._outbox.put(question)
        self._in_flight += 1

    def collect(self, timeout: float | None = None) -> Sequence[A]:
        """Waits until some answers are there and gives them."""
        answers: Sequence[A] = self._receive(timeout) if self._in_flight else []
        self._in_flight -= len(answers)
        return answers

    def close(self) -> None:
        """Ends the process, whatever it does: nothing of it is needed any more."""
        self._outbox.put(None)
        self._connection.close()
        # One that waits sees that nobody is there any more, and leaves in good order.
        self._process.join(_SECONDS_TO_CLOSE if self._in_flight == 0 else 0.0)
        self._process.kill()
        self._process.join()
        end_marked(self._mark, 0.0)
        if self._guard.poll() is None:
            release(self._guard)
        self._folder.cleanup()

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while (question := self._outbox.get()) is not None:
                self._connection.send(question)

    def _receive(self, timeout: float | None) -> Any:
        try:
            if not self._connection.poll(timeout):
                return []
            kind, value = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(1.0)
            raise EngineDied(f"its process has ended ({_how(self._process.exitcode)})") from error
        self.heard = time.monotonic()
        if kind == _WRONG:
            raise InputError(value)
        if kind == _NO_MEMORY:
            raise OutOfMemory(value)
        if kind == _DIED:
            raise EngineDied(value)
        return value


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Variables for what is started inside."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _how(status: int | None) -> str:
    if status is None or status >= 0:
        return f"exit status {status}"
    hint = "; the machine may have run out of memory" if status == -signal.SIGKILL else ""
    return f"{signal.Signals(-status).name}{hint}"


def _serve(make: Callable[[], Worker[Q, A]], connection: Connection) -> None:
    """What the process does, until the other end is gone."""
    # What is sent to all processes of a job is for the one that asks: it drains, and then ends this one.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # Its own lock is one between processes, that Python complains of where one that holds it is killed.
    tqdm.set_lock(threading.RLock())
    set_up_log()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            worker = make()
            connection.send((_READY, worker.capacity))
            in_flight = 0
            while True:
                while connection.poll(None if in_flight == 0 else 0.0):
                    worker.submit(connection.recv())
                    in_flight += 1
                answers = worker.collect()
                in_flight -= len(answers)
                connection.send((_ANSWERS, answers))
        except InputError as error:
            connection.send((_WRONG, str(error)))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            if OUT_OF_MEMORY.search(reason):
                connection.send((_NO_MEMORY, reason))
            else:
                traceback.print_exc()
                connection.send((_DIED, reason))
