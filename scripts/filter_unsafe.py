"""Drops rows that hold e-mail addresses, telephone numbers, keys or tokens: a filter step of any dataset.

    python scripts/filter_unsafe.py --rows rows.parquet --recipe translation --column source target \\
        --allow "*@example.com" --kept kept.parquet --rejected rejected.parquet --account account.json

Input, rows of the recipe (some columns):

    item_id   source                            target
    3f2a...   Write to mina@posteo.de.          mina@posteo.de로 보내세요.
    77b0...   Write to mina@example.com.        mina@example.com으로 보내세요.

Output: the second goes to --kept, unchanged. The first goes to --rejected, with

    item_id   reason   reasons     detail
    3f2a...   email    ["email"]   email in source, characters 9 to 23; email in target, characters 0 to 14

Reasons are email, phone_number and secret; the detail says what is where (characters from 0, the end excluded), and
never repeats the address or the key. Of a column of answers, such as top_k, each is looked at. --samples are tables of
further answers that are released beside the rows: a row whose answers there hold something goes as well. What can be
found and what cannot is in docs/safety.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from corpusmith.accounting import Account
from corpusmith.errors import InputError
from corpusmith.program import argument_parser, log, run, track
from corpusmith.row_steps import RowSplit
from corpusmith.table_files import read_rows, row_count
from corpusmith.tables import CANDIDATE, ROWS, SAMPLES, Table
from corpusmith.unsafe_flags import add_unsafe_flags, finder_of
from corpusmith.unsafe_text import KINDS, SECRET, Finding, UnsafeText

# A detail names so many findings.
_NAMED = 5
# A text and what it is called in details.
Texts = Iterator[tuple[str, str | None]]


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of the recipe's rows")
    parser.add_argument("--recipe", choices=sorted(ROWS), required=True, help="whose rows they are")
    parser.add_argument(
        "--column", nargs="*", default=[], help="columns of texts that are looked at, such as source, target, top_k"
    )
    parser.add_argument("--samples", nargs="*", default=[], help="tables of further answers that are released, too")
    add_unsafe_flags(parser)
    parser.add_argument("--stage", default="filter_unsafe", help="name of the stage (default: %(default)s)")
    parser.add_argument("--kept", required=True, help="table to write: the rows that stay, in their order")
    parser.add_argument("--rejected", required=True, help="table to write: the other rows, with reasons")
    parser.add_argument("--account", required=True, help="account to write, in JSON")
    return parser.parse_args()


def _check_columns(table: Table, names: Sequence[str]) -> None:
    types = {column.name: column.type for column in table.columns if column.name != "item_id"}
    known = [name for name, kind in types.items() if pa.types.is_string(kind) or kind == pa.list_(CANDIDATE)]
    for name in names:
        if name not in known:
            raise InputError(f"--column: {table.name} have no texts in {name!r}; those with texts: {', '.join(known)}")


def _texts(row: Mapping[str, Any], columns: Sequence[str]) -> Texts:
    for name in columns:
        if isinstance(row[name], list):
            for number, answer in enumerate(row[name], 1):
                yield f"{name} {number}", answer["text"]
        else:
            yield name, row[name]


def _in_samples(paths: Sequence[str], finder: UnsafeText) -> dict[str, list[tuple[str, Finding]]]:
    """What further answers hold, by the items that hold anything: these alone are kept in memory."""
    found: dict[str, list[tuple[str, Finding]]] = {}
    total = sum(row_count(path) for path in paths)
    rows = chain.from_iterable(read_rows(path, SAMPLES) for path in paths)
    for row in track(rows, "samples", total) if paths else ():
        for name in ("generated_solution", "answer"):
            for finding in finder.find(row[name]):
                found.setdefault(row["item_id"], []).append((f"{name} of sample {row['sample']}", finding))
    return found


def _detail(found: Sequence[tuple[str, Finding]]) -> str:
    parts = [
        f"{finding.what if finding.kind == SECRET else finding.kind} in {where},"
        f" characters {finding.start} to {finding.end}"
        for where, finding in found[:_NAMED]
    ]
    more = [f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
    return "; ".join([*parts, *more])


def main() -> None:
    """Filters the table."""
    arguments = _arguments()
    table = ROWS[arguments.recipe].kept
    if not arguments.column and not arguments.samples:
        raise InputError("--column and --samples: nothing to look at; name columns, tables of samples or both")
    _check_columns(table, arguments.column)
    finder = finder_of(arguments)
    # Reading one row finds a missing or broken table before any work is done.
    next(read_rows(arguments.rows, table, batch_size=1), None)
    for path in arguments.samples:
        next(read_rows(path, SAMPLES, batch_size=1), None)
    in_samples = _in_samples(arguments.samples, finder)
    account = Account(arguments.stage)
    with RowSplit(arguments.kept, arguments.rejected, ROWS[arguments.recipe], account) as split:
        for row in track(read_rows(arguments.rows, table), "filter", row_count(arguments.rows)):
            found = [(name, one) for name, text in _texts(row, arguments.column) for one in finder.find(text)]
            found += in_samples.get(row["item_id"], [])
            if found:
                found.sort(key=lambda one: KINDS.index(one[1].kind))
                reasons = list(dict.fromkeys(one.kind for _, one in found))
                split.reject(row, reasons[0], _detail(found), reasons)
            else:
                split.keep(row)
    account.write(arguments.account)
    log.info("%s", split.summary(arguments.stage))


if __name__ == "__main__":
    run(main)
