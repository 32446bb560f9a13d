"""Deduplication, decontamination and the best rows, as programs: where every row ends up, and what is said of it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.accounting import read_account
from corpusmith.errors import InputError
from corpusmith.identity import item_id
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import FILTERED, REJECTED, REJECTED_SOLUTIONS, SOLUTIONS
from translation_tables import call_program

BASE = "How many apples does Mina have left in the end of the long and windy day?"
NEAR = f"So {BASE}"
BENCHMARK = "In the end of the long and windy day how many are left?"


def solution(number: int, problem: str, pass_rate: float | None = None, solution: str | None = None) -> dict[str, Any]:
    row = dict.fromkeys((column.name for column in SOLUTIONS.columns), None)
    return row | {
        "item_id": item_id(problem, str(number)),
        "problem_id": item_id(problem),
        "problem": problem,
        "answer": "3",
        "answer_origin": "given",
        "generated_solution": solution,
        "pass_rate": pass_rate,
        "dataset": "hard",
    }


def translation(source: str, score: float) -> dict[str, Any]:
    top = [{"sample": 0, "text": "답", "score": score}]
    row = {"item_id": item_id(source, str(score)), "source": source, "target": "답", "score": score}
    return row | {"sample": 0, "candidates": 2, "mean_score": score, "top_k": top}


def flags_of(program: str, folder: Path, *flags: Any) -> list[str]:
    out = folder / "out"
    report = ("--report", out / "report.json") if program == "decontaminate" else ()
    files = ("--kept", out / "kept", "--rejected", out / "rejected", "--account", out / "account", *report)
    return [str(flag) for flag in ("--rows", folder / "rows", *files, *flags)]


def call(program: str, folder: Path, *flags: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the program as users do."""
    return call_program(f"{program}.py", *flags_of(program, folder, *flags), **options)


def call_here(program: str, folder: Path, *flags: Any) -> None:
    """Runs the program without the time that a process takes to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *flags_of(program, folder, *flags)])
        importlib.import_module(program).main()


MATHS = ("--recipe", "maths", "--column", "problem")
LONGER = ("73 characters", "75 characters")
SETTINGS = {
    "deduplicate": MATHS,
    "decontaminate": (*MATHS, "--benchmarks", "b.txt"),
    "keep_best": ("--recipe", "maths", "--best", "3"),
}


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    found = [
        solution(0, BASE, None),
        solution(1, NEAR, 0.5),
        solution(2, "Another problem about nothing.", 0.1),
        solution(3, BASE.upper(), 0.25),
        solution(4, BASE.replace("apples", "5 apples"), 1.0, "It is 3. " + BENCHMARK),
    ]
    write_table(tmp_path / "rows", SOLUTIONS, found)
    return found


def test_of_duplicates_the_best_stays_and_the_others_name_it(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    result = call("deduplicate", tmp_path, *MATHS, "--keep", "pass_rate", "lowest", "--stage", "distinct")
    assert result.returncode == 0, result.stderr
    assert list(read_rows(tmp_path / "out" / "kept", SOLUTIONS)) == [rows[2], rows[3], rows[4]]
    best = rows[3]["item_id"]
    columns = ("item_id", "problem", "answer", "generated_solution", "pass_rate")
    # 16 words, 12 runs of 5; the near one has one more.
    assert list(read_rows(tmp_path / "out" / "rejected", REJECTED_SOLUTIONS)) == [
        {name: row[name] for name in columns} | {"reason": reason, "reasons": [reason], "detail": detail}
        for row, reason, detail in (
            (rows[0], "duplicate", f"the text of {best}"),
            (rows[1], "near_duplicate", f"similarity {12 / 13:.3f} with {best}"),
        )
    ]
    account = read_account(tmp_path / "out" / "account")
    account.check()
    assert (account.stage, account.unit, account.taken.count, account.kept.count) == ("distinct", "items", 5, 3)
    assert account.reasons == {"duplicate": 1, "near_duplicate": 1}
    assert "distinct: 3 of 5 rows kept; rejected: duplicate 1, near_duplicate 1" in result.stderr


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ((), [0, 2, 4]),
        (("--near", "off"), [0, 1, 2, 4]),
        (("--near", "0.95"), [0, 1, 2, 4]),
        (("--keep", "pass_rate", "highest"), [1, 2, 4]),
        # The fifth row has one word more within: 5 runs of it are other ones, and 4 of the first's: 8 / 17.
        (("--near", "0.47", "--no-numbers-distinct"), [0, 2]),
        (("--near", "0.47"), [0, 2, 4]),
        (("--near", "0.93", "--ngram", "1"), [0, 2, 4]),
    ],
)
def test_flags_decide_what_is_a_duplicate_and_which_stays(
    tmp_path: Path, rows: list[dict[str, Any]], flags: tuple[str, ...], kept: list[int]
) -> None:
    call_here("deduplicate", tmp_path, *MATHS, *flags)
    assert list(read_rows(tmp_path / "out" / "kept", SOLUTIONS)) == [rows[number] for number in kept]


@pytest.mark.parametrize(
    ("flags", "kept", "details"),
    [
        # A row without a value is the last choice.
        (("3", "--by", "pass_rate", "highest"), [1, 3, 4], ["none", "0.1"]),
        (("4", "--by", "pass_rate", "lowest"), [1, 2, 3, 4], ["none"]),
        (("5", "--by", "pass_rate", "lowest"), [0, 1, 2, 3, 4], []),
        (("2", "--by", "problem", "shortest"), [2, 3], ["73 characters", "76 characters", "75 characters"]),
        (
            ("1", "--by", "problem", "longest"),
            [1],
            ["73 characters", "30 characters", *LONGER],
        ),
        (("1", "--by", "generated_solution", "longest"), [4], ["none"] * 4),
    ],
)
def test_the_best_rows_stay_in_their_order(
    tmp_path: Path, rows: list[dict[str, Any]], flags: tuple[str, ...], kept: list[int], details: list[str]
) -> None:
    call_here("keep_best", tmp_path, "--recipe", "maths", "--best", *flags)
    assert list(read_rows(tmp_path / "out" / "kept", SOLUTIONS)) == [rows[number] for number in kept]
    rejected = list(read_rows(tmp_path / "out" / "rejected", REJECTED_SOLUTIONS))
    assert [row["item_id"] for row in rejected] == [
        row["item_id"] for number, row in enumerate(rows) if number not in kept
    ]
    assert {row["reason"] for row in rejected} <= {"not_among_best"}
    assert [row["detail"].partition(";")[0].removeprefix(f"{flags[2]} ") for row in rejected] == details


def test_what_is_not_among_the_best_says_what_the_last_of_them_has(tmp_path: Path, rows: list[Any]) -> None:
    result = call("keep_best", tmp_path, "--recipe", "maths", "--best", "2", "--by", "pass_rate", "highest")
    assert result.returncode == 0, result.stderr
    rejected = list(read_rows(tmp_path / "out" / "rejected", REJECTED_SOLUTIONS))
    assert [row["detail"] for row in rejected] == [
        f"pass_rate {value}; the last of 2 that stay has 0.5" for value in ("none", "0.1", "0.25")
    ]
    account = read_account(tmp_path / "out" / "account")
    account.check()
    assert (account.stage, account.taken.count, account.kept.count) == ("best", 5, 2)
    assert "best: 2 of 5 rows kept; rejected: not_among_best 3" in result.stderr
    assert "fewer" not in result.stderr


def test_fewer_rows_than_the_best_are_told(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    result = call("keep_best", tmp_path, "--recipe", "maths", "--best", "1000")
    assert result.returncode == 0, result.stderr
    assert "5 rows came so far, fewer than the best 1,000: all stay" in result.stderr


def test_equal_rows_are_drawn_by_their_ids_whatever_their_order(tmp_path: Path) -> None:
    found = [solution(number, f"Problem {number}.", 0.25, "") for number in range(20)]
    by_id = sorted(found, key=lambda row: row["item_id"])
    kept = []
    for name, rows in (("one", found), ("two", found[::-1])):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "rows", SOLUTIONS, rows)
        call_here("keep_best", tmp_path / name, "--recipe", "maths", "--best", "6")
        kept.append(list(read_rows(tmp_path / name / "out" / "kept", SOLUTIONS)))
        rejected = list(read_rows(tmp_path / name / "out" / "rejected", REJECTED_SOLUTIONS))
        assert {row["detail"] for row in rejected} == {"not drawn: its id comes behind those of the 6 that stay"}
        call_here("keep_best", tmp_path / name, "--recipe", "maths", "--best", "6", "--by", "pass_rate", "lowest")
        assert list(read_rows(tmp_path / name / "out" / "kept", SOLUTIONS)) == kept[-1]
    rejected = list(read_rows(tmp_path / "one" / "out" / "rejected", REJECTED_SOLUTIONS))
    assert rejected[0]["detail"] == "pass_rate 0.25; the last of 6 that stay has 0.25 and an id that comes first"
    # The rows stay in the order of their table.
    assert kept[0] == [row for row in found if row in by_id[:6]]
    assert kept[1] == kept[0][::-1]


def test_a_column_that_decides_nothing_is_refused_and_one_that_decides_part_is_told(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    flags = ("--recipe", "maths", "--best", "3", "--by", "pass_rate_samples", "highest")
    with pytest.raises(InputError, match="rows: no row has a pass_rate_samples that the best could be chosen by"):
        call_here("keep_best", tmp_path, *flags)
    result = call("keep_best", tmp_path, "--recipe", "maths", "--best", "2", "--by", "generated_solution", "longest")
    assert "1 of the 2 rows that stay have no generated_solution" in result.stderr


@given(
    values=st.lists(st.none() | st.integers(0, 5).map(float), max_size=12).filter(lambda found: {*found} != {None}),
    best=st.integers(1, 12), order=st.sampled_from(["highest", "lowest"]),
)  # fmt: skip
def test_no_row_that_goes_is_better_than_one_that_stays(values: list[float | None], best: int, order: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [solution(number, f"Problem {number}.", value) for number, value in enumerate(values)]
        write_table(Path(folder) / "rows", SOLUTIONS, rows)
        call_here("keep_best", Path(folder), "--recipe", "maths", "--best", str(best), "--by", "pass_rate", order)
        kept = list(read_rows(Path(folder) / "out" / "kept", SOLUTIONS))
        rejected = list(read_rows(Path(folder) / "out" / "rejected", REJECTED_SOLUTIONS))
    worst = float("inf")
    sign = -1 if order == "highest" else 1

    def cost(row: dict[str, Any]) -> tuple[float, str]:
        value = row["pass_rate"]
        return (worst if value is None else sign * value, row["item_id"])

    assert len(kept) == min(best, len(rows))
    assert len(kept) + len(rejected) == len(rows)
    assert max(map(cost, kept), default=(-worst, "")) < min(map(cost, rejected), default=(worst, "g"))


def test_translations_are_deduplicated_and_rows_without_a_text_stay(tmp_path: Path) -> None:
    found = [translation("A text.", 2.0), translation("a  text.", 1.0), translation("Another.", 3.0)]
    write_table(tmp_path / "rows", FILTERED, found)
    flags = ("--recipe", "translation", "--keep", "score", "lowest")
    call_here("deduplicate", tmp_path, "--column", "source", *flags)
    assert list(read_rows(tmp_path / "out" / "kept", FILTERED)) == found[1:]
    rejected = list(read_rows(tmp_path / "out" / "rejected", REJECTED))
    assert [(row["source"], row["score"], row["reason"]) for row in rejected] == [("A text.", 2.0, "duplicate")]
    # All solutions of these are null.
    problems = [solution(number, f"Problem {number}") for number in range(3)]
    write_table(tmp_path / "rows", SOLUTIONS, problems)
    call_here("deduplicate", tmp_path, "--recipe", "maths", "--column", "generated_solution")
    assert list(read_rows(tmp_path / "out" / "kept", SOLUTIONS)) == problems


def test_equal_input_gives_equal_bytes_whatever_python_hashes_with(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    (tmp_path / "b.txt").write_text(BENCHMARK)
    outputs = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        assert call("deduplicate", tmp_path, *MATHS, env=environment).returncode == 0
        outputs.append([path.read_bytes() for path in sorted((tmp_path / "out").iterdir())])
        flags = (*MATHS, "--benchmarks", tmp_path / "b.txt", "--ngram", 5)
        assert call("decontaminate", tmp_path, *flags, env=environment).returncode == 0
        outputs[-1] += [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())]
        for path in (tmp_path / "out").iterdir():
            path.unlink()
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 3 + 4


def test_contaminated_rows_go_and_the_report_names_what_matched_what(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    lines = [{"question": "Something else"}, {"question": BENCHMARK, "id": "no such words in it at all"}]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "other.txt").write_text("nothing that is in any row\nshort\n")
    flags = ("--recipe", "maths", "--column", "problem", "generated_solution", "--ngram", 9, "--stage", "clean")
    files = ("--benchmarks", tmp_path / "test.jsonl", tmp_path / "other.txt", "--benchmark-columns", "question")
    result = call("decontaminate", tmp_path, *flags, *files)
    assert result.returncode == 0, result.stderr
    # "in the end of the long and windy day" are nine words of each but the third.
    assert list(read_rows(tmp_path / "out" / "kept", SOLUTIONS)) == [rows[2]]
    rejected = list(read_rows(tmp_path / "out" / "rejected", REJECTED_SOLUTIONS))
    shared = "in the end of the long and windy day"
    assert [row["item_id"] for row in rejected] == [rows[number]["item_id"] for number in (0, 1, 3, 4)]
    assert {(row["reason"], *row["reasons"], row["detail"]) for row in rejected} == {
        ("contaminated", "contaminated", f"test.jsonl, row 2, question: {shared}")
    }
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report == {
        "ngram": 9,
        "min_words": 5,
        "columns": ["problem", "generated_solution"],
        "matches": [
            {
                "item_id": rows[number]["item_id"],
                "column": "problem",
                "file": "test.jsonl",
                "row": 2,
                "field": "question",
                "shared": shared,
            }
            for number in (0, 1, 3, 4)
        ],
        "benchmarks": [
            {"file": "test.jsonl", "rows": 2, "compared": 1, "matched": 1, "items": 4, "matches": 4},
            {"file": "other.txt", "rows": 2, "compared": 1, "matched": 0, "items": 0, "matches": 0},
        ],
    }
    account = read_account(tmp_path / "out" / "account")
    account.check()
    assert (account.stage, account.taken.count, account.kept.count) == ("clean", 5, 1)
    assert account.reasons == {"contaminated": 4}
    assert "clean: 1 of 5 rows kept; rejected: contaminated 4" in result.stderr


def test_a_row_names_its_first_match_and_how_many_other_rows_it_matches(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    (tmp_path / "b.txt").write_text(f"{BENCHMARK}\nthe end of the long and windy day\n")
    flags = ("--recipe", "maths", "--column", "generated_solution", "--benchmarks", tmp_path / "b.txt")
    call_here("decontaminate", tmp_path, *flags)
    rejected = list(read_rows(tmp_path / "out" / "rejected", REJECTED_SOLUTIONS))
    shared = BENCHMARK.lower().rstrip("?")
    assert [row["detail"] for row in rejected] == [f"b.txt, row 1: {shared} (and 1 other rows of benchmarks)"]


@pytest.mark.parametrize(
    ("program", "flags", "message"),
    [
        ("deduplicate", ("--column", "source"), "--column: solutions have no texts in 'source'; those with texts: "),
        ("deduplicate", ("--near", "much"), "--near is a similarity from 0 to 1, or off; not 'much'"),
        ("deduplicate", ("--near", "80"), "a similarity is above 0 and at most 1, not 80.0"),
        ("deduplicate", ("--keep", "pass_rate", "best"), "which one is kept is lowest or highest"),
        ("deduplicate", ("--keep", "problem", "lowest"), "no numbers in 'problem'; those with numbers: pass_rate"),
        ("keep_best", ("--best", "0"), "--best 0: at least 1 row stays"),
        ("keep_best", ("--by", "problem", "highest"), "--by: solutions have no numbers in 'problem'; those with"),
        ("keep_best", ("--by", "pass_rate", "longest"), "--by: solutions have no texts in 'pass_rate'; those with"),
        ("keep_best", ("--by", "pass_rate", "best"), "which one is kept is lowest, highest, shortest or longest"),
        ("decontaminate", ("--column", "item_id"), "--column: solutions have no texts in 'item_id'"),
        ("decontaminate", ("--min-words", "0"), "a run of 10 words, texts of at least 0: both are at least 1"),
        ("decontaminate", ("--min-words", "6"), "b.txt: no row has a text of at least 6 words"),
        ("decontaminate", ("--benchmarks", "b.txt", "./b.txt"), "b.txt is named twice"),
        ("decontaminate", ("--benchmarks", "none.json"), "none.json: no such file"),
    ],
)
def test_bad_flags_end_the_program_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Any], program: str, flags: tuple[str], message: str
) -> None:
    (tmp_path / "b.txt").write_text("just five words of benchmark")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=re.escape(message)):
        call_here(program, tmp_path, *SETTINGS[program], *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("program", list(SETTINGS))
def test_a_table_that_is_missing_or_of_another_recipe_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    (tmp_path / "b.txt").write_text("just five words of benchmark")
    monkeypatch.chdir(tmp_path)
    result = call(program, tmp_path, *SETTINGS[program], cwd=tmp_path)
    assert result.returncode == 1
    assert "rows: no such file" in result.stderr
    assert "Traceback" not in result.stderr
    write_table(tmp_path / "rows", FILTERED, [])
    with pytest.raises(InputError, match="rows: no column 'problem_id'"):
        call_here(program, tmp_path, *SETTINGS[program])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("program", list(SETTINGS))
def test_a_table_without_rows_gives_tables_without_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    write_table(tmp_path / "rows", SOLUTIONS, [])
    (tmp_path / "b.txt").write_text("just five words of benchmark")
    monkeypatch.chdir(tmp_path)
    call_here(program, tmp_path, *SETTINGS[program])
    assert list(read_rows(tmp_path / "out" / "kept", SOLUTIONS)) == []
    assert list(read_rows(tmp_path / "out" / "rejected", REJECTED_SOLUTIONS)) == []
    assert read_account(tmp_path / "out" / "account").taken.count == 0
