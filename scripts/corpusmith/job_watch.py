"""Jobs that SLURM's executor would wait for for ever: preempted for good, forgotten, or such as SLURM never starts.

The executor (2.8) takes PREEMPTED for a job that SLURM will go on with, which it does not where PreemptMode is CANCEL;
and a job that is no longer listed for one that is not listed yet, which it is not once it has been there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

Query = Callable[[str, Any], Awaitable[tuple[dict[str, str] | None, float | None]]]
# Looks in a row after which such a state is final: SLURM shows a requeued job as PREEMPTED for a moment at most.
_LOOKS = 3
_SECONDS_BETWEEN_REASONS = 120.0
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE")


class JobWatch:
    """In place of the executor's question for the states of all jobs: tells it of those that have failed for good.

    why_waiting: the reasons why jobs wait that nobody but the user can change, by number; those are said in the log.
    """

    def __init__(self, query: Query, why_waiting: Callable[[], dict[str, str]], log: logging.Logger) -> None:
        self._query, self._why_waiting, self._log = query, why_waiting, log
        self._said: set[tuple[str, str]] = set()
        self._next_reasons = time.monotonic() + _SECONDS_BETWEEN_REASONS
        self._seen: set[str] = set()
        self._looks: Counter[str] = Counter()

    async def __call__(self, command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        """States by the number of the job, and seconds; neither where SLURM did not answer, which proves nothing."""
        states, seconds = await self._query(command, logger)
        if states is None:
            return states, seconds
        preempted = {number for number, state in states.items() if state == "PREEMPTED"}
        doubtful = preempted | (self._seen - states.keys())
        self._looks = Counter({number: self._looks[number] + 1 for number in doubtful})
        self._seen = (self._seen | {number for number, state in states.items() if state not in _ENDED}) - {
            number for number, state in states.items() if state in _ENDED
        }
        for number in sorted(number for number, looks in self._looks.items() if looks >= _LOOKS):
            self._log.warning(
                "SLURM job %s %s: it counts as failed",
                number,
                "was preempted and is not queued again" if number in preempted else "is no longer known to SLURM",
            )
            states[number] = "CANCELLED" if number in preempted else "FAILED"
            self._seen.discard(number)
        await self._say_what_waits({number for number, state in states.items() if state == "PENDING"})
        return states, seconds

    async def _say_what_waits(self, pending: set[str]) -> None:
        if not pending or time.monotonic() < self._next_reasons:
            return
        self._next_reasons = time.monotonic() + _SECONDS_BETWEEN_REASONS
        reasons = (await asyncio.to_thread(self._why_waiting)).items()
        for number, reason in sorted((number, reason) for number, reason in reasons if number in pending):
            if (number, reason) not in self._said:
                self._said.add((number, reason))
                self._log.warning("SLURM job %s does not start by itself: %s", number, reason)
