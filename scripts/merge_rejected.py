"""Puts the tables of rejected rows into one: what did not stay, and why.

in:  rejected by the rules; rejected by the judge
out: all of them, in this order
"""

from __future__ import annotations

from itertools import chain

from corpusmith.program import argument_parser, log, run
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import ROWS


def main() -> None:
    """Parses the flags and merges."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rejected", required=True, nargs="+", help="tables of rejected rows")
    parser.add_argument("--recipe", required=True, choices=sorted(ROWS), help="the recipe that the rows are of")
    parser.add_argument("--output", required=True, help="table of all rejected rows to write")
    flags = parser.parse_args()
    table = ROWS[flags.recipe].rejected
    rows = chain.from_iterable(read_rows(path, table) for path in flags.rejected)
    log.info("%s rejected rows", write_table(flags.output, table, rows))


if __name__ == "__main__":
    run(main)
