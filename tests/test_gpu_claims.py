"""GPUs for one job at a time: real processes that claim pretend GPUs, and are killed while they hold them."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from corpusmith import gpu_claims
from corpusmith.engines.process_guard import marked
from corpusmith.errors import InputError
from corpusmith.gpu_claims import claimed_gpus

# Claims GPUs once or more, says what it has got and when, and holds it for a while or until its input ends.
JOB = """
import json, os, sys, time
from pathlib import Path
from corpusmith import gpu_claims, program
order = json.loads(sys.argv[1])
gpu_claims.FOLDER = Path(order["folder"])
gpu_claims._SECONDS_BETWEEN_LINES = order.get("line", 60)
def say(**what): print(json.dumps(what), flush=True)
def main():
    for count, seconds in order["rounds"]:
        with gpu_claims.claimed_gpus(count) as names:
            say(event="enter", names=names, at=time.monotonic(), visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
            exec(order.get("inside", ""))
            sys.stdin.read() if seconds is None else time.sleep(seconds)
            leave = time.monotonic()
        say(event="leave", names=names, at=leave, visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
program.run(main)
"""
UUIDS = ["GPU-aaaa1111-0000", "GPU-aaaa2222-0000", "GPU-bbbb3333-0000"]
NVIDIA_SMI = "#!/bin/sh\necho \"$*\" >> '{asked}'\n{rest}\n"
LISTING = "\n".join(f"echo '{index}, {uuid}'" for index, uuid in enumerate(UUIDS))

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the claims of a test lie."""
    return tmp_path / "claims"


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts a job with GPUs 0 to 3, or as the environment says."""
    started: list[subprocess.Popen[str]] = []

    def begin(
        *rounds: tuple[int, float | None], environment: dict[str, str | None] | None = None, **order: Any
    ) -> subprocess.Popen[str]:
        changed = {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_JOB_ID": None, "PYTHONPATH": str(ROOT / "scripts")}
        settings = {**os.environ, **changed, **(environment or {})}
        process = subprocess.Popen(
            [sys.executable, "-c", JOB, json.dumps({"folder": str(folder), "rounds": rounds, **order})],
            env={name: value for name, value in settings.items() if value is not None},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This process claims in the folder of the test, without a scheduler."""
    monkeypatch.setattr(gpu_claims, "FOLDER", folder)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return monkeypatch


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts an nvidia-smi onto the PATH that does what it is told; gives the file in which it writes its arguments."""

    def put(rest: str) -> Path:
        program, asked = tmp_path / "bin" / "nvidia-smi", tmp_path / "asked"
        program.parent.mkdir(exist_ok=True)
        program.write_text(NVIDIA_SMI.format(asked=asked, rest=rest))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        return asked

    return put


def heard(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a job says next."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return json.loads(line)


def log_line(process: subprocess.Popen[str]) -> str:
    """The next line of a job's log, without the time."""
    assert process.stderr is not None
    return process.stderr.readline().rstrip("\n").partition(" ")[2]


# --- between jobs ---


def test_many_jobs_never_share_a_gpu_and_all_get_theirs(start: Start) -> None:
    draws = random.Random(1)
    orders = [[(draws.randint(1, 2), draws.uniform(0.1, 0.4)) for _ in range(3)] for _ in range(8)]
    jobs = [start(*rounds) for rounds in orders]
    spans: list[tuple[float, float, str]] = []
    for job, rounds in zip(jobs, orders, strict=True):
        output, error = job.communicate(timeout=300)
        assert job.returncode == 0, error
        said = [json.loads(line) for line in output.splitlines()]
        assert [one["event"] for one in said] == ["enter", "leave"] * 3
        for entered, left, (count, _) in zip(said[::2], said[1::2], rounds, strict=True):
            assert len(set(entered["names"])) == count
            assert set(entered["names"]) <= set("0123")
            assert entered["visible"] == ",".join(entered["names"])
            assert left["visible"] == "0,1,2,3"
            spans += [(entered["at"], left["at"], name) for name in entered["names"]]
    assert len(spans) == sum(count for rounds in orders for count, _ in rounds)
    overlapping = [(one, two) for one in spans for two in spans if one is not two and one[0] <= two[0] < one[1]]
    assert all(one[2] != two[2] for one, two in overlapping)
    # Otherwise one job at a time would do.
    assert {name for _, _, name in spans} == set("0123")
    assert len({(one, other[2]) for one, other in overlapping}) > len(spans) / 2


def test_a_job_waits_without_holding_any_and_a_dead_holder_is_none(start: Start) -> None:
    inside = """
import subprocess
quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
say(child=subprocess.Popen(["sleep", "300"], close_fds=False, **quiet).pid)
"""
    three = {"CUDA_VISIBLE_DEVICES": "0,1,2"}
    holder = start((2, None), environment=three, inside=inside)
    assert heard(holder)["names"] == ["0", "1"]
    child = heard(holder)["child"]
    waiting = start((2, 0), environment=three, line=1.5)
    expected = f"waiting for 2 GPUs of 3: 0 is held by {holder.pid} -c; 1 is held by {holder.pid} -c"
    begin = time.monotonic()
    assert log_line(waiting) == expected
    for _ in range(3):
        # What the waiting job could have, and does not hold.
        other = start((1, 0), environment=three)
        assert heard(other)["names"] == ["2"]
        other.communicate()
    assert log_line(waiting) == expected
    assert time.monotonic() - begin >= 1.4
    holder.kill()
    begin = time.monotonic()
    assert heard(waiting)["names"] == ["0", "1"]
    assert time.monotonic() - begin < 30
    # It still lives, with every file of the dead that is inherited.
    os.kill(child, signal.SIGKILL)
    assert "got GPU 0, 1 after " in waiting.communicate()[1]


def test_jobs_that_together_want_more_than_there_is_do_not_wait_for_each_other(start: Start) -> None:
    jobs = [start(*[(2, 0.01)] * 6, environment={"CUDA_VISIBLE_DEVICES": order}) for order in ("0,1,2", "2,1,0")]
    for job in jobs:
        _, error = job.communicate(timeout=300)
        assert job.returncode == 0, error


def test_the_guard_of_a_dead_job_keeps_its_gpu_until_nobody_uses_it(start: Start, tmp_path: Path) -> None:
    entry = f"CORPUSMITH_TEST={tmp_path}"
    (tmp_path / "log").mkdir()
    inside = f"""
import subprocess
from corpusmith.engines.process_guard import start_guard
guard = start_guard({entry!r}, Path({str(tmp_path / "log")!r}))
name, _, value = {entry!r}.partition("=")
worker = subprocess.Popen(["sleep", "300"], env=os.environ | {{name: value}})
say(guard=guard.pid)
"""
    one = {"CUDA_VISIBLE_DEVICES": "7"}
    holder = start((1, None), environment=one, inside=inside)
    heard(holder)
    guard = heard(holder)["guard"]
    # A guard that has no time to do its work as yet.
    os.kill(guard, signal.SIGSTOP)
    try:
        holder.kill()
        holder.wait()
        look = f"from corpusmith.engines.process_guard import marked; say(left=marked({entry!r}))"
        waiting = start((1, 0), environment=one, inside=look)
        assert log_line(waiting) == f"waiting for 1 GPUs of 1: 7 is held by {holder.pid} -c"
        time.sleep(1.5)
        assert len(marked(entry)) == 1
        assert waiting.poll() is None
    finally:
        os.kill(guard, signal.SIGCONT)
    assert heard(waiting)["names"] == ["7"]
    assert heard(waiting)["left"] == []
    assert not (tmp_path / "log").exists()


def test_a_guard_that_is_let_go_keeps_nothing(start: Start, tmp_path: Path) -> None:
    inside = f"""
from corpusmith.engines.process_guard import release, start_guard
release(start_guard("CORPUSMITH_TEST={tmp_path}", Path({str(tmp_path / "log")!r})))
"""
    job = start((4, 0), (4, 0), inside=inside)
    _, error = job.communicate(timeout=300)
    assert (job.returncode, error) == (0, "")


# --- which GPUs ---


def test_where_a_scheduler_binds_gpus_nothing_is_claimed(start: Start, folder: Path) -> None:
    bound: dict[str, str | None] = {"SLURM_JOB_ID": "17", "CUDA_VISIBLE_DEVICES": "0,1"}
    jobs = [start((2, None), environment=bound) for _ in range(2)]
    for job in jobs:
        said = heard(job)
        assert (said["names"], said["visible"]) == (["0", "1"], "0,1")
    assert not folder.exists()
    few = start((3, 0), environment=bound)
    assert "--tp 3 asks for 3 GPUs, this job sees 2;" in few.communicate(timeout=300)[1]
    assert few.returncode == 1


def test_jobs_that_share_an_allocation_share_no_gpu(start: Start) -> None:
    allocation: dict[str, str | None] = {"SLURM_JOB_ID": "17", "CUDA_VISIBLE_DEVICES": "0,1"}
    jobs = [start((1, None), environment=allocation) for _ in range(2)]
    assert sorted(heard(job)["visible"] for job in jobs) == ["0", "1"]


def test_a_scheduler_that_binds_none_leaves_them_to_claims(
    start: Start, here: pytest.MonkeyPatch, nvidia_smi: Callable[[str], Path]
) -> None:
    asked = nvidia_smi(LISTING)
    unbound = {"SLURM_JOB_ID": "17", "CUDA_VISIBLE_DEVICES": None}
    assert heard(start((2, None), environment=unbound))["names"] == UUIDS[:2]
    said = heard(start((1, None), environment=unbound | {"SLURM_JOB_ID": "18"}))
    assert (said["names"], said["visible"]) == ([UUIDS[2]], UUIDS[2])
    assert asked.read_text() == "--query-gpu=index,uuid --format=csv,noheader\n" * 2


def test_too_few_is_an_error_that_names_the_numbers_whoever_holds_them(here: pytest.MonkeyPatch) -> None:
    for visible, found in {"0,1": 2, "0,0": 1, "0,-1,1": 1, "": 0, "NoDevFiles": 0}.items():
        here.setenv("CUDA_VISIBLE_DEVICES", visible)
        message = rf"^--tp 3 asks for 3 GPUs, this job sees {found}; .*--resources gpu=3 .*device: cpu$"
        with pytest.raises(InputError, match=message), claimed_gpus(3):
            pass


def test_no_gpus_are_nothing_to_do(here: pytest.MonkeyPatch, folder: Path) -> None:
    here.delenv("CUDA_VISIBLE_DEVICES")
    with claimed_gpus(0) as names:
        assert names == []
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not folder.exists()


def test_an_index_and_its_uuid_are_the_same_claim(
    start: Start, here: pytest.MonkeyPatch, nvidia_smi: Callable[[str], Path]
) -> None:
    nvidia_smi(f"echo 'WARNING: infoROM is corrupted'\n{LISTING}")
    # As CUDA reads them: what is not there ends the list, and so does a beginning that fits two.
    for visible, expected in {
        "1": [UUIDS[1]],
        "2, 0,GPU-bbbb": [UUIDS[2], UUIDS[0]],
        "GPU-aaaa2,MIG-1": [UUIDS[1], "MIG-1"],
        "1,3,0": [UUIDS[1]],
        "1,GPU-aaaa,0": [UUIDS[1]],
    }.items():
        here.setenv("CUDA_VISIBLE_DEVICES", visible)
        with claimed_gpus(len(expected)) as names:
            assert names == expected
            assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(expected)
        with pytest.raises(InputError, match=f"sees {len(expected)};"), claimed_gpus(len(expected) + 1):
            pass
    holder = start((1, None), environment={"CUDA_VISIBLE_DEVICES": "1"})
    heard(holder)
    waiting = start((1, 0), environment={"CUDA_VISIBLE_DEVICES": UUIDS[1]})
    assert log_line(waiting) == f"waiting for 1 GPUs of 1: {UUIDS[1]} is held by {holder.pid} -c"
    here.delenv("CUDA_VISIBLE_DEVICES")
    with claimed_gpus(2) as names:
        assert names == [UUIDS[0], UUIDS[2]]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    holder.kill()
    assert heard(waiting)["names"] == [UUIDS[1]]


def test_nvidia_smi_that_fails_or_lists_none_is_an_error(
    here: pytest.MonkeyPatch, nvidia_smi: Callable[[str], Path]
) -> None:
    nvidia_smi("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    with pytest.raises(InputError, match=r"fails.*: Failed to initialize NVML"), claimed_gpus(1):
        pass
    nvidia_smi("echo 'No devices were found'")
    with pytest.raises(InputError, match="this job sees 0;"), claimed_gpus(1):
        pass
    nvidia_smi("exec sleep 20")
    here.setattr(gpu_claims, "_SECONDS_TO_LIST", 0.2)
    with pytest.raises(InputError, match=r"no answer in 0\.2 s"), claimed_gpus(1):
        pass


# --- in this process ---


def test_after_an_error_all_is_as_before(here: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        with claimed_gpus(2) as names:
            assert names == ["0", "1"]
            assert len(gpu_claims.held_descriptors()) == 2
            raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            fail()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
        assert gpu_claims.held_descriptors() == ()


def test_who_claims_twice_does_not_wait_for_itself(here: pytest.MonkeyPatch) -> None:
    with claimed_gpus(1), pytest.raises(RuntimeError, match="claimed GPUs already"), claimed_gpus(1):
        pass


# --- the folder ---


def test_other_users_can_claim_whatever_the_umask(here: pytest.MonkeyPatch, folder: Path) -> None:
    before = os.umask(0o077)
    try:
        with claimed_gpus(2):
            pass
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}
    assert modes == {"claims": 0o1777, "0.lock": 0o666, "1.lock": 0o666}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
def test_two_users_claim_in_turn(start: Start, here: pytest.MonkeyPatch) -> None:
    def as_nobody() -> int:
        """Claims a GPU as another user; its status tells how that went: 0 where one was free, 1 where none was."""
        child = os.fork()
        if child == 0:
            status = 2
            try:
                os.setgid(65534)
                os.setuid(65534)
                # Where it would wait, it is told at once, however slow the machine is.
                here.setattr(time, "sleep", lambda seconds: os._exit(1))
                signal.alarm(120)
                with claimed_gpus(1):
                    status = 0
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    # pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "claims"
        Path(parent).chmod(0o755)
        here.setattr(gpu_claims, "FOLDER", folder)
        with claimed_gpus(1):
            assert (folder / "0.lock").stat().st_uid == 0
        assert as_nobody() == 0
        here.setenv("CUDA_VISIBLE_DEVICES", "5")
        assert as_nobody() == 0
        assert (folder / "5.lock").stat().st_uid == 65534
        holder = start((1, None), environment={"CUDA_VISIBLE_DEVICES": "5"}, folder=str(folder))
        heard(holder)
        assert as_nobody() == 1
        holder.kill()
        holder.wait()
        assert as_nobody() == 0


def test_whatever_stands_in_the_file_of_a_busy_gpu_is_one_line(start: Start, folder: Path) -> None:
    one = {"CUDA_VISIBLE_DEVICES": "0"}
    holder = start((1, None), environment=one)
    heard(holder)
    for content, said in {
        b"\xff\x1b[31m 12\n\n generate\0py": "\ufffd [31m 12 generate py",
        b"x" * 5000: "x" * 100,
        b"": "somebody",
    }.items():
        (folder / "0.lock").write_bytes(content)
        waiting = start((1, 0), environment=one)
        assert log_line(waiting) == f"waiting for 1 GPUs of 1: 0 is held by {said}"
        waiting.kill()
    holder.kill()
    (folder / "0.lock").write_bytes(b"garbage" * 1000)
    after = start((1, 0), environment=one)
    heard(after)
    assert (folder / "0.lock").read_text() == f"{after.pid} -c\n"


def test_a_file_that_was_cleared_away_while_it_was_being_locked_is_no_claim(
    here: pytest.MonkeyPatch, folder: Path
) -> None:
    real, cleared = gpu_claims._open, []

    def clear_away_once(path: Path) -> int:
        descriptor = real(path)
        if not cleared:
            cleared.append(path)
            path.unlink()
        return descriptor

    here.setattr(gpu_claims, "_open", clear_away_once)
    with claimed_gpus(1):
        assert cleared == [folder / "0.lock"]
        assert os.path.sameopenfile(gpu_claims.held_descriptors()[0], os.open(folder / "0.lock", os.O_RDONLY))


def test_a_folder_that_not_all_can_use_is_an_error(here: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    elsewhere.chmod(0o1777)
    folder.symlink_to(elsewhere)
    with pytest.raises(InputError, match="claims is no folder"), claimed_gpus(1):
        pass
    assert list(elsewhere.iterdir()) == []
    folder.unlink()
    folder.mkdir(mode=0o755)
    with pytest.raises(InputError, match=f"chmod 1777 {folder}"), claimed_gpus(1):
        pass
    here.setattr(gpu_claims, "FOLDER", tmp_path / "no" / "such")
    with pytest.raises(InputError, match="such cannot be made"), claimed_gpus(1):
        pass


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "hard link", "pipe", "folder"])
def test_a_file_that_is_somebody_elses_is_not_written(
    here: pytest.MonkeyPatch, folder: Path, tmp_path: Path, kind: str
) -> None:
    with claimed_gpus(1):
        pass
    precious, path = tmp_path / "precious", folder / "0.lock"
    path.unlink()
    precious.write_text("mine")
    if kind == "symlink":
        path.symlink_to(precious)
    elif kind == "dangling symlink":
        path.symlink_to(tmp_path / "nothing")
    elif kind == "hard link":
        path.hardlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(InputError, match=r"0\.lock .*no GPU can be claimed"), claimed_gpus(1):
        pass
    assert precious.read_text() == "mine"
    assert not (tmp_path / "nothing").exists()
