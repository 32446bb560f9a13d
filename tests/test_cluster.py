"""What is known of a SLURM cluster: its partitions from sinfo and from a file, and whether its jobs can be followed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout import CONTROL, need_control
from conftest import ROOT
from corpusmith import cluster
from corpusmith.cluster import Partition, asked_partitions, both, check_cluster, parse_sinfo, why_waiting
from corpusmith.errors import InputError

# The end of a program that does not answer.
SILENT = "exec /bin/sleep 30"
EXAMPLE = ROOT / "profiles" / "slurm" / "partitions.yaml"


def pretend(folder: Path, **programs: str) -> Path:
    """A folder for the PATH with programs of these shell commands."""
    folder.mkdir(exist_ok=True)
    for name, commands in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{commands}\n")
        (folder / name).chmod(0o755)
    return folder


def saying(text: str) -> str:
    return f"/bin/cat <<'END'\n{text}\nEND"


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts pretended programs on the PATH, and nothing else: this machine may have a SLURM of its own."""

    def put(**programs: str) -> Path:
        folder = pretend(tmp_path / "bin", **programs)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return put


def controlled(code: str, given: Any, **environment: str) -> Any:
    """What code finds with Snakemake's and the executor's own: it gets `given`, and leaves its answer in `found`."""
    need_control()
    code = f"import json, sys\ngiven = json.load(sys.stdin)\n{code}\njson.dump(found, sys.stdout)"
    done = subprocess.run(
        [CONTROL / "python", "-c", code], input=json.dumps(given), capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts"), **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- sinfo ---


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gpu*|gpu:h100:4(S:0)|1-00:00:00|9000|64", Partition("gpu", 4, 1440, 9000, 64, frozenset({"h100"}), True)),
        ("cpu|(null)|infinite|250000|128", Partition("cpu", 0, None, 250000, 128)),
        ("debug|gpu:2|30:00|64000|8", Partition("debug", 2, 30, 64000, 8)),
        ("soon|(null)|1:30|1000|1", Partition("soon", 0, 1.5, 1000, 1)),
        ("long|(null)|14-12:30:00|1000|1", Partition("long", 0, 14 * 1440 + 12 * 60 + 30, 1000, 1)),
        # What differs within a line is told as the least of it, which limits nothing.
        ("some|(null)|infinite|515000+|64+", Partition("some", 0)),
    ],
)
def test_a_line_of_sinfo_is_a_partition(line: str, expected: Partition) -> None:
    assert parse_sinfo(f"{line}\n") == [expected]


@pytest.mark.parametrize(
    ("resources", "gpus", "models"),
    [
        ("gpu:4", 4, None),
        ("gpu", 1, None),
        ("gpu:h100:8(S:0,1)", 8, {"h100"}),
        ("gpu:a100:2(S:0),gpu:h100:4(S:1)", 6, {"a100", "h100"}),
        ("gpu:a100_1g.5gb:7(S:0-1),shard:64,mps:100", 7, {"a100_1g.5gb"}),
        # Names that begin with a digit, or are a number.
        ("gpu:1080ti:4", 4, {"1080ti"}),
        ("gpu:4090:8(S:0-3)", 8, {"4090"}),
        ("lustre:1,gpu:v100-sxm2:3", 3, {"v100-sxm2"}),
        ("gpuless:2,notgpu:3", 0, None),
        ("(null)", 0, None),
    ],
)
def test_gpus_of_a_node_are_counted_over_all_models(resources: str, gpus: int, models: set[str] | None) -> None:
    (found,) = parse_sinfo(f"gpu|{resources}|infinite|1|1")
    assert (found.gpus, found.gpu_models) == (gpus, models and frozenset(models))


def test_of_a_partition_with_unlike_nodes_the_largest_of_each_counts() -> None:
    text = """
        gpu*|gpu:a100:4(S:0-1)|2-00:00:00|515000|64
        cpu|(null)|infinite|250000|128

        gpu*|gpu:h100:8(S:0-1)|2-00:00:00|1030000|48
        gpu*|(null)|2-00:00:00|64000|256
        mixed|(null)|infinite|1000+|1
        mixed|(null)|infinite|500|2
    """
    expected = {
        "gpu": Partition("gpu", 8, 2880, 1030000, 256, frozenset({"a100", "h100"}), is_default=True),
        "cpu": Partition("cpu", 0, None, 250000, 128),
        "mixed": Partition("mixed", 0, None, None, 2),
    }
    assert {found.name: found for found in parse_sinfo(text)} == expected
    backwards = "\n".join(reversed(text.splitlines()))
    assert {found.name: found for found in parse_sinfo(backwards)} == expected


@given(text=st.text() | st.text(alphabet="gpu*|:(),-+0123456789\n null", max_size=200))
def test_no_answer_of_sinfo_s_ends_a_build(text: str) -> None:
    found = parse_sinfo(text)
    assert len({partition.name for partition in found}) == len(found)
    assert all(partition.name and (partition.gpus or 0) >= 0 for partition in found)


NAMES = st.from_regex(r"[A-Za-z0-9][\w.-]*", fullmatch=True)


@given(
    name=NAMES,
    is_default=st.booleans(),
    gres=st.dictionaries(NAMES, st.integers(1, 99), max_size=3),
    seconds=st.none() | st.integers(0, 10**7),
    memory=st.integers(1, 10**8),
    cpus=st.integers(1, 10**4),
)
def test_what_sinfo_says_is_what_is_read(
    name: str, is_default: bool, gres: dict[str, int], seconds: int | None, memory: int, cpus: int
) -> None:
    resources = ",".join(f"gpu:{model}:{count}(S:0-1,3)" for model, count in gres.items()) or "(null)"
    limit = "infinite"
    if seconds is not None:
        days, rest = divmod(seconds, 86400)
        clock = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}" if rest >= 3600 or days else ""
        limit = (f"{days}-" if days else "") + (clock or f"{rest // 60}:{rest % 60:02}")
    (found,) = parse_sinfo(f"{name}{'*' if is_default else ''}|{resources}|{limit}|{memory}|{cpus}")
    assert found.minutes == (None if seconds is None else pytest.approx(seconds / 60))
    assert (found.name, found.is_default, found.gpus) == (name, is_default, sum(gres.values()))
    assert (found.gpu_models, found.memory_mb, found.cpus) == (frozenset(gres) or None, memory, cpus)


def test_the_cluster_is_asked_for_each_kind_of_node(only: Any) -> None:
    # As sinfo does it: nodes that differ are on one line unless it is told not to.
    apart, together = "gpu*|gpu:4|30:00|64000|8\ngpu*|gpu:4|30:00|512000|64", "gpu*|gpu:4|30:00|64000+|8+"
    heading = 'case "$*" in *--noheader*) ;; *) echo "PARTITION|GRES|TIMELIMIT|MEMORY|CPUS" ;; esac\n'
    only(sinfo=f'{heading}case "$*" in *--exact*)\n{saying(apart)}\n;; *)\n{saying(together)}\n;; esac')
    assert asked_partitions() == [Partition("gpu", 4, 30, 512000, 64, is_default=True)]


def test_where_sinfo_is_not_there_or_does_not_answer_nothing_is_known(
    only: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    only()
    assert asked_partitions() == []
    only(sinfo="echo 'gpu|gpu:4|30:00|1|1'; echo 'slurm_load_partitions: Unable to contact controller' >&2; exit 1")
    assert asked_partitions() == []
    monkeypatch.setattr(cluster, "_SECONDS", 0.3)
    only(sinfo="echo 'gpu|gpu:4|30:00|1|1'; exec /bin/sleep 30")
    assert asked_partitions() == []


# --- files of partitions ---

READ = """
from dataclasses import asdict
from corpusmith.cluster import read_partitions
from corpusmith.errors import InputError
from snakemake_executor_plugin_slurm.partitions import read_partition_file

def ours(path):
    try:
        return [{**asdict(found), "gpu_models": found.gpu_models and sorted(found.gpu_models)}
                for found in read_partitions(path)]
    except InputError as error:
        return str(error)

def executors(path):
    return {found.name: {key: None if value == float("inf") else value for key, value in vars(found.limits).items()}
            for found in read_partition_file(path)}

found = {"ours": {path: ours(path) for path in given["files"]},
         "executors": {path: executors(path) for path in given["good"]}}
"""
FILE = """
partitions:
  plain: {}
  cpu: {max_runtime: 12h, max_mem_mb: 250000, max_threads: 64}
  gpu: {max_runtime: 1-00:30:00, max_mem_mb: 1000000, max_threads: 128, max_cpus_per_task: 96, max_gpu: 8,
        available_gpu_models: [h100, a100], supports_mpi: false}
  endless: {max_runtime: .inf, max_mem_mb: .inf, max_gpu: 2, available_gpu_models: []}
"""
BROKEN = {
    "no YAML": "partitions: [",
    "empty": "",
    "a list": "- gpu",
    "no section": "gpu: {max_gpu: 1}",
    "an empty section": "partitions:",
    "a section of names": "partitions: [gpu, cpu]",
    "no limits but a number": "partitions: {gpu: 8}",
    "a limit in words": "partitions: {gpu: {max_gpu: many}}",
    "a time in words": "partitions: {gpu: {max_runtime: forever}}",
    "memory with a unit": "partitions: {gpu: {max_mem_mb: 512G}}",
    "CPUs in words": "partitions: {gpu: {max_threads: all}}",
    "endless GPUs": "partitions: {gpu: {max_gpu: .inf}}",
    "models that are none": "partitions: {gpu: {available_gpu_models: 4}}",
}


def test_a_file_of_partitions_is_read_as_the_executor_reads_it(tmp_path: Path) -> None:
    own, single, empty = tmp_path / "own.yaml", tmp_path / "single.yaml", tmp_path / "empty.yaml"
    own.write_text(FILE)
    # The executor looks for a model in a text, too, and finds it there.
    single.write_text("partitions: {gpu: {max_gpu: 1, available_gpu_models: a100}}")
    empty.write_text("partitions: {}")
    good = [str(path) for path in (EXAMPLE, own)]
    found = controlled(READ, {"files": [*good, str(single), str(empty)], "good": good})
    rows = {path: {row.pop("name"): row for row in rows} for path, rows in found["ours"].items()}
    assert {name: [*row.values()] for name, row in rows[str(EXAMPLE)].items()} == {
        "cpu": [0, 1440, 250000, 64, None, False],
        "gpu": [8, 720, 1000000, 128, ["h100"], False],
        "gpu-long": [4, 4320, 500000, 64, ["a100"], False],
    }
    assert [*rows[str(own)]["gpu"].values()] == [8, 24 * 60 + 30, 1000000, 96, ["a100", "h100"], False]
    assert rows[str(own)]["cpu"]["minutes"] == 720
    for path in good:
        limits = found["executors"][path]
        assert list(rows[path]) == list(limits)
        for name, row in rows[path].items():
            assert row["gpus"] == limits[name]["max_gpu"]
            assert row["minutes"] == limits[name]["max_runtime"]
            assert row["memory_mb"] in (limits[name]["max_mem_mb"], float("inf"))
            assert row["gpu_models"] == (sorted(limits[name]["available_gpu_models"] or []) or None)
    assert rows[str(single)]["gpu"]["gpu_models"] == ["a100"]
    assert rows[str(empty)] == {}


def test_a_file_that_is_none_is_refused_by_its_name(tmp_path: Path) -> None:
    for name, text in BROKEN.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "bytes.yaml").write_bytes(b"partitions: {gpu: {max_gpu: \xff}}")
    gone = [str(tmp_path / "gone.yaml"), str(tmp_path)]
    found = controlled(READ, {"files": [*map(str, tmp_path.glob("*.yaml")), *gone], "good": []})["ours"]
    assert len(found) == len(BROKEN) + 3
    for path, message in found.items():
        assert isinstance(message, str), f"{path}: {message}"
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
    assert all("slurm-partition-config" in found[path] for path in gone)


def test_of_file_and_cluster_the_tighter_limit_counts() -> None:
    file = [Partition("gpu", 4, 720, None, 64, frozenset({"a100"})), Partition("of-file", 2, None, 1000)]
    asked = [
        Partition("gpu", 8, 1440, 515000, 32, frozenset({"a100", "h100"}), is_default=True),
        Partition("of-cluster", 0, 30, 2000, 4),
    ]
    assert both(file, asked) == {
        "gpu": Partition("gpu", 4, 720, 515000, 32, frozenset({"a100"}), is_default=True),
        "of-file": file[1],
        "of-cluster": asked[1],
    }
    assert both([Partition("gpu", 8)], [Partition("gpu", 4, 30)]) == {"gpu": Partition("gpu", 4, 30)}
    assert both([], []) == {}


# --- how jobs are followed ---

# One round of the executor's own: which command it asks for a job, by what is pretended to be there.
CHOOSE = """
import asyncio, logging, os
from pathlib import Path
from types import SimpleNamespace
from snakemake_executor_plugin_slurm import Executor

class Unlimited:
    async def __aenter__(self): pass
    async def __aexit__(self, *error): pass

async def choose(command, first_check):
    settings = SimpleNamespace(status_command=command, init_seconds_before_status_checks=first_check, status_attempts=1)
    executor = Executor.__new__(Executor)
    executor.workflow = SimpleNamespace(executor_settings=settings)
    executor.logger, executor.run_uuid = logging.getLogger("executor"), "run"
    executor.status_rate_limiter = Unlimited()
    executor.next_seconds_between_status_checks = first_check
    executor._status_query_calls = executor._status_query_failures = 0
    executor._status_query_total_seconds = executor._status_query_max_seconds = 0.0
    executor._status_query_min_seconds, executor._status_query_cycle_rows = None, []
    job = SimpleNamespace(external_jobid="1", aux={})
    assert [found async for found in executor.check_active_jobs([job])] == [job]
    (row,) = executor._status_query_cycle_rows
    return row["command"]

found = []
for age, command, first_check in given:
    os.environ["PRETENDED"] = age
    asked = asyncio.run(choose(command, first_check))
    log = Path(os.environ["LOG"])
    assert set(log.read_text().split()) == {asked}
    log.unlink()
    found.append(asked)
"""


def test_a_build_is_refused_exactly_where_the_executor_would_ask_accounts_that_nobody_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_control()
    asked = 'echo "$(/usr/bin/basename "$0")" >> "$LOG"; echo "1|RUNNING"'
    scontrol = 'echo "AccountingStorageType   = $ACCOUNTS"; [ -z "$PRETENDED" ] || echo "MinJobAge = $PRETENDED"'
    folder = pretend(tmp_path / "bin", scontrol=scontrol, squeue=asked, sacct=asked, sacctmgr="true")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    cases = [*product(["300 sec", "180 sec", "60 sec", "45 sec", "2 sec", "0 sec", ""], ["squeue", "sacct"], [15, 40])]
    chosen = controlled(CHOOSE, cases, LOG=str(tmp_path / "log"))
    assert set(chosen) == {"squeue", "sacct"}
    for (age, command, first_check), choice in zip(cases, chosen, strict=True):
        monkeypatch.setenv("PRETENDED", age)
        for accounts in ("accounting_storage/slurmdbd", "accounting_storage/none", "(null)"):
            monkeypatch.setenv("ACCOUNTS", accounts)
            kept = accounts == "accounting_storage/slurmdbd"
            what = f"{age}, {command}, {first_check}, {accounts}: {choice}"
            if choice == "sacct" and not kept:
                with pytest.raises(InputError):
                    check_cluster(command, first_check)
            else:
                # By the end the executor looks every three minutes, and squeue shows a job no longer than MinJobAge.
                missed = choice == "squeue" and int(age.split()[0]) <= 180
                assert len(check_cluster(command, first_check)) == missed, what


def configured(**settings: str) -> str:
    lines = [f"{name:<24}= {value}" for name, value in settings.items()]
    return saying("\n".join(["Configuration data as of 2026-01-01T00:00:00", *lines, "", "Cgroup Support"]))


@pytest.mark.parametrize(("age", "seconds"), [(60, 20), (300, 100), (119, 39), (3, 1)])
def test_what_a_refusal_says_of_the_first_check_makes_the_build_run(only: Any, age: int, seconds: int) -> None:
    only(scontrol=configured(MinJobAge=f"{age} sec", AccountingStorageType="(null)"), sacct="", sacctmgr="")
    with pytest.raises(InputError, match=r"slurm-init-seconds-before-status-checks: \d+ ") as refused:
        check_cluster("squeue", seconds + 1)
    (advised,) = re.findall(r"slurm-init-seconds-before-status-checks: (\d+) ", str(refused.value))
    assert int(advised) == seconds
    check_cluster("squeue", seconds)


@pytest.mark.parametrize(
    ("age", "command", "named"),
    [
        ("300 sec", "sacct", "slurm-status-command: squeue"),
        ("2 sec", None, "slurm-status-command: squeue"),
        ("2 sec", "squeue", "MinJobAge raised"),
    ],
)
def test_a_refusal_names_the_setting_that_helps(only: Any, age: str, command: str | None, named: str) -> None:
    only(scontrol=configured(MinJobAge=age, AccountingStorageType="(null)"), sacct="", sacctmgr="")
    with pytest.raises(InputError, match=named):
        check_cluster(command, 1)


@pytest.mark.parametrize("missing", ["sacct", "sacctmgr"])
def test_commands_that_the_executor_calls_have_to_be_there(only: Any, missing: str) -> None:
    folder = only(scontrol=configured(MinJobAge="300 sec"), sacct="", sacctmgr="")
    (folder / missing).unlink()
    with pytest.raises(InputError, match=missing):
        check_cluster("squeue", 15)


@pytest.mark.parametrize(
    ("scontrol", "said"),
    [
        (None, "scontrol"),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "Unable to contact slurm controller"),
        (f"echo 'Unable to contact slurm controller' >&2; {SILENT}", "Unable to contact slurm controller"),
        (SILENT, "scontrol"),
    ],
)
def test_a_slurm_that_does_not_answer_is_told_with_what_it_says(
    only: Any, monkeypatch: pytest.MonkeyPatch, scontrol: str | None, said: str
) -> None:
    if scontrol is not None and scontrol.endswith(SILENT):
        # Enough for what it says before that.
        monkeypatch.setattr(cluster, "_SECONDS", 5.0)
    only(sacct="", sacctmgr="", **({} if scontrol is None else {"scontrol": scontrol}))
    with pytest.raises(InputError, match="SLURM does not answer") as refused:
        check_cluster("squeue", 15)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


# --- jobs that wait ---


def test_of_jobs_that_wait_those_are_told_that_only_somebody_can_help(only: Any) -> None:
    lines = ["7|launch failed requeued held", "8|Priority", "9|PartitionTimeLimit", "10|Resources", "11|BeginTime"]
    only(squeue=saying("\n".join([*lines, "12|JobHeldUser", "13|QOSMaxGRESPerUser", "14|BadConstraints"])))
    found = why_waiting()
    assert sorted(found, key=int) == ["7", "9", "12", "14"]
    assert found["7"] == "launch failed requeued held; scontrol release 7 lets it go on"
    assert "runtime" in found["9"]


def test_nothing_is_told_of_jobs_where_squeue_does_not_answer(only: Any) -> None:
    only(squeue="exit 1")
    assert why_waiting() == {}
