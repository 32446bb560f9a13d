"""Looking up answers in the segments and journals of one model.

Many files may answer a key. Which answer wins depends on the answers alone: the one that was committed first and,
of those committed in the same microsecond, the lowest. So files may be read in any order, any number of times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from corpusmith.program import log
from corpusmith.store.folder import ModelFolder, Patience, is_segment, vanished
from corpusmith.store.journal import Damage, JournalFile, journal_entries
from corpusmith.store.kinds import COMMITTED, Kind
from corpusmith.store.rescue import set_aside
from corpusmith.store.segments import BrokenSegment, Segment, may_hold, take


@dataclass(frozen=True, order=True)
class Entry:
    """An answer as it is kept. The lowest one of a key wins."""

    committed: int
    values: tuple[Any, ...]


@dataclass
class Hits:
    """Answers found in one place: the places of their keys among the wanted, and the entries without their keys."""

    places: np.ndarray
    entries: pa.Table


_NOTHING = pa.table({})
# Files that are searched at once: Arrow decodes, and the system reads, without holding up the other thread.
_THREADS = 2


def unique_keys(kind: Kind, keys: Iterable[bytes]) -> np.ndarray:
    """Keys sorted, each once, in as many bytes as they have. Raises ValueError where one is of another size."""
    joined = bytearray()
    for key in keys:
        if len(key) != kind.key_bytes:
            raise ValueError(f"{key!r} is no key of {kind.name}: it has to be {kind.key_bytes} bytes")
        joined += key
    return np.unique(np.frombuffer(bytes(joined), f"S{kind.key_bytes}"))


def whole_keys(kind: Kind, keys: np.ndarray) -> list[bytes]:
    """Keys as bytes, with the zeros at their end that numpy leaves out."""
    return [key.ljust(kind.key_bytes, b"\0") for key in keys.tolist()]


def among(keys: np.ndarray, sorted_keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each key whether it is among the sorted ones, and its place there if it is."""
    if len(sorted_keys) == 0:
        return np.zeros(len(keys), bool), np.zeros(len(keys), np.int64)
    places = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return sorted_keys[places] == keys, places


def find_winners(folder: ModelFolder, wanted: np.ndarray) -> dict[int, Entry]:
    """The winning entry of each wanted key that has one, by the key's place among the wanted."""
    winners: dict[int, Entry] = {}
    for hits in find(folder, wanted, [COMMITTED, *folder.kind.columns]):
        columns = [column.to_pylist() for column in hits.entries.columns]
        for place, committed, *values in zip(hits.places.tolist(), *columns, strict=True):
            entry = Entry(committed, tuple(values))
            known = winners.get(place)
            if known is None or entry < known:
                winners[place] = entry
    return winners


def which_found(folder: ModelFolder, wanted: np.ndarray) -> np.ndarray:
    """Of each wanted key whether it has an answer, without reading any."""
    found = np.zeros(len(wanted), bool)
    for hits in find(folder, wanted, []):
        found[hits.places] = True
    return found


def find(folder: ModelFolder, wanted: np.ndarray, columns: Sequence[str]) -> Iterator[Hits]:
    """Everything that is known of the wanted keys: all files that were there at one moment, and maybe later ones.

    A file that is gone when it is to be read was sealed or compacted: what took its place is read instead.
    """
    done: set[str] = set()
    patience = Patience(folder.path)
    complete = len(wanted) == 0
    with ThreadPoolExecutor(_THREADS) as pool:
        while not complete:
            complete = True
            names = [name for name in folder.files() if name not in done]
            searches = [pool.submit(_find_in, folder, name, wanted, columns) for name in names]
            for name, search in zip(names, searches, strict=True):
                try:
                    yield from search.result()
                    done.add(name)
                    patience = Patience(folder.path)
                except BrokenSegment as broken:
                    if set_aside(folder, broken):
                        # What could be read of it lies in a new segment now, maybe of the same name.
                        complete = False
                    else:
                        done.add(name)
                except OSError as error:
                    if not vanished(error):
                        raise
                    complete = False
            if not complete:
                patience.wait()


def _find_in(folder: ModelFolder, name: str, wanted: np.ndarray, columns: Sequence[str]) -> list[Hits]:
    path = folder.path / name
    if not is_segment(name):
        with JournalFile(path, folder.kind) as journal:
            return list(_find_in_journal(journal, folder.kind, wanted, columns))
    if not may_hold(name, wanted):
        return []
    with Segment(path, folder.kind) as segment:
        return [Hits(places, entries) for places, entries in segment.find(wanted, columns)]


def _find_in_journal(journal: JournalFile, kind: Kind, wanted: np.ndarray, columns: Sequence[str]) -> Iterator[Hits]:
    for frame in journal.frames():
        if isinstance(frame, Damage):
            report_damage(journal, frame)
            continue
        found, places = among(np.frombuffer(frame.keys, wanted.dtype), wanted)
        if not found.any():
            continue
        rows = np.flatnonzero(found)
        answers = journal.answers(frame)
        if isinstance(answers, Damage):
            report_damage(journal, answers)
            continue
        entries = journal_entries(frame, answers, kind)
        yield Hits(places[rows], take(entries.select(columns), rows) if columns else _NOTHING)


def report_damage(journal: JournalFile, damage: Damage) -> None:
    """Says what of a journal cannot be read, unless it is what every killed writer may leave."""
    if not damage.at_end:
        log.error(
            "%s: %s bytes from byte %s on are damaged (%s); the answers in them will be asked for again",
            journal.path,
            damage.length,
            damage.offset,
            damage.reason,
        )
