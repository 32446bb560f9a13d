"""Tables for scorers, and the programs that read them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from conftest import ROOT
from corpusmith.identity import item_id
from corpusmith.models import describe_folder, write_receipt
from corpusmith.requests import request


def asking(source: str | None, n: int, *, name: str = "sampled", **more: Any) -> dict[str, Any]:
    prompt = f"Translate: {source}"
    values = {"prompt": prompt, "temperature": 1.0, "n": n, "max_tokens": 8, "source": source}
    return request(item_id(prompt), name, **values | more)


def answers(row: Mapping[str, Any], texts: Iterable[str | None]) -> list[dict[str, Any]]:
    """Completions of one request; None is an answer that failed."""
    return [
        {
            "item_id": row["item_id"],
            "request": row["request"],
            "sample": row["first_sample"] + place,
            "text": text or "",
            "finish_reason": "stop" if text is not None else "error",
            "prompt_tokens": 1,
            "completion_tokens": 1,
            "error": None if text is not None else "no luck",
            "key": "key",
        }
        for place, text in enumerate(texts)
    ]


def receipt_of(folder: Path, path: Path) -> Path:
    """The receipt of a scorer in a folder."""
    write_receipt(path, describe_folder(folder, "scorer", "local"))
    return path


def run_scorer(
    program: str,
    folder: Path,
    receipt: Path,
    tokenizer: Path,
    *flags: str,
    interpreter: str | Path = sys.executable,
    python: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Scores the tables in a folder by hand."""
    command = [
        *(str(interpreter), *python, str(ROOT / "scripts" / program)),
        *("--requests", str(folder / "requests.parquet"), "--completions", str(folder / "completions.parquet")),
        *("--scorer", str(receipt), "--tokenizer", str(tokenizer), "--device", "cpu"),
        *("--scores", str(folder / "scores.parquet"), "--account", str(folder / "account.json"), *flags),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=environment)
