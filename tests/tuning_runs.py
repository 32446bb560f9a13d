"""A base of 40,000 parameters and small rows to tune it on; the programs of tuning, run in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

import train_dpo
import train_sft
from corpusmith.models import describe_folder, write_receipt
from corpusmith.toy.language_model import Shape, build_model, build_tokenizer

MAX_LENGTH = 128
SHAPE = Shape(layers=2, width=32, heads=2, feed_forward=64, max_length=MAX_LENGTH)
PROGRAMS = {"sft": train_sft, "dpo": train_dpo}


def make_base(folder: Path, seed: int = 0, template: bool = True) -> Path:
    """A random model of two layers; the path of its receipt. template: whether it has one for conversations."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(MAX_LENGTH)
    model = build_model(tokenizer, SHAPE)
    if not template:
        tokenizer.chat_template = None
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_receipt(folder / "receipt.json", describe_folder(folder / "model", folder.name, "built"))
    return folder / "receipt.json"


def chat(*contents: str) -> list[dict[str, str]]:
    """A conversation that the user begins."""
    return [{"role": ("user", "assistant")[turn % 2], "content": content} for turn, content in enumerate(contents)]


def conversations(count: int) -> list[dict[str, Any]]:
    return [{"messages": chat(f"Add {number} and 3", str(number + 3))} for number in range(count)]


def preferences(count: int) -> list[dict[str, Any]]:
    return [
        {
            "prompt": chat(f"Add {number} and 3"),
            "chosen": [{"role": "assistant", "content": str(number + 3)}],
            "rejected": [{"role": "assistant", "content": str(number + 4)}],
        }
        for number in range(count)
    ]


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def flags_of(folder: Path, base: Path, data: Path | str, *more: str, name: str = "") -> list[str]:
    """The flags of a training that leaves all below a folder."""
    outputs = {
        "folder": "model", "receipt": "receipt.json", "training": "training.json", "losses": "losses.tsv",
        "picture": "losses.png", "checkpoints": "checkpoints",
    }  # fmt: skip
    flags = ["--name", name or folder.name, "--base", str(base), "--data", str(data), "--device", "cpu"]
    flags += [word for flag, file in outputs.items() for word in (f"--{flag}", str(folder / file))]
    return [*flags, *more]


def tune(method: str, folder: Path, base: Path, data: Path | str, *more: str, **options: Any) -> dict[str, Any]:
    """Runs a program; what training.json says."""
    before = sys.argv
    sys.argv = [f"train_{method}.py", *flags_of(folder, base, data, *more, **options)]
    try:
        PROGRAMS[method].main()
    finally:
        sys.argv = before
    found: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return found


def losses(folder: Path) -> list[dict[str, str]]:
    """The rows of the table of losses."""
    header, *lines = (folder / "losses.tsv").read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def weights(folder: Path) -> bytes:
    """The bytes of an adapter."""
    return (folder / "model" / "adapter_model.safetensors").read_bytes()
