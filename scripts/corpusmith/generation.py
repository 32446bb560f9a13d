"""From a table of requests to a table of completions, whatever the engine and whatever the recipe.

All that the store does not know is asked first, and each answer kept as it comes. Then the table is written from the
store: of two attempts at one shard that ran at once, both write the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import IO, Any

from corpusmith.accounting import Account
from corpusmith.asking import Keeper, ask, label_of, store_or_none
from corpusmith.engines.protocol import Answer, Engine, Question, Renderer, Sampling, failure
from corpusmith.errors import InputError
from corpusmith.identity import ITEM_ID_BYTES, completion_key, sample_seed
from corpusmith.program import Progress
from corpusmith.stopping import Stopping
from corpusmith.store import COMPLETION, Store, completion_entry
from corpusmith.table_files import open_table, read_rows
from corpusmith.tables import COMPLETIONS, REQUESTS

# What is looked up in the store together: as many samples, but no more requests, whose prompts take time to render,
# while the engine waits.
_SAMPLES_LOOKED_UP, _REQUESTS_LOOKED_UP = 16_384, 2048


@dataclass
class GenerationStats:
    """What a run did: asked counts what went to the model, from_store what was known already."""

    asked: int = 0
    from_store: int = 0
    failed: int = 0
    retries: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """A row of a requests table as it is asked. key: what its answers are known by, with their sample index."""

    request: Mapping[str, Any]
    question: Question
    key: str

    def samples(self) -> range:
        """The indices of the samples."""
        return range(self.request["first_sample"], self.request["first_sample"] + self.request["n"])


def count_samples(path: str | Path) -> int:
    """How many samples a table of requests asks for."""
    return sum(row["n"] for row in read_rows(path, REQUESTS, ["n"]))


def wanted_answers(requests: str | Path, renderer: Renderer, model: str) -> Iterator[Wanted]:
    """Every row of the requests with its prompt and its key; seed and handle are those of no sample yet."""
    for row in read_rows(requests, REQUESTS):
        sampling = _sampling(row)
        prompt = renderer.prepare(row)
        choices = tuple(row["choices"]) if row["choices"] is not None else None
        constraint = (
            {"choices": choices} if choices else {"json_schema": row["json_schema"]} if row["json_schema"] else None
        )
        key = completion_key(model, renderer.family, renderer.template, prompt.rendered, sampling.as_key(), constraint)
        yield Wanted(row, Question(0, prompt, sampling, 0, choices, row["json_schema"]), key)


def answer_requests(
    requests: str | Path,
    engine: Engine,
    model: str,
    completions: str | Path,
    account: Account,
    max_failed: float,
    store: Store | None = None,
    stopping: Stopping | None = None,
) -> GenerationStats:
    """Asks for every sample of the requests and writes the completions, in the order of the requests.

    model: the model's identity. max_failed: share of samples that may fail; more is an InputError, with the answers
    kept. store: where answers are looked up first, and kept as they come. stopping: knows when to stop; then Stopped
    is raised, with the answers kept.
    """
    stats = GenerationStats()
    start = time.monotonic()
    with store_or_none(store, completions) as kept, tempfile.TemporaryFile() as keys:
        failures = _ask_missing(requests, engine, model, kept, stopping or Stopping(None, 0.0), keys, stats)
        keys.seek(0)
        _write(requests, completions, kept, model, keys, failures, account, max_failed, stats)
    stats.seconds = time.monotonic() - start
    tally_items(requests, account)
    return stats


def tally_items(requests: str | Path, account: Account) -> None:
    """Enters each item of the requests into the account once: a step keeps every item that it is asked."""
    last = None
    for row in read_rows(requests, REQUESTS, ["item_id"]):
        if row["item_id"] != last:
            account.keep(row["item_id"])
            last = row["item_id"]


def _ask_missing(
    requests: str | Path,
    engine: Engine,
    model: str,
    store: Store,
    stopping: Stopping,
    keys: IO[bytes],
    stats: GenerationStats,
) -> dict[bytes, Answer]:
    """Asks what the store does not know; returns what failed. keys: gets the key of each row, for later."""
    in_flight: dict[int, tuple[bytes, str]] = {}

    def questions() -> Iterator[Question]:
        handle = 0
        for some in _portions(wanted_answers(requests, engine, model)):
            keys.writelines(bytes.fromhex(wanted.key) for wanted in some)
            missing = keeper.missing(_entries(some))
            for wanted, sample in ((one, sample) for one in some for sample in one.samples()):
                entry, question = completion_entry(wanted.key, sample), wanted.question
                if entry not in missing:
                    stats.from_store += entry not in keeper.failures
                    progress.advance()
                    continue
                missing.remove(entry)
                label = label_of(wanted.request, sample)
                if question.prompt.error is not None:
                    keeper.fail(entry, failure(question, question.prompt.error), label)
                    progress.advance()
                    continue
                keeper.asked(entry)
                stats.asked += 1
                handle += 1
                in_flight[handle] = entry, label
                seed = sample_seed(wanted.key, sample)
                yield Question(
                    handle, question.prompt, question.sampling, seed, question.choices, question.json_schema, label
                )

    def take(answer: Answer) -> None:
        entry, label = in_flight.pop(answer.handle)
        if answer.error is None:
            keeper.keep(entry, {name: getattr(answer, name) for name in COMPLETION.columns})
        else:
            keeper.fail(entry, answer, label)
        progress.advance()

    with (
        Progress("generating", count_samples(requests), "samples") as progress,
        Keeper[Answer](store, COMPLETION, model) as keeper,
    ):
        ask(engine, questions(), take, stopping)
    return keeper.failures


def _portions(wanted: Iterator[Wanted]) -> Iterator[list[Wanted]]:
    """What is looked up together."""
    some: list[Wanted] = []
    samples = 0
    for one in wanted:
        some.append(one)
        samples += one.request["n"]
        if samples >= _SAMPLES_LOOKED_UP or len(some) == _REQUESTS_LOOKED_UP:
            yield some
            some, samples = [], 0
    if some:
        yield some


def _entries(some: Iterable[Wanted]) -> Iterator[bytes]:
    """What the store knows their answers by."""
    return (completion_entry(wanted.key, sample) for wanted in some for sample in wanted.samples())


def count_missing(requests: str | Path, renderer: Renderer, model: str, store: Store) -> int:
    """How many of the samples that can be asked the store does not know."""
    return sum(
        len(store.missing(COMPLETION, model, _entries(one for one in some if one.question.prompt.error is None)))
        for some in _portions(wanted_answers(requests, renderer, model))
    )


def _write(
    requests: str | Path,
    completions: str | Path,
    store: Store,
    model: str,
    keys: IO[bytes],
    failures: Mapping[bytes, Answer],
    account: Account,
    max_failed: float,
    stats: GenerationStats,
) -> None:
    """Writes the completions table from the store."""
    rows = 0
    last_failure = ""
    places, again = tee(_places(requests, keys))
    answers = store.in_order(COMPLETION, model, (completion_entry(key, sample) for _, key, sample in again))
    with open_table(completions, COMPLETIONS) as writer:
        for (row, key, sample), known in zip(places, answers, strict=True):
            place = label_of(row, sample)
            answer = failures.get(completion_entry(key, sample)) if known is None else Answer(0, **known)
            if answer is None:
                raise InputError(f"{store.folder}: the answer to {place} is gone; was it pruned just now? Start again")
            if answer.error is not None:
                stats.failed += 1
                last_failure = f"{place}: {answer.error}"
            account.prompt_tokens += answer.prompt_tokens
            account.completion_tokens += answer.completion_tokens
            writer.write(
                {
                    "item_id": row["item_id"],
                    "request": row["request"],
                    "sample": sample,
                    "text": answer.text,
                    "finish_reason": answer.finish_reason,
                    "prompt_tokens": answer.prompt_tokens,
                    "completion_tokens": answer.completion_tokens,
                    "error": answer.error,
                    "key": key,
                }
            )
            rows += 1
        if stats.failed > max_failed * rows:
            raise InputError(
                f"{requests}: {stats.failed} of {rows} samples failed, more than max_failed = {max_failed} allows;"
                f" the others are kept; the last: {last_failure}"
            )


def _places(requests: str | Path, keys: IO[bytes]) -> Iterator[tuple[Mapping[str, Any], str, int]]:
    """Every sample of the requests: its row, its key, its index."""
    for row in read_rows(requests, REQUESTS, ["item_id", "request", "first_sample", "n"]):
        key = keys.read(ITEM_ID_BYTES).hex()
        for sample in range(row["first_sample"], row["first_sample"] + row["n"]):
            yield row, key, sample


def _sampling(row: Mapping[str, Any]) -> Sampling:
    return Sampling(row["temperature"], row["top_p"], row["top_k"], row["max_tokens"], tuple(row["stop"]))
