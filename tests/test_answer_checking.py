"""Pairs of answers with the verdict that a careful person gives: sure ones right or wrong, all else undecided."""

from __future__ import annotations

import pytest

from corpusmith.answer_checking import MOST_CHARACTERS, check_texts, check_values

PAIRS = r"""
\frac{1}{2}          | \dfrac12             | right same_value
\frac{1}{2}          | \dfrac{1}{2}         | right same_text
\frac{1}{2}          | 0.5                  | right same_value
1/2                  | 2                    | wrong different_value
-5                   | −5                   | right same_text
007                  | 7                    | right same_value
1,234                | 1234                 | right same_value
1{,}234              | 1\,234               | right same_text
12 345               | 12345                | right same_text
10,000.50            | 10000.5              | right same_value
1 234                | 235                  | wrong different_value
(1,234)              | 1234                 | undecided unreadable
5, 10,000            | 0, 5, 10             | undecided unreadable
18                   | 18.1                 | wrong different_value
201.9                | 201.89999999999998   | right same_value
3.14                 | \pi                  | undecided unsure
0.33                 | 1/3                  | undecided unsure
8.3                  | 8.5                  | wrong different_value
\sqrt{8}             | 2\sqrt2              | right same_value
\sqrt{8}             | 3\sqrt2              | wrong different_value
10^{50}              | 10^{50}+1            | wrong different_value
\log_2 8             | 3                    | right same_value
\infty               | -\infty              | wrong different_value
\frac{3}{0}          | 5                    | undecided unreadable
x^2+1                | 1+x^2                | right same_value
x^2+1                | x^2-1                | undecided unsure
x=5                  | 5                    | right same_value
5                    | x = 5                | right same_value
x=5                  | x=6                  | wrong different_value
3+4i                 | 4i+3                 | right same_value
(1,2)                | (1, 2)               | right same_text
(1,2)                | (1,3)                | wrong different_value
(1,2)                | (2,1)                | undecided unsure
(1,2)                | \{1,2\}              | undecided unsure
\{1,2\}              | 2, 1                 | right same_value
\{1,2\}              | \{1,3\}              | wrong different_value
\{1,2\}              | \{1,2,3\}            | wrong different_value
[1,2]                | (1,2)                | undecided unsure
[1,2)\cup(3,\infty)  | (3,\infty)\cup[1,2)  | right same_value
[1,2)\cup(3,\infty)  | (4,\infty)\cup[1,2)  | wrong different_value
5 \text{ and } 6     | 5, 6                 | right same_value
\pm 3                | 3                    | undecided unsure
50\%                 | 0.5                  | right same_value
50                   | 50%                  | right same_value
50\%                 | 0.4                  | wrong different_value
18                   | 18 dollars           | right same_value
18                   | 19 dollars           | undecided unsure
5\text{ cm}          | 5 cm                 | right same_text
5 cm                 | 7 cm                 | wrong different_value
5 cm                 | 5                    | right same_value
5 cm                 | 50 mm                | undecided unreadable
5                    | 5 m                  | undecided unsure
5                    | 5 dozen              | undecided unsure
2c                   | 2                    | undecided unsure
90^\circ             | 90                   | right same_value
90^\circ             | \frac{\pi}{2}        | undecided unsure
\sin 30              | \frac{1}{2}          | undecided unsure
Monday               | \text{monday}        | right same_text
Monday               | Tuesday              | undecided unreadable
yes                  | no                   | undecided unreadable
B                    | \textbf{(B)}         | right same_text
B                    | C                    | wrong different_value
B                    | (B) 12               | undecided unreadable
2(3)                 | 5                    | undecided unreadable
2{3}                 | 5                    | undecided unreadable
2 1/2                | 3/2                  | undecided unreadable
123_7                | 123_8                | undecided unreadable
1e5                  | 100000               | undecided unreadable
2^3^2                | 64                   | undecided unreadable
5}                   | 5                    | undecided unreadable
"""


def verdict(known: str, answer: str) -> str:
    return " ".join(check_texts(known, answer) or check_values(known, answer))


@pytest.mark.parametrize(
    ("known", "answer", "expected"), [[part.strip() for part in line.split("|")] for line in PAIRS.strip().splitlines()]
)
def test_pairs_with_their_verdicts(known: str, answer: str, expected: str) -> None:
    assert verdict(known, answer) == expected


def test_bytes_that_are_no_text_make_no_other_number() -> None:
    assert verdict("42", "4\x002") == "undecided unreadable"
    assert verdict("4\x002", "42") == "undecided unreadable"
    assert verdict("4\x002", "4\x002") == "right same_text"


def test_an_empty_answer_settles_nothing() -> None:
    assert verdict("", "") == "undecided unreadable"
    assert verdict("5", r"\text{ }") == "undecided unreadable"


def test_long_answers_are_compared_as_texts_alone() -> None:
    long = "1+" * MOST_CHARACTERS + "1"
    assert verdict(long, long) == "right same_text"
    assert verdict(long, str(MOST_CHARACTERS + 1)) == "undecided too_long"
    assert verdict("1", "(" * 100_000) == "undecided too_long"
