"""Labels: what may be written, and what a pass rate says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corpusmith.errors import InputError
from corpusmith.labels import Band, Labels, parse_labels, parse_pass_rate, pass_rates


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        *[("0.25", 0.25), (" 0.25\n", 0.25), ("1", 1.0), ("0", 0.0), ("1.0", 1.0), (".5", 0.5), ("1.", 1.0)],
        *[("2.5e-1", 0.25), ("+0.5", 0.5), ("1E0", 1.0), ("-0", 0.0)],
        *[(None, None), ("n/a", None), ("N/A", None), (" n/A ", None), ("n / a", None)],
    ],
)
def test_a_pass_rate_is_a_number_or_not_available(text: str | None, rate: float | None) -> None:
    assert parse_pass_rate(text) == rate
    assert rate is None or math.copysign(1, parse_pass_rate(text) or 0.0) == 1


@pytest.mark.parametrize(
    "text",
    ["", " ", "abc", "nan", "NaN", "inf", "-inf", "1.7", "-0.1", "1.0000001", "0,25", "25%", "1_0", "0x1", "٠.٥", "½"]
    + ["None", "null", "na", "n/a n/a", "0.2 5", "1e400", "9" * 400],
)
def test_anything_else_is_no_pass_rate(text: str) -> None:
    with pytest.raises(ValueError, match="neither a number from 0 to 1 nor n/a"):
        parse_pass_rate(text)


@given(st.floats(0, 1), st.sampled_from(["", " ", "\t", "\n "]), st.sampled_from(["", " ", "\n"]))
def test_a_pass_rate_is_the_number_that_was_written(rate: float, before: str, behind: str) -> None:
    assert parse_pass_rate(f"{before}{rate!r}{behind}") == rate


@given(st.lists(st.one_of(st.none(), st.text(max_size=6), st.floats().map(repr), st.sampled_from(["n/a", "0.5"]))))
@example([None])
@example(["abc", "abc", "0.1", None, "n/a"])
def test_a_column_of_pass_rates_is_parsed_as_each_is_alone(texts: list[str | None]) -> None:
    rates, bad = pass_rates(pa.array(texts, pa.string()))
    assert len(rates) == len(bad) == len(texts)
    for text, rate, is_bad in zip(texts, rates.tolist(), bad.tolist(), strict=True):
        try:
            wanted = parse_pass_rate(text)
        except ValueError:
            assert is_bad
            assert np.isnan(rate)
        else:
            assert not is_bad
            assert np.isnan(rate) if wanted is None else rate == wanted


def test_labels_are_read_and_none_of_them_is_needed() -> None:
    assert parse_labels({}) == parse_labels({"pass_rate": None, "problem_type": None}) == Labels()
    assert Labels().columns == ()
    labels = parse_labels(
        {
            "pass_rate": {"at_least": 0, "at_most": 0.5, "not_available": "keep"},
            "problem_type": ["a", "b"],
            "inference_mode": ["cot"],
            "solution_tokens": {"at_least": None, "at_most": 100},
        }
    )
    assert (labels.pass_rate, labels.not_available) == (Band(0, 0.5), "keep")
    assert labels.listed == {"problem_type": {"a", "b"}, "inference_mode": {"cot"}}
    assert labels.solution_tokens == Band(None, 100)
    assert labels.columns == ("pass_rate", "problem_type", "inference_mode")


def test_without_a_word_about_them_rows_without_a_pass_rate_go_where_there_is_a_bound() -> None:
    assert parse_labels({"pass_rate": {"at_most": 0.1}}).not_available == "drop"
    assert parse_labels({"pass_rate": {}}).not_available == "keep"
    only = parse_labels({"pass_rate": {"not_available": "drop"}})
    assert (only.pass_rate.open, only.not_available, only.columns) == (True, "drop", ("pass_rate",))


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ([], "labels: "),
        ({"pas_rate": {}}, "labels: "),
        ({"pass_rate": 0.1}, "labels.pass_rate: "),
        ({"pass_rate": {"most": 0.1}}, "labels.pass_rate: "),
        ({"pass_rate": {"at_most": "0.1"}}, "labels.pass_rate: '0.1' is no bound"),
        ({"pass_rate": {"at_most": 25}}, "labels.pass_rate: 25 is no bound; write a number from 0 to 1"),
        ({"pass_rate": {"at_least": -0.1}}, "labels.pass_rate: -0.1"),
        ({"pass_rate": {"at_least": True}}, "labels.pass_rate: True"),
        ({"pass_rate": {"at_least": math.nan}}, "labels.pass_rate: nan"),
        ({"pass_rate": {"at_least": 0.5, "at_most": 0.25}}, "labels.pass_rate: at_least 0.5 is above at_most 0.25"),
        ({"pass_rate": {"not_available": "skip"}}, "labels.pass_rate.not_available: 'skip'"),
        ({"problem_type": "cot"}, "labels.problem_type: 'cot' is no list of texts"),
        ({"problem_source": []}, "labels.problem_source: "),
        ({"inference_mode": [1]}, "labels.inference_mode: "),
        ({"solution_tokens": {"at_most": 1.5}}, "labels.solution_tokens: 1.5 is no bound; write a whole number"),
        ({"solution_tokens": {"at_most": -1}}, "labels.solution_tokens: -1"),
    ],
)
def test_a_wrong_label_is_named(labels: Any, named: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_labels(labels)
    assert str(caught.value).startswith(named)
