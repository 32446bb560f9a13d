"""Answers requests: from a table of requests to a table of completions, row by row in the same order.

in:  item_id 9f…, request sampled, messages [user: "Korean: Mina bought 3 books."], temperature 1, first_sample 0, n 2
out: item_id 9f…, request sampled, sample 0, text "미나는 책 삼 권을 샀다.", finish_reason stop, …
     item_id 9f…, request sampled, sample 1, text "미나는 책 사 권을 샀다.", finish_reason stop, …

On SIGTERM, and when its end of time draws near, it asks nothing more, keeps what comes until then, and ends with an
exit status that is not 0: started again, it goes on from there.
"""

from __future__ import annotations

from contextlib import ExitStack

from corpusmith.accounting import Account
from corpusmith.asking_program import add_asking_flags, stopping_of, store_of, write_empty, write_outcome
from corpusmith.engines.choosing import add_engine_flags, choose_engine
from corpusmith.generation import answer_requests
from corpusmith.look_up import forgetting
from corpusmith.models import read_receipt
from corpusmith.node_caches import use_local_caches
from corpusmith.program import argument_parser, run
from corpusmith.table_files import row_count
from corpusmith.tables import COMPLETIONS


def main() -> None:
    """Parses the flags, and asks what the store does not know."""
    parser = argument_parser(__doc__)
    parser.add_argument("--requests", required=True, help="table of requests")
    add_engine_flags(parser)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"), help="where it runs (default: cuda)")
    parser.add_argument("--tp", type=int, default=1, help="GPUs that share the model (default: 1)")
    parser.add_argument("--batch-size", type=int, default=64, help="answers generated together (default: 64)")
    add_asking_flags(parser, "generate")
    parser.add_argument("--completions", required=True, help="table of completions to write")
    flags = parser.parse_args()
    if row_count(flags.requests) == 0:
        write_empty(flags, flags.completions, COMPLETIONS)
        return
    use_local_caches()
    account = Account(flags.stage)
    with ExitStack() as resources, forgetting(flags.missing):
        stopping = resources.enter_context(stopping_of(flags))
        engine = choose_engine(flags, stall_timeout=flags.stall_timeout, stopping=stopping, resources=resources)
        stats = answer_requests(
            flags.requests,
            engine,
            read_receipt(flags.model).identity,
            flags.completions,
            account,
            flags.max_failed,
            store_of(flags),
            stopping,
        )
        stats.retries = engine.retries
    write_outcome(flags, flags.completions, account, stats)


if __name__ == "__main__":
    run(main)
