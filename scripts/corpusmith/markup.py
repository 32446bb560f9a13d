"""Markup that a translation has to carry over: tags, links, addresses, placeholders, entities, Markdown."""

from __future__ import annotations

from collections import Counter

import regex

_ADDRESS = r"(?:https?|ftp)://[!-~]+|\bwww\.[!-~]+"
_MAIL = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
_TAG = r"</?[A-Za-z][A-Za-z0-9-]*(?:\s[^<>]*)?/?>"
_PLACEHOLDER = r"\$?\{\{?\s*[A-Za-z0-9_.]*\s*\}?\}|(?<!\d)%(?:\d+\$|\([A-Za-z_]\w*\))?(?:\.\d+)?[sdifu@](?![A-Za-z])"
_ENTITY = r"&(?:[A-Za-z]+|#\d+|#x[0-9A-Fa-f]+);"
# What is no text of a language: addresses, tags, placeholders, entities.
MARKUP = regex.compile("|".join((_ADDRESS, _MAIL, _TAG, _PLACEHOLDER, _ENTITY)))
_MARKDOWN = regex.compile(
    r"(?P<link>\]\()|(?P<bold>\*\*|__(?=\S)|(?<=\S)__)|(?P<code>`+)"
    r"|(?P<heading>^[ \t]*#{1,6}(?=[ \t]))|(?P<item>^[ \t]*[-*+•](?=[ \t]+\S))"
    r"|(?P<number>^[ \t]*\d{1,3}[.)](?=[ \t]+\S))",
    regex.MULTILINE,
)


def markup(source: str, target: str) -> str | None:
    """Broken where tags, links, addresses, placeholders, entities or Markdown's marks differ in kind or count."""
    expected, found = _marks(source), _marks(target)
    if expected == found:
        return None
    missing, extra = expected - found, found - expected
    parts = [
        f"{word} {' '.join(sorted(marks.elements()))[:60]}"
        for word, marks in (("without", missing), ("with", extra))
        if marks
    ]
    return ", ".join(parts)


def _marks(text: str) -> Counter[str]:
    marks: Counter[str] = Counter()
    for match in MARKUP.finditer(text):
        # A sentence's full stop is no part of an address; attributes may be translated.
        mark = regex.match(r"</?[\w-]+", match[0])
        marks[mark[0].lower() + ">" if mark else match[0].rstrip(".,;:!?)\"'")] += 1
    for match in _MARKDOWN.finditer(MARKUP.sub("x", text)):
        mark = match[0].strip()
        marks[
            "list item" if match.lastgroup == "item" else "numbered item" if match.lastgroup == "number" else mark
        ] += 1
    return marks
