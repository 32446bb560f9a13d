"""Work that may never end or may take all memory: in processes that are ended after a while and started anew.

in:  check_values("9^{9^{9^9}}", "\\\\pi"), 5 seconds     out: Failure("timeout")

What fails does so alone: the pool goes on with the rest.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple, TypeVar

from pebble import ProcessPool

from corpusmith.answer_checking import UNDECIDED, Outcome, check_texts, check_values, warm_up
from corpusmith.identity import digest

T = TypeVar("T")
TIMEOUT = "timeout"
CHECKER_FAILED = "checker_failed"
# Of address space, libraries included: what an answer needs is far less.
WORKER_BYTES = 3 * 2**30
# A worker is replaced after so many tasks, so that what libraries keep never adds up.
_TASKS_OF_A_WORKER = 20_000


class Failure(NamedTuple):
    """Work that gave no result: reason is timeout or checker_failed."""

    reason: str


class LimitedPool:
    """Worker processes that run functions of modules, each call at most `seconds` long and in at most `memory` bytes.

    Use it as a context manager; at its end running work is ended. Not for more than one event loop.
    """

    def __init__(self, workers: int, seconds: float, memory: int = WORKER_BYTES) -> None:
        self._workers, self._seconds, self._memory = workers, seconds, memory

    def __enter__(self) -> LimitedPool:
        # Sets of names in sympy are in the order of hashes: the same ones in every worker of every run.
        os.environ.setdefault("PYTHONHASHSEED", "0")
        # Workers come from a process without threads that has the libraries loaded: a new one is there at once.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["math_verify", "pebble"])
        self._pool = ProcessPool(
            self._workers, _TASKS_OF_A_WORKER, initializer=_begin, initargs=(self._memory,), context=context
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.stop()
        self._pool.join()

    async def run(self, function: Callable[..., T], *arguments: object) -> T | Failure:
        """The function's result. Raises RuntimeError where the pool itself is broken."""
        # Where the pool was killed itself, a worker ends on its own.
        last_resort = 2 * self._seconds + 10
        future = self._pool.schedule(_run, args=(function, last_resort, *arguments), timeout=self._seconds)
        try:
            return await asyncio.wrap_future(future)
        except TimeoutError:
            return Failure(TIMEOUT)
        except BrokenProcessPool as error:
            raise RuntimeError("no worker can be started to check answers in") from error
        except Exception:
            # A worker that died, or whatever a parser raises on text that nobody foresaw.
            return Failure(CHECKER_FAILED)


def _begin(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A long multiplication would not let Python handle them.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_pool, daemon=True).start()
    # Before the first task, so that it does not count as its time.
    warm_up()


def _end_with_the_pool() -> None:
    """An idle worker would wait for ever for work from a pool that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(function: Callable[..., T], last_resort: float, *arguments: object) -> T:
    signal.setitimer(signal.ITIMER_REAL, last_resort)
    try:
        return function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class PairChecker:
    """Checks pairs of answers, each different pair once: by text here, by value in the pool.

    Keeps some hundred bytes of each different pair.
    """

    def __init__(self, pool: LimitedPool) -> None:
        self._pool = pool
        self._settled: dict[bytes, Outcome] = {}
        self._running: dict[bytes, Awaitable[Outcome]] = {}
        self.values_checked = 0

    async def check(self, known: str, answer: str) -> Outcome:
        """Whether the answer is the known one."""
        by_text = check_texts(known, answer)
        if by_text is not None:
            return by_text
        pair = bytes.fromhex(digest("pair", known, answer))
        if pair in self._settled:
            return self._settled[pair]
        if pair not in self._running:
            self._running[pair] = asyncio.ensure_future(self._check_values(known, answer))
        outcome = await self._running[pair]
        self._settled[pair] = outcome
        self._running.pop(pair, None)
        return outcome

    async def _check_values(self, known: str, answer: str) -> Outcome:
        self.values_checked += 1
        result = await self._pool.run(check_values, known, answer)
        return Outcome(UNDECIDED, result.reason) if isinstance(result, Failure) else result
