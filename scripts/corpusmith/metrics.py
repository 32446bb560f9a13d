"""What scorers compute, and what of an answer they read.

Imported by the Snakefile: nothing heavy here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corpusmith.identity import score_key
from corpusmith.pairs import Pair


@dataclass(frozen=True)
class Kind:
    """A kind of scorer. program: what runs it; environment: in which; lower_is_better: whether it counts errors."""

    program: str
    environment: str
    lower_is_better: bool


KINDS = {
    "metricx-24": Kind("score_metricx.py", "metricx", lower_is_better=True),
    "reward": Kind("score_reward.py", "transformers", lower_is_better=False),
    "comet": Kind("score_comet.py", "comet", lower_is_better=False),
}
# How a reward model reads: a question and an answer, or a conversation in the model's own chat template.
FORMS = ("pair", "chat")


@dataclass(frozen=True)
class Metric:
    """What a scorer computes.

    identity: what its scores are known by, beside the pair. conversation: whether it reads the conversation of a
    request, as JSON (see `as_conversation`), and not its source. references: whether it reads references where there
    are any.
    """

    identity: str
    conversation: bool = False
    references: bool = True

    def pair(self, row: Mapping[str, Any]) -> Pair:
        """What it is shown of an answer. row: a completion with the columns of its request."""
        source = as_conversation(row) if self.conversation else row["source"]
        return Pair(source, row["text"], row["reference"] if self.references else None)

    def key(self, row: Mapping[str, Any]) -> str:
        """What the score of an answer is known by."""
        pair = self.pair(row)
        return score_key(self.identity, pair.source, pair.hypothesis, pair.reference)


def as_conversation(request: Mapping[str, Any]) -> str:
    """The conversation that a request asks to go on with, as JSON: [{"role": "user", "content": "…"}]."""
    messages = request["messages"] or [{"role": "user", "content": request["prompt"]}]
    return json.dumps(messages, ensure_ascii=False, separators=(",", ":"))


def metricx(checkpoint: str, dtype: str, *, references: bool = True) -> Metric:
    """MetricX-24. checkpoint: the identity of the model; dtype: what it computes with."""
    return Metric(f"metricx-24 {checkpoint} {dtype}", references=references)


def reward(checkpoint: str, dtype: str, form: str, max_length: int | None) -> Metric:
    """A reward model. form: one of FORMS; max_length: most tokens of question and answer, None is the model's own."""
    identity = f"reward {form} {max_length or 'whole'} {checkpoint} {dtype}"
    return Metric(identity, conversation=form == "chat", references=False)


def comet(checkpoint: str, dtype: str, *, references: bool = True) -> Metric:
    """COMET."""
    return Metric(f"comet {checkpoint} {dtype}", references=references)
