"""Near duplicates among many texts: candidates by MinHash, each held against the text itself.

A text is the set of its shingles, runs of --ngram words (see `words`; a shorter text is one shingle). Two texts are
near when the Jaccard similarity of their sets is at least the threshold, and, where numbers are kept distinct, the same
numbers, signs and names of numbers stand in both in the same order:

    "How many apples does Mina have left in the end?"      ┐ near: 6 of 7 shingles of 5 words are
    "So how many apples does Mina have left in the end?"   ┘ shared, 0.857

Which pairs are compared is decided by MinHash (Broder 1997) and banding: rensa's signatures of PERMUTATIONS numbers are
cut into bands, as wide as still finds RECALL of the pairs that are only just near, and pairs that agree in a whole band
are compared. So of pairs at the threshold a few may be missed, of closer ones hardly any; none is ever made up.
What numbers stand in a text goes into its bands, so that word problems of one template are not even compared.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpusmith.errors import InputError
from corpusmith.files import naming
from corpusmith.program import Progress
from corpusmith.words import numbers, words_of_folded

PERMUTATIONS = 128
RECALL = 0.995
_SEED = 20_240_601
_CACHED_SHINGLES = 1_000_000
_MIX = np.uint64(0x9E3779B97F4A7C15)

Rows = NDArray[np.int64]
Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class Nearness:
    """What is near: similarity from 0 (excluded) to 1, words of a shingle, whether numbers have to be equal."""

    threshold: float = 0.8
    ngram: int = 5
    numbers_distinct: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise InputError(f"near duplicates: a similarity is above 0 and at most 1, not {self.threshold}")
        if self.ngram < 1:
            raise InputError(f"near duplicates: a shingle has at least one word, not {self.ngram}")


@dataclass(frozen=True)
class Compared:
    """What of a text is compared; two with different numbers are not near."""

    numbers: tuple[str, ...]
    shingles: frozenset[str]

    def similarity(self, other: Compared) -> float:
        """Jaccard similarity: 0 to 1; 0 where the numbers differ or where either has no words."""
        if self.numbers != other.numbers:
            return 0.0
        shared = len(self.shingles & other.shingles)
        return shared / (len(self.shingles) + len(other.shingles) - shared) if shared else 0.0


def compared(folded: str, nearness: Nearness) -> Compared:
    """What of a text is compared. folded: what `words.fold` returned."""
    words = words_of_folded(folded)
    size = nearness.ngram
    shingles = frozenset(" ".join(words[place : place + size]) for place in range(max(1, len(words) - size + 1)))
    return Compared(numbers(words) if nearness.numbers_distinct else (), shingles if words else frozenset())


def band_shape(threshold: float) -> tuple[int, int]:
    """How many bands of how many numbers: the widest that still find RECALL of the pairs at the threshold.

    Two signatures agree in one number with the probability of the texts' similarity.
    """
    for width in range(PERMUTATIONS, 1, -1):
        bands = PERMUTATIONS // width
        if 1 - (1 - threshold**width) ** bands >= RECALL:
            return bands, width
    return PERMUTATIONS, 1


class Signatures:
    """The band keys of many texts, 8 bytes a band, and the sizes of their sets.

    capacity: how many texts there will be at most.
    """

    def __init__(self, capacity: int, nearness: Nearness) -> None:
        self._nearness = nearness
        self._bands, self._width = band_shape(nearness.threshold)
        self._keys: Keys = np.empty((self._bands, capacity), np.uint64)
        self.sizes: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.count = 0

    def add(self, folded: Sequence[str]) -> None:
        """Takes the next texts, as `words.fold` returned them."""
        from rensa import RMinHash

        texts = [compared(text, self._nearness) for text in folded]
        matrix = RMinHash.digest_matrix_from_token_sets([list(text.shingles) for text in texts], PERMUTATIONS, _SEED)
        signatures = np.array(matrix.to_rows(), np.uint64).reshape(len(texts), PERMUTATIONS)
        own = np.array([_number_key(text.numbers) for text in texts], np.uint64)
        here = slice(self.count, self.count + len(texts))
        for band in range(self._bands):
            key = own.copy()
            for place in range(band * self._width, (band + 1) * self._width):
                key = _mixed(key ^ signatures[:, place])
            self._keys[band, here] = key
        self.sizes[here] = [len(text.shingles) for text in texts]
        self.count += len(texts)

    def buckets(self) -> tuple[Rows, Rows]:
        """Which texts share a band with another: pairs of text and bucket, sorted by text. Texts without words do not.

        Frees the keys.
        """
        filled = np.flatnonzero(self.sizes[: self.count])
        found_texts, found_buckets, first = [], [], 0
        for band in range(self._bands):
            keys = self._keys[band, filled]
            order = np.argsort(keys, kind="stable")
            same = np.diff(keys[order]) == 0 if len(order) else np.zeros(0, bool)
            shared = np.append(same, False) | np.insert(same, 0, False) if len(order) else same
            run = np.cumsum(np.insert(~same, 0, True))[shared] if len(order) else np.zeros(0, np.int64)
            found_texts.append(filled[order[shared]])
            found_buckets.append(first + run.astype(np.int64))
            first += len(order) + 1
        self._keys = np.empty((self._bands, 0), np.uint64)
        texts, buckets = np.concatenate(found_texts), np.concatenate(found_buckets)
        by_text = np.argsort(texts, kind="stable")
        return texts[by_text], buckets[by_text]


def _number_key(found: tuple[str, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(found).encode(), digest_size=8).digest(), "big")


def _mixed(keys: Keys) -> Keys:
    keys = keys * _MIX
    mixed: Keys = keys ^ (keys >> np.uint64(32))
    return mixed


class SpilledTexts:
    """Texts on disk, each known by a number, and what of the last ones used is compared.

    folder: where a file for them is made; it is gone with the object.
    """

    def __init__(self, folder: str | Path, nearness: Nearness) -> None:
        self._nearness = nearness
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file: Any = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._places: dict[int, tuple[int, int]] = {}
        self._end = 0
        self._cache: OrderedDict[int, Compared] = OrderedDict()
        self._cached = 0

    def add(self, number: int, folded: str) -> None:
        """Takes a text, as `words.fold` returned it."""
        data = folded.encode("utf-8", "surrogatepass")
        with naming(self._folder):
            self._file.write(data)
        self._places[number] = (self._end, len(data))
        self._end += len(data)

    def get(self, number: int) -> Compared:
        """What of a text is compared."""
        found = self._cache.get(number)
        if found is not None:
            self._cache.move_to_end(number)
            return found
        start, length = self._places[number]
        with naming(self._folder):
            self._file.seek(start)
        found = compared(self._file.read(length).decode("utf-8", "surrogatepass"), self._nearness)
        self._cache[number] = found
        self._cached += len(found.shingles)
        while self._cached > _CACHED_SHINGLES and len(self._cache) > 1:
            _, old = self._cache.popitem(last=False)
            self._cached -= len(old.shingles)
        return found

    def close(self) -> None:
        """Removes the file."""
        self._file.close()


def near_kept(
    visits: Iterable[int], shared: tuple[Rows, Rows], sizes: NDArray[np.int32], texts: SpilledTexts, threshold: float
) -> dict[int, tuple[int, float]]:
    """The texts that go: each with the kept text that it is near, the one visited first, and their similarity.

    visits: the texts that share a bucket, best first: each is kept unless it is near one that was kept before it.
    shared: what Signatures.buckets returned; sizes: those of the sets.
    """
    owners, buckets = shared
    kept_in: dict[int, list[tuple[int, int]]] = {}
    dropped: dict[int, tuple[int, float]] = {}
    with Progress("compare", len(np.unique(owners)), "texts") as progress:
        for visit, text in enumerate(visits):
            first, last = np.searchsorted(owners, (text, text + 1))
            mine = buckets[first:last].tolist()
            size = int(sizes[text])
            for _, other in sorted({kept for bucket in mine for kept in kept_in.get(bucket, ())}):
                other_size = int(sizes[other])
                # No two sets are more similar than the smaller is large.
                if min(size, other_size) / max(size, other_size) < threshold:
                    continue
                similarity = texts.get(text).similarity(texts.get(other))
                if similarity >= threshold:
                    dropped[text] = (other, similarity)
                    break
            else:
                for bucket in mine:
                    kept_in.setdefault(bucket, []).append((visit, text))
            progress.advance()
    return dropped
