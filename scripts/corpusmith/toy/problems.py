"""Solved problems of the toy world, in the columns and with the quirks of OpenMathReasoning."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from corpusmith.files import whole_file
from corpusmith.toy import maths

Choice = TypeVar("Choice")

HAS_ANSWER, NO_ANSWER, PROOF = "has_answer_extracted", "no_answer_extracted", "converted_proof"
UNRATED = "n/a"
# A pass rate is the share of so many tries that were right.
TRIES = 32

_TYPES = {HAS_ANSWER: 80, NO_ANSWER: 12, PROOF: 8}
_SOURCES = ("toy_exercises", "toy_contests", "toy_olympiads")
_MODELS = ("toy-teacher-a", "toy-teacher-b")
_MODES = {"cot": 60, "tir": 30, "genselect": 10}
# How many solutions a problem has, and how often.
_SOLUTIONS = {1: 50, 2: 25, 3: 15, 4: 10}
# Problems of one, two and three steps: shape of the beta distribution that their pass rates are drawn from.
_EASE = ((3.0, 1.0), (1.6, 1.2), (0.8, 1.4))


def write_problems(problems: int, seed: int, path: str | Path) -> int:
    """Writes so many distinct problems, a row for each of their solutions; the same bytes for the same seed.

    Returns the number of rows.
    """
    rng = random.Random(seed)
    rows = [row for problem in _distinct(rng, problems) for row in _solved(rng, problem)]
    # In the real data, too, solutions of one problem do not stand together.
    rng.shuffle(rows)
    # Without the temporary file's name and the time, which gzip would write into its header.
    with whole_file(path) as partial, open(partial, "wb") as plain, gzip.GzipFile("", "wb", 9, plain, 0) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return len(rows)


def _distinct(rng: random.Random, count: int) -> Iterator[maths.Problem]:
    seen: set[str] = set()
    while len(seen) < count:
        problem = maths.draw_problem(rng)
        if problem.text not in seen:
            seen.add(problem.text)
            yield problem


def _solved(rng: random.Random, problem: maths.Problem) -> Iterator[dict[str, Any]]:
    """The rows of one problem. As in the real data, a rate is known only where an answer was found."""
    kind = _drawn(rng, _TYPES)
    steps = len(problem.steps)
    passed = round(TRIES * rng.betavariate(*_EASE[steps - 1]))
    for _ in range(_drawn(rng, _SOLUTIONS)):
        form = maths.draw_form(rng)
        right = rng.random() < passed / TRIES
        yield {
            "expected_answer": None if kind == NO_ANSWER else str(problem.answer),
            "problem_type": kind,
            "problem_source": _SOURCES[steps - 1],
            "generation_model": rng.choice(_MODELS),
            "pass_rate_72b_tir": str(passed / TRIES) if kind == HAS_ANSWER else UNRATED,
            "problem": problem.text,
            "generated_solution": maths.solution(problem, form) if right else maths.wrong_solution(rng, problem, form),
            "inference_mode": _drawn(rng, _MODES),
            "used_in_kaggle": rng.random() < 0.5,
        }


def _drawn(rng: random.Random, weights: dict[Choice, int]) -> Choice:
    return rng.choices(list(weights), weights=list(weights.values()))[0]
