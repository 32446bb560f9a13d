"""What failed in a build, why, and where its logs are: the last lines of a build that did not finish.

Collected from the messages that Snakemake logs. Used by the Snakefile: standard library only.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_MOST_SHOWN = 50
_MOST_LINES = 12
_TAIL_BYTES = 20_000
# Snakemake's name of the message that one attempt of one job failed (LogEvent.JOB_ERROR).
_ATTEMPT_FAILED = "job_error"
# How the SLURM executor says how a job ended.
_STATE = re.compile(r"SLURM status is:\s*'(\w+)'")
_NOT_SUBMITTED = re.compile(
    r"sbatch failed\. The error message was '(.*?)'\.\s+sbatch call:"
    r"|submission failed with exception: (.*?)(?:For further error details|$)",
    re.DOTALL,
)
# The last words of our programs, and of Python.
_LAST_WORDS = re.compile(r"^(error|stopped|Exception): |^\w[\w.]*(Error|Exception|Interrupt)\b")
_STATES = {
    "CANCELLED": "was cancelled",
    "TIMEOUT": "was ended at its wall time",
    "OUT_OF_MEMORY": "ran out of memory",
    "NODE_FAIL": "lost its node",
    "BOOT_FAIL": "lost its node",
    "DEADLINE": "was ended at its deadline",
    "PREEMPTED": "had to give way to another job",
}


# Another attempt finds the same input, unless a program asks something outside: a server, the Hub, a GPU, a disk.
_ASKS_OUTSIDE = re.compile(r"^(generate|score|fetch_\w+|preflight\w*|describe_api_model)$")
_MAY_PASS = tuple(
    map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM))
)


class Failures(logging.Handler):
    """Keeps what Snakemake's messages say of attempts that failed. Added to Snakemake's logger.

    What no further attempt can help has none: bad input of a program that asks nobody but its files.
    """

    def __init__(self, workflow: Any) -> None:
        super().__init__(logging.ERROR)
        self._workflow = workflow
        self._ends: dict[str, str | None] = {}
        self._logs: dict[str, list[str]] = {}
        self._attempts: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps how a job's last attempt ended, by its first output."""
        said = record.__dict__
        for job in said.get("job_error_info") or [said]:
            outputs = job.get("output") if isinstance(job, Mapping) else None
            if not outputs:
                continue
            words = f"{job.get('rule_msg') or ''} {said.get('msg') or ''}"
            aux = job.get("aux") or {}
            number = aux.get("external_jobid") or said.get("external_jobid")
            self._attempts[outputs[0]] = self._attempts.get(outputs[0], 0) + (said.get("event") == _ATTEMPT_FAILED)
            if said is job and job.get("indent"):
                # Of a group, of which all has been said: its log is named there only.
                continue
            logs = filter(None, [*(job.get("log") or []), *(said.get("aux_logs") or [])])
            self._logs[outputs[0]] = list(dict.fromkeys(logs))
            self._ends[outputs[0]] = _end(words, number)
            if _ended_itself(words) and is_permanent(str(job.get("rule_name")), map(Path, self._logs[outputs[0]])):
                self._give_up(outputs[0])

    def lines(self, failed: Iterable[Any], waiting: int) -> Iterator[str]:
        """The report. failed: jobs or groups of Snakemake's; waiting: how many were not begun for want of them."""
        jobs = sorted(
            (job for found in failed for job in (_culprits(found) if found.is_group() else [found])),
            key=lambda job: (job.rule.name, str(next(iter(job.output), ""))),
        )
        yield f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} failed:"
        for job in jobs[:_MOST_SHOWN]:
            yield from self._lines_of(job)
        if len(jobs) > _MOST_SHOWN:
            yield f"  ... and {len(jobs) - _MOST_SHOWN} more"
        if waiting:
            yield f"{waiting} further {'job was' if waiting == 1 else 'jobs were'} not begun."
        yield "What is finished stays, and no answer is asked again: mend the cause and start the same command."

    def _lines_of(self, job: Any) -> Iterator[str]:
        output = [str(path) for path in job.output]
        count = self._attempts.get(output[0], 0) if output else 0
        attempts = f", {count} attempts" if count > 1 else ""
        yield f"  {job.rule.name}: {output[0] if output else ''}{attempts}"
        logs = list(dict.fromkeys([*map(str, job.log), *(self._logs.get(output[0], []) if output else [])]))
        end = self._ends.get(output[0]) if output else None
        if end is not None:
            yield f"    {end}"
        # One that was not submitted may have logs of an earlier build.
        logs = [] if end is not None and end.startswith("it was not submitted") else logs
        words = next(filter(None, (last_words(Path(path)) for path in logs)), [])
        yield from (f"    {line}" for line in words[:_MOST_LINES])
        for path in logs:
            if Path(path).exists():
                yield f"    log: {path}"

    def _give_up(self, output: str) -> None:
        """A job that makes this has no further attempt. Its resources stay those of this one: they are given back."""
        scheduler = self._workflow.scheduler
        for job in [] if scheduler is None else list(scheduler.running):
            if output in map(str, job.all_products if job.is_group() else job.output):
                job._attempt = job.restart_times + 1


def is_permanent(rule: str, logs: Iterable[Path]) -> bool:
    """Whether a failed job would fail again, by the last words in its logs."""
    words = next(filter(None, (last_words(path) for path in logs)), [])
    return (
        bool(words)
        and words[0].startswith("error: ")
        and not _ASKS_OUTSIDE.match(rule)
        and not any(reason in words[0] for reason in _MAY_PASS)
    )


def _culprits(group: Any) -> list[Any]:
    """The jobs of a group that failed themselves, as far as their logs tell: the outputs of all are gone."""
    said = [job for job in group.jobs if any(_is_last_word(words) for words in map(last_words, _paths(job.log)))]
    return said or list(group.jobs)


def _is_last_word(words: list[str]) -> bool:
    return bool(words) and _LAST_WORDS.search(words[0]) is not None


def _paths(logs: Iterable[Any]) -> list[Path]:
    return [Path(str(path)) for path in logs]


def last_words(path: Path) -> list[str]:
    """Why a program ended, by the end of its log: its own last words to the end, or else its last line."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = [line.strip() for line in file.read().decode("utf-8", errors="replace").splitlines()]
    except OSError:
        return []
    found = [line for line in lines if line]
    place = next((place for place in reversed(range(len(found))) if _LAST_WORDS.search(found[place])), len(found) - 1)
    return found[place:] if found else []


def _ended_itself(words: str) -> bool:
    """Whether a job's program ended it. Where it may not have begun, its log may be that of an earlier build."""
    state = _STATE.search(words)
    return _NOT_SUBMITTED.search(words) is None and (state is None or state[1] == "FAILED")


def _end(words: str, number: Any) -> str | None:
    """How a SLURM job ended, in a line."""
    refused = _NOT_SUBMITTED.search(words)
    if refused is not None:
        return f"it was not submitted: {' '.join((refused[1] or refused[2] or '').split())}"
    state = _STATE.search(words)
    if state is None:
        return None
    return f"SLURM job {number} {_STATES.get(state[1], f'ended as {state[1]}')}"
