"""Telephone numbers in a text: international ones, and those of some regions as they are written there.

in:  "Call +82 2-312-3456.", no regions     out: Place(start=5, end=19, forms=("+82 2-312-3456", "+8223123456"))

phonenumbers, Google's library with the numbering plans of all countries, says what is a valid number. Texts about
numbers hold many that only look like one, so that of what it finds sums, differences, decimal fractions and long
numbers without any separator or leading zero are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import phonenumbers
from phonenumbers import Leniency, PhoneNumberFormat, PhoneNumberMatcher

from corpusmith.errors import InputError
from corpusmith.text_places import Place

# Between digits the library takes at most four signs of these: x, ー and, but for word characters, all that is not
# ASCII, and of ASCII the space and ()-./[]~.
_BETWEEN = r"(?:[xXー]|[^\w\x00-\x1f!-'*-,:-@\\^-`{|}\x7f]){0,4}"
# The shortest numbers have six digits with their country, those of regions are looked for from seven on. Without such
# a run there is no number, and asking the library takes a hundred times as long.
_INTERNATIONAL = re.compile(rf"[+＋]\D{{0,10}}\d(?:{_BETWEEN}\d){{5}}")
_STEP = r"[)\]]?[ \u00a0.\u2010-\u2015-]?[(\[]?"
_NATIONAL = re.compile(rf"(?<!\d)0(?:{_BETWEEN}\d){{6}}|\d(?:{_STEP}\d){{6}}")
_PLUS = ("+", "＋")
_OPERAND = re.compile(r"(?:[\d)\]}]|(?<![^\W\d_])[^\W\d_])\Z")
_ARITHMETIC = re.compile(r"\s*[=*×÷^]")
_DECIMAL = re.compile(r"\d+\.\d+")
# Of a number without a leading zero: digits in groups, not a difference, a product or a fraction.
_GROUPS = re.compile(rf"[(\[]?\d+(?:{_STEP}\d+)+")


class TelephoneNumbers:
    """Finds them. regions: codes of two letters, such as KR. Raises InputError where there is no such region."""

    def __init__(self, regions: Sequence[str] = ()) -> None:
        for region in regions:
            if region not in phonenumbers.SUPPORTED_REGIONS:
                known = ", ".join(sorted(phonenumbers.SUPPORTED_REGIONS))
                raise InputError(f"there is no region {region!r} with telephone numbers; allowed: {known}")
        self._regions = sorted(set(regions))

    def find(self, text: str) -> Iterator[Place]:
        """The numbers in a text, in order, each once."""
        found: dict[tuple[int, int], Place] = {}
        if any(plus in text for plus in _PLUS) and _INTERNATIONAL.search(text):
            for place in _matches(text, None, Leniency.VALID):
                if not _is_sum(text, place) and not _ARITHMETIC.match(text, place.end):
                    found[place[:2]] = place
        if self._regions and _NATIONAL.search(text):
            for region in self._regions:
                for place in _matches(text, region, Leniency.STRICT_GROUPING):
                    if _is_written_as_a_number_to_call(text, place):
                        found.setdefault(place[:2], place)
        return iter(sorted(found.values()))


def _matches(text: str, region: str | None, leniency: int) -> Iterator[Place]:
    # Its default gives up after 65,535 numbers that are none: a long text could hide one behind them.
    for match in PhoneNumberMatcher(text, region, leniency, max_tries=len(text)):
        canonical = phonenumbers.format_number(match.number, PhoneNumberFormat.E164)
        yield Place(match.start, match.end, (match.raw_string, canonical))


def _is_sum(text: str, place: Place) -> bool:
    """Whether the plus adds: as in 12+3456789012 or x + 3456789012, and not as in: call 2 +3456789012."""
    if not text.startswith(_PLUS, place.start):
        return False
    before = text[max(0, place.start - 8) : place.start]
    apart, then_apart = before != before.rstrip(), text[place.start + 1].isspace()
    return _OPERAND.search(before.rstrip()) is not None and (not apart or then_apart)


def _is_written_as_a_number_to_call(text: str, place: Place) -> bool:
    written = place.forms[0]
    if written.lstrip("([").startswith(_PLUS):
        # The international ones have been looked at.
        return False
    decimals = place.start > 1 and text[place.start - 1] in ".," and text[place.start - 2].isdigit()
    if decimals or not _NATIONAL.search(text, place.start, place.end) or _DECIMAL.fullmatch(written):
        return False
    if _ARITHMETIC.match(text, place.end):
        return False
    return written.lstrip("([").startswith("0") or (not written.isdigit() and _GROUPS.fullmatch(written) is not None)
