"""Pruning: answers that nobody needs any more are removed, while others read and write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from corpusmith.store.compaction import belongs_to_the_dead, remove_replaced, seal_dead, write_merged
from corpusmith.store.folder import PARTIAL, ModelFolder, is_journal, is_segment, remove, stable_listing, vanished
from corpusmith.store.journal import Damage, JournalFile
from corpusmith.store.liveness import time_of
from corpusmith.store.reader import among
from corpusmith.store.rescue import set_aside
from corpusmith.store.segments import BrokenSegment, Segment, is_whole


@dataclass(frozen=True)
class Pruned:
    """What pruning removes of one model. whole: all of it. living: journals left as their writers may be alive."""

    kind: str
    model: str
    answers: int
    bytes: int
    whole: bool
    living: int


def prunable_files(folder: ModelFolder, dead_seconds: float, dry: bool) -> list[str]:
    """The files that are looked at: what comes later is left alone, as it may be used by what came later, too.

    Seals the journals of the dead, unless dry; those of the living are not among the files.
    """
    if not dry:
        seal_dead(folder, time_of(folder), dead_seconds)
        return [name for name in folder.files() if is_segment(name)]
    now = time.time()
    return [
        name
        for name in folder.files()
        if is_segment(name) or belongs_to_the_dead(folder, folder.path / name, now, dead_seconds)
    ]


def prune(folder: ModelFolder, names: list[str], kept: np.ndarray, segment_bytes: int, dry: bool) -> Pruned:
    """Removes the answers in these files to all keys but those kept, and the folder where no answer stays.

    kept: sorted. dry: only counts. The bytes are estimated where part of a segment goes.
    """
    answers = size = 0
    whole = True
    for name in names:
        path = folder.path / name
        try:
            unused, rows = _count_unused(folder, path, kept)
            answers, whole = answers + unused, whole and unused == rows
            size += round(unused / rows * path.stat().st_size) if rows else 0
            if unused and not dry:
                _rewrite(folder, path, kept, segment_bytes)
        except BrokenSegment as broken:
            # What can be read of it may be used.
            whole = False
            set_aside(folder, broken)
        except OSError as error:
            if not vanished(error):
                raise
            whole = False
    left = [name for name in folder.files() if name not in names]
    if whole and not left and not dry:
        _remove_folder(folder)
    living = sum(map(is_journal, left))
    return Pruned(folder.kind.name, folder.model, answers, size, whole and not left, living)


def _count_unused(folder: ModelFolder, path: Path, kept: np.ndarray) -> tuple[int, int]:
    """How many answers of a file are not kept, and how many there are."""
    rows = unused = 0
    for keys in _keys(folder, path):
        rows += len(keys)
        unused += int((~among(keys, kept)[0]).sum())
    return unused, rows


def _keys(folder: ModelFolder, path: Path) -> Iterator[np.ndarray]:
    if is_segment(path.name):
        with Segment(path, folder.kind) as segment:
            yield from segment.key_pieces()
        return
    with JournalFile(path, folder.kind) as journal:
        for frame in journal.frames():
            if not isinstance(frame, Damage):
                yield np.frombuffer(frame.keys, f"S{folder.kind.key_bytes}")


def _rewrite(folder: ModelFolder, path: Path, kept: np.ndarray, segment_bytes: int) -> None:
    """Replaces a segment by one without the answers that are not kept."""
    if not is_whole(path):
        raise BrokenSegment(path, "the checksum of the file")
    with Segment(path, folder.kind) as segment:
        outputs = write_merged(folder, [segment], segment_bytes, kept)
    remove_replaced([path], outputs)


def _remove_folder(folder: ModelFolder) -> None:
    """Removes the folder of a model without answers, unless somebody writes there."""
    if folder.files() or folder.others(PARTIAL):
        return
    for name in stable_listing(folder.path):
        if not is_journal(name) and not is_segment(name) and not name.endswith(PARTIAL):
            remove(folder.path / name)
    try:
        folder.path.rmdir()
    except FileNotFoundError:
        pass
    except OSError:
        # Somebody has begun to write in this moment.
        folder.make()
