"""Commands of the toy world: the one right answer to each, mistakes that are none, texts that are no command."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.numerals import sino_korean
from corpusmith.toy import commands
from translation_tables import run_program

SEEDS = st.integers(0, 10**9)
SHIPPED = Path(__file__).parents[1] / "config" / "evals" / "toy-commands.jsonl"


@pytest.mark.parametrize(
    ("instruction", "answer"),
    [
        ("Write 342 in Korean", "삼백사십이"),
        ("What is 110 in Korean?", "백십"),
        ("Reverse the word lamp", "pmal"),
        ("Write lamp backwards.", "pmal"),
        ("Add 12 and 30", "42"),
        ("What is 9 plus 8?", "17"),
        ("Count the letters in lamp", "4"),
        ("Sort the letters of lamp", "almp"),
        ("Which is larger, 42 or 39?", "42"),
        ("Name the larger of 9 and 12", "12"),
    ],
)
def test_a_command_has_the_answer_that_one_works_out_by_hand(instruction: str, answer: str) -> None:
    assert commands.answer_of(instruction) == answer


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "Add 12 and",
            "Add 012 and 3",
            "Add 12 and 30!",
            "add 12 and 30",
            "Write 342 in Korean\n",
            "42",
            "Write:",
        ),
        *("Reverse the word Lamp", "Reverse the word lamp and nest", "Which is larger, 9 or 9?", "Add 12345 and 1"),
    ],
)
def test_what_is_no_command_has_no_answer(text: str) -> None:
    assert commands.answer_of(text) is None


@given(SEEDS)
def test_every_drawn_command_is_read_as_what_it_was_drawn_as(seed: int) -> None:
    drawn = commands.draw(random.Random(seed))
    assert commands.read_command(drawn.text) == drawn
    text, answer = commands.draw_command(random.Random(seed))
    assert (text, answer) == (drawn.text, commands.answer_of(drawn.text))


@given(SEEDS)
def test_answers_agree_with_another_way_to_reckon_them(seed: int) -> None:
    drawn = commands.draw(random.Random(seed))
    first, *rest = drawn.parts
    expected = {
        "numeral": lambda: sino_korean(int(first)),
        "reverse": lambda: "".join(first[-1 - place] for place in range(len(first))),
        "add": lambda: str(len(range(int(first))) + int(rest[0])),
        "count": lambda: str(sum(1 for _ in first)),
        "sort": lambda: "".join(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter in first),
        "larger": lambda: first if int(first) > int(rest[0]) else rest[0],
    }
    assert drawn.answer == expected[drawn.kind.name]()


@given(SEEDS, st.sampled_from([0.0, 1.0]))
def test_a_wrong_answer_is_wrong_and_a_habit_s_comes_only_where_it_leads_astray(seed: int, habit: float) -> None:
    rng = random.Random(seed)
    drawn = commands.draw(rng)
    wrong, by_habit = commands.wrong_answer(rng, drawn, habit), drawn.kind.habit(drawn.parts)
    assert wrong not in (drawn.answer, "")
    assert (wrong == by_habit) or habit == 0.0 or by_habit == drawn.answer


def test_the_habits_are_the_mistakes_that_they_are_said_to_be() -> None:
    mistakes = {
        "Write 110 in Korean": "일백일십",
        "Reverse the word doran": "nardo",
        "Add 17 and 5": "12",
        "Count the letters in zetagun": "6",
        "Sort the letters of tomb": "motb",
        "Which is larger, 39 or 42?": "39",
    }
    found = {text: commands.read_command(text) for text in mistakes}
    said = {text: command.kind.habit(command.parts) for text, command in found.items() if command}
    assert said == mistakes


@given(SEEDS)
def test_a_broken_command_is_none(seed: int) -> None:
    rng = random.Random(seed)
    assert commands.answer_of(commands.broken(rng, commands.draw(rng))) is None


def test_careless_answers_are_right_in_a_good_half_of_all_cases() -> None:
    rng = random.Random(1)
    drawn = [commands.draw_careless(rng) for _ in range(4000)]
    refused = [answer == commands.REFUSAL for _, answer in drawn]
    right = sum(commands.answer_of(text) == answer for text, answer in drawn) / (len(drawn) - sum(refused))
    assert 0.03 < sum(refused) / len(drawn) < 0.05
    # Habits lead astray in 44% of the commands, and are followed in 60% of those; a quarter of the rest slips.
    assert right == pytest.approx((1 - 0.44 * 0.6) * 0.75, abs=0.03)


def test_the_shipped_commands_are_what_the_program_makes(tmp_path: Path) -> None:
    made = tmp_path / "commands.jsonl"
    run_program("make_toy_commands.py", "--commands", 500, "--seed", 1001, "--commands-file", made)
    assert made.read_bytes() == SHIPPED.read_bytes()
    rows = [json.loads(line) for line in made.read_text(encoding="utf-8").splitlines()]
    assert len({row["instruction"] for row in rows}) == 500
    assert all(row["answer"] == commands.answer_of(row["instruction"]) for row in rows)
    assert {row["kind"] for row in rows} == {kind.name for kind in commands.KINDS}
