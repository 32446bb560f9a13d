"""Counts the pairs of tables of requests and completions that the store has no score of: where that is nothing, no GPU
is queued. Nor is one where the scorer cannot fit on those that it would get: that is an error.

in:  requests: item_id 9f…, source "Mina bought 3 books."   completions: item_id 9f…, sample 1, text "미나는 …"
out: {"missing": 1}
"""

from __future__ import annotations

from corpusmith.gpu_memory import check_memory
from corpusmith.look_up import write_missing
from corpusmith.metric_flags import add_metric_flags, metric_of
from corpusmith.models import read_receipt
from corpusmith.program import argument_parser, log, run
from corpusmith.scoring import count_missing
from corpusmith.store import Store


def main() -> None:
    """Parses the flags and counts."""
    parser = argument_parser(__doc__)
    parser.add_argument("--requests", required=True, help="table of requests: what is scored against")
    parser.add_argument("--completions", required=True, help="table of completions: what is scored")
    add_metric_flags(parser, None)
    parser.add_argument("--store", required=True, help="folder of the store of scores")
    parser.add_argument("--missing", required=True, help="file to write")
    parser.add_argument(
        "--placement", help="JSON of what decides whether the model fits on its GPUs; else nobody looks"
    )
    flags = parser.parse_args()
    if flags.placement:
        check_memory(flags.placement, read_receipt(flags.scorer))
    metric = metric_of(flags.metric, flags)
    missing = count_missing(flags.requests, flags.completions, metric, Store(flags.store))
    write_missing(flags.missing, missing)
    log.info("%s scores are missing", f"{missing:,}")


if __name__ == "__main__":
    run(main)
