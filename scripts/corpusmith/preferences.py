"""Preference pairs: of several rewarded responses to an instruction, one that is better and one that is worse.

    five responses with rewards 2.5, 0.3, 2.5, -1.0 and none
    best against worst: chosen 2.5 (the first of two), rejected -1.0, margin 3.5; all five scores stay with the pair

The published rule takes the highest and the lowest reward (Magpie, arXiv 2406.08464, section 2.4), even where they are
equal or their texts are. Here a text counts once, and a pair has to have a margin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.alongside import alongside, with_their_rows
from corpusmith.errors import InputError
from corpusmith.identity import fraction
from corpusmith.table_files import open_table, read_rows
from corpusmith.tables import COMPLETIONS, PREFERENCES, REJECTED_PREFERENCES, REQUESTS, SCORES
from corpusmith.unsafe_text import UnsafeText

BEST_WORST, BEST_RANDOM, FIXED_MARGIN = RULES = ("best_worst", "best_random", "fixed_margin")
# Scores are rounded to six places: what differs by less is equal.
_LEAST_MARGIN = 1e-6


@dataclass(frozen=True)
class PairRule:
    """Which response is held against the best one.

    rule: best_worst, the one with the lowest reward; best_random, any with a lower one, drawn by item and seed;
    fixed_margin, the one whose distance from the best is nearest to `margin`. minimum_margin: of rewards, for a pair to
    stay. Raises InputError for what is no rule.
    """

    rule: str = BEST_WORST
    minimum_margin: float = 0.0
    margin: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InputError(f"{self.rule!r} is no rule of pairs; allowed: {', '.join(RULES)}")
        if (self.rule == FIXED_MARGIN) != (self.margin is not None):
            raise InputError(f"rule {self.rule}: a margin goes with {FIXED_MARGIN}, and with no other")
        if self.minimum_margin < 0 or (self.margin is not None and self.margin <= 0):
            raise InputError("the minimum margin has to be 0 or more, and the margin above 0")

    def rejected(self, item: str, best: Mapping[str, Any], worse: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The other response of the pair. worse: those with a lower reward, at least one, in their order."""
        if self.rule == BEST_RANDOM:
            return worse[int(fraction(f"rejected {self.seed}", item) * len(worse))]
        if self.margin is not None:
            wanted = best["score"] - self.margin
            return min(worse, key=lambda response: abs(response["score"] - wanted))
        return min(worse, key=lambda response: response["score"])


@dataclass(frozen=True)
class Pair:
    """The outcome for an instruction: chosen and rejected, or a reason and what was seen."""

    chosen: Mapping[str, Any] | None = None
    rejected: Mapping[str, Any] | None = None
    reason: str | None = None
    detail: str | None = None


def pair(item: str, responses: Iterable[Mapping[str, Any]], rule: PairRule) -> Pair:
    """The pair of an item's responses, which have text, finish_reason, error, score and truncated.

    Usable is what was answered whole and has a score; equal texts count once, as the first of them. Ties for the best
    go to the first.
    """
    usable: dict[str, Mapping[str, Any]] = {}
    reasons: Counter[str] = Counter()
    for response in responses:
        why = unusable(response)
        if why is None:
            usable.setdefault(response["text"].strip(), response)
        else:
            reasons[why] += 1
    distinct = list(usable.values())
    if not distinct:
        reason = reasons.most_common(1)[0][0] if reasons else "no_answer"
        return Pair(reason=reason, detail=f"none of {reasons.total()} responses can be taken")
    if len(distinct) == 1:
        return Pair(reason="one_response", detail="all responses that can be taken say the same")
    best = max(distinct, key=lambda response: response["score"])
    worse = [response for response in distinct if best["score"] - response["score"] >= _LEAST_MARGIN]
    if not worse:
        return Pair(reason="equal_scores", detail=f"all {len(distinct)} responses have the reward {best['score']:g}")
    other = rule.rejected(item, best, worse)
    margin = best["score"] - other["score"]
    if margin + _LEAST_MARGIN / 2 < rule.minimum_margin:
        return Pair(reason="margin_too_small", detail=f"{margin:.6g} between the two")
    return Pair(best, other)


def unusable(response: Mapping[str, Any], scored: bool = True) -> str | None:
    """Why a response cannot be taken; None where it can.

    response: with text, finish_reason and error, and where it was scored with score and truncated.
    """
    if response["error"] is not None:
        return "no_answer"
    if response["finish_reason"] == "length":
        return "answer_cut_off"
    if not response["text"].strip():
        return "empty_answer"
    if not scored:
        return None
    if response["truncated"]:
        return "too_long_to_score"
    # NaN is not equal to itself.
    if response["score"] is None or response["score"] != response["score"]:
        return "no_score"
    return None


@dataclass(frozen=True)
class ResponseTables:
    """The tables of one shard of rewarded responses."""

    requests: str | Path
    completions: str | Path
    scores: str | Path


def build_preferences(
    shards: Sequence[ResponseTables],
    rule: PairRule,
    kept: str | Path,
    rejected: str | Path,
    account: Account,
    advance: Callable[[], None] = lambda: None,
    finder: UnsafeText | None = None,
) -> None:
    """Writes a pair for each instruction that has one, and says of each other one why not.

    finder: of what should not be released; all responses of a pair are, and one that holds such drops the pair.

    Responses of one instruction may come from several requests, such as one for each temperature; they have to stand
    together. Raises InputError where tables do not belong together, and for a request that is no conversation.
    """
    names = ["item_id", "request", "sample"]
    with open_table(kept, PREFERENCES) as stays, open_table(rejected, REJECTED_PREFERENCES) as goes:
        for tables in shards:
            asked = _instructions(tables.requests)
            rewarded = alongside(
                (tables.completions, COMPLETIONS, [*names, "text", "finish_reason", "error"]),
                (tables.scores, SCORES, [*names, "score", "truncated"]),
                names,
            )
            where = f"{tables.requests} and {tables.completions}"
            for instruction, responses in with_their_rows(asked, rewarded, where):
                item, temperatures = instruction["item_id"], instruction["temperatures"]
                found = _safe(pair(item, responses, rule), responses, finder)
                row = {
                    "item_id": item,
                    "prompt": instruction["messages"],
                    "responses": [
                        {
                            "sample": response["sample"],
                            "temperature": temperatures[response["request"]],
                            "text": response["text"],
                            "score": response["score"],
                        }
                        for response in responses
                    ],
                }
                advance()
                if found.chosen is None or found.rejected is None:
                    reason = found.reason or ""
                    account.drop(item, reason)
                    goes.write({**row, "reason": reason, "reasons": [reason], "detail": found.detail})
                    continue
                account.keep(item)
                stays.write(
                    row
                    | {
                        "chosen": _turn(found.chosen),
                        "rejected": _turn(found.rejected),
                        "chosen_score": found.chosen["score"],
                        "rejected_score": found.rejected["score"],
                        "margin": round(found.chosen["score"] - found.rejected["score"], 6),
                    }
                )


def _safe(found: Pair, responses: Iterable[Mapping[str, Any]], finder: UnsafeText | None) -> Pair:
    """The same, but for pairs whose responses hold what should not be released."""
    if finder is None or found.chosen is None:
        return found
    findings = [(response, finding) for response in responses for finding in finder.find(response["text"])]
    if not findings:
        return found
    response, finding = findings[0]
    where = f"response {response['sample']} of {response['request']}, characters {finding.start} to {finding.end}"
    return Pair(reason="unsafe", detail=f"{finding.what} in {where}")


def _turn(response: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": response["text"]}]


def _instructions(requests: str | Path) -> Iterable[dict[str, Any]]:
    """Each item of a table of requests once, with its conversation and the temperatures by name of the request."""
    current: dict[str, Any] | None = None
    for row in read_rows(requests, REQUESTS, ["item_id", "request", "messages", "temperature"]):
        if row["messages"] is None:
            raise InputError(f"{requests}: item {row['item_id']} is no conversation; pairs are made of messages")
        if current is not None and current["item_id"] == row["item_id"]:
            if current["messages"] != row["messages"]:
                raise InputError(f"{requests}: item {row['item_id']} has two conversations; pairs are made of one")
        else:
            if current is not None:
                yield current
            current = {"item_id": row["item_id"], "messages": row["messages"], "temperatures": {}}
        current["temperatures"][row["request"]] = row["temperature"]
    if current is not None:
        yield current
