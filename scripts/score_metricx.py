"""Scores answers with MetricX-24: from requests and completions to a table of scores, in the completions' order.

in:  requests: item_id 9f…, source "Mina bought 3 books."   completions: item_id 9f…, sample 1, text "미나는 …"
out: item_id 9f…, sample 1, score 4.812345, truncated false

Where a request has a reference, it is read, too. Several GPUs score side by side, each with a model of its own, or
share one that is too large for one of them.

On SIGTERM, and when its end of time draws near, it scores nothing more, keeps what it has, and ends with an exit status
that is not 0: started again, it goes on from there.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from corpusmith.program import argument_parser, run
from corpusmith.scoring_program import MakeScorer, add_scoring_flags, score
from corpusmith.scoring_worker import Scorer

_KIND = "metricx-24"


def main() -> None:
    """Parses the flags, and scores what the store does not know."""
    parser = argument_parser(__doc__)
    add_scoring_flags(parser, _KIND)
    parser.add_argument("--compile", action="store_true", help="let torch compile the layers first: a minute")
    score(parser.parse_args(), _KIND, _maker)


def _maker(flags: argparse.Namespace, folder: Path, tokenizer: Path) -> MakeScorer:
    return partial(
        _make, folder=folder, tokenizer=tokenizer, device=flags.device, dtype=flags.dtype, compiled=flags.compile
    )


def _make(
    *, folder: Path, tokenizer: Path, device: str, dtype: str, compiled: bool, parts: int, tokens_per_batch: int
) -> Scorer:
    from corpusmith.metricx import MetricX  # seconds that a program without work for a model need not spend

    return MetricX(
        folder,
        tokenizer,
        device=device,
        parts=parts,
        dtype=dtype,
        tokens_per_batch=tokens_per_batch,
        compiled=compiled,
    )


if __name__ == "__main__":
    run(main)
