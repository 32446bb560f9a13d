"""Tunes a model on conversations or on texts (SFT): LoRA, a trained prompt, or all of its weights.

A killed training goes on from its newest whole checkpoint when it is started again.

in:  rows with messages, or with prompt and completion, in Parquet or JSON lines; or any rows, with the file of a prompt
     that each is asked with and the column of the answer; a base by its receipt
out: the adapter (or the whole model) with its tokenizer and receipt; training.json; the losses as table and picture
"""

from __future__ import annotations

from corpusmith.program import argument_parser, run
from corpusmith.tuning.tuning_program import add_sft_flags, add_tuning_flags, tune


def main() -> None:
    """Parses the flags and tunes."""
    parser = argument_parser(__doc__)
    add_tuning_flags(parser)
    add_sft_flags(parser)
    tune(parser.parse_args(), "sft")


if __name__ == "__main__":
    run(main)
