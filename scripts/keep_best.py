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
column; without it the first rows stay. Of equal ones the first stay, and a row without a value is the last choice.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from corpusmith.accounting import Account
from corpusmith.errors import InputError
from corpusmith.keeping import HIGHEST, LONGEST, SHORTEST, check_order, order_values, visiting_order
from corpusmith.program import argument_parser, log, run, track
from corpusmith.row_steps import RowSplit
from corpusmith.tables import ROWS, read_rows, row_count


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of the recipe's rows")
    parser.add_argument("--recipe", choices=sorted(ROWS), required=True, help="whose rows they are")
    parser.add_argument("--best", required=True, type=int, metavar="ROWS", help="how many rows stay at most")
    parser.add_argument(
        "--by",
        nargs=2,
        metavar=("COLUMN", "lowest|highest|shortest|longest"),
        help="what makes rows the best: a column of numbers or texts, and which of them (default: the first rows stay)",
    )
    parser.add_argument("--stage", default="best", help="name of the stage (default: %(default)s)")
    parser.add_argument("--kept", required=True, help="table to write: the rows that stay, in their order")
    parser.add_argument("--rejected", required=True, help="table to write: the other rows, with reasons")
    parser.add_argument("--account", required=True, help="account to write, in JSON")
    return parser.parse_args()


def _value(arguments: argparse.Namespace, value: float) -> str:
    if np.isnan(value):
        return "none"
    return f"{value:,.0f} characters" if arguments.by[1] in (SHORTEST, LONGEST) else f"{value:g}"


def _detail(arguments: argparse.Namespace, values: NDArray[np.float64] | None, number: int, last: int) -> str:
    """Why a row goes. last: the number of the last row that stays."""
    if values is None:
        return f"row {number + 1:,}; the first {arguments.best:,} stay"
    found, least = (_value(arguments, values[one]) for one in (number, last))
    return f"{arguments.by[0]} {found}; the last of {arguments.best:,} that stay has {least}"


def main() -> None:
    """Writes the best rows, and the others."""
    arguments = _arguments()
    table = ROWS[arguments.recipe].kept
    if arguments.best < 1:
        raise InputError(f"--best {arguments.best}: at least 1 row stays")
    check_order(table, arguments.by, "--by")
    # Reading one row finds a missing or broken table before any work is done.
    next(read_rows(arguments.rows, table, batch_size=1), None)
    total = row_count(arguments.rows)
    values = order_values(arguments.rows, table, arguments.by[0]) if arguments.by is not None else None
    descending = arguments.by is not None and arguments.by[1] in (HIGHEST, LONGEST)
    order = visiting_order(values, total, lowest=not descending)[: arguments.best]
    stays = np.zeros(total, bool)
    stays[order] = True
    if total < arguments.best:
        log.warning("%s rows came so far, fewer than the best %s: all stay", f"{total:,}", f"{arguments.best:,}")
    account = Account(arguments.stage)
    with RowSplit(arguments.kept, arguments.rejected, ROWS[arguments.recipe], account) as split:
        for number, row in enumerate(track(read_rows(arguments.rows, table), "write", total)):
            if stays[number]:
                split.keep(row)
            else:
                split.reject(row, "not_among_best", _detail(arguments, values, number, int(order[-1])))
    account.write(arguments.account)
    log.info("%s", split.summary(arguments.stage))


if __name__ == "__main__":
    run(main)
