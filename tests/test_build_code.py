"""A running build works from a whole copy of code, config and prompts, whatever is edited or killed meanwhile."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from checkout import Checkout, bytes_of
from conftest import ROOT
from corpusmith.build_code import BuildCode
from corpusmith.errors import InputError

FILES = {
    "Snakefile": "rule all: pass\n",
    "rules/generate.smk": "rule generate: pass\n",
    "scripts/generate.py": "print('generated')\n",
    "scripts/corpusmith/__init__.py": "",
    "scripts/corpusmith/__pycache__/layout.cpython-311.pyc": "compiled",
    "scripts/__pycache__/generate.cpython-311.pyc": "compiled",
    "envs/data.yaml": "name: data\n",
    "envs/bin/conda": "#!/bin/sh\n",
    "envs/bin/create_environment.py": "import sys\n",
    "config/schemas/config.schema.yaml": "type: object\n",
    "config/config.yaml": "results: results\n",
    "config/prompts/translate.txt": "번역하세요: {text}\n",
    "config/card.md": "# A data set\n",
    "docs/usage.md": "Use it.\n",
    "tests/test_nothing.py": "",
}
COPIED = {
    "Snakefile", "rules/generate.smk", "scripts/generate.py", "scripts/corpusmith/__init__.py", "envs/data.yaml",
    "envs/bin/conda", "envs/bin/create_environment.py", "config/schemas/config.schema.yaml",
}  # fmt: skip
EDITED = ["config/prompts/translate.txt", "config/card.md"]
CONFIG = {"results": "results", "datasets": {"korean": {"shards": 16}}}
DAY = 86400.0

# Freezes the checkout that it is started in, with the config that a line says, and says where its copy is. It ends
# itself where it is told to: before the nth time that it does something with a path in which a word is.
FREEZER = """
import json, os, signal, sys
from pathlib import Path
from corpusmith.build_code import BuildCode

event, word, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
files = sys.argv[4:]

def watch(name, arguments):
    global count
    if name == event and word in str(arguments[0]) and (name != "open" or "w" in str(arguments[1])):
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
print("ready", flush=True)
for line in sys.stdin:
    print(BuildCode(Path.cwd(), files).freeze(json.loads(line), Path("copies")), flush=True)
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout, which is the working folder, as it is in a build."""
    return make_checkout(tmp_path / "checkout", monkeypatch)


def make_checkout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        write(folder / name, text)
    (folder / "envs/bin/conda").chmod(0o755)
    monkeypatch.chdir(folder)
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def frozen(checkout: Path, config: Any = CONFIG, folder: str = "copies") -> Path:
    return BuildCode(checkout, EDITED).freeze(config, Path(folder))


def start_freezer(event: str = "none", word: str = "", count: int = 0) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", FREEZER, event, word, str(count), *EDITED],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def freeze_and_be_killed(event: str, word: str, count: int, config: Any = CONFIG) -> None:
    process = start_freezer(event, word, count)
    said, _ = process.communicate(json.dumps(config), timeout=300)
    assert (process.returncode, said) == (-signal.SIGKILL, "")


def leave_alone(folder: Path, days: float) -> None:
    """The folder as it is when nobody has used it for some days."""
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (time.time() - days * DAY,) * 2)


def test_every_file_of_the_real_checkout_that_decides_what_is_built_is_in_the_copy_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Checkout(tmp_path / "checkout", tmp_path).folder
    monkeypatch.chdir(folder)
    prompts = sorted(str(path.relative_to(folder)) for path in folder.glob("config/prompts/*"))
    assert prompts
    code = BuildCode(folder, prompts)
    copy = code.freeze({}, Path(".snakemake/copies"))
    parts = ("Snakefile", "rules/", "scripts/", "envs/", "config/schemas/")
    here = {name: digest for name, digest in bytes_of(folder).items() if name.startswith(parts)}
    there = bytes_of(copy)
    assert there.pop("config.json")
    named = {name: there.pop(name) for name in list(there) if name.startswith("files/")}
    assert there == here
    # Executable is what was: the engines start their processes by such a file, too.
    executable = {name for name in here if os.access(folder / name, os.X_OK)}
    assert "scripts/corpusmith/engines/logged_python.sh" in executable
    assert {name for name in there if os.access(copy / name, os.X_OK)} == executable
    assert sorted(named.values()) == sorted(bytes_of(folder)[name] for name in prompts)
    # A program runs there, by the library that is there.
    shutil.rmtree(folder / "scripts")
    done = subprocess.run([sys.executable, code.scripts / "write_split.py", "--help"], capture_output=True, text=True)
    assert (done.returncode, "--splits" in done.stdout) == (0, True)


def test_a_copy_has_the_code_the_named_files_the_config_and_nothing_else(checkout: Path) -> None:
    copy = frozen(checkout)
    assert copy.parent == checkout / "copies"
    found = set(bytes_of(copy))
    named = {name for name in found if name.startswith("files/")}
    assert found - named == COPIED | {"config.json"}
    for name in COPIED:
        assert (copy / name).read_text() == FILES[name]
    assert {(copy / name).read_text() for name in named} == {FILES[name] for name in EDITED}
    assert sorted(path.name for path in copy.parent.iterdir()) == [copy.name]


def test_programs_of_environments_stay_executable_and_others_do_not_become_so(checkout: Path) -> None:
    copy = frozen(checkout)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o111 for path in (copy / "envs/bin").iterdir()}
    assert modes == {"conda": 0o111, "create_environment.py": 0}


def test_two_prompts_of_the_same_name_are_kept_apart(checkout: Path) -> None:
    names = ["config/korean/prompt.txt", "config/czech/prompt.txt"]
    for name in names:
        write(checkout / name, name)
    code = BuildCode(checkout, names)
    code.freeze(CONFIG, Path("copies"))
    assert [Path(code.file(name)).read_text() for name in names] == names


def test_the_same_code_and_config_have_one_copy(checkout: Path) -> None:
    before = frozen(checkout)
    # What decides nothing: notes, tests, compiled programs, the file that the config came from, dates.
    for name in ("docs/usage.md", "tests/test_nothing.py", "config/config.yaml", "scripts/__pycache__/new.pyc"):
        write(checkout / name, "edited")
    os.utime(checkout / "Snakefile", (1, 1))
    assert frozen(checkout) == before
    assert frozen(checkout, json.loads(json.dumps(CONFIG))) == before


@pytest.mark.parametrize("name", [*sorted(COPIED), *EDITED])
def test_a_byte_changed_in_any_file_makes_another_copy_and_leaves_the_first(checkout: Path, name: str) -> None:
    before = frozen(checkout)
    contents = bytes_of(before)
    (checkout / name).write_bytes((checkout / name).read_bytes() + b"#")
    after = frozen(checkout)
    assert after != before
    assert bytes_of(before) == contents
    different = {path for path, digest in bytes_of(after).items() if contents[path] != digest}
    assert [(after / path).read_text() for path in different] == [FILES[name] + "#"]


def test_another_config_or_place_of_a_file_makes_another_copy(checkout: Path) -> None:
    copies = [frozen(checkout), frozen(checkout, CONFIG | {"results": "result"})]
    (checkout / "rules/generate.smk").rename(checkout / "rules/generation.smk")
    copies.append(frozen(checkout))
    (checkout / "config/card.md").unlink()
    copies.append(frozen(checkout))
    assert len(set(copies)) == 4


@pytest.mark.parametrize(
    "edit",
    [
        lambda: write(Path("scripts/generate.py"), "print('other')\n"),
        lambda: write(Path("config/prompts/translate.txt"), "Translate: {text}\n"),
        lambda: write(Path("scripts/corpusmith/new.py"), ""),
        lambda: Path("rules/generate.smk").unlink(),
        lambda: Path("config/card.md").unlink(),
    ],
)
def test_a_build_whose_code_or_prompts_are_edited_while_it_is_planned_is_refused(
    checkout: Path, edit: Callable[[], None]
) -> None:
    code = BuildCode(checkout, EDITED)
    code.remember()
    edit()
    with pytest.raises(InputError):
        code.freeze(CONFIG, Path("copies"))
    assert not Path("copies").exists()


def test_edits_that_decide_nothing_or_were_taken_back_do_not_stop_a_build(checkout: Path) -> None:
    code = BuildCode(checkout, EDITED)
    code.remember()
    for text in ("print('other')\n", FILES["scripts/generate.py"]):
        write(checkout / "scripts/generate.py", text)
    write(checkout / "docs/usage.md", "Use it well.\n")
    assert code.freeze(CONFIG, Path("copies")) == frozen(checkout)


def test_a_running_build_sees_its_copy_and_not_what_is_edited(checkout: Path) -> None:
    code = BuildCode(checkout, EDITED)
    prompt = EDITED[0]
    assert (code.program("generate.py"), code.file(prompt)) == ("scripts/generate.py", prompt)
    planned = code.digest([prompt])
    copy = code.freeze(CONFIG, Path("copies"))
    for name in [*COPIED, *EDITED]:
        write(checkout / name, "edited")
    assert code.scripts == copy / "scripts"
    assert Path(code.program("generate.py")).read_text() == FILES["scripts/generate.py"]
    assert Path(code.file(prompt)).read_text() == FILES[prompt]
    assert code.digest([prompt]) == planned
    # Jobs are started from the copy's Snakefile; they see the same.
    job = BuildCode(copy, EDITED)
    assert (job.scripts, job.program("generate.py"), job.file(prompt), job.digest([prompt])) == (
        code.scripts, code.program("generate.py"), code.file(prompt), planned,
    )  # fmt: skip
    # The next build sees the edits.
    assert BuildCode(checkout, EDITED).digest([prompt]) != planned


def test_a_file_that_nobody_named_is_read_where_it_is(checkout: Path) -> None:
    code = BuildCode(checkout, EDITED)
    code.freeze(CONFIG, Path("copies"))
    assert code.file("docs/usage.md") == "docs/usage.md"


def test_a_digest_is_of_texts_alone(checkout: Path) -> None:
    write(checkout / "elsewhere/other-name.txt", FILES[EDITED[0]])
    write(checkout / "empty.txt", "")
    code = BuildCode(checkout, EDITED)
    digest = code.digest(EDITED[:1])
    assert len(digest) == 16
    assert set(digest) <= set("0123456789abcdef")
    assert code.digest(["elsewhere/other-name.txt"]) == digest
    os.utime(EDITED[0], (1, 1))
    assert code.digest(EDITED[:1]) == digest
    others = [[], ["missing.txt"], ["empty.txt"], EDITED[1:], EDITED, EDITED[::-1], ["empty.txt", "missing.txt"]]
    assert len({digest, *map(code.digest, others)}) == 8
    assert code.digest(["missing.txt"]) == code.digest(["also-missing.txt"])


def test_paths_with_blanks_are_one_word_for_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_checkout(tmp_path / "my checkout's $HOME & more", monkeypatch)
    monkeypatch.chdir(tmp_path)
    code = BuildCode(folder)
    for frozen_too in (False, True):
        if frozen_too:
            code.freeze(CONFIG, folder / "copies")
        word = code.program("generate.py")
        assert shlex.split(word) == [str((code.scripts / "generate.py").relative_to(tmp_path))]
        done = subprocess.run(f"{shlex.quote(sys.executable)} {word}", shell=True, capture_output=True, text=True)
        assert done.stdout == "generated\n"


def test_a_config_with_dates_and_any_script_is_kept_as_json(checkout: Path) -> None:
    config = yaml.safe_load(
        "since: 2024-02-29\nat: 2024-02-29 10:30:00\n한국어: – 'quoted' 😀\nrate: 1.5e-3\nnone: null\nsure: [yes]\n"
    )
    assert config["since"] == datetime.date(2024, 2, 29)
    copy = frozen(checkout, config)
    assert json.loads((copy / "config.json").read_bytes()) == {
        "since": "2024-02-29", "at": "2024-02-29 10:30:00", "한국어": "– 'quoted' 😀", "rate": 0.0015, "none": None,
        "sure": [True],
    }  # fmt: skip
    assert frozen(checkout, config | {"since": datetime.date(2024, 3, 1)}) != copy


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(config=st.dictionaries(st.text(), VALUES, max_size=4))
def test_any_config_is_read_back_as_it_was(config: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = BuildCode(Path(folder)).freeze(config, Path(folder, "copies"))
        assert json.loads((copy / "config.json").read_bytes()) == config


def test_builds_that_start_at_once_share_one_whole_copy(checkout: Path) -> None:
    processes = [start_freezer() for _ in range(4)]
    whole = bytes_of(frozen(checkout, folder="alone"))
    del whole["config.json"]
    for turn in range(25):
        # All of them tidy up, too.
        for name in ("old", "older", ".oldest.4711.partial"):
            shutil.copytree(checkout / "scripts", checkout / "copies" / name)
            leave_alone(checkout / "copies" / name, 31)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f'{{"turn": {turn}}}\n')
            process.stdin.flush()
        said = {process.stdout.readline() for process in processes if process.stdout is not None}
        assert len(said) == 1
        copy = Path(said.pop().strip())
        assert json.loads((copy / "config.json").read_bytes()) == {"turn": turn}
        found = bytes_of(copy)
        assert {name: digest for name, digest in found.items() if name != "config.json"} == whole
    assert len({path.name for path in (checkout / "copies").iterdir()}) == 25
    for process in processes:
        process.communicate(timeout=300)
        assert process.returncode == 0


@pytest.mark.parametrize(("event", "count"), [("open", 1), ("open", 6), ("open", 11), ("os.rename", 1)])
def test_a_build_killed_while_it_copies_leaves_no_half_copy(checkout: Path, event: str, count: int) -> None:
    whole = frozen(checkout, folder="alone")
    freeze_and_be_killed(event, ".partial", count)
    (left,) = (checkout / "copies").iterdir()
    assert left.name.startswith(f".{whole.name}.")
    assert left.name.endswith(".partial")
    copy = frozen(checkout)
    assert copy.name == whole.name
    assert bytes_of(copy) == bytes_of(whole)
    # What is left of it may be another build's, at work: it goes when it is old.
    assert left.exists()
    leave_alone(left, 31)
    frozen(checkout)
    assert [path.name for path in (checkout / "copies").iterdir()] == [whole.name]


@pytest.mark.parametrize("count", [1, 4])
def test_a_build_killed_while_it_removes_an_old_copy_leaves_no_half_of_it(checkout: Path, count: int) -> None:
    old = frozen(checkout)
    contents = bytes_of(old)
    leave_alone(old, 31)
    freeze_and_be_killed("os.remove", "", count, {"other": "config"})
    assert len(bytes_of(checkout / "copies")) == 2 * len(contents) - (count - 1)
    assert bytes_of(frozen(checkout)) == contents


def test_copies_that_no_build_used_for_a_month_are_removed(checkout: Path) -> None:
    names = {days: frozen(checkout, {"days": days}).name for days in (0, 29, 31, 400)}
    copies = checkout / "copies"
    for name in (".0123456789abcdef.4711.partial", ".0123456789abcdef.4712.partial"):
        shutil.copytree(copies / names[0], copies / name)
    leave_alone(copies / ".0123456789abcdef.4711.partial", 31)
    for days, name in names.items():
        leave_alone(copies / name, days)
    current = frozen(checkout)
    left = {current.name, names[0], names[29], ".0123456789abcdef.4712.partial"}
    assert {path.name for path in copies.iterdir()} == left
    # A build that starts uses its copy, however old it is, and that counts.
    leave_alone(current, 31)
    contents = bytes_of(current)
    assert frozen(checkout) == current
    frozen(checkout, {"another": "build"})
    assert bytes_of(current) == contents
