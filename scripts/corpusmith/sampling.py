"""A sample of segments with a quota per kind and length bucket: the bottom k by a seeded rank.

A segment's rank is a hash of the seed and its item_id, so which segments are drawn depends on what was scanned and not
on who scanned it, and equal texts have equal ranks. Documents are scanned in units of lines in file order; processes
share the units, and their results are merged in that order. Only ranks are held in memory: segments that enter a sample
are spilled to a scratch file, and those that are still in at the end are read back.
"""

from __future__ import annotations

import heapq
import multiprocessing
import os
import tempfile
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer

from corpusmith.accounting import Account
from corpusmith.documents import BAD_ROW_REASONS, LINE_BREAK_FORMS, BadRow, RawLine, parse_line
from corpusmith.errors import InputError
from corpusmith.identity import rank
from corpusmith.program import Progress, log
from corpusmith.segments import (
    BLOB,
    KINDS,
    SENTENCE,
    Buckets,
    Segment,
    SegmentSettings,
    load_tokenizer,
    segment_document,
)
from corpusmith.table_files import TableWriter
from corpusmith.tables import SEGMENTS

UNIT_DOCUMENTS = 256
# Units of long documents end sooner, so that those under way fit into memory.
UNIT_BYTES = 8 * 2**20
UNITS_PER_WORKER = 2
# A file that is bad throughout is given up on once so many rows have been seen.
ROWS_BEFORE_GIVING_UP = 1_000
_SPILL_ROWS = 512
_BAD_ROWS_NAMED = 3
_BAD_ROWS_LOGGED = 20

Stratum = tuple[str, str]
"""Kind and bucket."""


def quotas(
    pool: int,
    blob_share: float,
    blob_tokens: int,
    buckets: Buckets,
    bucket_shares: Sequence[float] | None = None,
) -> dict[Stratum, int]:
    """How many segments of each kind and bucket make up a pool; they add up to it.

    bucket_shares: a weight for each bucket, None for equal ones. Blobs share among the buckets that they can be in,
    those that begin at or below blob_tokens. Rounded by largest remainder, ties to the earlier stratum (sentences
    first, short buckets first). Raises InputError where the weights do not fit the buckets.
    """
    names = buckets.names
    weights = [Fraction(1)] * len(names) if bucket_shares is None else [Fraction(str(s)) for s in bucket_shares]
    if len(weights) != len(names) or min(weights) < 0 or sum(weights) == 0:
        raise InputError(
            f"bucket shares must be {len(names)} numbers from 0, one for each of {', '.join(names)}, and not all 0"
        )
    exact: dict[Stratum, Fraction] = {}
    for kind, share in ((SENTENCE, 1 - Fraction(str(blob_share))), (BLOB, Fraction(str(blob_share)))):
        able = [kind == SENTENCE or lower <= blob_tokens for lower in buckets.edges[:-1]]
        whole = sum(weight for weight, can in zip(weights, able, strict=True) if can)
        if share and not whole:
            raise InputError(f"no bucket with a share can hold a blob of up to {blob_tokens} tokens; lower the edges")
        for name, weight, can in zip(names, weights, able, strict=True):
            exact[kind, name] = pool * share * weight / whole if can and whole else Fraction(0)
    result = {stratum: int(wanted) for stratum, wanted in exact.items()}
    by_remainder = sorted(exact, key=lambda stratum: result[stratum] - exact[stratum])
    for stratum in by_remainder[: pool - sum(result.values())]:
        result[stratum] += 1
    return result


@dataclass(frozen=True)
class ScanSettings:
    """What a worker needs to turn a unit of lines into segments."""

    tokenizer: Path
    text_field: str
    max_characters: int
    segments: SegmentSettings


@dataclass
class UnitResult:
    """What a unit of lines gave, in the order of its lines.

    segments: (file, line, segment); bad_rows: (file, line, bad row); forms: documents by form of line break.
    """

    lines: int
    last: tuple[str, int]
    segments: list[tuple[str, int, Segment]] = field(default_factory=list)
    bad_rows: list[tuple[str, int, BadRow]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)


def scan_unit(unit: Sequence[RawLine], tokenizer: Tokenizer, settings: ScanSettings) -> UnitResult:
    """Parses and segments the lines of one unit. Depends on nothing but its arguments."""
    result = UnitResult(len(unit), (unit[-1].file, unit[-1].number))
    for line in unit:
        document = parse_line(line, settings.text_field, settings.max_characters)
        if isinstance(document, BadRow):
            result.bad_rows.append((line.file, line.number, document))
            continue
        result.forms[document.line_breaks] += 1
        found = segment_document(document, tokenizer, settings.segments)
        result.dropped.update(found.dropped)
        result.segments.extend((line.file, line.number, segment) for segment in found.segments)
    return result


def cut_units(lines: Iterator[RawLine], most_lines: int) -> Iterator[list[RawLine]]:
    """The first most_lines lines in units of UNIT_DOCUMENTS, or fewer where they are long."""
    unit: list[RawLine] = []
    size = 0
    for line in islice(lines, most_lines):
        unit.append(line)
        size += len(line.data)
        if len(unit) == UNIT_DOCUMENTS or size >= UNIT_BYTES:
            yield unit
            unit, size = [], 0
    if unit:
        yield unit


def scan(units: Iterator[list[RawLine]], settings: ScanSettings, workers: int) -> Generator[UnitResult]:
    """The result of each unit, in the order of the units, by so many processes.

    An error of reading is raised only behind the results of all units before it, so that whether it is met does not
    depend on how far the workers are ahead.
    """
    # Processes are what the work is shared by; threads of the tokenizer would only get in their way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if workers == 1:
        tokenizer = load_tokenizer(settings.tokenizer)
        for unit in units:
            yield scan_unit(unit, tokenizer, settings)
        return
    waiting: deque[Future[UnitResult]] = deque()
    failure: BaseException | None = None
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (settings,))
    try:
        while True:
            while failure is None and len(waiting) < workers * UNITS_PER_WORKER:
                try:
                    waiting.append(pool.submit(_work, next(units)))
                except (StopIteration, InputError, OSError) as error:
                    failure = error
            if not waiting:
                break
            yield waiting.popleft().result()
        if failure is not None and not isinstance(failure, StopIteration):
            raise failure
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died, most likely for want of memory; use fewer --workers or give the job more memory"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[Tokenizer, ScanSettings] | None = None


def _start_worker(settings: ScanSettings) -> None:
    global _worker
    _worker = load_tokenizer(settings.tokenizer), settings


def _work(unit: list[RawLine]) -> UnitResult:
    assert _worker is not None
    return scan_unit(unit, *_worker)


class Sample:
    """The bottom k of each stratum so far. Use `open_sample`.

    dropped: segments that did not get in or were pushed out (not_drawn), and those whose text was in already
    (duplicate).
    """

    def __init__(self, wanted: Mapping[Stratum, int], seed: int, scratch: Path) -> None:
        self._wanted, self._seed = dict(wanted), seed
        # Ranks negated: the heap's first is the largest, the next to be pushed out.
        self._heaps: dict[Stratum, list[int]] = {stratum: [] for stratum in wanted}
        self._inside: dict[Stratum, set[int]] = {stratum: set() for stratum in wanted}
        self._spill = _Spill(scratch)
        self.taken = 0
        self.dropped: Counter[str] = Counter()

    def add(self, file: str, line: int, segment: Segment) -> None:
        """Offers one segment."""
        self.taken += 1
        stratum = segment.kind, segment.bucket
        number = rank(self._seed, segment.item_id)
        # Equal texts have as many tokens, so they are in one bucket, though not always of one kind.
        if any(number in self._inside[kind, segment.bucket] for kind in KINDS):
            self.dropped["duplicate"] += 1
            return
        heap, inside = self._heaps[stratum], self._inside[stratum]
        if len(heap) < self._wanted[stratum]:
            heapq.heappush(heap, -number)
        elif heap and number < -heap[0]:
            inside.remove(-heapq.heapreplace(heap, -number))
            self.dropped["not_drawn"] += 1
        else:
            self.dropped["not_drawn"] += 1
            return
        inside.add(number)
        self._spill.write(segment._asdict() | {"file": file, "line": line})

    @property
    def full(self) -> bool:
        """Whether every quota is filled."""
        return all(len(heap) == self._wanted[stratum] for stratum, heap in self._heaps.items())

    @property
    def counts(self) -> dict[Stratum, int]:
        """How many segments each stratum holds."""
        return {stratum: len(heap) for stratum, heap in self._heaps.items()}

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the table of segments, in the order of scanning. Nothing can be added afterwards."""
        for row in self._spill.read():
            if rank(self._seed, row["item_id"]) in self._inside[row["kind"], row["bucket"]]:
                yield row

    def close(self) -> None:
        """Lets go of the scratch file."""
        self._spill.close()


@contextmanager
def open_sample(wanted: Mapping[Stratum, int], seed: int, folder: Path) -> Iterator[Sample]:
    """A sample whose scratch file lies in a folder that goes when the block ends. folder: where to make that."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sample-", dir=folder) as scratch:
        sample = Sample(wanted, seed, Path(scratch))
        try:
            yield sample
        finally:
            sample.close()


@dataclass
class ScanReport:
    """What was read: its account, the documents by form of line break, and where and why reading ended.

    stopped_because: quotas_full, max_scan_docs or end_of_files.
    """

    read: Account = field(default_factory=lambda: Account("read", "documents"))
    forms: Counter[str] = field(default_factory=Counter)
    segments_outside: int = 0
    last: tuple[str, int] = ("", 0)
    stopped_because: str = "end_of_files"

    @property
    def line_break_shares(self) -> dict[str, dict[str, float | int]]:
        """Documents and share of them for each form of line break."""
        whole = max(1, sum(self.forms.values()))
        return {
            form: {"documents": self.forms[form], "share": round(self.forms[form] / whole, 6)}
            for form in LINE_BREAK_FORMS
        }


def fill(
    sample: Sample,
    results: Iterator[UnitResult],
    bad_rows: TableWriter,
    *,
    stop_when_full: bool,
    max_scan_docs: int,
    max_bad_share: float,
) -> ScanReport:
    """Offers what the units gave to the sample, unit by unit, until it is full or there are no more.

    Raises InputError where more than max_bad_share of the rows are bad, at the end or after the first 1,000 rows.
    """
    report = ScanReport()
    named: list[str] = []
    with Progress("sampling", unit="documents") as progress:
        for result in results:
            for file, line, bad in result.bad_rows:
                row = {"file": file, "line": line, "reason": bad.reason, "excerpt": bad.excerpt}
                bad_rows.write(row)
                report.read.reasons[bad.reason] += 1
                place = f"{file} line {line}: {BAD_ROW_REASONS[bad.reason]}"
                if len(named) < _BAD_ROWS_NAMED:
                    named.append(place)
                if bad_rows.count <= _BAD_ROWS_LOGGED:
                    log.warning("set aside: %s: %.80r", place, bad.excerpt)
            report.read.taken.count += result.lines
            report.read.dropped.count += len(result.bad_rows)
            report.read.kept.count += result.lines - len(result.bad_rows)
            report.forms.update(result.forms)
            report.segments_outside += result.dropped["outside_buckets"]
            report.last = result.last
            for file, line, segment in result.segments:
                sample.add(file, line, segment)
            progress.advance(result.lines)
            if report.read.taken.count >= ROWS_BEFORE_GIVING_UP:
                _check_bad_share(report.read, max_bad_share, named)
            if stop_when_full and sample.full:
                report.stopped_because = "quotas_full"
                break
    _check_bad_share(report.read, max_bad_share, named)
    if report.stopped_because != "quotas_full" and report.read.taken.count == max_scan_docs:
        report.stopped_because = "max_scan_docs"
    return report


def _check_bad_share(read: Account, max_bad_share: float, named: Sequence[str]) -> None:
    bad, whole = read.dropped.count, read.taken.count
    if bad > max_bad_share * whole:
        more = f"; and {bad - len(named)} more" if bad > len(named) else ""
        raise InputError(
            f"{bad} of the first {whole} rows ({bad / whole:.1%}) are bad, more than --max-bad-share {max_bad_share:g}"
            f" allows: {'; '.join(named)}{more}. Repair the files, correct --text-field, or raise --max-bad-share"
        )


class _Spill:
    """Rows written once and read once, in order, through an Arrow IPC file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "admitted.arrow"
        self._file = pa.OSFile(str(self._path), "wb")
        self._writer = pa.ipc.new_file(self._file, SEGMENTS.schema)
        self._rows: list[dict[str, Any]] = []
        self._open = True

    def write(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == _SPILL_ROWS:
            self._flush()

    def read(self) -> Iterator[dict[str, Any]]:
        self.close()
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches):
                yield from reader.get_batch(number).to_pylist()

    def close(self) -> None:
        if self._open:
            self._open = False
            try:
                self._flush()
                self._writer.close()
            finally:
                self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=SEGMENTS.schema))
            self._rows.clear()
