"""What releases hold, by recipe: the columns of their rows, how their cards are headed, the number in the picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from corpusmith.hub_parquet import Shards
from corpusmith.tables import CANDIDATE, ITEM_ID, PREFERENCES, RESPONSES, SAMPLES, SOLUTIONS, Column, Table

RELEASED = Table(
    "released",
    ITEM_ID,
    Column("source", pa.string(), "the source"),
    Column("target", pa.string(), "its translation"),
    Column("score", pa.float64(), "score of the translation; MetricX: 0 is perfect, 25 the worst"),
    Column("mean_score", pa.float64(), "mean score of the answers that it was chosen from"),
    Column("candidates", pa.int32(), "how many answers it was chosen from"),
)

TOP_K = Table(
    "top k",
    ITEM_ID,
    Column("source", pa.string(), "the source"),
    Column("top_k", pa.list_(CANDIDATE), "the best distinct answers, best first"),
)

RELEASED_SOLUTIONS = Table("released", *SOLUTIONS.columns, row_group=SOLUTIONS.row_group)

# What `load_dataset` loads where no config is named, and the folder of its files.
DEFAULT, DATA = "default", "data"


@dataclass(frozen=True)
class Number:
    """What the picture of a release shows. column: in the released and in the rejected rows; label: of its axis.

    lowest, highest: ends of the first and of the last bin; bins: how many there are between them.
    """

    column: str
    label: str
    lowest: float
    highest: float
    bins: int


@dataclass(frozen=True)
class Kind:
    """A recipe's releases. more: further columns of its rows, in a folder of that name beside the data.

    answers: folder and config of further answers to the released items, and the kind of their tables.
    """

    rows: Table
    more: tuple[str, Table] | None
    heading: Callable[[Mapping[str, Any]], dict[str, Any]]
    number: Number
    answers: tuple[str, Table] = ("samples", SAMPLES)


@dataclass(frozen=True)
class Config:
    """What `load_dataset(repo, name)` loads: the files of each split that has rows, in a folder of the release."""

    name: str
    folder: str
    table: Table
    splits: Mapping[str, Shards]


def _translation_heading(dataset: Mapping[str, Any]) -> dict[str, Any]:
    languages = [dataset["source_language"]["code"], dataset["target_language"]["code"]]
    return {"language": languages, "task_categories": ["translation"], "tags": ["synthetic", "corpusmith"]}


def _maths_heading(dataset: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "language": ["en"],
        "task_categories": ["question-answering", "text-generation"],
        "tags": ["math", "reasoning", "synthetic", "corpusmith"],
    }


def _instructions_heading(dataset: Mapping[str, Any]) -> dict[str, Any]:
    paired = dataset["preferences"] is not None
    return {
        "language": dataset["languages"],
        "task_categories": ["text-generation"],
        "tags": ["instruction-tuning", *(["dpo", "preference"] if paired else []), "synthetic", "corpusmith"],
    }


RELEASES = {
    "translation": Kind(
        RELEASED,
        ("top_k", TOP_K),
        _translation_heading,
        Number("score", "MetricX score (errors: 0 is perfect, 25 the worst)", 0, 25, 250),
    ),
    "maths": Kind(
        RELEASED_SOLUTIONS,
        None,
        _maths_heading,
        Number("pass_rate", "pass rate (share of right solutions to the problem)", 0, 1, 20),
    ),
    "instructions": Kind(
        RESPONSES,
        None,
        _instructions_heading,
        Number("reward", "reward (the reward model's own scale: higher is better)", -20, 20, 160),
        ("preferences", PREFERENCES),
    ),
}
