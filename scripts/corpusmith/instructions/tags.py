"""Tags of instructions, as a model gives them: difficulty, quality, category and language, in JSON of a given schema.

    in:  instruction "Add 12 and 30."
    asks for {"difficulty": one of five, "quality": one of five, "category": one of twelve, "language": a code}
    out: {"difficulty": "very easy", "quality": "good", "category": "Math", "language": "en"}

The values are those of Magpie (magpie-align/magpie, exp/str_utils.py), which asks for each in a prompt of its own, with
words around them; here one answer holds all four. What is no such JSON leaves an instruction untagged, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from corpusmith.alongside import with_their_rows
from corpusmith.errors import InputError
from corpusmith.identity import parse_shard, shard_of
from corpusmith.prompts import user_turn
from corpusmith.requests import request
from corpusmith.table_files import read_rows
from corpusmith.tables import COMPLETIONS, REQUESTS, TAGS

REQUEST = "tags"

DIFFICULTIES = ("very easy", "easy", "medium", "hard", "very hard")
QUALITIES = ("very poor", "poor", "average", "good", "excellent")
CATEGORIES = (
    "Information seeking",
    "Reasoning",
    "Planning",
    "Editing",
    "Coding & Debugging",
    "Math",
    "Role playing",
    "Data analysis",
    "Creative writing",
    "Advice seeking",
    "Brainstorming",
    "Others",
)
# Magpie asks no model for the language. ISO 639-1 codes, as the rule of the language has them.
LANGUAGES = (
    *("ar", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "uk", "vi", "zh"),
    "other",
)


@dataclass(frozen=True)
class TagChoices:
    """What each tag may be. Raises InputError for a tag without values, or with one twice."""

    difficulty: Sequence[str] = DIFFICULTIES
    quality: Sequence[str] = QUALITIES
    category: Sequence[str] = CATEGORIES
    language: Sequence[str] = LANGUAGES

    def __post_init__(self) -> None:
        for name, values in asdict(self).items():
            if not values or len(set(values)) < len(values) or not all(value.strip() for value in values):
                raise InputError(f"tags: {name} is one of {list(values)!r}; each value once, and at least one")

    def json_schema(self) -> str:
        """The schema of an answer: an object with each tag and nothing else."""
        schema = {
            "type": "object",
            "properties": {name: {"type": "string", "enum": list(values)} for name, values in asdict(self).items()},
            "required": list(TAGS),
            "additionalProperties": False,
        }
        return json.dumps(schema, ensure_ascii=False)

    def most_tokens(self) -> int:
        """Tokens that no answer goes beyond: the characters of the longest, widely spaced and every letter escaped."""
        return len(json.dumps({name: max(values, key=_spelled) for name, values in asdict(self).items()}, indent=4))


def _spelled(value: str) -> int:
    return len(json.dumps(value))


@dataclass(frozen=True)
class Tagged:
    """The tags of an instruction, or why it has none and what was seen in their place."""

    tags: Mapping[str, str] | None = None
    reason: str | None = None
    detail: str | None = None


def tag_requests(
    instructions: Iterable[Mapping[str, Any]],
    shard: str,
    prompt: Callable[..., str],
    choices: TagChoices,
    temperature: float = 0.0,
) -> Iterator[dict[str, Any]]:
    """One request for each instruction of a shard. instructions: rows with item_id and instruction.

    The prompt may show what each tag may be: it knows the instruction and, as lists, difficulties, qualities,
    categories and languages.
    """
    number, count = parse_shard(shard)
    schema, most_tokens = choices.json_schema(), choices.most_tokens()
    lists = {
        "difficulties": list(choices.difficulty),
        "qualities": list(choices.quality),
        "categories": list(choices.category),
        "languages": list(choices.language),
    }
    for row in instructions:
        if shard_of(row["item_id"], count) == number:
            yield request(
                row["item_id"],
                REQUEST,
                messages=user_turn(prompt(instruction=row["instruction"], **lists)),
                temperature=temperature,
                max_tokens=most_tokens,
                json_schema=schema,
            )


def read_tags(completion: Mapping[str, Any], json_schema: str) -> Tagged:
    """The tags of a completion, which has text, finish_reason and error. json_schema: what it was asked for by.

    Reasons of untagged ones: no_answer, answer_cut_off, no_json, no_such_tags (a key is missing, or a value is none of
    those allowed: not every server keeps to a schema).
    """
    if completion["error"] is not None:
        return Tagged(None, "no_answer", completion["error"])
    text = completion["text"]
    if completion["finish_reason"] == "length":
        return Tagged(None, "answer_cut_off", _shown(text))
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return Tagged(None, "no_json", _shown(text))
    allowed = _allowed(json_schema)
    if not isinstance(found, dict) or any(found.get(name) not in values for name, values in allowed.items()):
        return Tagged(None, "no_such_tags", _shown(text))
    return Tagged({name: found[name] for name in TAGS})


def _shown(text: str) -> str:
    return repr(text[:100])


@lru_cache(maxsize=4)
def _allowed(json_schema: str) -> dict[str, list[str]]:
    try:
        properties = json.loads(json_schema)["properties"]
        return {name: properties[name]["enum"] for name in TAGS}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{json_schema:.100} is no schema of tags ({error!r}); build their requests again") from error


def tag_choices(requests: str | Path) -> dict[str, list[str]] | None:
    """What each tag may be, by the first request of a shard; None where there is none."""
    first = next(read_rows(requests, REQUESTS, ["item_id", "json_schema"], batch_size=1), None)
    return _allowed(first["json_schema"] or "") if first is not None else None


def tagged_items(requests: str | Path, completions: str | Path) -> Iterator[tuple[str, Tagged]]:
    """The tags of each instruction of a shard, in order. Raises InputError where the tables do not belong together."""
    asked = read_rows(requests, REQUESTS, ["item_id", "json_schema"])
    answered = read_rows(completions, COMPLETIONS, ["item_id", "text", "finish_reason", "error"])
    for row, answers in with_their_rows(asked, answered, f"{requests} and {completions}"):
        if row["json_schema"] is None:
            raise InputError(f"{requests}: item {row['item_id']} was asked without a schema; build the requests again")
        yield row["item_id"], read_tags(answers[0], row["json_schema"])
