"""An LLM judge: what it is asked about rows, how its votes are counted, and which rows they keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.errors import InputError
from corpusmith.identity import parse_shard, shard_of
from corpusmith.prompts import user_turn
from corpusmith.requests import request
from corpusmith.row_steps import RowSplit
from corpusmith.table_files import read_rows
from corpusmith.tables import COMPLETIONS, RowTables

# A verdict is a word or two; constrained decoding ends it by itself.
MOST_VERDICT_TOKENS = 64


def judge_requests(
    rows: Iterable[Mapping[str, Any]],
    shard: str,
    prompt: Callable[..., str],
    verdicts: Sequence[str],
    votes: int = 1,
    temperature: float = 0.0,
) -> Iterator[dict[str, Any]]:
    """One request for each row of a shard, its answer constrained to the verdicts. rows: item_id and what is shown."""
    number, count = parse_shard(shard)
    for row in rows:
        if shard_of(row["item_id"], count) == number:
            shown = {name: value for name, value in row.items() if name != "item_id"}
            yield request(
                row["item_id"],
                "verdict",
                messages=user_turn(prompt(**shown)),
                max_tokens=MOST_VERDICT_TOKENS,
                choices=list(verdicts),
                n=votes,
                temperature=temperature,
            )


class Ballot:
    """The votes on one question: more than half of those that came have to be accepted verdicts."""

    def __init__(self, accept: Sequence[str]) -> None:
        self._accept = accept
        self._failed: str | None = None
        self._said: list[str] = []

    def add(self, completion: Mapping[str, Any]) -> None:
        """Counts a completion, with text, finish_reason and error, as a vote."""
        if completion["error"] is not None:
            self._failed = self._failed or completion["error"]
        elif completion["finish_reason"] == "length":
            # What is left of one verdict may be another.
            self._failed = self._failed or f"the verdict was cut off: {completion['text']!r}"
        else:
            self._said.append(completion["text"])

    def accepted(self) -> bool | None:
        """Whether most votes are accepted verdicts; None where no vote came, or as many are as are not."""
        in_favour = sum(verdict in self._accept for verdict in self._said)
        return None if 2 * in_favour == len(self._said) else 2 * in_favour > len(self._said)

    def objection(self) -> tuple[str, str | None] | None:
        """Reason and detail of a rejection; None where the verdict is accepted."""
        accepted = self.accepted()
        if accepted is None:
            return "no_verdict", self._failed if not self._said else f"as many say one as the other: {self._heard()}"
        return None if accepted else ("judge", f"the judge said {self._heard()}")

    def _heard(self) -> str:
        counts = {verdict: self._said.count(verdict) for verdict in sorted(set(self._said))}
        return ", ".join(f"{verdict!r}" + (f" {count} times" if count > 1 else "") for verdict, count in counts.items())


def apply_verdicts(
    rows: str | Path,
    tables: RowTables,
    completions: Sequence[str | Path],
    accept: Sequence[str],
    kept: str | Path,
    rejected: str | Path,
    account: Account,
) -> None:
    """Keeps the rows with an accepted verdict; a row without a verdict goes, with the reason."""
    ballots: dict[str, Ballot] = {}
    for path in completions:
        for row in read_rows(path, COMPLETIONS, ["item_id", "text", "finish_reason", "error"]):
            ballots.setdefault(row["item_id"], Ballot(accept)).add(row)
    with RowSplit(kept, rejected, tables, account) as split:
        for row in read_rows(rows, tables.kept):
            ballot = ballots.get(row["item_id"])
            if ballot is None:
                raise InputError(f"{rows}: item {row['item_id']} was never judged; build the judge's requests again")
            split.decide(row, ballot.objection())
