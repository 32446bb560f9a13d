"""References: right translations from elsewhere, and the released rows that have one, each with answers to compare.

A released row is matched by its source, character by character. What is kept in memory grows with the released rows,
never with references or candidates: a digest of each source, and, where it has a reference, that, what was released
and the greedy answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from corpusmith.accounting import Account
from corpusmith.documents import (
    BAD_ROW_REASONS,
    SUFFIXES,
    BadRow,
    RawLine,
    Source,
    check_sources,
    max_line_bytes,
    name_sources,
    parse_line,
    read_lines,
)
from corpusmith.errors import InputError
from corpusmith.identity import digest
from corpusmith.program import log
from corpusmith.table_files import TableWriter, read_rows
from corpusmith.tables import FILTERED
from corpusmith.translation import GREEDY, SAMPLED

RELEASED = "released"
SYSTEMS = (GREEDY, SAMPLED, RELEASED)
# Files that are bad throughout are given up on once so many rows have been seen.
ROWS_BEFORE_GIVING_UP = 1_000
_PARQUET = ".parquet"
_BAD_ROWS_NAMED = 3
_BAD_ROWS_SHOWN = 20
_EXCERPT_CHARACTERS = 80
# Reasons for a bad row that are about one of its texts and not about the row as a whole.
_OF_ONE_TEXT = BAD_ROW_REASONS.keys() - {"line_too_long", "not_utf8", "not_json", "not_an_object"}

Key = bytes
"""A digest of a source."""


# --- files of references ---


@dataclass(frozen=True)
class ReferenceForm:
    """Where a row has its source and its reference, and how long each of them may be."""

    source_field: str
    reference_field: str
    max_characters: int


class Reference(NamedTuple):
    """A source and its right translation."""

    source: str
    text: str


def reference_files(paths: Sequence[Path]) -> list[Source]:
    """Files of references by name, in the given order. Raises InputError for one that cannot be read."""
    sources = name_sources(paths)
    for source in sources:
        if not source.name.endswith((*SUFFIXES, _PARQUET)):
            raise InputError(f"{source.path}: only {', '.join((*SUFFIXES, _PARQUET))} are read; convert the references")
        if source.name.endswith(_PARQUET):
            with _reading(source.path):
                pq.read_metadata(source.path)
        else:
            check_sources([source])
    return sources


def read_references(
    files: Iterable[Source], form: ReferenceForm
) -> Iterator[tuple[str, int, Reference | BadRow, str | None]]:
    """Every row: its file, its line (in Parquet its row) from 1, and the reference.

    Or a bad row, and which of its two texts is bad, where it is not the row as a whole.
    """
    for file in files:
        lines = _parquet_lines(file, form) if file.name.endswith(_PARQUET) else _text_lines(file, form)
        for line in lines:
            yield line.file, line.number, *_parse(line, form)


def _text_lines(file: Source, form: ReferenceForm) -> Iterator[RawLine]:
    # A line has two texts.
    return read_lines([file], max_line_bytes(2 * form.max_characters))


def _parquet_lines(file: Source, form: ReferenceForm) -> Iterator[RawLine]:
    """The rows of a Parquet file as the lines they would be in JSON, so that both are judged alike."""
    names = [form.source_field, form.reference_field]
    with _reading(file.path), pq.ParquetFile(file.path, pre_buffer=False) as parquet:
        for name in names:
            _check_column(file.path, parquet.schema_arrow, name)
        number = 0
        for batch in parquet.iter_batches(batch_size=1024, columns=names):
            for values in zip(*(_bytes_of(batch.column(name)) for name in names), strict=True):
                number += 1
                yield RawLine(file.name, number, _as_json(names, values), True)


def _check_column(path: Path, schema: pa.Schema, name: str) -> None:
    place = schema.get_field_index(name)
    if place < 0:
        found = ", ".join(schema.names)
        raise InputError(f"{path}: no column {name!r}; found: {found}; correct --source-field or --reference-field")
    type_ = schema.field(place).type
    inner = type_.value_type if pa.types.is_dictionary(type_) else type_
    if not (pa.types.is_string(inner) or pa.types.is_large_string(inner)):
        raise InputError(f"{path}: column {name!r} is {type_}, it should be text")


def _bytes_of(column: pa.Array) -> list[bytes | None]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    # As bytes, as texts that are not UTF-8 must not end the reading.
    return column.cast(pa.large_binary()).to_pylist()


def _as_json(names: Sequence[str], values: Sequence[bytes | None]) -> bytes:
    try:
        row = {name: None if value is None else value.decode() for name, value in zip(names, values, strict=True)}
    except UnicodeDecodeError:
        return b" ".join(value or b"" for value in values)
    return json.dumps(row, ensure_ascii=False).encode()


def _parse(line: RawLine, form: ReferenceForm) -> tuple[Reference | BadRow, str | None]:
    source = parse_line(line, form.source_field, form.max_characters)
    if isinstance(source, BadRow):
        return source, form.source_field if source.reason in _OF_ONE_TEXT else None
    reference = parse_line(line, form.reference_field, form.max_characters)
    if isinstance(reference, BadRow):
        return reference, form.reference_field
    return Reference(source.text, reference.text), None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; correct the path or fetch it again") from error
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path}: is no Parquet file, or a broken one ({text}); fetch it again") from error


# --- released rows and their references ---


@dataclass
class Pairing:
    """What became of references and of released rows.

    bad_rows: the first of the bad rows, for people; failed, cut_off: answers by system.
    """

    references: Account = field(default_factory=lambda: Account("evaluation/references", "references"))
    released: Account = field(default_factory=lambda: Account("evaluation/pair"))
    bad_rows: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SYSTEMS, 0))
    cut_off: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SYSTEMS, 0))

    def as_json(self) -> dict[str, Any]:
        """The pairing as it is written."""
        counts = {}
        for name, account in (("references", self.references), ("released", self.released)):
            account.check()
            counts[name] = {key: account.as_json()[key] for key in ("in", "kept", "dropped")}
        answers = {system: {"failed": self.failed[system], "cut_off": self.cut_off[system]} for system in SYSTEMS}
        return counts | {"answers": answers, "first_bad_rows": self.bad_rows}


@dataclass(frozen=True)
class ReleasedRow:
    """A released row that has a reference. sample: which of the final answers it is."""

    reference: str
    target: str
    sample: int


def match_references(
    splits: Sequence[Path],
    files: Sequence[Source],
    form: ReferenceForm,
    max_bad_share: float,
    bad_rows: TableWriter,
    pairing: Pairing,
) -> dict[str, ReleasedRow]:
    """The released rows that have a reference, by item.

    Of several references of a source the first counts. Raises InputError where more than max_bad_share of the rows are
    bad, at the end or after the first 1,000, or where no released row has a reference.
    """
    released = {_key(row["source"]) for path in splits for row in read_rows(path, FILTERED, ["source"])}
    references, example = _references_of(released, files, form, max_bad_share, bad_rows, pairing)
    del released
    found: dict[str, ReleasedRow] = {}
    first = ""
    for path in splits:
        for row in read_rows(path, FILTERED, ["item_id", "source", "target", "sample"]):
            item, reference = row["item_id"], references.get(_key(row["source"]))
            first = first or row["source"]
            if reference is None:
                pairing.released.drop(item, "no_reference")
            elif item in found:
                raise InputError(f"{path}: item {item} is released twice; delete the splits and build again")
            else:
                pairing.released.keep(item)
                found[item] = ReleasedRow(reference, row["target"], row["sample"])
    if not found:
        raise InputError(
            f"none of the {pairing.released.taken.count:,} released rows has a reference: the source of a row must be"
            f" the same text as that of one of the {pairing.references.taken.count:,} references read. A released"
            f" source: {first[:_EXCERPT_CHARACTERS]!r}; a reference's: {example[:_EXCERPT_CHARACTERS]!r}. Give the"
            " references of these sources, or correct --source-field"
        )
    return found


def _key(source: str) -> Key:
    return bytes.fromhex(digest("source", source))


def _references_of(
    released: set[Key],
    files: Sequence[Source],
    form: ReferenceForm,
    max_bad_share: float,
    bad_rows: TableWriter,
    pairing: Pairing,
) -> tuple[dict[Key, str], str]:
    """The references of released sources, and the source of the first reference read."""
    found: dict[Key, str] = {}
    example = ""
    account = pairing.references
    for file, line, row, bad_text in read_references(files, form):
        account.taken.count += 1
        if isinstance(row, BadRow):
            reason = row.reason if bad_text is None else f"{row.reason}: {bad_text}"
            bad_rows.write({"file": file, "line": line, "reason": reason, "excerpt": row.excerpt})
            if len(pairing.bad_rows) < _BAD_ROWS_SHOWN:
                pairing.bad_rows.append({"file": file, "line": line, "reason": reason})
                log.warning("set aside: %s: %.80r", _place(pairing.bad_rows[-1]), row.excerpt)
            why: str | None = reason
        else:
            example = example or row.source
            why = _take(row, released, found)
        if why is None:
            account.kept.count += 1
        else:
            account.dropped.count += 1
            account.reasons[why] += 1
        if account.taken.count >= ROWS_BEFORE_GIVING_UP:
            _check_bad_share(bad_rows.count, max_bad_share, pairing)
    _check_bad_share(bad_rows.count, max_bad_share, pairing)
    return found, example


def _take(row: Reference, released: set[Key], found: dict[Key, str]) -> str | None:
    """Takes a reference, or says why not."""
    key = _key(row.source)
    if key not in released:
        return "not_released"
    if key not in found:
        found[key] = row.text
        return None
    return "duplicate" if found[key] == row.text else "conflicting"


def _place(row: Mapping[str, Any]) -> str:
    reason, _, bad_text = row["reason"].partition(": ")
    where = f"field {bad_text}: " if bad_text else ""
    return f"{row['file']} line {row['line']}: {where}{BAD_ROW_REASONS[reason]}"


def _check_bad_share(bad: int, max_bad_share: float, pairing: Pairing) -> None:
    whole = pairing.references.taken.count
    if bad > max_bad_share * whole:
        named = pairing.bad_rows[:_BAD_ROWS_NAMED]
        more = f"; and {bad - len(named)} more" if bad > len(named) else ""
        raise InputError(
            f"{bad} of the first {whole} references ({bad / whole:.1%}) are bad, more than --max-bad-share"
            f" {max_bad_share:g} allows: {'; '.join(map(_place, named))}{more}. Repair the files, correct"
            " --source-field and --reference-field, or raise --max-bad-share"
        )
