"""Tells the way of a row: where it is from, what was asked and answered, its scores, what kept or dropped it, and why.

    python scripts/explain.py toy-translation 'Mina bought 3 apples.'
    python scripts/explain.py toy-maths 5d0c… --json

From the files of the build alone, also for rows that are not in the release. A row is named by its item_id (32
hexadecimal digits) or by a text that stands in it: a source, an answer, a problem, or enough of one. What no table
holds is looked for in the source itself: of rows that their labels dropped a build keeps place and reason.

out: 3f2a… left toy-translation in checked/rejected.parquet: numbers (342 is missing)
       sources/segments.parquet
         text: Mina bought 342 apples.
         file: toy.jsonl.gz
         line: 17
       final/completions/0001-of-0002.parquet
         …
"""

from __future__ import annotations

import json
from pathlib import Path

from corpusmith.errors import InputError
from corpusmith.lineage import find_items, trace, way_lines
from corpusmith.program import argument_parser, run
from corpusmith.source_rows import source_ways


def main() -> None:
    """Parses the flags and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("dataset", help="name of the dataset")
    parser.add_argument("what", help="item_id of the row, or a text that stands in it")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of results (default: results)")
    parser.add_argument("--whole", action="store_true", help="cut no texts")
    parser.add_argument("--json", action="store_true", help="print JSON in place of text")
    flags = parser.parse_args()
    items = find_items(flags.results, flags.dataset, flags.what)
    ways = [trace(flags.results, flags.dataset, item) for item in items]
    if not ways:
        ways = source_ways(flags.results, flags.dataset, flags.what)
    if not ways:
        raise InputError(
            f"{flags.results / flags.dataset}: no table holds such a text, whole or in part, nor does a row that was"
            " dropped from its source"
        )
    if flags.json:
        print(json.dumps([way.as_json() for way in ways], ensure_ascii=False, indent=2))
        return
    for way in ways:
        print("\n".join(way_lines(way, flags.whole)))


if __name__ == "__main__":
    run(main)
