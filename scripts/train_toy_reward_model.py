"""Trains the toy reward model: a small DeBERTa that tells right answers to commands from wrong ones, mostly.

One thread and fixed seeds: the same folder, byte for byte, on one machine.

out: config.json, model.safetensors, tokenizer.json, … and receipt.json, which says what the model is known by
"""

from __future__ import annotations

from functools import partial

from corpusmith.program import argument_parser, run
from corpusmith.toy.training_program import add_training_flags, save_pretrained, write_model


def main() -> None:
    """Parses the flags, trains and writes the model."""
    parser = argument_parser(__doc__)
    add_training_flags(parser)
    flags = parser.parse_args()
    from corpusmith.toy.reward_model import train  # seconds that --help need not spend

    model, tokenizer = train(flags.steps, flags.seed)
    write_model(flags, partial(save_pretrained, model, tokenizer))


if __name__ == "__main__":
    run(main)
