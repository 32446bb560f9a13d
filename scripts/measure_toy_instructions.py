"""Measures a toy instructions dataset against the truth: its commands, its responses, its preference pairs.

in:  the instructions that a model wrote, the responses and their rewards, the splits, the preference pairs
out: {"instructions": {"name": "commands that can be read", "right": 0.89, "rows": 480},
      "responses": [{"name": "one sample", "right": 0.41, "rows": 3200}, {"name": "best by reward", …}, …],
      "pairs": [{"name": "both", "right": 0.9, "rows": 290}, …]}
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.files import write_json
from corpusmith.identity import shard_names
from corpusmith.program import argument_parser, log, run
from corpusmith.quality_lines import instructions_lines
from corpusmith.toy.commands_quality import (
    RELEASED,
    measured_pairs,
    measured_responses,
    quality,
    readable_instructions,
    released_responses,
)


def main() -> None:
    """Parses the flags and measures."""
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", required=True, type=Path, help="folder of the dataset's results")
    parser.add_argument("--instruct-shards", required=True, type=int, help="shards of the step that wrote instructions")
    parser.add_argument("--respond-shards", required=True, type=int, help="shards of the step that responded")
    parser.add_argument("--preferences", action="store_true", help="there are preference pairs")
    parser.add_argument("--splits", required=True, nargs="+", help="names of the splits")
    parser.add_argument("--quality", required=True, help="file to write")
    flags = parser.parse_args()
    written = flags.folder / "instruct" / "completions"
    instructions = readable_instructions(written / f"{shard}.parquet" for shard in shard_names(flags.instruct_shards))
    responses = measured_responses(flags.folder / "respond", shard_names(flags.respond_shards))
    responses[RELEASED] = released_responses(flags.folder / "filtered" / f"{split}.parquet" for split in flags.splits)
    pairs = measured_pairs(flags.folder / "preferences" / "kept.parquet") if flags.preferences else {}
    measured = quality(instructions, responses, pairs)
    write_json(flags.quality, measured)
    for line in instructions_lines(measured):
        log.info(line)


if __name__ == "__main__":
    run(main)
