"""Keeps rows of maths problems by their labels, without a model.

Input, rows of Parquet, JSON, JSON Lines or CSV, in the columns of nvidia/OpenMathReasoning or those of --columns:

    {"problem": "What is 2+2?", "expected_answer": "4", "generated_solution": "…", "pass_rate_72b_tir": "0.25", …}

Output, a table of labelled rows, in the order in which they were read (some columns):

    item_id  problem_id  problem       answer  generated_solution  pass_rate  dataset  file           row
    9c1f…    05b2…       What is 2+2?  4       …                   0.25       cot      cot-0.parquet    1

Of Parquet files only the columns that decide are read, then the others where rows stay. Example:

    python scripts/filter_by_labels.py --glob 'cot/*.parquet' --dataset nvidia/OpenMathReasoning:cot \\
        --labels '{"pass_rate": {"at_most": 0.1, "not_available": "drop"}, "problem_type": ["has_answer_extracted"]}' \\
        --rows rows.parquet --bad-rows bad-rows.parquet --account account.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path

from corpusmith.accounting import Account
from corpusmith.documents import expand_globs, name_sources, read_receipt
from corpusmith.errors import InputError
from corpusmith.label_filter import Examiner, Outcome, collect
from corpusmith.labelled_rows import Chunk, check_columns, plan, with_usual_columns
from corpusmith.labels import parse_labels
from corpusmith.program import Progress, argument_parser, json_object, log, run
from corpusmith.read_ahead import in_order
from corpusmith.table_files import open_table
from corpusmith.tables import BAD_ROWS, DROPPED_ROWS, LABELLED_ROWS


def _fraction(text: str) -> Fraction:
    # Of the decimal as it is written: the float nearest to 0.1 would put the border of a slice on another row.
    return Fraction(text)


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--glob", nargs="+", metavar="PATTERN", help="files to read: .parquet, .json, .jsonl, .jsonl.gz, .csv"
    )
    source.add_argument("--fetched", type=Path, metavar="RECEIPT", help="receipt of fetched files to read instead")
    parser.add_argument(
        "--columns",
        metavar="JSON",
        default="{}",
        help="our names of columns and the source's; null: it has none. What is left out is looked for under the name"
        " that OpenMathReasoning has for it (default: %(default)s)",
    )
    parser.add_argument(
        "--labels",
        metavar="JSON",
        default="{}",
        help='which rows stay, such as {"pass_rate": {"at_least": 0.1, "at_most": 0.5, "not_available": "drop"},'
        ' "problem_type": ["has_answer_extracted"], "problem_source": null, "inference_mode": ["cot"],'
        ' "solution_tokens": {"at_most": 8192}} (default: {}; all rows)',
    )
    parser.add_argument(
        "--tokenizer-of", type=Path, metavar="RECEIPT", help="receipt of the model whose tokens count, for lengths"
    )
    parser.add_argument(
        "--start", type=_fraction, default=Fraction(0), help="share of the rows to leave out before (default 0)"
    )
    parser.add_argument("--end", type=_fraction, default=Fraction(1), help="share of the rows to end at (default 1)")
    parser.add_argument("--limit", type=int, help="keep so many rows and read no further (default: all)")
    parser.add_argument("--dataset", required=True, help="what the rows come from, for their column dataset")
    parser.add_argument(
        "--max-bad-share", type=float, default=0.01, help="fail where more of the rows are bad (default 0.01)"
    )
    parser.add_argument(
        "--max-problem-characters", type=int, default=20_000, help="set aside longer problems (default 20000)"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads that read and filter (default 2)")
    parser.add_argument("--stage", default="labels", help="name of the stage in the account (default labels)")
    parser.add_argument("--rows", type=Path, required=True, help="the table of rows that stay to write")
    parser.add_argument("--bad-rows", type=Path, required=True, help="the table of rows that were set aside to write")
    parser.add_argument(
        "--dropped-rows", type=Path, required=True, help="the table of rows that go to write: place, reason"
    )
    parser.add_argument("--account", type=Path, required=True, help="the account of rows to write, in JSON")
    arguments = parser.parse_args()
    for flag in ("limit", "max_problem_characters", "threads"):
        if getattr(arguments, flag) is not None and getattr(arguments, flag) < 1:
            raise InputError(f"--{flag.replace('_', '-')} {getattr(arguments, flag)}: must be 1 or more")
    if not 0 <= arguments.max_bad_share <= 1:
        raise InputError(f"--max-bad-share {arguments.max_bad_share}: must be from 0 to 1")
    if not 0 <= arguments.start <= arguments.end <= 1:
        raise InputError(
            f"--start {float(arguments.start)} --end {float(arguments.end)}: must be from 0 to 1, the start first"
        )
    return arguments


def _token_counter(receipt_path: Path) -> Callable[[list[str]], list[int]]:
    # Imported where it is needed: most filters count no tokens.
    from corpusmith.models import folder_of
    from corpusmith.models import read_receipt as read_model_receipt
    from corpusmith.segments import count_tokens, load_tokenizer

    return partial(count_tokens, load_tokenizer(folder_of(read_model_receipt(receipt_path))))


def main() -> None:
    """Checks everything, reads, filters, writes."""
    arguments = _arguments()
    labels = parse_labels(json_object(arguments.labels, "--labels"))
    sources = read_receipt(arguments.fetched) if arguments.fetched else name_sources(expand_globs(arguments.glob))
    needed = [*labels.columns, *([] if labels.solution_tokens.open else ["generated_solution"])]
    columns = with_usual_columns(sources, json_object(arguments.columns, "--columns"), needed)
    count_tokens = None
    if arguments.tokenizer_of is not None and not labels.solution_tokens.open:
        count_tokens = _token_counter(arguments.tokenizer_of)
    examiner = Examiner(
        labels, check_columns(columns), arguments.dataset, arguments.max_problem_characters, count_tokens
    )
    planned = plan(sources, columns, arguments.start, arguments.end)
    account = Account(arguments.stage, "rows")

    def outcomes(job: Callable[[], Iterator[Chunk]]) -> Iterator[Outcome]:
        for chunk in job():
            yield from examiner.examine(chunk)

    with (
        open_table(arguments.rows, LABELLED_ROWS) as rows,
        open_table(arguments.bad_rows, BAD_ROWS) as bad_rows,
        open_table(arguments.dropped_rows, DROPPED_ROWS) as dropped_rows,
        closing(in_order((partial(outcomes, job) for job in planned.jobs), arguments.threads)) as results,
        Progress("label filter", planned.rows) as progress,
    ):
        collect(
            results,
            rows,
            bad_rows,
            dropped_rows,
            account,
            limit=arguments.limit,
            max_bad_share=arguments.max_bad_share,
            progress=progress,
        )
    account.write(arguments.account)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(account.reasons.items())) or "none"
    log.info("%s of %s rows kept; dropped: %s", f"{account.kept.count:,}", f"{account.taken.count:,}", reasons)
    if not account.kept.count:
        log.warning("no row stays: look at --labels, and at what was dropped above")


if __name__ == "__main__":
    run(main)
