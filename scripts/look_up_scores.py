"""Counts the pairs of tables of requests and completions that the store has no score of: where that is nothing, no GPU
is queued.

in:  requests: item_id 9f…, source "Mina bought 3 books."   completions: item_id 9f…, sample 1, text "미나는 …"
out: {"missing": 1}
"""

from __future__ import annotations

from corpusmith.look_up import write_missing
from corpusmith.models import read_receipt
from corpusmith.program import argument_parser, log, run
from corpusmith.scoring import count_missing, metricx_identity
from corpusmith.store import Store


def main() -> None:
    """Parses the flags and counts."""
    parser = argument_parser(__doc__)
    parser.add_argument("--requests", required=True, help="table of requests: what is scored against")
    parser.add_argument("--completions", required=True, help="table of completions: what is scored")
    parser.add_argument("--scorer", required=True, help="receipt of the checkpoint")
    parser.add_argument("--dtype", default="bfloat16", help="number format, as torch names it (default: bfloat16)")
    parser.add_argument("--store", required=True, help="folder of the store of scores")
    parser.add_argument("--missing", required=True, help="file to write")
    flags = parser.parse_args()
    metric = metricx_identity(read_receipt(flags.scorer).identity, flags.dtype)
    missing = count_missing(flags.requests, flags.completions, metric, Store(flags.store))
    write_missing(flags.missing, missing)
    log.info("%s scores are missing", f"{missing:,}")


if __name__ == "__main__":
    run(main)
