"""The file of solved problems of the toy world: its columns, what is known of a problem, and how it is solved."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from corpusmith.toy.maths import FORMS, Form
from corpusmith.toy.problems import write_problems
from toy_solutions import BOXED, reckoned, slips
from translation_tables import run_program

COLUMNS = {
    "expected_answer": (str, type(None)),
    "problem_type": (str,),
    "problem_source": (str,),
    "generation_model": (str,),
    "pass_rate_72b_tir": (str,),
    "problem": (str,),
    "generated_solution": (str,),
    "inference_mode": (str,),
    "used_in_kaggle": (bool,),
}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("problems") / "toy.jsonl.gz"
    assert write_problems(4000, 7, path) == len(rows_of(path))
    return rows_of(path)


def test_rows_have_openmathreasoning_s_columns_and_types(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert list(row) == list(COLUMNS)
        assert all(isinstance(row[column], types) for column, types in COLUMNS.items())
    assert {row["inference_mode"] for row in rows} == {"cot", "tir", "genselect"}
    assert {row["used_in_kaggle"] for row in rows} == {True, False}
    assert {row["problem_source"] for row in rows} == {"toy_exercises", "toy_contests", "toy_olympiads"}


def test_a_pass_rate_is_known_where_an_answer_was_extracted_and_an_answer_where_one_is_needed(
    rows: list[dict[str, Any]],
) -> None:
    kinds = Counter(row["problem_type"] for row in rows)
    assert kinds.keys() == {"has_answer_extracted", "no_answer_extracted", "converted_proof"}
    assert kinds["has_answer_extracted"] > 0.7 * len(rows)
    for row in rows:
        if row["problem_type"] == "has_answer_extracted":
            assert re.fullmatch(r"[01]\.\d+", row["pass_rate_72b_tir"])
            assert 0 <= float(row["pass_rate_72b_tir"]) <= 1
        else:
            assert row["pass_rate_72b_tir"] == "n/a"
        known = None if row["problem_type"] == "no_answer_extracted" else str(reckoned(row["problem"]))
        assert row["expected_answer"] == known


def test_solutions_are_right_as_often_as_the_pass_rate_says(rows: list[dict[str, Any]]) -> None:
    rated = [row for row in rows if row["pass_rate_72b_tir"] != "n/a"]
    for low, high in ((0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.01)):
        within = [row for row in rated if low <= float(row["pass_rate_72b_tir"]) < high]
        right = sum(slips(row["generated_solution"]) == 0 for row in within)
        said = sum(float(row["pass_rate_72b_tir"]) for row in within)
        assert len(within) > 150
        assert abs(right - said) < 4 * 0.5 * len(within) ** 0.5


def test_some_solutions_have_no_box_and_some_have_words_in_it(rows: list[dict[str, Any]]) -> None:
    boxes = [BOXED.search(row["generated_solution"]) for row in rows]
    share = sum(box is None for box in boxes) / len(rows)
    words = sum(box is not None and not box[1][0].isdigit() for box in boxes) / len(rows)
    spread = (0.1 * 0.9 / len(rows)) ** 0.5
    assert abs(share - FORMS[Form.NONE]) < 4 * spread
    assert abs(words - FORMS[Form.WORDS]) < 4 * spread


def test_some_problems_have_several_solutions_and_agree_on_all_that_is_said_of_the_problem(
    rows: list[dict[str, Any]],
) -> None:
    problems: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        problems[row["problem"]].append(row)
    assert len(problems) == 4000
    assert {len(solved) for solved in problems.values()} == {1, 2, 3, 4}
    for solved in problems.values():
        for column in ("expected_answer", "problem_type", "problem_source", "pass_rate_72b_tir"):
            assert len({row[column] for row in solved}) == 1
    assert any(len({row["generated_solution"] for row in solved}) > 1 for solved in problems.values())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(tmp_path: Path) -> None:
    for path, seed in ((tmp_path / "a.gz", 4), (tmp_path / "there" / "b.jsonl.gz", 4), (tmp_path / "c.gz", 5)):
        write_problems(40, seed, path)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "there" / "b.jsonl.gz").read_bytes()
    assert (tmp_path / "a.gz").read_bytes() != (tmp_path / "c.gz").read_bytes()
    # Where gzip notes the time.
    assert (tmp_path / "a.gz").read_bytes()[4:8] == bytes(4)


def test_the_program_writes_the_problems_of_its_seed(tmp_path: Path) -> None:
    run_program("make_toy_problems.py", "--problems", 30, "--seed", 4, "--problems-file", tmp_path / "toy.jsonl.gz")
    write_problems(30, 4, tmp_path / "same.jsonl.gz")
    assert (tmp_path / "toy.jsonl.gz").read_bytes() == (tmp_path / "same.jsonl.gz").read_bytes()
    assert len({row["problem"] for row in rows_of(tmp_path / "toy.jsonl.gz")}) == 30
