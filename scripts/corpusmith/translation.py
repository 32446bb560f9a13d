"""The translation recipe: what lies between generating and scoring. Pure functions from tables to tables.

Sources are asked for a greedy and a sampled answer; those where sampling improves most are asked for many
answers, of which the best is taken (TranslateGemma, arXiv 2601.09012, section 2.1).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.alongside import alongside, by_item
from corpusmith.errors import InputError
from corpusmith.identity import fraction, parse_shard, shard_of
from corpusmith.prompts import user_turn
from corpusmith.requests import request
from corpusmith.table_files import open_table, read_rows
from corpusmith.tables import COMPLETIONS, DROPPED, REQUESTS, SCORES, SEGMENTS, SELECTED_ANSWERS, SELECTED_SOURCES

GREEDY, SAMPLED = "greedy", "sampled"


@dataclass(frozen=True)
class Language:
    """A language as prompts name it: English, en."""

    name: str
    code: str


@dataclass(frozen=True)
class Asking:
    """How translations are asked for. n: sampled answers; greedy: whether one greedy answer is asked for as well."""

    n: int
    greedy: bool
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int


def translation_requests(
    sources: Iterable[Mapping[str, Any]],
    shard: str,
    prompt: Callable[..., str],
    languages: tuple[Language, Language],
    asking: Asking,
) -> Iterator[dict[str, Any]]:
    """The requests of one shard. sources: rows with item_id and text."""
    number, count = parse_shard(shard)
    for row in sources:
        if shard_of(row["item_id"], count) != number:
            continue
        text = row["text"]
        messages = user_turn(prompt(text=text, source_language=languages[0], target_language=languages[1]))
        common = {"messages": messages, "max_tokens": asking.max_tokens, "source": text}
        if asking.greedy:
            yield request(row["item_id"], GREEDY, **common)
        yield request(
            row["item_id"],
            SAMPLED,
            temperature=asking.temperature,
            top_p=asking.top_p,
            top_k=asking.top_k,
            n=asking.n,
            **common,
        )


def scored_answers(completions: str | Path, scores: str | Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each item with its answers and their scores, in the tables' order, which is the same in both."""
    names = ["item_id", "request", "sample"]
    answers = (completions, COMPLETIONS, [*names, "text", "finish_reason", "error"])
    return by_item(alongside(answers, (scores, SCORES, [*names, "score", "truncated"]), names))


def why_unusable(answer: Mapping[str, Any]) -> str | None:
    """Why an answer can never win; None where it can."""
    if answer["error"] is not None:
        return "no_answer"
    if answer["finish_reason"] == "length":
        return "answer_cut_off"
    if not answer["text"].strip():
        return "empty_answer"
    if answer["truncated"]:
        return "too_long_to_score"
    # A model in too narrow a number format gives NaN, which no comparison puts in order.
    if answer["score"] is None or math.isnan(answer["score"]):
        return "no_score"
    return None


# --- prefilter: where sampling improves most on greedy ---


@dataclass(frozen=True)
class _Gain:
    item_id: str
    greedy: float | None
    sampled: float | None
    reason: str | None

    @property
    def gain(self) -> float:
        """Greedy minus sampled; scores are errors, so that more is better."""
        assert self.greedy is not None
        assert self.sampled is not None
        return self.greedy - self.sampled

    @property
    def order(self) -> tuple[float, str]:
        """Sorts the largest gain first; equal gains by id."""
        return (-round(self.gain, 6), self.item_id)


def _gains(tables: Sequence[tuple[str | Path, str | Path]]) -> Iterator[_Gain]:
    for completions, scores in tables:
        for item, answers in scored_answers(completions, scores):
            found = {answer["request"]: answer for answer in answers}
            if set(found) != {GREEDY, SAMPLED} or len(answers) != 2:
                raise InputError(f"{completions}: item {item} has not one greedy and one sampled answer")
            reason = why_unusable(found[GREEDY]) or why_unusable(found[SAMPLED])
            yield _Gain(item, found[GREEDY]["score"], found[SAMPLED]["score"], reason)


def select_sources(
    segments: str | Path,
    tables: Sequence[tuple[str | Path, str | Path]],
    keep: int,
    selected: str | Path,
    dropped: str | Path,
    account: Account,
) -> None:
    """Keeps the `keep` sources with the largest gain, in the segments' order; says of each other one why not.

    tables: completions and scores, shard by shard. Two passes, so that memory grows with what is kept alone.
    """
    best = heapq.nsmallest(keep, (gain for gain in _gains(tables) if gain.reason is None), key=lambda gain: gain.order)
    kept = {gain.item_id: gain for gain in best}
    with open_table(dropped, DROPPED) as writer:
        for gain in _gains(tables):
            if gain.item_id in kept:
                account.keep(gain.item_id)
                continue
            reason = gain.reason or "gain_too_small"
            account.drop(gain.item_id, reason)
            detail = None if gain.reason else f"greedy {gain.greedy:.6f}, sampled {gain.sampled:.6f}"
            writer.write({"item_id": gain.item_id, "stage": account.stage, "reason": reason, "detail": detail})
    with open_table(selected, SELECTED_SOURCES) as writer:
        for row in read_rows(segments, SEGMENTS, ["item_id", "text", "kind", "tokens"]):
            found = kept.pop(row["item_id"], None)
            if found is not None:
                scores = {"greedy_score": found.greedy, "sampled_score": found.sampled, "gain": round(found.gain, 6)}
                writer.write(row | scores)
        if kept:
            missing = next(iter(kept))
            raise InputError(f"{segments}: does not hold item {missing}, which was scored; build the step again")


def draw_sources(segments: str | Path, count: int, seed: int, selected: str | Path) -> None:
    """Draws as many sources at random from the pool, by seed, in the segments' order."""
    ids = (row["item_id"] for row in read_rows(segments, SEGMENTS, ["item_id"]))
    # Not by rank: the pool is the bottom of it in every bucket, so that with the same seed common lengths would win.
    drawn = set(heapq.nsmallest(count, ids, key=lambda item: fraction(f"drawn {seed}", item)))
    with open_table(selected, SELECTED_SOURCES) as writer:
        for row in read_rows(segments, SEGMENTS, ["item_id", "text", "kind", "tokens"]):
            if row["item_id"] in drawn:
                writer.write(row)


# --- final: the best of many ---


def best_first(answers: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The answers that can win, best first: by score, lower is better; equal scores by sample index."""
    usable = [answer for answer in answers if why_unusable(answer) is None]
    return sorted(usable, key=lambda answer: (answer["score"], answer["sample"]))


def select_best(
    requests: str | Path,
    completions: str | Path,
    scores: str | Path,
    keep_top: int,
    selected: str | Path,
    dropped: str | Path,
    account: Account,
) -> None:
    """Takes the best answer of each item of a shard, and beside it the `keep_top` best distinct ones."""
    sources = {row["item_id"]: row["source"] for row in read_rows(requests, REQUESTS, ["item_id", "source"])}
    with open_table(selected, SELECTED_ANSWERS) as kept, open_table(dropped, DROPPED) as gone:
        for item, answers in scored_answers(completions, scores):
            ordered = best_first(answers)
            if not ordered:
                reasons = [why_unusable(answer) or "" for answer in answers]
                reason = max(sorted(set(reasons)), key=reasons.count)
                account.drop(item, reason)
                detail = f"none of {len(answers)} answers can be taken"
                gone.write({"item_id": item, "stage": account.stage, "reason": reason, "detail": detail})
                continue
            account.keep(item)
            distinct = {answer["text"]: answer for answer in reversed(ordered)}
            top = sorted(distinct.values(), key=lambda answer: (answer["score"], answer["sample"]))[:keep_top]
            kept.write(
                {
                    "item_id": item,
                    "source": sources[item],
                    "target": ordered[0]["text"],
                    "score": ordered[0]["score"],
                    "sample": ordered[0]["sample"],
                    "candidates": len(ordered),
                    "mean_score": round(sum(answer["score"] for answer in ordered) / len(ordered), 6),
                    "top_k": [{name: answer[name] for name in ("sample", "text", "score")} for answer in top],
                }
            )
