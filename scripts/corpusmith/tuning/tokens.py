"""Rows as tokens, with labels for SFT, in an Arrow file that training maps into memory.

    user: "3 in Korean", assistant: "삼"  →  input_ids [1, 7, 9, 2, 30, 5], labels [-100, -100, -100, -100, 30, 5]

Tokens are those that TRL makes of the same row. They are made here because TRL cuts what is too long without a word:
here it is counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpusmith.errors import InputError
from corpusmith.files import sha256_of, whole_file
from corpusmith.program import log, track
from corpusmith.tuning.rows import Row

# What the loss leaves out, as torch has it.
IGNORED = -100
_ROWS_AT_ONCE = 256


@dataclass
class Counts:
    """What became of rows: rows = trained + dropped.

    truncated: rows that are cut at max_length, of those trained on; dropped: rows of which the cut leaves nothing to
    learn; longest: tokens of the longest row; unlearnt_turns: turns of the assistant that the chat template writes
    otherwise once others follow, so that they are context alone; unlike_prompts: rows whose prompt is written
    otherwise when an answer follows, so that training and use differ.
    """

    rows: int = 0
    trained: int = 0
    truncated: int = 0
    dropped: int = 0
    longest: int = 0
    unlearnt_turns: int = 0
    unlike_prompts: int = 0

    def warn(self, max_length: int | None) -> None:
        """Says what a reader has to know."""
        if self.truncated:
            share = self.truncated / self.rows
            log.warning(
                "%s of %s rows (%.1f%%) are longer than max_length %s and are cut there; the longest has %s tokens",
                f"{self.truncated:,}", f"{self.rows:,}", 100 * share, max_length, f"{self.longest:,}",
            )  # fmt: skip
        if self.dropped:
            log.warning(
                "%s of %s rows are left out: their prompts alone fill max_length %s",
                f"{self.dropped:,}", f"{self.rows:,}", max_length,
            )  # fmt: skip
        if self.unlearnt_turns:
            log.warning(
                "%s turns of the assistant are context alone: the chat template writes them otherwise once others"
                " follow; the last turn of each row is learnt", f"{self.unlearnt_turns:,}",
            )  # fmt: skip
        if self.unlike_prompts:
            log.warning(
                "the prompts of %s rows end otherwise when an answer follows: the model learns them without that end",
                f"{self.unlike_prompts:,}",
            )


class _Encoder(ABC):
    """Turns rows into tokens, and counts what becomes of them. max_length: None where nothing is cut."""

    schema: pa.Schema

    def __init__(self, tokenizer: Any, max_length: int | None) -> None:
        self._tokenizer, self._max_length = tokenizer, max_length
        self.counts = Counts()

    def encode(self, rows: Iterable[Row]) -> Iterator[dict[str, list[int]]]:
        """The tokens of each row of which something is left to learn. Raises InputError for bad rows."""
        for row in rows:
            columns, length = self._encode(row)
            self.counts.rows += 1
            self.counts.longest = max(self.counts.longest, length)
            if not self._is_left(columns):
                self.counts.dropped += 1
                continue
            self.counts.trained += 1
            self.counts.truncated += self._max_length is not None and length > self._max_length
            yield columns

    @abstractmethod
    def _encode(self, row: Row) -> tuple[dict[str, list[int]], int]:
        """Tokens, and how many they were before they were cut."""

    @abstractmethod
    def _is_left(self, columns: dict[str, list[int]]) -> bool:
        """Whether there is something to learn."""

    def _render(self, row: Row, messages: list[dict[str, str]], **options: Any) -> list[int]:
        return render(self._tokenizer, row.place, messages, **options)

    def _end(self, row: Row) -> str:
        """What ends a text."""
        end = self._tokenizer.eos_token
        if end is None:
            raise InputError(f"{row.place}: is text, and the tokenizer of the base has no token that ends one")
        return str(end)

    def _read(self, text: str) -> list[int]:
        return list(self._tokenizer(text=text)["input_ids"])


class SftEncoder(_Encoder):
    """input_ids and labels. loss_on: assistant (its turns, or the completion) or all."""

    schema = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])

    def __init__(self, tokenizer: Any, max_length: int | None, loss_on: str) -> None:
        super().__init__(tokenizer, max_length)
        self._loss_on = loss_on

    def _encode(self, row: Row) -> tuple[dict[str, list[int]], int]:
        tokens, labels = self._encode_chat(row) if row.is_chat else self._encode_text(row)
        return {"input_ids": tokens[: self._max_length], "labels": labels[: self._max_length]}, len(tokens)

    def _is_left(self, columns: dict[str, list[int]]) -> bool:
        return any(label != IGNORED for label in columns["labels"])

    def _encode_chat(self, row: Row) -> tuple[list[int], list[int]]:
        columns = row.columns
        if "messages" in columns:
            messages = columns["messages"]
            learnt = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        else:
            messages = columns["prompt"] + columns["completion"]
            learnt = [len(columns["prompt"])]
        if self._loss_on == "all":
            tokens = self._render(row, messages)
            return tokens, list(tokens)
        return self._encode_turns(row, messages[: learnt[-1] + 1] if "messages" in columns else messages, learnt)

    def _encode_turns(self, row: Row, messages: list[dict[str, str]], learnt: list[int]) -> tuple[list[int], list[int]]:
        """learnt: places of the messages to learn; the last one is learnt to the end."""
        tokens = self._render(row, messages)
        labels = [IGNORED] * len(tokens)
        for place in learnt:
            prompt = self._render(row, messages[:place], add_generation_prompt=True)
            start, end = common_prefix(prompt, tokens), len(tokens)
            if place != learnt[-1]:
                end = common_prefix(self._render(row, messages[: place + 1]), tokens)
                self.counts.unlearnt_turns += end <= start
            elif start < len(prompt):
                self.counts.unlike_prompts += 1
            labels[start:end] = tokens[start:end]
        return tokens, labels

    def _encode_text(self, row: Row) -> tuple[list[int], list[int]]:
        prompt, completion, end = row.columns["prompt"], row.columns["completion"], self._end(row)
        tokens = self._read(prompt + completion + ("" if completion.endswith(end) else end))
        if self._loss_on == "all":
            return tokens, list(tokens)
        before = self._read(prompt)
        start = common_prefix(before, tokens)
        self.counts.unlike_prompts += start < len(before)
        return tokens, [IGNORED] * start + tokens[start:]


class DpoEncoder(_Encoder):
    """prompt_ids, chosen_ids and rejected_ids; TRL cuts their sums at max_length."""

    schema = pa.schema([(name, pa.list_(pa.int32())) for name in ("prompt_ids", "chosen_ids", "rejected_ids")])

    def _encode(self, row: Row) -> tuple[dict[str, list[int]], int]:
        prompt, chosen, rejected = (row.columns[name] for name in ("prompt", "chosen", "rejected"))
        if row.is_chat:
            before = self._render(row, prompt, add_generation_prompt=True)
            wholes = [self._render(row, prompt + answer) for answer in (chosen, rejected)]
        else:
            end = self._end(row)
            before = self._read(prompt)
            wholes = [
                self._read(prompt + answer + ("" if answer.endswith(end) else end)) for answer in (chosen, rejected)
            ]
        start = min(common_prefix(before, whole) for whole in wholes)
        self.counts.unlike_prompts += start < len(before)
        columns = {"prompt_ids": before[:start], "chosen_ids": wholes[0][start:], "rejected_ids": wholes[1][start:]}
        return columns, max(map(len, wholes))

    def _is_left(self, columns: dict[str, list[int]]) -> bool:
        return self._max_length is None or len(columns["prompt_ids"]) < self._max_length


def render(tokenizer: Any, place: str, messages: list[dict[str, str]], **options: Any) -> list[int]:
    """The tokens of a conversation. Raises InputError, naming the place, where the chat template refuses it."""
    try:
        return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)["input_ids"])
    except Exception as error:
        # Templates raise what they like, TemplateError and TypeError among it.
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{place}: the chat template of the base refuses it ({first_line}); correct the row"
        ) from error


def common_prefix(first: list[int], second: list[int]) -> int:
    """How many tokens are the same at the beginning of both."""
    length = min(len(first), len(second))
    return next((place for place in range(length) if first[place] != second[place]), length)


def check_template(rows: Iterable[Row], tokenizer: Any, base: str) -> Iterator[Row]:
    """The same rows. Raises InputError where they are conversations and the base has no chat template."""
    rows = iter(rows)
    first = next(rows)
    if first.is_chat and not tokenizer.chat_template:
        raise InputError(
            f"{first.place}: is a conversation, and model {base} has no chat template; take a model that was made for"
            " conversations, put a chat_template.jinja into a copy of its folder and name that by path, or tune on rows"
            " with prompt and completion as texts"
        )
    return chain([first], rows)


def write_tokens(path: Path, rows: Iterable[Row], encoder: SftEncoder | DpoEncoder) -> dict[str, Any]:
    """Writes rows as tokens, in a stream of Arrow, as `datasets` maps it into memory.

    Returns their counts, and under `sha256` what they are known by. Raises InputError where nothing is left to learn.
    """
    with (
        whole_file(path, lasting=False) as partial,
        pa.OSFile(str(partial), "wb") as file,
        pa.ipc.new_stream(file, encoder.schema) as writer,
    ):
        encoded = track(encoder.encode(rows), "reading and tokenizing")
        while batch := list(islice(encoded, _ROWS_AT_ONCE)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, encoder.schema))
        if not encoder.counts.trained:
            raise InputError(f"of {encoder.counts.rows:,} rows nothing is left to learn: give a larger max_length")
    return asdict(encoder.counts) | {"sha256": sha256_of(path)}
