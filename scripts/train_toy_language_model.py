"""Trains a toy model: a small Qwen3 that has learned the toy world, or commands and how users give them.

--learns world: it translates, solves word problems and judges, right most of the time. --learns commands: it answers
commands such as "Write 342 in Korean", right about half of the time, and writes such commands itself.

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
    parser.add_argument(
        "--learns", choices=("world", "commands"), default="world", help="what it is taught (default: %(default)s)"
    )
    add_training_flags(parser)
    flags = parser.parse_args()
    from corpusmith.toy import instruct_model, language_model  # seconds that --help need not spend

    train = {"world": language_model.train, "commands": instruct_model.train}[flags.learns]
    model, tokenizer = train(flags.steps, flags.seed)
    write_model(flags, partial(save_pretrained, model, tokenizer))


if __name__ == "__main__":
    run(main)
