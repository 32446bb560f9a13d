"""Marks that make a shard due again: a small file beside its table with a number, which is a param of the shard's rule.

    final/completions/0003-of-0016.parquet   the table
    final/completions/0003-of-0016.retry     "2": raised twice

Snakemake would not build a table anew that is merely missing where what follows is there. Imported by the Snakefile:
nothing heavy here.
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.errors import InputError
from corpusmith.files import write_text


def retry_mark_path(table: str | Path) -> Path:
    """Where the mark of a table lies: beside it."""
    return Path(table).with_suffix(".retry")


def read_retry_mark(table: str | Path) -> int:
    """The number of a table's mark; 0 where there is none."""
    path = retry_mark_path(table)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return 0
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"{path}: {text!r:.40} is no number; delete it, then snakemake retry_failed marks it anew")
    return int(text)


def raise_retry_mark(table: str | Path) -> int:
    """Raises the number of a table's mark by one, so that its shard is due; returns the number."""
    number = read_retry_mark(table) + 1
    write_text(retry_mark_path(table), f"{number}\n")
    return number
