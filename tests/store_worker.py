"""What processes of the store's tests do: they write, read or compact until a file says stop or they are killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A process that is not started by pytest has no conftest.py.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import corpusmith.store.compaction as compaction
from corpusmith.store import COMPLETION, Store, completion_entry
from corpusmith.store.folder import model_folder
from corpusmith.store.reader import find_winners, unique_keys, whole_keys

MODEL = "hub:example/model@1"
KEYS = [completion_entry(f"{number:02x}" * 16, number % 3) for number in range(256)] + [
    # Many samples of one prompt, and keys that end in zeros.
    completion_entry("7f" * 16, sample)
    for sample in range(3, 300)
]


def answer(text: str) -> dict[str, Any]:
    return {"text": text, "finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": len(text)}


def small_store(folder: str | Path) -> Store:
    """A store whose journals are sealed and whose segments are merged all the time."""
    return Store(folder, commit_seconds=0.05, seal_bytes=20_000, segment_bytes=400_000, dead_seconds=5.0)


def write(store: Path, logs: Path, chooser: random.Random) -> None:
    """Logs what it is about to write, and what is committed: only the latter must be found."""
    log = os.open(logs / f"writes-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    count = 0
    while not (logs / "stop").exists():
        with small_store(store).writer(COMPLETION, MODEL) as writer:
            for _ in range(chooser.randint(1, 30)):
                batch = {}
                for key in chooser.sample(KEYS, chooser.randint(1, 20)):
                    count += 1
                    batch[key.hex()] = f"{key.hex()} {os.getpid()} {count} " + "long " * chooser.randint(0, 40)
                os.write(log, json.dumps({"intended": batch}).encode() + b"\n")
                for key, text in batch.items():
                    writer.add(bytes.fromhex(key), answer(text))
                if chooser.random() < 0.8:
                    writer.commit()
                    done = {"committed": list(batch), "at": time.time_ns() // 1000}
                    os.write(log, json.dumps(done).encode() + b"\n")


def read(store: Path, logs: Path, chooser: random.Random) -> None:
    """Logs which entry wins for some keys, when the look-up began and when it ended."""
    folder = model_folder(store, COMPLETION, MODEL)
    while not (logs / "stop").exists():
        committed = {key for path in logs.glob("writes-*") for line in lines(path) for key in line.get("committed", [])}
        some = chooser.sample(sorted(committed), len(committed) // 2)
        wanted = unique_keys(COMPLETION, map(bytes.fromhex, some))
        # The processors are for eight.
        time.sleep(chooser.uniform(0, 0.1))
        begin = time.monotonic()
        winners = find_winners(folder, wanted)
        end = time.monotonic()
        keys = whole_keys(COMPLETION, wanted)
        seen = {keys[place].hex(): (entry.committed, entry.values[0]) for place, entry in winners.items()}
        lost = [key.hex() for key in keys if key.hex() not in seen]
        counted = len(small_store(store).missing(COMPLETION, MODEL, keys))
        with open(logs / f"reads-{os.getpid()}", "a", encoding="utf-8") as log:
            log.write(json.dumps({"begin": begin, "end": end, "seen": seen, "lost": lost, "missing": counted}) + "\n")


def compact(store: Path, logs: Path, chooser: random.Random) -> None:
    """Compacts again and again."""
    while not (logs / "stop").exists():
        small_store(store).compact()
        time.sleep(chooser.uniform(0, 0.05))


def steal(store: Path, logs: Path, chooser: random.Random) -> None:
    """Compacts now and then, and takes every writer for dead."""
    compaction.is_dead = lambda *_: True  # type: ignore[assignment]
    while not (logs / "stop").exists():
        small_store(store).compact()
        time.sleep(chooser.uniform(0.1, 0.5))


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log: a kill may cut the last one."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def die_at_every_step(template: Path, scratch: Path, operation: Callable[[Path], None]) -> list[Path]:
    """Copies of a store, in each of which the operation ended like a kill before one of its changes to the files.

    The last one is of an operation that came to its end.
    """
    copies: list[Path] = []
    while True:
        copy = scratch / f"step-{len(copies)}"
        shutil.copytree(template, copy)
        copies.append(copy)
        child = os.fork()
        if child == 0:
            _die_before_change(len(copies))
            try:
                operation(copy)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, 9), code
        if code == 0:
            return copies


def _die_before_change(number: int) -> None:
    left = number

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)
            return function(*arguments, **options)

        return call

    for name in ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync", "write"):
        setattr(os, name, dying(getattr(os, name)))
