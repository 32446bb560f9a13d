"""E-mail addresses in a text.

in:  "Write to mina@example.com, not to @mina."     out: Place(start=9, end=25, forms=("mina@example.com",))

Whatever stands around an @ is a candidate; email-validator decides by syntax alone, without asking any server.
Addresses whose domains cannot exist on the internet (.test, .local, …) are none.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex
from email_validator import EmailNotValidError, validate_email

from corpusmith.text_places import Place

# Of what may stand in a local part, what people use: the rest ends words in code and formulas.
_BEFORE = regex.compile(r"[\p{L}\p{M}\p{N}_.+%'-]+")
_DOMAIN = regex.compile(r"[\p{L}\p{M}\p{N}.\-。．｡]+")
# A particle that follows a name without a space, as in Korean: mina@example.com으로.
_GLUED = regex.compile(r"(?<=[.。．｡]\p{Latin}[\p{Latin}\p{M}-]+)[^\p{Latin}\p{M}\p{N}.\-。．｡].*$", regex.DOTALL)
# Pictures for denser screens: icon@2x.png.
_PICTURE = regex.compile(r"[1-9]x\.(?:png|jpe?g|gif|svg|webp)", regex.IGNORECASE)
# What a call of a method does not end with: in q@k.transpose(0, 1) the sign multiplies.
_NO_METHODS = frozenset({"com", "net", "org", "edu", "gov", "mil", "int", "info", "biz"})
_DOTS = str.maketrans("。．｡", "...")
_LONGEST_LOCAL, _LONGEST_DOMAIN = 64, 255


def find_addresses(text: str) -> Iterator[Place]:
    """The addresses in a text, in order. Raises nothing."""
    at = text.find("@")
    while at >= 0:
        place = _address(text, at)
        if place is not None:
            yield place
        at = text.find("@", at + 1 if place is None else place.end)


def _address(text: str, at: int) -> Place | None:
    """The address around the sign at a place."""
    before = _BEFORE.match(text[max(0, at - _LONGEST_LOCAL) : at][::-1])
    after = _DOMAIN.match(text, at + 1, at + 1 + _LONGEST_DOMAIN)
    if before is None or after is None or "." not in (domain := _GLUED.sub("", after[0])).translate(_DOTS):
        return None
    # Behind an ellipsis a new word begins.
    local = before[0][::-1].rpartition("..")[2].lstrip(".'-%+")
    start = at - len(local)
    if _in_address_of_page(text, start) or (local == "git" and text[at + 1 + len(domain) :][:1] == ":"):
        return None
    domain = domain.rstrip(".-。．｡")
    while "." in domain.translate(_DOTS):
        end = at + 1 + len(domain)
        if _is_address(local, domain) and not _is_call(domain, text[end : end + 1]):
            return Place(start, end, (text[start:end],))
        domain = domain[: max(domain.rfind(dot) for dot in ".。．｡")].rstrip(".-。．｡")
    return None


def _is_address(local: str, domain: str) -> bool:
    labels = domain.translate(_DOTS).split(".")
    # No top-level domain has one letter: X@W.T is a product.
    if len(labels[-1]) < 2 or _PICTURE.fullmatch(domain):
        return False
    try:
        validate_email(f"{local}@{domain}", check_deliverability=False)
    except EmailNotValidError:
        return False
    return True


def _is_call(domain: str, following: str) -> bool:
    last = domain.translate(_DOTS).rpartition(".")[2].lower()
    return following in ("(", "[") and len(last) > 2 and last not in _NO_METHODS


def _in_address_of_page(text: str, start: int) -> bool:
    """Whether a user of a server is named, as in https://mina:password@example.com: a matter of passwords."""
    before = text[max(0, start - 2 * _LONGEST_LOCAL) : start]
    _, separator, user = before.rpartition("://")
    return bool(separator) and regex.fullmatch(r"[^\s/@?#]*", user) is not None
