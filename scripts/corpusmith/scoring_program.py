"""What all programs that score have in common: flags, GPUs, the store, and what they leave."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

from corpusmith.accounting import Account
from corpusmith.asking_program import add_asking_flags, stopping_of, store_of, write_empty, write_outcome
from corpusmith.devices import check_devices, gpu_memory
from corpusmith.engines.hosted import HostedWorker
from corpusmith.engines.protocol import Worker
from corpusmith.engines.replicas import Replicas
from corpusmith.engines.supervised import SupervisedWorker
from corpusmith.errors import InputError
from corpusmith.gpu_claims import claimed_when_asked
from corpusmith.gpu_memory import BYTES_OF_NUMBER
from corpusmith.look_up import forgetting
from corpusmith.metric_flags import add_metric_flags, metric_of
from corpusmith.models import ModelReceipt, folder_of, read_receipt
from corpusmith.node_caches import use_local_caches
from corpusmith.pairs import PairQuestion, PairScore, no_score
from corpusmith.plain_text import size_text
from corpusmith.program import log
from corpusmith.scoring import WINDOW, score_completions
from corpusmith.scoring_worker import Scorer, ScoringWorker
from corpusmith.table_files import row_count
from corpusmith.tables import SCORES

# Beside the weights a GPU holds what is computed, and what CUDA and torch take for themselves.
_SHARE_FOR_WEIGHTS = 0.8


class MakeScorer(Protocol):
    """Makes a scorer in the process where it runs; it can be pickled. parts: GPUs that share its layers."""

    def __call__(self, *, parts: int, tokens_per_batch: int) -> Scorer:
        """Makes it."""


def add_scoring_flags(parser: argparse.ArgumentParser, kind: str) -> None:
    """The flags. kind: of scorer, as `corpusmith.metrics` has it."""
    parser.add_argument("--requests", required=True, help="table of requests: what is scored against")
    parser.add_argument("--completions", required=True, help="table of completions: what is scored")
    add_metric_flags(parser, kind)
    parser.add_argument("--tokenizer", required=True, help="receipt of where its tokenizer lies")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"), help="where it runs (default: cuda)")
    parser.add_argument("--tp", type=int, default=1, help="GPUs of this job (default: 1)")
    parser.add_argument("--tokens-per-batch", type=int, default=16_384, help="most tokens in a batch (default: 16384)")
    add_asking_flags(parser, "score")
    parser.add_argument("--scores", required=True, help="table of scores to write")


def score(flags: argparse.Namespace, kind: str, make: Callable[[argparse.Namespace, Path, Path], MakeScorer]) -> None:
    """Scores what the store does not know, and writes the table.

    make: gives what makes the scorer, from the flags, the folder of the checkpoint and that of the tokenizer; it is
    called when there is something to score.
    """
    if row_count(flags.completions) == 0:
        write_empty(flags, flags.scores, SCORES)
        return
    use_local_caches()
    account = Account(flags.stage)
    with ExitStack() as resources, forgetting(flags.missing):
        stopping = resources.enter_context(stopping_of(flags))
        claim = claimed_when_asked(flags.tp if flags.device == "cuda" else 0, resources)

        def start(share: float) -> Worker[PairQuestion, PairScore]:
            gpus, receipt = claim(), read_receipt(flags.scorer)
            folder = folder_of(receipt)
            log.info("loading %s", folder)
            scorer = make(flags, folder, folder_of(read_receipt(flags.tokenizer)))
            tokens_per_batch = max(1, int(share * flags.tokens_per_batch))
            return place(scorer, receipt, flags.dtype, flags.device, gpus, tokens_per_batch)

        worker = SupervisedWorker(start, no_score, stall_timeout=flags.stall_timeout, stopping=stopping)
        resources.callback(worker.close)
        stats = score_completions(
            flags.requests,
            flags.completions,
            worker,
            metric_of(kind, flags),
            flags.scores,
            account,
            flags.max_failed,
            store_of(flags),
            stopping,
        )
        stats.retries = worker.retries
    write_outcome(flags, flags.scores, account, stats)


def place(
    make: MakeScorer,
    receipt: ModelReceipt,
    dtype: str,
    device: str,
    gpus: Sequence[str],
    tokens_per_batch: int,
    memory: Callable[[], int] = gpu_memory,
) -> Worker[PairQuestion, PairScore]:
    """Starts the scorer: one for each GPU where a GPU holds the model, and one that is split among them where not.

    memory: bytes of a GPU.
    """
    start = partial(_start, make, device, tokens_per_batch)
    if len(gpus) < 2:
        return HostedWorker(partial(start, 1))
    needed, there = weight_bytes(receipt, dtype), memory()
    sizes, names = [size_text(needed), size_text(there)], ", ".join(gpus)
    if needed <= _SHARE_FOR_WEIGHTS * there:
        log.info("%s of weights fit on a GPU of %s: a scorer each on %s", *sizes, names)
        return Replicas([partial(HostedWorker, partial(start, 1), {"CUDA_VISIBLE_DEVICES": gpu}) for gpu in gpus])
    log.info("%s of weights do not fit on a GPU of %s: split among %s", *sizes, names)
    return HostedWorker(partial(start, len(gpus)))


def weight_bytes(receipt: ModelReceipt, dtype: str) -> int:
    """Memory of a model's weights in a number format; where the receipt does not count them, the size of its files."""
    if receipt.parameters is not None:
        return receipt.parameters * BYTES_OF_NUMBER[dtype]
    return sum(file.size for file in receipt.files)


def _start(make: MakeScorer, device: str, tokens_per_batch: int, parts: int) -> ScoringWorker:
    check_devices(device, parts)
    return ScoringWorker(make(parts=parts, tokens_per_batch=tokens_per_batch), WINDOW)


def refuse_parts(folder: Path, parts: int) -> None:
    """Raises InputError for a scorer that cannot be split."""
    if parts > 1:
        raise InputError(f"{folder} does not fit on one GPU of this job, and cannot be split; use a larger GPU")
