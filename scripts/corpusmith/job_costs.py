"""What the heavy jobs of a build took, from the tables that Snakemake's benchmarks leave. Standard library only.

in:  results/benchmarks/generate/toy-translation/final/0000-of-0002.tsv, a line of s, max_rss, …, cpu_time
out: toy-translation  2 jobs  seconds, CPU seconds, highest memory
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from corpusmith.errors import InputError
from corpusmith.plain_text import size_text, table_lines

_MIB = 2**20


@dataclass
class JobCosts:
    """The sum over jobs, of each its last run. seconds: wall time, also where jobs ran side by side.

    cpu_seconds and peak_bytes leave out jobs too short to be looked at.
    """

    jobs: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: float = 0.0

    def add(self, row: Mapping[str, str]) -> None:
        """Takes in a job. row: a line of its table. Raises KeyError and ValueError for another table."""
        self.jobs += 1
        self.seconds += float(row["s"])
        self.cpu_seconds += _number(row["cpu_time"])
        self.peak_bytes = max(self.peak_bytes, _number(row["max_rss"]) * _MIB)


def job_costs(folder: Path) -> dict[str, JobCosts]:
    """The costs of each dataset, model and tuning, and behind them of all. folder: with RULE/NAME.tsv, RULE/NAME/….tsv.

    Raises InputError for a file that is no table of a benchmark, and where there is none.
    """
    found: dict[str, JobCosts] = {}
    everything = JobCosts()
    for path in sorted(folder.glob("*/**/*.tsv")):
        name = path.relative_to(folder).with_suffix("").parts[1]
        try:
            with path.open(encoding="utf-8", newline="") as file:
                row = list(csv.DictReader(file, delimiter="\t"))[-1]
            for costs in (found.setdefault(name, JobCosts()), everything):
                costs.add(row)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: no table of Snakemake's benchmark: {error!r}") from error
    if not found:
        raise InputError(f"{folder}: no benchmarks here; they are written by builds, to results/benchmarks")
    return dict(sorted(found.items(), key=lambda item: -item[1].seconds)) | {"all": everything}


def cost_lines(costs: Mapping[str, JobCosts]) -> Iterator[str]:
    """A table with a line for each name."""
    yield from table_lines(
        ["", ">jobs", ">wall time", ">CPU time", ">most memory"],
        (
            [name, cost.jobs, f"{cost.seconds:,.0f} s", f"{cost.cpu_seconds:,.0f} s", size_text(cost.peak_bytes)]
            for name, cost in costs.items()
        ),
    )


def _number(text: str) -> float:
    return 0.0 if text in ("NA", "-") else float(text)
