"""The answers to released sources that are compared: copied from the tables of the steps that made them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from corpusmith.errors import InputError
from corpusmith.identity import shard_names
from corpusmith.references import SYSTEMS, Pairing, ReleasedRow
from corpusmith.table_files import open_table, read_batches
from corpusmith.tables import COMPLETIONS, REQUESTS, Table
from corpusmith.translation import GREEDY, SAMPLED


class Step(NamedTuple):
    """A step's folder and the names of its shards."""

    folder: Path
    shards: Sequence[str]

    def tables(self) -> Iterator[tuple[Path, Path]]:
        """Requests and completions, shard by shard."""
        for shard in self.shards:
            yield self.folder / "requests" / f"{shard}.parquet", self.folder / "completions" / f"{shard}.parquet"


class Answer(NamedTuple):
    """A row of requests that asks for one answer, and that of completions that has it."""

    request: dict[str, Any]
    completion: dict[str, Any]


def paired_answers(released: Mapping[str, ReleasedRow], prefilter: Step, final: Step) -> Iterator[list[Answer]]:
    """The three answers to each source, in the order of SYSTEMS; items in the order of the final step's tables.

    Rows are copies of those of both steps, so that an answer keeps the key that it is known by. Raises InputError where
    an answer is not there.
    """
    greedy = dict(_greedy_answers(released, prefilter))
    waiting = dict.fromkeys(released)
    for request, samples in _final_answers(released, final):
        item = request["item_id"]
        row = released[item]
        if item not in waiting:
            raise InputError(f"{final.folder}: item {item} is there twice; delete the step and build again")
        del waiting[item]
        if item not in greedy:
            raise InputError(f"{prefilter.folder}: has no greedy answer to item {item}; build the step again")
        for sample in (0, row.sample):
            if sample not in samples:
                raise InputError(f"{final.folder}: has no sample {sample} of item {item}; build the step again")
        if samples[row.sample]["text"] != row.target:
            raise InputError(
                f"{final.folder}: sample {row.sample} of item {item} is not what was released; build the splits again"
            )
        answers = (greedy[item], Answer(request, samples[0]), Answer(request, samples[row.sample]))
        yield [_renamed(system, answer, row.reference) for system, answer in zip(SYSTEMS, answers, strict=True)]
    if waiting:
        raise InputError(f"{final.folder}: has no item {next(iter(waiting))}, which was released; build the step again")


def _renamed(system: str, answer: Answer, reference: str) -> Answer:
    asked = {"request": system, "first_sample": answer.completion["sample"], "n": 1, "reference": reference}
    return Answer(answer.request | asked, answer.completion | {"request": system})


def _greedy_answers(released: Mapping[str, ReleasedRow], prefilter: Step) -> Iterator[tuple[str, Answer]]:
    def wanted(item: str, name: str) -> bool:
        return name == GREEDY and item in released

    for requests, completions in prefilter.tables():
        asked = _picked(requests, REQUESTS, ("item_id", "request"), wanted)
        answered = _picked(completions, COMPLETIONS, ("item_id", "request"), wanted)
        for request, completion in zip_longest(asked, answered):
            if request is None or completion is None or request["item_id"] != completion["item_id"]:
                raise InputError(f"{completions}: does not belong to {requests}; delete it and build again")
            yield request["item_id"], Answer(request, completion)


def _final_answers(
    released: Mapping[str, ReleasedRow], final: Step
) -> Iterator[tuple[dict[str, Any], dict[int, dict[str, Any]]]]:
    """The request of each released item, with the first and the released of its samples."""

    def wanted(item: str, name: str, sample: int | None = None) -> bool:
        return name == SAMPLED and item in released and sample in (None, 0, released[item].sample)

    for requests, completions in final.tables():
        asked = _picked(requests, REQUESTS, ("item_id", "request"), wanted)
        answered = _picked(completions, COMPLETIONS, ("item_id", "request", "sample"), wanted)
        groups = groupby(answered, key=lambda row: row["item_id"])
        for request, group in zip_longest(asked, groups):
            if request is None or group is None or request["item_id"] != group[0]:
                raise InputError(f"{completions}: does not belong to {requests}; delete it and build again")
            yield request, {row["sample"]: row for row in group[1]}


def _picked(path: Path, table: Table, names: Sequence[str], wanted: Callable[..., bool]) -> Iterator[dict[str, Any]]:
    """The rows of a table whose values in some columns are wanted. Only those become Python objects."""
    for batch in read_batches(path, table):
        keys = zip(*(batch.column(name).to_pylist() for name in names), strict=True)
        places = [place for place, key in enumerate(keys) if wanted(*key)]
        yield from batch.take(pa.array(places, pa.int64())).to_pylist()


def write_pairs(pairs: Iterator[list[Answer]], count: int, shards: int, folder: Path, pairing: Pairing) -> None:
    """Writes requests and completions of `count` items in `shards` shards, cut evenly in their order."""
    for number, shard in enumerate(shard_names(shards)):
        size = (number + 1) * count // shards - number * count // shards
        with (
            open_table(folder / "requests" / f"{shard}.parquet", REQUESTS) as requests,
            open_table(folder / "completions" / f"{shard}.parquet", COMPLETIONS) as completions,
        ):
            for answers in islice(pairs, size):
                for answer in answers:
                    requests.write(answer.request)
                    completions.write(answer.completion)
                    system = answer.completion["request"]
                    pairing.failed[system] += answer.completion["error"] is not None
                    pairing.cut_off[system] += answer.completion["finish_reason"] == "length"
    # Behind the last item lies the check that none is missing.
    next(pairs, None)
