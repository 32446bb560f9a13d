r"""Whether an answer is the known one: by its text, and where that does not settle it by its value.

    known        answer          verdict     reason
    \frac{1}{2}  \dfrac{1}{2}    right       same_text
    \frac{1}{2}  0.5             right       same_value
    1/2          2               wrong       different_value
    Monday       on a Monday     undecided   unreadable
    x^2+1        x^2-1           undecided   unsure

Wrong is said only where it is sure: both are closed values (numbers; sets, tuples, intervals or matrices of them;
choices from A to J) written in signs that math-verify is known to read as people do, and they differ by more than
rounding. All else is left to a judge.

`check_texts` is cheap. `check_values` can take any time and memory, so it runs in processes that can be ended; it is
not symmetric (math-verify is not): the known answer comes first.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

RIGHT = "right"
WRONG = "wrong"
UNDECIDED = "undecided"

# Longer answers are compared as texts alone: no final answer needs as much.
MOST_CHARACTERS = 1000


class Outcome(NamedTuple):
    """A verdict, and what decided or why nothing did."""

    verdict: str
    reason: str


SAME_TEXT = Outcome(RIGHT, "same_text")
SAME_VALUE = Outcome(RIGHT, "same_value")
DIFFERENT_VALUE = Outcome(WRONG, "different_value")
UNREADABLE = Outcome(UNDECIDED, "unreadable")
UNSURE = Outcome(UNDECIDED, "unsure")
TOO_LONG = Outcome(UNDECIDED, "too_long")

_SIGNS = str.maketrans({"−": "-", "–": "-", "×": "\\times ", "·": "\\cdot ", "÷": "/", "π": "\\pi ", "∞": "\\infty "})
_LEFT_OUT = re.compile(r"\\(?:left|right|displaystyle|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])|\\[!;:]|(?<!\\)\\\$|\$")
_WIDE_SPACE = re.compile(r"~|\\,|\\ |\\quad(?![A-Za-z])")
_BASE = re.compile(r"\\log_\s*(\w)")
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
# The comma or space of 12,345 and 12\,345, in braces or not, but not that of (1, 234).
_THOUSANDS = re.compile(r"(?<![\d.,(\[{])(-?\d{1,3})((?:(?:\{,\}|\s)\d{3})+)(?![\d,)\]])")
_GROUP_SIGNS = re.compile(r"\{,\}|\s")
_IDLE_SPACE = re.compile(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mbox)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]{2}[^\d_^\\{}]*")
_CHOICE = re.compile(r"\(?([A-J])\)?")
_INTEGER = re.compile(r"[+-]?(?:\d+|[1-9]\d{0,2}(?:,\d{3})+)")


def _tidy(answer: str) -> str:
    """The answer without what LaTeX only sets it with."""
    text = _LEFT_OUT.sub("", answer.translate(_SIGNS))
    text = _FRACTION.sub(r"\\frac", _WIDE_SPACE.sub(" ", text))
    text = _BASE.sub(r"\\log_{\1}", text)
    text = _THOUSANDS.sub(lambda match: match[1] + _GROUP_SIGNS.sub("", match[2]), text)
    return " ".join(text.split())


def _plain(answer: str) -> str:
    """What texts are compared by: words without fonts and in lower case, no spaces that say nothing."""
    text = _IDLE_SPACE.sub("", _TEXT_COMMAND.sub(r"\1", _tidy(answer))).strip()
    return text.casefold() if _WORDS.fullmatch(text) else text


def check_texts(known: str, answer: str) -> Outcome | None:
    """What can be said without a parser: the same text, two integers, two choices; None where nothing can."""
    if len(known) > MOST_CHARACTERS or len(answer) > MOST_CHARACTERS:
        return SAME_TEXT if known == answer else TOO_LONG
    first, second = _plain(known), _plain(answer)
    if not first or not second:
        return UNREADABLE
    if first == second:
        return SAME_TEXT
    if _INTEGER.fullmatch(first) and _INTEGER.fullmatch(second):
        same = int(first.replace(",", "")) == int(second.replace(",", ""))
        return SAME_VALUE if same else DIFFERENT_VALUE
    choices = _CHOICE.fullmatch(first), _CHOICE.fullmatch(second)
    if choices[0] and choices[1]:
        return SAME_TEXT if choices[0][1] == choices[1][1] else DIFFERENT_VALUE
    return None


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# What math-verify reads as another value than people do; what follows says as which.
_MISREAD = re.compile(
    "|".join(
        (
            r"\d\s+\d",  # 2 1/2: 3/2
            r"[\d)\]]\s*\((?:[\d\s./*+-]|\\frac\{\d+\}\{\d+\})*\)",  # 2(3): 5
            r"(?<!\d)(?<!frac)\d+\s*\{",  # 2{3}: 5
            r"(?<![A-Za-z}\]^_])\{\d+\}\s*\{",  # {2}{3}: 5
            r"\)\s*\d",
            r"\d\s*_",  # 123_7: 123
            r"\d[eE][+-]?\d",  # 1e5: 5e
            r"\.\d+\.",  # 1.5.2: 1.5 times 0.2
            r"\^\s*[^\s{]\s*\^",  # 2^3^2: 64
            r"\\l?dots|\.\.\.",  # 1,2,\ldots: 1 and 2
        )
    )
)
# As 10,000 in 5, 10,000, which it reads as three numbers; alone it reads it as one.
_COMMA_OF_THOUSANDS = re.compile(r"\d,\d{3}(?!\d)")
_NUMBER_ALONE = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?\s*(?:\\?%)?")
# What may follow a value: 5\text{ cm}^2, 5 apples; not what makes it another, as in 5 dozen.
_UNIT = re.compile(
    r"(?<=[\d}])(?:\s*\\text\s*\{\s*([^{}\d]+?)\s*\}|\s+([A-Za-z]{2,}(?:\s[A-Za-z]{2,})*))(\^\{?\d\}?)?$"
)
_NO_UNIT = re.compile(
    r"(?i)\b(?:hundreds?|thousands?|millions?|billions?|trillions?|dozens?|pairs?|halves|half|percent(?:age)?|pct|or|and"
    r"|times|mod|base|to|not|only|less|more|th|st|nd|rd)\b"
)
_FONT = re.compile(r"\\(?:textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mbox)\s*\{")
# Signs that closed values are written in; not sin 30, nor log 2, which may be meant in degrees, or to base e.
_VALUE = re.compile(
    r"(?:\\(?:frac|sqrt|pi|cdot|times|div|infty|cup|pm|emptyset|varnothing|log_|ln|[{}%])(?![A-Za-z])"
    r"|\\begin\{[pbv]?matrix\}|\\end\{[pbv]?matrix\}|\\\\|&|(?<![A-Za-z])e(?![A-Za-z])|[\d\s.,+*/^!()\[\]{}%|-])+"
)
_ASSIGNED = re.compile(r"([A-Za-z])\s*=\s*(?!=)")
_DECIMALS = re.compile(r"\.(\d+)")
_PERCENT = re.compile(r"%|\b[Pp]ercent|\bpct\b")


def _without_unit(text: str) -> tuple[str, str]:
    found = _UNIT.search(text)
    if found is None:
        return text, ""
    words = found[1] or found[2]
    if _NO_UNIT.search(words) or not any(letter.isalpha() for letter in words):
        return text, ""
    power = (found[3] or "").translate({ord(sign): None for sign in "^{}"})
    return text[: found.start()], " ".join(words.casefold().split()) + power


def _letters(text: str) -> set[str]:
    """The letters that stand for something: variables and words, not commands, not and/or between values."""
    bare = re.sub(r"\\[A-Za-z]+", " ", text)
    return set("".join(re.findall(r"[^\W\d_]", re.sub(r"\b(?:and|or)\b", " ", bare))).casefold())


def _misread(text: str) -> bool:
    """Whether math-verify would read another value than people do."""
    commas = _COMMA_OF_THOUSANDS.search(text) is not None and not _NUMBER_ALONE.fullmatch(text)
    unescaped = re.sub(r"\\.", "", text)
    return commas or unescaped.count("{") != unescaped.count("}") or _MISREAD.search(text) is not None


def check_values(known: str, answer: str) -> Outcome:
    """Compares two answers by value. Call it in a process that can be ended: nothing here limits time or memory."""
    # Its constant warning that limits are off would fill the log.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    from math_verify import verify

    if _CONTROL.search(known) or _CONTROL.search(answer):
        return UNREADABLE
    first, second = (_FONT.sub(r"\\text{", _tidy(text)) for text in (known, answer))
    (first, first_unit), (second, second_unit) = _without_unit(first), _without_unit(second)
    if first_unit and second_unit and first_unit != second_unit:
        return UNREADABLE
    if _misread(first) or _misread(second):
        return UNREADABLE
    letters = _letters(first), _letters(second)
    if letters[0] and letters[1] and letters[0] != letters[1]:
        # Units or variables of different names; math-verify leaves some of them out.
        return UNREADABLE
    parsed = _parsed(first), _parsed(second)
    if parsed[0] is None or parsed[1] is None:
        return UNREADABLE
    if {first[:1] == "(", second[:1] == "("} == {True, False} and "\\{" in (first[:2], second[:2]):
        # It takes a set for the tuple of its numbers.
        return UNSURE
    if verify(parsed[0], parsed[1], timeout_seconds=None, raise_on_error=True):
        return SAME_VALUE
    # Where only one of them has a unit, they may be in different ones.
    if first_unit == second_unit and _closed(first) and _closed(second) and _surely_differ(*parsed, first, second):
        return DIFFERENT_VALUE
    return UNSURE


def warm_up() -> None:
    """Loads the libraries and lets the parser build its tables, which take longer than most checks."""
    for known, answer in ((r"\frac{1}{2}", "0.25+x^2"), ("(1, 2)", r"\sqrt{3}")):
        check_values(known, answer)


def _parsed(text: str) -> Any:
    """The value of an answer as sympy has it, None where math-verify cannot read it."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from sympy import nan, zoo

    # Its own units would be left out of 5t and 2c, too, where they are variables.
    normalisation = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="last", equations=False
    )
    target = LatexExtractionConfig(boxed_match_priority=0, normalization_config=normalisation)
    found = parse(f"\\boxed{{{text}}}", [target], "no_fallback", parsing_timeout=None, raise_on_error=True)
    if not found or isinstance(found[0], str) or found[0] in (nan, zoo):
        return None
    return found[0]


def _closed(text: str) -> bool:
    return _VALUE.fullmatch(_ASSIGNED.sub("", text, count=1)) is not None


def _surely_differ(known: Any, answer: Any, known_text: str, answer_text: str) -> bool:
    """Whether two closed values differ by more than rounding, percent signs and the order of their parts explain."""
    (kind, known_parts), (answer_kind, answer_parts) = _shape(known), _shape(answer)
    numbers, others = _ordered(known_parts), _ordered(answer_parts)
    if kind != answer_kind or numbers is None or others is None:
        return False
    if len(numbers) != len(others):
        return True
    decimals = [len(digits) for text in (known_text, answer_text) for digits in _DECIMALS.findall(text)]
    # One of the last place: 0.33 may be meant for 1/3, and 3.14 for pi.
    tolerance = 10.0 ** -min(decimals) * 0.999 if decimals else 0.0
    percents = [1, 100] if _PERCENT.search(known_text) else [1], [1, 100] if _PERCENT.search(answer_text) else [1]
    return all(
        any(_apart(first * left, second * right, tolerance) for first, second in zip(numbers, others, strict=True))
        for left in percents[0]
        for right in percents[1]
    )


def _apart(first: Any, second: Any, tolerance: float) -> bool:
    if first.is_infinite or second.is_infinite:
        return bool(first != second)
    if first.is_Integer and second.is_Integer:
        return bool(first != second)
    return bool(abs(first - second) > max(tolerance, 1e-9 * max(abs(first), abs(second))))


def _ordered(parts: Iterable[Any]) -> list[Any] | None:
    """The numbers in order, integers exactly, others to 30 digits; None where one is no real number."""
    numbers = []
    for part in parts:
        if not getattr(part, "is_number", False) or part.free_symbols:
            return None
        number = part.doit()
        number = number if number.is_Integer or number.is_infinite else number.evalf(30)
        if not number.is_extended_real or (not number.is_comparable and not number.is_infinite):
            return None
        numbers.append(number)
    return sorted(numbers)


def _shape(value: Any) -> tuple[str, list[Any]]:
    """The kind of a value and its numbers: number, set, tuple, intervals, matrix."""
    from sympy import Eq, FiniteSet, Interval, MatrixBase, Symbol, Tuple, Union

    if isinstance(value, Eq) and isinstance(value.lhs, Symbol):
        value = value.rhs
    if isinstance(value, FiniteSet):
        return "set", list(value.args)
    if isinstance(value, Tuple):
        # Two numbers in brackets are an interval where the first is smaller, and a tuple elsewhere.
        return ("pair" if len(value) == 2 else "tuple"), list(value.args)
    if isinstance(value, Interval):
        return "pair", [value.start, value.end]
    if isinstance(value, Union) and all(isinstance(part, Interval) for part in value.args):
        return "union", [end for part in value.args for end in (part.start, part.end)]
    if isinstance(value, MatrixBase):
        return f"matrix {value.shape}", list(value)
    return "number", [value]
