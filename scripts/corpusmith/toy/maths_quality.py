"""How good a toy maths dataset is, against the truth: the share of right solutions on the way to the release."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith.alongside import alongside
from corpusmith.answers import last_boxed
from corpusmith.table_files import read_rows
from corpusmith.tables import COMPLETIONS, GRADED_SOLUTIONS, LABELLED_ROWS, PROBLEMS, SOLUTIONS
from corpusmith.toy.maths import RIGHT, judge, read_problem

_VERDICT = re.compile(r"verdict-(\d+)")


def is_right(problem: str, solution: str | None) -> bool:
    """Whether a solution boxes the right answer, in digits, in words or with its unit."""
    answer = last_boxed(solution or "")
    return answer is not None and judge(str(read_problem(problem).answer), answer.strip()) == RIGHT


@dataclass
class Share:
    """How many of some solutions are right."""

    right: int = 0
    rows: int = 0

    def add(self, right: bool) -> None:
        """Counts one solution."""
        self.right += right
        self.rows += 1

    def as_json(self, name: str) -> dict[str, Any]:
        """As it is written."""
        return {"name": name, "right": round(self.right / self.rows, 4) if self.rows else None, "rows": self.rows}


def share_of(rows: Iterable[tuple[str, str | None]]) -> Share:
    """The share of right ones of problems and solutions."""
    share = Share()
    for problem, solution in rows:
        share.add(is_right(problem, solution))
    return share


def sourced_solutions(path: Path) -> Iterator[tuple[str, str | None]]:
    """Problems and solutions of a file of toy problems."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield row["problem"], row["generated_solution"]


def given_solutions(path: Path) -> Iterator[tuple[str, str | None]]:
    """Problems and solutions of a table of labelled rows."""
    for row in read_rows(path, LABELLED_ROWS, ["problem", "generated_solution"]):
        yield row["problem"], row["generated_solution"]


def kept_solutions(paths: Iterable[Path]) -> Iterator[tuple[str, str | None]]:
    """Problems and solutions of tables of rows that a filter kept, or of splits."""
    for path in paths:
        for row in read_rows(path, SOLUTIONS, ["problem", "generated_solution"]):
            yield row["problem"], row["generated_solution"]


@dataclass(frozen=True)
class Generated:
    """What was made of problems: all solutions, those that were graded right, and how often the judge was."""

    all: Share
    graded_right: Share
    judge: Share


def generated_solutions(
    problems: Path, solve: Path, judged: Path | None, shards: Sequence[str], accept: str
) -> Generated:
    """Measures all solutions of a step. judged: folder of the judge's step; accept: its verdict on right ones.

    Raises InputError where tables of the step do not belong together.
    """
    texts = {row["item_id"]: row["problem"] for row in read_rows(problems, PROBLEMS, ["item_id", "problem"])}
    found = Generated(Share(), Share(), Share())
    for shard in shards:
        completions, graded = solve / "completions" / f"{shard}.parquet", solve / "graded" / f"{shard}.parquet"
        truth: dict[tuple[str, int], bool] = {}
        for solution in alongside(
            (completions, COMPLETIONS, ["item_id", "sample", "text"]),
            (graded, GRADED_SOLUTIONS, ["item_id", "sample", "right"]),
            ["item_id", "sample"],
        ):
            right = is_right(texts[solution["item_id"]], solution["text"])
            truth[solution["item_id"], solution["sample"]] = right
            found.all.add(right)
            if solution["right"]:
                found.graded_right.add(right)
        for item, sample, said in _verdicts(judged / "completions" / f"{shard}.parquet") if judged else ():
            found.judge.add((said == accept) == truth[item, sample])
    return found


def _verdicts(path: Path) -> Iterator[tuple[str, int, str]]:
    for row in read_rows(path, COMPLETIONS, ["item_id", "request", "text"]):
        match = _VERDICT.fullmatch(row["request"])
        assert match is not None
        yield row["item_id"], int(match[1]), row["text"]


def quality(stages: Mapping[str, Share], judged: Share | None) -> dict[str, Any]:
    """What is written of a dataset: the stages in their order, and the judge."""
    found: dict[str, Any] = {"stages": [share.as_json(name) for name, share in stages.items()]}
    return found | ({"judge": judged.as_json("the judge is right")} if judged is not None and judged.rows else {})
