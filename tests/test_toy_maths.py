"""The toy world's maths: its problems and their truth, its solutions and judgements."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.engines.constraints import Constraints
from corpusmith.prompts import load_prompt
from corpusmith.toy import language_model, tasks
from corpusmith.toy.maths import (
    FORMS,
    LIMIT,
    Form,
    Problem,
    Step,
    draw_form,
    draw_judgement,
    draw_problem,
    judge,
    number_words,
    read_problem,
    solution,
    written_answer,
    wrong_solution,
)
from corpusmith.toy.translation import THINGS
from toy_solutions import BOXED, SIGNS, SUM, reckoned, slips

PROMPTS = Path(__file__).resolve().parent.parent / "config" / "prompts"

PROBLEMS = st.integers(0, 10**9).map(lambda seed: draw_problem(random.Random(seed)))
RANDOMS = st.randoms(use_true_random=False)

# --- the truth ---


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (
            "Mina had 12 apples, bought 5 more and gave 3 to Sora. How many apples does Mina have?",
            r"12 + 5 = 17. 17 - 3 = 14. \boxed{14}",
        ),
        ("Jiwon had 9 pencils and lost 9. How many pencils does Jiwon have?", r"9 - 9 = 0. \boxed{0}"),
        ("Dana had 3 bags of 4 eggs. How many eggs does Dana have?", r"3 × 4 = 12. \boxed{12}"),
        (
            "Bora had 2 bags of 7 boxes and sold 5. How many boxes does Bora have?",
            r"2 × 7 = 14. 14 - 5 = 9. \boxed{9}",
        ),
        (
            "Juno had 6 books and found 2 more. Hajun has 3 times as many. How many books does Hajun have?",
            r"6 + 2 = 8. 8 × 3 = 24. \boxed{24}",
        ),
        ("Taeho had 4 chairs. Minjun has 2 times as many. How many chairs does Minjun have?", r"4 × 2 = 8. \boxed{8}"),
        (
            "Suyeon had 300 stamps, gave 20 to Mina, gave 1 to Sora and bought 99 more. "
            "How many stamps does Suyeon have?",
            r"300 - 20 = 280. 280 - 1 = 279. 279 + 99 = 378. \boxed{378}",
        ),
    ],
)
def test_problems_by_hand(text: str, written: str) -> None:
    assert solution(read_problem(text), Form.NUMBER) == written


@given(PROBLEMS)
def test_a_drawn_problem_is_read_back_with_its_answer(problem: Problem) -> None:
    assert read_problem(problem.text) == problem
    assert problem.answer == reckoned(problem.text)


@given(PROBLEMS)
def test_drawn_problems_have_one_to_three_steps_and_small_numbers(problem: Problem) -> None:
    assert 1 <= len(problem.steps) <= 3
    for step, following in zip(problem.steps, [*problem.steps[1:], None], strict=True):
        assert all(1 <= number <= LIMIT < 100 for number in (step.left, step.right, step.result))
        assert following is None or following.left == step.result
        assert SIGNS[step.operation](step.left, step.right) == step.result


def test_thousands_of_drawn_problems_are_distinct_and_of_every_kind() -> None:
    rng = random.Random(3)
    drawn = [draw_problem(rng) for _ in range(4000)]
    assert len({problem.text for problem in drawn}) > 3800
    assert {problem.thing for problem in drawn} == set(THINGS)
    counts = Counter(len(problem.steps) for problem in drawn)
    assert min(counts.values()) > 400
    assert counts[1] + counts[2] > 3 * counts[3]
    assert {step.operation for problem in drawn for step in problem.steps} == set(SIGNS)
    assert len({problem.answer for problem in drawn}) >= 20


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is 12 + 5?",
        "Mina had 12 apples. How many apples does Mina have?",
        "Mina had 12 apples and bought 5 more. How many apples does Sora have?",
        "Mina had 12 apples and bought 5 more. How many pears does Mina have?",
        "Mina had 12 apples and bought 5 more. Sora has 2 times as many. How many apples does Mina have?",
        "Mina had 12 apples and bought 5 more. Mina has 2 times as many. How many apples does Mina have?",
        "Mina had 12 apples and lost 13. How many apples does Mina have?",
        "Mina had 12 apples, lost 13 and bought 5 more. How many apples does Mina have?",
        "Mina had 12 apples and gave 5 to Anna. How many apples does Mina have?",
        "Mina had 12 apples and ate 5. How many apples does Mina have?",
        "Mina had 012 apples and lost 5. How many apples does Mina have?",
        "Mina had ３ apples and lost 2. How many apples does Mina have?",
        "Mina had 12 apples and lost five. How many apples does Mina have?",
        "Mina had 12 apples and lost 5, bought 2 more. How many apples does Mina have?",
        "Mina had 12 apples and lost 5. How many apples does Mina have?\n",
        " Mina had 12 apples and lost 5. How many apples does Mina have?",
        "Mina had 12 apples and lost 5.",
    ],
)
def test_what_is_no_problem_of_the_toy_world_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a problem|does not say|nothing to reckon|more is taken away"):
        read_problem(text)


@settings(max_examples=300)
@given(PROBLEMS, st.data())
def test_a_changed_character_makes_another_problem_or_none(problem: Problem, data: Any) -> None:
    place = data.draw(st.integers(0, len(problem.text) - 1))
    removed = data.draw(st.integers(0, 2))
    inserted = data.draw(st.sampled_from([*",. 0123456789aMs\n", "", "１"]))
    changed = problem.text[:place] + inserted + problem.text[place + removed :]
    try:
        found = read_problem(changed)
    except ValueError:
        return
    assert found.text == changed
    assert found.answer == reckoned(changed) >= 0


# --- numbers in words ---


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (1, "one"),
        (10, "ten"),
        (12, "twelve"),
        (13, "thirteen"),
        (14, "fourteen"),
        (19, "nineteen"),
        (20, "twenty"),
        (21, "twenty-one"),
        (30, "thirty"),
        (42, "forty-two"),
        (58, "fifty-eight"),
        (80, "eighty"),
        (99, "ninety-nine"),
    ],
)
def test_numbers_in_words_by_hand(number: int, words: str) -> None:
    assert number_words(number) == words


def test_no_two_numbers_have_the_same_words() -> None:
    assert len({number_words(number) for number in range(100)}) == 100


@pytest.mark.parametrize("number", [-1, 100])
def test_numbers_beyond_two_digits_have_no_words(number: int) -> None:
    with pytest.raises(ValueError, match="only 0 to 99"):
        number_words(number)


# --- solutions ---


@pytest.mark.parametrize(
    ("form", "ending"),
    [
        (Form.NUMBER, r" \boxed{28}"),
        (Form.WORDS, r" \boxed{twenty-eight}"),
        (Form.UNIT, r" \boxed{28 eggs}"),
        (Form.NONE, ""),
    ],
)
def test_solutions_end_in_every_form(form: Form, ending: str) -> None:
    problem = read_problem("Dana had 7 bags of 4 eggs. How many eggs does Dana have?")
    assert solution(problem, form) == "7 × 4 = 28." + ending


def test_what_is_too_large_for_words_is_boxed_in_digits() -> None:
    assert written_answer(100, "eggs", Form.WORDS) == "100"


def test_forms_are_drawn_as_often_as_they_should_be() -> None:
    rng = random.Random(8)
    counts = Counter(draw_form(rng) for _ in range(4000))
    assert sum(FORMS.values()) == pytest.approx(1)
    for form, share in FORMS.items():
        assert abs(counts[form] - 4000 * share) < 4 * (4000 * share * (1 - share)) ** 0.5


def last_result(problem: Problem, text: str) -> int:
    """The answer of a solution; every sum of it begins where the one before ended, with the problem's numbers."""
    sums = [(int(left), sign, int(right), int(result)) for left, sign, right, result in SUM.findall(text)]
    assert [(sign, right) for _, sign, right, _ in sums] == [(step.operation, step.right) for step in problem.steps]
    assert [left for left, *_ in sums] == [problem.steps[0].left, *(result for *_, result in sums[:-1])]
    return sums[-1][3]


@given(PROBLEMS, st.sampled_from(Form), RANDOMS)
def test_a_wrong_solution_has_one_slip_and_is_reckoned_on_from_there(
    problem: Problem, form: Form, rng: random.Random
) -> None:
    right, wrong = solution(problem, form), wrong_solution(rng, problem, form)
    assert (slips(right), slips(wrong)) == (0, 1)
    assert last_result(problem, right) == problem.answer != last_result(problem, wrong) >= 0
    for text in (right, wrong):
        box = BOXED.search(text)
        assert (box is None) == (form is Form.NONE)
        if box is not None:
            assert box[1] == written_answer(last_result(problem, text), problem.thing, form)


# --- judgements ---


@pytest.mark.parametrize(
    ("expected", "predicted", "verdict"),
    [
        ("14", "14", "right"),
        ("14", "15", "wrong"),
        ("14", "fourteen", "right"),
        ("14", "forty", "wrong"),
        ("14", "14 apples", "right"),
        ("14", "fourteen apples", "right"),
        ("14", "15 apples", "wrong"),
        ("14", "14 dogs", "wrong"),
        ("14", "apples", "wrong"),
        ("14", "", "wrong"),
        ("14", "114", "wrong"),
        ("42", "forty-two", "right"),
        ("42", "forty two", "wrong"),
    ],
)
def test_verdicts_by_hand(expected: str, predicted: str, verdict: str) -> None:
    assert judge(expected, predicted) == verdict


def test_judgements_are_half_right_and_mostly_of_words() -> None:
    rng = random.Random(6)
    drawn = [draw_judgement(rng) for _ in range(2000)]
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for judgement in drawn:
        assert judgement.verdict == judge(str(judgement.expected), judgement.predicted)
        shown = judgement.predicted
        forms["digits" if shown.isdigit() else "unit" if " " in shown else "words"][judgement.verdict] += 1
    assert sum(forms["words"].values()) > 1000
    # Half of them are right: the standard deviation of the smallest kind's share is at most 0.5 / sqrt(rows).
    for counts in forms.values():
        assert abs(counts["right"] / counts.total() - 0.5) < 2 / counts.total() ** 0.5
    assert forms.keys() == {"digits", "unit", "words"}


# --- what the toy model learns ---


def test_the_model_learns_right_solutions_of_the_prompt_that_the_demo_asks() -> None:
    prompt = load_prompt(PROMPTS / "toy-solve.txt")
    rng = random.Random(2)
    boxes = []
    for _ in range(400):
        message, answer = tasks.draw_solution(rng)
        problem = read_problem(message.removeprefix("Solve: "))
        assert message == prompt(problem=problem.text)
        assert slips(answer) == 0
        assert last_result(problem, answer) == problem.answer
        box = BOXED.search(answer)
        boxes.append(box and box[1])
        assert box is None or judge(str(problem.answer), box[1]) == "right"
    assert None in boxes
    assert any(box and box.isalpha() for box in boxes)


def test_the_model_learns_right_verdicts_by_the_prompt_that_the_demo_asks() -> None:
    prompt = load_prompt(PROMPTS / "toy-judge.txt")
    rng = random.Random(2)
    for _ in range(400):
        message, verdict = tasks.draw_verdict(rng)
        expected, _, predicted = message.removeprefix("Judge: ").partition(" = ")
        names = {"problem": "p", "expected_answer": expected, "predicted_answer": predicted, "solution": "s"}
        assert message == prompt(**names)
        assert verdict == judge(expected, predicted)


def test_a_verdict_is_one_token_also_where_only_verdicts_are_allowed() -> None:
    tokenizer = language_model.build_tokenizer(1024)
    ends = [tokenizer.eos_token_id]
    for verdict in ("right", "wrong"):
        (token,) = tokenizer.encode(verdict, add_special_tokens=False)
        matcher = Constraints(tokenizer, len(tokenizer), ends).matcher(("right", "wrong"), None)
        assert matcher is not None
        allowed = np.flatnonzero(matcher.allowed())
        assert token in allowed
        matcher.take(token)
        assert list(np.flatnonzero(matcher.allowed())) in ([], ends)


def test_a_number_that_is_reckoned_with_is_one_token_and_no_part_of_a_larger_one() -> None:
    tokenizer = language_model.build_tokenizer(1024)
    for number in range(1, LIMIT + 1):
        assert tokenizer.tokenize(f"9 + {number} = ")[2] == str(number)
    assert tokenizer.tokenize("112") == ["1", "1", "2"]
    assert tokenizer.tokenize("1,312") == ["1", ",", "3", "1", "2"]


@pytest.mark.parametrize("task", tasks.TASKS)
def test_a_batch_asks_for_whole_answers_and_for_nothing_else(task: tasks.Task) -> None:
    tokenizer = language_model.build_tokenizer(1024)
    examples = dict(task.draw(rng) for rng in [random.Random(3)] for _ in range(16 * 4))
    batch = next(language_model.batches(tokenizer, task, 3, 4))
    for tokens, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        asked = tokenizer.decode(labels[labels != -100])
        whole = tokenizer.decode(tokens[mask == 1])
        message, _, answer = whole.removeprefix("<|im_start|>user\n").partition("<|im_end|>\n<|im_start|>assistant\n")
        assert examples[message] + "<|im_end|>" == asked == answer


# --- steps ---


def test_a_step_comes_to_its_sum_difference_or_product() -> None:
    assert [Step(7, sign, 3).result for sign in SIGNS] == [10, 4, 21]
