"""Tables of the maths recipe for tests: rows, solved problems and what was said of their solutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from corpusmith.identity import item_id
from corpusmith.maths.grading import SolveTables
from corpusmith.maths.selection import GradedTables
from corpusmith.requests import request
from corpusmith.table_files import write_table
from corpusmith.tables import CHECKED_SOLUTIONS, COMPLETIONS, LABELLED_ROWS, PROBLEM_ANSWERS, REQUESTS


def problem_id(problem: str) -> str:
    """What a problem is known by in these tests."""
    return item_id("problem", problem)


def labelled(number: int, problem: str, answer: str | None = None, **more: Any) -> dict[str, Any]:
    """A labelled row."""
    found = {column.name: None for column in LABELLED_ROWS.columns}
    found |= {"item_id": item_id(str(number)), "problem_id": problem_id(problem), "problem": problem, "answer": answer}
    return found | {"dataset": "made", "file": "made.jsonl", "row": number, **more}


class Solution(NamedTuple):
    """A solution and what checking said of it; error: it was never made."""

    verdict: str
    text: str = "so it is \\boxed{1}"
    tokens: int = 10
    answer: str | None = "1"
    error: str | None = None

    @property
    def reason(self) -> str:
        """What checking gives as its reason."""
        if self.error is not None:
            return "no_completion"
        return {"right": "same_value", "wrong": "different_value", "undecided": "unreadable"}[self.verdict]


class Solved(NamedTuple):
    """A problem, its answer and its solutions."""

    problem: str
    solutions: Sequence[Solution]
    answer: str | None = "1"
    origin: str = "given"


def write_solved(folder: Path, solved: Sequence[Solved]) -> SolveTables:
    """Writes the tables of a shard of solved problems."""
    completions = [
        {
            "item_id": problem_id(one.problem),
            "request": "solution",
            "sample": sample,
            "text": "" if solution.error else solution.text,
            "finish_reason": "error" if solution.error else "stop",
            "prompt_tokens": 5,
            "completion_tokens": solution.tokens,
            "error": solution.error,
            "key": "0" * 32,
        }
        for one in solved
        for sample, solution in enumerate(one.solutions)
    ]
    checked = [
        {
            "item_id": problem_id(one.problem),
            "sample": sample,
            "answer": solution.answer,
            "verdict": solution.verdict,
            "reason": solution.reason,
        }
        for one in solved
        for sample, solution in enumerate(one.solutions)
    ]
    answers = [
        {"item_id": problem_id(one.problem), "answer": one.answer, "answer_origin": one.origin, "votes": 0}
        for one in solved
    ]
    requests = [
        request(problem_id(one.problem), "solution", prompt="?", max_tokens=9, source=one.problem, temperature=1, n=2)
        for one in solved
    ]
    write_table(folder / "requests.parquet", REQUESTS, requests)
    write_table(folder / "completions.parquet", COMPLETIONS, completions)
    write_table(folder / "checked.parquet", CHECKED_SOLUTIONS, checked)
    write_table(folder / "answers.parquet", PROBLEM_ANSWERS, answers)
    return SolveTables(*(folder / f"{name}.parquet" for name in ("requests", "completions", "checked", "answers")))


def write_verdicts(path: Path, said: Mapping[tuple[str, int], Sequence[str | None]]) -> Path:
    """Writes what a judge said of solutions, by problem and sample; None is a vote that failed."""
    rows = [
        {
            "item_id": problem_id(problem),
            "request": f"verdict-{sample}",
            "sample": vote,
            "text": verdict or "",
            "finish_reason": "stop" if verdict else "error",
            "prompt_tokens": 5,
            "completion_tokens": 1,
            "error": None if verdict else "broken",
            "key": "0" * 32,
        }
        for (problem, sample), verdicts in said.items()
        for vote, verdict in enumerate(verdicts)
    ]
    write_table(path, COMPLETIONS, rows)
    return path


def graded_tables(tables: SolveTables, folder: Path) -> GradedTables:
    """The tables of the shard once it is graded into a folder."""
    return GradedTables(tables.requests, tables.completions, folder / "graded.parquet", folder / "grades.parquet")
