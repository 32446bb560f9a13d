"""Tunes a model on preferences (DPO): LoRA on a base or going on with that of an SFT, or all of its weights.

The reference is the model as it is before: the base, or the base with the adapter that is gone on with.
A killed training goes on from its newest whole checkpoint when it is started again.

in:  rows with prompt, chosen and rejected, in Parquet or JSON lines; a base by its receipt, an earlier tuning of it
out: the adapter (or the whole model) with its tokenizer and receipt; training.json; the losses as table and picture
"""

from __future__ import annotations

from corpusmith.program import argument_parser, run
from corpusmith.tuning.tuning_program import add_tuning_flags, tune


def main() -> None:
    """Parses the flags and tunes."""
    parser = argument_parser(__doc__)
    add_tuning_flags(parser, ("lora", "full"))
    tune(parser.parse_args(), "dpo")


if __name__ == "__main__":
    run(main)
