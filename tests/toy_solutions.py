"""Problems and solutions of the toy world reckoned word by word, apart from the library."""

from __future__ import annotations

import operator
import re

SIGNS = {"+": operator.add, "-": operator.sub, "×": operator.mul}


def reckoned(text: str) -> int:
    """The answer of a problem, word by word."""
    words = re.findall(r"\w+", text.partition("How many")[0])
    total = 0
    for place, word in enumerate(words):
        if not word.isdigit():
            continue
        number, before, behind = int(word), words[place - 1], words[place + 1 : place + 2]
        if before == "had":
            total = number
        elif before == "of" or behind == ["times"]:
            total *= number
        else:
            total += {"bought": 1, "found": 1, "lost": -1, "sold": -1, "gave": -1}[before] * number
    return total


SUM = re.compile(r"(\d+) ([+×-]) (\d+) = (\d+)\.")
BOXED = re.compile(r"\\boxed\{([^{}]*)\}$")


def slips(text: str) -> int:
    return sum(SIGNS[sign](int(left), int(right)) != int(result) for left, sign, right, result in SUM.findall(text))
