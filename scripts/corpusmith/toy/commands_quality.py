"""How good a toy instructions dataset is, against the truth: its commands, its responses, its preference pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from corpusmith.alongside import alongside, with_their_rows
from corpusmith.table_files import read_rows
from corpusmith.tables import COMPLETIONS, PREFERENCES, REQUESTS, RESPONSES, SCORES
from corpusmith.toy.commands import answer_of
from corpusmith.toy.maths_quality import Share

GREEDY, SAMPLED, BEST, RELEASED = "greedy", "one sample", "best by reward", "released"


def is_right(instruction: str, response: str) -> bool:
    """Whether a response is the one right answer; to what is no command there is none."""
    return answer_of(instruction) == response.strip()


def readable_instructions(shards: Iterable[Path]) -> Share:
    """How many of the instructions that a model wrote are commands. shards: tables of completions."""
    share = Share()
    for path in shards:
        for row in read_rows(path, COMPLETIONS, ["text"]):
            share.add(answer_of(row["text"].strip()) is not None)
    return share


def measured_responses(step: Path, shards: Sequence[str]) -> dict[str, Share]:
    """How many responses of a step are right, by how they were taken; without those that nothing was taken by.

    step: folder of its requests, completions and scores. Raises InputError where its tables do not belong together.
    """
    found = {name: Share() for name in (GREEDY, SAMPLED, BEST)}
    for shard in shards:
        paths = {kind: step / kind / f"{shard}.parquet" for kind in ("requests", "completions", "scores")}
        names = ["item_id", "request", "sample"]
        rewarded = alongside(
            (paths["completions"], COMPLETIONS, [*names, "text"]), (paths["scores"], SCORES, [*names, "score"]), names
        )
        asked = _instructions(paths["requests"])
        for instruction, responses in with_their_rows(asked, rewarded, f"{step}, shard {shard}"):
            for response in responses:
                greedy = instruction["temperatures"][response["request"]] == 0
                found[GREEDY if greedy else SAMPLED].add(is_right(instruction["text"], response["text"]))
            scored = [response for response in responses if response["score"] is not None]
            if scored:
                best = max(scored, key=lambda response: response["score"])
                found[BEST].add(is_right(instruction["text"], best["text"]))
    return {name: share for name, share in found.items() if share.rows}


def _instructions(requests: Path) -> Iterator[dict[str, Any]]:
    """Each item of a table of requests once: what the user asks, the temperatures by name of the request."""
    current: dict[str, Any] | None = None
    for row in read_rows(requests, REQUESTS, ["item_id", "request", "messages", "temperature"]):
        if current is None or current["item_id"] != row["item_id"]:
            if current is not None:
                yield current
            current = {"item_id": row["item_id"], "text": row["messages"][-1]["content"], "temperatures": {}}
        current["temperatures"][row["request"]] = row["temperature"]
    if current is not None:
        yield current


def released_responses(splits: Iterable[Path]) -> Share:
    """How many released responses are right. splits: tables of responses."""
    share = Share()
    for path in splits:
        for row in read_rows(path, RESPONSES, ["instruction", "response"]):
            share.add(is_right(row["instruction"], row["response"]))
    return share


def measured_pairs(preferences: Path) -> dict[str, Share]:
    """How many pairs have a right response chosen, a wrong one rejected, and both."""
    found = {"chosen is right": Share(), "rejected is wrong": Share(), "both": Share()}
    for row in read_rows(preferences, PREFERENCES, ["prompt", "chosen", "rejected"]):
        instruction = row["prompt"][-1]["content"]
        chosen, rejected = (is_right(instruction, row[name][0]["content"]) for name in ("chosen", "rejected"))
        for share, holds in zip(found.values(), (chosen, not rejected, chosen and not rejected), strict=True):
            share.add(holds)
    return found


def quality(instructions: Share, responses: Mapping[str, Share], pairs: Mapping[str, Share]) -> dict[str, Any]:
    """What is written of a dataset."""
    return {
        "instructions": instructions.as_json("commands that can be read"),
        "responses": [share.as_json(name) for name, share in responses.items()],
        "pairs": [share.as_json(name) for name, share in pairs.items()],
    }
