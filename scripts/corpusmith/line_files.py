"""JSON lines in files of bounded size: train.jsonl, and where that is full train-00001.jsonl, …"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

# The Hub recommends less than 20 GB a file; https://huggingface.co/docs/hub/repositories-recommendations
BYTES_PER_FILE = 5_000_000_000


class LineFiles:
    """Writes rows, a line each."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._number, self._size = 0, 0
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._file = self._begin(f"{self._name}.jsonl")
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _begin(self, name: str) -> IO[bytes]:
        self._open.close()
        return self._open.enter_context(open(self._folder / name, "wb"))

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a row; it begins a new file where it would make this one too large."""
        line = json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"
        if self._size and self._size + len(line) > BYTES_PER_FILE:
            self._number, self._size = self._number + 1, 0
            self._file = self._begin(f"{self._name}-{self._number:05d}.jsonl")
        self._file.write(line)
        self._size += len(line)
