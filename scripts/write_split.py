"""Writes the rows of one split. A row's split follows from its item_id and the splits' shares alone.

in:  item_id 9f…, source "…", target "…", score 1.2, …
out: the same rows, those of the split
"""

from __future__ import annotations

import json

from corpusmith.identity import split_of
from corpusmith.program import argument_parser, log, run
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import ROWS


def main() -> None:
    """Parses the flags and writes the split."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of what stays")
    parser.add_argument("--recipe", required=True, choices=sorted(ROWS), help="the recipe that the rows are of")
    parser.add_argument("--splits", required=True, type=json.loads, help='shares of the splits, {"train": 0.9, …}')
    parser.add_argument("--split", required=True, help="the split to write")
    parser.add_argument("--output", required=True, help="table of the split's rows to write")
    flags = parser.parse_args()
    table = ROWS[flags.recipe].kept
    rows = (row for row in read_rows(flags.rows, table) if split_of(row["item_id"], flags.splits) == flags.split)
    log.info("%s rows in split %s", write_table(flags.output, table, rows), flags.split)


if __name__ == "__main__":
    run(main)
