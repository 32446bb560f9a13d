"""The judge behind the rules: what it is asked, and what its verdicts do; and the tables behind it."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.accounting import Account, read_account
from corpusmith.errors import InputError
from corpusmith.identity import item_id, shard_names, shard_of
from corpusmith.judging import apply_verdicts, judge_requests
from corpusmith.prompts import load_prompt
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import FILTERED, REJECTED, REQUESTS, ROWS
from translation_tables import FAILED, Answer, run_program, write_answers

VERDICTS = ["right", "wrong", "half right"]


def row(source: str, target: str = "답") -> dict[str, Any]:
    return {
        "item_id": item_id(source),
        "source": source,
        "target": target,
        "score": 0.5,
        "sample": 3,
        "candidates": 8,
        "mean_score": 1.25,
        "top_k": [{"sample": 3, "text": target, "score": 0.5}],
    }


def shown(source: str) -> dict[str, str]:
    """What of a row the judge is shown."""
    return {"item_id": item_id(source), "source": source, "target": "답"}


# --- what the judge is asked ---


def test_a_judgement_is_one_greedy_request_constrained_to_the_verdicts(tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("Is {{ target }} a translation of {{ source }}?\n")
    rows = [row("Two {{ pears }}.", "배 두 개 <b>")]
    (asked,) = judge_requests(rows, "0000-of-0001", load_prompt(tmp_path / "prompt"), VERDICTS)
    assert asked["item_id"] == item_id("Two {{ pears }}.")
    content = "Is 배 두 개 <b> a translation of Two {{ pears }}.?"
    assert asked["messages"] == [{"role": "user", "content": content}]
    assert asked["choices"] == VERDICTS
    assert (asked["request"], asked["temperature"], asked["n"]) == ("verdict", 0.0, 1)


@given(st.integers(0, 25), st.integers(1, 6))
def test_every_row_is_judged_in_exactly_one_shard(count: int, shards: int) -> None:
    rows = [row(f"Source {number}.") for number in range(count)]
    asked = []
    for number, shard in enumerate(shard_names(shards)):
        found = [asked["item_id"] for asked in judge_requests(rows, shard, lambda **_: "?", VERDICTS)]
        assert all(shard_of(item, shards) == number for item in found)
        asked += found
    assert sorted(asked) == sorted(row["item_id"] for row in rows)


def test_a_judges_prompt_with_an_unknown_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("{{ translation }}")
    with pytest.raises(InputError, match=r"prompt.*'translation' is undefined.*source, target"):
        list(judge_requests([shown("a")], "0000-of-0001", load_prompt(tmp_path / "prompt"), VERDICTS))


# --- what its verdicts do ---


def judge(
    folder: Path, sources: Sequence[str], verdicts: Mapping[str, Answer], accept: Sequence[str], shards: int = 1
) -> Account:
    write_table(folder / "rows", FILTERED, map(row, sources))
    answers = {item_id(source): {"verdict": [answer]} for source, answer in verdicts.items()}
    completions = [completions for completions, _ in write_answers(folder / "judge", answers, shards)]
    account = Account("judge")
    apply_verdicts(
        folder / "rows", ROWS["translation"], completions, accept, folder / "kept", folder / "rejected", account
    )
    account.check()
    return account


def kept(folder: Path) -> list[dict[str, Any]]:
    return list(read_rows(folder / "kept", FILTERED))


def rejected(folder: Path) -> list[dict[str, Any]]:
    return list(read_rows(folder / "rejected", REJECTED))


def test_only_accepted_verdicts_keep_a_row_and_keep_it_unchanged(tmp_path: Path) -> None:
    verdicts = {"a": "right", "b": "wrong", "c": "half right", "d": "right"}
    given = {source: Answer(None, text) for source, text in verdicts.items()}
    account = judge(tmp_path, list(verdicts), given, accept=["right", "half right"])
    assert kept(tmp_path) == [row("a"), row("c"), row("d")]
    (gone,) = rejected(tmp_path)
    assert [gone[name] for name in ("item_id", "source", "target", "score")] == [item_id("b"), "b", "답", 0.5]
    assert (gone["reason"], gone["reasons"], gone["detail"]) == ("judge", ["judge"], "the judge said 'wrong'")
    assert (account.taken.count, account.kept.count, account.reasons) == (4, 3, {"judge": 1})


def test_a_verdict_that_only_contains_an_accepted_one_does_not_keep_a_row(tmp_path: Path) -> None:
    judge(tmp_path, ["a"], {"a": Answer(None, "half right")}, accept=["right"])
    assert kept(tmp_path) == []


def test_a_judgement_that_failed_rejects_the_row_with_the_engines_reason(tmp_path: Path) -> None:
    account = judge(tmp_path, ["a", "b"], {"a": FAILED, "b": Answer(None, "right")}, accept=["right", ""])
    (gone,) = rejected(tmp_path)
    assert (gone["item_id"], gone["reason"], gone["detail"]) == (item_id("a"), "no_verdict", "the engine gave up")
    assert account.reasons == {"no_verdict": 1}


def test_a_verdict_that_was_cut_off_is_none(tmp_path: Path) -> None:
    # What is left of "right but stiff" is the accepted "right".
    judge(tmp_path, ["a"], {"a": Answer(None, "right", finish_reason="length")}, accept=["right"])
    assert kept(tmp_path) == []
    (gone,) = rejected(tmp_path)
    assert (gone["reason"], gone["detail"]) == ("no_verdict", "the verdict was cut off: 'right'")


def test_a_row_that_was_never_judged_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"item {item_id('b')} was never judged"):
        judge(tmp_path, ["a", "b"], {"a": Answer(None, "right")}, accept=["right"])
    assert not (tmp_path / "kept").exists()


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from([*VERDICTS, None]), max_size=12),
    st.sets(st.sampled_from(VERDICTS), min_size=1),
    st.integers(1, 4),
)
def test_rows_in_are_rows_kept_and_rejected_whatever_the_shards(
    verdicts: list[str | None], accept: set[str], shards: int
) -> None:
    sources = {f"source {number}": verdict for number, verdict in enumerate(verdicts)}
    given = {source: FAILED if text is None else Answer(None, text) for source, text in sources.items()}
    with tempfile.TemporaryDirectory() as name:
        account = judge(Path(name), list(sources), given, sorted(accept), shards)
        stays, goes = kept(Path(name)), rejected(Path(name))
    assert [row["source"] for row in stays] == [source for source, verdict in sources.items() if verdict in accept]
    assert [row["source"] for row in goes] == [source for source, verdict in sources.items() if verdict not in accept]
    assert account.taken.count == len(sources)
    assert account.reasons == Counter(row["reason"] for row in goes)


# --- the programs, from what the rules let pass to splits ---


def test_the_programs_go_from_checked_rows_to_splits(tmp_path: Path) -> None:
    sources = [f"Source {number}." for number in range(40)]
    write_table(tmp_path / "checked.parquet", FILTERED, map(row, sources))
    (tmp_path / "prompt").write_text("{{ source }} {{ target }}")
    run_program(
        *(
            "request_judgements.py",
            "--rows",
            tmp_path / "checked.parquet",
            "--recipe",
            "translation",
            "--shard",
            "0001-of-0002",
        ),
        *("--prompt", tmp_path / "prompt", "--verdicts", *VERDICTS, "--requests", tmp_path / "requests.parquet"),
    )
    asked = list(read_rows(tmp_path / "requests.parquet", REQUESTS))
    assert [(row["messages"][0]["content"], row["choices"]) for row in asked] == [
        (f"{source} 답", VERDICTS) for source in sources if shard_of(item_id(source), 2) == 1
    ]

    said = {source: "half right" if number % 4 else "wrong" for number, source in enumerate(sources)}
    answers = {item_id(source): {"verdict": [Answer(None, verdict)]} for source, verdict in said.items()}
    write_answers(tmp_path / "judge", answers, 2)
    run_program(
        *("apply_verdicts.py", "--rows", tmp_path / "checked.parquet", "--recipe", "translation"),
        *("--step", tmp_path / "judge", "--shards", 2),
        *("--accept", "right", "half right", "--kept", tmp_path / "kept.parquet"),
        *("--rejected", tmp_path / "judged.parquet", "--account", tmp_path / "judged.json"),
    )
    account = read_account(tmp_path / "judged.json")
    assert (account.stage, account.taken.count, account.reasons) == ("judge", 40, {"judge": 10})

    splits = {}
    for split in ("train", "test"):
        shares = json.dumps({"train": 0.9, "test": 0.1})
        flags = ("--rows", tmp_path / "kept.parquet", "--recipe", "translation", "--splits", shares, "--split", split)
        run_program("write_split.py", *flags, "--output", tmp_path / split)
        splits[split] = list(read_rows(tmp_path / split, FILTERED))
    assert sorted(splits["train"] + splits["test"], key=lambda row: sources.index(row["source"])) == [
        row(source) for number, source in enumerate(sources) if number % 4
    ]
    # 27 of 30 on average; the standard deviation is 1.6.
    assert 27 - 4 * 1.6 < len(splits["train"]) <= 30

    by_rules = {**{name: row("Early.")[name] for name in ("item_id", "source", "target", "score")}, "detail": None}
    by_rules |= {"reason": "empty", "reasons": ["empty", "length_ratio"]}
    write_table(tmp_path / "checked_rejected.parquet", REJECTED, [by_rules])
    run_program(
        *(
            "merge_rejected.py",
            "--recipe",
            "translation",
            "--rejected",
            tmp_path / "checked_rejected.parquet",
            tmp_path / "judged.parquet",
        ),
        *("--output", tmp_path / "rejected.parquet"),
    )
    merged = list(read_rows(tmp_path / "rejected.parquet", REJECTED))
    assert merged[0] == by_rules
    assert [(row["source"], row["reason"]) for row in merged[1:]] == [(source, "judge") for source in sources[::4]]
