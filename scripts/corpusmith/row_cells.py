"""Cells of a column of rows: texts or none, from what stands in JSON, CSV or Parquet.

    cells_of_values("answer", "expected_answer", ["4", 4.0, None, True])
    values "4", "4", none, none; bad {3: not_a_text, {"expected_answer": true}}

Numbers are spelled as texts where a number may stand; anything else is a bad cell, with the reason.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpusmith.documents import EXCERPT_CHARACTERS

# Where a number is a mistake, not a way to spell a text.
_NEVER_NUMBERS = ("problem", "generated_solution")

BAD_CELLS = {
    "not_a_text": "a value is neither a text nor, where that may stand, a number",
    "not_finite": "a number is infinite or none (NaN)",
    "not_unicode": "a text holds bytes that are not UTF-8, or half of a surrogate pair",
    "nul_character": "a text holds a NUL character",
}

_SURROGATE = re.compile("[\ud800-\udfff]")


class Bad(NamedTuple):
    """Why a row or a cell cannot be used (a key of BAD_CELLS, for one), and the first 200 characters of it."""

    reason: str
    excerpt: str


class Cells(NamedTuple):
    """The cells of a column. values: texts or none (pa.string()); bad: by position, where there is none for it."""

    values: pa.StringArray
    bad: dict[int, Bad]


def bad_cell(reason: str, column: str, value: Any) -> Bad:
    """A bad cell and what stands in it."""
    if isinstance(value, str | bytes):
        value = value[: 4 * EXCERPT_CHARACTERS]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = json.dumps({column: value}, ensure_ascii=False, default=str)
    return Bad(reason, text.encode("utf-8", "replace").decode()[:EXCERPT_CHARACTERS])


# --- cells from Python's values ---


def _text_of(name: str, column: str, value: Any) -> str | Bad | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or name in _NEVER_NUMBERS:
        return bad_cell("not_a_text", column, value)
    if not math.isfinite(value):
        return bad_cell("not_finite", column, str(value))
    # Arrow's spelling, so that a number is the same text from Parquet: 18 for 18.0.
    return str(value) if isinstance(value, int) else pa.scalar(value).cast(pa.string()).as_py()


def cells_of_values(name: str, column: str, values: Sequence[Any]) -> Cells:
    """Cells from texts, numbers and whatever else JSON holds. name, column: ours and the source's."""
    texts = [_text_of(name, column, value) for value in values]
    bad = {place: text for place, text in enumerate(texts) if isinstance(text, Bad)}
    for place, text in enumerate(texts):
        if isinstance(text, str) and not text.isascii() and _SURROGATE.search(text):
            bad[place] = bad_cell("not_unicode", column, text)
    array = pa.array([None if place in bad else text for place, text in enumerate(texts)], pa.string())
    return _without_nul(Cells(array, bad), column)


# --- cells from Arrow's ---


def cells_of_array(name: str, column: str, array: pa.Array | pa.ChunkedArray) -> Cells:
    """Cells from an Arrow column of any type. name, column: ours and the source's."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    type_ = array.type
    if pa.types.is_null(type_):
        return Cells(pa.nulls(len(array), pa.string()), {})
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return _without_nul(_checked_unicode(array.cast(pa.string()), column), column)
    if name in _NEVER_NUMBERS or not (
        pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
    ):
        return _all_but(array, array.is_valid(), "not_a_text", column, None)
    if pa.types.is_float16(type_):
        array = array.cast(pa.float32())
    spelled = array.cast(pa.string())
    if not pa.types.is_floating(type_):
        return Cells(spelled, {})
    return _all_but(array, pc.fill_null(pc.invert(pc.is_finite(array)), False), "not_finite", column, spelled)


def _all_but(array: pa.Array, wrong: pa.Array, reason: str, column: str, texts: pa.Array | None) -> Cells:
    """texts (default none at all), without those of the wrong rows, which are bad."""
    bad = {
        int(place): bad_cell(reason, column, str(array[int(place)].as_py()))
        for place in np.flatnonzero(wrong.to_numpy(zero_copy_only=False))
    }
    nothing = pa.scalar(None, pa.string())
    return Cells(pa.nulls(len(array), pa.string()) if texts is None else pc.if_else(wrong, nothing, texts), bad)


def _checked_unicode(texts: pa.StringArray, column: str) -> Cells:
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        values = texts.cast(pa.binary()).to_pylist()
    else:
        return Cells(texts, {})
    bad = {}
    for place, value in enumerate(values):
        try:
            if value is not None:
                value.decode()
        except UnicodeDecodeError:
            bad[place] = bad_cell("not_unicode", column, value)
            values[place] = None
    return Cells(pa.array(values, pa.binary()).cast(pa.string()), bad)


def _without_nul(cells: Cells, column: str) -> Cells:
    texts = cells.values
    data = texts.buffers()[2]
    if data is None or not len(texts):
        return cells
    ends = np.frombuffer(texts.buffers()[1], np.int32)[[texts.offset, texts.offset + len(texts)]]
    held = np.frombuffer(data, np.uint8)[ends[0] : ends[1]]
    # The smallest byte of all texts at once is much faster than a search in each.
    if not len(held) or held.min():
        return cells
    wrong = pc.fill_null(pc.match_substring(texts, "\0"), False)
    found = _all_but(texts, wrong, "nul_character", column, texts)
    return Cells(found.values, cells.bad | found.bad)
