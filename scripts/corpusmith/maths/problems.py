"""The distinct problems of labelled rows, and what is asked to have them solved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.identity import parse_shard, shard_of
from corpusmith.prompts import user_turn
from corpusmith.requests import request
from corpusmith.table_files import open_table, read_rows
from corpusmith.tables import ANSWER_CONFLICTS, LABELLED_ROWS, PROBLEMS

SOLUTION = "solution"
# What is said of a problem, whoever solves it.
ABOUT = ("problem_type", "problem_source", "dataset")


def distinct_problems(rows: str | Path, problems: str | Path, conflicts: str | Path, account: Account) -> int:
    """Each problem once, in the order of the rows; returns how many have rows with different answers.

    The answer is that of most rows that have one; of the first of them where several are as frequent. account: of rows.
    Memory grows by some 400 bytes a problem.
    """
    answers: dict[bytes, dict[str | None, int]] = {}
    for row in read_rows(rows, LABELLED_ROWS, ["problem_id", "answer"]):
        counts = answers.setdefault(bytes.fromhex(row["problem_id"]), {})
        answer = row["answer"].strip() if row["answer"] is not None else None
        counts[answer or None] = counts.get(answer or None, 0) + 1
    conflicting = 0
    with open_table(problems, PROBLEMS) as distinct, open_table(conflicts, ANSWER_CONFLICTS) as differing:
        for row in read_rows(rows, LABELLED_ROWS, ["problem_id", "problem", *ABOUT]):
            account.taken.count += 1
            found = answers.pop(bytes.fromhex(row["problem_id"]), None)
            if found is None:
                account.dropped.count += 1
                account.reasons["same_problem"] += 1
                continue
            account.kept.count += 1
            known = Counter({answer: count for answer, count in found.items() if answer is not None}).most_common()
            common = {"item_id": row["problem_id"], "problem": row["problem"]}
            said = {name: row[name] for name in ABOUT}
            answer = known[0][0] if known else None
            distinct.write(common | said | {"answer": answer, "rows": sum(found.values())})
            if len(known) > 1:
                conflicting += 1
                differing.write(
                    common | {"answers": [answer for answer, _ in known], "counts": [count for _, count in known]}
                )
    return conflicting


@dataclass(frozen=True)
class Solving:
    """How solutions are asked for."""

    n: int
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int


def solution_requests(
    problems: Iterable[Mapping[str, Any]], shard: str, prompt: Callable[..., str], solving: Solving
) -> Iterator[dict[str, Any]]:
    """One request of n solutions for each problem of a shard. problems: rows with item_id, problem and answer."""
    number, count = parse_shard(shard)
    for row in problems:
        if shard_of(row["item_id"], count) == number:
            yield request(
                row["item_id"],
                SOLUTION,
                messages=user_turn(prompt(problem=row["problem"])),
                temperature=solving.temperature,
                top_p=solving.top_p,
                top_k=solving.top_k,
                max_tokens=solving.max_tokens,
                n=solving.n,
                source=row["problem"],
                reference=row["answer"],
            )
