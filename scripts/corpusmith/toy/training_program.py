"""What the programs share that train a toy model: flags, and the folder and receipt that they write."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpusmith.files import whole_folder
from corpusmith.models import describe_folder, write_receipt
from corpusmith.program import log


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Adds how it is trained, and where it is written."""
    parser.add_argument("--steps", type=int, required=True, help="training steps")
    parser.add_argument("--seed", type=int, required=True, help="seed of weights and examples")
    parser.add_argument("--name", required=True, help="the model's name in the config")
    parser.add_argument("--folder", required=True, help="folder to write the model to")
    parser.add_argument("--receipt", required=True, help="receipt to write")


def write_model(flags: argparse.Namespace, save: Callable[[Path], None]) -> None:
    """Writes the folder, whole or not at all, and its receipt. save: puts the model's files into a folder."""
    with whole_folder(flags.folder) as folder:
        save(folder)
    write_receipt(flags.receipt, describe_folder(Path(flags.folder), flags.name, "built"))
    log.info("wrote %s", flags.folder)


def save_pretrained(model: Any, tokenizer: Any, folder: Path) -> None:
    """Saves both as transformers does."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
