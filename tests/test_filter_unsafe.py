"""The filter for addresses, numbers and keys as a program: which rows go, for which reasons, and what is never said."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corpusmith.accounting import read_account
from corpusmith.errors import InputError
from corpusmith.identity import item_id
from corpusmith.lineage import trace
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import FILTERED, REJECTED, REJECTED_SOLUTIONS, SAMPLES, SOLUTIONS
from translation_tables import call_program

KEY = "hf_" + "aB3dE5gH7jK9mN1pQ2" * 2
TOKEN = KEY[:37]
ADDRESS, NUMBER = "mina@posteo.de", "+82 2-312-3456"


def translation(source: str, target: str = "답", *others: str) -> dict[str, Any]:
    top = [{"sample": number, "text": text, "score": 1.0} for number, text in enumerate((target, *others))]
    row = {"item_id": item_id(source, target), "source": source, "target": target, "score": 1.0, "top_k": top}
    return row | {"sample": 0, "candidates": 2, "mean_score": 1.0}


def solution(problem: str, **more: Any) -> dict[str, Any]:
    row = dict.fromkeys((column.name for column in SOLUTIONS.columns), None)
    known = {"item_id": item_id(problem), "problem_id": item_id(problem), "problem": problem, "dataset": "made"}
    return row | known | {"answer": "3", "answer_origin": "given"} | more


def sample(problem: str, number: int, text: str) -> dict[str, Any]:
    known = {"item_id": item_id(problem), "sample": number, "generated_solution": text}
    return known | {"answer": None, "right": None}


def flags_of(folder: Path, *flags: Any) -> list[str]:
    out = folder / "out"
    files = ("--kept", out / "kept", "--rejected", out / "rejected", "--account", out / "account")
    return [str(flag) for flag in ("--rows", folder / "rows", *files, *flags)]


def call_here(folder: Path, *flags: Any) -> None:
    """Runs the program without the time that a process takes to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["filter_unsafe", *flags_of(folder, *flags)])
        importlib.import_module("filter_unsafe").main()


TRANSLATION = ("--recipe", "translation", "--column", "source", "target", "top_k")
MATHS = ("--recipe", "maths", "--column", "problem", "generated_solution")


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    found = [
        translation("An apple."),
        translation(f"Write to {ADDRESS}.", f"{ADDRESS}로 보내세요."),
        translation("Call me.", f"{NUMBER}로 전화하세요. {TOKEN}"),
        translation("Two apples.", "사과 둘", "사과 두 개", f"사과 {NUMBER}"),
        translation(f"{TOKEN} and {ADDRESS}"),
        translation("2 + 3 = 5", "user@host"),
    ]
    write_table(tmp_path / "rows", FILTERED, found)
    return found


def rejected(folder: Path, table: Any = REJECTED) -> Iterator[dict[str, Any]]:
    return read_rows(folder / "out" / "rejected", table)


def test_rows_that_hold_something_go_with_every_reason_and_the_places(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    result = call_program("filter_unsafe.py", *flags_of(tmp_path, *TRANSLATION, "--stage", "safe"))
    assert result.returncode == 0, result.stderr
    assert list(read_rows(tmp_path / "out" / "kept", FILTERED)) == [rows[0], rows[5]]
    columns = ("item_id", "source", "target", "score")
    # The best answer stands among the first of top_k, too.
    assert list(rejected(tmp_path)) == [
        {name: rows[number][name] for name in columns} | {"reason": reasons[0], "reasons": reasons, "detail": detail}
        for number, reasons, detail in (
            (
                1,
                ["email"],
                "email in source, characters 9 to 23; email in target, characters 0 to 14;"
                " email in top_k 1, characters 0 to 14",
            ),
            (
                2,
                ["phone_number", "secret"],
                "phone_number in target, characters 0 to 14; phone_number in top_k 1, characters 0 to 14;"
                " Hugging Face Token in target, characters 23 to 60;"
                " Hugging Face Token in top_k 1, characters 23 to 60",
            ),
            (3, ["phone_number"], "phone_number in top_k 3, characters 3 to 17"),
            (
                4,
                ["email", "secret"],
                "email in source, characters 42 to 56; Hugging Face Token in source, characters 0 to 37",
            ),
        )
    ]
    account = read_account(tmp_path / "out" / "account")
    account.check()
    assert (account.stage, account.unit, account.taken.count, account.kept.count) == ("safe", "items", 6, 2)
    assert account.reasons == {"email": 2, "phone_number": 2}
    assert "safe: 2 of 6 rows kept; rejected: email 2, phone_number 2" in result.stderr


def test_neither_details_nor_logs_repeat_what_was_found(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    result = call_program("filter_unsafe.py", *flags_of(tmp_path, *TRANSLATION))
    said = result.stdout + result.stderr + "".join(row["detail"] for row in rejected(tmp_path))
    said += (tmp_path / "out" / "account").read_text()
    assert "email in source" in said
    for secret in (ADDRESS, "posteo", NUMBER, "312", TOKEN, TOKEN[3:20]):
        assert secret not in said


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (("--no-emails",), [0, 1, 5]),
        (("--no-phone-numbers",), [0, 3, 5]),
        (("--no-phone-numbers", "--no-secrets"), [0, 2, 3, 5]),
        (("--no-emails", "--no-phone-numbers"), [0, 1, 3, 5]),
        (("--allow", "*@POSTEO.de"), [0, 1, 5]),
        (("--allow=*@posteo.de", "--allow=hf_*", "--allow=-x"), [0, 1, 4, 5]),
        (("--column", "source"), [0, 2, 3, 5]),
        (("--column", "target"), [0, 3, 4, 5]),
        (("--column", "top_k"), [0, 4, 5]),
        (("--column", "target", "--allow", "+82*"), [0, 3, 4, 5]),
    ],
)
def test_flags_decide_what_is_an_objection_and_where(
    tmp_path: Path, rows: list[dict[str, Any]], flags: tuple[str, ...], kept: list[int]
) -> None:
    call_here(tmp_path, *TRANSLATION, *flags)
    assert list(read_rows(tmp_path / "out" / "kept", FILTERED)) == [rows[number] for number in kept]


def test_numbers_of_a_region_are_found_where_it_is_named(tmp_path: Path) -> None:
    found = [translation("Call 02-312-3456."), translation("Call (202) 555-0123.")]
    write_table(tmp_path / "rows", FILTERED, found)
    for regions, kept in (((), found), (("KR",), found[1:]), (("US", "KR"), [])):
        call_here(tmp_path, *TRANSLATION, "--regions", *regions)
        assert list(read_rows(tmp_path / "out" / "kept", FILTERED)) == kept


def test_a_problem_goes_for_what_stands_in_its_further_solutions(tmp_path: Path) -> None:
    found = [solution("How many?"), solution("How much?", generated_solution="It is 3."), solution("Why?")]
    write_table(tmp_path / "rows", SOLUTIONS, found)
    samples = [sample("How many?", 0, "It is 3."), sample("How much?", 0, "It is 3.")]
    samples += [sample("How much?", 1, f"Ask {ADDRESS}."), sample("Not here", 0, ADDRESS)]
    write_table(tmp_path / "samples", SAMPLES, samples)
    call_here(tmp_path, *MATHS, "--samples", tmp_path / "samples")
    assert list(read_rows(tmp_path / "out" / "kept", SOLUTIONS)) == [found[0], found[2]]
    (row,) = rejected(tmp_path, REJECTED_SOLUTIONS)
    assert (row["item_id"], row["reasons"]) == (found[1]["item_id"], ["email"])
    assert row["detail"] == "email in generated_solution of sample 1, characters 4 to 18"
    call_here(tmp_path, *MATHS, "--samples")
    assert list(read_rows(tmp_path / "out" / "kept", SOLUTIONS)) == found
    # The samples alone.
    call_here(tmp_path, "--recipe", "maths", "--samples", tmp_path / "samples", "--column")
    assert [row["item_id"] for row in rejected(tmp_path, REJECTED_SOLUTIONS)] == [found[1]["item_id"]]


def test_a_detail_names_five_places_and_counts_the_others(tmp_path: Path) -> None:
    write_table(tmp_path / "rows", FILTERED, [translation(" ".join([ADDRESS] * 7))])
    call_here(tmp_path, *TRANSLATION)
    (row,) = rejected(tmp_path)
    assert row["detail"].endswith("email in source, characters 60 to 74; and 2 more")
    assert row["detail"].count("email in source") == 5


def test_explain_says_which_filter_dropped_a_row_and_why(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    folder = tmp_path / "results" / "news"
    files = ("--kept", folder / "safe" / "kept.parquet", "--rejected", folder / "safe" / "rejected.parquet")
    call_here(tmp_path, *TRANSLATION, *files)
    way = trace(tmp_path / "results", "news", rows[4]["item_id"])
    detail = "email in source, characters 42 to 56; Hugging Face Token in source, characters 0 to 37"
    assert way.fate == f"left news in safe/rejected.parquet: email ({detail})"


def test_equal_input_gives_equal_bytes(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    outputs = []
    for _ in range(2):
        call_here(tmp_path, *TRANSLATION, "--regions", "US", "KR")
        outputs.append([path.read_bytes() for path in sorted((tmp_path / "out").iterdir())])
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--column", "problem"), "--column: selected answers have no texts in 'problem'; those with texts: source,"),
        (("--column", "score"), "have no texts in 'score'"),
        (("--column", "item_id"), "have no texts in 'item_id'"),
        (("--column",), "--column and --samples: nothing to look at"),
        (("--regions", "KR", "XX"), "--regions: there is no region 'XX' with telephone numbers; allowed: AC, AD"),
        (("--no-emails", "--no-phone-numbers", "--no-secrets"), "nothing is looked for; leave one of them out"),
        (("--samples", "none.parquet"), "none.parquet: no such file"),
        (("--rows", "none.parquet"), "none.parquet: no such file"),
    ],
)
def test_bad_flags_end_the_program_before_anything_is_written(
    tmp_path: Path, rows: list[Any], flags: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        call_here(tmp_path, *TRANSLATION, *flags)
    assert not (tmp_path / "out").exists()


def test_real_texts_keep_all_rows_but_those_with_addresses(tmp_path: Path, shared_data: Path) -> None:
    lines = (shared_data / "math" / "solutions.jsonl").read_text(encoding="utf-8").splitlines()
    known = [json.loads(line) for line in lines]
    found = [
        solution(one["problem"], item_id=item_id(str(number)), generated_solution=one["generated_solution"])
        for number, one in enumerate(known)
    ]
    tasks = (shared_data / "instruct" / "seed_tasks.jsonl").read_text(encoding="utf-8").splitlines()
    found += [solution(json.dumps(json.loads(line), ensure_ascii=False)) for line in tasks]
    write_table(tmp_path / "rows", SOLUTIONS, found)
    call_here(tmp_path, *MATHS)
    # A curriculum vitae and a bank's notice; none of the 4,000 solutions.
    assert [row["reasons"] for row in rejected(tmp_path, REJECTED_SOLUTIONS)] == [["email"]] * 2
    assert read_account(tmp_path / "out" / "account").taken.count == len(found)
