"""What a look-up in the store found missing, and the GPUs that follow from it: none where nothing is.

A small file beside each table to be made, gone when the table is there. Imported by the Snakefile: nothing heavy here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from corpusmith.errors import InputError
from corpusmith.files import write_json

_MISSING = "missing"


def write_missing(path: str | Path, missing: int | None) -> None:
    """Writes how many answers are missing. None: nobody knows, and some may be."""
    write_json(path, {_MISSING: missing})


def gpus_wanted(gpus: int, path: str | Path, attempt: int) -> int:
    """GPUs of a job that needs so many where an answer is missing. path: the look-up's file, empty where there is none.

    A second attempt gets them in any case: what was found may be gone, or the look-up old.
    """
    if not path or attempt > 1:
        return gpus
    try:
        return 0 if json.loads(Path(path).read_text(encoding="utf-8"))[_MISSING] == 0 else gpus
    except (OSError, ValueError, KeyError, TypeError):
        return gpus


@contextlib.contextmanager
def forgetting(path: str | Path | None) -> Iterator[None]:
    """Where the block fails for want of something, such as a GPU, the look-up may be old: it counts no longer."""
    try:
        yield
    except InputError:
        if path:
            write_missing(path, None)
        raise
