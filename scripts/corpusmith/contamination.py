"""Which texts share a run of words with a benchmark: decontamination by n-grams.

In, a benchmark row and a text of the corpus, with runs of 10 words (see `words` for what a word is):

    test.jsonl, row 7    Mina buys 3 apples a day. How many apples does she buy in a week?
    a problem            Each morning Mina buys 3 apples a day. How many apples does she have on Sunday?

Out, a match: test.jsonl, row 7, "mina buys 3 apples a day how many apples does she". With 5 apples in the problem there
is none: numbers are words like any other, never dropped or merged, or else problems of one template would all match.

The method is that of the GPT-3 paper (Brown et al. 2020, appendix C), which looked for runs of 13 words, or of as few
as 8 where a benchmark's examples are short. Here a match drops the row as a whole, and a benchmark text of fewer words
than a run matches where all of it stands in a row. Paraphrases and translations are not found.

Every place where a run's 64-bit hash is a benchmark's is compared word for word, so nothing matches by accident. The
benchmarks take some 20 bytes a word in memory, beside their vocabulary; the rows go by.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from corpusmith.errors import InputError
from corpusmith.words import words

_UNKNOWN = 0
_FACTOR = 0x9E3779B97F4A7C15

Ids = NDArray[np.uint32]
Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


class Match(NamedTuple):
    """What a text and a benchmark row share.

    text: which of the texts that were asked about; file: number of the benchmark file; row: its row, from 1;
    field: the row's field; shared: the words, as `words` gives them: the first run, as far as it goes on in both.
    """

    text: int
    file: int
    row: int
    field: str
    shared: str


class _Text(NamedTuple):
    file: int
    row: int
    field: str


@dataclass
class _Runs:
    """All runs of one size: their hashes, sorted, and where each begins among the benchmarks' words."""

    size: int
    hashes: Hashes
    places: Places


@dataclass
class Benchmarks:
    """The runs of words of benchmark texts. Take in all texts with `add`, then ask with `matches`.

    ngram: words of a run; min_words: the fewest words of a text that is compared.
    """

    ngram: int = 10
    min_words: int = 5
    _vocabulary: dict[str, int] = field(default_factory=dict)
    _words: list[str] = field(default_factory=lambda: [""])
    _tokens: array[int] = field(default_factory=lambda: array("I"))
    _starts: array[int] = field(default_factory=lambda: array("q", [0]))
    _texts: list[_Text] = field(default_factory=list)
    _runs: list[_Runs] | None = None

    def __post_init__(self) -> None:
        if min(self.ngram, self.min_words) < 1:
            raise InputError(
                f"decontamination: a run of {self.ngram} words, texts of at least {self.min_words}: both are at least 1"
            )

    def add(self, file: int, row: int, name: str, text: str) -> bool:
        """Takes in a text, of the field of that name; False where it has too few words to be compared."""
        found = words(text)
        if len(found) < self.min_words:
            return False
        for word in found:
            number = self._vocabulary.setdefault(word, len(self._words))
            if number == len(self._words):
                self._words.append(word)
            self._tokens.append(number)
        self._starts.append(len(self._tokens))
        self._texts.append(_Text(file, row, name))
        self._runs = None
        return True

    def matches(self, texts: Sequence[str]) -> Iterator[Match]:
        """The matches of some texts, by text: with each benchmark row the first run that they share.

        Runs of --ngram words come before whole texts that are shorter.
        """
        runs = self._all_runs()
        tokens, starts = array("I"), array("q", [0])
        for text in texts:
            tokens.extend(self._vocabulary.get(word, _UNKNOWN) for word in words(text))
            starts.append(len(tokens))
        ids, ends = np.frombuffer(tokens, np.uint32) if tokens else np.zeros(0, np.uint32), np.array(starts)
        hits = [hit for of_size in runs for hit in self._hits(ids, ends, of_size)]
        # Stable, so that of a text the longer runs stay in front.
        hits.sort(key=lambda hit: hit[0])
        seen: set[tuple[int, int, int]] = set()
        for number, place, there, size in hits:
            owner = self._texts[int(np.searchsorted(self._starts_array, there, "right")) - 1]
            key = (number, owner.file, owner.row)
            if key in seen or not np.array_equal(ids[place : place + size], self._ids[there : there + size]):
                continue
            seen.add(key)
            length = self._shared_length(ids[place : ends[number + 1]], there)
            shared = " ".join(self._words[token] for token in ids[place : place + length].tolist())
            yield Match(number, owner.file, owner.row, owner.field, shared)

    def _all_runs(self) -> list[_Runs]:
        if self._runs is not None:
            return self._runs
        self._ids: Ids = np.array(self._tokens, np.uint32)
        self._starts_array: Places = np.array(self._starts, np.int64)
        self._values = _mixed(np.arange(len(self._words), dtype=np.uint64))
        lengths = np.diff(self._starts_array)
        self._runs = []
        for size in [self.ngram, *sorted({int(length) for length in lengths if length < self.ngram}, reverse=True)]:
            hashes, places = _hash_runs(self._values[self._ids], self._starts_array, size)
            if size < self.ngram:
                whole = np.isin(places, self._starts_array[:-1][lengths == size])
                hashes, places = hashes[whole], places[whole]
            order = np.argsort(hashes, kind="stable")
            self._runs.append(_Runs(size, hashes[order], places[order]))
        return self._runs

    def _hits(self, ids: Ids, starts: Places, runs: _Runs) -> Iterator[tuple[int, int, int, int]]:
        """Where hashes are equal: the text, the place among the texts' words, that among the benchmarks', the size."""
        hashes, places = _hash_runs(self._values[ids], starts, runs.size)
        # A run with a word that no benchmark has is in none.
        unknown = np.concatenate(([0], np.cumsum(ids == _UNKNOWN)))
        known = unknown[places + runs.size] == unknown[places]
        hashes, places = hashes[known], places[known]
        first = np.searchsorted(runs.hashes, hashes, "left")
        last = np.searchsorted(runs.hashes, hashes, "right")
        for hit in np.flatnonzero(last > first).tolist():
            place = int(places[hit])
            number = int(np.searchsorted(starts, place, "right")) - 1
            for there in runs.places[first[hit] : last[hit]].tolist():
                yield number, place, there, runs.size

    def _shared_length(self, ids: Ids, there: int) -> int:
        """How far the run goes on in both. ids: the words of the text from the run on."""
        end = int(self._starts_array[np.searchsorted(self._starts_array, there, "right")])
        longest = min(len(ids), end - there)
        different = np.flatnonzero(ids[:longest] != self._ids[there : there + longest])
        return int(different[0]) if len(different) else longest


def _mixed(values: Hashes) -> Hashes:
    """Numbers that look random, one for each: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = (values + np.uint64(1)) * np.uint64(_FACTOR)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed


def _hash_runs(values: Hashes, starts: Places, size: int) -> tuple[Hashes, Places]:
    """The hash of every run of so many words that ends in the text where it begins, and where it begins.

    values: a number for each word; starts: where each text begins, and the end of the last.
    """
    count = max(0, len(values) - size + 1)
    hashes = np.zeros(count, np.uint64)
    for place in range(size):
        hashes += values[place : place + count] * np.uint64(pow(_FACTOR, place + 1, 2**64))
    ends = np.repeat(starts[1:], np.diff(starts))[:count]
    places = np.flatnonzero(np.arange(count) + size <= ends)
    return hashes[places], places
