"""Makes exactly the shards with failures due again: what was answered comes from the store, what failed is asked again.

in:  results/news/final/completions/0003-of-0016.parquet, in which 2 rows have an error
out: results/news/final/completions/0003-of-0016.retry, a number that is a param of the shard's rule, raised by one
"""

from __future__ import annotations

from corpusmith.failures import count_failed
from corpusmith.layout import expand
from corpusmith.plain_text import table_lines
from corpusmith.program import argument_parser, run
from corpusmith.retrying import raise_retry_mark


def main() -> None:
    """Parses the flags, marks the shards and prints them."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--tables",
        required=True,
        nargs="+",
        metavar="FOLDER=SHARDS",
        help="folders of tables that models and scorers made (DATASET/STEP/KIND), each with its number of shards",
    )
    flags = parser.parse_args()
    due: list[tuple[str, int]] = []
    absent = 0
    for table in expand("", flags.tables, ".parquet"):
        if not table.exists():
            absent += 1
        elif failed := count_failed(table):
            raise_retry_mark(table)
            due.append((str(table), failed))
    if due:
        print("\n".join(table_lines(["due again", ">failed"], due)))
        print("\nThe next build asks these again, and builds what follows from them; all else comes from the store.")
    else:
        print("No table has a failed row: nothing is due again.")
    if absent:
        print(f"{absent:,} tables are not built yet, and due anyway.")


if __name__ == "__main__":
    run(main)
