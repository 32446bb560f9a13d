"""The flags of programs that say what a scorer computes: they decide what its scores are known by."""

from __future__ import annotations

import argparse

from corpusmith import metrics
from corpusmith.errors import InputError
from corpusmith.metrics import FORMS, KINDS, Metric
from corpusmith.models import read_receipt


def add_metric_flags(parser: argparse.ArgumentParser, kind: str | None) -> None:
    """The flags. kind: of scorer; None adds those of all kinds, and --metric, which says which it is."""
    if kind is None:
        parser.add_argument("--metric", required=True, choices=KINDS, help="kind of scorer")
    parser.add_argument("--scorer", required=True, help="receipt of the checkpoint")
    parser.add_argument("--dtype", default="bfloat16", help="number format, as torch names it (default: bfloat16)")
    if kind != "reward":
        parser.add_argument(
            "--references",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="whether references are read where there are any (default: they are)",
        )
    if kind in ("reward", None):
        parser.add_argument(
            "--form",
            choices=FORMS,
            required=kind is not None,
            help="how it reads: a question and an answer, or a conversation in its chat template",
        )
        parser.add_argument("--max-length", type=int, help="most tokens of question and answer (default: the model's)")


def metric_of(kind: str, flags: argparse.Namespace) -> Metric:
    """What a scorer of this kind computes."""
    checkpoint = read_receipt(flags.scorer).identity
    if kind == "reward":
        if flags.form is None:
            raise InputError(f"--metric reward wants --form, one of {', '.join(FORMS)}")
        return metrics.reward(checkpoint, flags.dtype, flags.form, flags.max_length)
    make = metrics.metricx if kind == "metricx-24" else metrics.comet
    return make(checkpoint, flags.dtype, references=flags.references)
