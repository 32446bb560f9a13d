"""Asks the Hub whether everything that was published still is there as it was.

in:  results/toy-maths/upload.json, as upload.py wrote it
out: a line for each: as published, or which files differ and who changed them; exit status 1 where one is not
"""

from __future__ import annotations

import os
from pathlib import Path

from corpusmith.errors import InputError
from corpusmith.files import read_json
from corpusmith.program import argument_parser, log, run


def main() -> None:
    """Parses the flags and asks about each."""
    parser = argument_parser(__doc__)
    parser.add_argument("receipts", nargs="*", type=Path, help="receipts of uploads")
    parser.add_argument(
        "--token-variable", default="HF_TOKEN", help="environment variable with the token (default: HF_TOKEN)"
    )
    flags = parser.parse_args()
    if not flags.receipts:
        log.info("nothing is published: no dataset, folder or model of the config has publish")
        return
    from corpusmith.publishing import verify

    if not os.environ.get(flags.token_variable):
        raise InputError(f"{flags.token_variable} is not set; set it to a token that may read what was published")
    wrong = []
    for path in flags.receipts:
        try:
            if not path.exists():
                raise InputError("is not there; snakemake upload publishes")
            receipt = read_json(path)
            verify(receipt, flags.token_variable)
            log.info("%s: %s is as published, commit %s", path, receipt["repo"], receipt["commit"])
        except InputError as error:
            log.error("%s: %s", path, error)
            wrong.append(path)
    if wrong:
        raise InputError(f"{len(wrong)} of {len(flags.receipts)} are not as published; see the lines above")


if __name__ == "__main__":
    run(main)
