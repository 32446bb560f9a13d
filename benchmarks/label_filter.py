"""Time and memory of the label filter against datasets.filter, a loop of pandas, and merely reading and writing.

All read the same generated rows in the columns of nvidia/OpenMathReasoning, solutions of some 20 kB, and keep the tenth
whose pass rate is at most 0.1. The floor reads, with Arrow's threads, the columns that are written and writes the rows
that stay, without looking at any. Each runs in processes of its own, from files in the page cache; memory is what the
processes hold together at most, asked for every 50 ms: that of their own, and with the files that they map.
Prints a table, with the medians of the rounds, and last of all how many times faster than datasets.filter we are.

    python benchmarks/label_filter.py --rows 300000
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from corpusmith.errors import InputError
from corpusmith.labelled_rows import OPENMATHREASONING
from corpusmith.program import argument_parser, log, run, track

PROGRAM = Path(__file__).resolve().parent.parent / "scripts" / "filter_by_labels.py"
RATE = "pass_rate_72b_tir"
AT_MOST = 0.1
# Of 32 solutions, as in the data: the first four are at most 0.1.
RATES = ("0.0", "0.03125", "0.0625", "0.09375", *(str(right / 32) for right in range(4, 33)), "n/a")
WEIGHTS = (*[2.5] * 4, *[2.0] * 29, 32.0)
ROWS_OF_A_FILE = 25_000
# datasets.config.MAX_ROW_GROUP_SIZE is 100 MB.
ROWS_OF_A_ROW_GROUP = 5_000
PHRASES_OF_A_SOLUTION = 520
ROWS_AT_ONCE = 500


def make_phrases(chooser: random.Random) -> list[str]:
    """Some words each, the frequent words often: text that zstd makes three to four times smaller."""
    syllables = ("ka", "ter", "lo", "min", "sa", "ver", "ton", "ri", "be", "dan", "mo", "ste", "li", "gar", "pu", "el")
    words = ["".join(chooser.choices(syllables, k=chooser.randint(1, 4))) for _ in range(5_000)]
    words += ["\\frac{1}{2}", "\\\\(x", "=", "+", "\\sqrt{3}", "y^2", "\n\n", "0", "1", "2"] * 20
    weights = [1 / (place + 3) for place in range(len(words))]
    chooser.shuffle(words)
    return [" ".join(chooser.choices(words, weights, k=chooser.randint(3, 9))) + " " for _ in range(40_000)]


def make_rows(count: int, seed: int) -> Iterator[dict[str, list[object]]]:
    """Rows in the dataset's nine columns, ROWS_AT_ONCE at a time."""
    chooser = random.Random(seed)
    phrases = make_phrases(chooser)
    for first in range(0, count, ROWS_AT_ONCE):
        size = min(ROWS_AT_ONCE, count - first)
        texts = [chooser.choices(phrases, k=PHRASES_OF_A_SOLUTION) for _ in range(size)]
        yield {
            "expected_answer": [str(chooser.randrange(1000)) for _ in range(size)],
            "problem_type": chooser.choices(("has_answer_extracted", "no_answer_extracted", "converted_proof"), k=size),
            "problem_source": chooser.choices(("aops_c4_high_school_math", "aops_c6_high_school_olympiads"), k=size),
            "generation_model": chooser.choices(("DeepSeek-R1", "QwQ-32B"), k=size),
            RATE: chooser.choices(RATES, WEIGHTS, k=size),
            "problem": [f"Problem {first + place}: {''.join(text[:6])}" for place, text in enumerate(texts)],
            "generated_solution": ["".join(text) for text in texts],
            "inference_mode": ["cot"] * size,
            "used_in_kaggle": chooser.choices((True, False), k=size),
        }


def make_files(folder: Path, rows: int) -> list[Path]:
    """The rows in several Parquet files as datasets writes them, made once."""
    marker, files = folder / f"made-{rows}", folder / "files"
    if not marker.exists():
        shutil.rmtree(files, ignore_errors=True)
        files.mkdir(parents=True)
        batches = (pa.table(batch) for batch in make_rows(rows, 1))
        batches = track(batches, "making rows", -(-rows // ROWS_AT_ONCE), f"x {ROWS_AT_ONCE} rows")
        per_file = ROWS_OF_A_FILE // ROWS_AT_ONCE
        for number in range(-(-rows // ROWS_OF_A_FILE)):
            part = pa.concat_tables(itertools.islice(batches, per_file))
            path = files / f"train-{number:05d}.parquet"
            pq.write_table(part, path, compression="zstd", row_group_size=ROWS_OF_A_ROW_GROUP, write_page_index=True)
        marker.touch()
    return sorted(files.glob("*.parquet"))


def datasets_filter(files: Sequence[Path], folder: Path) -> int:
    """As https://huggingface.co/docs/datasets says: in batches, by several processes, of the column that decides."""
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "parquet", data_files=[str(file) for file in files], split="train", cache_dir=str(folder / "cache"), num_proc=2
    )
    kept = loaded.filter(
        lambda rates: [rate != "n/a" and float(rate) <= AT_MOST for rate in rates],
        batched=True,
        num_proc=2,
        input_columns=[RATE],
    )
    # With Snappy, as datasets 5 does: it takes no other compression here.
    kept.to_parquet(str(folder / "rows.parquet"))
    return len(kept)


def pandas_loop(files: Sequence[Path], folder: Path) -> int:
    """File by file, all columns."""
    import pandas

    kept = []
    for file in files:
        rows = pandas.read_parquet(file)
        kept.append(rows[pandas.to_numeric(rows[RATE], errors="coerce") <= AT_MOST])
    whole = pandas.concat(kept)
    whole.to_parquet(folder / "rows.parquet", compression="zstd")
    return len(whole)


def floor(files: Sequence[Path], folder: Path) -> int:
    """Nothing but reading the columns that are written and writing the rows that stay."""
    stay = [rate for rate in RATES if rate != "n/a" and float(rate) <= AT_MOST]
    columns = [column for column in OPENMATHREASONING.values() if column]
    scanner = pyarrow.dataset.dataset([str(file) for file in files]).scanner(
        columns=columns,
        filter=pyarrow.dataset.field(RATE).isin(stay),
        batch_size=1024,
        batch_readahead=2,
        fragment_readahead=1,
    )
    count = 0
    with pq.ParquetWriter(folder / "rows.parquet", scanner.projected_schema, compression="zstd") as writer:
        batches: list[pa.RecordBatch] = []
        for batch in itertools.chain(scanner.to_batches(), [None]):
            batches += [batch] if batch is not None else []
            if batch is None or sum(map(len, batches)) >= 1024:
                writer.write_table(pa.Table.from_batches(batches, scanner.projected_schema))
                count += sum(map(len, batches))
                batches = []
    return count


OTHERS = {"datasets.filter": datasets_filter, "pandas loop": pandas_loop, "floor": floor}


def command_of(name: str, files: Sequence[Path], folder: Path) -> list[str]:
    """The command that runs one of them."""
    if name != "ours":
        return [sys.executable, __file__, "--only", name, "--folder", str(folder), "--files", *map(str, files)]
    return [
        *(sys.executable, str(PROGRAM), "--glob", *map(str, files)),
        *("--labels", json.dumps({"pass_rate": {"at_most": AT_MOST, "not_available": "drop"}}), "--dataset", "made"),
        *("--rows", str(folder / "rows.parquet"), "--bad-rows", str(folder / "bad-rows.parquet")),
        *("--dropped-rows", str(folder / "dropped-rows.parquet")),
        *("--account", str(folder / "account.json")),
    ]


def memory_of(process: int) -> tuple[int, int]:
    """What a process and those that it started hold, in bytes: of their own, and with mapped files."""
    own, mapped = 0, 0
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        children = "".join(path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")).split()
    except (OSError, ValueError):
        return 0, 0
    if "VmRSS" in status:
        own = sum(int(status[name].split()[0]) for name in ("RssAnon", "RssShmem")) << 10
        mapped = int(status["VmRSS"].split()[0]) << 10
    for child in children:
        more = memory_of(int(child))
        own, mapped = own + more[0], mapped + more[1]
    return own, mapped


@dataclass
class Run:
    """What one run took: seconds by the clock and of processors, most bytes of memory (see memory_of), rows."""

    seconds: float
    cpu_seconds: float
    own: int
    mapped: int
    rows: int


def measure(name: str, files: Sequence[Path], folder: Path) -> Run:
    """One run with a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    own, mapped = 0, 0
    os.sync()
    start = time.monotonic()
    with open(folder / "log", "w") as output:
        process = subprocess.Popen(command_of(name, files, folder), stdout=output, stderr=output)
        while True:
            found, status, usage = os.wait4(process.pid, os.WNOHANG)
            if found:
                break
            now = memory_of(process.pid)
            own, mapped = max(own, now[0]), max(mapped, now[1])
            time.sleep(0.05)
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"{name} failed: {(folder / 'log').read_text()[-2000:]}")
    rows = pq.read_metadata(folder / "rows.parquet").num_rows
    shutil.rmtree(folder)
    return Run(seconds, usage.ru_utime + usage.ru_stime, own, mapped, rows)


def main() -> None:
    """Makes the rows, measures, prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="rows (default 300,000: 6 GB of text, 2 GB of files)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each runs (default 1)")
    parser.add_argument("--folder", type=Path, help="where to keep the rows (default: nowhere, they are deleted)")
    parser.add_argument("--only", choices=OTHERS, help="run just this, on --files, and time nothing")
    parser.add_argument("--files", type=Path, nargs="+", help="files for --only")
    arguments = parser.parse_args()
    if arguments.only:
        OTHERS[arguments.only](arguments.files, arguments.folder)
        return
    with tempfile.TemporaryDirectory(prefix="label-filter-") as temporary:
        folder = arguments.folder or Path(temporary)
        files = make_files(folder, arguments.rows)
        texts = sum(
            pq.read_metadata(file).row_group(group).total_byte_size
            for file in files
            for group in range(pq.read_metadata(file).num_row_groups)
        )
        stored = sum(file.stat().st_size for file in files)
        print(f"{arguments.rows:,} rows, {texts / 1e9:.1f} GB in {stored / 1e9:.1f} GB of {len(files)} files")
        for file in files:
            file.read_bytes()
        found: dict[str, list[Run]] = {name: [] for name in ("ours", *OTHERS)}
        # Round by round, so that what else the machine does strikes all of them.
        for name in list(found) * arguments.rounds:
            found[name].append(measure(name, files, folder / "run"))
            log.info("%s: %.1f s", name, found[name][-1].seconds)
    kept = {run.rows for runs in found.values() for run in runs}
    if len(kept) > 1:
        raise InputError(f"they keep different numbers of rows: {sorted(kept)}")
    print(f"{kept.pop():,} rows kept\n{'':16}  seconds  CPU seconds  memory, MB  with mapped files, MB")
    seconds = {name: statistics.median(run.seconds for run in runs) for name, runs in found.items()}
    for name, runs in found.items():
        cpu = statistics.median(run.cpu_seconds for run in runs)
        own, mapped = max(run.own for run in runs) / 1e6, max(run.mapped for run in runs) / 1e6
        print(f"{name:16} {seconds[name]:8.1f} {cpu:12.1f} {own:11,.0f} {mapped:22,.0f}")
    print(f"ours / floor {seconds['ours'] / seconds['floor']:.2f}")
    print(f"ratio {seconds['datasets.filter'] / seconds['ours']:.2f}")


if __name__ == "__main__":
    run(main)
