"""Parquet as the Hub wants it: rows of one split in, files of about 500 MB out, the same ones for the same rows.

    write_shards(release / "data", "train", RELEASED, rows)
    -> data/train-00000-of-00002.parquet, data/train-00001-of-00002.parquet

As `datasets` writes them: row groups of at most 100 MB, so that a reader holds little; an index of pages, so that it
can fetch single rows; pages cut by their content, so that an upload of a second release sends only what has changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from corpusmith.table_files import open_table
from corpusmith.tables import Table

# All in bytes of Arrow, an upper bound of what zstd leaves of it, as `datasets` counts them too.
BYTES_PER_FILE = 500_000_000
BYTES_PER_ROW_GROUP = 100_000_000
# Those of `datasets`; and, as it does, they are written into the file.
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}


@dataclass(frozen=True)
class Shards:
    """The files of one split. files: in order; bytes: of the rows in Arrow."""

    files: tuple[Path, ...]
    rows: int
    bytes: int

    @property
    def file_bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.files)


def write_shards(folder: Path, split: str, table: Table, rows: Iterable[Mapping[str, Any]]) -> Shards:
    """Writes `folder`/`split`-NUMBER-of-COUNT.parquet, none where there are no rows. Memory: some row groups.

    A file ends with the first rows that make it reach its size. Raises InputError where a row does not fit the table.
    """
    waiting = iter(rows)
    partial: list[Path] = []
    count = size = 0
    first = next(waiting, None)
    while first is not None:
        partial.append(folder / f".{split}-{len(partial):05d}.parquet")
        with open_hub_table(partial[-1], table) as writer:
            for row in chain([first], waiting):
                writer.write(row)
                if writer.bytes >= BYTES_PER_FILE:
                    break
        count += writer.count
        size += writer.bytes
        first = next(waiting, None)
    files = []
    for number, path in enumerate(partial):
        # How many there are is known only now.
        name = f"{split}-{number:05d}-of-{len(partial):05d}.parquet"
        files.append(path.rename(folder / name))
    return Shards(tuple(files), count, size)


def open_hub_table(path: Path, table: Table) -> open_table:
    """One such file; see `table_files.open_table`."""
    return open_table(
        path,
        table,
        most_bytes=BYTES_PER_ROW_GROUP,
        metadata={"content_defined_chunking": json.dumps(CHUNKING)},
        use_content_defined_chunking=CHUNKING,
        write_page_index=True,
    )
