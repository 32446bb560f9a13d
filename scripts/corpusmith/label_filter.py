"""The label filter: what becomes of every row, and the tables and the account that say so.

    pass rate at most 0.25:  "0.25" is kept, "0.50" is dropped as pass_rate_too_high, "abc" is a bad row

A row is looked at in this order, and the first finding counts: whether it can be read, its labels, its texts, the
length of its solution, whether a row that was kept before says the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpusmith.accounting import Account
from corpusmith.errors import InputError
from corpusmith.identity import item_id
from corpusmith.labelled_rows import COLUMNS, Chunk
from corpusmith.labels import LISTED, Labels, pass_rates
from corpusmith.program import Progress, log
from corpusmith.row_cells import BAD_CELLS, Bad, Cells, bad_cell
from corpusmith.row_files import UNREADABLE
from corpusmith.table_files import TableWriter
from corpusmith.tables import DROPPED_ROWS, LABELLED_ROWS

DROP_REASONS = (
    "pass_rate_not_available",
    "pass_rate_too_low",
    "pass_rate_too_high",
    *LISTED,
    "solution_too_short",
    "solution_too_long",
    "repeated_row",
)
BAD_REASONS = {
    **UNREADABLE,
    **BAD_CELLS,
    "bad_pass_rate": "the pass rate is neither a number from 0 to 1 nor n/a",
    "no_problem": "there is no problem",
    "empty_problem": "the problem is empty",
    "problem_too_long": "the problem has more characters than --max-problem-characters",
}
_KEPT = "kept"
# What becomes of a row, as one byte.
_OUTCOMES = (_KEPT, *DROP_REASONS, *BAD_REASONS, "fail")
_CODES = {name: np.uint8(code) for code, name in enumerate(_OUTCOMES)}
_ROWS_BEFORE_GIVING_UP = 1_000
_BAD_ROWS_NAMED = 3
_BAD_ROWS_LOGGED = 20


@dataclass
class Outcome:
    """What becomes of consecutive rows of a file.

    codes: a code of _OUTCOMES for each row; bad: by position; ids: 16 bytes for each row that is kept so far; batch:
    those rows, as in LABELLED_ROWS.
    """

    file: str
    numbers: np.ndarray
    codes: np.ndarray
    bad: dict[int, Bad]
    ids: np.ndarray
    batch: pa.RecordBatch


class _Judgement:
    """What is known of some rows so far: the first finding on a row stays."""

    def __init__(self, size: int) -> None:
        self.codes = np.full(size, _CODES[_KEPT])
        self.bad: dict[int, Bad] = {}

    @property
    def kept(self) -> np.ndarray:
        return self.codes == _CODES[_KEPT]

    def drop(self, wrong: np.ndarray, reason: str) -> None:
        self.codes[wrong & self.kept] = _CODES[reason]

    def set_aside(self, bad: Mapping[int, Bad]) -> None:
        for place, found in bad.items():
            if self.codes[place] == _CODES[_KEPT]:
                self.codes[place] = _CODES[found.reason]
                self.bad[place] = found


@dataclass(frozen=True)
class Examiner:
    """Says of every row what becomes of it, but for repeated ones.

    columns: our names and the source's, of the columns there are; dataset: what the rows come from; count_tokens: the
    tokens of each of some texts, where `labels` ask for them. Raises InputError where a label has no column.
    """

    labels: Labels
    columns: Mapping[str, str]
    dataset: str
    max_problem_characters: int = 20_000
    count_tokens: Callable[[list[str]], list[int]] | None = None

    def __post_init__(self) -> None:
        wanted = list(self.labels.columns)
        if not self.labels.solution_tokens.open:
            wanted.append("generated_solution")
            if self.count_tokens is None:
                raise InputError("labels.solution_tokens: wants --tokenizer-of, the receipt of the model whose tokens")
        for name in wanted:
            if name not in self.columns:
                raise InputError(
                    f"labels: decide by {name}, but the columns map it to nothing: name its column, or drop the label"
                )

    def examine(self, chunk: Chunk) -> Iterator[Outcome]:
        """The outcomes of a chunk's rows, in order: label columns first, of all rows, then the rest of those that stay.

        A row without a pass rate has the outcome "fail" where `not_available` says so.
        """
        first = self.labels.columns
        judgement = _Judgement(len(chunk.numbers))
        judgement.set_aside(chunk.unreadable)
        cells = chunk.cells(first)
        rates: np.ndarray | None = None
        for name in first:
            judgement.set_aside(cells[name].bad)
            if name == "pass_rate":
                rates = self._judge_pass_rates(judgement, cells[name])
            else:
                allowed = pa.array(sorted(self.labels.listed[name]), pa.string())
                inside = pc.is_in(cells[name].values, value_set=allowed).to_numpy(zero_copy_only=False)
                judgement.drop(~inside, name)
        wanted = judgement.kept
        rest = [name for name in self.columns if name not in first]
        for start, stop, part in chunk.parts(rest, wanted):
            chosen = wanted[start:stop]
            texts = {name: cells[name].values.slice(start, stop - start).filter(pa.array(chosen)) for name in first}
            inner = _Judgement(int(chosen.sum()))
            for name in rest:
                inner.set_aside(part[name].bad)
                texts[name] = part[name].values
            if rates is not None:
                own = rates[start:stop][chosen]
            elif "pass_rate" in part:
                own = self._rates(inner, part["pass_rate"])
            else:
                own = np.full(len(inner.codes), np.nan)
            self._judge_texts(inner, texts)
            codes = judgement.codes[start:stop].copy()
            codes[chosen] = inner.codes
            bad = {place - start: found for place, found in judgement.bad.items() if start <= place < stop}
            places = np.flatnonzero(chosen)
            bad |= {int(places[place]): found for place, found in inner.bad.items()}
            ids, batch = self._batch(texts, own, inner.kept, chunk.file, chunk.numbers[start:stop][chosen])
            yield Outcome(chunk.file, chunk.numbers[start:stop], codes, bad, ids, batch)

    def _rates(self, judgement: _Judgement, cells: Cells) -> np.ndarray:
        rates, bad = pass_rates(cells.values)
        column = self.columns["pass_rate"]
        judgement.set_aside(
            {
                place: bad_cell("bad_pass_rate", column, cells.values[place].as_py())
                for place in np.flatnonzero(bad).tolist()
            }
        )
        return rates

    def _judge_pass_rates(self, judgement: _Judgement, cells: Cells) -> np.ndarray:
        rates, band = self._rates(judgement, cells), self.labels.pass_rate
        if self.labels.not_available != "keep":
            judgement.drop(
                np.isnan(rates), "fail" if self.labels.not_available == "fail" else "pass_rate_not_available"
            )
        if band.at_least is not None:
            judgement.drop(rates < band.at_least, "pass_rate_too_low")
        if band.at_most is not None:
            judgement.drop(rates > band.at_most, "pass_rate_too_high")
        return rates

    def _judge_texts(self, judgement: _Judgement, texts: Mapping[str, pa.StringArray]) -> None:
        problems, column = texts["problem"], self.columns["problem"]
        for wrong, reason in (
            (problems.is_null(), "no_problem"),
            (pc.equal(pc.utf8_trim_whitespace(problems), ""), "empty_problem"),
            (pc.greater(pc.utf8_length(problems), self.max_problem_characters), "problem_too_long"),
        ):
            places = np.flatnonzero(wrong.fill_null(False).to_numpy(zero_copy_only=False)).tolist()
            judgement.set_aside({place: bad_cell(reason, column, problems[place].as_py()) for place in places})
        band = self.labels.solution_tokens
        if self.count_tokens is not None and not band.open:
            kept = np.flatnonzero(judgement.kept)
            solutions = texts["generated_solution"].take(pa.array(kept)).fill_null("").to_pylist()
            tokens = np.zeros(len(judgement.codes), np.int64)
            tokens[kept] = self.count_tokens(solutions) if solutions else []
            if band.at_least is not None:
                judgement.drop(tokens < band.at_least, "solution_too_short")
            if band.at_most is not None:
                judgement.drop(tokens > band.at_most, "solution_too_long")

    def _batch(
        self, texts: Mapping[str, pa.StringArray], rates: np.ndarray, kept: np.ndarray, file: str, numbers: np.ndarray
    ) -> tuple[np.ndarray, pa.RecordBatch]:
        size = int(kept.sum())
        columns: dict[str, Any] = {name: pa.nulls(size, pa.string()) for name in COLUMNS}
        columns |= {name: array if kept.all() else array.filter(pa.array(kept)) for name, array in texts.items()}
        # An answer of blanks is none.
        blank = pc.equal(pc.utf8_trim_whitespace(columns["answer"]), "").fill_null(False)
        columns["answer"] = pc.if_else(blank, pa.scalar(None, pa.string()), columns["answer"])
        ids = [
            item_id(*(text or "" for text in row))
            for row in zip(
                *(columns[name].to_pylist() for name in ("problem", "answer", "generated_solution")), strict=True
            )
        ]
        columns["item_id"] = pa.array(ids, pa.string())
        columns["problem_id"] = pa.array([problem_id(text) for text in columns["problem"].to_pylist()], pa.string())
        columns["pass_rate"] = pa.array(rates[kept], pa.float64(), mask=np.isnan(rates[kept]))
        columns["dataset"] = pa.array([self.dataset] * size, pa.string())
        columns["file"] = pa.array([file] * size, pa.string())
        columns["row"] = pa.array(numbers[kept], pa.int64())
        batch = pa.record_batch([columns[field.name] for field in LABELLED_ROWS.schema], schema=LABELLED_ROWS.schema)
        return np.array([bytes.fromhex(item) for item in ids], "S16"), batch


def problem_id(problem: str) -> str:
    """The id of a problem, however its words are spaced."""
    return item_id("problem", " ".join(problem.split()))


class SeenIds:
    """A set of ids of 16 bytes, in little more than 16 bytes each: sorted arrays, each at least twice the next."""

    def __init__(self) -> None:
        self._levels: list[np.ndarray] = []

    def add(self, ids: np.ndarray) -> np.ndarray:
        """Adds ids (dtype S16) and says of each whether it is new: not in the set and not before it in `ids`."""
        unique, places = np.unique(ids, return_index=True)
        new = np.ones(len(unique), bool)
        for level in self._levels:
            found = np.searchsorted(level, unique)
            found[found == len(level)] = 0
            new &= level[found] != unique
        if new.any():
            self._levels.append(unique[new])
        while len(self._levels) > 1 and len(self._levels[-2]) < 2 * len(self._levels[-1]):
            last = self._levels.pop()
            # Stable is the sort that makes use of what is sorted already.
            self._levels[-1] = np.sort(np.concatenate([self._levels[-1], last]), kind="stable")
        result = np.zeros(len(ids), bool)
        result[places[new]] = True
        return result


def collect(
    outcomes: Iterable[Outcome],
    rows: TableWriter,
    bad_rows: TableWriter,
    dropped_rows: TableWriter,
    account: Account,
    *,
    limit: int | None,
    max_bad_share: float,
    progress: Progress,
) -> None:
    """Writes the rows that stay, the bad ones and which were dropped; reads no further once `limit` rows are kept.

    Raises InputError where more than max_bad_share of the rows are bad, at the end or after the first 1,000 rows, and
    for a row with the outcome "fail".
    """
    seen, bad_count = SeenIds(), 0
    named: list[str] = []
    for outcome in outcomes:
        codes = outcome.codes
        new = seen.add(outcome.ids)
        passing = np.flatnonzero(codes == _CODES[_KEPT])
        codes[passing[~new]] = _CODES["repeated_row"]
        kept = passing[new]
        room = len(kept) if limit is None else limit - rows.count
        full = limit is not None and len(kept) >= room
        if full:
            codes = codes[: kept[room - 1] + 1]
        if (failed := np.flatnonzero(codes == _CODES["fail"])).size:
            raise InputError(
                f"{outcome.file}: row {outcome.numbers[failed[0]]}: the pass rate is not available;"
                " with labels.pass_rate.not_available: drop or keep, such rows are dropped or kept"
            )
        rows.write_batch((outcome.batch if new.all() else outcome.batch.filter(pa.array(new))).slice(0, room))
        dropped_rows.write_batch(_dropped(outcome, codes))
        for place, bad in sorted(outcome.bad.items()):
            if place < len(codes):
                bad_count += 1
                number = int(outcome.numbers[place])
                bad_rows.write({"file": outcome.file, "line": number, "reason": bad.reason, "excerpt": bad.excerpt})
                where = f"{outcome.file} row {number}: {BAD_REASONS[bad.reason]}"
                named += [where] if len(named) < _BAD_ROWS_NAMED else []
                if bad_count <= _BAD_ROWS_LOGGED:
                    log.warning("set aside: %s: %.80r", where, bad.excerpt)
        _count(account, codes)
        progress.advance(len(codes))
        if account.taken.count >= _ROWS_BEFORE_GIVING_UP:
            _check_bad_share(account, bad_count, max_bad_share, named)
        if full:
            break
    _check_bad_share(account, bad_count, max_bad_share, named)


def _dropped(outcome: Outcome, codes: np.ndarray) -> pa.RecordBatch:
    """Place and reason of the rows that were dropped."""
    places = np.flatnonzero((codes > 0) & (codes <= len(DROP_REASONS)))
    reasons = pa.array(_OUTCOMES).take(pa.array(codes[places]))
    files = pa.array([outcome.file] * len(places), pa.string())
    numbers = pa.array(outcome.numbers[places], pa.int64())
    return pa.record_batch([files, numbers, reasons], schema=DROPPED_ROWS.schema)


def _count(account: Account, codes: np.ndarray) -> None:
    counts = np.bincount(codes, minlength=len(_OUTCOMES)).tolist()
    account.taken.count += len(codes)
    account.kept.count += counts[_CODES[_KEPT]]
    account.dropped.count += len(codes) - counts[_CODES[_KEPT]]
    account.reasons += Counter({_OUTCOMES[code]: count for code, count in enumerate(counts) if code and count})


def _check_bad_share(account: Account, bad: int, max_bad_share: float, named: list[str]) -> None:
    if bad > max_bad_share * account.taken.count:
        more = f"; and {bad - len(named)} more" if bad > len(named) else ""
        raise InputError(
            f"{bad} of the first {account.taken.count} rows ({bad / account.taken.count:.1%}) are bad, more than"
            f" --max-bad-share {max_bad_share:g} allows: {'; '.join(named)}{more}."
            " Repair the files, correct the columns, or raise --max-bad-share"
        )
