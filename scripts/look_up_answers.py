"""Counts what a table of requests asks that the store has no answer to: where that is nothing, no GPU is queued.

Nor is one where the model cannot fit on those that it would get: that is an error.

in:  item_id 9f…, request sampled, messages [user: "Korean: Mina bought 3 books."], temperature 1, first_sample 0, n 2
out: {"missing": 1}
"""

from __future__ import annotations

from corpusmith.engines.choosing import add_engine_flags, choose_renderer
from corpusmith.generation import count_missing
from corpusmith.gpu_memory import check_memory
from corpusmith.look_up import write_missing
from corpusmith.models import read_receipt
from corpusmith.node_caches import use_local_caches
from corpusmith.program import argument_parser, log, run
from corpusmith.store import Store
from corpusmith.table_files import row_count


def main() -> None:
    """Parses the flags and counts."""
    parser = argument_parser(__doc__)
    parser.add_argument("--requests", required=True, help="table of requests")
    add_engine_flags(parser)
    parser.add_argument("--store", required=True, help="folder of the store of answers")
    parser.add_argument("--missing", required=True, help="file to write")
    parser.add_argument(
        "--placement", help="JSON of what decides whether the model fits on its GPUs; else nobody looks"
    )
    flags = parser.parse_args()
    model = read_receipt(flags.model)
    if flags.placement:
        check_memory(flags.placement, model)
    missing = 0
    if row_count(flags.requests):
        use_local_caches()
        missing = count_missing(flags.requests, choose_renderer(flags), model.identity, Store(flags.store))
    write_missing(flags.missing, missing)
    log.info("%s answers are missing", f"{missing:,}")


if __name__ == "__main__":
    run(main)
