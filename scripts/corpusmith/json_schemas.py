"""Types of JSON values: found, joined, and given to Arrow arrays.

{"a": 1, "b": {"c": null}} and {"a": 0.5, "b": {"c": "x", "d": []}} have in common

    struct<a: double, b: struct<c: string, d: list<null>>>

A type is one of Arrow's: null, bool, int64, double, string, list, struct; a file's schema is a struct. Joining goes one
way, from null to anything and from int64 to double, so that the order of rows and files does not matter but for that of
the columns: the order in which they first appear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

NOTHING = pa.struct([])
# Beyond it not every integer is a double.
LARGEST_EXACT = 2**53
_INT64 = range(-(2**63), 2**63)
_ATOMS = {"null": pa.null(), "bool": pa.bool_(), "int64": pa.int64(), "double": pa.float64(), "string": pa.string()}
_NAMES = {"null": "null", "bool": "true or false", "int64": "an integer", "double": "a number", "string": "text"}


class TypesDiffer(Exception):
    """Values that one column cannot hold. path: the column, such as metadata.tags[]; first, second: what they are."""

    def __init__(self, path: str, first: str, second: str) -> None:
        super().__init__(f"column {path}: {second}, where {first} stands elsewhere")
        self.path, self.first, self.second = path, first, second


def describe(type_: pa.DataType) -> str:
    """A type in words."""
    if pa.types.is_struct(type_):
        return "an object"
    return "a list" if pa.types.is_list(type_) else _NAMES[str(type_)]


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def join(first: pa.DataType, second: pa.DataType, path: str = "") -> pa.DataType:
    """The type that holds values of both. Raises TypesDiffer where there is none."""
    if first.equals(second) or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        fields = {field.name: field.type for field in first}
        for field in second:
            fields[field.name] = join(fields.get(field.name, pa.null()), field.type, _below(path, field.name))
        return pa.struct(list(fields.items()))
    if pa.types.is_list(first) and pa.types.is_list(second):
        return pa.list_(join(first.value_type, second.value_type, f"{path}[]"))
    if {str(first), str(second)} == {"int64", "double"}:
        return pa.float64()
    raise TypesDiffer(path, describe(first), describe(second))


def type_of(value: Any, path: str = "") -> pa.DataType:
    """The type of a value as `json` gives it. Raises TypesDiffer within lists, and for integers beyond 64 bits."""
    if value is None:
        return pa.null()
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        if value not in _INT64:
            raise TypesDiffer(path, "at most 64 bits", f"the integer {value}")
        return pa.int64()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, dict):
        return pa.struct([(name, type_of(part, _below(path, name))) for name, part in value.items()])
    parts: pa.DataType = pa.null()
    for part in value:
        parts = join(parts, type_of(part, f"{path}[]"), f"{path}[]")
    return pa.list_(parts)


def check_exact(value: Any, type_: pa.DataType, path: str = "") -> None:
    """Raises TypesDiffer for an integer beyond 2**53 where the type, that otherwise holds the value, is double."""
    if isinstance(value, dict):
        for field in type_:
            check_exact(value.get(field.name), field.type, _below(path, field.name))
    elif isinstance(value, list):
        if not pa.types.is_null(type_.value_type):
            for part in value:
                check_exact(part, type_.value_type, f"{path}[]")
    elif isinstance(value, int) and pa.types.is_floating(type_) and abs(value) > LARGEST_EXACT:
        raise TypesDiffer(
            path, "a number that is no integer", f"the integer {value}, which no double holds for certain,"
        )


def from_inferred(type_: pa.DataType) -> pa.DataType:
    """What pyarrow.json infers, with the texts that it takes for times as texts again."""
    if pa.types.is_struct(type_):
        return pa.struct([(field.name, from_inferred(field.type)) for field in type_])
    if pa.types.is_list(type_):
        return pa.list_(from_inferred(type_.value_type))
    return type_ if str(type_) in _ATOMS else pa.string()


def writable(type_: pa.DataType) -> pa.DataType:
    """The type in a Parquet file that every reader opens: text where there are only nulls or only empty objects."""
    if pa.types.is_struct(type_) and type_.num_fields:
        return pa.struct([(field.name, writable(field.type)) for field in type_])
    if pa.types.is_list(type_):
        return pa.list_(writable(type_.value_type))
    return pa.string() if pa.types.is_null(type_) or pa.types.is_struct(type_) else type_


def conform(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """The array's values as a type that its own was joined into. Raises pa.ArrowInvalid for integers beyond 2**53.

    An empty object becomes the text {} where no row has more, a negative zero becomes zero.
    """
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), type_)
    if pa.types.is_floating(type_):
        numbers = array.cast(type_)
        plain = pa.py_buffer(_doubles(numbers) + 0.0)
        nulls = numbers.is_valid() if numbers.null_count else None
        return pa.Array.from_buffers(type_, len(numbers), [nulls and nulls.buffers()[1], plain])
    if pa.types.is_struct(array.type):
        if pa.types.is_string(type_):
            return pa.array(["{}" if there else None for there in array.is_valid().to_pylist()], pa.string())
        own = {field.name: place for place, field in enumerate(array.type)}
        parts = [
            conform(array.field(own[field.name]), field.type) if field.name in own else pa.nulls(len(array), field.type)
            for field in type_
        ]
        return pa.StructArray.from_arrays(parts, fields=list(type_), mask=array.is_null())
    if pa.types.is_list(array.type):
        return pa.ListArray.from_arrays(
            array.offsets, conform(array.values, type_.value_type), type=type_, mask=array.is_null()
        )
    return array


def has_odd_numbers(array: pa.Array) -> bool:
    """Whether doubles in it are NaN or beyond 2**53 either way: what Arrow also makes of integers that are too long."""
    if pa.types.is_floating(array.type):
        # Written so that NaN is odd, too. What stands in the place of a null is 0, or does no harm.
        return not bool((abs(_doubles(array)) < LARGEST_EXACT).all())
    if pa.types.is_struct(array.type):
        return any(has_odd_numbers(array.field(place)) for place in range(array.type.num_fields))
    return pa.types.is_list(array.type) and has_odd_numbers(array.values)


def _doubles(array: pa.Array) -> np.ndarray:
    """The values as they lie in memory. Arrow's own functions import pandas to take a number."""
    return np.frombuffer(array.buffers()[1] or b"", dtype=np.float64)[array.offset : array.offset + len(array)]


def as_json(type_: pa.DataType) -> Any:
    """A type as it stands in a manifest: {"struct": {"a": "int64", "b": {"list": "string"}}}."""
    if pa.types.is_struct(type_):
        return {"struct": {field.name: as_json(field.type) for field in type_}}
    return {"list": as_json(type_.value_type)} if pa.types.is_list(type_) else str(type_)


def from_json(value: Any) -> pa.DataType:
    """What `as_json` wrote. Raises KeyError or TypeError where it is something else."""
    if isinstance(value, Mapping):
        if "list" in value:
            return pa.list_(from_json(value["list"]))
        return pa.struct([(name, from_json(part)) for name, part in value["struct"].items()])
    return _ATOMS[value]


def features(type_: pa.DataType) -> Any:
    """A struct's fields as `datasets` writes them into a card's dataset_info."""
    return [{"name": field.name, **_feature(field.type)} for field in type_]


def _feature(type_: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(type_):
        return {"struct": features(type_)}
    if pa.types.is_list(type_):
        inner = _feature(type_.value_type)
        return {"list": next(iter(inner.values())) if set(inner) in ({"dtype"}, {"struct"}) else inner}
    return {"dtype": {"double": "float64"}.get(str(type_), str(type_))}
