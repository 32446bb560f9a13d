"""Where something stands in a text."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A part of a text: characters from 0, the end excluded. forms: the part, and other ways to write it."""

    start: int
    end: int
    forms: tuple[str, ...]
