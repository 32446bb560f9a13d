"""Trains the toy quality estimator: a small mT5 in the form of a MetricX-24 checkpoint.

One thread and fixed seeds: the same folder, byte for byte, on one machine.

out: config.json, model.safetensors, tokenizer.json, … and receipt.json, which says what the model is known by
"""

from __future__ import annotations

from functools import partial

from corpusmith.program import argument_parser, run
from corpusmith.toy.training_program import add_training_flags, write_model


def main() -> None:
    """Parses the flags, trains and writes the model."""
    parser = argument_parser(__doc__)
    add_training_flags(parser)
    flags = parser.parse_args()
    from corpusmith.toy.quality_estimator import save_as_metricx, train  # seconds that --help need not spend

    model, tokenizer = train(flags.steps, flags.seed)
    write_model(flags, partial(save_as_metricx, model, tokenizer))


if __name__ == "__main__":
    run(main)
