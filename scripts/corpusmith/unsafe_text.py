"""What should not be released: e-mail addresses, telephone numbers, keys and tokens in texts.

in:  "Ask mina@example.com."     out: Finding(kind="email", what="e-mail address", start=4, end=20)

A finding says what there is and where, never the address or the key itself, so that it may be written into tables and
logs. It is no proof of the contrary that nothing is found: see docs/safety.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from corpusmith.email_addresses import find_addresses
from corpusmith.secret_tokens import SecretTokens
from corpusmith.telephone_numbers import TelephoneNumbers
from corpusmith.text_places import Place

EMAIL, PHONE_NUMBER, SECRET = KINDS = ("email", "phone_number", "secret")


@dataclass(frozen=True)
class Finding:
    """One thing in a text. kind: of KINDS; what: in words; start, end: characters from 0, the end excluded."""

    kind: str
    what: str
    start: int
    end: int


class UnsafeText:
    """Finds what should not be released.

    kinds: what is looked for, of KINDS; regions: whose telephone numbers are known as they are written there, beside
    international ones; allow: patterns of names of files, such as *@example.com, for what is no objection. Upper and
    lower case are the same to them; a telephone number is held against them as it is written and as +82…

    Raises InputError where there is no such region.
    """

    def __init__(self, kinds: Iterable[str] = KINDS, regions: Sequence[str] = (), allow: Sequence[str] = ()) -> None:
        self._kinds = frozenset(kinds)
        if not self._kinds <= set(KINDS):
            raise ValueError(f"kinds are {', '.join(KINDS)}; not {', '.join(sorted(self._kinds - set(KINDS)))}")
        self._numbers = TelephoneNumbers(regions)
        self._secrets = SecretTokens()
        self._allow = [pattern.casefold() for pattern in allow]

    def find(self, text: str | None) -> list[Finding]:
        """What is in a text, by kind and in order of place; nothing in no text."""
        return [
            Finding(kind, what, place.start, place.end)
            for kind, what, place in (self._places(text) if text else ())
            if not self._allowed(place)
        ]

    def _places(self, text: str) -> Iterator[tuple[str, str, Place]]:
        if EMAIL in self._kinds:
            for place in find_addresses(text):
                yield EMAIL, "e-mail address", place
        if PHONE_NUMBER in self._kinds:
            for place in self._numbers.find(text):
                yield PHONE_NUMBER, "telephone number", place
        if SECRET in self._kinds:
            for what, place in self._secrets.find(text):
                yield SECRET, what, place

    def _allowed(self, place: Place) -> bool:
        return any(fnmatchcase(form.casefold(), pattern) for form in place.forms for pattern in self._allow)
