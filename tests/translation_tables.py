"""Tables of a translation build, made by hand: sources, and answers with their scores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith.identity import item_id, shard_names, shard_of
from corpusmith.table_files import write_table
from corpusmith.tables import COMPLETIONS, SCORES

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@dataclass(frozen=True)
class Answer:
    """One sample of a request and what the scorer says of it."""

    score: float | None = 1.0
    text: str = "답"
    finish_reason: str = "stop"
    truncated: bool = False
    error: str | None = None


FAILED = Answer(None, "", "error", error="the engine gave up")
Answers = Mapping[str, Mapping[str, Sequence[Answer]]]
"""Item, request, samples."""


def run_program(name: str, *flags: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program by hand; fails the test where the program fails."""
    result = call_program(name, *flags, **options)
    assert result.returncode == 0, result.stderr
    return result


def call_program(name: str, *flags: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program by hand, whether it fails or not."""
    command = [sys.executable, str(SCRIPTS / name), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def segment(text: str, kind: str = "sentence", bucket: str = "0-20") -> dict[str, Any]:
    """A row of the pool."""
    place = {"file": "a.jsonl.gz", "line": 1, "start": 0, "end": len(text)}
    return {"item_id": item_id(text), "text": text, "kind": kind, "tokens": len(text.split()), "bucket": bucket} | place


def write_answers(step: Path, answers: Answers, shards: int = 1) -> list[tuple[Path, Path]]:
    """Writes completions and scores of a step, cut as the build cuts them; returns both tables of each shard."""
    tables = []
    for number, shard in enumerate(shard_names(shards)):
        rows = [
            ({"item_id": item, "request": request, "sample": sample}, answer)
            for item, requests in answers.items()
            if shard_of(item, shards) == number
            for request, samples in requests.items()
            for sample, answer in enumerate(samples)
        ]
        completions = step / "completions" / f"{shard}.parquet"
        scores = step / "scores" / f"{shard}.parquet"
        write_table(completions, COMPLETIONS, [key | _completion(answer) for key, answer in rows])
        write_table(scores, SCORES, [key | _score(answer) for key, answer in rows])
        tables.append((completions, scores))
    return tables


def _completion(answer: Answer) -> dict[str, Any]:
    counts = {"prompt_tokens": 7, "completion_tokens": 3, "key": "k"}
    return {"text": answer.text, "finish_reason": answer.finish_reason, "error": answer.error} | counts


def _score(answer: Answer) -> dict[str, Any]:
    return {"score": answer.score, "truncated": answer.truncated, "key": "k"}
