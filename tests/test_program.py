"""What every program shares: --help, flags, one line for bad input, progress, devices."""

from __future__ import annotations

import ast
import logging
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT, hear_ctrl_c
from corpusmith import program
from corpusmith.devices import check_devices
from corpusmith.errors import InputError
from corpusmith.identity import item_id, split_of
from corpusmith.program import Progress, argument_parser, track
from corpusmith.table_files import read_rows, row_count, write_table
from corpusmith.tables import FILTERED, REQUESTS

SCRIPTS = ROOT / "scripts"
PROGRAMS = sorted(path.name for path in SCRIPTS.glob("*.py"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}

ANSWER = {
    "source": "Mina bought 3 books.",
    "target": "미나는 책 삼 권을 샀다.",
    "score": 0.5,
    "sample": 0,
    "candidates": 1,
    "mean_score": 0.5,
    "top_k": [],
}


def call(name: str, *flags: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs a program of scripts/."""
    command = [sys.executable, str(SCRIPTS / name), *map(str, flags)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300, **options)


def script(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Runs a program that is written here."""
    command = [sys.executable, "-c", f"from corpusmith.program import *\n{code}", *flags]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(SCRIPTS)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def flags_in_code(name: str) -> dict[str, object]:
    """The flags that a program adds, with their defaults where these are plain values."""
    tree = ast.parse((SCRIPTS / name).read_text(encoding="utf-8"))
    found: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            flag = ast.literal_eval(node.args[0])
            default = next((word.value for word in node.keywords if word.arg == "default"), None)
            found[flag] = default.value if isinstance(default, ast.Constant) else None
    return found


def flags_in_rules(name: str) -> set[str]:
    """The flags that the rules give a program."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))
    commands = re.findall(rf"python scripts/{re.escape(name)}\"(.*?)\n\n", text + "\n\n", flags=re.DOTALL)
    return {flag for command in commands for flag in re.findall(r"--[a-z][a-z-]*", command)}


def help_of_each_flag(text: str) -> dict[str, str]:
    """What --help says of each flag."""
    options = text[text.index("\noptions:") :]
    parts = re.split(r"\n  (?=-)", options)[1:]
    return {flag: part for part in parts for flag in re.findall(r"--[a-z][a-z-]*", part.split("  ")[0])}


# --- flags ---


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_explains_itself(name: str) -> None:
    helped = call(name, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    docstring = ast.get_docstring(ast.parse((SCRIPTS / name).read_text(encoding="utf-8")))
    assert docstring is not None
    assert docstring.splitlines()[0] in helped.stdout
    explained = help_of_each_flag(helped.stdout)
    flags = flags_in_code(name)
    assert explained
    for flag, default in flags.items():
        if not flag.startswith("-"):
            assert flag in helped.stdout
            continue
        assert len(explained[flag].split()) > 1, f"{flag} is not explained"
        if default is not None and not isinstance(default, bool):
            said = re.search(r"\(default:? (.*?)[,;)]", " ".join(explained[flag].split()).replace(",", ""))
            assert said is not None, f"{flag}: no default in {explained[flag]}"
            assert said[1] == str(default)
    assert flags_in_rules(name) <= set(explained)


# All programs share the parser, as the tests below see to.
@pytest.mark.parametrize("name", ["select_best.py", "generate.py", "upload.py"])
def test_a_wrong_flag_is_one_line_below_the_usage(name: str) -> None:
    wrong = call(name, "--no-such-flag")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith(f"usage: {name}")
    assert re.search(rf"\n{re.escape(name)}: error: .+\n$", wrong.stderr)
    assert "Traceback" not in wrong.stderr


def test_every_program_is_run_through_run() -> None:
    assert len(PROGRAMS) > 15
    for name in PROGRAMS:
        text = (SCRIPTS / name).read_text(encoding="utf-8")
        assert text.endswith('\n\nif __name__ == "__main__":\n    run(main)\n'), name
        assert "argument_parser(__doc__)" in text, name


def test_every_rule_calls_a_program_that_there_is() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    called = set(re.findall(r"running\(\"(\S+?\.py)\"\)", text))
    assert len(called) > 10
    assert called <= set(PROGRAMS)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--number x --name a", "argument --number: invalid int value: 'x'"),
        ("--number 3", "the following arguments are required: --name"),
        ("--number 3 --nam a", "the following arguments are required: --name"),
        ("--number 3 --name a --names b", "unrecognized arguments: --names b"),
        ("--number 3 --name a rest", "unrecognized arguments: rest"),
    ],
)
def test_wrong_flags_end_with_a_message_and_2(capsys: pytest.CaptureFixture[str], flags: str, said: str) -> None:
    parser = argument_parser("Counts things.\n\nin:  things")
    parser.add_argument("--number", type=int, default=1)
    parser.add_argument("--name", required=True)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(shlex.split(flags))
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {said}\n")


def test_help_keeps_the_lines_of_the_docstring() -> None:
    assert (
        "Counts things.\n\nin:  things\nout: a number\n"
        in argument_parser("Counts things.\n\nin:  things\nout: a number\n").format_help()
    )


# --- bad input ---


def test_bad_input_is_one_line_and_1() -> None:
    result = script("def main(): raise InputError('a.jsonl, line 3: is no JSON; correct it')\nrun(main)")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: a.jsonl, line 3: is no JSON; correct it\n"


def test_a_good_run_ends_with_0_and_logs_to_the_error_stream() -> None:
    result = script("run(lambda: log.info('%s rows', 3))")
    assert (result.returncode, result.stdout) == (0, "")
    assert re.fullmatch(r"\d\d:\d\d:\d\d 3 rows\n", result.stderr)


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    result = script("def main(): return {}['missing']\nrun(main)")
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith("KeyError: 'missing'\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("OSError(errno.ENOENT, 'x', 'a.json')", "error: a.json: No such file or directory"),
        ("OSError(errno.EACCES, 'x', 'a.json')", "error: a.json: Permission denied"),
        (
            "OSError(errno.ENOSPC, 'x', 'a.parquet')",
            "error: a.parquet: No space left on device; free some space and build again: what is finished stays",
        ),
        (
            "OSError(errno.EDQUOT, 'x', 'a.parquet')",
            "error: a.parquet: Disk quota exceeded; free some space and build again: what is finished stays",
        ),
        ("OSError(errno.EIO, 'Input/output error')", "error: Input/output error"),
    ],
)
def test_what_the_system_refuses_is_one_line_with_the_file(error: str, line: str) -> None:
    result = script(f"import errno\ndef main(): raise {error}\nrun(main)")
    assert (result.returncode, result.stderr) == (1, line + "\n")


def test_an_os_error_that_the_system_did_not_raise_keeps_its_traceback() -> None:
    result = script("def main(): raise OSError('a library says so')\nrun(main)")
    assert result.stderr.startswith("Traceback")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_program_does_not_end_well(number: signal.Signals) -> None:
    code = "from corpusmith.program import *\nimport time\ndef main():\n  print('here', flush=True)\n  time.sleep(60)\n"
    command = [sys.executable, "-c", f"{code}run(main)"]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(SCRIPTS)}
    # What a shell starts in the background is born deaf to Ctrl-C.
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=hear_ctrl_c
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        assert process.wait(timeout=300) == 128 + number


def flags_for_split(folder: Path, split: str = "train") -> list[str]:
    splits = ["--splits", '{"train": 0.5, "test": 0.5}', "--split", split]
    rows = ["--rows", f"{folder}/kept.parquet", "--recipe", "translation"]
    return [*rows, *splits, "--output", f"{folder}/{split}.parquet"]


def test_a_program_does_its_work(tmp_path: Path) -> None:
    items = [item_id(str(number)) for number in range(50)]
    write_table(tmp_path / "kept.parquet", FILTERED, ({"item_id": item, **ANSWER} for item in items))
    for split in ("train", "test"):
        result = call("write_split.py", *flags_for_split(tmp_path, split))
        assert (result.returncode, result.stdout) == (0, "")
        expected = [item for item in items if split_of(item, {"train": 0.5, "test": 0.5}) == split]
        assert [row["item_id"] for row in read_rows(tmp_path / f"{split}.parquet", FILTERED)] == expected
        assert result.stderr.endswith(f" {len(expected)} rows in split {split}\n")


@pytest.mark.parametrize("content", [None, b"", b"item_id,text\n", b"PAR1 and more and PAR1"])
def test_a_program_says_in_one_line_which_table_is_wrong(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "kept.parquet").write_bytes(content)
    result = call("write_split.py", *flags_for_split(tmp_path))
    assert result.returncode == 1
    assert re.fullmatch(rf"error: {re.escape(str(tmp_path))}/kept\.parquet: .+\n", result.stderr)
    assert not (tmp_path / "train.parquet").exists()


@pytest.mark.parametrize("content", [None, b"", b"requests"])
def test_a_program_that_first_counts_rows_says_so_too(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "requests.parquet").write_bytes(content)
    flags = ["--requests", tmp_path / "requests.parquet", "--model", tmp_path / "receipt.json"]
    outputs = ["--completions", tmp_path / "completions.parquet", "--account", tmp_path / "account.json"]
    result = call("generate.py", *flags, "--engine", "transformers", *outputs)
    assert result.returncode == 1
    assert re.fullmatch(rf"error: {re.escape(str(tmp_path))}/requests\.parquet: .+\n", result.stderr)


@pytest.mark.parametrize("shard", ["3", "0004-of-0004", "3-of-4"])
def test_a_wrong_shard_s_name_is_one_line(tmp_path: Path, shard: str) -> None:
    (tmp_path / "prompt.txt").write_text("{{ text }}", encoding="utf-8")
    flags = ["--sources", tmp_path / "s.parquet", "--prompt", tmp_path / "prompt.txt", "--n", "2", "--max-tokens", "8"]
    languages = ["--source-language", "en", "English", "--target-language", "ko", "Korean"]
    result = call("request_translations.py", *flags, *languages, "--shard", shard, "--requests", tmp_path / "r.parquet")
    assert (result.returncode, result.stderr) == (1, f"error: '{shard}' is no shard's name (such as 0007-of-0064)\n")
    assert not (tmp_path / "r.parquet").exists()


def test_an_empty_shard_is_answered_without_a_model(tmp_path: Path) -> None:
    write_table(tmp_path / "requests.parquet", REQUESTS, [])
    flags = ["--requests", tmp_path / "requests.parquet", "--model", tmp_path / "no-receipt.json"]
    outputs = ["--completions", tmp_path / "completions.parquet", "--account", tmp_path / "account.json"]
    path = str(SCRIPTS / "generate.py")
    words = [path, *map(str, flags), "--engine", "transformers", *map(str, outputs)]
    code = f"import runpy, sys; sys.argv = {words!r}; runpy.run_path({path!r}, run_name='__main__')"
    result = script(f"{code}; print('torch' in sys.modules)")
    assert (result.returncode, result.stdout) == (0, "False\n"), result.stderr
    assert row_count(tmp_path / "completions.parquet") == 0


# --- progress ---


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that goes on only when it is told to."""
    found = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(program, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, logger="corpusmith")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_log_gets_a_line_every_ten_seconds_with_rate_and_time_left(
    clock: SimpleNamespace, lines: Callable[[], list[str]]
) -> None:
    with Progress("generating", 12_000, "samples") as progress:
        for _ in range(30):
            clock.now += 1
            progress.advance(50)
        assert lines() == [
            "generating: 500 of 12,000 samples, 50.0/s, 3 min 50 s left",
            "generating: 1,000 of 12,000 samples, 50.0/s, 3 min 40 s left",
            "generating: 1,500 of 12,000 samples, 50.0/s, 3 min 30 s left",
        ]
    assert lines()[3:] == ["generating: done, 1,500 samples in 30.0 s"]


def test_where_nobody_knows_the_total_there_is_a_rate_and_no_time_left(
    clock: SimpleNamespace, lines: Callable[[], list[str]]
) -> None:
    with Progress("reading", unit="documents") as progress:
        clock.now += 20
        progress.advance(5)
    assert lines() == ["reading: 5 documents, 0.2/s", "reading: done, 5 documents in 20.0 s"]


def test_more_than_was_expected_leaves_no_time(clock: SimpleNamespace, lines: Callable[[], list[str]]) -> None:
    with Progress("reading", 5) as progress:
        clock.now += 10
        progress.advance(8)
    assert lines()[0] == "reading: 8 of 5 rows, 0.8/s, 0 min 00 s left"


def test_nothing_done_yet_is_no_rate_and_no_division_by_zero(
    clock: SimpleNamespace, lines: Callable[[], list[str]]
) -> None:
    with Progress("reading", 5) as progress:
        clock.now += 10
        progress.advance(0)
    with Progress("writing", 0):
        pass
    assert lines() == [
        "reading: 0 of 5 rows, 0.0/s",
        "reading: done, 0 rows in 10.0 s",
        "writing: done, 0 rows in 0.0 s",
    ]


def test_what_fails_is_not_said_to_be_done(clock: SimpleNamespace, lines: Callable[[], list[str]]) -> None:
    def read() -> None:
        with Progress("reading", 5) as progress:
            progress.advance(2)
            clock.now += 3
            raise InputError("line 3")

    with pytest.raises(InputError):
        read()
    assert lines() == ["reading: stopped, 2 rows in 3.0 s"]


@given(items=st.lists(st.integers()))
def test_tracked_items_come_as_they_are(items: list[int]) -> None:
    assert list(track(items, "reading", len(items))) == items
    assert list(track(iter(items), "reading")) == items


def test_tracked_items_are_counted(clock: SimpleNamespace, lines: Callable[[], list[str]]) -> None:
    for _ in track(range(4), "reading", 4, "documents"):
        clock.now += 6
    assert lines() == [
        "reading: 2 of 4 documents, 0.2/s, 0 min 12 s left",
        "reading: 4 of 4 documents, 0.2/s, 0 min 00 s left",
        "reading: done, 4 documents in 24.0 s",
    ]


def read_terminal(terminal: int) -> bytes:
    """What is shown next; nothing where the program has ended."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


@pytest.mark.parametrize("in_ci", [False, True])
def test_a_terminal_gets_a_bar_with_rate_and_time_left(in_ci: bool) -> None:
    code = "import time\nfrom corpusmith.program import *\ndef main():\n"
    code += "  for _ in track(range(20), 'reading', 20): time.sleep(0.05)\nrun(main)"
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "CI"}
    environment |= {"PYTHONPATH": str(SCRIPTS), **({"CI": "true"} if in_ci else {})}
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 100))
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=end) as process:
        os.close(end)
        shown = b"".join(iter(lambda: read_terminal(terminal), b""))
        assert process.wait(timeout=300) == 0
    os.close(terminal)
    text = shown.decode()
    if in_ci:
        assert re.search(r"reading: done, 20 rows in \d+\.\d s", text)
        assert "%|" not in text
    else:
        assert re.search(r"reading: +\d+%\|.*\d+/20 \[00:0\d<00:0\d, +\d+\.\d+ rows/s\]", text)


# --- devices ---


def test_more_gpus_than_there_are_is_an_input_error_that_says_how_many() -> None:
    with pytest.raises(InputError, match=r"--tp 1000 asks for 1000 GPUs, this job sees \d+; .*device: cpu"):
        check_devices("cuda", 1000)


@pytest.mark.parametrize(("threads", "expected"), [(None, 1), ("2", 2)])
def test_a_cpu_works_with_as_many_threads_as_it_is_told(threads: str | None, expected: int) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "OMP_NUM_THREADS"}
    environment |= {"PYTHONPATH": str(SCRIPTS), **({"OMP_NUM_THREADS": threads} if threads else {})}
    code = "from corpusmith.devices import *; check_devices('cpu', 1); import torch; print(torch.get_num_threads())"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(result.stdout) == expected


def test_a_terminated_program_leaves_nothing_partial_behind(tmp_path: Path) -> None:
    code = (
        "import sys, time; from corpusmith.program import run; from corpusmith.files import whole_file\n"
        "def main():\n"
        "    with whole_file(sys.argv[1]) as partial:\n"
        "        partial.write_text('half'); print('writing', flush=True); time.sleep(60)\n"
        "run(main)"
    )
    target = tmp_path / "folder" / "file"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    command = [sys.executable, "-c", code, str(target)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.terminate()
        _, error = process.communicate(timeout=300)
    assert process.returncode == 128 + 15
    assert error.count("\n") == 1
    assert "SIGTERM" in error
    assert list((tmp_path / "folder").iterdir()) == []
