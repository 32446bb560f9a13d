r"""Finds the answer of each solution and checks it against the problem's: by its text, by its value, or not at all.

    python scripts/check_solutions.py --requests requests.parquet --completions completions.parquet \
        --answer boxed --workers 8 --checked checked.parquet --answers answers.parquet --account account.json

in:  item_id 9f…, reference \frac{1}{2}   and   item_id 9f…, sample 3, text "... \boxed{0.5}"
out: item_id 9f…, sample 3, answer 0.5, verdict right, reason same_value
     item_id 9f…, answer \frac{1}{2}, answer_origin given, votes 0

Where no answer is known, that of most solutions takes its place (--majority), and solutions are held against it.

verdict    reasons, the first that holds
undecided  no_completion (nothing was generated), no_reference (no answer to hold against)
wrong      cut_off (at max_tokens), no_answer (none in the solution), different_value
right      majority (one of those that made the answer), same_text, same_value
undecided  unreadable (text, or LaTeX that the parser cannot be trusted with), unsure (read, not shown to be equal, nor
           surely different), too_long, timeout, checker_failed
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from corpusmith.accounting import Account
from corpusmith.answer_checking import RIGHT, UNDECIDED, WRONG, Outcome
from corpusmith.answers import BOXED, PATTERN, AnswerFormat, answer_format, clean
from corpusmith.checking_pool import TIMEOUT, Failure, LimitedPool, PairChecker
from corpusmith.errors import InputError
from corpusmith.program import Progress, argument_parser, log, run
from corpusmith.table_files import open_table, read_rows, row_count
from corpusmith.tables import CHECKED_SOLUTIONS, COMPLETIONS, PROBLEM_ANSWERS, REQUESTS

# Solutions in hand for each worker: enough that none waits, few enough that memory stays flat.
_IN_HAND = 64
# An answer, or a group of them, that reaches the time limit so often is compared no more.
_MOST_TIMEOUTS = 2


class Problem(NamedTuple):
    """A problem with its known answer, and what was generated for it: rows of completions."""

    item: str
    reference: str | None
    solutions: list[dict[str, Any]]


class Found(NamedTuple):
    """The answer of a solution, None where none was found; failure: why nothing could be looked for."""

    answer: str | None
    failure: Outcome | None = None


class Reference(NamedTuple):
    """What solutions are held against. members: the places of the solutions that made it."""

    answer: str | None
    origin: str
    members: frozenset[int] = frozenset()


class Settled(NamedTuple):
    """A problem's rows of both tables."""

    checked: list[dict[str, Any]]
    answer: dict[str, Any]


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--requests", required=True, help="table of requests of the shard")
    parser.add_argument("--completions", required=True, help="table of completions of the shard")
    parser.add_argument(
        "--answer",
        choices=(BOXED, PATTERN),
        default=BOXED,
        help="where solutions say their answer: the last balanced box, or as --pattern finds it (default: %(default)s)",
    )
    parser.add_argument(
        "--pattern",
        help="regular expression of Python; ^ and $ are the ends of lines. The last match counts, of it group 1 or all",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that check (default: one a core)"
    )
    parser.add_argument(
        "--time-limit", type=float, default=5.0, help="seconds of processor time for one check (default: %(default)s)"
    )
    parser.add_argument(
        "--majority",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take the answer of most solutions where none is known (default: yes)",
    )
    parser.add_argument("--stage", default="check", help="name of the stage in accounts (default: %(default)s)")
    parser.add_argument("--checked", required=True, help="table of checked solutions to write")
    parser.add_argument("--answers", required=True, help="table of problem answers to write")
    parser.add_argument("--account", required=True, help="account of items to write")
    flags = parser.parse_args()
    if flags.workers < 1:
        raise InputError(f"--workers is {flags.workers}; allowed: at least 1")
    if not flags.time_limit > 0:
        raise InputError(f"--time-limit is {flags.time_limit}; allowed: above 0")
    return flags


def problems(requests: str, completions: str) -> Iterator[Problem]:
    """Problem by problem what both tables say. Raises InputError where they do not belong together."""
    asked = read_rows(requests, REQUESTS, ["item_id", "request", "reference"])
    columns = ["item_id", "request", "sample", "text", "finish_reason", "error"]
    answered = groupby(read_rows(completions, COMPLETIONS, columns), key=lambda row: (row["item_id"], row["request"]))
    before = None
    for request in asked:
        key, solutions = next(answered, (None, iter(())))
        if key != (request["item_id"], request["request"]):
            there = "nothing" if key is None else f"item {key[0]}, request {key[1]}"
            raise InputError(
                f"{completions}: does not belong to {requests}: {there} where item {request['item_id']}, request"
                f" {request['request']} should be; delete it and build again"
            )
        if request["item_id"] == before:
            raise InputError(f"{requests}: item {before} has two requests; a problem is solved by one with n samples")
        before = request["item_id"]
        yield Problem(before, request["reference"], list(solutions))
    left = next(answered, None)
    if left is not None:
        raise InputError(
            f"{completions}: does not belong to {requests}: item {left[0][0]} is in the first alone; delete it and"
            " build again"
        )


class Solver:
    """Settles problems."""

    def __init__(self, form: AnswerFormat, pool: LimitedPool, majority: bool) -> None:
        self._form, self._pool, self._majority = form, pool, majority
        self.checker = PairChecker(pool)

    async def settle(self, problem: Problem) -> Settled:
        """Answers and verdicts of one problem's solutions."""
        found = await asyncio.gather(*(self._found(solution) for solution in problem.solutions))
        reference = await self._reference(problem, found)
        outcomes = await asyncio.gather(
            *(
                self._outcome(solution, answer, reference, place)
                for place, (solution, answer) in enumerate(zip(problem.solutions, found, strict=True))
            )
        )
        checked = [
            {"item_id": problem.item, "sample": solution["sample"], "answer": answer.answer} | outcome._asdict()
            for solution, answer, outcome in zip(problem.solutions, found, outcomes, strict=True)
        ]
        votes = len(reference.members)
        answer = {"item_id": problem.item, "answer": reference.answer, "answer_origin": reference.origin}
        return Settled(checked, answer | {"votes": votes})

    async def _found(self, solution: Mapping[str, Any]) -> Found:
        if solution["error"] is not None:
            return Found(None)
        if self._form.pattern is None:
            return Found(self._form.find(solution["text"]))
        # A user's pattern can take longer than anyone waits.
        answer = await self._pool.run(self._form.find, solution["text"])
        if isinstance(answer, Failure):
            return Found(None, Outcome(UNDECIDED, answer.reason))
        return Found(answer)

    async def _reference(self, problem: Problem, found: list[Found]) -> Reference:
        known = clean(problem.reference) if problem.reference is not None else ""
        if known:
            return Reference(known, "given")
        if not self._majority:
            return Reference(None, "none")
        answers = {
            place: answer.answer
            for place, (solution, answer) in enumerate(zip(problem.solutions, found, strict=True))
            if answer.answer is not None and solution["finish_reason"] != "length"
        }
        groups = await self._groups(answers)
        if not groups:
            return Reference(None, "none")
        # The first of the largest: groups are in the order of their first members.
        largest = max(groups, key=len)
        return Reference(answers[largest[0]], "majority", frozenset(largest))

    async def _groups(self, answers: Mapping[int, str]) -> list[list[int]]:
        """Places of equal answers, in the order in which each was first given; the first of a group stands for it."""
        texts: dict[str, list[int]] = {}
        for place, answer in answers.items():
            texts.setdefault(answer, []).append(place)
        groups: dict[str, list[int]] = {}
        timeouts: Counter[str] = Counter()
        for text, places in texts.items():
            home = text
            for first in groups:
                if timeouts[first] >= _MOST_TIMEOUTS or timeouts[text] >= _MOST_TIMEOUTS:
                    continue
                outcome = await self.checker.check(first, text)
                if outcome.reason == TIMEOUT:
                    # One of the two hangs, and which is not known.
                    timeouts.update((first, text))
                if outcome.verdict == RIGHT:
                    home = first
                    break
            groups[home] = sorted([*groups.get(home, []), *places])
        return list(groups.values())

    async def _outcome(self, solution: Mapping[str, Any], found: Found, reference: Reference, place: int) -> Outcome:
        if solution["error"] is not None:
            return Outcome(UNDECIDED, "no_completion")
        if reference.answer is None:
            return Outcome(UNDECIDED, "no_reference")
        if solution["finish_reason"] == "length":
            return Outcome(WRONG, "cut_off")
        if found.failure is not None:
            return found.failure
        if found.answer is None:
            return Outcome(WRONG, "no_answer")
        if place in reference.members:
            return Outcome(RIGHT, "majority")
        return await self.checker.check(reference.answer, found.answer)


async def settled(given: Iterator[Problem], solver: Solver, most: int) -> AsyncIterator[Settled]:
    """The problems settled, in order, with at most `most` solutions in hand (or one problem)."""
    waiting: deque[tuple[asyncio.Task[Settled], int]] = deque()
    in_hand = 0
    for problem in given:
        size = max(1, len(problem.solutions))
        while waiting and in_hand + size > most:
            task, done = waiting.popleft()
            yield await task
            in_hand -= done
        waiting.append((asyncio.ensure_future(solver.settle(problem)), size))
        in_hand += size
    while waiting:
        yield await waiting.popleft()[0]


async def check(flags: argparse.Namespace, form: AnswerFormat) -> tuple[Account, Counter[Outcome]]:
    """Writes both tables; returns the account of items, and how many solutions have which verdict and reason."""
    account = Account(flags.stage)
    counts: Counter[Outcome] = Counter()
    # Reading one row finds a missing or broken table before any worker is started.
    next(read_rows(flags.requests, REQUESTS, batch_size=1), None)
    total = row_count(flags.completions)
    with (
        LimitedPool(flags.workers, flags.time_limit) as pool,
        open_table(flags.checked, CHECKED_SOLUTIONS) as checked,
        open_table(flags.answers, PROBLEM_ANSWERS) as answers,
        Progress(flags.stage, total, "solutions") as progress,
    ):
        solver = Solver(form, pool, flags.majority)
        given = problems(flags.requests, flags.completions)
        async for result in settled(given, solver, _IN_HAND * flags.workers):
            checked.write_all(result.checked)
            answers.write(result.answer)
            counts.update(Outcome(row["verdict"], row["reason"]) for row in result.checked)
            account.keep(result.answer["item_id"])
            progress.advance(len(result.checked))
        log.info("%s: %s pairs of answers compared by value", flags.stage, f"{solver.checker.values_checked:,}")
    return account, counts


def main() -> None:
    """Parses the flags and checks."""
    flags = _arguments()
    account, counts = asyncio.run(check(flags, answer_format(flags.answer, flags.pattern)))
    account.write(flags.account)
    told = ", ".join(
        f"{verdict} {reason} {count:,}" for (verdict, reason), count in sorted(counts.items(), key=lambda pair: pair[0])
    )
    solutions = f"{sum(counts.values()):,}"
    log.info("%s: %s solutions of %s problems: %s", flags.stage, solutions, f"{account.kept.count:,}", told or "none")


if __name__ == "__main__":
    run(main)
