"""Scores answers with MetricX-24: from requests and completions to a table of scores, in the completions' order.

in:  requests: item_id 9f…, source "Mina bought 3 books."   completions: item_id 9f…, sample 1, text "미나는 …"
out: item_id 9f…, sample 1, score 4.812345, truncated false

On SIGTERM, and when its end of time draws near, it scores nothing more, keeps what it has, and ends with an exit status
that is not 0: started again, it goes on from there.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from corpusmith.accounting import Account
from corpusmith.asking_flags import add_asking_flags, stopping_of, store_of
from corpusmith.devices import check_devices
from corpusmith.engines.hosted import HostedWorker
from corpusmith.engines.supervised import SupervisedWorker
from corpusmith.generation import tally_items
from corpusmith.gpu_claims import claimed_gpus
from corpusmith.look_up import forgetting
from corpusmith.models import folder_of, read_receipt
from corpusmith.pairs import PairQuestion, PairScore, no_score
from corpusmith.program import argument_parser, log, run
from corpusmith.run_stats import run_stats_path, write_run_stats
from corpusmith.scoring import WINDOW, metricx_identity, score_completions
from corpusmith.scoring_worker import ScoringWorker
from corpusmith.tables import SCORES, row_count, write_table


def main() -> None:
    """Parses the flags, and scores what the store does not know."""
    parser = argument_parser(__doc__)
    parser.add_argument("--requests", required=True, help="table of requests: what is scored against")
    parser.add_argument("--completions", required=True, help="table of completions: what is scored")
    parser.add_argument("--scorer", required=True, help="receipt of the checkpoint")
    parser.add_argument("--tokenizer", required=True, help="receipt of where its tokenizer lies")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"), help="where it runs (default: cuda)")
    parser.add_argument("--tp", type=int, default=1, help="GPUs of this job (default: 1)")
    parser.add_argument("--dtype", default="bfloat16", help="number format, as torch names it (default: bfloat16)")
    parser.add_argument("--tokens-per-batch", type=int, default=16_384, help="most tokens in a batch (default: 16384)")
    add_asking_flags(parser, "score")
    parser.add_argument("--scores", required=True, help="table of scores to write")
    parser.add_argument("--missing", help="what a look-up found missing; forgotten where this fails for want of it")
    parser.add_argument("--account", required=True, help="account of rows to write")
    flags = parser.parse_args()
    account = Account(flags.stage)
    stats_path = run_stats_path(flags.scores)
    if row_count(flags.completions) == 0:
        # An empty shard is a valid empty table, for which no model is loaded.
        write_table(flags.scores, SCORES, [])
        tally_items(flags.requests, account)
        account.write(flags.account)
        write_run_stats(stats_path, flags.stage, asked=0, from_store=0, failed=0, retries=0, seconds=0.0)
        log.info("nothing to score in %s", flags.completions)
        return
    with ExitStack() as resources, forgetting(flags.missing):
        stopping = resources.enter_context(stopping_of(flags))
        scorer = SupervisedWorker(
            partial(_start, flags, resources),
            no_score,
            stall_timeout=flags.stall_timeout,
            stopping=stopping,
        )
        resources.callback(scorer.close)
        stats = score_completions(
            flags.requests,
            flags.completions,
            scorer,
            metricx_identity(read_receipt(flags.scorer).identity, flags.dtype),
            flags.scores,
            account,
            flags.max_failed,
            store_of(flags),
            stopping,
        )
        stats.retries = scorer.retries
    account.write(flags.account)
    write_run_stats(stats_path, flags.stage, **vars(stats))
    log.info(
        "scored %s distinct pairs, %s from the store, failed %s, in %.1f s",
        f"{stats.asked:,}", f"{stats.from_store:,}", f"{stats.failed:,}", stats.seconds,
    )  # fmt: skip


def _start(flags: argparse.Namespace, resources: ExitStack, share: float) -> HostedWorker[PairQuestion, PairScore]:
    """Starts the scorer in a process of its own, with a share of the batch that the config asks for."""
    if flags.device == "cuda" and not hasattr(flags, "gpus"):
        flags.gpus = resources.enter_context(claimed_gpus(flags.tp))
    folder = folder_of(read_receipt(flags.scorer))
    log.info("loading %s", folder)
    tokens_per_batch = max(1, int(share * flags.tokens_per_batch))
    tokenizer = folder_of(read_receipt(flags.tokenizer))
    return HostedWorker(partial(_make, folder, tokenizer, flags.device, flags.tp, flags.dtype, tokens_per_batch))


def _make(folder: Path, tokenizer: Path, device: str, tp: int, dtype: str, tokens_per_batch: int) -> ScoringWorker:
    check_devices(device, tp)
    from corpusmith.metricx import MetricX

    return ScoringWorker(
        MetricX(folder, tokenizer, device=device, dtype=dtype, tokens_per_batch=tokens_per_batch), WINDOW
    )


if __name__ == "__main__":
    run(main)
