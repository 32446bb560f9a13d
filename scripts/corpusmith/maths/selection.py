"""Which rows and solutions stay, by pass rate, and which solution of a problem is the best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.alongside import alongside, with_their_rows
from corpusmith.answers import clean
from corpusmith.errors import InputError
from corpusmith.identity import shard_of
from corpusmith.maths.problems import ABOUT
from corpusmith.row_steps import RowSplit
from corpusmith.table_files import open_table, read_rows
from corpusmith.tables import (
    COMPLETIONS,
    GRADED_PROBLEMS,
    GRADED_SOLUTIONS,
    LABELLED_ROWS,
    PROBLEMS,
    REQUESTS,
    ROWS,
    SAMPLES,
)

_GIVEN, _NONE = "given", "none"


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
    with RowSplit(kept, rejected, ROWS["maths"], account) as split:
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
            split.decide(solution, objection)


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
    with RowSplit(kept, rejected, ROWS["maths"], account) as split, open_table(samples, SAMPLES) as others:
        for problem in read_rows(problems, PROBLEMS, ["item_id", *ABOUT]):
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
            split.decide(row, objection)
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
    solutions = alongside(
        (tables.completions, COMPLETIONS, ["item_id", "sample", "text", "completion_tokens", "error"]),
        (tables.graded, GRADED_SOLUTIONS, ["item_id", "sample", "answer", "right"]),
        ["item_id", "sample"],
    )
    grades = alongside(
        (tables.requests, REQUESTS, ["item_id", "source"]),
        (tables.grades, GRADED_PROBLEMS, [column.name for column in GRADED_PROBLEMS.columns]),
        ["item_id"],
    )
    return with_their_rows(grades, solutions, f"{tables.grades} and {tables.graded}")
