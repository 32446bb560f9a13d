"""Toy instructions datasets against their truth: commands that can be read, right responses, right pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from corpusmith.identity import item_id
from corpusmith.quality_lines import instructions_lines
from corpusmith.requests import request
from corpusmith.table_files import write_table
from corpusmith.tables import COMPLETIONS, PREFERENCES, REQUESTS, RESPONSES, SCORES
from corpusmith.toy.commands_quality import is_right
from scoring_tables import answers
from translation_tables import call_program, run_program

SHARD = "0000-of-0001.parquet"
REVERSE, ADD, NONE = "Reverse the word lamp", "Add 12 and 30", "Reverse the lamp"
# The rewards prefer a wrong answer to the sum, and one to what is no command.
SAID = {
    REVERSE: [("pmal", 2.0), ("pmla", -1.0), ("pmal\n", 1.0)],
    ADD: [("42", 0.5), ("32", 1.5), ("41", None)],
    NONE: [("pmal", 0.3), ("I cannot do that.", 0.2), ("lamp", 0.1)],
}


def conversation(text: str, role: str = "user") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def write_dataset(folder: Path) -> None:
    asked = request(item_id("template"), "instruct", token_ids=[1], temperature=1.0, n=4, max_tokens=8)
    written = [REVERSE, ADD + "\n", NONE, "Add 12 and"]
    write_table(folder / "instruct" / "completions" / SHARD, COMPLETIONS, answers(asked, written))
    requests, completions, scores = [], [], []
    for text, said in SAID.items():
        for name, temperature, some in (("greedy", 0.0, said[:1]), ("sampled", 1.0, said[1:])):
            row = request(
                item_id(text),
                name,
                messages=conversation(text),
                **{"temperature": temperature, "n": len(some), "max_tokens": 8},
            )
            requests.append(row)
            completions += answers(row, [answer for answer, _ in some])
            scores += [reward for _, reward in some]
    names = ("item_id", "request", "sample", "key")
    rewarded = [
        {name: row[name] for name in names}
        | {"score": score, "truncated": False, "error": None if score is not None else "no luck"}
        for row, score in zip(completions, scores, strict=True)
    ]
    step = folder / "respond"
    write_table(step / "requests" / SHARD, REQUESTS, requests)
    write_table(step / "completions" / SHARD, COMPLETIONS, completions)
    write_table(step / "scores" / SHARD, SCORES, rewarded)
    released = [row_of(REVERSE, "pmal", 2.0), row_of(ADD, "32", 1.5)]
    write_table(folder / "filtered" / "train.parquet", RESPONSES, released)
    pairs = [pair_of(REVERSE, "pmal", "pmla"), pair_of(ADD, "32", "42"), pair_of(ADD, "42", "42 ")]
    write_table(folder / "preferences" / "kept.parquet", PREFERENCES, pairs)


def row_of(instruction: str, response: str, reward: float) -> dict[str, Any]:
    row = dict.fromkeys(RESPONSES.schema.names)
    return row | {
        "item_id": item_id(instruction),
        "instruction": instruction,
        "response": response,
        "messages": [*conversation(instruction), *conversation(response, "assistant")],
        "reward": reward,
        "origin": "toy-instruct",
        "generation_model": "toy-instruct",
        "sample": 0,
        "candidates": 3,
    }


def pair_of(instruction: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {
        "item_id": item_id(instruction),
        "prompt": conversation(instruction),
        "responses": [],
        "chosen": conversation(chosen, "assistant"),
        "rejected": conversation(rejected, "assistant"),
        "chosen_score": 1.0,
        "rejected_score": 0.0,
        "margin": 1.0,
    }


def test_a_response_is_right_that_is_the_answer_to_a_command() -> None:
    assert is_right(REVERSE, "pmal\n")
    assert not any(is_right(*pair) for pair in ((REVERSE, "lamp"), (NONE, "pmal"), (NONE, ""), (ADD, "The sum is 42")))


def test_the_program_measures_commands_responses_and_pairs(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    run_program(
        *("measure_toy_instructions.py", "--folder", tmp_path, "--instruct-shards", 1, "--respond-shards", 1),
        *("--preferences", "--splits", "train", "--quality", tmp_path / "quality.json"),
    )
    quality = json.loads((tmp_path / "quality.json").read_text())
    assert (quality["instructions"]["right"], quality["instructions"]["rows"]) == (0.5, 4)
    assert [(stage["name"], stage["right"], stage["rows"]) for stage in quality["responses"]] == [
        ("greedy", 0.6667, 3),
        ("one sample", 0.1667, 6),
        ("best by reward", 0.3333, 3),
        ("released", 0.5, 2),
    ]
    assert {pairs["name"]: pairs["right"] for pairs in quality["pairs"]} == {
        "chosen is right": 0.6667,
        "rejected is wrong": 0.3333,
        "both": 0.3333,
    }
    lines = list(instructions_lines(quality))
    assert lines[0] == "Instructions that can be read: 50.0% of 4"
    assert any("best by reward" in line and "33.3% of 3" in line for line in lines)


def test_without_pairs_there_is_nothing_said_of_them(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    run_program(
        *("measure_toy_instructions.py", "--folder", tmp_path, "--instruct-shards", 1, "--respond-shards", 1),
        *("--splits", "train", "--quality", tmp_path / "quality.json"),
    )
    quality = json.loads((tmp_path / "quality.json").read_text())
    assert quality["pairs"] == []
    assert not any("pairs" in line for line in instructions_lines(quality))


def test_scores_of_other_responses_are_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    write_table(tmp_path / "respond" / "scores" / SHARD, SCORES, [])
    result = call_program(
        *("measure_toy_instructions.py", "--folder", tmp_path, "--instruct-shards", 1, "--respond-shards", 1),
        *("--splits", "train", "--quality", tmp_path / "quality.json"),
    )
    assert result.returncode == 1
    assert "does not belong to" in result.stderr
