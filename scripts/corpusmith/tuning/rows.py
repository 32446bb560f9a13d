"""Rows to tune on, from files of Parquet and of JSON, each checked.

    {"messages": [{"role": "user", "content": "Write 3 in Korean"}, {"role": "assistant", "content": "삼"}]}
    {"prompt": "Write 3 in Korean: ", "completion": "삼"}             texts, or messages in both
    {"prompt": […], "chosen": […], "rejected": […]}                  preferences; texts, or messages in all
    {"chosen": […], "rejected": […]}                                 the same, with the prompt in both

become the same with messages of role and content alone. Other columns are ignored. Rows of any other columns are made
such by a prompt of their columns:

    {"source": "three", "target": "삼"}, "In Korean: {{ source }}"   →   user "In Korean: three", assistant "삼"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from corpusmith.documents import Source, expand_globs, name_sources
from corpusmith.errors import InputError
from corpusmith.row_cells import Bad
from corpusmith.row_files import UNREADABLE, rows_of

ROLES = ("system", "user", "assistant", "tool")
# What a row to train on may hold, the first that fits counts; and a preference.
SFT_COLUMNS = (("messages",), ("prompt", "completion"))
DPO_COLUMNS = (("prompt", "chosen", "rejected"), ("chosen", "rejected"))
COLUMNS = {"sft": SFT_COLUMNS, "dpo": DPO_COLUMNS}
_ROWS_AT_ONCE = 1024
_SURROGATE = re.compile("[\ud800-\udfff]")


class Row(NamedTuple):
    """A row: where it stands, for messages to people, and its columns: of texts, or of lists of messages."""

    place: str
    columns: dict[str, Any]

    @property
    def is_chat(self) -> bool:
        """Whether it is a conversation; else texts."""
        return isinstance(next(iter(self.columns.values())), list)


@dataclass(frozen=True)
class Asking:
    """How rows of other columns become some to learn from.

    prompt: makes the question from names, which are the columns; completion: column of the answer; columns: further
    names of columns; values: further names; texts: whether they become texts, and not conversations.
    """

    prompt: Callable[..., str]
    completion: str
    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    texts: bool = False

    def ask(self, place: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns to learn from. Raises InputError where the row lacks one, or has no answer."""
        for column in (self.completion, *self.columns.values()):
            if row.get(column) is None:
                found = ", ".join(name for name, value in row.items() if value is not None) or "nothing"
                raise InputError(f"{place}: has no {column}, but {found}; leave such rows out, or name another column")
        answer = _text(f"{place}: {self.completion}", row[self.completion])
        names = {**row, **{name: row[column] for name, column in self.columns.items()}, **self.values}
        try:
            question = self.prompt(**names)
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
        if self.texts:
            return {"prompt": question, "completion": answer}
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def read_tuning_rows(patterns: Iterable[str], method: str, asking: Asking | None = None) -> Iterator[Row]:
    """The rows of all files that the patterns match, in order of path. method: sft or dpo.

    asking: how rows that hold no conversations are made some.

    Raises InputError, naming file and row, for one that cannot be used, and where some rows are texts and others
    conversations.
    """
    first: Row | None = None
    for source in name_sources(expand_globs(patterns)):
        # Any column may be in a prompt.
        for number, values in _values_of(source, method if asking is None else None):
            place = f"{source.path}: row {number}"
            row = _checked(place, values if asking is None else asking.ask(place, values), method)
            first = first or row
            if row.is_chat != first.is_chat:
                raise InputError(
                    f"{row.place}: holds {_kind(row)}, and {first.place} {_kind(first)}; make all rows one of them"
                )
            yield row
    if first is None:
        raise InputError(f"there is no row in {', '.join(patterns)}; name files with rows to tune on")


def _kind(row: Row) -> str:
    return "conversations" if row.is_chat else "texts"


def _values_of(source: Source, method: str | None) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number of a row, from 1, and what is in its columns: of a method's, or all."""
    if source.path.suffix == ".parquet":
        yield from _values_of_parquet(source.path, method)
        return
    for number, values in rows_of(source):
        if isinstance(values, Bad):
            raise InputError(f"{source.path}: row {number}: {UNREADABLE.get(values.reason, values.reason)}; correct it")
        yield number, values


def _values_of_parquet(path: Path, method: str | None) -> Iterator[tuple[int, Mapping[str, Any]]]:
    wanted = None if method is None else {name for names in COLUMNS[method] for name in names}
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if wanted is None or name in wanted]
            number = 0
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                for values in batch.to_pylist():
                    number += 1
                    yield number, values
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{path}: is no Parquet file that can be read ({error}); make it anew") from error


def _checked(place: str, values: Mapping[str, Any], method: str) -> Row:
    """A row with what is trained on. Raises InputError where that is missing or cannot be used."""
    for names in COLUMNS[method]:
        if all(values.get(name) is not None for name in names):
            break
    else:
        wanted = ", or ".join(" and ".join(names) for names in COLUMNS[method])
        found = ", ".join(name for name, value in values.items() if value is not None) or "nothing"
        raise InputError(f"{place}: has no {wanted}, but {found}; name files with such columns")
    columns = {name: values[name] for name in names}
    chat = "messages" in columns or isinstance(columns[names[-1]], list)
    for name, value in columns.items():
        columns[name] = _messages(f"{place}: {name}", value) if chat else _text(f"{place}: {name}", value)
    if chat:
        _check_turns(place, columns)
    if method == "dpo":
        if columns["chosen"] == columns["rejected"]:
            raise InputError(f"{place}: chosen and rejected are the same; leave such rows out")
        if "prompt" not in columns:
            columns = _with_prompt(place, columns)
    return Row(place, columns)


def _with_prompt(place: str, columns: dict[str, Any]) -> dict[str, Any]:
    """What both answers begin with, taken from them."""
    from trl.data_utils import extract_prompt  # seconds

    if columns["chosen"][0] != columns["rejected"][0]:
        raise InputError(f"{place}: chosen and rejected have no prompt in common; give it in a column of its own")
    found = extract_prompt(columns)
    return {name: found[name] for name in ("prompt", "chosen", "rejected")}


def _check_turns(place: str, columns: Mapping[str, list[dict[str, str]]]) -> None:
    """Every answer has to end in a turn of the assistant; of a whole conversation one turn at least is."""
    for name, messages in columns.items():
        if name == "messages":
            if not any(message["role"] == "assistant" for message in messages):
                raise InputError(f"{place}: messages hold no turn of the assistant to learn from; leave such rows out")
            if messages[0]["role"] == "assistant":
                raise InputError(f"{place}: messages begin with the assistant; give the turn that it answers")
        elif name != "prompt" and messages[-1]["role"] != "assistant":
            raise InputError(f"{place}: {name} does not end with a turn of the assistant; correct it")


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where} is no text; all columns of a row are texts, or all are lists of messages")
    if _SURROGATE.search(value):
        raise InputError(f"{where} holds half of a surrogate pair, which is no character; correct it")
    return value


def _messages(where: str, value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} is no list of messages, or an empty one; correct it")
    return [_message(f"{where}: message {number}", message) for number, message in enumerate(value, 1)]


def _message(where: str, message: Any) -> dict[str, str]:
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        raise InputError(f"{where} has no role; allowed: {', '.join(ROLES)}")
    further = [name for name, value in message.items() if name not in ("role", "content") and value is not None]
    if further:
        # A chat template may write them, so that leaving them out would change what is learnt.
        raise InputError(f"{where} has {', '.join(further)} beside role and content, which is not trained on")
    return {"role": message["role"], "content": _text(f"{where}: content", message.get("content"))}
