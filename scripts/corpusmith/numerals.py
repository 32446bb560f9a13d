"""Korean numerals: how a whole number is written in Hangul, and where it occurs in a text."""

from __future__ import annotations

import re

DIGITS = "영일이삼사오육칠팔구"
SMALL_UNITS = ("", "십", "백", "천")
LARGE_UNITS = ("", "만", "억", "조")
LIMIT = 10 ** (4 * len(LARGE_UNITS))

_NATIVE_ONES = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
_NATIVE_ONES_ALONE = ("", "하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉")
_NATIVE_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")

_NUMERAL_CHARACTERS = DIGITS + "공십백천만억조"
# Characters that are numerals but also end a word as a particle or a counter: 이 (subject),
# 만 (only), 일 (day), 조 (group).
_ALSO_PARTICLES = "이만일조"


def sino_korean(number: int) -> str:
    """The Sino-Korean reading of a whole number, as 삼백사십이 for 342.

    Raises ValueError outside 0 <= number < 10**16.
    """
    if not 0 <= number < LIMIT:
        raise ValueError(f"{number} is outside 0 to {LIMIT - 1}")
    if number == 0:
        return DIGITS[0]
    groups = []
    for unit in LARGE_UNITS:
        number, group = divmod(number, 10_000)
        if group:
            # 10,000 is 만, not 일만; 100,000,000 keeps its 일.
            reading = "" if group == 1 and unit == "만" and number == 0 else _four_digits(group)
            groups.append(reading + unit)
    return "".join(reversed(groups))


def _four_digits(number: int) -> str:
    reading = ""
    for place in (3, 2, 1, 0):
        digit = number // 10**place % 10
        if digit == 0:
            continue
        if digit == 1 and place > 0:
            reading += SMALL_UNITS[place]
        else:
            reading += DIGITS[digit] + SMALL_UNITS[place]
    return reading


def native_korean(number: int) -> tuple[str, ...]:
    """The native readings of 1 to 99, before a counter and alone: 3 is 세 and 셋; else none."""
    if not 1 <= number <= 99:
        return ()
    tens, ones = divmod(number, 10)
    if number == 20:
        return ("스무", "스물")
    return tuple(dict.fromkeys((_NATIVE_TENS[tens] + _NATIVE_ONES[ones], _NATIVE_TENS[tens] + _NATIVE_ONES_ALONE[ones])))


def mixed_forms(number: int) -> tuple[str, ...]:
    """Digits with Hangul units, as newspapers write: 3만 2천, 3만2000, 12만; without spaces."""
    forms = []
    if number >= 10_000:
        parts, rest = [], number
        for unit in LARGE_UNITS:
            rest, group = divmod(rest, 10_000)
            if group:
                parts.append(f"{group}{unit}")
        forms.append("".join(reversed(parts)))
    if number >= 1_000 and number % 1_000 == 0 and number < 10_000:
        forms.append(f"{number // 1_000}천")
    if number >= 10_000 and number % 1_000 == 0 and number % 10_000 != 0:
        upper, lower = divmod(number, 10_000)
        if upper < 10_000:
            forms.append(f"{upper}만{lower // 1_000}천")
    if 100 <= number < 1_000 and number % 100 == 0:
        forms.append(f"{number // 100}백")
    return tuple(forms)


def occurs(number: int, text: str) -> bool:
    """Whether the whole number stands in a Korean text, in digits, in Hangul, or in both mixed."""
    digits = re.sub(r"(?<=\d)[,\u00a0\u202f ](?=\d{3}(?!\d))", "", text)
    if re.search(rf"(?<![\d.]){number}(?!\d)", digits):
        return True
    tight = re.sub(r"(?<=[\d만천백억조])\s+(?=[\d일이삼사오육칠팔구십백천만])", "", digits)
    for form in mixed_forms(number):
        if re.search(rf"(?<!\d){form}(?![\d천백])", tight):
            return True
    if number < LIMIT:
        reading = sino_korean(number)
        ends = rf"(?![{_NUMERAL_CHARACTERS}])|(?=[{_ALSO_PARTICLES}](?![{_NUMERAL_CHARACTERS}]))"
        # A single Hangul digit is too common a syllable to count inside a word.
        starts = rf"(?<![{_NUMERAL_CHARACTERS}])" if number >= 10 else r"(?<![가-힣])"
        for candidate in (text, tight):
            if re.search(f"{starts}{reading}(?:{ends})", candidate):
                return True
    return any(re.search(rf"(?<![가-힣]){form}(?![가-힣]*[둘셋넷])", text) for form in native_korean(number))
