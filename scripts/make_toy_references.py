"""Writes the one right translation of every segment of the toy language: the references of the toy world.

in:  sources/segments.parquet: item_id 9f…, text "Mina bought 3 books."
out: {"source": "Mina bought 3 books.", "reference": "미나는 책 삼 권을 샀다."}
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from corpusmith.errors import InputError
from corpusmith.files import whole_file
from corpusmith.program import argument_parser, log, run
from corpusmith.table_files import read_rows
from corpusmith.tables import SEGMENTS
from corpusmith.toy.translation import translate


def main() -> None:
    """Parses the flags and translates."""
    parser = argument_parser(__doc__)
    parser.add_argument("--segments", required=True, type=Path, help="table of segments")
    parser.add_argument("--references", required=True, type=Path, help="file to write, .jsonl.gz")
    flags = parser.parse_args()
    count = 0
    # Without the temporary file's name and the time, which gzip would write into its header.
    with (
        whole_file(flags.references) as partial,
        open(partial, "wb") as plain,
        gzip.GzipFile("", "wb", 9, plain, 0) as file,
    ):
        for row in read_rows(flags.segments, SEGMENTS, ["item_id", "text"]):
            try:
                reference = translate(row["text"])
            except ValueError as error:
                raise InputError(f"{flags.segments}: item {row['item_id']}: {error}") from error
            line = json.dumps({"source": row["text"], "reference": reference}, ensure_ascii=False)
            file.write(line.encode() + b"\n")
            count += 1
    log.info("%s references", f"{count:,}")


if __name__ == "__main__":
    run(main)
