"""Keeps the best rows of a table, as many as are asked for: the last filter step of any dataset.

    python scripts/keep_best.py --rows rows.parquet --recipe instructions --best 1000 --by reward highest \\
        --kept kept.parquet --rejected rejected.parquet --account account.json

Input, rows of the recipe (some columns), with --best 2:

    item_id   instruction               reward
    3f2a...   Add 12 and 30.            2.25
    77b0...   Write 342 in Korean.      -0.5
    9c1d...   Reverse the word "abc".   1.5

Output: the first and the third go to --kept, unchanged and in their order. The second goes to --rejected, with

    item_id   reason           detail
    77b0...   not_among_best   reward -0.5; the last of 2 that stay has 1.5

--by says what makes a row better: the lowest or highest number, or the shortest or longest text, in characters, of a
column. A row without a value is the last choice. Of equal rows those stay whose ids come first, and so of all rows
where no --by is given: ids are hashes, so that they are drawn as good as at random, and the same each time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpusmith.accounting import Account
from corpusmith.errors import InputError
from corpusmith.keeping import HIGHEST, LONGEST, SHORTEST, Rows, check_order, order_values
from corpusmith.program import argument_parser, log, run, track
from corpusmith.row_steps import RowSplit
from corpusmith.table_files import read_batches, read_rows, row_count
from corpusmith.tables import ROWS, Table


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of the recipe's rows")
    parser.add_argument("--recipe", choices=sorted(ROWS), required=True, help="whose rows they are")
    parser.add_argument("--best", required=True, type=int, metavar="ROWS", help="how many rows stay at most")
    parser.add_argument(
        "--by",
        nargs=2,
        metavar=("COLUMN", "lowest|highest|shortest|longest"),
        help="what makes rows the best: a column of numbers or texts, and which of them (default: drawn by their ids)",
    )
    parser.add_argument("--stage", default="best", help="name of the stage (default: %(default)s)")
    parser.add_argument("--kept", required=True, help="table to write: the rows that stay, in their order")
    parser.add_argument("--rejected", required=True, help="table to write: the other rows, with reasons")
    parser.add_argument("--account", required=True, help="account to write, in JSON")
    return parser.parse_args()


def _best_first(path: str, table: Table, by: Sequence[str] | None, values: NDArray[np.float64]) -> Rows:
    """The rows, best first; equal ones in the order of their ids."""
    ids = bytearray()
    for batch in read_batches(path, table, ["item_id"]):
        ids += bytes.fromhex("".join(batch.column(0).to_pylist()))
    halves = np.frombuffer(ids, ">u8").reshape(-1, 2)
    keys: tuple[NDArray[Any], ...] = (halves[:, 1], halves[:, 0])
    if by is not None:
        none = np.isnan(values)
        costs = np.where(none, 0, -values if by[1] in (HIGHEST, LONGEST) else values)
        keys = (*keys, costs, none)
    return np.lexsort(keys)


def _said(by: Sequence[str], value: float) -> str:
    if np.isnan(value):
        return "none"
    return f"{value:,.0f} characters" if by[1] in (SHORTEST, LONGEST) else repr(float(value)).removesuffix(".0")


def _detail(arguments: argparse.Namespace, value: float, last: float) -> str:
    """Why a row goes. value, last: what it has, and what the last row that stays has."""
    by = arguments.by
    if by is None:
        return f"not drawn: its id comes behind those of the {arguments.best:,} that stay"
    same = value == last or (np.isnan(value) and np.isnan(last))
    behind = " and an id that comes first" if same else ""
    return f"{by[0]} {_said(by, value)}; the last of {arguments.best:,} that stay has {_said(by, last)}{behind}"


def main() -> None:
    """Writes the best rows, and the others."""
    arguments = _arguments()
    table, by, best = ROWS[arguments.recipe].kept, arguments.by, arguments.best
    if best < 1:
        raise InputError(f"--best {best}: at least 1 row stays")
    check_order(table, by, "--by")
    # Reading one row finds a missing or broken table before any work is done.
    next(read_rows(arguments.rows, table, batch_size=1), None)
    total = row_count(arguments.rows)
    values = order_values(arguments.rows, table, by[0]) if by is not None else np.zeros(total)
    if total > best and np.isnan(values).all():
        raise InputError(f"{arguments.rows}: no row has a {by[0]} that the best could be chosen by; choose by another")
    order = _best_first(arguments.rows, table, by, values)
    stays = np.zeros(total, bool)
    stays[order[:best]] = True
    if total < best:
        log.warning("%s rows came so far, fewer than the best %s: all stay", f"{total:,}", f"{best:,}")
    without = int(np.isnan(values[stays]).sum())
    if total > best and without:
        log.warning("%s of the %s rows that stay have no %s", f"{without:,}", f"{best:,}", by[0])
    account = Account(arguments.stage)
    with RowSplit(arguments.kept, arguments.rejected, ROWS[arguments.recipe], account) as split:
        for number, row in enumerate(track(read_rows(arguments.rows, table), "write", total)):
            if stays[number]:
                split.keep(row)
            else:
                split.reject(row, "not_among_best", _detail(arguments, values[number], values[order[best - 1]]))
    account.write(arguments.account)
    log.info("%s", split.summary(arguments.stage))


if __name__ == "__main__":
    run(main)
