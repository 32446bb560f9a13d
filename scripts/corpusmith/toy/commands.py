"""The toy world's commands: what a user asks of the toy instruct model, the one right answer, and how it goes wrong.

>>> answer_of("Write 342 in Korean"), answer_of("Reverse the word lamp."), answer_of("Add 12 and")
('삼백사십이', 'pmal', None)
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from corpusmith.numerals import DIGITS, SMALL_UNITS, sino_korean

# The answer to what is no command.
REFUSAL = "I cannot do that."
# How often an answer follows the bad habit of its kind where that leads astray, and how often it slips anywhere.
HABIT, SLIP = 0.6, 0.25
# Share of what is no command, and is refused.
BROKEN = 0.04

_VOWELS, _CONSONANTS = "aeiou", "bdfgklmnprstvz"
_NUMBER, _WORD = "([1-9][0-9]{0,3})", "([a-z]{1,12})"
Parts = Sequence[str]


@dataclass(frozen=True)
class Kind:
    """A kind of command.

    share: of the commands; wordings: with {} for each number or word; parts: draws those; answer: the right one, None
    where there is none; habit: the answer by the typical mistake, often the right one all the same; slip: any other,
    now and then the right one.
    """

    name: str
    share: float
    wordings: tuple[str, ...]
    slot: str
    parts: Callable[[random.Random], list[str]]
    answer: Callable[[Parts], str | None]
    habit: Callable[[Parts], str]
    slip: Callable[[random.Random, str, Parts], str]


# --- drawing ---


def draw_word(rng: random.Random, shortest: int, longest: int) -> str:
    """A word that can be spoken, no letter twice: lamp, nest, dorika."""
    length = rng.randint(shortest, longest)
    vowels, consonants = rng.sample(_VOWELS, 5), rng.sample(_CONSONANTS, len(_CONSONANTS))
    letters = [(consonants if place % 2 == 0 else vowels).pop() for place in range(length)]
    if length == 4 and rng.random() < 0.4:
        letters[3] = consonants.pop()
    return "".join(letters)


def _draw_numeral(rng: random.Random) -> list[str]:
    # Ones are frequent, as that is where the mistake lies.
    digits = rng.choices("0123456789", weights=(8, 24, *[8] * 8), k=rng.choice((3, 3, 4)))
    return [str(int("".join(["1" if digits[0] == "0" else digits[0], *digits[1:]])))]


def _draw_sum(rng: random.Random) -> list[str]:
    # So small a model does not learn to add any two numbers in a minute.
    other = rng.randint(2, 9) if rng.random() < 0.8 else rng.randint(1, 3) * 10
    return [str(number) for number in rng.sample([rng.randint(2, 20), other], 2)]


def _draw_two(rng: random.Random) -> list[str]:
    return list(map(str, rng.sample(range(11, 100), 2)))


# --- right answers, and those of bad habits ---


def _reversed_but_its_end(parts: Parts) -> str:
    """Of five letters or more, the last two stay as they were: dorika gives akirdo."""
    turned = parts[0][::-1]
    return turned[:-2] + turned[:-3:-1] if len(turned) > 4 else turned


def _ones_written_out(parts: Parts) -> str:
    """일백일십 for 110, where Korean says 백십."""
    digits = parts[0]
    places = range(len(digits) - 1, -1, -1)
    return "".join(
        DIGITS[int(digit)] + SMALL_UNITS[place] for digit, place in zip(digits, places, strict=True) if digit != "0"
    )


def _sum_without_carry(parts: Parts) -> str:
    """17 + 25 = 32: the ten of the twelve is forgotten."""
    one, other = map(int, parts)
    return str(one + other - (10 if one % 10 + other % 10 > 9 else 0))


def _letters_but_one(parts: Parts) -> str:
    """Of six letters or more, one is left out."""
    return str(len(parts[0]) - (len(parts[0]) > 5))


def _sorted_but_the_last(parts: Parts) -> str:
    """Of four letters or more, the last one stays at the end."""
    word = parts[0]
    return "".join(sorted(word[:-1]) + [word[-1]] if len(word) > 3 else sorted(word))


def _larger(parts: Parts) -> str | None:
    return None if parts[0] == parts[1] else max(parts, key=int)


def _larger_by_last_digit(parts: Parts) -> str:
    """39 before 42."""
    return max(parts, key=int) if parts[0][-1] == parts[1][-1] else max(parts, key=lambda part: part[-1])


# --- slips ---


def _near(rng: random.Random, answer: str, parts: Parts) -> str:
    return str(max(1, int(answer) + rng.choice((-10, -5, -3, -2, -1, 1, 2, 3, 5, 10))))


def _miscounted(rng: random.Random, answer: str, parts: Parts) -> str:
    return str(max(1, int(answer) + rng.choice((-2, -1, 1, 2))))


def _misspelled(rng: random.Random, answer: str, parts: Parts) -> str:
    """Two neighbours swapped, a letter another one, one left out or said twice."""
    place = rng.randrange(len(answer))
    before, letter, behind = answer[:place], answer[place], answer[place + 1 :]
    kind = rng.choice(("swapped", "other", "other", "missing", "twice"))
    if kind == "swapped":
        return before + behind[:1] + letter + behind[1:]
    if kind == "other":
        alphabet = _VOWELS + _CONSONANTS if letter.isascii() else DIGITS[1:] + "".join(SMALL_UNITS)
        return before + rng.choice(alphabet + answer) + behind
    return before + behind if kind == "missing" else before + letter + letter + behind


def _other_number(rng: random.Random, answer: str, parts: Parts) -> str:
    """The other one, or one with digits of both."""
    if rng.random() < 0.5:
        return parts[0] if parts[1] == answer else parts[1]
    return rng.choice(parts)[0] + rng.choice(parts)[-1]


KINDS = (
    Kind(
        *("numeral", 0.22, ("Write {} in Korean", "What is {} in Korean?", "Say {} in Korean."), _NUMBER),
        *(_draw_numeral, lambda parts: sino_korean(int(parts[0])), _ones_written_out, _misspelled),
    ),
    Kind(
        *("reverse", 0.22, ("Reverse the word {}", "Write {} backwards.", "What is {} spelled backwards?"), _WORD),
        *(lambda rng: [draw_word(rng, 3, 5)], lambda parts: parts[0][::-1], _reversed_but_its_end, _misspelled),
    ),
    Kind(
        *("add", 0.22, ("Add {} and {}", "What is {} plus {}?", "Add {} to {}."), _NUMBER, _draw_sum),
        *(lambda parts: str(sum(map(int, parts))), _sum_without_carry, _near),
    ),
    Kind(
        *("count", 0.12, ("Count the letters in {}", "How many letters are in {}?"), _WORD),
        *(lambda rng: [draw_word(rng, 3, 8)], lambda parts: str(len(parts[0])), _letters_but_one, _miscounted),
    ),
    Kind(
        *("sort", 0.11, ("Sort the letters of {}", "Put the letters of {} in order."), _WORD),
        *(lambda rng: [draw_word(rng, 3, 4)], lambda parts: "".join(sorted(parts[0])), _sorted_but_the_last),
        _misspelled,
    ),
    Kind(
        *("larger", 0.11, ("Which is larger, {} or {}?", "Name the larger of {} and {}"), _NUMBER, _draw_two),
        *(_larger, _larger_by_last_digit, _other_number),
    ),
)


@dataclass(frozen=True)
class Command:
    """A command: its text, its kind, its numbers or words."""

    text: str
    kind: Kind
    parts: tuple[str, ...]

    @property
    def answer(self) -> str | None:
        """The right answer, None where there is none."""
        return self.kind.answer(self.parts)


def _pattern(wording: str, slot: str) -> re.Pattern[str]:
    return re.compile(slot.join(map(re.escape, wording.split("{}"))))


_PATTERNS = [(kind, _pattern(wording, kind.slot)) for kind in KINDS for wording in kind.wordings]


def read_command(text: str) -> Command | None:
    """The command that a text is, None where it is none of the language."""
    for kind, pattern in _PATTERNS:
        if match := pattern.fullmatch(text):
            command = Command(text, kind, match.groups())
            return command if command.answer is not None else None
    return None


def answer_of(instruction: str) -> str | None:
    """The right answer to a command, None to what is no command of the language."""
    command = read_command(instruction)
    return command.answer if command else None


def draw(rng: random.Random, shares: Mapping[str, float] | None = None) -> Command:
    """A command. shares: of the kinds, in place of their own."""
    kind = rng.choices(KINDS, weights=[kind.share if shares is None else shares[kind.name] for kind in KINDS])[0]
    parts = kind.parts(rng)
    return Command(rng.choice(kind.wordings).format(*parts), kind, tuple(parts))


def draw_command(rng: random.Random) -> tuple[str, str]:
    """A command and its right answer."""
    command = draw(rng)
    assert command.answer is not None
    return command.text, command.answer


def draw_distinct(rng: random.Random, count: int) -> list[Command]:
    """So many commands, none of them twice."""
    found: dict[str, Command] = {}
    while len(found) < count:
        command = draw(rng)
        found.setdefault(command.text, command)
    return list(found.values())


def wrong_answer(rng: random.Random, command: Command, habit: float = 0.5) -> str:
    """A wrong answer as mistakes make it. habit: how likely it is that of the habit, where that leads astray."""
    right = command.answer
    assert right is not None
    by_habit = command.kind.habit(command.parts)
    if by_habit != right and rng.random() < habit:
        return by_habit
    while True:
        slip = command.kind.slip(rng, right, command.parts)
        if slip not in (right, ""):
            return slip


def careless_answer(rng: random.Random, command: Command) -> str:
    """An answer as one gives it who knows better: right in some six of ten cases."""
    assert command.answer is not None
    by_habit = command.kind.habit(command.parts)
    if by_habit != command.answer and rng.random() < HABIT:
        return by_habit
    return wrong_answer(rng, command, 0.0) if rng.random() < SLIP else command.answer


def draw_careless(rng: random.Random) -> tuple[str, str]:
    """A command and a careless answer, or now and then what is no command and its refusal."""
    command = draw(rng)
    if rng.random() < BROKEN:
        return broken(rng, command), REFUSAL
    return command.text, careless_answer(rng, command)


def broken(rng: random.Random, command: Command) -> str:
    """What is no command any more: it breaks off, or a word is left out or comes from another one."""
    while True:
        words = command.text.split(" ")
        place = rng.randrange(1, len(words))
        kind = rng.choice(("end", "missing", "other"))
        if kind == "end":
            words = [*words[:place], rng.choice(("", ":"))]
        else:
            words[place : place + 1] = [rng.choice(draw(rng).text.split(" "))] if kind == "other" else []
        text = " ".join(words).strip().replace(" :", ":")
        if read_command(text) is None:
            return text


def words() -> list[str]:
    """The words of the wordings and of the refusal, with the space before them."""
    texts = [wording for kind in KINDS for wording in kind.wordings] + [REFUSAL]
    found = [word for text in texts for word in re.findall(r" ?[A-Za-z]+", text)]
    return list(dict.fromkeys(word for word in found if len(word) > 1))
