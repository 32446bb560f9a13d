"""Which response to each instruction is taken, and which of the instructions stay with theirs.

    instruction "Add 12 and 30.", rewards of its responses 0.5, 2.25, 2.25 -> the second, reward 2.25, candidates 3

One that breaks a rule (rules.py) goes with every reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from corpusmith.accounting import Account
from corpusmith.alongside import alongside, by_item, with_their_rows
from corpusmith.errors import InputError
from corpusmith.filters import Breach
from corpusmith.identity import shard_of
from corpusmith.instructions.rules import Candidate, ResponseRules
from corpusmith.instructions.tags import Tagged, tag_choices, tagged_items
from corpusmith.preferences import unusable
from corpusmith.program import log
from corpusmith.row_steps import RowSplit
from corpusmith.table_files import read_rows
from corpusmith.tables import COMPLETIONS, INSTRUCTIONS, REQUESTS, ROWS, SCORES, TAGS

T = TypeVar("T")
_KEY = ["item_id", "request", "sample"]
_NO_TAGS: Mapping[str, str | None] = dict.fromkeys(TAGS)


@dataclass(frozen=True)
class RespondTables:
    """The tables of one shard of responses. scores: None where no reward model was asked."""

    requests: str | Path
    completions: str | Path
    scores: str | Path | None = None


@dataclass(frozen=True)
class TagTables:
    """The tables of one shard of tags."""

    requests: str | Path
    completions: str | Path


@dataclass(frozen=True)
class Inputs:
    """What is selected from. shards, tags: all shards in their order; tags: empty where nothing was tagged.

    with_system: whether the responses were asked with the system prompts of the instructions.
    """

    instructions: str | Path
    shards: Sequence[RespondTables]
    tags: Sequence[TagTables] = ()
    with_system: bool = False

    @property
    def scored(self) -> bool:
        """Whether responses have rewards."""
        return all(tables.scores is not None for tables in self.shards)


@dataclass
class Rewards:
    """The rewards of responses that can be taken."""

    count: int = 0
    least: float = field(default=float("inf"))
    greatest: float = field(default=float("-inf"))

    def add(self, reward: float) -> None:
        """Counts one."""
        self.count += 1
        self.least, self.greatest = min(self.least, reward), max(self.greatest, reward)

    def all_equal(self) -> bool:
        """Whether there are several, and they say nothing."""
        return self.count > 1 and self.least == self.greatest


@dataclass(frozen=True)
class Taken:
    """The response that is taken, and of how many; or none, and why."""

    response: Mapping[str, Any] | None
    candidates: int
    breach: Breach | None = None


def take(responses: Iterable[Mapping[str, Any]], scored: bool, rewards: Rewards | None = None) -> Taken:
    """The response with the highest reward, the first of equal ones; without rewards the first that can be taken.

    responses: with text, finish_reason, error and sample, and score and truncated where they are scored. Where none can
    be taken, the most frequent reason is given, of equally frequent ones the first.
    """
    usable, reasons = [], Counter[str]()
    for response in responses:
        why = unusable(response, scored)
        if why is None:
            usable.append(response)
        else:
            reasons[why] += 1
    if not usable:
        (reason, _), *others = reasons.most_common() or [("no_answer", 0)]
        also = "".join(f", {count} {name}" for name, count in others)
        detail = f"none of {reasons.total()} responses can be taken" + (f"{also} among them" if also else "")
        return Taken(None, 0, Breach(reason, detail))
    if not scored:
        return Taken(usable[0], len(usable))
    for response in usable:
        if rewards is not None:
            rewards.add(response["score"])
    return Taken(max(usable, key=lambda response: response["score"]), len(usable))


def select_responses(
    inputs: Inputs,
    rules: ResponseRules,
    generation_model: str,
    kept: str | Path,
    rejected: str | Path,
    account: Account,
    advance: Callable[[], None] = lambda: None,
) -> str:
    """Writes the rows that stay and those that go, in the order of the instructions; returns a line for people.

    advance: is told of each row. Raises InputError where tables do not belong together, and for a rule about a tag that
    was not asked for.
    """
    _check_tags(inputs, rules)
    rewards = Rewards()
    with RowSplit(kept, rejected, ROWS["instructions"], account) as split:
        for row, breaches in _judged(inputs, rules, generation_model, rewards):
            advance()
            if breaches:
                split.reject(row, breaches[0].rule, breaches[0].detail, [breach.rule for breach in breaches])
            else:
                split.keep(row)
    if rewards.all_equal():
        log.warning(
            "all %s rewards are %g: they tell no response from another; look at the reward model",
            f"{rewards.count:,}",
            rewards.least,
        )
    return split.summary(account.stage)


def _judged(
    inputs: Inputs,
    rules: ResponseRules,
    generation_model: str,
    rewards: Rewards,
) -> Iterator[tuple[dict[str, Any], list[Breach]]]:
    """Each instruction as a row, and the rules that it breaks."""
    for instruction, responses, tagged in _with_responses(inputs):
        taken = take(responses, inputs.scored, rewards)
        row = _row(instruction, taken, tagged, inputs.scored, generation_model)
        breaches = rules.check(Candidate(row["instruction"], row["response"], row["reward"], tagged))
        if taken.breach is not None:
            breaches.insert(0, taken.breach)
        yield row, breaches


def _row(
    instruction: Mapping[str, Any], taken: Taken, tagged: Tagged | None, scored: bool, generation_model: str
) -> dict[str, Any]:
    response = taken.response
    text = response["text"] if response is not None else None
    turns = [("system", instruction["system"]), ("user", instruction["instruction"]), ("assistant", text)]
    return {
        **{name: instruction[name] for name in ("item_id", "instruction", "origin", "topic", "reference")},
        "response": text,
        "messages": [{"role": role, "content": content} for role, content in turns if content is not None],
        "reward": response["score"] if response is not None and scored else None,
        **(tagged.tags if tagged is not None and tagged.tags is not None else _NO_TAGS),
        "generation_model": generation_model,
        "sample": response["sample"] if response is not None else None,
        "candidates": taken.candidates,
    }


# --- tables whose items go together ---


def _with_responses(inputs: Inputs) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]], Tagged | None]]:
    """Each instruction with its responses and tags, however those are cut into shards."""
    responses = _InTurn([_responses(tables) for tables in inputs.shards], inputs.instructions, "has no responses")
    tags = _InTurn(
        [tagged_items(one.requests, one.completions) for one in inputs.tags], inputs.instructions, "has no tags"
    )
    columns = ["item_id", "instruction", "system", "origin", "topic", "reference"]
    for row in read_rows(inputs.instructions, INSTRUCTIONS, columns):
        if not inputs.with_system:
            # Nobody responded to it.
            row["system"] = None
        yield row, responses.next(row["item_id"]), tags.next(row["item_id"]) if inputs.tags else None
    responses.check_end()
    tags.check_end()


class _InTurn(Generic[T]):
    """What shards hold of items, in the order of a table of all items. what: is said of an item that lacks it."""

    def __init__(self, shards: Sequence[Iterator[tuple[str, T]]], table: str | Path, what: str) -> None:
        self._shards, self._table, self._what = shards, table, what

    def next(self, item: str) -> T:
        """What the item's shard holds of it, which comes next there."""
        found, value = next(self._shards[shard_of(item, len(self._shards))], (None, None))
        if found != item:
            raise InputError(f"{self._table}: item {item} {self._what} in its turn; build the step again")
        return value  # type: ignore[return-value]

    def check_end(self) -> None:
        """Raises InputError where a shard holds more."""
        for shard in self._shards:
            left = next(shard, None)
            if left is not None:
                raise InputError(f"{self._table}: does not hold item {left[0]}, as a step does; build the step again")


def _responses(tables: RespondTables) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The responses to each instruction of a shard, with their scores, those of several requests together."""
    asked = ({"item_id": item} for item, _ in by_item(read_rows(tables.requests, REQUESTS, ["item_id"])))
    completions = (tables.completions, COMPLETIONS, [*_KEY, "text", "finish_reason", "error"])
    answered = read_rows(*completions)
    if tables.scores is not None:
        answered = alongside(completions, (tables.scores, SCORES, [*_KEY, "score", "truncated"]), _KEY)
    for item, responses in with_their_rows(asked, answered, f"{tables.requests} and {tables.completions}"):
        yield item["item_id"], responses


def _check_tags(inputs: Inputs, rules: ResponseRules) -> None:
    for tables in inputs.tags:
        choices = tag_choices(tables.requests)
        if choices is None:
            continue
        for tag, wanted in rules.wanted_tags().items():
            wrong = [value for value in wanted if value not in choices[tag]]
            if wrong:
                allowed = ", ".join(choices[tag])
                raise InputError(
                    f"{tables.requests}: no instruction can have the {tag} {wrong[0]!r}; allowed: {allowed}"
                )
