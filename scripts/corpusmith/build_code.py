"""What a running build works from: a copy of code, config and prompts that nobody edits.

A build on a cluster runs for days, and each of its jobs reads the Snakefile, the rules, the config and the program anew
when it starts. Edits meanwhile would change what runs: half of a table by the old prompt, half by the new one, or jobs
that find their inputs out of date and make them again (issue 3234 of Snakemake). So a build copies what it was started
with and lets its jobs read that. Imported by the Snakefile: standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError

# What of a checkout decides what is built.
PARTS = ("Snakefile", "rules", "scripts", "envs", "config/schemas")
CONFIG = "config.json"
_FILES = "files"
_DAYS_TO_KEEP = 30


class BuildCode:
    """Where a build's programs and prompts are: in the checkout, and, once it runs, in its copy.

    checkout: the Snakefile's folder, which is a copy's own in the jobs of a build that has one; files: further files
    that programs read and people edit.
    """

    def __init__(self, checkout: Path, files: Iterable[str] = ()) -> None:
        self._folder = checkout.resolve()
        self._files = sorted(set(files))
        self._state: str | None = None

    @property
    def scripts(self) -> Path:
        """The folder of the programs."""
        return self._folder / "scripts"

    def program(self, name: str) -> str:
        """Where a program is, as a word for the shell."""
        return shlex.quote(_short(self.scripts / name))

    def file(self, path: str) -> str:
        """Where the build's own version of a file is; the file itself where it has no copy."""
        copy = self._folder / _FILES / _name_of_copy(path)
        return _short(copy) if copy.is_file() else path

    def digest(self, paths: Iterable[str]) -> str:
        """Of the build's own version of some files: 16 hexadecimal digits, by their contents alone.

        One that is missing counts as such: Snakemake says that it is.
        """
        state = hashlib.sha256()
        for path in paths:
            file = Path(self.file(path))
            state.update((_digest(file) if file.is_file() else "missing").encode())
        return state.hexdigest()[:16]

    def remember(self) -> None:
        """Remembers how the checkout is, for `freeze`. Called when the Snakefile is read."""
        self._state = _state(self._contents())

    def freeze(self, config: Mapping[str, Any], folder: Path) -> Path:
        """Makes the copy, of code, files and config, and works from it. Returns its folder, a new one under `folder`.

        The same code with the same config has one copy. Raises InputError where the checkout has changed since
        `remember`: the plan would be that of another version.
        """
        contents = dict(self._contents())
        state = _state(contents.items())
        if self._state not in (None, state):
            raise InputError("code or prompts were edited while this build was planned; start it again")
        text = json.dumps(config, indent=1, default=str).encode()
        name = hashlib.sha256(f"{state}\n".encode() + text).hexdigest()[:16]
        copy = folder.resolve() / name
        if not copy.is_dir():
            unfinished = copy.with_name(f".{name}.{os.getpid()}.partial")
            for place, content in [*contents.items(), (CONFIG, text)]:
                target = unfinished / place
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                if (self._folder / place).is_file():
                    # Some are executable.
                    shutil.copymode(self._folder / place, target)
            try:
                unfinished.rename(copy)
            except OSError:
                # Another build has just made it.
                shutil.rmtree(unfinished, ignore_errors=True)
                if not copy.is_dir():
                    raise
        os.utime(copy)
        _remove_old(copy)
        self._folder = copy
        return copy

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        """Every file with its place in the copy."""
        for part in PARTS:
            root = self._folder / part
            for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
                # Hidden files are those of editors and file systems.
                if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                    yield path.relative_to(self._folder).as_posix(), path.read_bytes()
        for name in self._files:
            if Path(name).is_file():
                yield f"{_FILES}/{_name_of_copy(name)}", Path(name).read_bytes()


def _name_of_copy(path: str) -> str:
    return f"{hashlib.sha256(path.encode()).hexdigest()[:16]}-{Path(path).name}"


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _state(contents: Iterable[tuple[str, bytes]]) -> str:
    state = hashlib.sha256()
    for place, content in contents:
        state.update(f"{place}\n{hashlib.sha256(content).hexdigest()}\n".encode())
    return state.hexdigest()


def _short(path: Path) -> str:
    """Seen from the working folder where it lies under it, which is shorter to read in a log."""
    here = Path.cwd().resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _remove_old(current: Path) -> None:
    """Removes copies that no build has used for long: jobs that have waited since are not waited for any more."""
    for copy in current.parent.iterdir():
        try:
            if copy == current or time.time() - copy.stat().st_mtime <= _DAYS_TO_KEEP * 86400:
                continue
            if not copy.name.startswith("."):
                # Whoever is killed meanwhile must not leave half a copy under a name that builds look for.
                copy = copy.rename(copy.with_name(f".{copy.name}.{os.getpid()}.partial"))
        except OSError:
            # Another build has just removed it, or finished it.
            continue
        shutil.rmtree(copy, ignore_errors=True)
