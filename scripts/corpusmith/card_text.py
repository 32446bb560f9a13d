"""Texts as they stand in Markdown: whatever is in them, nothing of it becomes a heading, a table or HTML.

inline("a|b")        -> `a\\|b`
fenced("```\\nx")     -> a block between four backticks
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

LONGEST = 500


def fenced(text: str, longest: int = LONGEST) -> str:
    """A text as a block of code, cut at so many characters; line breaks of every kind become newlines."""
    text = re.sub("\r\n?", "\n", text)
    cut = text if len(text) <= longest else text[:longest] + "…"
    fence = "`" * max(3, _longest_run(cut) + 1)
    return f"{fence}text\n{cut}\n{fence}"


def inline(value: Any) -> str:
    """A value as code within a line."""
    text = " ".join(str(value).split())
    if not text:
        return "–"
    marks = "`" * (_longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{marks}{pad}{text}{pad}{marks}"


def cell(value: Any) -> str:
    """A value as code in a cell of a table: there a bar ends the cell, in code too, unless it is escaped."""
    return inline(value).replace("|", "\\|")


def plain(text: str) -> str:
    """A text within a line: what Markdown or HTML would take for a mark is escaped."""
    return re.sub(r"([\\`*_\[\]<>|#&~!$])", r"\\\1", " ".join(text.split()))


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def settings(
    entry: Mapping[str, Any], sections: tuple[str, ...], left_out: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Name and value of the settings of some sections, those that say nothing or are in left_out passed over.

    A section such as sources.labels is one of a section's own.
    """
    for section in sections:
        found: Any = entry
        for key in section.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        yield from _flat(section, found, left_out)


def _flat(name: str, value: Any, left_out: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in left_out:
                yield from _flat(f"{name}.{key}", inner, left_out)
    elif isinstance(value, bool):
        yield name, "on" if value else "off"
    elif isinstance(value, (list, tuple)):
        if value:
            yield name, ", ".join(map(cell, value))
    elif value is not None:
        yield name, cell(value)
