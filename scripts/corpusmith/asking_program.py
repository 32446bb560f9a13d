"""What all programs share that ask a model or a scorer: the flags of the store and of how they end, what they leave."""

from __future__ import annotations

import argparse

from corpusmith.accounting import Account
from corpusmith.generation import GenerationStats, tally_items
from corpusmith.program import log
from corpusmith.run_stats import run_stats_path, write_run_stats
from corpusmith.stopping import Stopping, job_end, parse_deadline
from corpusmith.store import Store
from corpusmith.table_files import write_table
from corpusmith.tables import Table


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
    parser.add_argument("--missing", help="what a look-up found missing; forgotten where this fails for want of it")
    parser.add_argument("--stage", default=stage, help=f"name of the stage in accounts (default: {stage})")
    parser.add_argument("--account", required=True, help="account of rows to write")


def store_of(flags: argparse.Namespace) -> Store | None:
    """The store, where one is named."""
    return Store(flags.store, commit_seconds=flags.commit_seconds) if flags.store else None


def stopping_of(flags: argparse.Namespace) -> Stopping:
    """When the job has to stop."""
    deadline = parse_deadline(flags.deadline) if flags.deadline else job_end()
    return Stopping(deadline, flags.drain_seconds)


def write_empty(flags: argparse.Namespace, path: str, table: Table) -> None:
    """An empty shard is a valid empty table, for which nothing is loaded. path: of the table."""
    write_table(path, table, [])
    account = Account(flags.stage)
    tally_items(flags.requests, account)
    write_outcome(flags, path, account, GenerationStats())


def write_outcome(flags: argparse.Namespace, path: str, account: Account, stats: GenerationStats) -> None:
    """Writes what a run did beside its table, and says it. path: of the table."""
    account.write(flags.account)
    write_run_stats(run_stats_path(path), flags.stage, **vars(stats))
    log.info(
        "asked %s, from the store %s, failed %s, in %.1f s",
        f"{stats.asked:,}", f"{stats.from_store:,}", f"{stats.failed:,}", stats.seconds,
    )  # fmt: skip
