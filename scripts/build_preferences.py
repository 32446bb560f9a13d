"""Makes preference pairs of rewarded responses: one that is better, one that is worse, in the columns that TRL reads.

    python scripts/build_preferences.py --step results/mine/respond --shards 4 --rule best_worst --minimum-margin 0.5 \\
        --kept pairs.parquet --rejected rejected.parquet --account account.json

in:  requests, completions and scores of a step; a reward is a score of which higher is better
out: prompt [{user: …}], chosen [{assistant: …}], rejected [{assistant: …}], their scores, and all responses with theirs

Equal texts count once. Instructions without a pair go to --rejected with the reason: one_response, equal_scores,
margin_too_small, unsafe (see docs/safety.md), or why no response can be taken.
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.accounting import Account
from corpusmith.identity import shard_names
from corpusmith.preferences import BEST_WORST, RULES, PairRule, ResponseTables, build_preferences
from corpusmith.program import Progress, argument_parser, log, run
from corpusmith.unsafe_flags import add_unsafe_flags, finder_of


def main() -> None:
    """Parses the flags and makes the pairs."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--step", required=True, type=Path, help="folder of the step, with requests, completions and scores in it"
    )
    parser.add_argument("--shards", required=True, type=int, help="how many shards the step has")
    parser.add_argument(
        "--rule",
        default=BEST_WORST,
        choices=RULES,
        help="what the best is held against: the worst, a random worse one, or the one whose distance is nearest to"
        " --margin (default: best_worst)",
    )
    parser.add_argument("--margin", type=float, help="the distance that fixed_margin looks for, in rewards")
    parser.add_argument(
        "--minimum-margin", type=float, default=0.0, help="least distance of a pair, in rewards (default: 0.0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of best_random (default: 0)")
    parser.add_argument(
        "--safety", action="store_true", help="drop instructions whose responses hold what should not be released"
    )
    add_unsafe_flags(parser)
    parser.add_argument("--stage", default="pair", help="name of the stage in the account (default: pair)")
    parser.add_argument("--kept", required=True, help="table of pairs to write")
    parser.add_argument("--rejected", required=True, help="table of instructions without a pair to write")
    parser.add_argument("--account", required=True, help="account of instructions to write, in JSON")
    flags = parser.parse_args()
    rule = PairRule(flags.rule, flags.minimum_margin, flags.margin, flags.seed)
    finder = finder_of(flags) if flags.safety else None
    account = Account(flags.stage)
    shards = [
        ResponseTables(*(flags.step / kind / f"{shard}.parquet" for kind in ("requests", "completions", "scores")))
        for shard in shard_names(flags.shards)
    ]
    with Progress("pairs", unit="instructions") as progress:
        build_preferences(shards, rule, flags.kept, flags.rejected, account, progress.advance, finder)
    account.write(flags.account)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(account.reasons.items())) or "none"
    log.info("%s pairs of %s instructions; without: %s", f"{account.kept.count:,}", f"{account.taken.count:,}", reasons)


if __name__ == "__main__":
    run(main)
