"""The filter as a program: which table every row of the shards ends up in, and with what said of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from corpusmith.accounting import read_account
from corpusmith.filters import DEFAULT_RULES
from corpusmith.identity import item_id, shard_names
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import FILTERED, REJECTED, SELECTED_ANSWERS
from translation_tables import call_program


def row(source: str, target: str, score: float = 1.0) -> dict[str, Any]:
    return {
        "item_id": item_id(source),
        "source": source,
        "target": target,
        "score": score,
        "sample": 0,
        "candidates": 2,
        "mean_score": score + 1,
        "top_k": [{"sample": 0, "text": target, "score": score}],
    }


RIGHT = [
    row("Sora bought 342 apples.", "소라는 사과 삼백사십이 개를 샀다."),
    row("The weather was fine all day.", "하루 종일 날씨가 좋았다."),
    row("Mina sold 20 eggs.", "미나는 달걀 이십 개를 팔았다.", score=5.0),
]
LOST_NUMBER = row("Bora found 71 books.", "보라는 책 칠십이 권을 찾았다.")
BAD_TWICE = row("Juno lost 9 pears at school.", "준호는 학교에서 (배 아홉 개를 잃었다.", score=7.25)
COPIED = row("Dana painted the chairs.", "Dana painted the chairs.")
UNSURE = row("Hajun moved the boxes.", "하준은 상자를 옮겼다.", score=5.000001)
SHARDS = [[RIGHT[0], LOST_NUMBER, COPIED], [], [BAD_TWICE, RIGHT[1], UNSURE, RIGHT[2]]]


def run_filter(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return call_program(
        *("filter_translations.py", "--selected", folder / "selected", "--shards", 3),
        *("--source-language", "en", "--target-language", "ko", *flags),
        *("--kept", folder / "out" / "kept", "--rejected", folder / "out" / "rejected"),
        *("--account", folder / "out" / "account"),
    )


@pytest.fixture
def selected(tmp_path: Path) -> Path:
    for shard, rows in zip(shard_names(3), SHARDS, strict=True):
        write_table(tmp_path / "selected" / f"{shard}.parquet", SELECTED_ANSWERS, rows)
    return tmp_path


def test_every_row_of_all_shards_is_kept_or_rejected_with_its_rules(selected: Path) -> None:
    result = run_filter(selected, "--stage", "check")
    assert result.returncode == 0, result.stderr
    assert list(read_rows(selected / "out" / "kept", FILTERED)) == RIGHT
    rejected = {row["item_id"]: row for row in read_rows(selected / "out" / "rejected", REJECTED)}
    assert list(rejected) == [row["item_id"] for row in (LOST_NUMBER, COPIED, BAD_TWICE, UNSURE)]
    for given in (LOST_NUMBER, COPIED, BAD_TWICE, UNSURE):
        found = rejected[given["item_id"]]
        assert [found[name] for name in ("source", "target", "score")] == [
            given[name] for name in ("source", "target", "score")
        ]
        assert found["reason"] == found["reasons"][0]
        assert found["detail"]
        assert set(found["reasons"]) <= set(DEFAULT_RULES)
    assert rejected[LOST_NUMBER["item_id"]]["reasons"] == ["numbers"]
    assert rejected[LOST_NUMBER["item_id"]]["detail"] == "71 is missing"
    assert rejected[BAD_TWICE["item_id"]]["reasons"] == ["brackets", "max_score"]
    assert rejected[BAD_TWICE["item_id"]]["detail"] == "() not balanced"
    assert rejected[COPIED["item_id"]]["reason"] == "copied_source"
    assert rejected[UNSURE["item_id"]]["reasons"] == ["max_score"]
    account = read_account(selected / "out" / "account")
    account.check()
    assert (account.stage, account.taken.count, account.kept.count) == ("check", 7, 3)
    assert account.reasons == {"numbers": 1, "copied_source": 1, "brackets": 1, "max_score": 1}
    # For people: what is kept and why the rest is not.
    assert "3 of 7 rows kept" in result.stderr
    assert "numbers 1" in result.stderr


def test_only_the_rules_that_are_given_are_applied(selected: Path) -> None:
    result = run_filter(selected, "--rules", json.dumps({"numbers": True, "max_score": 8, "brackets": False}))
    assert result.returncode == 0, result.stderr
    rejected = list(read_rows(selected / "out" / "rejected", REJECTED))
    assert [(row["source"], row["reasons"]) for row in rejected] == [(LOST_NUMBER["source"], ["numbers"])]


def test_a_missing_shard_fails_before_anything_is_written(selected: Path) -> None:
    (selected / "selected" / "0002-of-0003.parquet").unlink()
    result = run_filter(selected)
    assert result.returncode == 1
    assert "selected/0002-of-0003.parquet: no such file" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (selected / "out").exists()


def test_a_table_of_another_kind_is_refused_by_its_column(selected: Path) -> None:
    write_table(selected / "selected" / "0001-of-0003.parquet", REJECTED, [])
    result = run_filter(selected)
    assert result.returncode == 1
    assert "0001-of-0003.parquet: no column 'sample'" in result.stderr
    assert not (selected / "out").exists()
