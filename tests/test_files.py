"""Files appear whole or not at all: under errors, under kill -9, on a full disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT, hear_ctrl_c
from corpusmith.errors import InputError
from corpusmith.files import read_json, sha256_of, whole_file, whole_folder, write_json, write_text

WITH_LIBRARY = {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), "OMP_NUM_THREADS": "1"}
LINES = 10_000

# Both write versions without end, each of LINES equal lines, in small and slow steps, so that most kills land in the
# middle.
# Every second version of the file is removed again, so that some kills find no earlier one.
ENDLESS_FILE = f"""
import itertools, os, sys, time
from corpusmith.files import whole_file
for version in itertools.count():
    with whole_file(sys.argv[1]) as partial, open(partial, "w") as file:
        for step in range({LINES} // 50):
            file.write(f"{{version}}\\n" * 50)
            file.flush()
            time.sleep(0.0001)
            if version == 0 and step == 1:
                print("in the middle", flush=True)
    if version % 2:
        os.unlink(sys.argv[1])
"""
ENDLESS_FOLDER = f"""
import itertools, sys, time
from corpusmith.files import whole_folder
for version in itertools.count():
    with whole_folder(sys.argv[1]) as folder:
        (folder / "inner").mkdir()
        for name in ("a.txt", "inner/b.txt"):
            with open(folder / name, "w") as file:
                for step in range({LINES} // 100):
                    file.write(f"{{version}}\\n" * 50)
                    file.flush()
                    time.sleep(0.0001)
                    if version == 0 and step == 1:
                        print("in the middle", flush=True)
"""
WRITE_TABLE = """
import os, sys
from corpusmith.program import run
from corpusmith.table_files import write_table
from corpusmith.tables import DROPPED
row = lambda: {"item_id": os.urandom(16).hex(), "stage": "filter", "reason": "numbers"}
run(lambda: write_table(sys.argv[1], DROPPED, (row() for _ in range(30_000))))
"""
WRITE_TEXT = """
import sys
from corpusmith.files import write_text
from corpusmith.program import run
run(lambda: write_text(sys.argv[1], "x" * 2_000_000))
"""
WRITE_FOLDER = """
import sys
from corpusmith.files import whole_folder
from corpusmith.program import run
def main():
    with whole_folder(sys.argv[1]) as folder:
        (folder / "small.txt").write_text("small")
        (folder / "large.txt").write_text("x" * 2_000_000)
run(main)
"""
ROOM = 500_000


def write_and_fail(path: Path, error: BaseException) -> None:
    with whole_file(path) as partial:
        partial.write_text("half", encoding="utf-8")
        raise error


def write_folder_and_fail(path: Path, error: BaseException) -> None:
    with whole_folder(path) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "a.txt").write_text("half", encoding="utf-8")
        raise error


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str, Path], subprocess.Popen[str]]]:
    """Starts a program that writes without end; gives it back when it has begun to write."""
    started: list[subprocess.Popen[str]] = []

    def begin(program: str, path: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            env=WITH_LIBRARY, stdout=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "in the middle\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def assert_one_whole_version(files: list[Path]) -> None:
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == LINES
    assert len(set(lines)) == 1


# --- errors ---


@pytest.mark.parametrize("error", [ValueError("no"), OSError(5, "no"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("write", [write_and_fail, write_folder_and_fail])
def test_an_error_inside_leaves_nothing(tmp_path: Path, write: Callable[..., None], error: BaseException) -> None:
    with pytest.raises(type(error)):
        write(tmp_path / "result", error)
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_leaves_the_file_of_before(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "before")
    with pytest.raises(ValueError, match="no"):
        write_and_fail(tmp_path / "a.txt", ValueError("no"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "before"


def test_an_error_inside_leaves_the_folder_of_before(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "model") as folder:
        (folder / "config.json").write_text("before", encoding="utf-8")
    with pytest.raises(ValueError, match="no"):
        write_folder_and_fail(tmp_path / "model", ValueError("no"))
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["model", "model/config.json"]
    assert (tmp_path / "model" / "config.json").read_text(encoding="utf-8") == "before"


def test_nothing_stands_under_the_name_while_the_block_runs(tmp_path: Path) -> None:
    with whole_file(tmp_path / "file") as partial, whole_folder(tmp_path / "folder") as folder:
        partial.write_text("half", encoding="utf-8")
        (folder / "a.txt").write_text("half", encoding="utf-8")
        assert not (tmp_path / "file").exists()
        assert not (tmp_path / "folder").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_file_is_never_seen_in_part(tmp_path: Path) -> None:
    path, size = tmp_path / "a.txt", 30_000_000
    seen: set[int] = set()
    written = threading.Event()

    def look() -> None:
        while not written.is_set():
            with contextlib.suppress(FileNotFoundError):
                seen.add(path.stat().st_size)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        write_text(path, "x" * size)
        write_text(path, "y" * size)
    finally:
        written.set()
        watcher.join()
    assert seen == {size}


def test_who_reads_a_file_while_it_is_replaced_reads_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "before")
    with open(tmp_path / "a.txt", encoding="utf-8") as file:
        write_text(tmp_path / "a.txt", "behind")
        assert file.read() == "before"
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "behind"


def test_a_new_folder_takes_the_place_of_the_old_one_with_none_of_its_files(tmp_path: Path) -> None:
    for name in ("old.txt", "new.txt"):
        with whole_folder(tmp_path / "model") as folder:
            (folder / name).write_text(name, encoding="utf-8")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new.txt"]


def test_missing_folders_above_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "c")
    with whole_folder(tmp_path / "d" / "e"):
        pass
    assert (tmp_path / "a" / "b" / "c.txt").is_file()
    assert (tmp_path / "d" / "e").is_dir()


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_others_may_read_what_the_umask_lets_them(tmp_path: Path, mask: int, file_mode: int, folder_mode: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "a")
        with whole_folder(tmp_path / "folder") as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / "b.txt").write_text("b", encoding="utf-8")
    finally:
        os.umask(before)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("a.txt", "folder", "folder/inner/b.txt")}
    assert modes == {"a.txt": file_mode, "folder": folder_mode, "folder/inner/b.txt": file_mode}
    assert (tmp_path / "folder" / "inner").stat().st_mode & 0o777 == folder_mode


# --- kills ---


def test_kill_9_leaves_no_file_or_the_whole_file(
    tmp_path: Path, start: Callable[[str, Path], subprocess.Popen[str]]
) -> None:
    draws = random.Random(1)
    path = tmp_path / "result.txt"
    for seconds in [0, *(draws.uniform(0, 0.2) for _ in range(10))]:
        process = start(ENDLESS_FILE, path)
        time.sleep(seconds)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        if path.exists():
            assert_one_whole_version([path])
    leftovers = [found.name for found in tmp_path.iterdir() if found != path]
    # Otherwise no kill came while a file was being written, and this test shows nothing.
    assert leftovers
    assert all(name.startswith(".result.txt.") and name.endswith(".partial") for name in leftovers)


def test_kill_9_leaves_no_folder_or_the_whole_folder(
    tmp_path: Path, start: Callable[[str, Path], subprocess.Popen[str]]
) -> None:
    draws = random.Random(2)
    path = tmp_path / "model"
    for round_, seconds in enumerate([0, *(draws.uniform(0, 0.2) for _ in range(10))]):
        process = start(ENDLESS_FOLDER, path)
        time.sleep(seconds)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        if path.exists():
            assert_one_whole_version([path / "a.txt", path / "inner" / "b.txt"])
        if round_ % 2:
            shutil.rmtree(path, ignore_errors=True)
    leftovers = [found.name for found in tmp_path.iterdir() if found != path]
    assert leftovers
    assert all(name.startswith(".model.") and name.endswith(".partial") for name in leftovers)


def test_a_later_run_is_not_disturbed_by_what_a_kill_left(
    tmp_path: Path, start: Callable[[str, Path], subprocess.Popen[str]]
) -> None:
    path = tmp_path / "result.txt"
    process = start(ENDLESS_FILE, path)
    process.kill()
    process.wait()
    write_text(path, "the next run")
    assert path.read_text(encoding="utf-8") == "the next run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_program_leaves_no_half_file(
    tmp_path: Path, start: Callable[[str, Path], subprocess.Popen[str]], number: signal.Signals
) -> None:
    path = tmp_path / "result.txt"
    process = start(ENDLESS_FILE, path)
    process.send_signal(number)
    assert process.wait(timeout=300) != 0
    if path.exists():
        assert_one_whole_version([path])
    if number == signal.SIGINT:
        assert [found for found in tmp_path.iterdir() if found != path] == []


# --- full disks ---


def largest_file(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("program", [WRITE_TABLE, WRITE_TEXT, WRITE_FOLDER], ids=["table", "text", "folder"])
def test_a_file_that_may_not_grow_is_one_line_and_leaves_nothing(tmp_path: Path, program: str) -> None:
    path = tmp_path / "results" / "a"
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=WITH_LIBRARY,
        preexec_fn=largest_file(ROOM),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (result.returncode, result.stderr) == (1, f"error: {path}: File too large\n")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("program", [WRITE_TABLE, WRITE_TEXT, WRITE_FOLDER], ids=["table", "text", "folder"])
def test_a_full_disk_is_one_line_that_names_the_file_and_leaves_nothing(tmp_path: Path, program: str) -> None:
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    script = 'mount -t tmpfs -o size="$1" tmpfs "$2" || exit 99; "${@:3}"; code=$?; ls -A "$2"; exit $code'
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file systems of one's own here")
    disk = tmp_path / "disk"
    disk.mkdir()
    path = disk / "a"
    command = [sys.executable, "-c", program, str(path)]
    result = subprocess.run(
        [*alone, "bash", "-c", script, "bash", str(ROOM), str(disk), *command],
        env=WITH_LIBRARY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if result.returncode == 99:
        pytest.skip("no tmpfs of one's own here")
    hint = "free some space and build again: what is finished stays"
    assert (result.returncode, result.stderr) == (1, f"error: {path}: No space left on device; {hint}\n")
    assert result.stdout == ""


# --- JSON, checksums ---

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=30)
@given(value=JSON_VALUES)
def test_json_is_read_as_it_was_written(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    first = path.read_bytes()
    assert read_json(path) == value
    write_json(path, read_json(path))
    assert path.read_bytes() == first


def test_json_is_for_people(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"title": "사과", "kept": 3})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "title": "사과",\n  "kept": 3\n}\n'.encode()


def test_what_is_no_json_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"path": Path("a")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b'{"kept": 3', b"\xff{}", b"kept: 3"])
def test_a_broken_json_file_is_an_input_error_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "filter.account.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"filter\.account\.json: is no JSON") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


@given(content=st.binary(max_size=300_000))
@settings(max_examples=15)
def test_checksums_are_those_of_sha256(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_the_checksum_of_abc_is_the_one_in_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
