"""Which answers of a store builds use: those that their tables of completions and scores name.

Tables are looked for below whole folders of results, so that also what no config asks for any more is found. An answer
that a build has paid for and not yet written into a table is named nowhere: who wants to remove all others has to know
first that there is no such build.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from corpusmith.errors import InputError
from corpusmith.program import track
from corpusmith.store.kinds import COMPLETION, SCORE
from corpusmith.table_files import read_batches
from corpusmith.tables import COMPLETIONS, SCORES, Table

_SHARD = re.compile(r"\d+-of-\d+\.parquet")
_LIMIT = r"-limit-\d+"
_NAMED = 5
# Keys that wait until they are sorted in among the others.
_WAITING = 1 << 20
_KEY_DIGITS = 32
# Of each hexadecimal digit its value; of everything else what is none.
_NO_DIGIT = 0xFF
_DIGITS = np.full(256, _NO_DIGIT, np.uint8)
for _value, _pair in enumerate(("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "aA", "bB", "cC", "dD", "eE", "fF")):
    for _digit in _pair:
        _DIGITS[ord(_digit)] = _value


def _part(table: Table, *names: str) -> Table:
    return Table(table.name, *(column for column in table.columns if column.name in names))


# What a key is made of, so that tables which lack newer columns can be read, too.
_COMPLETION_KEYS = _part(COMPLETIONS, "sample", "key")
_SCORE_KEYS = _part(SCORES, "key")


@dataclass
class BuiltTables:
    """The tables of answers below some folders, and what is not there although it should be."""

    completions: list[Path] = field(default_factory=list)
    scores: list[Path] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)


def with_limits(results: str | Path) -> list[Path]:
    """A folder of results, and those of the same config with a limit, which lie beside it."""
    results = Path(results)
    name = re.compile(re.escape(results.name) + _LIMIT)
    beside = results.parent.iterdir() if results.parent.is_dir() else ()
    return [path for path in [results, *sorted(path for path in beside if name.fullmatch(path.name))] if path.is_dir()]


def find_tables(folders: Iterable[Path]) -> BuiltTables:
    """All tables of answers below the folders.

    Missing are the completions of requests, and the scores of completions in a step that is scored.
    """
    found = BuiltTables()
    for step in sorted({step for folder in folders for step in _steps(folder)}):
        requests, completions, scores = (_shards(step / kind) for kind in ("requests", "completions", "scores"))
        found.completions += [step / "completions" / name for name in completions]
        found.scores += [step / "scores" / name for name in scores]
        found.missing += [step / "completions" / name for name in _without(requests, completions)]
        if (step / "scores").is_dir():
            found.missing += [step / "scores" / name for name in _without(completions, scores)]
    return found


def _without(names: Iterable[str], others: Iterable[str]) -> list[str]:
    return sorted(set(names) - set(others))


def used_keys(results: str | Path, keep: Iterable[str | Path], wanted: Iterable[Path]) -> dict[str, np.ndarray]:
    """The keys of all answers that tables name, by kind: sorted, each once.

    results: the folder of a config's results; those with limits count, too. keep: further folders of results, of other
    configs that share the store. wanted: the tables that the config asks for. Raises InputError where a build is not
    finished, or where a folder has no tables.
    """
    folders = with_limits(results)
    for folder in map(Path, keep):
        found = with_limits(folder)
        tables = find_tables(found)
        if not tables.completions + tables.scores + tables.missing:
            raise InputError(f"{folder}: no tables of answers there; name a folder of results, such as results")
        folders += found
    tables = find_tables(folders)
    _refuse_unfinished([*(path for path in wanted if not path.exists()), *tables.missing])
    return {
        COMPLETION.name: _collect(map(_completion_keys, _shown(tables.completions)), COMPLETION.key_bytes),
        SCORE.name: _collect(map(_score_keys, _shown(tables.scores)), SCORE.key_bytes),
    }


def _shown(tables: list[Path]) -> Iterator[Path]:
    return track(tables, f"reading {tables[0].parent.name}", len(tables), "tables") if tables else iter(())


def _refuse_unfinished(missing: Iterable[Path]) -> None:
    if paths := list(dict.fromkeys(missing)):
        named = "\n".join(f"  {path}" for path in paths[:_NAMED])
        more = f"\n  and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
        raise InputError(
            f"Tables that are not built, but whose answers may be in the store already:\n{named}{more}\n"
            "Nothing is removed. Finish the build first; where no build wants them any more, remove the requests (or"
            " completions) that they belong to"
        )


def _steps(folder: Path) -> Iterator[Path]:
    """Every folder below this one with a folder of requests, completions or scores; through links, too."""
    seen: set[tuple[int, int]] = set()
    for name, folders, _ in os.walk(folder, onerror=_raise, followlinks=True):
        status = os.stat(name)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        if not {"requests", "completions", "scores"}.isdisjoint(folders):
            yield Path(name)


def _raise(error: OSError) -> None:
    raise error


def _shards(folder: Path) -> list[str]:
    """The names of the tables of shards in a folder, sorted; none where there is no folder."""
    return sorted(path.name for path in folder.iterdir() if _SHARD.fullmatch(path.name)) if folder.is_dir() else []


def _completion_keys(path: Path) -> Iterator[np.ndarray]:
    for row, batch in _batches(path, _COMPLETION_KEYS):
        samples = _numbers(batch.column("sample")).astype(">u4").view(np.uint8).reshape(-1, 4)
        digits = _from_hex(path, row, batch.column("key"))
        yield np.concatenate([digits, samples], axis=1).view(f"S{COMPLETION.key_bytes}").ravel()


def _score_keys(path: Path) -> Iterator[np.ndarray]:
    for row, batch in _batches(path, _SCORE_KEYS):
        yield _from_hex(path, row, batch.column("key")).view(f"S{SCORE.key_bytes}").ravel()


def _batches(path: Path, table: Table) -> Iterator[tuple[int, Any]]:
    """The table's rows some at a time, with the number of the first."""
    row = 0
    for batch in read_batches(path, table):
        if batch.num_rows:
            yield row, batch
        row += batch.num_rows


def _numbers(column: pa.Array) -> np.ndarray:
    return np.frombuffer(column.buffers()[1], np.int32, len(column), 4 * column.offset)


def _from_hex(path: Path, row: int, column: pa.Array) -> np.ndarray:
    """Keys in hexadecimal as rows of bytes: millions of them, so not one by one."""
    offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, 4 * column.offset)
    wrong = np.diff(offsets) != _KEY_DIGITS
    if not wrong.any():
        digits = _DIGITS[np.frombuffer(column.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]]
        digits = digits.reshape(-1, _KEY_DIGITS)
        wrong = (digits == _NO_DIGIT).any(axis=1)
        if not wrong.any():
            return digits[:, ::2] << 4 | digits[:, 1::2]
    place = int(wrong.argmax())
    raise InputError(f"{path}: row {row + place}: {column[place].as_py()!r} is no key; delete it and build again")


def _collect(tables: Iterable[Iterator[np.ndarray]], key_bytes: int) -> np.ndarray:
    """The keys of all tables in one array: sorted, each once."""
    keys = np.empty(0, f"S{key_bytes}")
    waiting: list[np.ndarray] = []
    count = 0
    for table in tables:
        for some in table:
            waiting.append(some)
            count += len(some)
            # When the array grows by a quarter: merging each time would take ages, waiting for all of them memory.
            if count > max(_WAITING, len(keys) // 4):
                keys, waiting, count = _merged([keys, *waiting]), [], 0
    return _merged([keys, *waiting])


def _merged(arrays: list[np.ndarray]) -> np.ndarray:
    keys = np.concatenate(arrays)
    # What is sorted already is found to be, and merged.
    keys.sort(kind="stable")
    return keys[np.append(keys[1:] != keys[:-1], True)] if len(keys) else keys
