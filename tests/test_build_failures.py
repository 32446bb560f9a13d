"""The end of a failed build says of each target why, and where its logs are; what cannot help is not tried again."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
import tempfile
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkout import CONTROL, need_control
from conftest import ROOT
from corpusmith.build_failures import Failures, is_permanent, last_words

LOGGER = logging.Logger("snakemake")


@dataclass(eq=False)
class Job:
    """What there is of Snakemake's Job, as Group is of its GroupJob."""

    rule: Any
    output: list[str]
    log: list[str] = field(default_factory=list)
    restart_times: int = 5
    _attempt: int = 1

    def is_group(self) -> bool:
        return False

    def log_error(self, msg: str = "", indent: bool = False, aux_logs: Sequence[Any] = (), **aux: Any) -> None:
        said = self.get_log_error_info(msg, indent, aux_logs, **aux)
        LOGGER.error(f"Error in rule {self.rule.name}, jobid: 7", extra=said)

    def get_log_error_info(self, msg: str = "", indent: bool = False, aux_logs: Sequence[Any] = (), **aux: Any) -> Any:
        return {
            "rule_name": self.rule.name, "rule_msg": msg or None, "jobid": 7, "input": ["in.parquet"],
            "output": [*self.output], "log": [*self.log, *aux_logs], "conda_env": None, "container_img": None,
            "aux": aux, "indent": indent, "shellcmd": "python x.py", "event": "job_error",
        }  # fmt: skip


@dataclass(eq=False)
class Group:
    jobs: list[Job]
    restart_times: int = 5
    _attempt: int = 1

    def is_group(self) -> bool:
        return True

    @property
    def all_products(self) -> set[str]:
        return {path for job in self.jobs for path in [*job.output, *job.log]}

    def log_error(self, msg: str = "", aux_logs: Sequence[Any] = (), **aux: Any) -> None:
        """Says nothing of the message, and the group's log in the first record only."""
        jobs = [job.get_log_error_info(indent=True, **aux) for job in self.jobs]
        said = {"event": "group_error", "groupid": "g", "aux_logs": [*aux_logs], "job_error_info": jobs} | aux
        LOGGER.error("Error in group g", extra=said)
        for job in self.jobs:
            job.log_error(indent=True)


class Build:
    """A build whose jobs fail as they do under the SLURM executor."""

    def __init__(self) -> None:
        self.scheduler: Any = SimpleNamespace(running=set())
        self.failures = Failures(self)
        LOGGER.handlers = [self.failures]

    def fail(self, job: Any, msg: str = "", aux_logs: Sequence[Any] = (), number: str = "") -> bool:
        """An attempt that fails. Whether there would be another, as the scheduler decides it."""
        self.scheduler.running.add(job)
        aux = {"external_jobid": number} if number else {}
        text = f"{msg}For further error details see the cluster/cloud log and the log files of the rule(s)."
        job.log_error(text, **({"aux_logs": aux_logs} if aux_logs else {}), **aux)
        self.scheduler.running.remove(job)
        again = bool(job.restart_times > job._attempt - 1)
        job._attempt += again
        return again

    def end(self, job: Any, state: str, number: str = "4711", log: str | None = "slurm/4711.log") -> bool:
        """An attempt that came to this end by SLURM."""
        msg = f"SLURM-job '{number}' failed, SLURM status is: '{state}'. Reason: Unknown."
        return self.fail(job, msg, [log], number)

    def refuse(self, job: Any, error: str) -> bool:
        """An attempt that sbatch did not take."""
        msg = f"SLURM sbatch failed. The error message was '{error.strip()}'.\n    sbatch call:\n        sbatch 'x'.\n"
        return self.fail(job, msg)

    def report(self, *failed: Any, waiting: int = 0) -> list[str]:
        return list(self.failures.lines(failed, waiting))


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    monkeypatch.chdir(tmp_path)
    return Build()


def job(rule: str = "generate", output: str = "answers.parquet", said: str | None = None) -> Job:
    """A job with a log of its own; said: what is in it, None where it was not even made."""
    log = f"logs/{rule}-{output}.log"
    if said is not None:
        write(log, said)
    return Job(SimpleNamespace(name=rule), [output, f"{output}.account.json"], [log])


def write(path: str, text: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    return Path(path)


def test_a_report_names_the_target_the_reason_and_the_logs_that_exist(build: Build) -> None:
    made = job(said="12:00:01 asking\nstopped: the time of the job ends at 12:30\n")
    write("slurm/4711.log", "12:00:00 the node\n")
    build.end(made, "TIMEOUT")
    assert build.report(made, waiting=3)[:-1] == [
        "1 job failed:", "  generate: answers.parquet", "    SLURM job 4711 was ended at its wall time",
        "    stopped: the time of the job ends at 12:30",
        "    log: logs/generate-answers.parquet.log", "    log: slurm/4711.log", "3 further jobs were not begun.",
    ]  # fmt: skip


def test_logs_that_are_not_there_are_not_named_and_one_that_is_tells_why(build: Build) -> None:
    made = job()
    write("slurm/4711.log", "slurmstepd: error: could not start: no such environment\n")
    build.end(made, "FAILED")
    lines = build.report(made)
    assert [line for line in lines if "log: " in line] == ["    log: slurm/4711.log"]
    assert "    slurmstepd: error: could not start: no such environment" in lines
    Path("slurm/4711.log").unlink()
    assert not [line for line in build.report(made) if "log: " in line or "slurmstepd" in line]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("TIMEOUT", "wall time"), ("CANCELLED", "cancelled"), ("OUT_OF_MEMORY", "out of memory"), ("NODE_FAIL", "node"),
        ("BOOT_FAIL", "node"), ("DEADLINE", "deadline"), ("FAILED", "FAILED"), ("REVOKED", "REVOKED"),
    ],
)  # fmt: skip
def test_how_slurm_ended_a_job_is_said_with_its_number(build: Build, state: str, said: str) -> None:
    made = job()
    build.end(made, state, "31_4")
    (line,) = [line for line in build.report(made) if "SLURM job" in line]
    assert "SLURM job 31_4 " in line
    assert said in line


@pytest.mark.parametrize("error", ["sbatch: error: 1\nsbatch: error: 2\n", "sbatch: no '--x'\nTry \"--help\"", ""])
def test_why_sbatch_refused_a_job_is_said_whole_in_one_line(build: Build, error: str) -> None:
    made = job()
    assert build.refuse(made, error)
    (line,) = [line for line in build.report(made) if "it was not submitted" in line]
    assert line.split()[4:] == error.split()


def test_a_job_that_was_not_submitted_says_why_and_nothing_of_an_earlier_build(build: Build) -> None:
    made = job(said="asked 16, from the store 0\n")
    assert build.fail(made, "Job submission failed with exception: The account wrong is invalid. Available:\nlab")
    assert build.report(made)[1:3] == [
        "  generate: answers.parquet",
        "    it was not submitted: The account wrong is invalid. Available: lab",
    ]
    assert not any("log:" in line or "asked 16" in line for line in build.report(made))


def test_the_last_attempt_is_reported_and_all_are_counted(build: Build) -> None:
    made = job(said="RuntimeError: the engine died\n")
    for number, state in enumerate(["TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"]):
        log = write(f"slurm/{number}.log", "")
        assert build.end(made, state, str(number), str(log))
    lines = build.report(made)
    assert "  generate: answers.parquet, 3 attempts" in lines
    assert [line for line in lines if "SLURM job" in line] == ["    SLURM job 2 ran out of memory"]
    assert [line for line in lines if "slurm/" in line] == ["    log: slurm/2.log"]
    # An end that says nothing of itself is not that of the attempt before.
    build.fail(made, "Job submission failed with exception: [Errno 11] Resource temporarily unavailable")
    lines = build.report(made)
    assert "  generate: answers.parquet, 4 attempts" in lines
    assert not [line for line in lines if "SLURM job" in line]


def test_attempts_of_each_job_are_counted_by_themselves(build: Build) -> None:
    first, second = job(output="1.parquet"), job(output="2.parquet")
    for failed in (first, second, first):
        build.end(failed, "TIMEOUT")
    LOGGER.error("Some jobs failed")
    assert {"  generate: 1.parquet, 2 attempts", "  generate: 2.parquet"} <= set(build.report(second, first))


def test_a_failure_that_no_message_told_of_is_in_the_report_too(build: Build) -> None:
    silent, nameless = job(said="KeyError: 'text'\n"), Job(SimpleNamespace(name="store_prune"), [])
    build.fail(nameless)
    lines = build.report(silent, nameless)
    assert lines[:3] == ["2 jobs failed:", "  generate: answers.parquet", "    KeyError: 'text'"]
    assert [line for line in lines if "store_prune" in line]


def test_of_many_failures_fifty_are_named_with_twelve_lines_each_and_the_others_counted(build: Build) -> None:
    said = "\n".join(["error: the config has faults:", *(f"- fault {number}" for number in range(30))])
    failed = [job("score", f"{number:04}-of-0053.parquet", said) for number in range(53)]
    for one in reversed(failed):
        build.end(one, "TIMEOUT")
    lines = build.report(*reversed(failed))
    assert lines[0] == "53 jobs failed:"
    named = [line for line in lines if line.startswith("  score: ")]
    assert named == [f"  score: {number:04}-of-0053.parquet" for number in range(50)]
    assert len([line for line in lines if "fault" in line]) == 12 * 50
    assert "  ... and 3 more" in lines


def test_of_a_group_the_job_that_failed_is_named_and_not_those_that_went_with_it(build: Build) -> None:
    fine = job("look_up_answers", "1.missing.json", "12:00:00 look-up: done\n")
    guilty = job("request_translations", "2.parquet", "12:00:00 reading\nOSError: [Errno 5] Input/output error\n")
    group = Group([fine, guilty, job("request_translations", "3.parquet")])
    write("slurm/8.log", "both of them\n")
    for _ in range(2):
        assert build.end(group, "FAILED", "8", "slurm/8.log")
    lines = build.report(group)
    assert lines[:2] == ["1 job failed:", "  request_translations: 2.parquet, 2 attempts"]
    assert "    OSError: [Errno 5] Input/output error" in lines
    assert "    log: slurm/8.log" in lines


def test_of_a_group_that_was_ended_from_outside_all_are_named_with_its_log(build: Build) -> None:
    group = Group([job("look_up_answers", f"{number}.json") for number in (1, 2)])
    write("slurm/8.log", "slurmstepd: error: *** JOB 8 CANCELLED DUE TO TIME LIMIT ***\n")
    build.end(group, "TIMEOUT", "8", "slurm/8.log")
    lines = build.report(group)
    assert lines[0] == "2 jobs failed:"
    for number in (1, 2):
        place = lines.index(f"  look_up_answers: {number}.json")
        assert ("CANCELLED" in lines[place + 1], lines[place + 2]) == (True, "    log: slurm/8.log")


def test_a_group_with_bad_input_has_no_further_attempt(build: Build) -> None:
    guilty = job("request_translations", "2.parquet", "error: prompt.txt: no {text} in it\n")
    group, other = Group([job("look_up_answers", "1.json", "done\n"), guilty]), job()
    build.scheduler.running.add(other)
    assert not build.end(group, "FAILED")
    assert (other._attempt, guilty._attempt) == (1, 1)


BAD_INPUT = "12:00:00 reading\nerror: rows.jsonl:3: no text\n"
ASKING = ["generate", "score", "fetch_model", "fetch_source", "preflight_generate", "preflight_score"]
READING = ["write_split", "request_translations", "apply_verdicts", "select_best", "sample_sources", "release_dataset"]


@pytest.mark.parametrize("rule", READING)
def test_bad_input_of_a_program_that_only_reads_files_is_not_tried_again(build: Build, rule: str) -> None:
    for local in (True, False):
        made = job(rule, f"{local}.parquet", BAD_INPUT)
        assert not (build.fail(made) if local else build.end(made, "FAILED"))


@pytest.mark.parametrize("rule", ASKING)
def test_a_program_that_asks_a_server_or_a_gpu_is_tried_again_as_often_as_allowed(build: Build, rule: str) -> None:
    made = job(rule, said="error: the server does not answer\n")
    assert [build.end(made, "FAILED") for _ in range(6)] == [True] * 5 + [False]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
def test_what_a_disk_refuses_is_tried_again(build: Build, code: int) -> None:
    assert build.end(job("write_split", said=f"error: rows.parquet: {os.strerror(code)}; free some\n"), "FAILED")
    assert not build.end(job("write_split", said=f"error: rows: {os.strerror(errno.ENOENT)}\n"), "FAILED")


def test_an_end_that_is_not_bad_input_is_tried_again(build: Build) -> None:
    for number, said in enumerate([None, "", "Killed\n", "stopped: SIGTERM; start again\n", "MemoryError\n"]):
        assert build.end(job("write_split", str(number), said), "FAILED")


def test_a_job_that_did_not_come_to_begin_is_tried_again_whatever_an_earlier_build_said(build: Build) -> None:
    for state in ("CANCELLED", "NODE_FAIL", "TIMEOUT"):
        assert build.end(job("write_split", state, BAD_INPUT), state)
    assert build.refuse(job("write_split", "refused", BAD_INPUT), "sbatch: error: Socket timed out")


def test_a_message_before_the_scheduler_is_there_or_without_a_log_does_no_harm(build: Build) -> None:
    made = job("write_split", said=BAD_INPUT)
    assert build.end(job("write_split", "no log"), "FAILED", log=None)
    build.scheduler = None
    made.log_error()
    assert "    error: rows.jsonl:3: no text" in build.report(made)


def test_the_first_log_that_says_anything_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    empty, bad, other = write("empty", "\n"), write("bad", BAD_INPUT), write("other", "done\n")
    assert is_permanent("write_split", [Path("missing"), empty, bad, other])
    assert not is_permanent("write_split", [other, bad])


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("12:00 a\nerror: bad\nhint: mend it\n", ["error: bad", "hint: mend it"]),
        ("error: the first\n12:00 again\nerror: the last\n", ["error: the last"]),
        ("12:00 a\nstopped: told to\n\nbye\n", ["stopped: told to", "bye"]),
        ("Traceback (most recent call last):\n  File 'x'\nValueError: no 3\n", ["ValueError: no 3"]),
        ("  File 'x'\ntorch.OutOfMemoryError: CUDA\nTried 2 GiB\n", ["torch.OutOfMemoryError: CUDA", "Tried 2 GiB"]),
        ("  File 'x'\nException: plain\nthread ended\n", ["Exception: plain", "thread ended"]),
        ("KeyboardInterrupt\nbye\n", ["KeyboardInterrupt", "bye"]),
        ("12:00 an error: of a row\nconda failed\n", ["conda failed"]),
        ("12:00 a\r\n12:01 b\r\n\r\n  \r\n", ["12:01 b"]),
        (" \n\n\t\n", []),
    ],
)
def test_the_last_words_are_an_error_to_the_end_or_the_last_line(tmp_path: Path, log: str, expected: list[str]) -> None:
    path = tmp_path / "log"
    path.write_bytes(log.encode())
    assert last_words(path) == expected


def test_a_log_that_is_empty_or_cannot_be_read_has_no_last_words(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert last_words(tmp_path / "log") == []
    assert last_words(tmp_path / "missing") == last_words(tmp_path) == last_words(tmp_path / "log" / "file") == []


def test_of_a_huge_log_only_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b"error: of yesterday\n")
        file.truncate(100_000_000)
        file.seek(0, 2)
        file.write("\n한국어\nerror: of today\n".encode())
    tracemalloc.start()
    words = last_words(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert words == ["error: of today"]
    assert peak < 2_000_000
    path.write_bytes(b"error: of yesterday\n" + b"12:00 a line\n" * 10_000)
    assert last_words(path) == ["12:00 a line"]


@settings(max_examples=200)
@given(before=st.binary(max_size=200), after=st.lists(st.text("a1é", min_size=1), max_size=5))
def test_after_any_bytes_an_error_is_found_to_its_end(before: bytes, after: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        path.write_bytes(before)
        assert all(line and line == line.strip() for line in last_words(path))
        path.write_bytes(before + "\n".join(["", "error: bad", *after, ""]).encode())
        assert last_words(path) == ["error: bad", *after]


SNAKEFILE = """
import sys
sys.path.insert(0, "{scripts}")
from corpusmith.build_failures import Failures
from corpusmith.building import report

FAILURES = Failures(workflow)
logger.addHandler(FAILURES)

onerror: report(workflow, FAILURES, logger)

rule end:
    input: "split", "answers"

rule write_split:
    output: "split"
    log: "split.log"
    shell: "echo began >> split.count; echo 'error: rows.jsonl:3: no text' | tee {{log}}; exit 1"

rule generate:
    output: "answers"
    log: "answers.log"
    shell: "echo began >> answers.count; echo 'error: no server' | tee {{log}}; exit 1"
"""


@pytest.mark.slow
def test_snakemake_tries_again_what_may_pass_and_reports_what_did_not(tmp_path: Path) -> None:
    need_control()
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(scripts=ROOT / "scripts"))
    command = [CONTROL / "snakemake", "--cores", "2", "--retries", "2", "--keep-going"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 1
    counts = [(tmp_path / f"{name}.count").read_text().count("began") for name in ("split", "answers")]
    assert counts == [1, 3], done.stdout
    report = re.search(r"^2 jobs failed:\n(.*\n)*?\d+ further job.*\n", done.stdout, re.MULTILINE)
    assert report is not None, done.stdout
    assert report[0].splitlines() == [
        "2 jobs failed:", "  generate: answers, 3 attempts", "    error: no server", "    log: answers.log",
        "  write_split: split", "    error: rows.jsonl:3: no text", "    log: split.log",
        "1 further job was not begun.",
    ]  # fmt: skip
