"""Which rows of a table go as duplicates of others, by one column.

In: the texts of the rows, as often as they are asked for, and an order. Out: for each row the row that is kept in its
place. With the lowest pass rate first:

    row  problem                               pass_rate
    0    How many apples does Mina have left?  0.5         duplicate of 1
    1    How many apples  does mina have left? 0.25        kept
    2    null                                  none        kept: it is nothing's duplicate

Rows are visited best first; one goes when it is equal to, or near, a row that was kept before. So the result follows
from the texts and the order alone, and what goes always has a kept row that it is a duplicate of: rows that are each
near the next one do not fall as a chain.

Equal are texts that are equal after `words.fold`, known by a hash of 128 bits. What is near, `near_duplicates` says.

What a million rows of 50 words cost, of which a tenth are near another, at a similarity of 0.8 (measured on two cores
that others used too): 3.5 minutes, 93 s of them computing, and 650 MB. In memory are some 60 bytes a row for equal
texts, and for near ones 8 bytes a band (21 bands at 0.8, more below); texts never are: the column is read three times,
and those that have to be compared lie in a temporary file beside the output. Time grows with the rows, but for texts of
one template that are often compared and rarely near enough: among those it grows with the square.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpusmith.near_duplicates import Nearness, Rows, Signatures, SpilledTexts, near_kept
from corpusmith.program import track
from corpusmith.words import fold

_CHUNK = 1024
_HASH_BYTES = 16

ReadTexts = Callable[[], Iterable[str | None]]
"""Reads the texts of all rows in order, from the first, each time it is called."""


@dataclass
class Verdicts:
    """What becomes of each row.

    kept_by: the row that is kept in its place, or itself. similarity: of rows that are near it; others are equal to it.
    """

    kept_by: Rows
    similarity: dict[int, float]

    def kept(self, row: int) -> bool:
        """Whether the row stays."""
        return int(self.kept_by[row]) == row


def find_duplicates(
    read_texts: ReadTexts,
    rows: int,
    visits: Rows | None = None,
    nearness: Nearness | None = None,
    folder: Path = Path(),
) -> Verdicts:
    """Decides on each row.

    visits: the rows best first (default: in their order). nearness: what is near, None: only equal texts are
    duplicates. folder: where texts that have to be compared lie meanwhile.
    """
    visits = np.arange(rows) if visits is None else visits
    rank = np.empty(rows, np.int64)
    rank[visits] = np.arange(rows)
    verdicts = Verdicts(np.arange(rows), {})
    first, present = _first_of_equals(read_texts, rows, rank)
    verdicts.kept_by[present] = first[present]
    if nearness is None:
        return verdicts
    distinct = present & (first == np.arange(rows))
    near = _near(read_texts, distinct, rank, nearness, folder)
    for row, (kept, similarity) in near.items():
        verdicts.kept_by[row] = kept
        verdicts.similarity[row] = similarity
    # A text equal to one that is near another is near it, too.
    gone = np.zeros(rows, bool)
    gone[list(near)] = True
    for row in np.flatnonzero(gone[first] & ~distinct & present).tolist():
        verdicts.kept_by[row], verdicts.similarity[row] = near[int(first[row])]
    return verdicts


def _first_of_equals(read_texts: ReadTexts, rows: int, rank: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """For each row with a text the best one with that text; and which rows have one."""
    hashes = bytearray()
    present = np.zeros(rows, bool)
    for row, text in enumerate(track(read_texts(), "equal texts", rows)):
        present[row] = text is not None
        folded = "" if text is None else fold(text)
        hashes += hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()
    halves = np.frombuffer(hashes, np.uint64).reshape(rows, 2)
    order = np.lexsort((rank, halves[:, 1], halves[:, 0], ~present))
    changes = np.any(halves[order][1:] != halves[order][:-1], axis=1)
    starts = np.flatnonzero(np.insert(changes, 0, True)[:rows])
    first = np.empty(rows, np.int64)
    first[order] = np.repeat(order[starts], np.diff(np.append(starts, rows)))
    return first, present


def _near(
    read_texts: ReadTexts, distinct: NDArray[np.bool_], rank: Rows, nearness: Nearness, folder: Path
) -> dict[int, tuple[int, float]]:
    """The distinct rows that go, each with the kept row that it is near, and their similarity."""
    rows = np.flatnonzero(distinct)
    signatures = Signatures(len(rows), nearness)
    for chunk in _chunks(track((text for _, text in _chosen(read_texts, distinct)), "signatures", len(rows)), _CHUNK):
        signatures.add(chunk)
    shared = signatures.buckets()
    candidates = np.unique(shared[0])
    wanted = np.zeros(len(distinct), bool)
    wanted[rows[candidates]] = True
    texts = SpilledTexts(folder, nearness)
    try:
        for number, (_, text) in zip(candidates.tolist(), _chosen(read_texts, wanted), strict=True):
            texts.add(number, text)
        visits = candidates[np.argsort(rank[rows[candidates]])].tolist()
        found = near_kept(visits, shared, signatures.sizes, texts, nearness.threshold)
    finally:
        texts.close()
    return {int(rows[number]): (int(rows[kept]), similarity) for number, (kept, similarity) in found.items()}


def _chosen(read_texts: ReadTexts, wanted: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
    for row, text in enumerate(read_texts()):
        if wanted[row] and text is not None:
            yield row, fold(text)


def _chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
