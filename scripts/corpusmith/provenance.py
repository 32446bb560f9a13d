"""What a manifest says of files, models, environments and code, so that a release can be checked and made again.

file_entry(release / "json" / "train.jsonl", release)
-> {"path": "json/train.jsonl", "size": 1234, "sha256": "9f…", "rows": 5}
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from corpusmith.files import read_json, sha256_of
from corpusmith.program import log
from corpusmith.table_files import row_count


def file_entry(path: Path, folder: Path) -> dict[str, Any]:
    """A file of a folder: path in it, size in bytes, checksum, and rows where it has such."""
    entry: dict[str, Any] = {
        "path": path.relative_to(folder).as_posix(),
        "size": path.stat().st_size,
        "sha256": sha256_of(path),
    }
    if path.suffix == ".parquet":
        entry["rows"] = row_count(path)
    elif path.suffix == ".jsonl":
        with open(path, "rb") as lines:
            entry["rows"] = sum(1 for _ in lines)
    return entry


def model_entry(receipt: Path) -> dict[str, Any]:
    """What a model or scorer is, by its receipt."""
    value = read_json(receipt)
    return {name: value.get(name) for name in ("identity", "origin", "repo", "revision", "parameters", "dtype")}


def environment_entry(path: Path) -> dict[str, Any]:
    """An environment file with every version in it."""
    dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    pins = [entry for entry in dependencies if isinstance(entry, str)]
    for entry in dependencies:
        if isinstance(entry, dict):
            pins += [pin for pin in entry["pip"] if not pin.startswith("-")]
    return {"name": path.stem, "sha256": sha256_of(path), "pins": pins}


def commit_of(folder: Path) -> dict[str, Any]:
    """The commit of the checkout that builds, and whether its tracked files differ from it; none outside of git."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout

    try:
        top = git("rev-parse", "--show-toplevel").strip()
        return {
            "id": git("rev-parse", "HEAD").strip(),
            "modified": bool(git("-C", top, "status", "--porcelain", "--untracked-files=no").strip()),
        }
    except (OSError, subprocess.CalledProcessError):
        log.warning("not a git checkout: the manifest names no commit")
        return {"id": None, "modified": None}
