"""Work in threads whose results come in the order of the work.

    for row in in_order([read_first_file, read_second_file], threads=2): …

While results of the first job are used, the second one works ahead, but only some results far: memory stays flat.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
Job = Callable[[], Iterator[T]]


class _End:
    """Behind the last result of a job; error: what ended it too early."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def in_order(jobs: Iterable[Job[T]], threads: int, ahead: int = 4) -> Generator[T]:
    """The results of all jobs, those of the first one first, with so many jobs at work at a time.

    ahead: how many results of a job wait at most. What a job raises is raised here, behind the results before it.
    Close the iterator where it is not used up (contextlib.closing): only then do the threads end.
    """
    waiting = iter(jobs)
    running: deque[queue.Queue[T | _End]] = deque()
    closed = threading.Event()

    def work(job: Job[T], results: queue.Queue[T | _End]) -> None:
        end = _End()
        try:
            for result in job():
                results.put(result)
                if closed.is_set():
                    return
        except BaseException as error:
            end = _End(error)
        results.put(end)

    with ThreadPoolExecutor(threads) as pool:

        def start(count: int) -> None:
            for job in islice(waiting, count):
                running.append(queue.Queue(ahead))
                pool.submit(work, job, running[-1])

        try:
            start(threads)
            while running:
                result = running[0].get()
                if not isinstance(result, _End):
                    yield result
                elif result.error is not None:
                    raise result.error
                else:
                    running.popleft()
                    start(1)
        finally:
            closed.set()
            # One place in its queue is all that a job may wait for.
            for results in running:
                while not results.empty():
                    results.get()
