"""Drops rows whose text equals that of another row, or is near it: a filter step of any dataset.

    python scripts/deduplicate.py --rows rows.parquet --recipe maths --column problem --near 0.8 \\
        --keep pass_rate lowest --kept kept.parquet --rejected rejected.parquet --account account.json

Input, rows of the recipe (some columns):

    item_id   problem                                              pass_rate
    3f2a...   How many apples does Mina have left in the end?      0.5
    77b0...   So how many apples does Mina have left in the end?   0.25

Output: the second goes to --kept, unchanged. The first goes to --rejected, with

    item_id   reason           detail
    3f2a...   near_duplicate   similarity 0.857 with 77b0...

Equal texts, but for case, white space and compatibility forms of characters, are rejected as duplicate. Near ones have
many runs of --ngram words in common (see corpusmith/near_duplicates.py) and, unless --no-numbers-distinct is given, the
same numbers and signs of arithmetic: problems that differ in their numbers are different problems. Of rows that are
duplicates of one another the best by --keep stays, otherwise the first; a row without a value is the last choice, a row
without a text is nobody's duplicate.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from corpusmith.accounting import Account
from corpusmith.duplicates import find_duplicates
from corpusmith.errors import InputError
from corpusmith.keeping import check_keep, ids_of, order_by_keep
from corpusmith.near_duplicates import Nearness
from corpusmith.program import argument_parser, log, run, track
from corpusmith.row_steps import RowSplit, text_column
from corpusmith.table_files import read_batches, read_rows, row_count
from corpusmith.tables import ROWS


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of the recipe's rows")
    parser.add_argument("--recipe", choices=sorted(ROWS), required=True, help="whose rows they are")
    parser.add_argument("--column", required=True, help="the text that duplicates have in common, such as problem")
    parser.add_argument(
        "--near", default="0.8", help="least similarity of near duplicates, to 1; off: equal ones only (default 0.8)"
    )
    parser.add_argument(
        "--ngram", type=int, default=5, help="words of the runs that near duplicates share (default %(default)s)"
    )
    parser.add_argument(
        "--numbers-distinct",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="texts with different numbers are not near, however alike (default: they are not)",
    )
    parser.add_argument(
        "--keep",
        nargs=2,
        metavar=("COLUMN", "lowest|highest"),
        help="of duplicates the row that stays, by a column of numbers (default: the first)",
    )
    parser.add_argument("--stage", default="deduplicate", help="name of the stage (default: %(default)s)")
    parser.add_argument("--kept", required=True, help="table to write: the rows that stay, in their order")
    parser.add_argument("--rejected", required=True, help="table to write: the other rows, with reasons")
    parser.add_argument("--account", required=True, help="account to write, in JSON")
    return parser.parse_args()


def _nearness(arguments: argparse.Namespace) -> Nearness | None:
    if arguments.near == "off":
        return None
    try:
        threshold = float(arguments.near)
    except ValueError:
        raise InputError(f"--near is a similarity from 0 to 1, or off; not {arguments.near!r}") from None
    return Nearness(threshold, arguments.ngram, arguments.numbers_distinct)


def main() -> None:
    """Deduplicates the table."""
    arguments = _arguments()
    table = ROWS[arguments.recipe].kept
    nearness = _nearness(arguments)
    column = text_column(table, arguments.column, "--column")
    check_keep(table, arguments.keep)
    # Reading one row finds a missing or broken table before any work is done.
    next(read_rows(arguments.rows, table, batch_size=1), None)
    total = row_count(arguments.rows)

    def read_texts() -> Iterator[str | None]:
        for batch in read_batches(arguments.rows, table, [column]):
            yield from batch.column(0).to_pylist()

    visits = order_by_keep(arguments.rows, table, arguments.keep, total)
    verdicts = find_duplicates(read_texts, total, visits, nearness, Path(arguments.kept).parent)
    rows = np.arange(total)
    named = np.zeros(total, bool)
    named[verdicts.kept_by[verdicts.kept_by != rows]] = True
    kept_ids = ids_of(arguments.rows, table, named)
    account = Account(arguments.stage)
    with RowSplit(arguments.kept, arguments.rejected, ROWS[arguments.recipe], account) as split:
        for number, row in enumerate(track(read_rows(arguments.rows, table), "write", total)):
            if verdicts.kept(number):
                split.keep(row)
                continue
            kept = kept_ids[int(verdicts.kept_by[number])]
            similarity = verdicts.similarity.get(number)
            if similarity is None:
                split.reject(row, "duplicate", f"the text of {kept}")
            else:
                split.reject(row, "near_duplicate", f"similarity {similarity:.3f} with {kept}")
    account.write(arguments.account)
    log.info("%s", split.summary(arguments.stage))


if __name__ == "__main__":
    run(main)
