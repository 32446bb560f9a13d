"""Korean and Han numerals: what is written is found, and nothing else."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.numerals import han_numbers, korean_numbers, native_korean, occurs, reading_value, sino_korean

NUMBERS = st.one_of(st.integers(1, 200), st.integers(1, 10**5), st.integers(1, 10**9))


@pytest.mark.parametrize(
    ("number", "reading"),
    [
        (0, "영"),
        (10, "십"),
        (11, "십일"),
        (110, "백십"),
        (342, "삼백사십이"),
        (10_000, "만"),
        (21_000, "이만천"),
        (110_000, "십일만"),
        (100_000_000, "일억"),
        (100_010_000, "일억일만"),
        (3_000_000, "삼백만"),
    ],
)
def test_sino_korean(number: int, reading: str) -> None:
    assert sino_korean(number) == reading
    assert reading_value(reading) == number


@given(st.integers(0, 10**16 - 1))
def test_a_reading_is_read_back(number: int) -> None:
    assert reading_value(sino_korean(number)) == number


@pytest.mark.parametrize("number", [-1, 10**16])
def test_sino_korean_outside_its_range(number: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        sino_korean(number)


@given(NUMBERS, NUMBERS)
def test_a_number_in_hangul_is_found_and_no_other(number: int, other: int) -> None:
    text = f"약 {sino_korean(number)} 개"
    assert occurs(number, text)
    assert occurs(other, text) == (other == number)


@given(NUMBERS, NUMBERS)
def test_a_number_in_digits_is_found_and_no_other(number: int, other: int) -> None:
    for text in (f"약 {number:,}개", f"약 {number} 개가", f"총 {number:,}."):
        assert occurs(number, text)
        assert occurs(other, text) == (other == number)


@given(st.integers(1, 9999), st.integers(0, 9999), NUMBERS)
def test_a_mixed_number_is_found_and_no_other(upper: int, lower: int, other: int) -> None:
    number = upper * 10_000 + lower
    for text in (f"약 {upper}만 {lower or ''}", f"약 {upper:,}만{lower or ''}명"):
        assert occurs(number, text)
        assert occurs(other, text) == (other == number)


@given(st.integers(1, 99), st.integers(1, 99))
def test_a_native_number_is_found_and_no_other(number: int, other: int) -> None:
    text = f"모두 {native_korean(number)[0]} 명이 왔다"
    assert occurs(number, text)
    assert occurs(other, text) == (other == number)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3만 2천 명", [32_000]),
        ("1억 2천만 원", [120_000_000]),
        ("1억 4천 2백만 명", [142_000_000]),
        ("22 억 5 천만 명", [2_250_000_000]),
        ("2.5조 원", ["2.5e12"]),
        ("5백만", [5_000_000]),
        ("300만", [3_000_000]),
        ("20만 5,000명", [205_000]),
        ("342.5", ["342.5"]),
        ("2018.10.1", [2018, 10, 1]),
        ("오후 5시 30분", [5, 30]),
        ("의자 오 개를 샀다", [5]),
        ("이십이 개", [22]),
        ("삼만 이천 개", [32_000]),
        ("이십여 명", [20]),
        ("열두 시", [12]),
        ("열 다섯 마리", [15]),
        ("스무 살", [20]),
        ("두 번째", [2]),
        ("이공일팔년", [2018]),
        ("유월", [6]),
        # Words that hold the same syllables.
        ("오늘 이야기만 세었다", []),
        ("한국과 사과", []),
        ("수백 명", []),
        ("인천 백화점", []),
    ],
)
def test_numbers_of_a_korean_text(text: str, numbers: list[int | str]) -> None:
    assert korean_numbers(text) == [Decimal(number) for number in numbers]


def test_an_article_is_no_trillion() -> None:
    assert occurs(5, "제5조")
    assert not occurs(5, "5조 원")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3万2千人", [32_000]),
        ("3.5亿美元", ["3.5e8"]),
        ("三百五十万", [3_500_000]),
        ("一百零三", [103]),
        ("二〇一八年", [2018]),
        ("两个人和12只猫", [12, 2]),
        ("約1,234円", [1234]),
        ("星期六", [6]),
        ("没有", []),
    ],
)
def test_numbers_of_a_chinese_or_japanese_text(text: str, numbers: list[int | str]) -> None:
    assert han_numbers(text) == [Decimal(number) for number in numbers]
