"""The smallest question to each model and scorer of a config, and what became of it.

Imported by the Snakefile: nothing heavy here.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corpusmith import layout

_ROLES = ("model", "scorer")
_SHOWN = 80


def asked_steps(config: layout.Config) -> dict[str, tuple[str, str]]:
    """Each model and scorer that datasets use, with a dataset and a step that use it: as they ask it, it is asked."""
    found: dict[str, tuple[str, str]] = {}
    for dataset in config["datasets"]:
        for step in dict.fromkeys(entry.split("/")[0] for entry in layout.asking(config, dataset)):
            asked = layout.step_of(config, dataset, step)
            for role in _ROLES:
                if role in asked:
                    found.setdefault(asked[role], (dataset, step))
    return found


def read_outcome(name: str, folder: Path, log: Path, benchmark: Path) -> dict[str, Any]:
    """What became of one question: whether it was answered, and the answer, the score, or why there is neither.

    folder: where the table of completions or scores should lie; benchmark: what Snakemake measured of the job.
    """
    said, error = _answer(folder)
    works = said is not None
    if said is None:
        said = error or _last_line(log) or "no word in its log"
    words = " ".join(said.split()) or "(an empty answer)"
    return {
        "name": name,
        "ok": works,
        "seconds": _seconds(benchmark),
        "said": words[:_SHOWN] if works else words,
        "log": str(log),
    }


def outcome_line(outcome: Mapping[str, Any], width: int) -> str:
    """What became of one question, as a line. width: of the longest name."""
    seconds = "" if outcome["seconds"] is None else f"{outcome['seconds']:.1f} s"
    said = outcome["said"] if outcome["ok"] else f"{outcome['said']} (see {outcome['log']})"
    return f"{outcome['name']:<{width}}  {'ok' if outcome['ok'] else 'FAILED':<6}  {seconds:>8}  {said}"


def _answer(folder: Path) -> tuple[str | None, str | None]:
    """The answer or score as text, or why there is none; neither where nothing was written."""
    from corpusmith.table_files import read_rows
    from corpusmith.tables import COMPLETIONS, SCORES

    for name, table, column in (("completions", COMPLETIONS, "text"), ("scores", SCORES, "score")):
        path = folder / f"{name}.parquet"
        if path.exists():
            row = next(read_rows(path, table))
            return (None, row["error"]) if row["error"] is not None else (str(row[column]), None)
    return None, None


def _last_line(log: Path) -> str | None:
    """What a program said last; where it ended with an error of the user's, that."""
    if not log.exists():
        return None
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines)[-1] if lines else None


def _seconds(benchmark: Path) -> float | None:
    if not benchmark.exists():
        return None
    with open(benchmark, encoding="utf-8") as file:
        return float(next(csv.DictReader(file, delimiter="\t"))["s"])
