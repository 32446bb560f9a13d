"""JSON to Parquet: our program against `datasets` and pandas, in time and memory, at two sizes.

All read the same generated file of JSON lines: conversations, some numbers, nested metadata, some of it null or not
there. Ours is scripts/json_to_parquet.py as a whole: it also copies the JSON, writes checksums and a card. The others
are load_dataset("json", …).to_parquet(…) and read_json(lines=True).to_parquet(…), and do nothing else. Each runs in a
process of its own from a file in the page cache; memory is the most that it held at a time (VmHWM). Each size has a
table; the last line is how many times faster we are than the faster one of the others, at the size where it is less.

    python benchmarks/json_to_parquet.py --gigabytes 0.2 2

pandas holds all rows as Python objects, several times the size of the file: above --pandas-up-to it is left out.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from corpusmith.errors import InputError
from corpusmith.program import argument_parser, log, run

PROGRAM = Path(__file__).resolve().parent.parent / "scripts" / "json_to_parquet.py"
OURS, DATASETS, PANDAS = "corpusmith", "datasets", "pandas"


def make_rows(chooser: random.Random) -> Iterator[str]:
    """Lines without end. Their parts are put into JSON once and for all: json.dumps would take minutes."""
    letters = "abcdefghijklmnopqrstuvwxyzäé"
    words = ["".join(chooser.choices(letters, k=chooser.randint(2, 9))) for _ in range(20_000)]
    phrases = [json.dumps(" ".join(chooser.choices(words, k=8)), ensure_ascii=False)[1:-1] for _ in range(40_000)]
    number = 0
    while True:
        messages = ", ".join(
            f'{{"role": "{role}", "content": "{" ".join(chooser.choices(phrases, k=chooser.randint(2, 12)))}"}}'
            for role in ("user", "assistant") * chooser.randint(1, 3)
        )
        score = "null" if number % 7 == 0 else f"{chooser.random() * 5:.4f}"
        note = f', "note": "{chooser.choice(phrases)}"' if number % 5 == 0 else ""
        yield (
            f'{{"id": "{number:08x}", "messages": [{messages}], "score": {score}, "tokens": {chooser.randint(9, 9999)},'
            f' "created": "2024-01-{number % 28 + 1:02d}", "metadata": {{"source": {{"name": "web", "rank":'
            f' {number % 100}}}, "tags": ["a", "maths"]}}{note}}}\n'
        )
        number += 1


def make_file(folder: Path, gigabytes: float) -> Path:
    """The folder with the file, made once."""
    path = folder / f"{gigabytes:g}-gb" / "train" / "rows.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        log.info("making %g GB", gigabytes)
        partial, size = path.with_suffix(".partial"), 0
        with open(partial, "w", encoding="utf-8") as file:
            for row in make_rows(random.Random(0)):
                size += file.write(row)
                if size >= gigabytes * 1e9:
                    break
        partial.rename(path)
    return path


def theirs(name: str, path: Path, folder: Path) -> None:
    """The other ways, as their documentation shows them, with zstd where they take it."""
    if name == PANDAS:
        import pandas

        pandas.read_json(path, lines=True).to_parquet(folder / "rows.parquet", compression="zstd")
        return
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    # With Snappy, as it does: it takes no other compression here.
    loaded.to_parquet(str(folder / "rows.parquet"))


@dataclass
class Run:
    """What one run took: seconds by the clock and of processors, most memory in bytes, rows."""

    seconds: float
    cpu_seconds: float
    memory: int
    rows: int


def measure(name: str, path: Path, folder: Path) -> Run:
    """One run with a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [__file__, "--only", name, "--path", path, "--folder", folder]
    if name == OURS:
        command = [PROGRAM, "--folder", path.parent.parent, "--output", folder / "out"]
    os.sync()
    memory, start = 0, time.monotonic()
    with open(folder / "log", "w") as output:
        process = subprocess.Popen([sys.executable, *map(str, command)], stdout=output, stderr=output)
        while True:
            found, ended, usage = os.wait4(process.pid, os.WNOHANG)
            if found:
                break
            # What it has when it ends, asked for often: nobody can be asked afterwards.
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
            memory = max(memory, int(peak) << 10)
            time.sleep(0.02)
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(ended)
    if process.returncode:
        raise InputError(f"{name} failed: {(folder / 'log').read_text()[-2000:]}")
    written = folder / ("out/data/train_rows.parquet" if name == OURS else "rows.parquet")
    rows = pq.read_metadata(written).num_rows
    shutil.rmtree(folder)
    return Run(seconds, usage.ru_utime + usage.ru_stime, memory, rows)


def main() -> None:
    """Makes the files, measures, prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.2, 2.0], help="sizes (default 0.2 2)")
    parser.add_argument("--pandas-up-to", type=float, default=0.5, help="largest size for pandas, GB (default 0.5)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each runs; the median counts (default 1)")
    parser.add_argument("--folder", type=Path, help="where the files are kept (default: in the temporary folder)")
    parser.add_argument("--only", choices=(DATASETS, PANDAS), help="run just this, on --path, and time nothing")
    parser.add_argument("--path", type=Path, help="file for --only")
    arguments = parser.parse_args()
    if arguments.only:
        theirs(arguments.only, arguments.path, arguments.folder)
        return
    folder = arguments.folder or Path(tempfile.gettempdir()) / "corpusmith-json-to-parquet"
    ratios = []
    for gigabytes in arguments.gigabytes:
        path = make_file(folder, gigabytes)
        # Into the page cache.
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass
        names = [OURS, DATASETS] + [PANDAS] * (gigabytes <= arguments.pandas_up_to)
        runs: dict[str, list[Run]] = {name: [] for name in names}
        # Round by round, so that what else the machine does strikes all of them.
        for name in names * arguments.rounds:
            runs[name].append(measure(name, path, folder / "run"))
            log.info("%s: %.1f s", name, runs[name][-1].seconds)
        if len({run.rows for found in runs.values() for run in found}) > 1:
            raise InputError("they write different numbers of rows")
        seconds = {name: statistics.median(run.seconds for run in found) for name, found in runs.items()}
        print(f"{gigabytes:g} GB, {runs[OURS][0].rows:,} rows\n{'':12} seconds  CPU seconds  memory, MB")
        for name, found in runs.items():
            cpu = statistics.median(run.cpu_seconds for run in found)
            print(f"{name:12} {seconds[name]:7.1f} {cpu:12.1f} {max(run.memory for run in found) / 1e6:11,.0f}")
        ratios.append(min(seconds[name] for name in names if name != OURS) / seconds[OURS])
    print(f"ratio {min(ratios):.2f}")


if __name__ == "__main__":
    run(main)
