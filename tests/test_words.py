"""Words of a text: what makes no difference, and what does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.words import fold, numbers, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How MANY  apples?", "how many apples"),
        ("Janet’s ducks – all", "Janet's ducks, all"),
        ("1,000 ducks", "1000 ducks"),
        ("12{,}345,678.50", "12345678.50"),
        ("３ apples", "3 apples"),
        ("$x^{2} - 5x + 6 = 0$", "x^2-5x+6=0"),
        ("x² + 1", "x^2+1"),
        ("½ cup", "1/2 cup"),
        ("a 120-page book", "a 120 page book"),
        ("and/or", "and or"),
        ("2 * 3", "2 × 3"),
        ("STRASSE", "straße"),
        ("e\u0301te\u0301", "été"),
    ],
)
def test_two_spellings_of_one_text_have_the_same_words(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 apples", "5 apples"),
        ("3.5 kg", "35 kg"),
        ("3.5 kg", "3 5 kg"),
        (".5 kg", "5 kg"),
        ("1/2 cup", "12 cups"),
        ("1/2", "2/1"),
        ("10²", "102"),
        ("3½", "31/2"),
        ("x^2 - 5x + 6", "x^2 + 5x - 6"),
        ("x < 3", "x > 3"),
        ("-3 degrees", "3 degrees"),
        ("2 + 3", "2 × 3"),
        ("6 / x", "6 x"),
        ("1,000", "1,0000"),
    ],
)
def test_texts_that_differ_in_numbers_or_signs_have_different_words(one: str, other: str) -> None:
    assert words(one) != words(other)
    assert fold(one) != fold(other)


def test_a_number_is_one_word_and_a_sign_belongs_to_the_word_behind_it() -> None:
    text = "Janet’s 1,000 DUCKS laid 3.5 eggs: x² - 5x + 6 = 1/2?"
    expected = ["janet", "s", "1000", "ducks", "laid", "3.5", "eggs", "x", "^2", "−5", "x", "+6", "=1/2"]
    assert words(text) == expected
    assert numbers(expected) == ("1000", "3.5", "^2", "−5", "+6", "=1/2")


def test_characters_are_words_in_scripts_without_spaces_and_only_there() -> None:
    assert words("他买了３个苹果。") == ["他", "买", "了", "3", "个", "苹", "果"]
    assert words("ไทย") == ["ไ", "ท", "ย"]
    assert words("소라는 사과 12개를 샀다.") == ["소라는", "사과", "12", "개를", "샀다"]
    assert words("GDP是3%") == ["gdp", "是", "3"]
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]


def test_names_of_numbers_count_as_numbers() -> None:
    assert numbers(words("She eats three of twenty-one eggs, someone else half.")) == ("three", "twenty", "one", "half")
    assert numbers(words("他买了三个苹果")) == ("三",)
    assert numbers(words("no number at all")) == ()


@pytest.mark.parametrize("text", ["", "  ", "?!…", "🙂", "\0"])
def test_a_text_without_letters_and_digits_has_no_words(text: str) -> None:
    assert words(text) == []


@given(st.text())
def test_any_text_has_words_without_spaces_in_them_that_fold_to_themselves(text: str) -> None:
    found = words(text)
    assert all(word and not any(character.isspace() for character in word) for word in found)
    assert fold(fold(text)) == fold(text)


@given(st.text(alphabet="aB 3.,-/+=^x$²½éß中"), st.sampled_from([" ", "\n", "\t  "]))
def test_white_space_around_and_between_makes_no_difference(text: str, space: str) -> None:
    assert words(space + text.replace(" ", space) + space) == words(text)
