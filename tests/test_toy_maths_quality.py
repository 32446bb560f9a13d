"""Toy maths datasets against their truth: the share of right solutions on the way, and of right verdicts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from corpusmith.accounting import Account
from corpusmith.maths.grading import checked_problems, grade_solutions, read_votes
from corpusmith.maths.problems import distinct_problems
from corpusmith.maths.selection import Band, Choice, select_solutions
from corpusmith.quality_lines import maths_lines
from corpusmith.table_files import write_table
from corpusmith.tables import LABELLED_ROWS
from corpusmith.toy.maths_quality import is_right
from maths_tables import Solution, Solved, graded_tables, labelled, write_solved, write_verdicts
from translation_tables import run_program

APPLES = "Mina had 12 apples, bought 5 more and gave 3 to Sora. How many apples does Mina have?"
EGGS = "Juno had 5 eggs and found 4 more. How many eggs does Juno have?"


def test_a_solution_is_right_that_boxes_the_answer_in_any_of_its_forms() -> None:
    assert all(is_right(APPLES, f"… \\boxed{{{answer}}}") for answer in ("14", "fourteen", "14 apples"))
    for wrong in ("14", "\\boxed{15}", "\\boxed{}", "\\boxed{14} or \\boxed{15}", "", None):
        assert not is_right(APPLES, wrong)


def test_the_program_measures_before_and_after_each_filter(tmp_path: Path) -> None:
    right, words = Solution("right", "\\boxed{14}"), Solution("undecided", "\\boxed{fourteen}", answer="fourteen")
    wrong, nine = Solution("wrong", "\\boxed{15}"), Solution("undecided", "\\boxed{nine}", answer="nine")
    eight = Solution("undecided", "\\boxed{eight}", answer="eight")
    solved = [Solved(APPLES, [right, words, wrong], "14"), Solved(EGGS, [nine, eight, wrong], "9")]
    tables = write_solved(tmp_path / "made", solved)
    # The judge is right on fourteen and wrong on nine and eight.
    said = {(APPLES, 1): ["right"], (EGGS, 0): ["wrong"], (EGGS, 1): ["right"]}
    verdicts = write_verdicts(tmp_path / "judge" / "completions" / "0000-of-0001.parquet", said)
    after = graded_tables(tables, tmp_path / "made")
    votes = read_votes(verdicts, ["right"])
    grade_solutions(checked_problems(tables), votes, after.graded, after.grades, Account("grade"))
    (tmp_path / "sources").mkdir()
    rows = [labelled(0, APPLES, "14"), labelled(1, EGGS, "9")]
    write_table(tmp_path / "sources" / "rows.parquet", LABELLED_ROWS, rows)
    distinct_problems(
        *(tmp_path / "sources" / "rows.parquet", tmp_path / "sources" / "problems.parquet"),
        *(tmp_path / "sources" / "conflicts.parquet", Account("problems", "rows")),
    )
    selected = tmp_path / "selected"
    select_solutions(
        *(tmp_path / "sources" / "problems.parquet", [after], Choice(["right", "first"], True, Band()), "toy"),
        *(selected / "kept.parquet", selected / "rejected.parquet", selected / "samples.parquet", Account("select")),
    )
    for kind in ("completions", "graded"):
        path = tmp_path / "solve" / kind / "0000-of-0001.parquet"
        path.parent.mkdir(parents=True)
        path.write_bytes((tmp_path / "made" / f"{kind}.parquet").read_bytes())
    (tmp_path / "filtered").mkdir()
    (tmp_path / "filtered" / "train.parquet").write_bytes((selected / "kept.parquet").read_bytes())
    with gzip.open(tmp_path / "toy.jsonl.gz", "wt") as lines:
        lines.write(json.dumps({"problem": APPLES, "generated_solution": "\\boxed{14}"}) + "\n")
        lines.write(json.dumps({"problem": APPLES, "generated_solution": None}) + "\n")
    run_program(
        *("measure_toy_maths.py", "--folder", tmp_path, "--source", tmp_path / "toy.jsonl.gz", "--shards", 1),
        *("--accept", "right", "--filters", "selected", "--splits", "train", "--quality", tmp_path / "quality.json"),
    )
    quality = json.loads((tmp_path / "quality.json").read_text())
    assert [(stage["name"], stage["right"], stage["rows"]) for stage in quality["stages"]] == [
        ("of the source", 0.5, 2),
        ("made here", 0.5, 6),
        ("graded right", 0.6667, 3),
        ("selected", 0.5, 2),
        ("released", 0.5, 2),
    ]
    assert quality["judge"] == {"name": "the judge is right", "right": 0.3333, "rows": 3}
    lines = list(maths_lines(quality))
    assert any("66.7%" in line for line in lines)
    assert "33.3% of 3" in lines[-1]
