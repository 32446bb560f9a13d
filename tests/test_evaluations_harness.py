"""A harness against a model's server: what it is told, what becomes of its numbers, what is left: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corpusmith.engines.process_guard import marked
from corpusmith.models import write_receipt
from translation_tables import SCRIPTS

# A server of our own: it has a child, as vLLM's has, which may be deaf to SIGTERM, and is up at its third answer.
SERVER = """
import http.server, json, os, subprocess, sys
port, folder, model = int(sys.argv[1]), sys.argv[2], sys.argv[3]
heed = "" if sys.argv[4] == "wait" else "#"
code = heed + "import signal; signal.signal(15, signal.SIG_IGN)\\nimport time; time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
calls = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global calls
        calls += 1
        right = self.headers.get("authorization") == "Bearer " + os.environ["VLLM_API_KEY"]
        self.send_response((200 if calls > 2 else 503) if self.path == "/up" else 200 if right else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"id": model}).encode())
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", port), Handler)
marks = [value for name, value in os.environ.items() if name == "CORPUSMITH_SERVER"]
open(os.path.join(folder, "mark"), "w").write("CORPUSMITH_SERVER=" + marks[0])
server.serve_forever()
"""
# Asks the server as an SDK of OpenAI's would, and writes its numbers.
HARNESS = """
import json, os, sys, time, urllib.request
key = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
asked = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/models", headers=key)
found = {"served": json.load(urllib.request.urlopen(asked))["id"], "model": os.environ["MODEL"]}
if sys.argv[2] == "wait":
    open("waiting", "w").close()
    time.sleep(600)
if sys.argv[2] == "write":
    json.dump({**found, "scores": {"right": 0.75, "error": 0.1}, "n": 12}, open(sys.argv[1], "w"))
sys.exit(3 if sys.argv[2] == "fail" else 0)
"""
METRICS = {"right": {"value": "scores.right", "stderr": "scores.error"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "harness.py").write_text(HARNESS)
    (tmp_path / "weights").mkdir()
    receipt = {
        "name": "base",
        "origin": "local",
        "identity": "sha256:1",
        "files": [],
        "parameters": None,
        "dtype": None,
    }
    write_receipt(tmp_path / "base.json", receipt | {"folder": str(tmp_path / "weights")})
    return tmp_path


def flags(folder: Path, what: str = "write", result: str = "{output}/r.json", **more: str) -> list[str]:
    server = [sys.executable, str(folder / "server.py"), "{port}", str(folder), "{model}", what]
    command = [sys.executable, "harness.py", result, what]
    found = ["--model", str(folder / "base.json"), "--harness", "agents", "--command", json.dumps(command)]
    found += ["--folder", str(folder), "--found", result, "--metrics", json.dumps(METRICS), "--samples", "n"]
    found += ["--server", json.dumps(server), "--health", "/up", "--device", "cpu", "--name", "tested"]
    for name, value in more.items():
        found += [f"--{name.replace('_', '-')}", value]
    return [*found, "--result", str(folder / "evals" / "agents.json")]


def call(*given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "run_harness.py"), *given]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def nothing_is_left(folder: Path) -> bool:
    return marked((folder / "mark").read_text()) == []


def test_the_numbers_of_a_harness_become_a_result_and_nothing_is_left(folder: Path) -> None:
    found = call(*flags(folder))
    assert found.returncode == 0, found.stderr
    result = json.loads((folder / "evals" / "agents.json").read_text())
    assert result["metrics"] == {"right": {"value": 0.75, "stderr": 0.1, "higher_is_better": True}}
    assert (result["task"], result["samples"], result["version"]) == ("agents", 12, None)
    assert result["model"] == {"name": "tested", "identity": "sha256:1", "base": None}
    assert nothing_is_left(folder)
    # The key is nowhere to be read.
    assert "KEY" not in found.stderr + found.stdout + json.dumps(result)


@pytest.mark.parametrize(
    ("what", "result", "more", "said"),
    [
        ("fail", "{output}/r.json", {}, "failed with exit status 3"),
        ("nothing", "old.json", {}, "old.json: the command .* did not write it"),
        (
            "write",
            "{output}/r.json",
            {"samples": "many"},
            "no number at 'many'; at the top it has served, model, scores",
        ),
        ("write", "{output}/r.json", {"health": "/never", "start_seconds": "1"}, "does not answer at .* after 1 s"),
        ("write", "{output}/r.json", {"server": '["false"]'}, "the server ended with exit status 1"),
        ("write", "{output}/r.json", {"server": '["no-such-program"]'}, "no-such-program cannot be started"),
        ("write", "{output}/r.json", {"command": '["no-such-program"]'}, "no-such-program cannot be run in"),
        ("write", "{output}/r.json", {"command": "run.py"}, "--command is no JSON: run.py"),
    ],
)
def test_what_goes_wrong_is_one_line_with_no_result_and_nothing_left(
    folder: Path, what: str, result: str, more: dict[str, str], said: str
) -> None:
    (folder / "old.json").write_text(json.dumps({"scores": {"right": 1.0, "error": 0.0}, "n": 1}))
    found = call(*flags(folder, what, result, **more))
    assert found.returncode == 1
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    with pytest.raises(ValueError, match=said):
        raise ValueError(line)
    assert "Traceback" not in found.stderr
    assert not (folder / "evals").exists()
    assert not (folder / "mark").exists() or nothing_is_left(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_harness_leaves_no_server(folder: Path, number: signal.Signals) -> None:
    command = [sys.executable, str(SCRIPTS / "run_harness.py"), *flags(folder, "wait")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "waiting").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # Server, its child and the command.
    assert len(marked((folder / "mark").read_text())) == 3
    os.kill(process.pid, number)
    assert process.wait(60) != 0
    while not nothing_is_left(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (folder / "evals").exists()


def test_the_server_by_default_is_that_of_vllm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for its module that writes down its words."""
    module = folder / "modules" / "vllm" / "entrypoints" / "openai"
    module.mkdir(parents=True)
    (module / "api_server.py").write_text(
        f"import json, sys; json.dump(sys.argv[1:], open({str(folder / 'words')!r}, 'w'))"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder / "modules"))
    found = call(*flags(folder, server="[]", max_length="512"))
    assert "the server ended with exit status 0" in found.stderr
    words = json.loads((folder / "words").read_text())
    port = words[words.index("--port") + 1]
    assert words == [
        *("--model", str(folder / "weights"), "--host", "127.0.0.1", "--port", port, "--dtype", "bfloat16"),
        *("--max-model-len", "512", "--served-model-name", "tested"),
    ]
