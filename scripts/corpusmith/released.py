"""What releases hold, by recipe: the columns of their rows, and how their cards are headed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from corpusmith.tables import CANDIDATE, ITEM_ID, SOLUTIONS, Column, Table

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

RELEASED_SOLUTIONS = Table("released", *SOLUTIONS.columns)


@dataclass(frozen=True)
class Kind:
    """A recipe's releases. more: further columns of its rows, in a folder of that name beside the data."""

    rows: Table
    more: tuple[str, Table] | None
    heading: Callable[[Mapping[str, Any]], dict[str, Any]]


def _translation_heading(dataset: Mapping[str, Any]) -> dict[str, Any]:
    languages = [dataset["source_language"]["code"], dataset["target_language"]["code"]]
    return {"language": languages, "task_categories": ["translation"], "tags": ["synthetic", "corpusmith"]}


def _maths_heading(dataset: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "language": ["en"],
        "task_categories": ["question-answering", "text-generation"],
        "tags": ["math", "reasoning", "synthetic", "corpusmith"],
    }


RELEASES = {
    "translation": Kind(RELEASED, ("top_k", TOP_K), _translation_heading),
    "maths": Kind(RELEASED_SOLUTIONS, None, _maths_heading),
}
