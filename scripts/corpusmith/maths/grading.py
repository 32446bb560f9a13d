"""Whether solutions are right: what checking left undecided is put to a judge, and each problem gets its pass rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.alongside import alongside, with_their_rows
from corpusmith.judging import MOST_VERDICT_TOKENS, Ballot
from corpusmith.prompts import user_turn
from corpusmith.requests import request
from corpusmith.table_files import open_table, read_rows
from corpusmith.tables import (
    CHECKED_SOLUTIONS,
    COMPLETIONS,
    GRADED_PROBLEMS,
    GRADED_SOLUTIONS,
    PROBLEM_ANSWERS,
    REQUESTS,
)

_VERDICT = "verdict-"
UNDECIDED, NO_COMPLETION = "undecided", "no_completion"


@dataclass(frozen=True)
class SolveTables:
    """The tables of one shard of solved problems."""

    requests: str | Path
    completions: str | Path
    checked: str | Path
    answers: str | Path


@dataclass(frozen=True)
class Checked:
    """A problem with its answer, its solutions and what checking said of each."""

    item_id: str
    problem: str
    answer: str | None
    answer_origin: str
    solutions: list[dict[str, Any]]


def checked_problems(tables: SolveTables) -> Iterator[Checked]:
    """The problems of a shard, in the tables' order. Raises InputError where the tables are not of one another."""
    solutions = alongside(
        (tables.completions, COMPLETIONS, ["item_id", "sample", "text", "error"]),
        (tables.checked, CHECKED_SOLUTIONS, ["item_id", "sample", "answer", "verdict", "reason"]),
        ["item_id", "sample"],
    )
    problems = alongside(
        (tables.requests, REQUESTS, ["item_id", "source"]),
        (tables.answers, PROBLEM_ANSWERS, ["item_id", "answer", "answer_origin"]),
        ["item_id"],
    )
    for problem, answers in with_their_rows(problems, solutions, f"{tables.completions} and {tables.answers}"):
        yield Checked(problem["item_id"], problem["source"], problem["answer"], problem["answer_origin"], answers)


def verdict_requests(
    problems: Iterable[Checked], prompt: Callable[..., str], verdicts: Sequence[str], votes: int, temperature: float
) -> Iterator[dict[str, Any]]:
    """A request for each solution that checking left undecided, its answer constrained to the verdicts."""
    for problem in problems:
        if problem.answer is None:
            continue
        for solution in problem.solutions:
            if solution["verdict"] != UNDECIDED or solution["reason"] == NO_COMPLETION:
                continue
            text = prompt(
                problem=problem.problem,
                expected_answer=problem.answer,
                predicted_answer=solution["answer"],
                solution=solution["text"],
            )
            yield request(
                problem.item_id,
                f"{_VERDICT}{solution['sample']}",
                messages=user_turn(text),
                max_tokens=MOST_VERDICT_TOKENS,
                choices=list(verdicts),
                n=votes,
                temperature=temperature,
            )


def read_votes(completions: str | Path, accept: Sequence[str]) -> dict[tuple[str, int], Ballot]:
    """What the judge said of a shard's solutions, by problem and sample."""
    found: dict[tuple[str, int], Ballot] = {}
    for row in read_rows(completions, COMPLETIONS, ["item_id", "request", "text", "finish_reason", "error"]):
        sample = int(row["request"].removeprefix(_VERDICT))
        found.setdefault((row["item_id"], sample), Ballot(accept)).add(row)
    return found


def grade_solutions(
    problems: Iterable[Checked],
    votes: Mapping[tuple[str, int], Ballot],
    graded: str | Path,
    grades: str | Path,
    account: Account,
) -> Counter[str]:
    """Writes whether each solution is right, and each problem's pass rate; returns how many were graded by what.

    What nothing decided does not count: neither as right nor among the k of the pass rate.
    """
    decided: Counter[str] = Counter()
    with open_table(graded, GRADED_SOLUTIONS) as solutions, open_table(grades, GRADED_PROBLEMS) as rates:
        for problem in problems:
            account.keep(problem.item_id)
            outcomes = []
            for solution in problem.solutions:
                right, reason = _grade(solution, votes.get((problem.item_id, solution["sample"])))
                decided[reason] += 1
                outcomes.append(right)
                row = {name: solution[name] for name in ("item_id", "sample", "answer")}
                solutions.write(row | {"right": right, "reason": reason})
            count, right_ones = len(outcomes) - outcomes.count(None), outcomes.count(True)
            rates.write(
                {
                    "item_id": problem.item_id,
                    "answer": problem.answer,
                    "answer_origin": problem.answer_origin,
                    "samples": count,
                    "right": right_ones,
                    "pass_rate": round(right_ones / count, 6) if count else None,
                }
            )
    return decided


def _grade(solution: Mapping[str, Any], ballot: Ballot | None) -> tuple[bool | None, str]:
    if solution["verdict"] != UNDECIDED:
        return solution["verdict"] == "right", solution["reason"]
    accepted = ballot.accepted() if ballot is not None else None
    return (None, solution["reason"]) if accepted is None else (accepted, "judge")
