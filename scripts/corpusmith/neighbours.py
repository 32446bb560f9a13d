"""Which rows go as neighbours of others, by embeddings whose cosine reaches a threshold.

    rows of length 1, visited in this order: a (1, 0), b (0.98, 0.199), c (0.92, 0.392); similarity 0.975
    a stays; b goes, 0.98 to a; c stays: it is 0.9796 to b, which went, and 0.92 to a

Rows are visited best first; one goes when a row that stays is at least that similar, and the first such row is named.
So what goes always has a row that stays, and rows that are each near the next one do not fall as a chain. Magpie
(magpie-align/magpie, exp/gen_dis.py) drops a row for any row before it, whether that stays or not, within a squared
distance of 0.05 of all-mpnet-base-v2 embeddings: a cosine of 0.975.

faiss finds who may be near; the cosine of each such pair is then taken in float64 from the two vectors and rounded to
six places, so that what goes does not depend on blocks, threads or a machine's order of summing.

Cost: up to `exact_up_to` rows every row is held against every row that stays, n² / 2 products of the width: 110,000
sentences as vectors of 256 took 34 s on one core, and twice as many take four times as long. More rows are put into
4 √n cells around centres that are learnt from the rows, and each is held against those of the PROBES cells that are
nearest to it: 18 s for the same. A neighbour in another cell is missed, none is made up: 99.7 % as many rows went at
0.975, 97.9 % at 0.9 (benchmarks/neighbours.py). Rows that stay lie in memory, 4 bytes a number.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from corpusmith.errors import InputError
from corpusmith.program import log

EXACT_UP_TO = 100_000
PROBES = 16
_BLOCK = 1024
# faiss's float32 products are off by less than this; those that decide are computed anew.
_SLACK = 1e-4
_PLACES = 6
_ROWS_PER_CELL = 64
_ROUNDS = 10

Vectors = NDArray[np.float32]


def find_neighbours(
    vectors: Vectors,
    visits: NDArray[np.int64],
    similarity: float,
    exact_up_to: int = EXACT_UP_TO,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[int, tuple[int, float]]:
    """The rows that go, each with the first row that stays near it, and their cosine.

    vectors: (rows, width), of length 1, zeros for a row that is nobody's neighbour; may lie on disk. visits: the rows
    best first. similarity: above 0, at most 1. advance: is told how many more rows are decided. Raises InputError for
    another similarity.
    """
    if not 0 < similarity <= 1:
        raise InputError(f"neighbours: a similarity is above 0 and at most 1, not {similarity}")
    faiss.omp_set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    index = _index(vectors, visits, exact_up_to)
    # Rows that stay, by their numbers in the index: those are in the order of the visits.
    stay: list[int] = []
    gone: dict[int, tuple[int, float]] = {}
    for start in range(0, len(visits), _BLOCK):
        rows = visits[start : start + _BLOCK]
        block = np.ascontiguousarray(vectors[rows])
        present = np.flatnonzero(block.any(axis=1))
        if len(present):
            near = _earlier(index, block[present], similarity)
            new = []
            for place, numbers in zip(present.tolist(), near, strict=True):
                row = int(rows[place])
                found = _first_near(vectors, row, [stay[number] for number in numbers], similarity)
                if found is None:
                    new.append(place)
                else:
                    gone[row] = found
            staying = _settle(vectors, rows, block, new, similarity, gone)
            stay += [int(rows[place]) for place in staying]
            if staying:
                index.add(block[staying])
        advance(len(rows))
    return gone


def _settle(
    vectors: Vectors,
    rows: NDArray[np.int64],
    block: Vectors,
    places: list[int],
    similarity: float,
    gone: dict[int, tuple[int, float]],
) -> list[int]:
    """The places in a block that stay, among those that are near none before the block; the others go."""
    close = block[places] @ block[places].T > similarity - _SLACK
    staying: list[int] = []
    for number, place in enumerate(places):
        row = int(rows[place])
        others = [other for other in staying if close[number, other]]
        found = _first_near(vectors, row, [int(rows[places[other]]) for other in others], similarity)
        if found is None:
            staying.append(number)
        else:
            gone[row] = found
    return [places[number] for number in staying]


def _earlier(index: Any, block: Vectors, similarity: float) -> list[list[int]]:
    """For each vector the numbers, in order, of those in the index that may be near it."""
    ends, _, numbers = index.range_search(block, similarity - _SLACK)
    return [np.sort(numbers[first:last]).tolist() for first, last in pairwise(ends.tolist())]


def _first_near(vectors: Vectors, row: int, others: list[int], similarity: float) -> tuple[int, float] | None:
    """The first of some rows that is near a row, and their cosine."""
    for other in others:
        found = cosine(vectors[row], vectors[other])
        if found >= similarity:
            return other, found
    return None


def cosine(one: Vectors, other: Vectors) -> float:
    """The cosine of two vectors, rounded to six places; 0 where one is zeros."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    lengths = math.sqrt(float(first @ first) * float(second @ second))
    return round(float(first @ second) / lengths, _PLACES) if lengths else 0.0


def _index(vectors: Vectors, visits: NDArray[np.int64], exact_up_to: int) -> Any:
    rows, width = vectors.shape
    flat = faiss.IndexFlatIP(width)
    if rows <= exact_up_to:
        return flat
    cells = int(4 * math.sqrt(rows))
    index = faiss.IndexIVFFlat(flat, width, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.spherical, index.cp.seed = _ROUNDS, True, 1
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, _ROWS_PER_CELL
    index.nprobe = min(PROBES, cells)
    # Evenly over the visits, so that good rows and bad ones have their cells.
    sample = visits[np.linspace(0, rows - 1, min(rows, cells * _ROWS_PER_CELL)).astype(np.int64)]
    log.info("%s rows are more than %s: they are put into %s cells", f"{rows:,}", f"{exact_up_to:,}", f"{cells:,}")
    index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
    return index
