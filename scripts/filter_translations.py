"""Keeps the translations that break no rule and says of the others which they break.

    python scripts/filter_translations.py --selected selected.parquet --source-language en --target-language ko \\
        --kept kept.parquet --rejected rejected.parquet --account account.json

Input, a row of a table of selected answers (some columns):

    item_id   source                      target                        score
    3f2a...   Sora bought 342 apples.     소라는 사과 삼백사십삼 개를 샀다.   0.8

Output, as 342 became 343, a row of the rejected:

    item_id   source   target   score   reason    reasons       detail
    3f2a...   ...      ...      0.8     numbers   ["numbers"]   342 is missing

Rows that break nothing go to --kept unchanged, in their order.
"""

from __future__ import annotations

import argparse
import json

from corpusmith.accounting import Account
from corpusmith.filters import DEFAULT_RULES, TranslationRules
from corpusmith.identity import shard_names
from corpusmith.program import Progress, argument_parser, json_object, log, run
from corpusmith.row_steps import RowSplit
from corpusmith.table_files import read_rows, row_count
from corpusmith.tables import ROWS, SELECTED_ANSWERS


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--selected", required=True, help="table of selected answers, or with --shards the folder of its shards"
    )
    parser.add_argument("--shards", type=int, help="how many shards the folder holds")
    parser.add_argument("--source-language", required=True, help="ISO 639-1 code of the sources' language, such as en")
    parser.add_argument("--target-language", required=True, help="ISO 639-1 code of the targets' language, such as ko")
    parser.add_argument(
        "--rules",
        default=json.dumps(DEFAULT_RULES),
        help="JSON object of rules and thresholds; a rule that is not in it is off (default: %(default)s)",
    )
    parser.add_argument("--stage", default="filter", help="name of the stage in the account (default: %(default)s)")
    parser.add_argument("--kept", required=True, help="table to write: the rows that break no rule")
    parser.add_argument("--rejected", required=True, help="table to write: the other rows, with reasons")
    parser.add_argument("--account", required=True, help="account to write, in JSON")
    return parser.parse_args()


def main() -> None:
    """Filters the tables."""
    arguments = _arguments()
    rules = TranslationRules(
        json_object(arguments.rules, "--rules", 'write it as {"length_ratio": [0.3, 3.0]}'),
        arguments.source_language,
        arguments.target_language,
    )
    account = Account(arguments.stage)
    tables = [arguments.selected]
    if arguments.shards is not None:
        tables = [f"{arguments.selected}/{shard}.parquet" for shard in shard_names(arguments.shards)]
    for path in tables:
        # Reading one row finds a missing or broken table before any work is done.
        next(read_rows(path, SELECTED_ANSWERS, batch_size=1), None)
    total = sum(row_count(path) for path in tables)
    with (
        RowSplit(arguments.kept, arguments.rejected, ROWS["translation"], account) as split,
        Progress("filter", total) as progress,
    ):
        for path in tables:
            for row in read_rows(path, SELECTED_ANSWERS):
                breaches = rules.check(row["source"], row["target"], row["score"])
                if breaches:
                    rules_broken = [breach.rule for breach in breaches]
                    split.reject(row, breaches[0].rule, breaches[0].detail, rules_broken)
                else:
                    split.keep(row)
                progress.advance()
    account.write(arguments.account)
    log.info("%s", split.summary("filter"))


if __name__ == "__main__":
    run(main)
