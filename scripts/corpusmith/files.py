"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def whole_file(path: str | Path, *, lasting: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`; moved onto it when the block ends well, removed when it does not.

    lasting: whether it survives a crash of the machine; not waited for where a checksum tells, and it can be made anew.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        with naming(path):
            yield partial
            commit(partial, path, lasting=lasting)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path`; takes its place when the block ends well, removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial"))
    aside = partial.with_suffix(".old.partial")
    try:
        with naming(path):
            yield partial
            for found in [partial, *sorted(partial.rglob("*"))]:
                if found.exists():
                    _make_readable(found)
                    sync(found)
            if path.exists():
                # Removed in its place, an old folder could be left with half its files.
                os.replace(path, aside)
            os.replace(partial, path)
            sync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Names the file in errors of a full disk: neither Python nor Arrow says what there was no room for."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:
            error.filename = str(path)
        raise


def commit(partial: Path, path: Path, *, lasting: bool = True) -> None:
    """Moves a finished file onto its name so that, if it is to last, it survives a crash of the machine."""
    _make_readable(partial)
    if lasting:
        sync(partial)
    os.replace(partial, path)
    if lasting:
        sync(path.parent)


def _make_readable(path: Path) -> None:
    # mkstemp gives 0600 and mkdtemp 0700; what we make is as readable as any other file of the user's.
    mask = os.umask(0)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def sync(path: Path) -> None:
    """Makes a file, or the names in a folder, survive a crash of the machine."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON that people can read, the same bytes for the same value."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """The value of a JSON file that one of our programs wrote. Raises InputError where it is no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is no JSON, or a broken file ({error}); delete it and build again") from error


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
