"""Texts as words that can be compared: what two spellings of one text have in common, and numbers kept apart.

Case, white space, compatibility forms of characters and punctuation make no difference; numbers and the signs of
arithmetic do, as problems that differ in nothing else are different problems:

    words("Janet’s 1,000 DUCKS laid 3.5 eggs: x² - 5x + 6 = 0?")
    ["janet", "s", "1000", "ducks", "laid", "3.5", "eggs", "x", "^2", "−5", "x", "+6", "=0"]

A number is one word as it is spelled, but without marks between thousands: 3.5, 1/2 and 1000. A sign belongs to the
word behind it, so that formulas do not have more words than they have terms; a hyphen between words is no sign. In
scripts that are written without spaces (Han, kana, Thai, Lao, Khmer, Burmese) each character is a word. That is decided
by character, so that a text may mix both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import regex

# NFKC alone would make 102 of 10², and 31⁄2 of 3½.
_POWER = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹ⁿⁱ⁺⁻⁽⁾⁼]+")
_OTHER_NUMBER = regex.compile(r"\p{No}+")
_DASHES = str.maketrans({"–": "-", "‐": "-", "‑": "-", "⁄": "/", "∗": "*", "⋅": "*"})

_SIGNS = "+=<>^−×÷±√≤≥≠≈∑∏∫∈∉∪∩⊂⊆∧∨→"
_LETTER = r"[^\W\d_]"
# These are signs only before a number, a lone letter or a command of LaTeX; a/b and x - 5, but not and/or, 120-page.
_MAYBE_SIGN = re.compile(
    rf"[-*/](?<!{_LETTER}{{2}}[-*/])(?<!\d/(?=\d))(?!\s+[ai]\b)"
    rf"(?=[\s(\[{{$]*(?:\d|\.\d|\\|{_LETTER}(?!{_LETTER})))"
)
_SURE = {"-": "−", "*": "×", "/": "÷"}
_BEHIND_SIGN = re.compile(rf"([{_SIGNS}])[\s(\[{{$\\]+")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)")

_NUMBER = r"(?:\d+(?:\.\d+)?(?:/\d+(?:\.\d+)?)?|(?<![\w.])\.\d+)"
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_ASCII_WORD = re.compile(rf"[+=<>^−×÷]*(?:{_NUMBER}|[a-z]+)")
_WORD = regex.compile(
    rf"[{_SIGNS}]*(?:{_NUMBER}|[{_UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[\d{_UNSPACED}]]+)", regex.VERSION1
)

_NUMBER_LIKE = re.compile(rf"\d|[{_SIGNS}]")
_NUMBER_WORDS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion
    first second third fourth fifth sixth seventh eighth ninth tenth half quarter thirds quarters halves once twice
    thrice double triple quadruple dozen
"""
_HAN_NUMBERS = "〇零一二三四五六七八九十百千万萬亿億兆两兩半倍"
_NAMED = frozenset([*_NUMBER_WORDS.split(), *_HAN_NUMBERS])


def fold(text: str) -> str:
    """The text in Unicode's NFKC, case folded, each run of white space one space; powers and fractions set apart."""
    if text.isascii():
        return " ".join(text.lower().split())
    text = _POWER.sub(lambda match: f"^{match[0]}", text)
    text = _OTHER_NUMBER.sub(lambda match: f" {match[0]}", text)
    # Folding the case may take a text out of the form.
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.split())


def words(text: str) -> list[str]:
    """The words of a text, in order; none where it holds neither letters nor digits."""
    return words_of_folded(fold(text))


def words_of_folded(text: str) -> list[str]:
    """The words of what `fold` returned."""
    ascii_only = text.isascii()
    if not ascii_only:
        text = text.translate(_DASHES)
    if "," in text:
        text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text.replace("{,}", ","))
    text = _MAYBE_SIGN.sub(lambda match: _SURE[match[0]], text)
    text = _BEHIND_SIGN.sub(r"\1", text)
    found: list[str] = (_ASCII_WORD if ascii_only else _WORD).findall(text)
    return found


def numbers(tokens: Sequence[str]) -> tuple[str, ...]:
    """Those of the words that are numbers or formulas, in order: with digits, with a sign, or a number's name.

    Names of numbers are known in English and in Han characters.
    """
    return tuple(word for word in tokens if word in _NAMED or (not word.isalpha() and _NUMBER_LIKE.search(word)))
