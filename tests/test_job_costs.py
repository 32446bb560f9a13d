"""What jobs took, as their benchmarks say it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from corpusmith.errors import InputError
from corpusmith.job_costs import JobCosts, job_costs

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def write(folder: Path, name: str, *rows: tuple[str, str, str]) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{seconds}\t0:00:01\t{memory}\t1\t1\t1\t1\t1\t1\t{processor}\n" for seconds, memory, processor in rows)
    (folder / name).write_text(HEAD + "".join(lines))


def test_jobs_are_added_up_by_what_they_made(tmp_path: Path) -> None:
    write(tmp_path, "generate/corpus/final/0000-of-0002.tsv", ("10.5", "500", "8"))
    write(tmp_path, "generate/corpus/final/0001-of-0002.tsv", ("7.5", "600", "6"))
    # Of a job that was repeated, the last run.
    write(tmp_path, "release_dataset/corpus.tsv", ("100", "9000", "100"), ("2", "100", "1"))
    write(tmp_path, "tune/student.tsv", ("30", "NA", "NA"))
    assert job_costs(tmp_path) == {
        "student": JobCosts(1, 30.0, 0.0, 0.0),
        "corpus": JobCosts(3, 20.0, 15.0, 600 * 2**20),
        "all": JobCosts(4, 50.0, 15.0, 600 * 2**20),
    }


def test_they_are_shown_in_a_table(tmp_path: Path) -> None:
    write(tmp_path, "tune/student.tsv", ("1234.5", "500", "8"))
    shown = subprocess.run(
        [sys.executable, ROOT / "scripts" / "show_costs.py", tmp_path], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert [line.split() for line in shown] == [
        ["jobs", "wall", "time", "CPU", "time", "most", "memory"],
        ["student", "1", "1,234", "s", "8", "s", "524.3", "MB"],
        ["all", "1", "1,234", "s", "8", "s", "524.3", "MB"],
    ]


@pytest.mark.parametrize("text", ["", HEAD, "s\n1\n", HEAD.replace("s", "t") + "1\n", HEAD + "a\tb\n"])
def test_what_is_no_benchmark_is_named(tmp_path: Path, text: str) -> None:
    write(tmp_path, "tune/student.tsv")
    (tmp_path / "tune" / "student.tsv").write_text(text)
    with pytest.raises(InputError, match=r"tune/student\.tsv: no table"):
        job_costs(tmp_path)


def test_a_build_without_any_is_an_error_that_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="results/benchmarks"):
        job_costs(tmp_path)
