"""Seconds to look up 10,000 keys among millions of answers: our store against a SQLite file with an index on the key.

Both hold the same answers and are asked for the same keys, drawn at random, nine tenths of which have an answer. Every
look-up runs in a process of its own, as a job does: once with nothing of the files in memory (cold: what a job finds
on a node that has not read them before) and once right after that (warm). Peak memory is the whole process's. SQLite
is what one would otherwise use, although it is no choice where many machines write to one file system. Prints a table,
with the medians of the rounds, and last of all the ratio of the cold look-ups.

    python benchmarks/store.py --answers 10000000 --rounds 3
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from corpusmith.identity import digest
from corpusmith.program import Progress, argument_parser, run
from corpusmith.store import COMPLETION, Store, completion_entry

MODEL = "hub:example/model@0123456789abcdef0123456789abcdef01234567"
WANTED = 10_000
# Answers of one prompt after which the next comes, and after which a process ends and leaves a segment.
SAMPLES = 4
ANSWERS_OF_A_PROCESS = 200_000
WORDS = ("the", "of", "river", "seven", "lamp", "carried", "slowly", "bright", "under", "answer", "window", "3", "and")
Row = tuple[bytes, str, str, int, int]


def keys_of(count: int, first: int = 0) -> Iterator[bytes]:
    """The keys of so many answers."""
    for number in range(first, first + count):
        yield completion_entry(digest("benchmark", str(number // SAMPLES)), number % SAMPLES)


def make_rows(count: int) -> Iterator[Row]:
    """Answers of 5 to 60 words."""
    chooser = random.Random(0)
    for key in keys_of(count):
        words = chooser.choices(WORDS, k=chooser.randint(5, 60))
        yield key, " ".join(words), "stop", 40, len(words)


def write_ours(folder: Path, count: int) -> None:
    """The answers as one process after the other writes them, then compacted."""
    store = Store(folder)
    rows = make_rows(count)
    with Progress("our store", count, "answers") as progress:
        for first in range(0, count, ANSWERS_OF_A_PROCESS):
            with store.writer(COMPLETION, MODEL) as writer:
                for _ in range(min(ANSWERS_OF_A_PROCESS, count - first)):
                    key, *values = next(rows)
                    writer.add(key, dict(zip(COMPLETION.columns, values, strict=True)))
                    progress.advance()
    store.compact()


def write_theirs(folder: Path, count: int) -> None:
    """The same answers in one SQLite file."""
    folder.mkdir()
    connection = sqlite3.connect(folder / "answers.db")
    connection.execute(
        "CREATE TABLE answers (key BLOB PRIMARY KEY, text TEXT, finish_reason TEXT, prompt INTEGER, completion INTEGER)"
    )
    with connection, Progress("SQLite", count, "answers") as progress:
        for row in make_rows(count):
            connection.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", row)
            progress.advance()
    connection.close()


def look_up_ours(folder: Path, keys: list[bytes]) -> dict[bytes, tuple[Any, ...]]:
    """The answers to the keys."""
    found = Store(folder).lookup(COMPLETION, MODEL, keys)
    return {key: tuple(answer.values()) for key, answer in found.items()}


def look_up_theirs(folder: Path, keys: list[bytes]) -> dict[bytes, tuple[Any, ...]]:
    """The answers to the keys."""
    connection = sqlite3.connect(folder / "answers.db")
    found = {}
    for key in keys:
        row = connection.execute("SELECT * FROM answers WHERE key = ?", (key,)).fetchone()
        if row is not None:
            found[key] = row[1:]
    connection.close()
    return found


def count_missing(folder: Path, keys: list[bytes]) -> int:
    """How many keys have no answer: what the look-up of a shard asks."""
    return len(Store(folder).missing(COMPLETION, MODEL, keys))


def measure(function: Callable[[Path, list[bytes]], Any], folder: Path, keys: list[bytes]) -> tuple[Any, float, float]:
    """What a function returns, its seconds and the megabytes of a process that does nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_here, (function, folder, keys))


def _measure_here(
    function: Callable[[Path, list[bytes]], Any], folder: Path, keys: list[bytes]
) -> tuple[Any, float, float]:
    begin = time.perf_counter()
    result = function(folder, keys)
    seconds = time.perf_counter() - begin
    # Not getrusage: that begins with what the process had that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return result, seconds, int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def forget(folder: Path) -> None:
    """Drops the files from the memory of the machine."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def main() -> None:
    """Builds both, measures both in turns."""
    parser = argument_parser(__doc__)
    parser.add_argument("--answers", type=int, default=2_000_000, help="answers in the store (default 2,000,000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure each (default 3)")
    parser.add_argument("--folder", help="where to build the stores (default: the folder for temporary files)")
    arguments = parser.parse_args()
    chooser = random.Random(1)
    known = list(keys_of(arguments.answers))
    keys = chooser.sample(known, WANTED * 9 // 10)
    keys += keys_of(WANTED - len(keys), first=arguments.answers)
    del known
    chooser.shuffle(keys)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        ways: dict[str, tuple[Callable[[Path, int], None], Callable[[Path, list[bytes]], Any]]] = {
            "corpusmith": (write_ours, look_up_ours),
            "SQLite": (write_theirs, look_up_theirs),
        }
        print(f"{'':<24}{'cold s':>10}{'warm s':>10}{'peak MB':>10}{'disk MB':>10}{'written/s':>12}")
        medians: dict[str, float] = {}
        rates: dict[str, float] = {}
        for way, (write, _) in ways.items():
            begin = time.perf_counter()
            write(Path(name) / way, arguments.answers)
            rates[way] = arguments.answers / (time.perf_counter() - begin)
        cold: dict[str, list[float]] = {way: [] for way in ways}
        warm: dict[str, list[float]] = {way: [] for way in ways}
        peak: dict[str, float] = dict.fromkeys(ways, 0.0)
        for _ in range(arguments.rounds):
            answers = []
            for way, (_, look_up) in ways.items():
                forget(Path(name) / way)
                for seconds in (cold, warm):
                    found, taken, megabytes = measure(look_up, Path(name) / way, keys)
                    seconds[way].append(taken)
                    peak[way] = max(peak[way], megabytes)
                answers.append(found)
            assert answers[0] == answers[1]
            assert len(answers[0]) == WANTED * 9 // 10
        for way in ways:
            medians[way] = statistics.median(cold[way])
            disk = sum(path.stat().st_size for path in (Path(name) / way).rglob("*") if path.is_file()) / 1e6
            print(
                f"{way:<24}{medians[way]:>10.2f}{statistics.median(warm[way]):>10.2f}{peak[way]:>10.0f}{disk:>10.0f}"
                f"{rates[way]:>12,.0f}"
            )
        forget(Path(name) / "corpusmith")
        missing, taken, megabytes = measure(count_missing, Path(name) / "corpusmith", keys)
        assert missing == WANTED - WANTED * 9 // 10
        print(f"{'corpusmith, count only':<24}{taken:>10.2f}{'':>10}{megabytes:>10.0f}")
    print(f"ratio {medians['SQLite'] / medians['corpusmith']:.2f}")


if __name__ == "__main__":
    run(main)
