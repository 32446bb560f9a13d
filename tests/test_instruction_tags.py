"""Tags of instructions: what is asked for, and what is made of the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import ROOT
from corpusmith.errors import InputError
from corpusmith.identity import item_id, shard_names, shard_of
from corpusmith.instructions.tags import (
    CATEGORIES,
    LANGUAGES,
    TagChoices,
    read_tags,
    tag_choices,
    tag_requests,
    tagged_items,
)
from corpusmith.prompts import load_prompt
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, INSTRUCTIONS, REQUESTS, TAGS
from translation_tables import call_program

PROMPT = ROOT / "config" / "prompts" / "tag-instruction.txt"
RIGHT = {"difficulty": "very easy", "quality": "good", "category": "Math", "language": "en"}
SCHEMA = TagChoices().json_schema()


def instruction(text: str) -> dict[str, Any]:
    row: dict[str, Any] = {column.name: None for column in INSTRUCTIONS.columns}
    return row | {"item_id": item_id(text), "instruction": text, "origin": "made"}


def completion(text: str, **more: Any) -> dict[str, Any]:
    row = {"request": "tags", "sample": 0, "text": text, "finish_reason": "stop", "error": None}
    return row | {"prompt_tokens": 7, "completion_tokens": 3, "key": "k"} | more


def test_the_schema_takes_exactly_an_object_of_the_four_tags() -> None:
    schema = json.loads(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == list(TAGS)
    valid = jsonschema.Draft202012Validator(schema).is_valid
    assert valid(RIGHT)
    assert not valid(RIGHT | {"quality": "great"})
    assert not valid(RIGHT | {"intent": "to add"})
    assert not valid({name: value for name, value in RIGHT.items() if name != "language"})


def test_the_longest_answer_fits_into_the_tokens_of_a_request() -> None:
    one = TagChoices(("hard",), ("ok",), ("Math", "쓰기"), ("en",))
    longest = (
        '{\n    "difficulty": "hard",\n    "quality": "ok",\n    "category": "\\uc4f0\\uae30",\n    "language": "en"\n}'
    )
    assert json.loads(longest)["category"] == "쓰기"
    assert one.most_tokens() == len(longest)
    assert 120 < TagChoices().most_tokens() < 160


def test_each_instruction_of_a_shard_is_asked_about_once_and_shown_what_tags_there_are() -> None:
    rows = [instruction(f"Add {number} and 30.") for number in range(12)]
    choices = TagChoices(quality=("bad", "fine"))
    shards = [list(tag_requests(rows, shard, load_prompt(PROMPT), choices)) for shard in shard_names(3)]
    for number, shard in enumerate(shards):
        assert [row["item_id"] for row in shard] == [r["item_id"] for r in rows if shard_of(r["item_id"], 3) == number]
    (asked,) = [row for shard in shards for row in shard if row["item_id"] == rows[7]["item_id"]]
    assert (asked["request"], asked["n"], asked["temperature"]) == ("tags", 1, 0.0)
    ((role, text),) = [message.values() for message in asked["messages"]]
    assert role == "user"
    assert "\nAdd 7 and 30.\n" in text
    assert "One of bad, fine." in text
    assert "One of very easy, easy, medium, hard, very hard." in text
    assert ", ".join(CATEGORIES) in text
    assert ", ".join(LANGUAGES) in text
    assert json.loads(asked["json_schema"])["properties"]["quality"]["enum"] == ["bad", "fine"]


@pytest.mark.parametrize("bad", [{"quality": ()}, {"quality": ("good", "good")}, {"language": ("en", " ")}])
def test_choices_that_are_none_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"tags: {next(iter(bad))} is one of"):
        TagChoices(**bad)


def test_tags_are_read_from_json_however_it_is_spaced() -> None:
    assert read_tags(completion(json.dumps(RIGHT)), SCHEMA).tags == RIGHT
    turned = dict(reversed(RIGHT.items()))
    found = read_tags(completion("\n" + json.dumps(turned | {"intent": "to add"}, indent=4) + "\n"), SCHEMA)
    assert found.tags == RIGHT
    assert found.tags is not None
    assert list(found.tags) == list(TAGS)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (completion("", finish_reason="error", error="the engine gave up"), "no_answer"),
        # Whole by chance, but cut off.
        (completion(json.dumps(RIGHT), finish_reason="length"), "answer_cut_off"),
        (completion("The difficulty is easy."), "no_json"),
        (completion('{"difficulty": "very easy", '), "no_json"),
        (completion("[" * 100_000), "no_json"),
        (completion(""), "no_json"),
        (completion('"good"'), "no_such_tags"),
        (completion("[]"), "no_such_tags"),
        (completion(json.dumps(RIGHT | {"quality": "Good"})), "no_such_tags"),
        (completion(json.dumps(RIGHT | {"quality": ["good"]})), "no_such_tags"),
        (completion(json.dumps(RIGHT | {"quality": None})), "no_such_tags"),
        (completion('{"difficulty": "very easy", "quality": "good", "category": "Math"}'), "no_such_tags"),
    ],
)
def test_what_is_no_answer_of_the_schema_leaves_an_instruction_untagged(answer: dict[str, Any], reason: str) -> None:
    found = read_tags(answer, SCHEMA)
    assert (found.tags, found.reason) == (None, reason)
    assert found.detail
    assert len(found.detail) <= 110


def test_the_program_writes_a_shard_whose_answers_are_read_by_its_own_schema(tmp_path: Path) -> None:
    rows = [instruction("Add 12 and 30."), instruction("Schreibe ein Gedicht.")]
    write_table(tmp_path / "instructions", INSTRUCTIONS, rows)
    done = call_program(
        *("request_tags.py", "--instructions", tmp_path / "instructions", "--shard", "0000-of-0001"),
        *("--prompt", PROMPT, "--language", "de", "en", "--requests", tmp_path / "requests"),
    )
    assert done.returncode == 0, done.stderr
    assert [row["item_id"] for row in read_rows(tmp_path / "requests", REQUESTS)] == [row["item_id"] for row in rows]
    choices = tag_choices(tmp_path / "requests")
    assert choices is not None
    assert choices["language"] == ["de", "en"]
    answers = [json.dumps(RIGHT), json.dumps(RIGHT | {"language": "fr"})]
    completions = [{"item_id": row["item_id"], **completion(text)} for row, text in zip(rows, answers, strict=True)]
    write_table(tmp_path / "completions", COMPLETIONS, completions)
    first, second = tagged_items(tmp_path / "requests", tmp_path / "completions")
    assert (first[0], first[1].tags) == (rows[0]["item_id"], RIGHT)
    assert (second[0], second[1].reason) == (rows[1]["item_id"], "no_such_tags")
    write_table(tmp_path / "completions", COMPLETIONS, completions[:1])
    with pytest.raises(InputError, match="do not belong together"):
        list(tagged_items(tmp_path / "requests", tmp_path / "completions"))


def test_requests_without_a_schema_of_tags_are_refused(tmp_path: Path) -> None:
    (asked,) = tag_requests([instruction("a")], "0000-of-0001", load_prompt(PROMPT), TagChoices())
    write_table(tmp_path / "requests", REQUESTS, [asked | {"json_schema": '{"type": "object"}'}])
    with pytest.raises(InputError, match="is no schema of tags"):
        tag_choices(tmp_path / "requests")
