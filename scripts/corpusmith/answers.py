r"""The final answer of a worked solution, found in its text.

in:  "... so he has $3 \cdot 6 = 18$ pears. \boxed{18}."    out: "18"
in:  "3 * 6 = 18\nA: 18"   with the pattern ^A:(.*)$        out: "18"
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from corpusmith.errors import InputError

BOXED = "boxed"
PATTERN = "pattern"

# An escaped brace is text, so a backslash takes the next character with it, unless it begins a box.
_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_WRAPPINGS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))


@dataclass(frozen=True)
class AnswerFormat:
    """How solutions say their answer: in a box, or as a regular expression finds it.

    pattern: None for boxes.
    """

    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.pattern is not None:
            try:
                re.compile(self.pattern, re.MULTILINE)
            except (re.error, OverflowError) as error:
                raise InputError(f"--pattern {self.pattern!r} is no regular expression of Python ({error})") from error

    def find(self, text: str) -> str | None:
        """The answer, cleaned; None where there is none, or an empty one.

        Boxes take time in proportion to the text. A pattern may take any time, so call this where it can be ended.
        """
        found = last_boxed(text) if self.pattern is None else _last_match(self.pattern, text)
        return (clean(found) or None) if found is not None else None


def answer_format(kind: str, pattern: str | None) -> AnswerFormat:
    """The format that --answer and --pattern ask for. Raises InputError where they do not go together."""
    if kind == PATTERN and not pattern:
        raise InputError(f"--answer {PATTERN} needs --pattern, such as '^A:(.*)$'")
    if kind != PATTERN and pattern is not None:
        raise InputError(f"--pattern is given, but --answer is {kind}; leave it out or say --answer {PATTERN}")
    return AnswerFormat(pattern)


def last_boxed(text: str) -> str | None:
    r"""What the last box with balanced braces holds, \boxed{...} or \fbox{...}; of nested boxes the outermost.

    A box that is never closed, as in a solution that is cut off, does not count; one before it does.
    """
    # Most texts that are passed over quickly hold no box at all.
    if "\\boxed" not in text and "\\fbox" not in text:
        return None
    open_braces: list[int | None] = []
    found = None
    for token in _TOKEN.finditer(text):
        kind = token.group()
        if kind == "{":
            open_braces.append(None)
        elif kind == "}":
            start = open_braces.pop() if open_braces else None
            if start is not None:
                # A box ends behind all those that ended before: it stands later, or around them.
                found = (start, token.start())
        elif kind[-1] == "{" and len(kind) > 2:
            open_braces.append(token.end())
    return text[found[0] : found[1]] if found is not None else None


def _last_match(pattern: str, text: str) -> str | None:
    """Group 1 of the last match, or all of it where there is no group; ^ and $ are the ends of lines."""
    last = None
    # re keeps the compiled ones.
    for match in re.finditer(pattern, text, re.MULTILINE):
        last = match
    if last is None:
        return None
    return last.group(1) if last.re.groups else last.group()


def clean(answer: str) -> str:
    r"""An answer without what stands around it: spaces, dollar signs, \( \), boxes, a full stop.

    The same again changes nothing.
    """
    while True:
        before = answer
        answer = answer.strip()
        if answer.endswith(".") and not answer.endswith(".."):
            answer = answer[:-1].rstrip()
        for start, end in _WRAPPINGS:
            if _wraps(answer, start, end):
                answer = answer.removeprefix(start).removesuffix(end)
                break
        answer = answer.removeprefix("\\$").removeprefix("$")
        answer = _unboxed(answer)
        if answer == before:
            return answer


def _wraps(answer: str, start: str, end: str) -> bool:
    """Whether the answer is one formula in such signs, not two of them with text between."""
    if not (answer.startswith(start) and answer.endswith(end) and len(answer) >= len(start) + len(end)):
        return False
    inside = answer[len(start) : len(answer) - len(end)]
    return start not in inside and end not in inside and not inside.endswith("\\")


def _unboxed(answer: str) -> str:
    if not answer.startswith(("\\boxed", "\\fbox")):
        return answer
    inside = last_boxed(answer)
    opening = _TOKEN.match(answer)
    whole = inside is not None and opening is not None and opening.group() + inside + "}" == answer
    return inside if inside is not None and whole else answer
