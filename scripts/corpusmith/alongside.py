"""Tables whose rows go together one by one, read side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError
from corpusmith.table_files import read_rows
from corpusmith.tables import Table

# A table, and which of its columns are read.
Columns = tuple[str | Path, Table, list[str]]


def alongside(first: Columns, second: Columns, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each row of one table with that of another. Raises InputError where they differ in the columns of these names."""
    for one, other in zip_longest(read_rows(*first), read_rows(*second)):
        if one is None or other is None or any(one[name] != other[name] for name in names):
            raise InputError(f"{second[0]}: does not belong to {first[0]}; delete it and build again")
        yield one | other


def by_item(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The rows of each item, where they follow one another."""
    for item, found in groupby(rows, key=lambda row: row["item_id"]):
        yield item, list(found)


def with_their_rows(
    items: Iterable[dict[str, Any]], rows: Iterable[dict[str, Any]], files: str
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each item with its rows. files: what is named where they do not belong together, which raises InputError."""
    for item, group in zip_longest(items, by_item(rows)):
        if item is None or group is None or item["item_id"] != group[0]:
            raise InputError(f"{files}: do not belong together; delete both and build again")
        yield item, group[1]
