"""Collects what a model made up as instructions: sanitised, each once, and says of each other sample why it is none.

    python scripts/collect_instructions.py --step results/mine/instruct --shards 4 --model teacher --settings '{…}' \\
        --instructions instructions.parquet --dropped dropped.parquet --account account.json

in:  requests and completions of a step   item_id 5d…, text "Name three rivers in Peru.\\n"
out: item_id 9c…, instruction "Name three rivers in Peru.", origin teacher, topic general, temperature 1.0, top_p 1.0
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.accounting import Account
from corpusmith.identity import shard_names
from corpusmith.instructions.collecting import collect_instructions
from corpusmith.instructions.drawing import read_drawing
from corpusmith.program import Progress, argument_parser, json_object, log, run


def main() -> None:
    """Parses the flags and writes the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument("--step", type=Path, required=True, help="folder of the step, with requests and completions")
    parser.add_argument("--shards", type=int, required=True, help="how many shards the step has")
    parser.add_argument("--settings", required=True, metavar="JSON", help="what asked for them: sources.pre_query")
    parser.add_argument("--limit", type=int, help="so many were asked for at most (default: all)")
    parser.add_argument("--model", required=True, help="name of the model, for the column origin")
    parser.add_argument("--stage", default="sources/instructions", help="name in the account (default: %(default)s)")
    parser.add_argument("--instructions", required=True, help="table of instructions to write")
    parser.add_argument("--dropped", required=True, help="table of samples that are none to write")
    parser.add_argument("--account", required=True, help="account of samples to write, in JSON")
    flags = parser.parse_args()
    drawing = read_drawing(json_object(flags.settings, "--settings"), flags.limit)
    account = Account(flags.stage, "samples")
    tables = [
        (flags.step / "requests" / f"{shard}.parquet", flags.step / "completions" / f"{shard}.parquet")
        for shard in shard_names(flags.shards)
    ]
    with Progress("instructions", drawing.count) as progress:
        collect_instructions(
            tables, drawing.slots(), flags.model, flags.instructions, flags.dropped, account, progress.advance
        )
    account.write(flags.account)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(account.reasons.items())) or "none"
    log.info("%s instructions of %s samples; dropped: %s", account.kept.count, account.taken.count, reasons)


if __name__ == "__main__":
    run(main)
