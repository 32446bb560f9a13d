"""Every kind of table, defined once: columns, types, meanings; and the one way to write and to read them.

Tables are Parquet files with zstd, cut into row groups of as many rows as their kind has (ROW_GROUP, fewer where rows
hold long texts) however they were written, so that the same rows are the same bytes.
"""

from __future__ import annotations

import contextlib
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpusmith.errors import InputError
from corpusmith.files import naming, whole_file

ROW_GROUP = 8192
# Where a row holds a text of some 20 kB, so that a row group still fits many times into memory.
ROW_GROUP_OF_LONG_TEXTS = 1024


@dataclass(frozen=True)
class Column:
    """One column. A column is required unless it is optional: no nulls in it."""

    name: str
    type: pa.DataType
    meaning: str
    optional: bool = False


class Table:
    """A kind of table. row_group: rows of a row group."""

    def __init__(self, name: str, *columns: Column, row_group: int = ROW_GROUP) -> None:
        self.name = name
        self.columns = columns
        self.row_group = row_group
        self.schema = pa.schema(
            [
                pa.field(column.name, column.type, nullable=column.optional, metadata={"meaning": column.meaning})
                for column in columns
            ]
        )


ITEM_ID = Column("item_id", pa.string(), "content hash of the item, from source to release")

SEGMENTS = Table(
    "segments",
    ITEM_ID,
    Column("text", pa.string(), "the segment, line breaks as they are in a text"),
    Column("kind", pa.string(), "sentence, or blob: consecutive sentences of one document"),
    Column("tokens", pa.int32(), "tokens of the text by the tokenizer that the stage's account names"),
    Column("bucket", pa.string(), "length bucket in tokens: from-to, the end excluded"),
    Column("file", pa.string(), "name of the file the document stands in"),
    Column("line", pa.int64(), "line of the document in it, from 1"),
    Column("start", pa.int64(), "first character in the document's text as stored, from 0"),
    Column("end", pa.int64(), "one behind the last character"),
)

BAD_ROWS = Table(
    "bad rows",
    Column("file", pa.string(), "file the row stands in"),
    Column("line", pa.int64(), "its line, from 1"),
    Column("reason", pa.string(), "why it was set aside"),
    Column("excerpt", pa.string(), "its first 200 characters, bytes that are not UTF-8 replaced"),
)

DROPPED_ROWS = Table(
    "dropped rows",
    Column("file", pa.string(), "file the row stands in"),
    Column("row", pa.int64(), "its number there, from 1"),
    Column("reason", pa.string(), "why it was dropped"),
)

DROPPED = Table(
    "dropped",
    ITEM_ID,
    Column("stage", pa.string(), "the stage that dropped the item"),
    Column("reason", pa.string(), "why, by the rule's name"),
    Column("detail", pa.string(), "what was seen, for people", optional=True),
)

MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))

REQUESTS = Table(
    "requests",
    ITEM_ID,
    Column("request", pa.string(), "name of the request among those of its item, such as greedy"),
    Column("messages", MESSAGES, "a conversation for the chat template; or prompt, or token_ids", optional=True),
    Column("prompt", pa.string(), "a raw text, not put through the chat template", optional=True),
    Column("token_ids", pa.list_(pa.int32()), "the tokens themselves", optional=True),
    Column("temperature", pa.float64(), "0 is greedy"),
    Column("top_p", pa.float64(), "share of the probability that is sampled from; 1 is all"),
    Column("top_k", pa.int32(), "most likely tokens that are sampled from; 0 is all"),
    Column("max_tokens", pa.int32(), "most tokens of an answer"),
    Column("stop", pa.list_(pa.string()), "texts that end an answer and are not part of it"),
    Column("choices", pa.list_(pa.string()), "the answer is one of these", optional=True),
    Column("json_schema", pa.string(), "the answer is JSON of this schema", optional=True),
    Column("first_sample", pa.int32(), "index of the first sample"),
    Column("n", pa.int32(), "number of samples"),
    Column("source", pa.string(), "what a scorer holds the answer against", optional=True),
    Column("reference", pa.string(), "a right answer, where one is known", optional=True),
)

COMPLETIONS = Table(
    "completions",
    ITEM_ID,
    Column("request", pa.string(), "name of the request among those of its item"),
    Column("sample", pa.int32(), "index of the sample"),
    Column("text", pa.string(), "the answer; empty where it failed"),
    Column("finish_reason", pa.string(), "stop; length: cut off at max_tokens; error: no answer, see error"),
    Column("prompt_tokens", pa.int32(), "tokens of the prompt"),
    Column("completion_tokens", pa.int32(), "tokens of the answer"),
    Column("error", pa.string(), "why there is no answer", optional=True),
    Column("key", pa.string(), "what the answer is known by, together with its sample index"),
)

SCORES = Table(
    "scores",
    ITEM_ID,
    Column("request", pa.string(), "name of the request among those of its item"),
    Column("sample", pa.int32(), "index of the sample"),
    Column(
        "score", pa.float64(), "the metric's number, rounded to 1e-6; none where there was no answer", optional=True
    ),
    Column("truncated", pa.bool_(), "whether the scorer saw only the beginning"),
    Column("error", pa.string(), "why an answer has no score", optional=True),
    Column("key", pa.string(), "what the score is known by"),
)

SELECTED_SOURCES = Table(
    "selected sources",
    ITEM_ID,
    Column("text", pa.string(), "the source"),
    Column("kind", pa.string(), "sentence or blob"),
    Column("tokens", pa.int32(), "its tokens"),
    Column("greedy_score", pa.float64(), "score of the greedy answer", optional=True),
    Column("sampled_score", pa.float64(), "score of the sampled answer", optional=True),
    Column("gain", pa.float64(), "greedy minus sampled: how much sampling improved on greedy", optional=True),
)

CANDIDATE = pa.struct(
    [
        pa.field("sample", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("score", pa.float64()),
    ]
)

SELECTED_ANSWERS = Table(
    "selected answers",
    ITEM_ID,
    Column("source", pa.string(), "the source"),
    Column("target", pa.string(), "the best answer"),
    Column("score", pa.float64(), "its score"),
    Column("sample", pa.int32(), "index of the sample"),
    Column("candidates", pa.int32(), "how many answers could have been taken"),
    Column("mean_score", pa.float64(), "the mean of their scores"),
    Column("top_k", pa.list_(CANDIDATE), "the best ones, best first, distinct texts"),
)

FILTERED = SELECTED_ANSWERS

REJECTED = Table(
    "rejected",
    ITEM_ID,
    Column("source", pa.string(), "the source"),
    Column("target", pa.string(), "the answer"),
    Column("score", pa.float64(), "its score"),
    Column("reason", pa.string(), "the first rule that it breaks"),
    Column("reasons", pa.list_(pa.string()), "every rule that it breaks"),
    Column("detail", pa.string(), "what the first rule saw", optional=True),
)


# --- the maths recipe ---

_ABOUT_THE_SOLUTION = (
    Column("problem_type", pa.string(), "what is known of the answer, as the source says it", optional=True),
    Column("problem_source", pa.string(), "where the problem comes from, as the source says it", optional=True),
    Column("inference_mode", pa.string(), "how the solution was made: cot, tir, genselect", optional=True),
    Column("generation_model", pa.string(), "the model that wrote the solution", optional=True),
)

LABELLED_ROWS = Table(
    "labelled rows",
    ITEM_ID,
    Column("problem_id", pa.string(), "content hash of the problem: rows that share it have one problem"),
    Column("problem", pa.string(), "the problem"),
    Column("answer", pa.string(), "its answer, as the source says it", optional=True),
    Column("generated_solution", pa.string(), "a solution of it", optional=True),
    *_ABOUT_THE_SOLUTION,
    Column("pass_rate", pa.float64(), "the source's share of right solutions; none where it says n/a", optional=True),
    Column("dataset", pa.string(), "what the row comes from: a repository, a file, a dataset of the config"),
    Column("file", pa.string(), "name of the file the row stands in"),
    Column("row", pa.int64(), "its row or line in it, from 1"),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)

PROBLEMS = Table(
    "problems",
    ITEM_ID,
    Column("problem", pa.string(), "the problem"),
    Column("answer", pa.string(), "its answer, where one is known", optional=True),
    Column("problem_type", pa.string(), "what is known of the answer, as its first row says it", optional=True),
    Column("problem_source", pa.string(), "where it comes from, as its first row says it", optional=True),
    Column("dataset", pa.string(), "what its first row comes from"),
    Column("rows", pa.int32(), "how many rows have it"),
)

ANSWER_CONFLICTS = Table(
    "conflicting answers",
    ITEM_ID,
    Column("problem", pa.string(), "the problem"),
    Column("answers", pa.list_(pa.string()), "the different answers, most frequent first"),
    Column("counts", pa.list_(pa.int32()), "how many rows have each"),
)

CHECKED_SOLUTIONS = Table(
    "checked solutions",
    ITEM_ID,
    Column("sample", pa.int32(), "index of the solution among those of its problem"),
    Column("answer", pa.string(), "the final answer found in the solution", optional=True),
    Column("verdict", pa.string(), "right, wrong or undecided"),
    Column("reason", pa.string(), "what decided, or why nothing did"),
)

PROBLEM_ANSWERS = Table(
    "problem answers",
    ITEM_ID,
    Column("answer", pa.string(), "the answer that solutions are held against", optional=True),
    Column("answer_origin", pa.string(), "given; majority: of the solutions; none"),
    Column("votes", pa.int32(), "how many solutions agree on a majority's answer; 0 for a given one"),
)

GRADED_SOLUTIONS = Table(
    "graded solutions",
    ITEM_ID,
    Column("sample", pa.int32(), "index of the solution among those of its problem"),
    Column("answer", pa.string(), "the final answer found in the solution", optional=True),
    Column("right", pa.bool_(), "whether it is the problem's answer; none where nothing decided", optional=True),
    Column("reason", pa.string(), "what decided, or why nothing did"),
)

GRADED_PROBLEMS = Table(
    "graded problems",
    ITEM_ID,
    Column("answer", pa.string(), "the answer that solutions were held against", optional=True),
    Column("answer_origin", pa.string(), "given; majority: of the solutions; none"),
    Column("samples", pa.int32(), "solutions that count: k of the pass rate"),
    Column("right", pa.int32(), "how many of them are right"),
    Column("pass_rate", pa.float64(), "right of samples, rounded to 1e-6; none where no sample counts", optional=True),
)

SOLUTIONS = Table(
    "solutions",
    ITEM_ID,
    Column("problem_id", pa.string(), "content hash of the problem: rows that share it have one problem"),
    Column("problem", pa.string(), "the problem"),
    Column("answer", pa.string(), "its answer: as the source says it, or that of most solutions", optional=True),
    Column("answer_origin", pa.string(), "given; majority: of the solutions; none"),
    Column("generated_solution", pa.string(), "a solution of it", optional=True),
    *_ABOUT_THE_SOLUTION,
    Column("pass_rate", pa.float64(), "share of right solutions: measured, or the source's", optional=True),
    Column(
        "pass_rate_samples", pa.int32(), "solutions that it was measured with; none for the source's", optional=True
    ),
    Column("right", pa.bool_(), "whether the solution has the problem's answer, where it was checked", optional=True),
    Column("sample", pa.int32(), "index of the sample, where the solution was made here", optional=True),
    Column("dataset", pa.string(), "what the row comes from: a repository, a file, a dataset of the config"),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)

REJECTED_SOLUTIONS = Table(
    "rejected solutions",
    *(column for column in SOLUTIONS.columns if column.name in ("item_id", "problem", "answer", "generated_solution")),
    Column("pass_rate", pa.float64(), "share of right solutions: measured, or the source's", optional=True),
    *(column for column in REJECTED.columns if column.name in ("reason", "reasons", "detail")),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)


SAMPLES = Table(
    "samples",
    ITEM_ID,
    Column("sample", pa.int32(), "index of the solution among those of its problem"),
    Column("generated_solution", pa.string(), "the solution"),
    Column("answer", pa.string(), "the final answer found in it", optional=True),
    Column("right", pa.bool_(), "whether it is the problem's answer; none where nothing decided", optional=True),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)

# --- the instructions recipe ---

_ABOUT_THE_INSTRUCTION = (
    Column("origin", pa.string(), "where the instruction comes from: the model that wrote it, or the file of a task"),
    Column("topic", pa.string(), "name of the topic whose system prompt it was asked under", optional=True),
    Column("reference", pa.string(), "a right response, where the task came with one", optional=True),
)
INSTRUCTIONS = Table(
    "instructions",
    ITEM_ID,
    Column("instruction", pa.string(), "what a user asks"),
    *_ABOUT_THE_INSTRUCTION,
    Column("sample_id", pa.string(), "id of the sample that it was, where a model made it up", optional=True),
    Column("system", pa.string(), "system prompt that goes with it, where there is one", optional=True),
    Column("temperature", pa.float64(), "temperature that it was sampled at", optional=True),
    Column("top_p", pa.float64(), "share of the probability that it was sampled from", optional=True),
)
TAGS = ("difficulty", "quality", "category", "language")
_RESPONSE = (
    Column("reward", pa.float64(), "its reward; higher is better", optional=True),
    *(Column(name, pa.string(), f"{name} of the instruction, as a model tagged it", optional=True) for name in TAGS),
)
RESPONSES = Table(
    "responses",
    ITEM_ID,
    Column("instruction", pa.string(), "what a user asks"),
    Column("response", pa.string(), "the response that was taken"),
    Column("messages", MESSAGES, "the same as a conversation, behind the system prompt where there is one"),
    *_RESPONSE,
    *_ABOUT_THE_INSTRUCTION,
    Column("generation_model", pa.string(), "the model that wrote the response"),
    Column("sample", pa.int32(), "index of the response among those to the instruction"),
    Column("candidates", pa.int32(), "how many responses could have been taken"),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)
REJECTED_RESPONSES = Table(
    "rejected responses",
    ITEM_ID,
    Column("instruction", pa.string(), "what a user asks"),
    Column("response", pa.string(), "the response, where there is one", optional=True),
    *_RESPONSE,
    *(column for column in REJECTED.columns if column.name in ("reason", "reasons", "detail")),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)


RESPONSE = pa.struct(
    [
        pa.field("sample", pa.int32()),
        pa.field("temperature", pa.float64()),
        pa.field("text", pa.string()),
        pa.field("score", pa.float64()),
    ]
)
_RESPONSES = (
    Column("prompt", MESSAGES, "the instruction, as a conversation"),
    Column("responses", pa.list_(RESPONSE), "all responses to it with their rewards"),
)

PREFERENCES = Table(
    "preferences",
    ITEM_ID,
    *_RESPONSES,
    Column("chosen", MESSAGES, "the better response, as the assistant's turn"),
    Column("rejected", MESSAGES, "the worse one"),
    Column("chosen_score", pa.float64(), "reward of the better one; higher is better"),
    Column("rejected_score", pa.float64(), "reward of the worse one"),
    Column("margin", pa.float64(), "the first minus the second"),
)

REJECTED_PREFERENCES = Table(
    "rejected preferences",
    ITEM_ID,
    *_RESPONSES,
    *(column for column in REJECTED.columns if column.name in ("reason", "reasons", "detail")),
)


@dataclass(frozen=True)
class RowTables:
    """The kinds of tables that the filters of a recipe read and write; texts: columns that a judge is shown."""

    kept: Table
    rejected: Table
    texts: tuple[str, ...]


# What programs that serve every recipe work on, by recipe. The first of the texts is what duplicates are known by.
ROWS = {
    "translation": RowTables(FILTERED, REJECTED, ("source", "target")),
    "instructions": RowTables(RESPONSES, REJECTED_RESPONSES, ("instruction", "response")),
    "maths": RowTables(SOLUTIONS, REJECTED_SOLUTIONS, ("problem", "answer", "generated_solution", "problem_type")),
}


class TableWriter:
    """Writes one table, row by row, whole or not at all. Use `open_table`.

    count: rows that were written; bytes: size of those in Arrow that are in row groups or wait for more of one.
    """

    def __init__(
        self,
        path: Path,
        partial: Path,
        table: Table,
        most_bytes: int | None,
        options: Mapping[str, Any],
        metadata: Mapping[str, str],
    ) -> None:
        self._path, self._table, self._most_bytes = path, table, most_bytes
        self._writer = pq.ParquetWriter(partial, table.schema, compression="zstd", write_page_checksum=True, **options)
        if metadata:
            self._writer.add_key_value_metadata(dict(metadata))
        self._rows: list[Mapping[str, Any]] = []
        # Behind the batches, in the order in which they came, and together with them less than a row group.
        self._batches: list[pa.RecordBatch] = []
        self._in_batches = 0
        # Where row groups are cut by their bytes: what the next one has so far.
        self._group: list[pa.RecordBatch] = []
        self._group_bytes = 0
        self.count = self.bytes = 0

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds one row, a value for each column."""
        self._rows.append(row)
        self.count += 1
        if self._in_batches + len(self._rows) == self._table.row_group:
            self._flush()

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Adds rows as an Arrow batch, with the table's columns in their order.

        Raises InputError where a column is missing, has another type, or has nulls without being optional.
        """
        if batch.schema.names != self._table.schema.names or batch.schema.types != self._table.schema.types:
            raise InputError(
                f"{self._path}: rows of {', '.join(f'{field.name} {field.type}' for field in batch.schema)}"
                f" are none of a table of {self._table.name}"
            )
        for column in self._table.columns:
            if not column.optional and batch.column(column.name).null_count:
                place = batch.column(column.name).is_null().to_pylist().index(True)
                raise InputError(f"{self._path}: row {self.count + place} has no {column.name}")
        self._batch_rows()
        while batch.num_rows:
            part = batch.slice(0, self._table.row_group - self._in_batches)
            self._hold(part)
            self.count += part.num_rows
            batch = batch.slice(part.num_rows)
            if self._in_batches == self._table.row_group:
                self._flush()

    def write_all(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows."""
        for row in rows:
            self.write(row)

    def _hold(self, batch: pa.RecordBatch) -> None:
        self._batches.append(pa.record_batch(batch.columns, schema=self._table.schema))
        self._in_batches += batch.num_rows

    def _flush(self) -> None:
        self._batch_rows()
        if not self._batches:
            return
        # Arrow cuts pages anew with each batch: one is written, so that it does not matter how the rows came in.
        whole = self._batches[0] if len(self._batches) == 1 else pa.concat_batches(self._batches)
        self._batches, self._in_batches = [], 0
        self.bytes += whole.nbytes
        if self._most_bytes is None:
            self._write_group(whole)
            return
        for part in _parts(whole, self._most_bytes):
            if self._group_bytes + part.nbytes > self._most_bytes:
                self._end_group()
            self._group.append(part)
            self._group_bytes += part.nbytes

    def _end_group(self) -> None:
        if self._group:
            whole = pa.concat_batches(self._group)
            self._group, self._group_bytes = [], 0
            self._write_group(whole)

    def _write_group(self, whole: pa.RecordBatch) -> None:
        with naming(self._path):
            self._writer.write_batch(whole, row_group_size=whole.num_rows)

    def _batch_rows(self) -> None:
        if not self._rows:
            return
        columns = []
        first = self.count - len(self._rows)
        for column in self._table.columns:
            values = [row.get(column.name) for row in self._rows]
            if not column.optional and None in values:
                place = values.index(None)
                raise InputError(f"{self._path}: row {first + place} has no {column.name}: {self._rows[place]!r:.300}")
            try:
                columns.append(_array(values, column.type))
            except _MISFITS as error:
                place = _first_bad(values, column.type)
                raise InputError(
                    f"{self._path}: row {first + place}: {column.name} = {values[place]!r:.200} is no {column.type}"
                    f" ({error})"
                ) from error
        self._rows.clear()
        self._hold(pa.record_batch(columns, schema=self._table.schema))

    def close(self) -> None:
        """Writes what is left and the file's end."""
        self._flush()
        self._end_group()
        with naming(self._path):
            self._writer.close()


def _parts(batch: pa.RecordBatch, most_bytes: int) -> Iterator[pa.RecordBatch]:
    """The batch in parts of at most so many bytes, or of one row."""
    if batch.nbytes <= most_bytes or batch.num_rows == 1:
        yield batch
        return
    middle = batch.num_rows // 2
    yield from _parts(batch.slice(0, middle), most_bytes)
    yield from _parts(batch.slice(middle), most_bytes)


# What Arrow, or Python on its behalf, says of a value that does not fit its column.
_MISFITS = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError)
_KINDS = (
    (pa.types.is_boolean, bool),
    (pa.types.is_string, str),
    (pa.types.is_integer, numbers.Integral),
    (pa.types.is_floating, numbers.Real),
    (pa.types.is_list, (list, tuple)),
    (pa.types.is_struct, Mapping),
)


def _array(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    _check_kinds(values, type_)
    return pa.array(values, type_)


def _check_kinds(values: Iterable[Any], type_: pa.DataType) -> None:
    """Arrow alone would cut 1.5 to 1 for an integer, and take a text for the list of its letters."""
    given = [value for value in values if value is not None]
    wanted = next((kind for is_of, kind in _KINDS if is_of(type_)), object)
    for kind in {type(value) for value in given}:
        if not issubclass(kind, wanted) or (kind is bool and wanted is not bool):
            raise pa.ArrowTypeError(f"it is of type {kind.__name__}")
    if pa.types.is_list(type_):
        _check_kinds(chain.from_iterable(given), type_.value_type)
    elif pa.types.is_struct(type_):
        for field in type_:
            _check_kinds((value.get(field.name) for value in given), field.type)


def _first_bad(values: Sequence[Any], type_: pa.DataType) -> int:
    for place, value in enumerate(values):
        try:
            _array([value], type_)
        except _MISFITS:
            return place
    return 0


class open_table:
    """Context manager that gives a TableWriter; the file appears when the block ends well.

    most_bytes: row groups are as large as they can be with at most so many bytes in Arrow, instead of having the rows
    that their kind says. metadata: of the file. options: passed on to pyarrow.parquet.ParquetWriter.
    """

    def __init__(
        self,
        path: str | Path,
        table: Table,
        most_bytes: int | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._path, self._table, self._options = Path(path), table, options
        self._most_bytes, self._metadata = most_bytes, metadata or {}
        self._whole = whole_file(self._path)

    def __enter__(self) -> TableWriter:
        partial = self._whole.__enter__()
        self._writer = TableWriter(self._path, partial, self._table, self._most_bytes, self._options, self._metadata)
        return self._writer

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool | None:
        if kind is None:
            try:
                self._writer.close()
            except BaseException as error:
                self._whole.__exit__(type(error), error, error.__traceback__)
                raise
        return self._whole.__exit__(kind, value, trace)


def write_table(path: str | Path, table: Table, rows: Iterable[Mapping[str, Any]], **options: Any) -> int:
    """Writes a whole table; returns the number of rows. options: as of `open_table`."""
    with open_table(path, table, **options) as writer:
        writer.write_all(rows)
        return writer.count


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Whatever Arrow says of a file that is not there or cannot be read becomes an InputError."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; build it first") from error
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{path}: cannot be read ({os.strerror(error.errno)})") from error
        text = " ".join(str(error).split())
        raise InputError(f"{path}: is no Parquet file, or a broken one ({text}); delete it and build again") from error


def _open(path: str | Path, table: Table) -> pq.ParquetFile:
    with _reading(path):
        # What is buffered ahead is kept until the file is closed: all of it, in the end.
        file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
    found = file.schema_arrow
    for column in table.columns:
        place = found.get_field_index(column.name)
        if place < 0:
            raise InputError(
                f"{path}: no column {column.name!r}; a table of {table.name} has one. Found: {', '.join(found.names)}"
            )
        if not found.field(place).type.equals(column.type):
            raise InputError(f"{path}: column {column.name!r} is {found.field(place).type}, it should be {column.type}")
    return file


def read_batches(
    path: str | Path, table: Table, columns: Sequence[str] | None = None, batch_size: int = ROW_GROUP
) -> Iterator[pa.RecordBatch]:
    """The table's rows as Arrow batches, in order, in flat memory. Raises InputError where it is no such table."""
    with _open(path, table) as file, _reading(path):
        required = [
            column.name
            for column in table.columns
            if not column.optional and (columns is None or column.name in columns)
        ]
        names = list(columns) if columns is not None else [column.name for column in table.columns]
        row = 0
        for batch in file.iter_batches(batch_size=batch_size, columns=names):
            for name in required:
                if batch.column(name).null_count:
                    place = batch.column(name).is_null().to_pylist().index(True)
                    raise InputError(f"{path}: row {row + place}: no {name}")
            yield batch.select(names)
            row += batch.num_rows


def read_rows(
    path: str | Path, table: Table, columns: Sequence[str] | None = None, batch_size: int = 1024
) -> Iterator[dict[str, Any]]:
    """The table's rows as dicts, in order, in flat memory."""
    for batch in read_batches(path, table, columns, batch_size):
        with _reading(path):
            rows = batch.to_pylist()
        yield from rows


def row_count(path: str | Path) -> int:
    """How many rows a Parquet file holds."""
    with _reading(path):
        return pq.read_metadata(path).num_rows
