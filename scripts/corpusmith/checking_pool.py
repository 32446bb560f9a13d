"""Work that may never end or may take all memory: in processes that are ended after a while and started anew.

in:  check_values("9^{9^{9^9}}", "\\\\pi"), 5 seconds     out: Failure("timeout")

Seconds are those that the work keeps a processor busy for: a machine that has more to do does not make other verdicts.
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

from pebble import ProcessExpired, ProcessPool

from corpusmith.answer_checking import UNDECIDED, Outcome, check_texts, check_values, warm_up
from corpusmith.identity import digest

T = TypeVar("T")
TIMEOUT = "timeout"
CHECKER_FAILED = "checker_failed"
# Of address space, libraries included: what an answer needs is far less.
WORKER_BYTES = 3 * 2**30
# By the clock: work that sleeps, or waits for a machine that is busy with other things without end.
_LONGEST_WAIT = 600.0
# A worker is replaced after so many tasks, so that what libraries keep never adds up.
_TASKS_OF_A_WORKER = 20_000


class Failure(NamedTuple):
    """Work that gave no result: reason is timeout or checker_failed."""

    reason: str


class LimitedPool:
    """Worker processes that run functions of modules, each call in `seconds` of processor time and `memory` bytes.

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
        longest_wait = max(_LONGEST_WAIT, 10 * self._seconds)
        future = self._pool.schedule(_run, args=(function, self._seconds, *arguments), timeout=longest_wait)
        try:
            return await asyncio.wrap_future(future)
        except TimeoutError:
            return Failure(TIMEOUT)
        except ProcessExpired as error:
            return Failure(TIMEOUT if error.exitcode == -signal.SIGPROF else CHECKER_FAILED)
        except BrokenProcessPool as error:
            raise RuntimeError("no worker can be started to check answers in") from error
        except Exception:
            # Whatever a parser raises on text that nobody foresaw.
            return Failure(CHECKER_FAILED)


def _begin(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A long multiplication would not let Python handle them.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_pool, daemon=True).start()
    # Before the first task, so that it does not count as its time.
    warm_up()


def _end_with_the_pool() -> None:
    """An idle worker would wait for ever for work from a pool that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(function: Callable[..., T], seconds: float, *arguments: object) -> T:
    # The kernel ends the worker then, also where the pool was killed itself.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


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
