"""Which of several rows stay: those with the lowest or highest numbers of a column, or its shortest or longest texts.

--keep reward highest: rows 0 (1.5), 1 (none), 2 (2.5) are visited in the order 2, 0, 1
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpusmith.errors import InputError
from corpusmith.row_steps import text_column
from corpusmith.table_files import read_batches, read_rows
from corpusmith.tables import Table

LOWEST, HIGHEST, SHORTEST, LONGEST = "lowest", "highest", "shortest", "longest"
Rows = NDArray[np.int64]


def check_keep(table: Table, keep: Sequence[str] | None) -> None:
    """Raises InputError unless the two values of --keep are a column of numbers, and lowest or highest."""
    check_order(table, keep, "--keep", (LOWEST, HIGHEST))


def check_order(
    table: Table,
    order: Sequence[str] | None,
    flag: str,
    allowed: Sequence[str] = (LOWEST, HIGHEST, SHORTEST, LONGEST),
) -> None:
    """Raises InputError unless the two values of a flag are a column, and an allowed order that goes with it."""
    if order is None:
        return
    column, which = order
    if which not in allowed:
        raise InputError(f"{flag} {column} {which}: which one is kept is {', '.join(allowed[:-1])} or {allowed[-1]}")
    if which in (SHORTEST, LONGEST):
        text_column(table, column, flag)
        return
    numeric = [one.name for one in table.columns if pa.types.is_integer(one.type) or pa.types.is_floating(one.type)]
    if column not in numeric:
        raise InputError(
            f"{flag}: {table.name} have no numbers in {column!r}; those with numbers: {', '.join(numeric)}"
        )


def visiting_order(values: NDArray[np.float64] | None, rows: int, lowest: bool = True) -> Rows:
    """The rows, best first: by value, nan last, equal ones in their order. values: one a row; None: all equal."""
    if values is None:
        return np.arange(rows)
    return np.argsort(values if lowest else -values, kind="stable")


def order_by_keep(path: str | Path, table: Table, keep: Sequence[str] | None, rows: int) -> Rows:
    """The rows of a table, best first by --keep; None: in their order."""
    if keep is None:
        return visiting_order(None, rows)
    return visiting_order(order_values(path, table, keep[0]), rows, lowest=keep[1] == LOWEST)


def order_values(path: str | Path, table: Table, column: str) -> NDArray[np.float64]:
    """What rows are ordered by: numbers, or of texts their lengths in characters; nan where there is none."""
    parts = [_numbers(batch.column(0)) for batch in read_batches(path, table, [column])]
    return np.concatenate([np.empty(0), *parts])


def _numbers(values: pa.Array) -> NDArray[np.float64]:
    if pa.types.is_string(values.type):
        values = pc.utf8_length(values)
    found: NDArray[np.float64] = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found


def ids_of(path: str | Path, table: Table, wanted: NDArray[np.bool_]) -> dict[int, str]:
    """The ids of some rows, by their numbers. wanted: of each row of the table whether it is one of them."""
    ids = (row["item_id"] for row in read_rows(path, table, ["item_id"]))
    return {number: item for number, item in enumerate(ids) if wanted[number]}
