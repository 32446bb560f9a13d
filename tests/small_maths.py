"""A small maths build whose every row is known, as far as its release; for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conftest import ROOT
from corpusmith import layout
from corpusmith.accounting import Account
from corpusmith.config import resolve_config
from corpusmith.files import write_json
from corpusmith.identity import item_id
from corpusmith.release import Build
from corpusmith.table_files import write_table
from corpusmith.tables import PROBLEMS, REJECTED_SOLUTIONS, SAMPLES, SOLUTIONS

NAME = "sums"
# Problems with their pass rates, by where they end.
ENDS = {"train": [0.25, 0.5, 1.0, 0.75], "test": [0.5], "rejected": [0.0]}


def solution(number: int, pass_rate: float | None, **values: Any) -> dict[str, Any]:
    """A row that is released."""
    item = item_id(f"sum {number}")
    row: dict[str, Any] = {column.name: None for column in SOLUTIONS.columns}
    row |= {"item_id": item, "problem_id": item, "problem": f"What is {number} + {number}?", "answer": f"{2 * number}"}
    row |= {"answer_origin": "given", "generated_solution": f"It is \\boxed{{{2 * number}}}.", "generation_model": "t"}
    row |= {"pass_rate": pass_rate, "pass_rate_samples": 4, "right": True, "sample": 0, "dataset": "made"}
    return row | values


def sample(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A further solution of a problem."""
    right = [True, False, None][number % 3]
    return {
        "item_id": row["item_id"],
        "sample": number,
        "generated_solution": f"no. {number}",
        "answer": None,
        "right": right,
    }


def maths_config(**changes: Any) -> dict[str, Any]:
    """Problems of files, solved by a teacher."""
    entry: dict[str, Any] = {
        "recipe": "maths",
        "sources": {"files": ["/home/somebody/sums.jsonl"]},
        "solve": {"model": "teacher", "n": 4, "shards": 1},
        "select": {"solutions": "generated"},
        "splits": {"train": 0.8, "test": 0.2},
        "release": {"licence": "cc-by-4.0"},
    }
    model = {"engine": "transformers", "repo": "someone/teacher", "device": "cpu"}
    return resolve_config({"models": {"teacher": model, "judge": model}, "datasets": {NAME: entry | changes}})


def maths_build(
    parent: Path, config: dict[str, Any] | None = None, rows: Mapping[str, list[Any]] | None = None
) -> Build:
    """Writes the tables of the build, and says what its release is made of. rows: by where they end."""
    config, folder = config or maths_config(), parent / NAME
    if rows is None:
        numbers = iter(range(100))
        rows = {end: [solution(next(numbers), rate) for rate in rates] for end, rates in ENDS.items()}
    everything = [row for of_end in rows.values() for row in of_end]
    problems = [row | {"rows": 1, "dataset": "made"} for row in everything]
    write_table(folder / "sources" / "problems.parquet", PROBLEMS, problems)
    samples = [sample(row, number) for row in everything for number in range(4)]
    write_table(folder / "samples.parquet", SAMPLES, samples)
    filtered = Account("filter")
    for end, of_end in rows.items():
        if end == "rejected":
            out = [row | {"reason": "no_right", "reasons": ["no_right"], "detail": None} for row in of_end]
            write_table(folder / "filtered" / "rejected.parquet", REJECTED_SOLUTIONS, out)
        else:
            write_table(folder / "filtered" / f"{end}.parquet", SOLUTIONS, of_end)
        for row in of_end:
            if end == "rejected":
                filtered.drop(row["item_id"], "no_right")
            else:
                filtered.keep(row["item_id"])
    filtered.write(folder / "filter.account.json")
    receipt = {"name": "teacher", "origin": "hub", "repo": "someone/teacher", "revision": "ab12", "identity": "id-t"}
    write_json(parent / "teacher.json", receipt)
    return Build(
        name=NAME,
        folder=folder,
        stages=["filter"],
        tables=["sources/problems", "samples"],
        dropped=["filtered/rejected"],
        pool=folder / "sources" / "problems.parquet",
        card=ROOT / layout.card_of(config, NAME),
        splits={end: folder / "filtered" / f"{end}.parquet" for end in rows if end != "rejected"},
        config=layout.release_config(config, NAME),
        models={"teacher": parent / "teacher.json"},
        environments=[ROOT / "envs" / "data.yaml"],
        samples=["samples"],
    )
