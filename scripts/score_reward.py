"""Scores answers with a reward model: from requests and completions to a table of scores, in the completions' order.

in:  requests: item_id 9f…, messages [user: "Add 12 and 30."]   completions: item_id 9f…, sample 1, text "42"
out: item_id 9f…, sample 1, score 3.141593, truncated false

The score is the model's raw number: higher is better, and the scale is each model's own. With --form pair the model
reads the request's source and the answer, with --form chat the conversation in its own chat template. Too long an
answer loses its end, never the question.

On SIGTERM, and when its end of time draws near, it scores nothing more, keeps what it has, and ends with an exit status
that is not 0: started again, it goes on from there.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from corpusmith.program import argument_parser, run
from corpusmith.scoring_program import MakeScorer, add_scoring_flags, refuse_parts, score
from corpusmith.scoring_worker import Scorer

_KIND = "reward"


def main() -> None:
    """Parses the flags, and scores what the store does not know."""
    parser = argument_parser(__doc__)
    add_scoring_flags(parser, _KIND)
    parser.add_argument("--trust-remote-code", action="store_true", help="let code that comes with the model run")
    score(parser.parse_args(), _KIND, _maker)


def _maker(flags: argparse.Namespace, folder: Path, tokenizer: Path) -> MakeScorer:
    names = ("form", "device", "dtype", "max_length", "trust_remote_code")
    return partial(_make, folder=folder, tokenizer=tokenizer, settings={name: getattr(flags, name) for name in names})


def _make(*, folder: Path, tokenizer: Path, settings: dict[str, Any], parts: int, tokens_per_batch: int) -> Scorer:
    from corpusmith.reward import RewardModel  # seconds that a program without work for a model need not spend

    refuse_parts(folder, parts)
    return RewardModel(folder, tokenizer, tokens_per_batch=tokens_per_batch, **settings)


if __name__ == "__main__":
    run(main)
