"""Makes a release of any folder of JSON: Parquet as the Hub wants it, a card, the JSON beside.

    python scripts/json_to_parquet.py --folder my-data --output release --licence cc-by-4.0

Input, sub-folders are splits, files beside them are the split train:

    my-data/train/a.jsonl          {"question": "What is 2+2?", "score": 1}
    my-data/test/b.json.gz         [{"question": "What is 2+3?", "score": null}]
    my-data/original_README.md     # My data

Output:

    release/data/train_a.parquet   release/data/test_b.parquet
    release/json/train/a.jsonl     release/json/test/b.json.gz
    release/README.md              YAML for the Hub, then # My data
    release/manifest.json          every file with its checksum, rows by split, columns
    release.bad_rows.parquet       rows that are no JSON objects: file, line, reason, excerpt

Files that have not changed are not written again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from corpusmith.errors import InputError
from corpusmith.json_folder import publish
from corpusmith.program import argument_parser, log, run


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder of JSON files")
    parser.add_argument("--output", type=Path, required=True, help="folder of the release")
    parser.add_argument(
        "--bad-rows", type=Path, help="table to write: rows set aside (default: OUTPUT.bad_rows.parquet)"
    )
    parser.add_argument(
        "--max-bad", type=float, default=0.01, help="largest share of a file's rows set aside (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads (default: one per core)"
    )
    parser.add_argument("--title", help="heading of the card, where there is no original_README (default: the folder)")
    parser.add_argument("--licence", help="identifier of the licence, as the Hub knows it, such as cc-by-4.0")
    return parser.parse_args()


def main() -> None:
    """Publishes the folder."""
    arguments = _arguments()
    if not 0 <= arguments.max_bad <= 1:
        raise InputError(f"--max-bad {arguments.max_bad}: a share from 0 to 1 is needed")
    if arguments.threads < 1:
        raise InputError(f"--threads {arguments.threads}: at least one is needed")
    output = Path(os.path.abspath(arguments.output))
    bad_rows = arguments.bad_rows or output.with_name(f"{output.name}.bad_rows.parquet")
    account = publish(
        arguments.folder, output, bad_rows, arguments.max_bad, arguments.threads, arguments.title, arguments.licence
    )
    account.check()
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(account.reasons.items()))
    log.info(
        "%s of %s rows kept%s",
        *(f"{account.kept.count:,}", f"{account.taken.count:,}"),
        f"; set aside in {bad_rows}: {reasons}" if reasons else "",
    )


if __name__ == "__main__":
    run(main)
