"""Reads seed tasks as instructions: one for each instance of a task.

    python scripts/read_tasks.py --glob 'seed_tasks.jsonl' --instructions instructions.parquet \\
        --bad-rows bad-rows.parquet --dropped-rows dropped-rows.parquet --account account.json

in:  {"instruction": "Translate into French.", "instances": [{"input": "Hello", "output": "Salut"}]}
out: item_id 9c…, instruction "Translate into French.\\n\\nHello", origin seed_tasks.jsonl, reference "Salut"
"""

from __future__ import annotations

from corpusmith.accounting import Account
from corpusmith.documents import expand_globs, name_sources
from corpusmith.instructions.seed_tasks import read_tasks
from corpusmith.program import Progress, argument_parser, log, run


def main() -> None:
    """Parses the flags and writes the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--glob", nargs="+", metavar="PATTERN", required=True, help="files to read: .json, .jsonl, .jsonl.gz, .csv"
    )
    parser.add_argument("--limit", type=int, help="stop at so many instructions (default: all)")
    parser.add_argument(
        "--max-bad-share", type=float, default=0.01, help="fail where more of the rows are no tasks (default: 0.01)"
    )
    parser.add_argument("--stage", default="sources/instructions", help="name in the account (default: %(default)s)")
    parser.add_argument("--instructions", required=True, help="table of instructions to write")
    parser.add_argument("--bad-rows", required=True, help="table of rows that are no tasks to write")
    parser.add_argument("--dropped-rows", required=True, help="table of instances that were dropped to write")
    parser.add_argument("--account", required=True, help="account of instances to write, in JSON")
    flags = parser.parse_args()
    account = Account(flags.stage, "instances")
    with Progress("tasks", unit="tasks") as progress:
        read_tasks(
            name_sources(expand_globs(flags.glob)),
            flags.instructions,
            flags.bad_rows,
            flags.dropped_rows,
            account,
            flags.max_bad_share,
            flags.limit,
            progress.advance,
        )
    account.write(flags.account)
    log.info("%s instructions of %s instances", f"{account.kept.count:,}", f"{account.taken.count:,}")


if __name__ == "__main__":
    run(main)
