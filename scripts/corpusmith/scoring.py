"""From tables of requests and completions to a table of scores, whatever the metric.

As with answers, all that the store does not know is scored first, and the table is then written from the store.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import groupby, islice, tee, zip_longest
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.asking import Keeper, ask, label_of, store_or_none
from corpusmith.engines.protocol import Worker
from corpusmith.errors import InputError
from corpusmith.generation import GenerationStats, tally_items
from corpusmith.metrics import Metric
from corpusmith.pairs import PairQuestion, PairScore
from corpusmith.program import Progress
from corpusmith.stopping import Stopping
from corpusmith.store import SCORE, Store, score_entry
from corpusmith.table_files import open_table, read_rows, row_count
from corpusmith.tables import COMPLETIONS, REQUESTS, SCORES

# Rows that are looked up in the store together.
WINDOW = 8192
_DIGITS = 6


def score_completions(
    requests: str | Path,
    completions: str | Path,
    worker: Worker[PairQuestion, PairScore],
    metric: Metric,
    scores: str | Path,
    account: Account,
    max_failed: float = 0.0,
    store: Store | None = None,
    stopping: Stopping | None = None,
) -> GenerationStats:
    """Scores every completion against the source of its request and writes the scores in the completions' order.

    metric: what the worker computes. max_failed: share of the answers that may get no score; more is an InputError,
    with the scores kept. store: where scores are looked up first, and kept as they come. stopping: knows when to stop;
    then Stopped is raised, with the scores kept. Each distinct pair is scored once.
    """
    stats = GenerationStats()
    start = time.monotonic()
    with store_or_none(store, scores) as kept:
        failures = _score_missing(requests, completions, worker, metric, kept, stopping or Stopping(None, 0.0), stats)
        _write(requests, completions, scores, metric, kept, failures, max_failed, stats)
    stats.seconds = time.monotonic() - start
    tally_items(requests, account)
    return stats


def count_missing(requests: str | Path, completions: str | Path, metric: Metric, store: Store) -> int:
    """How many of the pairs the store does not know."""
    rows = _with_requests(requests, completions, metric)
    missing = 0
    while some := list(islice(rows, WINDOW)):
        missing += len(
            store.missing(SCORE, metric.identity, (_entry(metric, row) for row in some if row["error"] is None))
        )
    return missing


def _score_missing(
    requests: str | Path,
    completions: str | Path,
    worker: Worker[PairQuestion, PairScore],
    metric: Metric,
    store: Store,
    stopping: Stopping,
    stats: GenerationStats,
) -> dict[bytes, PairScore]:
    """Scores what the store does not know; returns what failed."""
    in_flight: dict[int, tuple[bytes, str]] = {}

    def questions() -> Iterator[PairQuestion]:
        handle = 0
        rows = _with_requests(requests, completions, metric)
        while some := list(islice(rows, WINDOW)):
            pairs = {_entry(metric, row): row for row in some if row["error"] is None}
            missing = keeper.missing(pairs)
            stats.from_store += len(pairs) - len(missing)
            stats.asked += len(missing)
            progress.advance(len(some) - len(missing))
            for entry in (entry for entry in pairs if entry in missing):
                row = pairs[entry]
                keeper.asked(entry)
                handle += 1
                label = label_of(row, row["sample"])
                in_flight[handle] = entry, label
                yield PairQuestion(handle, metric.pair(row), label)

    def take(answer: PairScore) -> None:
        entry, label = in_flight.pop(answer.handle)
        if answer.error is None:
            keeper.keep(entry, {"score": round(answer.score, _DIGITS), "truncated": answer.truncated})
        else:
            keeper.fail(entry, answer, label)
        progress.advance()

    with (
        Progress("scoring", row_count(completions), "answers") as progress,
        Keeper[PairScore](store, SCORE, metric.identity) as keeper,
    ):
        ask(worker, questions(), take, stopping)
    return keeper.failures


def _write(
    requests: str | Path,
    completions: str | Path,
    scores: str | Path,
    metric: Metric,
    store: Store,
    failures: dict[bytes, PairScore],
    max_failed: float,
    stats: GenerationStats,
) -> None:
    """Writes the scores table from the store."""
    rows = 0
    last_failure = ""
    places, again = tee(_with_requests(requests, completions, metric))
    known = store.in_order(SCORE, metric.identity, (_entry(metric, row) for row in again))
    with open_table(scores, SCORES) as writer:
        for row, score in zip(places, known, strict=True):
            place = label_of(row, row["sample"])
            answered = row["error"] is None
            failed = failures.get(_entry(metric, row)) if answered and score is None else None
            error = failed.error if failed is not None else None
            if error is not None:
                stats.failed += 1
                last_failure = f"{place}: {error}"
            elif answered and score is None:
                raise InputError(f"{store.folder}: the score of {place} is gone; was it pruned just now? Start again")
            writer.write(
                {
                    "item_id": row["item_id"],
                    "request": row["request"],
                    "sample": row["sample"],
                    "score": score["score"] if answered and score is not None else None,
                    "truncated": answered and score is not None and score["truncated"],
                    "error": error,
                    "key": metric.key(row),
                }
            )
            rows += 1
        if stats.failed > max_failed * rows:
            raise InputError(
                f"{completions}: {stats.failed} of {rows} answers got no score, more than max_failed = {max_failed}"
                f" allows; the others are kept; the last: {last_failure}"
            )


def _entry(metric: Metric, row: Mapping[str, Any]) -> bytes:
    """What the store knows a score by."""
    return score_entry(metric.key(row))


def _with_requests(requests: str | Path, completions: str | Path, metric: Metric) -> Iterator[dict[str, Any]]:
    """Completions, each with what the metric reads of its request; both tables are in the same order."""
    answers = groupby(
        read_rows(completions, COMPLETIONS, ["item_id", "request", "sample", "text", "error"]),
        key=lambda row: (row["item_id"], row["request"]),
    )
    shown = ["messages", "prompt", "reference"] if metric.conversation else ["source", "reference"]
    names = ["item_id", "request", "first_sample", "n", *shown]
    for number, request in enumerate(read_rows(requests, REQUESTS, names)):
        if request["n"] == 0:
            continue
        key, rows = next(answers, (None, iter(())))
        if key != (request["item_id"], request["request"]):
            raise InputError(f"{completions}: does not belong to {requests}: row {number} there asks something else")
        if all(request[name] is None for name in shown[:-1]):
            what = "neither messages nor a prompt" if metric.conversation else "no source"
            raise InputError(f"{requests}: row {number}: {what}, so that there is nothing to score against")
        wanted = range(request["first_sample"], request["first_sample"] + request["n"])
        for sample, row in zip_longest(wanted, rows):
            if row is None or row["sample"] != sample:
                raise InputError(f"{completions}: does not belong to {requests}: row {number} there asks other samples")
            yield row | {name: request[name] for name in shown}
    if next(answers, None) is not None:
        raise InputError(f"{completions}: has rows that {requests} does not ask for")
