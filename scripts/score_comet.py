"""Scores translations with COMET: from requests and completions to a table of scores, in the completions' order.

in:  requests: item_id 9f…, source "Mina bought 3 books.", reference "…"   completions: item_id 9f…, sample 1, text "…"
out: item_id 9f…, sample 1, score 0.871234, truncated false

Higher is better. Models such as wmt22-comet-da compare with a reference, which each request must have then; others read
none. --tokenizer is where the configuration and the tokenizer of the checkpoint's encoder lie.

On SIGTERM, and when its end of time draws near, it scores nothing more, keeps what it has, and ends with an exit status
that is not 0: started again, it goes on from there.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from corpusmith.program import argument_parser, run
from corpusmith.scoring_program import MakeScorer, add_scoring_flags, refuse_parts, score
from corpusmith.scoring_worker import Scorer

_KIND = "comet"


def main() -> None:
    """Parses the flags, and scores what the store does not know."""
    parser = argument_parser(__doc__)
    add_scoring_flags(parser, _KIND)
    score(parser.parse_args(), _KIND, _maker)


def _maker(flags: argparse.Namespace, folder: Path, tokenizer: Path) -> MakeScorer:
    return partial(_make, folder=folder, encoder=tokenizer, device=flags.device, dtype=flags.dtype)


def _make(*, folder: Path, encoder: Path, device: str, dtype: str, parts: int, tokens_per_batch: int) -> Scorer:
    from corpusmith.comet import Comet  # seconds that a program without work for a model need not spend

    refuse_parts(folder, parts)
    return Comet(folder, encoder, device=device, dtype=dtype, tokens_per_batch=tokens_per_batch)


if __name__ == "__main__":
    run(main)
