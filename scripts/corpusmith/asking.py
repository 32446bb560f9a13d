"""Asking a worker, whatever it is, for all that the store does not know, and keeping each answer as it comes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Generic

from corpusmith.engines.protocol import A, Q, Worker
from corpusmith.program import log
from corpusmith.stopping import Stopping
from corpusmith.store import Kind, Store
from corpusmith.store.writer import Writer

# How often a job that waits for answers looks whether it has to stop.
_SECONDS_BETWEEN_LOOKS = 1.0
_FAILURES_TOLD = 5


def label_of(row: Mapping[str, Any], sample: int) -> str:
    """What logs and errors call a sample. row: of a table that has an item and a request."""
    return f"item {row['item_id']}, request {row['request']}, sample {sample}"


def ask(worker: Worker[Q, A], questions: Iterable[Q], take: Callable[[A], None], stopping: Stopping) -> None:
    """Puts questions to a worker, as many at once as it takes, until each has its answer.

    take: is given each answer as it comes. Raises Stopped where the job has to end before that: nothing more was asked
    then, and what came until the end is taken.
    """
    in_flight, all_asked = 0, True

    def collect() -> int:
        answers = worker.collect(_SECONDS_BETWEEN_LOOKS)
        for answer in answers:
            take(answer)
        return len(answers)

    with stopping.attended():
        for question in questions:
            while stopping.reason is None and in_flight >= worker.capacity:
                in_flight -= collect()
            if stopping.reason is not None:
                all_asked = False
                break
            worker.submit(question)
            in_flight += 1
        while in_flight and not stopping.expired():
            in_flight -= collect()
        # A job that has to stop may still have been done before it must.
        if in_flight and stopping.reason is not None:
            log.warning("%d of what was under way did not come in time: the next job asks for them again", in_flight)
        if in_flight or not all_asked:
            stopping.check()


class Keeper(Generic[A]):
    """The answers of one model in a store, to which answers come: written when the first has been paid for.

    failures: what came instead of an answer, by key; it is not in the store, so that the next build asks again.
    """

    def __init__(self, store: Store, kind: Kind, model: str) -> None:
        self._store, self._kind, self._model = store, kind, model
        self._stack = ExitStack()
        self._writer: Writer | None = None
        self._in_flight: set[bytes] = set()
        self.failures: dict[bytes, A] = {}

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def missing(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those that have no answer, are not being asked here, and have not failed here."""
        if self._writer is not None:
            # What was answered here can be looked up once it is committed.
            self._writer.commit()
        return self._store.missing(self._kind, self._model, keys) - self._in_flight - self.failures.keys()

    def asked(self, key: bytes) -> None:
        """Something is asked. Raises InputError where the store cannot be written, before anything is paid for."""
        if self._writer is None:
            self._writer = self._stack.enter_context(self._store.writer(self._kind, self._model))
        self._in_flight.add(key)

    def keep(self, key: bytes, answer: Mapping[str, Any]) -> None:
        """Keeps an answer to what was asked."""
        assert self._writer is not None
        self._in_flight.discard(key)
        self._writer.add(key, answer)

    def fail(self, key: bytes, answer: A, label: str) -> None:
        """Notes that there is no answer; the first few are told. label: what the log calls what was asked."""
        self._in_flight.discard(key)
        if len(self.failures) < _FAILURES_TOLD:
            log.warning("nothing for %s: %s", label, answer.error)
        self.failures[key] = answer


@contextlib.contextmanager
def store_or_none(store: Store | None, table: str | Path) -> Iterator[Store]:
    """The store; or, where there is none, one beside the table that lasts as long as the block."""
    if store is not None:
        yield store
        return
    path = Path(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".partial") as folder:
        yield Store(folder)
