"""Drops rows that share a run of words with a benchmark: a filter step of any dataset.

    python scripts/decontaminate.py --rows rows.parquet --recipe maths --column problem \\
        --benchmarks gsm8k_test.jsonl math.parquet --benchmark-columns question problem --ngram 10 \\
        --kept kept.parquet --rejected rejected.parquet --account account.json --report report.json

Input, rows of the recipe (some columns):

    item_id   problem
    3f2a...   Each morning Mina buys 3 apples a day. How many apples does she have on Sunday?
    77b0...   Each morning Mina buys 5 apples a day. How many apples does she have on Sunday?

Output, where a benchmark asks "Mina buys 3 apples a day. How many apples does she buy in a week?": the second goes to
--kept, unchanged. The first goes to --rejected, with

    item_id   reason         detail
    3f2a...   contaminated   gsm8k_test.jsonl, row 7, question: mina buys 3 apples a day how many apples does she

A benchmark text of fewer than --ngram words, but at least --min-words, matches where all of it stands in a row. What a
word is, says corpusmith/words.py: case and punctuation make no difference, numbers do; Chinese, Japanese or Thai
characters are words, so that --ngram should be larger there, such as 20. The report lists every match, a line each:

    {"ngram": 10, "min_words": 5, "columns": ["problem"], "matches": [
    {"item_id": "3f2a...", "column": "problem", "file": "gsm8k_test.jsonl", "row": 7, "field": "question",
     "shared": "mina buys 3 apples a day how many apples does she"}
    ], "benchmarks": [
    {"file": "gsm8k_test.jsonl", "rows": 1319, "compared": 1319, "matched": 1, "items": 1, "matches": 1}
    ]}

rows: of the file; compared: those with a text that is long enough; matched: those that some item shares words with;
items: the other way round.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.benchmark_files import read_benchmark
from corpusmith.contamination import Benchmarks, Match
from corpusmith.documents import name_sources
from corpusmith.errors import InputError
from corpusmith.files import naming, whole_file
from corpusmith.program import Progress, argument_parser, log, run, track
from corpusmith.row_steps import RowSplit, text_column
from corpusmith.table_files import read_batches, read_rows, row_count
from corpusmith.tables import ROWS

_BATCH = 1024
_DETAIL_CHARACTERS = 300


@dataclass
class _File:
    """What a benchmark file holds and what was found of it."""

    file: str
    rows: int = 0
    compared: int = 0
    matched: set[int] = field(default_factory=set)
    items: int = 0
    matches: int = 0


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of the recipe's rows")
    parser.add_argument("--recipe", choices=sorted(ROWS), required=True, help="whose rows they are")
    parser.add_argument("--column", nargs="+", required=True, help="the texts that are compared, such as problem")
    parser.add_argument(
        "--benchmarks", nargs="+", required=True, type=Path, help="files: JSON, JSONL, CSV, Parquet, plain text"
    )
    parser.add_argument(
        "--benchmark-columns", nargs="+", help="fields of the benchmarks' rows that are compared (default: all texts)"
    )
    parser.add_argument("--ngram", type=int, default=10, help="words of a run (default %(default)s)")
    parser.add_argument(
        "--min-words", type=int, default=5, help="fewest words of a benchmark's text (default %(default)s)"
    )
    parser.add_argument("--stage", default="decontaminate", help="name of the stage (default: %(default)s)")
    parser.add_argument("--kept", required=True, help="table to write: the rows that stay, in their order")
    parser.add_argument("--rejected", required=True, help="table to write: the other rows, with reasons")
    parser.add_argument("--account", required=True, help="account to write, in JSON")
    parser.add_argument("--report", required=True, help="report to write, in JSON: every match")
    return parser.parse_args()


def _take_in(benchmarks: Benchmarks, paths: list[Path], fields: list[str] | None) -> list[_File]:
    """Takes in the files. Raises InputError for one of which nothing can be compared."""
    repeated = [
        path for number, path in enumerate(paths) if path.resolve() in [one.resolve() for one in paths[:number]]
    ]
    if repeated:
        raise InputError(f"--benchmarks: {repeated[0]} is named twice; leave one out")
    files = []
    for number, source in enumerate(name_sources(paths)):
        file = _File(source.name)
        for row, texts in track(read_benchmark(source, fields), source.name):
            file.rows += 1
            file.compared += any([benchmarks.add(number, row, name, text) for name, text in texts])
        if not file.compared:
            raise InputError(
                f"{source.path}: no row has a text of at least {benchmarks.min_words} words; correct the file,"
                " --benchmark-columns or --min-words"
            )
        files.append(file)
    return files


class _Report:
    """Writes the report, match by match, and counts for the files."""

    def __init__(self, path: Path, out: Any, files: list[_File], head: dict[str, Any]) -> None:
        self._path, self._out, self._files, self._separator = path, out, files, "\n"
        self._write(json.dumps(head, ensure_ascii=False)[:-1] + ', "matches": [')

    def add(self, item: str, column: str, match: Match) -> None:
        """Adds a match."""
        file = self._files[match.file]
        file.matches += 1
        file.matched.add(match.row)
        line: dict[str, Any] = {"item_id": item, "column": column, "file": file.file}
        line |= {"row": match.row, "field": match.field, "shared": match.shared}
        self._write(self._separator + json.dumps(line, ensure_ascii=False))
        self._separator = ",\n"

    def end(self) -> None:
        """Adds what is known of the files."""
        lines = [json.dumps(asdict(file) | {"matched": len(file.matched)}, ensure_ascii=False) for file in self._files]
        self._write('\n], "benchmarks": [\n' + ",\n".join(lines) + "\n]}\n")

    def _write(self, text: str) -> None:
        with naming(self._path):
            self._out.write(text)


def _detail(match: Match, files: list[_File], more: int) -> str:
    place = [files[match.file].file, f"row {match.row}", *([match.field] if match.field else [])]
    shared = match.shared
    if len(shared) > _DETAIL_CHARACTERS:
        shared = shared[:_DETAIL_CHARACTERS].rstrip() + " …"
    return f"{', '.join(place)}: {shared}" + (f" (and {more:,} other rows of benchmarks)" if more else "")


def _first_matches(matches: list[Match]) -> list[Match]:
    """Of the matches of one item, with each benchmark row the first."""
    first: dict[tuple[int, int], Match] = {}
    for match in matches:
        first.setdefault((match.file, match.row), match)
    return list(first.values())


def _matches_by_row(
    benchmarks: Benchmarks, rows: list[dict[str, Any]], columns: list[str]
) -> Iterator[tuple[dict[str, Any], list[Match]]]:
    # Of each row one text for each column; a text that is not there has no words.
    texts = [row[column] or "" for row in rows for column in columns]
    found = {
        number: _first_matches(list(matches))
        for number, matches in groupby(benchmarks.matches(texts), lambda match: match.text // len(columns))
    }
    for number, row in enumerate(rows):
        yield row, found.get(number, [])


def main() -> None:
    """Decontaminates the table."""
    arguments = _arguments()
    table = ROWS[arguments.recipe].kept
    columns = [text_column(table, column, "--column") for column in arguments.column]
    benchmarks = Benchmarks(arguments.ngram, arguments.min_words)
    # Reading one row finds a missing or broken table before any work is done.
    next(read_rows(arguments.rows, table, batch_size=1), None)
    files = _take_in(benchmarks, arguments.benchmarks, arguments.benchmark_columns)
    account = Account(arguments.stage)
    report_path = Path(arguments.report)
    head = {"ngram": arguments.ngram, "min_words": arguments.min_words, "columns": columns}
    with (
        RowSplit(arguments.kept, arguments.rejected, ROWS[arguments.recipe], account) as split,
        whole_file(report_path) as partial,
        open(partial, "w", encoding="utf-8") as out,
        Progress("decontaminate", row_count(arguments.rows)) as progress,
    ):
        report = _Report(report_path, out, files, head)
        for batch in read_batches(arguments.rows, table, batch_size=_BATCH):
            for row, matches in _matches_by_row(benchmarks, batch.to_pylist(), columns):
                for match in matches:
                    report.add(row["item_id"], columns[match.text % len(columns)], match)
                for number in {match.file for match in matches}:
                    files[number].items += 1
                if matches:
                    split.reject(row, "contaminated", _detail(matches[0], files, len(matches) - 1))
                else:
                    split.keep(row)
                progress.advance()
        report.end()
    account.write(arguments.account)
    for file in files:
        compared = f"{file.compared:,} of {file.rows:,} rows compared"
        found = f"{file.items:,} rows contaminated by {len(file.matched):,} of them"
        log.info("%s: %s, %s", file.file, compared, found)
    log.info("%s", split.summary(arguments.stage))


if __name__ == "__main__":
    run(main)
