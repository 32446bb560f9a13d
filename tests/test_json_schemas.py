"""Types of JSON: what goes together and what does not, and arrays given a wider type."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.json_schemas import (
    TypesDiffer,
    as_json,
    check_exact,
    conform,
    features,
    from_inferred,
    from_json,
    has_odd_numbers,
    join,
    type_of,
    writable,
)

ATOMS = st.sampled_from([pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string()])
TYPES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        inner.map(pa.list_),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(lambda parts: pa.struct(list(parts.items()))),
    ),
    max_leaves=6,
)


def sorted_fields(type_: pa.DataType) -> Any:
    """A type without the order of its columns."""
    if pa.types.is_struct(type_):
        return {field.name: sorted_fields(field.type) for field in type_}
    return [sorted_fields(type_.value_type)] if pa.types.is_list(type_) else str(type_)


def joined(*types: pa.DataType) -> Any:
    found: pa.DataType = pa.null()
    try:
        for type_ in types:
            found = join(found, type_)
    except TypesDiffer:
        return "differ"
    return sorted_fields(found)


def test_values_that_go_together_get_the_type_that_holds_both() -> None:
    first = type_of({"a": 1, "b": {"c": None, "d": []}, "e": [1, None]})
    second = type_of({"e": [0.5], "f": "2024-01-02", "b": {"x": True, "c": "t", "d": [{"y": 1}]}, "a": None})
    assert as_json(join(first, second)) == {
        "struct": {
            "a": "int64",
            "b": {"struct": {"c": "string", "d": {"list": {"struct": {"y": "int64"}}}, "x": "bool"}},
            "e": {"list": "double"},
            "f": "string",
        }
    }
    assert join(first, second).field(1).type.field(2).name == "x"


@pytest.mark.parametrize(
    ("first", "second", "path", "found"),
    [
        ({"a": 1}, {"a": "1"}, "a", ("an integer", "text")),
        ({"a": {"b": [1]}}, {"a": {"b": {"c": 1}}}, "a.b", ("a list", "an object")),
        ({"a": [{"b": True}]}, {"a": [{"b": 1}]}, "a[].b", ("true or false", "an integer")),
        ({"a": 1.5}, {"a": [1.5]}, "a", ("a number", "a list")),
    ],
)
def test_values_that_differ_are_refused_with_the_column_and_both_types(
    first: Any, second: Any, path: str, found: tuple[str, str]
) -> None:
    with pytest.raises(TypesDiffer) as error:
        join(type_of(first), type_of(second))
    assert (error.value.path, error.value.first, error.value.second) == (path, *found)


def test_integers_that_their_column_cannot_hold_are_refused() -> None:
    assert type_of(2**63 - 1) == type_of(-(2**63)) == pa.int64()
    for beyond in (2**63, -(2**63) - 1):
        with pytest.raises(TypesDiffer, match=r"column a\[\]: the integer"):
            type_of({"a": [beyond]})
    check_exact({"a": [2**53, -(2**53)]}, pa.struct([("a", pa.list_(pa.float64()))]))
    with pytest.raises(TypesDiffer, match=r"column a\[\].*9007199254740993"):
        check_exact({"a": [2**53 + 1]}, pa.struct([("a", pa.list_(pa.float64()))]))
    with pytest.raises(pa.ArrowInvalid):
        conform(pa.array([2**53 + 1]), pa.float64())


@given(st.lists(TYPES, min_size=2, max_size=4), st.randoms())
def test_no_order_changes_what_types_have_in_common(types: list[pa.DataType], chooser: Any) -> None:
    found = joined(*types)
    other = list(types)
    chooser.shuffle(other)
    assert joined(*other) == found
    assert joined(*types, *types) == found


@given(TYPES)
def test_a_type_survives_its_manifest(type_: pa.DataType) -> None:
    assert from_json(json.loads(json.dumps(as_json(type_)))).equals(type_)


def rows_of(type_: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_null(type_):
        return st.none()
    if pa.types.is_struct(type_):
        parts = {field.name: rows_of(field.type) for field in type_}
        return st.none() | st.fixed_dictionaries(parts)
    if pa.types.is_list(type_):
        return st.none() | st.lists(rows_of(type_.value_type), max_size=3)
    values: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "int64": st.integers(-(2**53), 2**53),
        "double": st.floats(allow_nan=False),
        "string": st.text(max_size=3),
    }
    return st.none() | values[str(type_)]


def widened(value: Any, type_: pa.DataType) -> Any:
    """What a value should be as a wider type."""
    if value is None:
        return None
    if isinstance(value, dict):
        if pa.types.is_string(type_):
            return "{}"
        return {field.name: widened(value.get(field.name), field.type) for field in type_}
    if isinstance(value, list):
        return [widened(part, type_.value_type) for part in value]
    return value


@given(st.data(), TYPES, TYPES)
def test_values_stay_what_they_are_in_a_wider_type(data: st.DataObject, own: pa.DataType, other: pa.DataType) -> None:
    try:
        target = writable(join(own, other))
    except TypesDiffer:
        return
    values = data.draw(st.lists(rows_of(own), max_size=5))
    found = conform(pa.array(values, own), target)
    found.validate(full=True)
    assert found.type.equals(target)
    assert found.to_pylist() == [widened(value, target) for value in values]


def test_negative_zero_is_zero_so_that_integers_and_doubles_read_the_same() -> None:
    assert [str(value) for value in conform(pa.array([-0.0, None, 1.5]), pa.float64()).to_pylist()] == [
        "0.0",
        "None",
        "1.5",
    ]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf"), 2.0**53, -1e300])
def test_numbers_that_arrow_may_have_misread_are_found_at_any_depth(odd: float) -> None:
    assert has_odd_numbers(pa.array([{"a": [{"b": [1.0, None, odd]}]}]))
    assert not has_odd_numbers(pa.array([{"a": [{"b": [1.0, None, 2.0**53 - 1]}]}]))
    assert not has_odd_numbers(pa.array([2**60, None]))


def test_texts_that_look_like_times_are_texts() -> None:
    inferred = pa.struct([("a", pa.list_(pa.struct([("t", pa.timestamp("s"))]))), ("b", pa.int64())])
    assert as_json(from_inferred(inferred)) == {"struct": {"a": {"list": {"struct": {"t": "string"}}}, "b": "int64"}}


def test_what_no_reader_opens_is_written_as_text() -> None:
    type_ = type_of({"n": None, "e": {}, "l": [], "s": {"n": None, "l": [[{}]]}})
    assert as_json(writable(type_)) == {
        "struct": {
            "n": "string",
            "e": "string",
            "l": {"list": "string"},
            "s": {"struct": {"n": "string", "l": {"list": {"list": "string"}}}},
        }
    }


def test_the_card_names_columns_as_datasets_does() -> None:
    from datasets import Features

    value = {"a": 1, "b": [{"c": [0.5], "d": {"e": True}}], "f": [[["x"]]], "g": {"h": [{"i": "x"}]}}
    type_ = type_of(value)
    assert features(type_) == Features.from_arrow_schema(pa.schema(list(type_)))._to_yaml_list()
