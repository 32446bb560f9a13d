"""Takes the best response to each instruction, and keeps the rows that break no rule.

    python scripts/select_responses.py --instructions instructions.parquet --step results/mine/respond --shards 4 \\
        --rules '{"least_reward": -10, "language": ["en"]}' --generation-model Qwen3-8B \\
        --kept kept.parquet --rejected rejected.parquet --account account.json

in:  item_id 5d…, instruction "Add 12 and 30."   and   item_id 5d…, sample 1, text "42"   and   sample 1, score 2.25
out: item_id 5d…, messages [user: "Add 12 and 30.", assistant: "42"], reward 2.25, sample 1, candidates 5
     or, of a row that goes: response "I cannot help with that.", reason reward_too_low, reasons ["reward_too_low",
     "refusal"], detail "-12.5, below -10"

Rules, their defaults and what they look at are told in corpusmith/instructions/rules.py. Responses that failed, were
cut off, are empty, got no score or were too long to be scored whole are not taken.
"""

from __future__ import annotations

import argparse
import json

from corpusmith.accounting import Account
from corpusmith.identity import shard_names
from corpusmith.instructions.rules import DEFAULT_RULES, ResponseRules
from corpusmith.instructions.selection import Inputs, RespondTables, TagTables, select_responses
from corpusmith.program import Progress, argument_parser, json_object, log, run
from corpusmith.table_files import row_count


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--instructions", required=True, help="table of instructions")
    parser.add_argument(
        "--step", required=True, help="folder of the step that responded, with requests/, completions/ and scores/"
    )
    parser.add_argument("--shards", required=True, type=int, help="how many shards the step has")
    parser.add_argument(
        "--scores",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether responses have rewards; without them the first that can be taken is (default: they have)",
    )
    parser.add_argument(
        "--tags", help="folder of the step that tagged, with requests/ and completions/ (default: none)"
    )
    parser.add_argument("--tag-shards", type=int, help="how many shards it has (default: as many as --shards)")
    parser.add_argument(
        "--rules",
        default="{}",
        help="JSON object of rules and thresholds, beside the defaults, which are"
        f" {json.dumps(DEFAULT_RULES)}; null or false turns a rule off (default: {{}})",
    )
    parser.add_argument(
        "--with-system", action="store_true", help="whether the step asked with the system prompts of instructions"
    )
    parser.add_argument("--generation-model", required=True, help="what made the responses")
    parser.add_argument("--stage", default="select", help="name of the stage (default: %(default)s)")
    parser.add_argument("--kept", required=True, help="table of kept rows to write")
    parser.add_argument("--rejected", required=True, help="table of rejected rows to write")
    parser.add_argument("--account", required=True, help="account of instructions to write")
    return parser.parse_args()


def _inputs(flags: argparse.Namespace) -> Inputs:
    shards = [
        RespondTables(
            f"{flags.step}/requests/{shard}.parquet",
            f"{flags.step}/completions/{shard}.parquet",
            f"{flags.step}/scores/{shard}.parquet" if flags.scores else None,
        )
        for shard in shard_names(flags.shards)
    ]
    tags = []
    if flags.tags is not None:
        tags = [
            TagTables(f"{flags.tags}/requests/{shard}.parquet", f"{flags.tags}/completions/{shard}.parquet")
            for shard in shard_names(flags.tag_shards if flags.tag_shards is not None else flags.shards)
        ]
    return Inputs(flags.instructions, shards, tags, flags.with_system)


def main() -> None:
    """Parses the flags and selects."""
    flags = _arguments()
    inputs = _inputs(flags)
    given = json_object(flags.rules, "--rules", 'write it as {"least_reward": -10, "language": ["en"]}')
    rules = ResponseRules(given, scored=flags.scores, tagged=flags.tags is not None)
    account = Account(flags.stage)
    with Progress("select", row_count(flags.instructions)) as progress:
        summary = select_responses(
            inputs, rules, flags.generation_model, flags.kept, flags.rejected, account, progress.advance
        )
    account.write(flags.account)
    log.info("%s", summary)


if __name__ == "__main__":
    run(main)
