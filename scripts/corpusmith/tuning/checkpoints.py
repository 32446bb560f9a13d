"""Checkpoints of a training: those that are whole, and which to go on from.

    checkpoints/3f2a…/checkpoint-40/whole.json    {"step": 40, "seconds": 61.2, "peak_memory_mb": 5210}

A folder for each fingerprint of rows and settings, so that a training never goes on from one of other settings.
`whole.json` comes last: a checkpoint without it is half-written.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from corpusmith.errors import InputError
from corpusmith.files import read_json, sync, write_json
from corpusmith.program import log

MARK = "whole.json"
_PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Progress:
    """How far a checkpoint is. seconds, peak_memory_mb: of the training so far, all attempts together."""

    step: int = 0
    seconds: float = 0.0
    peak_memory_mb: int = 0


def mark_whole(folder: Path, progress: Progress) -> None:
    """Says that a checkpoint is whole, once all of it would survive a crash of the machine."""
    for path in sorted(folder.rglob("*")):
        sync(path)
    write_json(folder / MARK, asdict(progress))


def newest_whole(state: Path) -> tuple[Path, Progress] | None:
    """The checkpoint to go on from, if any. Half-written ones are removed, with a line."""
    for folder in reversed(_checkpoints(state)):
        try:
            return folder, Progress(**read_json(folder / MARK))
        except (FileNotFoundError, InputError, TypeError):
            log.warning("%s is half-written: it is removed", folder)
            shutil.rmtree(folder, ignore_errors=True)
    return None


def rotate(state: Path, keep: int, also: str | None = None) -> None:
    """Removes all but the newest checkpoints. also: one that stays, such as the best."""
    for folder in _checkpoints(state)[: -max(1, keep)]:
        if also is None or folder.name != Path(also).name:
            shutil.rmtree(folder, ignore_errors=True)


def others(folder: Path, fingerprint: str) -> list[str]:
    """Fingerprints of other settings with checkpoints."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name != fingerprint and _checkpoints(path))


def _checkpoints(state: Path) -> list[Path]:
    """In order of their steps."""
    found = [path for path in state.glob(f"{_PREFIX}*") if path.is_dir() and path.name[len(_PREFIX) :].isdigit()]
    return sorted(found, key=lambda path: int(path.name[len(_PREFIX) :]))
