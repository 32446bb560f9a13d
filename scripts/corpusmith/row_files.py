"""Rows of files of JSON, JSON Lines and CSV, one by one: an object each, or why it is none.

[{"problem": "What is 2+2?", "answer": 4}, …]            (.json)
{"problem": "What is 2+2?", "answer": 4}                 (.jsonl, .jsonl.gz, and .json of such lines)
problem,answer
What is 2+2?,4                                           (.csv; its cells are texts, empty ones are none)
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from typing import Any

from corpusmith.documents import (
    BAD_ROW_REASONS,
    DEFAULT_MAX_CHARACTERS,
    EXCERPT_CHARACTERS,
    Source,
    max_line_bytes,
    read_lines,
)
from corpusmith.errors import InputError
from corpusmith.row_cells import Bad, bad_cell

UNREADABLE = {
    **{reason: BAD_ROW_REASONS[reason] for reason in ("line_too_long", "not_utf8", "not_json", "not_an_object")},
    "wrong_number_of_cells": "the row has more or fewer cells than the file's first line",
}
_MAX_ROW_BYTES = max_line_bytes(DEFAULT_MAX_CHARACTERS)
_BLOCK_CHARACTERS = 1 << 20
_NOT_BLANK = re.compile(r"[^ \t\r\n]")


def rows_of(source: Source) -> Iterator[tuple[int, dict[str, Any] | Bad]]:
    """Number (from 1; of JSON lines the line) and value of each row: a dict by the source's names, or Bad.

    Raises InputError, with file and row, where the file is broken so that rows behind cannot be told apart.
    """
    if source.name.endswith(".csv"):
        yield from _rows_of_csv(source)
    elif _holds_lines(source):
        for line in read_lines([source], _MAX_ROW_BYTES):
            yield line.number, _value_of(line.data, line.whole)
    else:
        yield from _rows_of_array(source)


def _holds_lines(source: Source) -> bool:
    """Whether it is a file of JSON lines, as many a file named .json is."""
    if source.name.endswith((".jsonl", ".jsonl.gz")):
        return True
    with open(source.path, "rb") as file:
        head = file.readline(_MAX_ROW_BYTES)
    return isinstance(_value_of(head, whole=True), dict)


def _value_of(data: bytes, whole: bool) -> dict[str, Any] | Bad:
    excerpt = data[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace")[:EXCERPT_CHARACTERS].rstrip("\n")
    if not whole:
        return Bad("line_too_long", excerpt)
    try:
        value = json.loads(data.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError:
        return Bad("not_utf8", excerpt)
    except (ValueError, RecursionError):
        return Bad("not_json", excerpt)
    return value if isinstance(value, dict) else Bad("not_an_object", excerpt)


def _rows_of_array(source: Source) -> Iterator[tuple[int, dict[str, Any] | Bad]]:
    """Elements of a JSON array, one in memory at a time."""
    decoder, number, buffer, place = json.JSONDecoder(), 0, "", 0

    def broken(what: object) -> InputError:
        return InputError(f"{source.path}: row {number + 1}: {what}; repair it, or make it a .jsonl of one row a line")

    with open(source.path, encoding="utf-8-sig", errors="surrogateescape") as file:

        def more() -> bool:
            nonlocal buffer, place
            block = file.read(_BLOCK_CHARACTERS)
            buffer, place = buffer[place:] + block, 0
            return bool(block)

        def sign() -> str:
            """The next character that is no blank."""
            nonlocal place
            while (found := _NOT_BLANK.search(buffer, place)) is None:
                place = len(buffer)
                if not more():
                    return ""
            place = found.start()
            return found[0]

        if sign() != "[":
            raise broken("the file holds no JSON array of objects")
        place += 1
        ended = sign() == "]"
        while not ended:
            error: object = "the array does not end"
            while True:
                try:
                    value, end = decoder.raw_decode(buffer, place)
                    # What ends where the block does might go on.
                    if end < len(buffer):
                        break
                except (ValueError, RecursionError) as failure:
                    error = failure
                if len(buffer) - place > _MAX_ROW_BYTES or not more():
                    raise broken(error)
            place, number = end, number + 1
            excerpt = "" if isinstance(value, dict) else json.dumps(value, ensure_ascii=True)[:EXCERPT_CHARACTERS]
            yield number, value if isinstance(value, dict) else Bad("not_an_object", excerpt)
            ended = sign() == "]"
            if not ended and sign() != ",":
                raise broken("no comma before it")
            place += 1
            sign()


def _rows_of_csv(source: Source) -> Iterator[tuple[int, dict[str, Any] | Bad]]:
    """Rows of CSV by the names in its first line. An empty cell is none."""
    csv.field_size_limit(_MAX_ROW_BYTES)
    with open(source.path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader, number = csv.reader(file, strict=True), 0
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise InputError(f"{source.path}: line 1: two columns have one name: {', '.join(header)}; rename one")
            for cells in reader:
                if cells:
                    number += 1
                    if len(cells) == len(header):
                        yield number, {name: cell or None for name, cell in zip(header, cells, strict=True)}
                    else:
                        yield number, bad_cell("wrong_number_of_cells", header[0], ",".join(cells))
        except csv.Error as error:
            raise InputError(
                f"{source.path}: row {number + 1} (up to line {reader.line_num}): {error}; repair its quotes"
            ) from error


def count_rows(source: Source) -> int:
    """How many rows `rows_of` gives."""
    if not source.name.endswith(".csv") and _holds_lines(source):
        return sum(1 for _ in read_lines([source], _MAX_ROW_BYTES))
    return sum(1 for _ in rows_of(source))
