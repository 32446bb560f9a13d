"""What is asked to have instructions responded to: once for the release, several times for preference pairs.

instruction "Name three rivers in Peru.", n 5 at temperature 0.8   -> one request of five samples
the same, 2 at each of 0.6, 0.8 and 1.0                            -> three requests, t0.6, t0.8 and t1, of two each
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpusmith.errors import InputError
from corpusmith.identity import parse_shard, shard_of
from corpusmith.requests import request

RESPONSE = "response"


@dataclass(frozen=True)
class Responding:
    """How responses are asked for: n at each of the temperatures."""

    n: int
    temperatures: Sequence[float]
    top_p: float
    top_k: int
    max_tokens: int

    def __post_init__(self) -> None:
        if len(set(self.temperatures)) < len(self.temperatures) or not self.temperatures:
            raise InputError(f"temperatures {list(self.temperatures)}: allowed is one or more, each once")

    def requests(self, item: str, turns: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
        """The requests of an instruction. turns: the system prompt, where there is one, and the user's turn."""
        for temperature in self.temperatures:
            yield request(
                item,
                RESPONSE if len(self.temperatures) == 1 else f"t{temperature:g}",
                messages=turns,
                temperature=temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                max_tokens=self.max_tokens,
                n=self.n,
                source=turns[-1]["content"],
            )


def turns_of(instruction: str, system: str | None) -> list[dict[str, str]]:
    """The conversation up to the response."""
    before = [] if system is None else [{"role": "system", "content": system}]
    return [*before, {"role": "user", "content": instruction}]


def response_requests(
    conversations: Iterable[tuple[str, Sequence[Mapping[str, str]]]], shard: str, responding: Responding
) -> Iterator[dict[str, Any]]:
    """The requests of a shard. conversations: item and turns of each instruction."""
    number, count = parse_shard(shard)
    for item, turns in conversations:
        if shard_of(item, count) == number:
            yield from responding.requests(item, turns)
