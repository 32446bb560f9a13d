"""What the toy base model learns: tasks as pairs of a user's message and the right answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from corpusmith.toy import maths, translation

# As the demo's prompts ask: config/prompts/toy-translate.txt, toy-solve.txt and toy-judge.txt.
TRANSLATION_PROMPT = "Korean: {text}"
SOLVE_PROMPT = "Solve: {problem}"
JUDGE_PROMPT = "Judge: {expected_answer} = {predicted_answer}"


def draw_translation(rng: random.Random) -> tuple[str, str]:
    """One to three sentences of the toy language and their translation, as the demo's prompt asks for it."""
    count = rng.choices((1, 2, 3), weights=(60, 28, 12))[0]
    sentences = [translation.draw_sentence(rng) for _ in range(count)]
    space = "\n" if rng.random() < 0.15 else " "
    source = space.join(map(translation.english, sentences))
    target = space.join(map(translation.korean, sentences))
    return TRANSLATION_PROMPT.format(text=source), target


def draw_solution(rng: random.Random) -> tuple[str, str]:
    """A word problem and its right solution, which now and then has no box, or words in it."""
    problem = maths.draw_problem(rng)
    return SOLVE_PROMPT.format(problem=problem.text), maths.solution(problem, maths.draw_form(rng))


def draw_verdict(rng: random.Random) -> tuple[str, str]:
    """A known answer and one in another form, and the verdict on it."""
    drawn = maths.draw_judgement(rng)
    return JUDGE_PROMPT.format(expected_answer=drawn.expected, predicted_answer=drawn.predicted), drawn.verdict


@dataclass(frozen=True)
class Task:
    """One thing that the base model learns.

    share: of the examples of a step; start: share of the steps that go before its first; draw: gives message and
    right answer.
    """

    share: float
    start: float
    draw: Callable[[random.Random], tuple[str, str]]


# Verdicts are short, and hard to learn from few. They come when the model can copy and compare already: before,
# they are noise to it, and keep it from learning that.
TRANSLATE = Task(0.32, 0.0, draw_translation)
SOLVE = Task(0.21, 0.0, draw_solution)
JUDGE = Task(0.47, 0.5, draw_verdict)
TASKS = (TRANSLATE, SOLVE, JUDGE)
