"""Jobs that SLURM's executor would wait for for ever: preempted ones that nobody queues again, and forgotten ones.

The executor (2.8) takes PREEMPTED for a job that SLURM will go on with, which it does not where PreemptMode is CANCEL;
and a job that is no longer listed for one that is not listed yet, which it is not once it has been there.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

Query = Callable[[str, Any], Awaitable[tuple[dict[str, str] | None, float | None]]]
# Looks in a row after which such a state is final: SLURM shows a requeued job as PREEMPTED for a moment at most.
_LOOKS = 3
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE")


class JobWatch:
    """In place of the executor's question for the states of all jobs: tells it of such jobs that they have failed."""

    def __init__(self, query: Query, log: logging.Logger) -> None:
        self._query, self._log = query, log
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
        return states, seconds
