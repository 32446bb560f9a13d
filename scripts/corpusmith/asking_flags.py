"""The flags that all programs share which ask a model or a scorer: the store, and how they end."""

from __future__ import annotations

import argparse

from corpusmith.stopping import Stopping, job_end, parse_deadline
from corpusmith.store import Store


def add_asking_flags(parser: argparse.ArgumentParser, stage: str) -> None:
    """The flags. stage: the default name of the stage."""
    parser.add_argument("--store", help="folder of the store of answers; without it all is asked anew")
    parser.add_argument(
        "--commit-seconds", type=float, default=2.0, help="at most so much work is lost by a kill (default: 2)"
    )
    parser.add_argument(
        "--stall-timeout",
        type=float,
        default=600.0,
        help="seconds without a sign of life after which it is started again (default: 600)",
    )
    parser.add_argument("--max-failed", type=float, default=0.01, help="share of answers that may fail (default: 0.01)")
    parser.add_argument("--deadline", help="when this job ends, such as 2030-12-31T23:30 (default: SLURM is asked)")
    parser.add_argument(
        "--drain-seconds",
        type=float,
        default=120.0,
        help="nothing more is asked so long before the deadline, only waited for (default: 120)",
    )
    parser.add_argument("--stage", default=stage, help=f"name of the stage in accounts (default: {stage})")


def store_of(flags: argparse.Namespace) -> Store | None:
    """The store, where one is named."""
    return Store(flags.store, commit_seconds=flags.commit_seconds) if flags.store else None


def stopping_of(flags: argparse.Namespace) -> Stopping:
    """When the job has to stop."""
    deadline = parse_deadline(flags.deadline) if flags.deadline else job_end()
    return Stopping(deadline, flags.drain_seconds)
