"""The maths recipe between its models: problems, verdicts, pass rates and the choice of solutions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from corpusmith.accounting import Account
from corpusmith.errors import InputError
from corpusmith.identity import shard_names, shard_of
from corpusmith.judging import Ballot
from corpusmith.maths.grading import checked_problems, grade_solutions, read_votes, verdict_requests
from corpusmith.maths.problems import Solving, distinct_problems, solution_requests
from corpusmith.maths.selection import Band, Choice, read_grades, select_rows, select_solutions
from corpusmith.prompts import load_prompt
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import (
    ANSWER_CONFLICTS,
    GRADED_PROBLEMS,
    GRADED_SOLUTIONS,
    LABELLED_ROWS,
    PROBLEMS,
    REJECTED_SOLUTIONS,
    SAMPLES,
    SOLUTIONS,
)
from maths_tables import Solution, Solved, graded_tables, labelled, problem_id, write_solved, write_verdicts

RIGHT, WRONG, UNDECIDED = Solution("right"), Solution("wrong"), Solution("undecided")
FAILED = Solution("undecided", error="out of memory", answer=None)


def table(path: Path, kind: Any) -> list[dict[str, Any]]:
    return list(read_rows(path, kind))


# --- distinct problems ---


def test_a_problem_is_listed_once_with_its_most_frequent_answer_and_conflicts_are_told(tmp_path: Path) -> None:
    rows = [
        labelled(0, "a", "1", problem_type="has_answer_extracted"),
        labelled(1, "b"),
        labelled(2, "a", " 2 "),
        labelled(3, "c", "5"),
        labelled(4, "a", "2", problem_type="other"),
        labelled(5, "a"),
        labelled(6, "c", "5 "),
    ]
    write_table(tmp_path / "rows", LABELLED_ROWS, rows)
    account = Account("problems", "rows")
    assert distinct_problems(tmp_path / "rows", tmp_path / "problems", tmp_path / "conflicts", account) == 1
    found = table(tmp_path / "problems", PROBLEMS)
    assert [(row["problem"], row["answer"], row["rows"]) for row in found] == [
        ("a", "2", 4),
        ("b", None, 1),
        ("c", "5", 2),
    ]
    assert [row["item_id"] for row in found] == list(map(problem_id, "abc"))
    assert found[0]["problem_type"] == "has_answer_extracted"
    (conflict,) = table(tmp_path / "conflicts", ANSWER_CONFLICTS)
    assert (conflict["problem"], conflict["answers"], conflict["counts"]) == ("a", ["2", "1"], [2, 1])
    assert (account.taken.count, account.kept.count, account.reasons) == (7, 3, {"same_problem": 4})


def test_every_problem_is_asked_in_exactly_one_shard_with_its_answer_beside_it() -> None:
    problems = [
        {"item_id": problem_id(str(n)), "problem": f"p {n}", "answer": str(n) if n % 2 else None} for n in range(40)
    ]
    asked = [
        row
        for shard in shard_names(3)
        for row in solution_requests(problems, shard, lambda problem: f"Solve {problem}", Solving(4, 0.7, 0.9, 5, 100))
    ]
    assert sorted(row["item_id"] for row in asked) == sorted(row["item_id"] for row in problems)
    by_item = {row["item_id"]: row for row in asked}
    first = by_item[problem_id("1")]
    assert first["messages"] == [{"role": "user", "content": "Solve p 1"}]
    assert (first["n"], first["temperature"], first["top_p"], first["top_k"], first["max_tokens"]) == (
        4,
        0.7,
        0.9,
        5,
        100,
    )
    assert (first["source"], first["reference"]) == ("p 1", "1")
    assert by_item[problem_id("2")]["reference"] is None


# --- the judge ---


def test_the_judge_is_asked_only_about_what_checking_left_undecided(tmp_path: Path) -> None:
    tables = write_solved(
        tmp_path,
        [
            Solved("a", [RIGHT, UNDECIDED._replace(answer="one"), WRONG, FAILED, UNDECIDED._replace(answer=None)]),
            Solved("b", [RIGHT, WRONG]),
            Solved("c", [UNDECIDED], None, "none"),
        ],
    )
    prompt = lambda **names: f"{names['problem']}|{names['expected_answer']}|{names['predicted_answer']}"  # noqa: E731
    asked = list(verdict_requests(checked_problems(tables), prompt, ["Yes", "No"], 3, 0.5))
    assert [(row["item_id"], row["request"]) for row in asked] == [
        (problem_id("a"), "verdict-1"),
        (problem_id("a"), "verdict-4"),
    ]
    assert [row["messages"][0]["content"] for row in asked] == ["a|1|one", "a|1|None"]
    assert all((row["choices"], row["n"], row["temperature"]) == (["Yes", "No"], 3, 0.5) for row in asked)


@pytest.mark.parametrize("name", ["judge-answer.txt", "toy-judge.txt"])
def test_the_prompts_that_come_with_it_show_the_end_of_a_solution_without_an_answer(name: str, tmp_path: Path) -> None:
    undecided = Solution("undecided", answer=None, text="so it is fourteen")
    tables = write_solved(tmp_path, [Solved("a", [undecided, undecided._replace(answer="14 apples")])])
    prompt = load_prompt(ROOT / "config" / "prompts" / name)
    asked = list(verdict_requests(checked_problems(tables), prompt, ["Yes", "No"], 1, 0.0))
    without, with_one = (row["messages"][0]["content"] for row in asked)
    assert "so it is fourteen" in without
    assert "14 apples" in with_one
    assert "fourteen" not in with_one


@given(st.lists(st.sampled_from(["Yes", "No", "Maybe", None]), max_size=9))
def test_a_vote_is_won_by_more_than_half_of_the_votes_that_came(votes: list[str | None]) -> None:
    ballot = Ballot(["Yes", "Maybe"])
    for vote in votes:
        ballot.add({"text": vote or "", "finish_reason": "stop", "error": None if vote else "broken"})
    came = [vote for vote in votes if vote is not None]
    share = sum(vote != "No" for vote in came) / len(came) if came else 0.5
    assert ballot.accepted() == (None if share == 0.5 else share > 0.5)
    assert (ballot.objection() is None) == (share > 0.5)


def test_a_verdict_that_was_cut_off_is_no_vote() -> None:
    ballot = Ballot(["Yes"])
    ballot.add({"text": "Yes", "finish_reason": "length", "error": None})
    assert ballot.accepted() is None
    reason, detail = ballot.objection() or (None, None)
    assert reason == "no_verdict"
    assert detail is not None
    assert "cut off" in detail


# --- grades ---


def grade(folder: Path, solved: list[Solved], said: dict[tuple[str, int], list[str | None]]) -> Any:
    tables = write_solved(folder, solved)
    votes = read_votes(write_verdicts(folder / "verdicts.parquet", said), ["Yes"])
    after, account = graded_tables(tables, folder), Account("grade")
    decided = grade_solutions(checked_problems(tables), votes, after.graded, after.grades, account)
    account.check()
    return after, account, decided


def test_the_judge_decides_what_checking_did_not_and_what_nobody_decides_does_not_count(tmp_path: Path) -> None:
    solved = [
        Solved("a", [RIGHT, UNDECIDED, UNDECIDED, WRONG, FAILED, UNDECIDED]),
        Solved("b", [FAILED, UNDECIDED], None, "none"),
        Solved("c", [RIGHT, RIGHT, WRONG], "7", "majority"),
    ]
    said: dict[tuple[str, int], list[str | None]] = {
        ("a", 1): ["Yes", "No", "Yes"],
        ("a", 2): ["No", "No", "Yes"],
        ("a", 5): [None, "Yes", "No"],
    }
    after, account, decided = grade(tmp_path, solved, said)
    graded = table(after.graded, GRADED_SOLUTIONS)
    assert [row["right"] for row in graded] == [True, True, False, False, None, None, None, None, True, True, False]
    assert [row["reason"] for row in graded[:6]] == [
        *("same_value", "judge", "judge", "different_value", "no_completion", "unreadable"),
    ]
    assert decided == {"same_value": 3, "judge": 2, "different_value": 2, "no_completion": 2, "unreadable": 2}
    rates = {row["item_id"]: row for row in table(after.grades, GRADED_PROBLEMS)}
    assert [(rates[problem_id(name)]["samples"], rates[problem_id(name)]["right"]) for name in "abc"] == [
        (4, 2),
        (0, 0),
        (3, 2),
    ]
    assert [rates[problem_id(name)]["pass_rate"] for name in "abc"] == [0.5, None, 0.666667]
    assert (rates[problem_id("c")]["answer"], rates[problem_id("c")]["answer_origin"]) == ("7", "majority")
    assert account.kept.count == 3


def test_tables_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one = write_solved(tmp_path / "one", [Solved("a", [RIGHT])])
    other = write_solved(tmp_path / "other", [Solved("b", [RIGHT])])
    for name in ("completions", "checked", "answers"):
        mixed = type(one)(**{**one.__dict__, name: getattr(other, name)})
        with pytest.raises(InputError, match="does not belong to"):
            list(checked_problems(mixed))


# --- rows keep their solutions ---


def test_rows_stay_by_the_measured_pass_rate_of_their_problem(tmp_path: Path) -> None:
    solved = [Solved("hard", [WRONG] * 9 + [RIGHT]), Solved("easy", [RIGHT, RIGHT]), Solved("unclear", [UNDECIDED])]
    solved.append(Solved("open", [RIGHT, WRONG], "42", "majority"))
    after, _, _ = grade(tmp_path, solved, {})
    rows = [
        labelled(0, "hard", "1", generated_solution="first", pass_rate=0.9),
        labelled(1, "easy", "1"),
        labelled(2, "unclear", "1"),
        labelled(3, "hard", "1 apple", generated_solution="second"),
        labelled(4, "open", None),
        labelled(5, "hard", " $1$. ", generated_solution="third"),
    ]
    write_table(tmp_path / "rows", LABELLED_ROWS, rows)
    account = Account("select")
    select_rows(
        *(tmp_path / "rows", read_grades([after.grades]), Band(0.05, 0.5)),
        *(tmp_path / "kept", tmp_path / "rejected", account),
    )
    account.check()
    kept = table(tmp_path / "kept", SOLUTIONS)
    columns = ("generated_solution", "answer", "answer_origin", "pass_rate", "pass_rate_samples")
    assert [tuple(row[name] for name in columns) for row in kept] == [
        ("first", "1", "given", 0.1, 10),
        (None, "42", "majority", 0.5, 2),
        ("third", " $1$. ", "given", 0.1, 10),
    ]
    rejected = table(tmp_path / "rejected", REJECTED_SOLUTIONS)
    assert [(row["problem"], row["reason"]) for row in rejected] == [
        ("easy", "pass_rate_too_high"),
        ("unclear", "not_graded"),
        # Its pass rate was measured with another answer.
        ("hard", "other_answer"),
    ]
    assert account.reasons == {"pass_rate_too_high": 1, "not_graded": 1, "other_answer": 1}


def test_where_nothing_is_solved_all_rows_stay_with_the_sources_pass_rate(tmp_path: Path) -> None:
    rows = [labelled(0, "a", "1", pass_rate=0.25), labelled(1, "b", None)]
    write_table(tmp_path / "rows", LABELLED_ROWS, rows)
    select_rows(tmp_path / "rows", None, Band(), tmp_path / "kept", tmp_path / "rejected", Account("select"))
    kept = table(tmp_path / "kept", SOLUTIONS)
    columns = ("answer", "answer_origin", "pass_rate", "pass_rate_samples", "dataset")
    assert [tuple(row[name] for name in columns) for row in kept] == [
        ("1", "given", 0.25, None, "made"),
        (None, "none", None, None, "made"),
    ]


# --- the best of generated solutions ---

FATES = st.sampled_from([True, False, None])
GRADED = st.lists(st.tuples(FATES, st.integers(1, 4)), min_size=1, max_size=8)


@given(GRADED)
def test_the_best_solution_is_right_then_short_then_first(drawn: list[tuple[bool | None, int]]) -> None:
    solutions = [
        {"sample": sample, "right": right, "completion_tokens": tokens, "error": None}
        for sample, (right, tokens) in enumerate(drawn)
    ]
    best = Choice(["right", "shortest", "first"], True, Band()).best(solutions)
    assert best is not None
    for other in solutions:
        better = [
            (other["right"] is True) - (best["right"] is True) or (best["right"] is False) - (other["right"] is False),
            best["completion_tokens"] - other["completion_tokens"],
            best["sample"] - other["sample"],
        ]
        assert next((difference for difference in better if difference), 0) <= 0


def select(folder: Path, solved: list[Solved], choice: Choice, rows: list[dict[str, Any]] | None = None) -> Account:
    after, _, _ = grade(folder, solved, {})
    rows = rows or [labelled(n, one.problem, one.answer, problem_type="t") for n, one in enumerate(solved)]
    write_table(folder / "rows", LABELLED_ROWS, rows)
    distinct_problems(folder / "rows", folder / "problems", folder / "conflicts", Account("problems", "rows"))
    account = Account("select")
    select_solutions(
        *(folder / "problems", [after], choice, "teacher"),
        *(folder / "kept", folder / "rejected", folder / "samples", account),
    )
    account.check()
    return account


def test_a_problem_gets_its_best_solution_and_the_others_are_listed(tmp_path: Path) -> None:
    solved = [
        Solved("a", [Solution("wrong", "w", 1), Solution("right", "long", 9), Solution("right", "short", 3), FAILED]),
        Solved("b", [WRONG, WRONG]),
        Solved("c", [UNDECIDED]),
        Solved("d", [FAILED]),
        Solved("e", [RIGHT, RIGHT]),
    ]
    account = select(tmp_path, solved, Choice(["right", "shortest", "first"], True, Band(None, 0.9)))
    (kept,) = table(tmp_path / "kept", SOLUTIONS)
    assert kept["item_id"] == kept["problem_id"] == problem_id("a")
    assert (kept["generated_solution"], kept["sample"], kept["right"]) == ("short", 2, True)
    assert (kept["pass_rate"], kept["pass_rate_samples"], kept["answer"]) == (0.666667, 3, "1")
    assert (kept["problem_type"], kept["generation_model"], kept["dataset"]) == ("t", "teacher", "made")
    assert account.reasons == {"none_right": 1, "not_graded": 1, "no_solution": 1, "pass_rate_too_high": 1}
    samples = table(tmp_path / "samples", SAMPLES)
    assert [(row["sample"], row["generated_solution"], row["right"]) for row in samples] == [
        (0, "w", False), (1, "long", True), (2, "short", True),
    ]  # fmt: skip


def test_the_order_and_whether_only_right_ones_count_are_config(tmp_path: Path) -> None:
    solved = [
        Solved("a", [Solution("wrong", "w", 1), Solution("right", "r", 9)]),
        Solved("b", [Solution("wrong", "x")]),
    ]
    account = select(tmp_path, solved, Choice(["shortest", "first"], False, Band()))
    assert [row["generated_solution"] for row in table(tmp_path / "kept", SOLUTIONS)] == ["w", "x"]
    assert account.dropped.count == 0
    select(tmp_path, solved, Choice(["longest"], True, Band()))
    assert [row["generated_solution"] for row in table(tmp_path / "kept", SOLUTIONS)] == ["r"]


def test_grades_of_other_problems_than_there_are_are_refused(tmp_path: Path) -> None:
    one = [Solved("a", [RIGHT])]
    with pytest.raises(InputError, match="was not graded in its turn"):
        select(tmp_path, one, Choice(["right"], True, Band()), [labelled(0, "b", "1")])
    two = [*one, Solved("b", [RIGHT])]
    with pytest.raises(InputError, match="does not hold item"):
        select(tmp_path, two, Choice(["right"], True, Band()), [labelled(0, "a", "1")])


def test_where_only_right_ones_count_a_better_wrong_one_takes_no_place(tmp_path: Path) -> None:
    solved = [Solved("a", [Solution("wrong", "short", 1), Solution("right", "long", 99)])]
    account = select(tmp_path, solved, Choice(["shortest"], True, Band()))
    assert [row["generated_solution"] for row in table(tmp_path / "kept", SOLUTIONS)] == ["long"]
    assert account.dropped.count == 0


def test_rows_come_in_the_order_of_the_problems_however_many_shards_there_are(tmp_path: Path) -> None:
    names = [f"problem {number}" for number in range(30)]
    write_table(tmp_path / "rows", LABELLED_ROWS, [labelled(n, name, "1") for n, name in enumerate(names)])
    distinct_problems(*(tmp_path / name for name in ("rows", "problems", "conflicts")), Account("problems", "rows"))
    kept = []
    for count in (1, 4):
        shards = []
        for shard in range(count):
            folder = tmp_path / f"{shard}-of-{count}"
            folder.mkdir()
            solved = [Solved(name, [RIGHT]) for name in names if shard_of(problem_id(name), count) == shard]
            shards.append(grade(folder, solved, {})[0])
        select_solutions(
            *(tmp_path / "problems", shards, Choice(["right"], True, Band()), "teacher"),
            *(tmp_path / "kept", tmp_path / "rejected", tmp_path / "samples", Account("select")),
        )
        kept.append([row["problem"] for row in table(tmp_path / "kept", SOLUTIONS)])
    assert kept == [names, names]
