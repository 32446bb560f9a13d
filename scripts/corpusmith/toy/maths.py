"""The toy world's maths: word problems of its people and things, the one right answer of each, and its solutions.

>>> problem = read_problem("Mina had 12 apples, bought 5 more and gave 3 to Sora. How many apples does Mina have?")
>>> problem.answer, solution(problem, Form.NUMBER)
(14, '12 + 5 = 17. 17 - 3 = 14. \\\\boxed{14}')
"""

from __future__ import annotations

import enum
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

from corpusmith.toy.translation import NAMES, THINGS

ADD, SUBTRACT, MULTIPLY = "+", "-", "×"
RIGHT, WRONG = "right", "wrong"
BOX = "\\boxed{"

# What is done with so many things: the words before the number, those behind it, and what that does to the total.
# A name stands behind "to".
DEEDS = {
    "bought": (" more", ADD),
    "found": (" more", ADD),
    "lost": ("", SUBTRACT),
    "sold": ("", SUBTRACT),
    "gave": (" to ", SUBTRACT),
}
# What else problems are made of.
PHRASES = ("had", "bags of", "has", "times as many", "How many", "does", "have?", "more", "to")
# No drawn number is above this, so that a small model can learn to reckon with them.
LIMIT = 20

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS = (*_ONES, *_TENS)


class Form(enum.Enum):
    """How a solution ends: with its answer boxed in digits, in words or with its unit, or without any box."""

    NUMBER = "number"
    WORDS = "words"
    UNIT = "unit"
    NONE = "none"


# How often solutions end so: a symbolic check reads digits, with and without a unit, but no words.
FORMS = {Form.NUMBER: 0.79, Form.WORDS: 0.1, Form.UNIT: 0.03, Form.NONE: 0.08}


@dataclass(frozen=True)
class Step:
    """One sum: left operation right."""

    left: int
    operation: str
    right: int

    @property
    def result(self) -> int:
        """What it comes to."""
        if self.operation == MULTIPLY:
            return self.left * self.right
        return self.left + self.right if self.operation == ADD else self.left - self.right


@dataclass(frozen=True)
class Problem:
    """A word problem: its text, what is counted, and the steps to its answer; each begins where the last one ends."""

    text: str
    thing: str
    steps: tuple[Step, ...]

    @property
    def answer(self) -> int:
        """The right answer."""
        return self.steps[-1].result


# --- problems ---


def draw_problem(rng: random.Random) -> Problem:
    """A problem of one to three steps, no number in it or on the way above LIMIT, none on the way below 1."""
    count = rng.choices((1, 2, 3), weights=(45, 42, 13))[0]
    name, *others = rng.sample(list(NAMES), 3)
    thing = rng.choice(list(THINGS))
    bags, compares = rng.random() < 0.25, rng.random() < 0.2
    bags = bags and count > compares
    most = LIMIT // 2 if compares else LIMIT
    if bags:
        each = rng.randint(2, min(9, most // 2))
        total = each * rng.randint(2, min(6, most // each))
        start = f"{total // each} bags of {each} {thing}"
    else:
        total = rng.randint(2, most)
        start = f"{total} {thing}"
    clauses = []
    for _ in range(count - bags - compares):
        room = {ADD: min(9, most - total), SUBTRACT: min(9, total - 1)}
        verb = rng.choice([verb for verb in DEEDS if room[DEEDS[verb][1]] > 0])
        behind, operation = DEEDS[verb]
        number = rng.randint(1, room[operation])
        total = Step(total, operation, number).result
        clauses.append(f"{verb} {number}{behind}" + (others[0] if verb == "gave" else ""))
    story = f"{name} had {_listed([start, *clauses])}."
    asked = name
    if compares:
        asked = others[1]
        story += f" {asked} has {rng.randint(2, min(4, LIMIT // total))} times as many."
    return read_problem(f"{story} How many {thing} does {asked} have?")


def _listed(parts: list[str]) -> str:
    return " and ".join([part for part in (", ".join(parts[:-1]), parts[-1]) if part])


def _one_of(choices: Iterable[str]) -> str:
    return "|".join(map(re.escape, choices))


_NUMBER = "[1-9][0-9]{0,5}"
_NAME = _one_of(NAMES)
_DEED = "|".join(
    rf"{verb} {_NUMBER}{behind}" + (f"(?:{_NAME})" if verb == "gave" else "") for verb, (behind, _) in DEEDS.items()
)
_PROBLEM = re.compile(
    rf"(?P<name>{_NAME}) had (?:(?P<bags>{_NUMBER}) bags of )?(?P<start>{_NUMBER}) (?P<thing>{_one_of(THINGS)})"
    rf"(?P<deeds>(?:, (?:{_DEED}))*(?: and (?:{_DEED}))?)\."
    rf"(?: (?P<other>{_NAME}) has (?P<times>{_NUMBER}) times as many\.)?"
    rf" How many (?P=thing) does (?P<asked>{_NAME}) have\?"
)


def read_problem(text: str) -> Problem:
    """The problem that a text states, which gives its truth.

    Raises ValueError where the text is no problem of the toy world, or more is taken away in it than there is.
    """
    match = _PROBLEM.fullmatch(text)
    if match is None:
        raise ValueError(f"not a problem of the toy world: {text[:200]!r}")
    if match["asked"] != (match["other"] or match["name"]) or match["other"] == match["name"]:
        raise ValueError(f"does not say how many {match['asked']} has: {text!r}")
    sums = [(DEEDS[deed[1]][1], int(deed[2])) for deed in re.finditer(r"(\w+) (\d+)", match["deeds"])]
    if match["bags"]:
        sums.insert(0, (MULTIPLY, int(match["start"])))
    if match["times"]:
        sums.append((MULTIPLY, int(match["times"])))
    if not sums:
        raise ValueError(f"nothing to reckon: {text!r}")
    total = int(match["bags"] or match["start"])
    steps = []
    for operation, number in sums:
        steps.append(Step(total, operation, number))
        total = steps[-1].result
        if total < 0:
            raise ValueError(f"more is taken away than there is: {text!r}")
    return Problem(text, match["thing"], tuple(steps))


# --- solutions ---


def number_words(number: int) -> str:
    """A number from 0 to 99 in words: forty-two. Raises ValueError for any other."""
    if not 0 <= number < 100:
        raise ValueError(f"{number} is not spelled out: only 0 to 99 are")
    if number < 20:
        return _ONES[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")


def draw_form(rng: random.Random) -> Form:
    """How a solution ends, drawn by FORMS."""
    return rng.choices(list(FORMS), weights=list(FORMS.values()))[0]


def written_answer(number: int, thing: str, form: Form) -> str:
    """An answer as it stands in the box; empty without a box. What is too large for words is given in digits."""
    if form is Form.WORDS and number < 100:
        return number_words(number)
    return {Form.NONE: "", Form.UNIT: f"{number} {thing}"}.get(form, str(number))


def solution(problem: Problem, form: Form) -> str:
    """The right solution: its steps, and the answer in a box if the form has one."""
    return _solution([(step, step.result) for step in problem.steps], problem.thing, form)


def wrong_solution(rng: random.Random, problem: Problem, form: Form) -> str:
    """A solution with one slip, reckoned on from there: its answer is never the right one, nor below 0."""
    slip = rng.randrange(len(problem.steps))
    while True:
        total = problem.steps[0].left
        written = []
        for place, step in enumerate(problem.steps):
            taken = Step(total, step.operation, step.right)
            # No later step makes this good: each gives another result for another number.
            total = damage_number(rng, taken.result) if place == slip else taken.result
            written.append((taken, total))
        # With another number on the way, less can be there than is taken away.
        if all(result >= 0 for _, result in written):
            return _solution(written, problem.thing, form)


def _solution(written: list[tuple[Step, int]], thing: str, form: Form) -> str:
    sums = " ".join(f"{step.left} {step.operation} {step.right} = {result}." for step, result in written)
    return sums if form is Form.NONE else f"{sums} {BOX}{written_answer(written[-1][1], thing, form)}}}"


def damage_number(rng: random.Random, number: int) -> int:
    """Another number, not below 0, as slips make it: one or ten too many or too few, digits swapped, any near it."""
    slips = [number - 1, number + 1, number - 10, number + 10, int(str(number)[::-1]), number + rng.randint(-6, 6)]
    return rng.choice([slip for slip in slips if slip >= 0 and slip != number])


# --- judgements ---


@dataclass(frozen=True)
class Judgement:
    """A known answer, an answer as a solution boxes it, and whether they are the same."""

    expected: int
    predicted: str
    verdict: str


def draw_judgement(rng: random.Random) -> Judgement:
    """A right or a wrong answer, as likely as each other, in digits, in words or with a unit."""
    problem = draw_problem(rng)
    form = rng.choices((Form.NUMBER, Form.WORDS, Form.UNIT), weights=(20, 65, 15))[0]
    right = rng.random() < 0.5
    number = problem.answer
    if not right:
        near = damage_number(rng, number)
        far = rng.choice([other for other in range(1, LIMIT + 1) if other != number])
        number = rng.choice((near, far))
    return Judgement(problem.answer, written_answer(number, problem.thing, form), RIGHT if right else WRONG)


def judge(expected: str, predicted: str) -> str:
    """The right verdict on an answer in any of the forms, to measure a judge against; what is no answer is wrong."""
    match = re.fullmatch(rf"(.+?)(?: (?:{_one_of(THINGS)}))?", predicted)
    spelled = {number_words(number): str(number) for number in range(100)}
    return RIGHT if match and spelled.get(match[1], match[1]) == expected else WRONG
