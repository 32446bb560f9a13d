"""What is asked to have a model make up instructions: each a sample behind a bare pre-query template.

    count 1,500, topics general 0.8 and maths 0.2, temperatures 1.0 (0.5) and 1.2 (0.5)
    -> 1,500 requests of one sample: 600 general at 1.0, 600 general at 1.2, 150 maths at 1.0, 150 maths at 1.2

Each is an item of its own, whose sample index is its number among those that ask the same. So no two of them share a
seed, and more of them ask for the difference: the first N of a larger count are those of the smaller one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from corpusmith.errors import InputError
from corpusmith.identity import canonical, digest, parse_shard, shard_of
from corpusmith.requests import request

INSTRUCTION = "instruction"


@dataclass(frozen=True)
class Topic:
    """A kind of instruction. system: the system prompt that leads to it, None for none; share: weight among topics."""

    name: str
    share: float = 1.0
    system: str | None = None


@dataclass(frozen=True)
class Sampling:
    """How a share of the instructions is sampled."""

    share: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True)
class Slot:
    """One instruction to be made up. number: its own among those of its topic and sampling, from 0."""

    topic: Topic
    sampling: Sampling
    number: int

    @property
    def item(self) -> str:
        """What the request is known by."""
        asked = [self.topic.system, self.sampling.temperature, self.sampling.top_p, self.number]
        return digest("pre-query", self.topic.name, canonical(asked))


@dataclass(frozen=True)
class Drawing:
    """How instructions are asked for.

    count: of instructions; topics and samplings are mixed by their shares, each topic with each sampling; max_tokens:
    of an instruction; stop: texts that end one. Raises InputError where there is no share, or a sampling is greedy.
    """

    count: int
    topics: Sequence[Topic] = (Topic("general"),)
    samplings: Sequence[Sampling] = (Sampling(),)
    max_tokens: int = 512
    stop: Sequence[str] = ()
    _parts: tuple[tuple[Topic, Sampling], ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"{self.count} instructions are asked for; allowed: 1 or more")
        for what, parts in (("topics", self.topics), ("samplings", self.samplings)):
            if not parts or any(part.share <= 0 for part in parts):
                raise InputError(f"{what}: each has to have a share above 0")
        if any(sampling.temperature <= 0 for sampling in self.samplings):
            raise InputError("a temperature of 0 makes all instructions equal; allowed: above 0")
        if len({topic.name for topic in self.topics}) < len(self.topics):
            raise InputError("two topics have one name; allowed: each its own")
        object.__setattr__(self, "_parts", tuple(product(self.topics, self.samplings)))

    def slots(self) -> Iterator[Slot]:
        """All of them, in order: whatever the count, the shares hold within one for each part of the mixture."""
        whole = sum(topic.share for topic in self.topics) * sum(sampling.share for sampling in self.samplings)
        shares = [topic.share * sampling.share / whole for topic, sampling in self._parts]
        given = [0] * len(shares)
        for number in range(1, self.count + 1):
            # To whom most is owed; ties go to the first.
            place = max(range(len(shares)), key=lambda place: (round(shares[place] * number - given[place], 9), -place))
            topic, sampling = self._parts[place]
            yield Slot(topic, sampling, given[place])
            given[place] += 1


def instruction_requests(drawing: Drawing, token_ids: dict[str, list[int]], shard: str) -> Iterator[dict[str, Any]]:
    """The requests of a shard. token_ids: of the pre-query template, by topic."""
    number, count = parse_shard(shard)
    for slot in drawing.slots():
        if shard_of(slot.item, count) == number:
            yield request(
                slot.item,
                INSTRUCTION,
                token_ids=token_ids[slot.topic.name],
                temperature=slot.sampling.temperature,
                top_p=slot.sampling.top_p,
                max_tokens=drawing.max_tokens,
                stop=drawing.stop,
                first_sample=slot.number,
            )


def read_drawing(settings: dict[str, Any], limit: int | None = None) -> Drawing:
    """The drawing that `sources.pre_query` of a dataset's config asks for. limit: most instructions, in a try.

    Raises InputError where a key is missing or unknown.
    """
    try:
        return Drawing(
            count=settings["count"] if limit is None else min(settings["count"], limit),
            topics=[Topic(**topic) for topic in settings["topics"]],
            samplings=[Sampling(**sampling) for sampling in settings["sampling"]],
            max_tokens=settings["max_tokens"],
            stop=settings["stop"],
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"--settings: {error} is missing or not known; see sources.pre_query of a config") from error
