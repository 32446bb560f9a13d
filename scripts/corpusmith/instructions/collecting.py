"""From what a model made up to distinct instructions, each sanitised, and the reason why any other one is none.

in:  item_id 5d…, text "  Name three rivers in Peru.\\n"      (a sample)
out: item_id 9c…, instruction "Name three rivers in Peru."    (known by its text from here on)
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.alongside import alongside
from corpusmith.errors import InputError
from corpusmith.identity import item_id, shard_of
from corpusmith.instructions.drawing import Slot
from corpusmith.table_files import open_table
from corpusmith.tables import COMPLETIONS, DROPPED, INSTRUCTIONS, REQUESTS

# Markers of turns that a model writes out where it should have ended, in the templates of the families known.
_MARKER = re.compile(
    r"<\|[a-z_]+\|>|</?s>|<(bos|eos|pad|unk)>|<(start|end)_of_turn>|\[/?INST\]|^\s*(system|user|assistant)\s*(\n|$)"
)
_SHOWN = 200


def instruction_id(text: str) -> str:
    """What an instruction is known by: its text."""
    return item_id("instruction", text)


def sanitise(text: str) -> str:
    """An instruction without what a user would not have typed: blanks around it, marks of byte order, NUL."""
    return unicodedata.normalize("NFC", text).replace("\ufeff", "").replace("\x00", "").strip()


def objection(text: str, finish_reason: str, error: str | None) -> tuple[str, str | None] | None:
    """Why a sanitised sample is no instruction, as reason and detail; None where it is one."""
    if error is not None:
        return "no_answer", error
    if finish_reason == "length":
        return "cut_off", text[-_SHOWN:]
    if not text:
        return "empty", None
    marker = _MARKER.search(text)
    if marker is not None:
        return "special_tokens", marker[0].strip()
    if "\ufffd" in text:
        return "broken_characters", text[:_SHOWN]
    if not any(character.isalpha() for character in text):
        return "no_words", text[:_SHOWN]
    return None


class Distinct:
    """Knows which instructions there were: 16 bytes each, and what a set needs beside them."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def is_new(self, item: str) -> bool:
        """Whether this is the first of its id."""
        key = bytes.fromhex(item)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True


def collect_instructions(
    shards: Sequence[tuple[str | Path, str | Path]],
    slots: Iterable[Slot],
    model: str,
    instructions: str | Path,
    dropped: str | Path,
    account: Account,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Writes each distinct instruction once, in the order in which they were asked for, however that was cut.

    shards: requests and completions of each; slots: what was asked for; model: its name in the config; account: of
    samples. Raises InputError where tables do not belong together or are of other slots.
    """
    samples = [_samples(requests, completions) for requests, completions in shards]
    distinct = Distinct()
    with open_table(instructions, INSTRUCTIONS) as stays, open_table(dropped, DROPPED) as goes:
        for slot in slots:
            sample = next(samples[shard_of(slot.item, len(shards))], None)
            if sample is None or sample["item_id"] != slot.item:
                raise InputError(f"{shards[0][0]}: was asked for by other settings; delete it and build again")
            advance()
            text = sanitise(sample["text"])
            against = objection(text, sample["finish_reason"], sample["error"])
            item = instruction_id(text)
            if against is None and not distinct.is_new(item):
                against = "same_instruction", text[:_SHOWN]
            account.taken.add(slot.item)
            if against is not None:
                account.dropped.add(slot.item)
                account.reasons[against[0]] += 1
                goes.write(_dropped(slot.item, account.stage, against))
                continue
            account.kept.add(slot.item)
            stays.write(
                {
                    "item_id": item,
                    "instruction": text,
                    "origin": model,
                    "topic": slot.topic.name,
                    "sample_id": slot.item,
                    "system": slot.topic.system,
                    "temperature": slot.sampling.temperature,
                    "top_p": slot.sampling.top_p,
                }
            )
        for (requests, _), rows in zip(shards, samples, strict=True):
            if next(rows, None) is not None:
                raise InputError(f"{requests}: holds more than was asked for; delete it and build again")


def _samples(requests: str | Path, completions: str | Path) -> Iterator[dict[str, Any]]:
    return alongside(
        (requests, REQUESTS, ["item_id", "request"]),
        (completions, COMPLETIONS, ["item_id", "request", "text", "finish_reason", "error"]),
        ["item_id", "request"],
    )


def _dropped(item: str, stage: str, against: tuple[str, str | None]) -> Mapping[str, Any]:
    return {"item_id": item, "stage": stage, "reason": against[0], "detail": against[1]}
