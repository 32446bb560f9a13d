"""Seconds that Snakemake takes for each job beside the job's own work: planned, run locally, and run under SLURM.

Graphs of two layers of trivial jobs (one of the second for each of the first, and one that reads them all) are planned
with -n and built, with the settings of profiles/local and profiles/slurm; the same commands in a shell's loop are what
one would otherwise run, and under SLURM an sbatch for each. And what it takes to read our Snakefile, beyond Snakemake's
own start: every job of a cluster reads it three times. Prints a table, and last of all the ratio of a loop of sbatch to
a build under SLURM, or, where there is no SLURM, of a shell's loop to a local build.

    python benchmarks/orchestration.py --jobs 100 1000 5000 --slurm-jobs 100
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from corpusmith.program import argument_parser, log, run

ROOT = Path(__file__).resolve().parent.parent
SNAKEMAKE = ROOT / ".venv" / "bin" / "snakemake"
_GRAPH = """
N = int(config["jobs_wanted"]) // 2
rule all:
    input: "all.txt"
rule first:
    output: "first/{number}.txt"
    resources: runtime=5, mem_mb=100
    shell: "echo {wildcards.number} > {output}"
rule second:
    input: "first/{number}.txt"
    output: "second/{number}.txt"
    resources: runtime=5, mem_mb=100
    shell: "cat {input} > {output}"
rule merge:
    input: expand("second/{number}.txt", number=range(N))
    output: "all.txt"
    localrule: True
    run:
        with open(output[0], "w") as merged:
            merged.write(str(len(input)))
"""
_SLURM = [
    "--executor=slurm", "--jobs=500", "--scheduler=greedy", "--keep-going", "--latency-wait=60",
    "--slurm-status-command=squeue", "--slurm-init-seconds-before-status-checks=5",
]  # fmt: skip


def main() -> None:
    """Parses the flags and measures."""
    parser = argument_parser(__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[100, 1000, 5000], help="sizes of the graphs")
    parser.add_argument(
        "--slurm-jobs", type=int, nargs="*", default=[100], help="those that SLURM runs; none: no SLURM"
    )
    parser.add_argument("--rounds", type=int, default=5, help="readings of the Snakefile")
    flags = parser.parse_args()
    print(f"{'reading our Snakefile, beyond Snakemake':<48} {parse_seconds(flags.rounds):8.2f} s", flush=True)
    ratio = None
    for count in flags.jobs:
        ours = show(count, "planned (-n)", lambda count=count: build(count, "-n"))
        ours = show(count, "built locally", lambda count=count: build(count, "--cores", "2"))
        loop = show(count, "a shell's loop", lambda count=count: looped(count, "sh -c '{}'"))
        ratio = loop / ours
    if shutil.which("sbatch"):
        for count in flags.slurm_jobs:
            ours = show(count, "built under SLURM", lambda count=count: build(count, *_SLURM))
            by_hand = show(count, "a loop of sbatch", lambda count=count: submitted(count))
            ratio = by_hand / ours
    else:
        log.warning("no SLURM here: builds under it are not measured")
    if ratio is not None:
        print(f"ratio {ratio:.3f}")


def show(count: int, what: str, measured: Callable[[], float]) -> float:
    """Measures, and prints seconds in all and for each job."""
    seconds = measured()
    print(f"{count:6,} jobs, {what:<34} {seconds:8.1f} s {1000 * seconds / count:10.1f} ms a job", flush=True)
    return seconds


def parse_seconds(rounds: int) -> float:
    """Seconds to read our Snakefile and nothing else, less those for an empty one: the medians of some rounds."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Snakefile").write_text("rule all:\n    localrule: True\n")
        ours, empty = [], []
        for _ in range(rounds):
            ours.append(timed([str(SNAKEMAKE), "--list-rules", "--configfile", "config/tiny.yaml"], ROOT))
            empty.append(timed([str(SNAKEMAKE), "--list-rules"], Path(folder)))
    return statistics.median(ours) - statistics.median(empty)


def build(count: int, *arguments: str) -> float:
    """Seconds of a build of so many jobs, or of its plan."""
    with tempfile.TemporaryDirectory(dir=shared_folder()) as folder:
        (Path(folder) / "Snakefile").write_text(_GRAPH)
        return timed([str(SNAKEMAKE), "--quiet", "all", "--config", f"jobs_wanted={count}", *arguments], Path(folder))


def looped(count: int, form: str) -> float:
    """Seconds of the same commands, one after the other."""
    with tempfile.TemporaryDirectory(dir=shared_folder()) as folder:
        commands = "mkdir first second\n"
        for number in range(count // 2):
            commands += form.format(f"echo {number} > first/{number}.txt") + "\n"
            commands += form.format(f"cat first/{number}.txt > second/{number}.txt") + "\n"
        (Path(folder) / "all.sh").write_text(commands)
        return timed(["sh", "all.sh"], Path(folder))


def submitted(count: int) -> float:
    """Seconds of the same commands, each submitted by hand, the second of a pair behind the first."""
    with tempfile.TemporaryDirectory(dir=shared_folder()) as folder:
        commands, common = "mkdir first second\nlast=\n", "sbatch --parsable --output=/dev/null --mem=100 --time=5"
        for number in range(count // 2):
            commands += f"job=$({common} --wrap 'echo {number} > first/{number}.txt')\n"
            commands += f"job=$({common} -d afterok:$job --wrap 'cat first/{number}.txt > second/{number}.txt')\n"
            commands += "all=$all:$job\n"
        commands += f"{common} --wait -d afterok$all --wrap 'ls second > all.txt' > number.txt\n"
        (Path(folder) / "all.sh").write_text(commands)
        return timed(["sh", "all.sh"], Path(folder))


def timed(command: list[str], folder: Path) -> float:
    """Seconds of a command that has to end well."""
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    return time.monotonic() - start


def shared_folder() -> str:
    """Where the jobs of a cluster of several nodes see it: beside the checkout's results."""
    folder = ROOT / ".snakemake" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return os.fspath(folder)


if __name__ == "__main__":
    run(main)
