"""Trains the toy base model: a small Qwen3 that translates, solves word problems and judges, right most of the time.

One thread and fixed seeds: the same folder, byte for byte, on one machine.

out: config.json, model.safetensors, tokenizer.json, … and receipt.json, which says what the model is known by
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.files import whole_folder
from corpusmith.models import describe_folder, write_receipt
from corpusmith.program import argument_parser, log, run
from corpusmith.toy.language_model import train


def main() -> None:
    """Parses the flags, trains and writes the model."""
    parser = argument_parser(__doc__)
    parser.add_argument("--steps", type=int, required=True, help="training steps")
    parser.add_argument("--seed", type=int, required=True, help="seed of weights and examples")
    parser.add_argument("--name", required=True, help="the model's name in the config")
    parser.add_argument("--folder", required=True, help="folder to write the model to")
    parser.add_argument("--receipt", required=True, help="receipt to write")
    flags = parser.parse_args()
    model, tokenizer = train(flags.steps, flags.seed)
    with whole_folder(flags.folder) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    write_receipt(flags.receipt, describe_folder(Path(flags.folder), flags.name, "built"))
    log.info("wrote %s", flags.folder)


if __name__ == "__main__":
    run(main)
