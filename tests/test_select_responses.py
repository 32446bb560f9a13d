"""Which response to an instruction is taken, and which rules rows break."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corpusmith.accounting import Account, read_account
from corpusmith.errors import InputError
from corpusmith.identity import item_id, shard_names, shard_of
from corpusmith.instructions.rules import ResponseRules
from corpusmith.instructions.selection import Inputs, RespondTables, TagTables, select_responses, take
from corpusmith.instructions.tags import TagChoices
from corpusmith.requests import request
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, INSTRUCTIONS, REJECTED_RESPONSES, REQUESTS, RESPONSES
from translation_tables import FAILED, Answer, call_program, write_answers

CUT_OFF = Answer(None, "half an ans", "length")
EMPTY = Answer(None, " \n ")
UNSCORED = Answer(None, "42")
NOT_A_NUMBER = Answer(float("nan"), "42")
TOO_LONG = Answer(3.5, "a long story", truncated=True)
TAGS = {"difficulty": "easy", "quality": "good", "category": "Math", "language": "en"}


# --- which response is taken ---


def responses(*answers: Answer) -> list[dict[str, Any]]:
    return [
        {"sample": sample, "text": answer.text, "finish_reason": answer.finish_reason, "error": answer.error}
        | {"score": answer.score, "truncated": answer.truncated}
        for sample, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("answers", "sample", "candidates"),
    [
        ([Answer(0.5), Answer(2.25), Answer(2.25)], 1, 3),
        ([Answer(-3.0)], 0, 1),
        ([TOO_LONG, CUT_OFF, Answer(-1.0), Answer(-2.0), FAILED], 2, 2),
    ],
)
def test_the_highest_reward_is_taken_and_of_equal_ones_the_first(
    answers: Sequence[Answer], sample: int, candidates: int
) -> None:
    found = take(responses(*answers), scored=True)
    assert found.response is not None
    assert (found.response["sample"], found.candidates, found.breach) == (sample, candidates, None)


@pytest.mark.parametrize(
    ("answers", "reason", "detail"),
    [
        ([FAILED], "no_answer", "none of 1 responses can be taken"),
        ([CUT_OFF], "answer_cut_off", "none of 1 responses can be taken"),
        ([EMPTY], "empty_answer", "none of 1 responses can be taken"),
        ([UNSCORED], "no_score", "none of 1 responses can be taken"),
        ([NOT_A_NUMBER], "no_score", "none of 1 responses can be taken"),
        ([TOO_LONG], "too_long_to_score", "none of 1 responses can be taken"),
        ([FAILED, CUT_OFF, CUT_OFF], "answer_cut_off", "none of 3 responses can be taken, 1 no_answer among them"),
        ([EMPTY, FAILED], "empty_answer", "none of 2 responses can be taken, 1 no_answer among them"),
    ],
)
def test_where_no_response_can_be_taken_the_most_frequent_reason_is_given(
    answers: Sequence[Answer], reason: str, detail: str
) -> None:
    found = take(responses(*answers), scored=True)
    assert found.response is None
    assert found.breach is not None
    assert (found.breach.rule, found.breach.detail) == (reason, detail)


def test_without_rewards_the_first_that_was_answered_whole_is_taken() -> None:
    answers = [FAILED, CUT_OFF, EMPTY, UNSCORED, Answer(None, "another")]
    unscored = [{name: row[name] for name in row if name not in ("score", "truncated")} for row in responses(*answers)]
    found = take(unscored, scored=False)
    assert found.response is not None
    assert (found.response["text"], found.candidates) == ("42", 2)


# --- tables ---


def named(instruction: str) -> str:
    return item_id("instruction", instruction)


def instruction_row(instruction: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {column.name: None for column in INSTRUCTIONS.columns}
    return row | {"item_id": named(instruction), "instruction": instruction, "origin": "a model", **more}


def write_step(folder: Path, answers: Mapping[str, Sequence[Answer]], shards: int = 1, scored: bool = True) -> Inputs:
    """Writes instructions, and the tables of a step that responded to them."""
    write_table(folder / "instructions", INSTRUCTIONS, map(instruction_row, answers))
    step = folder / "respond"
    write_answers(step, {named(text): {"response": found} for text, found in answers.items()}, shards)
    for number, shard in enumerate(shard_names(shards)):
        rows = [
            request(named(text), "response", prompt=text, max_tokens=9, temperature=1, n=len(found))
            for text, found in answers.items()
            if shard_of(named(text), shards) == number
        ]
        write_table(step / "requests" / f"{shard}.parquet", REQUESTS, rows)
    kinds = ("requests", "completions", "scores") if scored else ("requests", "completions")
    tables = [RespondTables(*(step / kind / f"{shard}.parquet" for kind in kinds)) for shard in shard_names(shards)]
    return Inputs(folder / "instructions", tables)


def write_tags(folder: Path, answers: Mapping[str, str], shards: int) -> list[TagTables]:
    """Writes the tables of a step that tagged instructions; the texts are what was answered."""
    tables = []
    for number, shard in enumerate(shard_names(shards)):
        items = [text for text in answers if shard_of(named(text), shards) == number]
        schema = TagChoices().json_schema()
        asked = [request(named(text), "tags", prompt=text, max_tokens=9, json_schema=schema) for text in items]
        key = {"request": "tags", "sample": 0, "finish_reason": "stop", "error": None, "key": "k"}
        key |= {"prompt_tokens": 1, "completion_tokens": 1}
        tables.append(
            TagTables(folder / f"tags/requests/{shard}.parquet", folder / f"tags/completions/{shard}.parquet")
        )
        write_table(tables[-1].requests, REQUESTS, asked)
        rows = [{"item_id": named(text), "text": answers[text], **key} for text in items]
        write_table(tables[-1].completions, COMPLETIONS, rows)
    return tables


def select(folder: Path, inputs: Inputs, **rules: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows that stay and those that go."""
    account = Account("select")
    found = ResponseRules(rules, scored=inputs.scored, tagged=bool(inputs.tags))
    select_responses(inputs, found, "a model", folder / "kept", folder / "rejected", account)
    kept = list(read_rows(folder / "kept", RESPONSES))
    rejected = list(read_rows(folder / "rejected", REJECTED_RESPONSES))
    account.check()
    assert (account.kept.count, account.dropped.count) == (len(kept), len(rejected))
    return kept, rejected


SIX = {
    "one": [Answer(1.0, "1"), Answer(4.0, "1.")],
    "two": [Answer(3.0, "a longer two")],
    "three:": [Answer(9.0, "3")],
    "four": [Answer(2.0, "IIII"), FAILED],
    "five": [Answer(3.0, "5")],
    "six": [FAILED, CUT_OFF],
}


@pytest.mark.parametrize("shards", [1, 3])
def test_rows_stand_in_the_order_of_the_instructions_however_the_step_is_cut(tmp_path: Path, shards: int) -> None:
    kept, rejected = select(tmp_path, write_step(tmp_path, SIX, shards), least_reward=3)
    assert [(row["instruction"], row["response"], row["reward"], row["sample"], row["candidates"]) for row in kept] == [
        ("one", "1.", 4.0, 1, 2),
        ("two", "a longer two", 3.0, 0, 1),
        ("five", "5", 3.0, 0, 1),
    ]
    assert kept[0]["messages"] == [{"role": "user", "content": "one"}, {"role": "assistant", "content": "1."}]
    assert [(row["instruction"], row["response"], row["reward"], row["reasons"]) for row in rejected] == [
        ("three:", "3", 9.0, ["ends_with_colon"]),
        ("four", "IIII", 2.0, ["reward_too_low"]),
        ("six", None, None, ["no_answer"]),
    ]
    assert rejected[2]["detail"] == "none of 2 responses can be taken, 1 answer_cut_off among them"


def test_rewards_that_are_all_equal_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="corpusmith")
    equal = {"one": [Answer(0.5), Answer(0.5)], "two": [Answer(0.5), Answer(7.0, truncated=True)]}
    select(tmp_path, write_step(tmp_path, equal))
    assert "all 3 rewards are 0.5" in caplog.text
    caplog.clear()
    select(tmp_path, write_step(tmp_path, {"one": [Answer(0.5), Answer(0.25)], "two": [Answer(0.5)]}))
    select(tmp_path, write_step(tmp_path, {"one": [Answer(0.5)]}))
    assert caplog.text == ""


def test_without_rewards_the_first_response_stays_without_one(tmp_path: Path) -> None:
    inputs = write_step(tmp_path, {"one": [FAILED, UNSCORED, Answer(None, "43")], "two": [CUT_OFF]}, 2, scored=False)
    kept, rejected = select(tmp_path, inputs)
    assert [(row["response"], row["reward"], row["sample"], row["candidates"]) for row in kept] == [("42", None, 1, 2)]
    assert [(row["instruction"], row["reason"]) for row in rejected] == [("two", "answer_cut_off")]


def test_tags_go_with_the_rows_and_decide(tmp_path: Path) -> None:
    answers = {"one": [Answer(1.0)], "two": [Answer(2.0)], "three": [Answer(3.0)], "four": [FAILED]}
    tags = {"one": json.dumps(TAGS), "two": json.dumps(TAGS | {"quality": "poor"}), "three": "Good!", "four": "{}"}
    steps = write_step(tmp_path, answers, 2)
    inputs = Inputs(steps.instructions, steps.shards, write_tags(tmp_path, tags, 3))
    kept, rejected = select(tmp_path, inputs, quality=["good", "excellent"])
    assert [{name: row[name] for name in TAGS} for row in kept] == [TAGS]
    assert [(row["instruction"], row["reasons"], row["quality"]) for row in rejected] == [
        ("two", ["quality"], "poor"),
        ("three", ["untagged"], None),
        ("four", ["no_answer", "untagged"], None),
    ]
    kept, _ = select(tmp_path, inputs, quality=["good", "poor"], untagged="keep")
    assert [(row["instruction"], row["difficulty"]) for row in kept] == [
        ("one", "easy"),
        ("two", "easy"),
        ("three", None),
    ]
    with pytest.raises(InputError, match="no instruction can have the quality 'great'; allowed: very poor, poor"):
        select(tmp_path, inputs, quality=["good", "great"])


def test_responses_under_a_system_prompt_and_to_several_requests_are_one_conversation(tmp_path: Path) -> None:
    item = named("one")
    row = instruction_row("one", system="Be brief.", topic="general", reference="1")
    write_table(tmp_path / "instructions", INSTRUCTIONS, [row])
    requests = [request(item, name, prompt="one", max_tokens=9, temperature=1) for name in ("warm", "hot")]
    ((completions, scores),) = write_answers(tmp_path, {item: {"warm": [Answer(1.0, "1")], "hot": [Answer(2.0, "I")]}})
    write_table(tmp_path / "requests", REQUESTS, requests)
    inputs = Inputs(tmp_path / "instructions", [RespondTables(tmp_path / "requests", completions, scores)])
    turns = [("system", "Be brief."), ("user", "one"), ("assistant", "I")]
    # What the responses were not asked with is not released with them.
    for with_system, said in ((True, turns), (False, turns[1:])):
        ((found,), _) = select(tmp_path, replace(inputs, with_system=with_system))
        assert found["messages"] == [{"role": role, "content": content} for role, content in said]
    assert (found["candidates"], found["origin"], found["topic"], found["reference"]) == (2, "a model", "general", "1")
    assert found["generation_model"] == "a model"


def test_tables_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    inputs = write_step(tmp_path, SIX)
    write_table(tmp_path / "instructions", INSTRUCTIONS, map(instruction_row, ["one", "three:", "two"]))
    with pytest.raises(InputError, match=f"item {named('three:')} has no responses in its turn"):
        select(tmp_path, inputs)
    write_table(tmp_path / "instructions", INSTRUCTIONS, map(instruction_row, list(SIX)[:5]))
    with pytest.raises(InputError, match=f"does not hold item {named('six')}"):
        select(tmp_path, inputs)
    assert not (tmp_path / "kept").exists()
    tagged = Inputs(inputs.instructions, inputs.shards, write_tags(tmp_path, {"two": "{}"}, 1))
    with pytest.raises(InputError, match=f"item {named('one')} has no tags in its turn"):
        select(tmp_path, tagged)


# --- the program ---


def test_the_program_selects_from_the_shards_of_a_step(tmp_path: Path) -> None:
    write_step(tmp_path, SIX, 3)
    write_tags(tmp_path, {text: json.dumps(TAGS) for text in SIX}, 2)
    done = call_program(
        *("select_responses.py", "--instructions", tmp_path / "instructions", "--step", tmp_path / "respond"),
        *("--shards", 3, "--tags", tmp_path / "tags", "--tag-shards", 2, "--generation-model", "a model"),
        *("--rules", '{"least_reward": 2.5, "quality": ["good"]}', "--kept", tmp_path / "kept"),
        *("--rejected", tmp_path / "rejected", "--account", tmp_path / "account"),
    )
    assert done.returncode == 0, done.stderr
    assert "select: 3 of 6 rows kept; rejected: ends_with_colon 1, no_answer 1, reward_too_low 1" in done.stderr
    kept = [row["instruction"] for row in read_rows(tmp_path / "kept", RESPONSES)]
    assert kept == ["one", "two", "five"]
    assert read_account(tmp_path / "account").reasons == {"ends_with_colon": 1, "no_answer": 1, "reward_too_low": 1}
