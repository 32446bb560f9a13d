r"""Answers found in solutions: which box counts, what is around an answer, and how long the search takes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.answers import AnswerFormat, answer_format, clean, last_boxed
from corpusmith.errors import InputError

# Text without boxes in which braces balance, escaped ones do not count, and commands stand.
_WORDS = st.sampled_from(["x", "1", " ", "\n", r"\{", r"\}", r"\frac", r"\\", "boxed", "$", "한", r"\boxing", "\x00"])
_BALANCED = st.recursive(
    st.lists(_WORDS, max_size=4).map("".join),
    lambda inner: st.lists(inner | inner.map(lambda text: "{" + text + "}"), max_size=4).map("".join),
    max_leaves=8,
)
_BOX = st.sampled_from([r"\boxed{", r"\fbox{", "\\boxed {"])


@given(_BALANCED, _BOX, _BALANCED, _BOX, _BALANCED, _BALANCED)
def test_the_last_box_is_found_whole_whatever_stands_around_it(
    before: str, first: str, passed: str, second: str, inside: str, after: str
) -> None:
    text = f"{before} {first}{passed}}} {second}{inside}}} {after}"
    assert last_boxed(text) == inside


@given(_BALANCED, _BOX, _BALANCED, _BOX, _BALANCED)
def test_of_nested_boxes_the_outer_one_is_found(before: str, outer: str, left: str, inner: str, inside: str) -> None:
    content = f"{left} {inner}{inside}}} {left}"
    assert last_boxed(f"{before} {outer}{content}}}.") == content


@given(_BALANCED, _BOX, _BALANCED, _BOX, _BALANCED)
def test_a_box_that_is_never_closed_gives_way_to_the_one_before(
    before: str, first: str, inside: str, second: str, rest: str
) -> None:
    assert last_boxed(f"{before} {first}{inside}}} {second}{rest}") == inside


@given(st.text(alphabet="\\{}bx ", max_size=40))
def test_any_text_is_searched_without_failing(text: str) -> None:
    assert last_boxed(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{18}.", "18"),
        (r"\boxed{\frac{1}{2}} or so", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\{1}", r"\{1"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{x = \boxed{5}}", r"x = \boxed{5}"),
        (r"\boxed{ $ 18 $ . }", "18"),
        (r"\boxed{\$18}", "18"),
        (r"first \boxed{3}, then \boxed{ }", None),
        (r"\boxed 5", None),
        (r"\boxed{5", None),
        (r"\\boxed{5}", None),
        ("the answer is 5", None),
        ("", None),
    ],
)
def test_answers_in_boxes(text: str, answer: str | None) -> None:
    assert AnswerFormat().find(text) == answer


@pytest.mark.parametrize(
    ("pattern", "text", "answer"),
    [
        ("^A:(.*)$", "A: 3\nno\nA: $18.\n", "18"),
        ("^A:(.*)$", "so A: 3", None),
        (r"answer is (?:now )?(\d+)", "answer is 3, answer is now 4", "4"),
        (r"\d+$", "3 and 4\nthen 5", "5"),
        ("(a)|b", "a b", None),
        ("A:(.*)", "A: ", None),
    ],
)
def test_answers_by_pattern_are_the_last_match(pattern: str, text: str, answer: str | None) -> None:
    assert answer_format("pattern", pattern).find(text) == answer


@pytest.mark.parametrize(
    ("given_text", "cleaned"),
    [
        (" $x$ ", "x"),
        ("$$x$$", "x"),
        (r"\(x\)", "x"),
        (r"\[x\].", "x"),
        ("$1$ and $2$", "1$ and $2$"),
        ("1, 2, ...", "1, 2, ..."),
        ("5$", "5$"),
        ("$", ""),
        ("3.5.", "3.5"),
    ],
)
def test_what_stands_around_an_answer_goes(given_text: str, cleaned: str) -> None:
    assert clean(given_text) == cleaned


@given(st.text(alphabet="$\\.()[] x{}boxed", max_size=30))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    "unit", ["{", "}", "\\boxed{", "\\boxed", "\\boxed ", "\\", "\\boxed{}", "$", ".", "\\boxed{\\fbox{"]
)
def test_a_hundred_thousand_characters_take_no_longer_than_they_should(unit: str) -> None:
    text = r"\boxed{1} " + unit * (100_000 // len(unit))
    start = time.monotonic()
    AnswerFormat().find(text)
    # A search that goes back for each brace takes minutes.
    assert time.monotonic() - start < 20


def test_flags_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InputError, match="needs --pattern"):
        answer_format("pattern", None)
    with pytest.raises(InputError, match="leave it out"):
        answer_format("boxed", "A:(.*)")
    with pytest.raises(InputError, match="no regular expression"):
        answer_format("pattern", "A:(.*")
