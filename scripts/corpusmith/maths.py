"""The maths recipe: what lies between reading rows, solving, checking and judging. From tables to tables.

Each distinct problem is solved k times; its pass rate is the share of its solutions that are right. Where checking two
answers by value does not settle whether they are the same, a judge does (NVIDIA's NeMo-Skills does it in this order).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.answers import clean
from corpusmith.errors import InputError
from corpusmith.identity import parse_shard, shard_of
from corpusmith.judging import MOST_VERDICT_TOKENS, Ballot
from corpusmith.prompts import user_turn
from corpusmith.requests import request
from corpusmith.tables import (
    ANSWER_CONFLICTS,
    CHECKED_SOLUTIONS,
    COMPLETIONS,
    GRADED_PROBLEMS,
    GRADED_SOLUTIONS,
    LABELLED_ROWS,
    PROBLEM_ANSWERS,
    PROBLEMS,
    REJECTED_SOLUTIONS,
    REQUESTS,
    SAMPLES,
    SOLUTIONS,
    Table,
    open_table,
    read_rows,
)

SOLUTION = "solution"
_VERDICT = "verdict-"
UNDECIDED, NO_COMPLETION = "undecided", "no_completion"
_GIVEN, _NONE = "given", "none"
# What is said of a problem, whoever solves it.
_ABOUT = ("problem_type", "problem_source", "dataset")


# --- problems ---


def distinct_problems(rows: str | Path, problems: str | Path, conflicts: str | Path, account: Account) -> int:
    """Each problem once, in the order of the rows; returns how many have rows with different answers.

    The answer is that of most rows that have one; of the first of them where several are as frequent. account: of rows.
    Memory grows by some 400 bytes a problem.
    """
    answers: dict[bytes, dict[str | None, int]] = {}
    for row in read_rows(rows, LABELLED_ROWS, ["problem_id", "answer"]):
        counts = answers.setdefault(bytes.fromhex(row["problem_id"]), {})
        answer = row["answer"].strip() if row["answer"] is not None else None
        counts[answer or None] = counts.get(answer or None, 0) + 1
    conflicting = 0
    with open_table(problems, PROBLEMS) as distinct, open_table(conflicts, ANSWER_CONFLICTS) as differing:
        for row in read_rows(rows, LABELLED_ROWS, ["problem_id", "problem", *_ABOUT]):
            account.taken.count += 1
            found = answers.pop(bytes.fromhex(row["problem_id"]), None)
            if found is None:
                account.dropped.count += 1
                account.reasons["same_problem"] += 1
                continue
            account.kept.count += 1
            known = Counter({answer: count for answer, count in found.items() if answer is not None}).most_common()
            common = {"item_id": row["problem_id"], "problem": row["problem"]}
            said = {name: row[name] for name in _ABOUT}
            answer = known[0][0] if known else None
            distinct.write(common | said | {"answer": answer, "rows": sum(found.values())})
            if len(known) > 1:
                conflicting += 1
                differing.write(
                    common | {"answers": [answer for answer, _ in known], "counts": [count for _, count in known]}
                )
    return conflicting


@dataclass(frozen=True)
class Solving:
    """How solutions are asked for."""

    n: int
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int


def solution_requests(
    problems: Iterable[Mapping[str, Any]], shard: str, prompt: Callable[..., str], solving: Solving
) -> Iterator[dict[str, Any]]:
    """One request of n solutions for each problem of a shard. problems: rows with item_id, problem and answer."""
    number, count = parse_shard(shard)
    for row in problems:
        if shard_of(row["item_id"], count) == number:
            yield request(
                row["item_id"],
                SOLUTION,
                messages=user_turn(prompt(problem=row["problem"])),
                temperature=solving.temperature,
                top_p=solving.top_p,
                top_k=solving.top_k,
                max_tokens=solving.max_tokens,
                n=solving.n,
                source=row["problem"],
                reference=row["answer"],
            )


# --- grades ---


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
    names = ["item_id", "sample"]
    solutions = _alongside(
        (tables.completions, COMPLETIONS, [*names, "text", "completion_tokens", "error"]),
        (tables.checked, CHECKED_SOLUTIONS, [*names, "answer", "verdict", "reason"]),
        names,
    )
    groups = groupby(solutions, key=lambda row: row["item_id"])
    asked = _alongside(
        (tables.requests, REQUESTS, ["item_id", "source"]),
        (tables.answers, PROBLEM_ANSWERS, ["item_id", "answer", "answer_origin"]),
        ["item_id"],
    )
    for problem, group in zip_longest(asked, groups):
        if problem is None or group is None or problem["item_id"] != group[0]:
            raise InputError(f"{tables.completions}: does not belong to {tables.requests}; delete it and build again")
        origin = problem["answer_origin"]
        yield Checked(problem["item_id"], problem["source"], problem["answer"], origin, list(group[1]))


def _alongside(
    first: tuple[str | Path, Table, list[str]], second: tuple[str | Path, Table, list[str]], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The rows of two tables that go together one by one."""
    for one, other in zip_longest(read_rows(*first), read_rows(*second)):
        if one is None or other is None or any(one[name] != other[name] for name in names):
            raise InputError(f"{second[0]}: does not belong to {first[0]}; delete it and build again")
        yield one | other


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


# --- selection ---


@dataclass(frozen=True)
class Band:
    """Pass rates that stay; None is no limit."""

    at_least: float | None = None
    at_most: float | None = None

    def objection(self, rate: float | None) -> tuple[str, str] | None:
        """Why a measured pass rate does not stay, as reason and detail; None where it does."""
        if self.at_least is None and self.at_most is None:
            return None
        if rate is None:
            return "not_graded", "no solution could be graded"
        if self.at_least is not None and rate < self.at_least:
            return "pass_rate_too_low", f"{rate:g}"
        if self.at_most is not None and rate > self.at_most:
            return "pass_rate_too_high", f"{rate:g}"
        return None


def read_grades(paths: Iterable[str | Path]) -> dict[str, dict[str, Any]]:
    """The grades of all problems by their ids."""
    return {row["item_id"]: row for path in paths for row in read_rows(path, GRADED_PROBLEMS)}


def select_rows(
    rows: str | Path,
    grades: Mapping[str, Mapping[str, Any]] | None,
    band: Band,
    kept: str | Path,
    rejected: str | Path,
    account: Account,
) -> None:
    """Keeps the rows whose problem has a measured pass rate in the band, with the solution that they came with.

    A row whose answer is not the one that solutions were held against goes: the pass rate says nothing of it. grades:
    None where nothing was solved: then all rows stay, and their pass rate is the source's.
    """
    with open_table(kept, SOLUTIONS) as stays, open_table(rejected, REJECTED_SOLUTIONS) as goes:
        for row in read_rows(rows, LABELLED_ROWS):
            grade = None
            if grades is not None:
                if row["problem_id"] not in grades:
                    raise InputError(f"{rows}: problem {row['problem_id']} was never graded; build the step again")
                grade = grades[row["problem_id"]]
            solution = row | _standing(row["answer"], grade, row["pass_rate"])
            objection = None
            if grade is not None:
                objection = _other_answer(row["answer"], grade) or band.objection(solution["pass_rate"])
            _stay_or_go(solution, objection, stays, goes, account)


def _other_answer(answer: str | None, grade: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a row goes that has another answer than its problem; None where it has that one, or none."""
    if grade["answer_origin"] != _GIVEN or not answer or clean(answer) == clean(grade["answer"]):
        return None
    return "other_answer", f"{answer} where most rows have {grade['answer']}"


def _standing(answer: str | None, grade: Mapping[str, Any] | None, labelled: float | None) -> dict[str, Any]:
    """Answer and pass rate of a row: its own answer where it can be used, the measured rate where there is one."""
    if grade is None:
        origin = _GIVEN if answer is not None else _NONE
        return {"answer": answer, "answer_origin": origin, "pass_rate": labelled, "pass_rate_samples": None}
    found = {"answer": answer, "answer_origin": _GIVEN}
    if answer is None or grade["answer_origin"] != _GIVEN:
        found = {name: grade[name] for name in ("answer", "answer_origin")}
    return found | {"pass_rate": grade["pass_rate"], "pass_rate_samples": grade["samples"]}


def _stay_or_go(
    row: Mapping[str, Any], objection: tuple[str, str] | None, stays: Any, goes: Any, account: Account
) -> None:
    if objection is None:
        account.keep(row["item_id"])
        stays.write(row)
        return
    reason, detail = objection
    account.drop(row["item_id"], reason)
    goes.write({**row, "reason": reason, "reasons": [reason], "detail": detail})


@dataclass(frozen=True)
class GradedTables:
    """The tables of one shard of graded problems."""

    requests: str | Path
    completions: str | Path
    graded: str | Path
    grades: str | Path


@dataclass(frozen=True)
class Choice:
    """How the best solution of a problem is found.

    order: right, shortest, longest, first: what makes a solution better, the most important first.
    """

    order: Sequence[str]
    only_right: bool
    band: Band

    def best(self, solutions: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """The best of some graded solutions; None where there is no solution at all."""
        usable = [solution for solution in solutions if solution["error"] is None]
        if self.only_right:
            usable = [solution for solution in usable if solution["right"]] or usable
        return min(usable, key=self._rank) if usable else None

    def _rank(self, solution: Mapping[str, Any]) -> tuple[int, ...]:
        ranks = {
            "right": {True: 0, None: 1, False: 2}[solution["right"]],
            "shortest": solution["completion_tokens"],
            "longest": -solution["completion_tokens"],
            "first": solution["sample"],
        }
        return (*(ranks[name] for name in self.order), solution["sample"])


def select_solutions(
    problems: str | Path,
    shards: Sequence[GradedTables],
    choice: Choice,
    generation_model: str,
    kept: str | Path,
    rejected: str | Path,
    samples: str | Path,
    account: Account,
) -> None:
    """Takes the best solution of each problem, and lists all solutions of those that stay.

    Rows come in the order of the problems, however those are cut into shards.
    """
    graded = [_graded_problems(tables) for tables in shards]
    with ExitStack() as stack:
        stays = stack.enter_context(open_table(kept, SOLUTIONS))
        goes = stack.enter_context(open_table(rejected, REJECTED_SOLUTIONS))
        others = stack.enter_context(open_table(samples, SAMPLES))
        for problem in read_rows(problems, PROBLEMS, ["item_id", *_ABOUT]):
            item = problem["item_id"]
            grade, solutions = next(graded[shard_of(item, len(shards))], ({"item_id": None}, []))
            if grade["item_id"] != item:
                raise InputError(f"{problems}: item {item} was not graded in its turn; build the step again")
            best = choice.best(solutions)
            row = {
                **problem,
                "problem_id": item,
                "problem": grade["source"],
                "generation_model": generation_model,
                "generated_solution": best["text"] if best is not None else None,
                "right": best["right"] if best is not None else None,
                "sample": best["sample"] if best is not None else None,
                **_standing(None, grade, None),
            }
            objection = _objection(best, grade, choice)
            _stay_or_go(row, objection, stays, goes, account)
            if objection is None:
                others.write_all(
                    {
                        **{name: solution[name] for name in ("item_id", "sample", "answer", "right")},
                        "generated_solution": solution["text"],
                    }
                    for solution in solutions
                    if solution["error"] is None
                )
        for shard in graded:
            left = next(shard, None)
            if left is not None:
                item = left[0]["item_id"]
                raise InputError(f"{problems}: does not hold item {item}, which was graded; build the step again")


def _objection(best: Mapping[str, Any] | None, grade: Mapping[str, Any], choice: Choice) -> tuple[str, str] | None:
    if best is None:
        return "no_solution", "no solution was made"
    if choice.only_right and not best["right"]:
        if grade["samples"] == 0:
            return "not_graded", "no solution could be graded"
        return "none_right", f"0 of {grade['samples']}"
    return choice.band.objection(grade["pass_rate"])


def _graded_problems(tables: GradedTables) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each problem of a shard with its grade, and its graded solutions."""
    names = ["item_id", "sample"]
    solutions = _alongside(
        (tables.completions, COMPLETIONS, [*names, "text", "completion_tokens", "error"]),
        (tables.graded, GRADED_SOLUTIONS, [*names, "answer", "right"]),
        names,
    )
    groups = groupby(solutions, key=lambda row: row["item_id"])
    graded = _alongside(
        (tables.requests, REQUESTS, ["item_id", "source"]),
        (tables.grades, GRADED_PROBLEMS, [column.name for column in GRADED_PROBLEMS.columns]),
        ["item_id"],
    )
    for grade, group in zip_longest(graded, groups):
        if grade is None or group is None or grade["item_id"] != group[0]:
            raise InputError(f"{tables.graded}: does not belong to {tables.grades}; delete both and build again")
        yield grade, list(group[1])
