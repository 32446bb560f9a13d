"""A model behind OpenAI's API on this machine, for as long as something asks it.

    with serving(["vllm", "serve", "{model}", "--port", "{port}"], {"model": folder}, "/health", 900) as server:
        server.base_url, server.key         # http://127.0.0.1:34567/v1, and what it asks of those that call

The server and all that it starts end with the block, by SIGTERM and then for good; also where this process is killed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corpusmith.engines.process_guard import end_marked, marked, release, start_guard
from corpusmith.errors import InputError
from corpusmith.program import log

_MARK = "CORPUSMITH_SERVER"
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_TO_END, _SECONDS_TO_FOLLOW = 30.0, 2.0
_SECONDS_TO_ANSWER = 5.0


@dataclass(frozen=True)
class Server:
    """Where a server is, and the key that it wants. mark: entry of the environment that what belongs to it has."""

    base_url: str
    key: str
    mark: str


@contextlib.contextmanager
def serving(command: Sequence[str], values: Mapping[str, str], health: str, start_seconds: float) -> Iterator[Server]:
    """Starts a server and waits until it answers.

    command: its words, with {port} and the names of `values` in braces filled in; health: the path that is asked;
    start_seconds: so long it may take. Raises InputError where it cannot be started, or ends before it answers.
    """
    port = _free_port()
    # Nobody else on this machine can ask it, and no command line shows the key.
    server = Server(f"http://127.0.0.1:{port}/v1", secrets.token_urlsafe(24), f"{_MARK}={secrets.token_hex(16)}")
    words = filled(command, {**values, "port": str(port)})
    environment = dict([*os.environ.items(), _pair(server.mark), ("VLLM_API_KEY", server.key)])
    environment |= {"VLLM_NO_USAGE_STATS": "1", "OPENAI_API_KEY": server.key}
    # Before the server: what is started between the two would not be ended where this process is killed.
    guard = start_guard(server.mark, Path(os.devnull))
    process = None
    try:
        log.info("starting %s", words[0])
        try:
            process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            raise InputError(f"the server {words[0]} cannot be started ({os.strerror(error.errno or 0)})") from error
        _wait(process, f"http://127.0.0.1:{port}{health}", start_seconds)
        yield server
    finally:
        _end(process, server.mark)
        release(guard)


def run_against(server: Server, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Runs a command and waits for it. Raises InputError where it cannot be started, or fails."""
    settings = dict([*os.environ.items(), _pair(server.mark), *environment.items()])
    settings |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_BASE": server.base_url}
    settings |= {"OPENAI_API_KEY": server.key}
    for name in ("NO_PROXY", "no_proxy"):
        settings[name] = ",".join(filter(None, [settings.get(name), "127.0.0.1,localhost"]))
    log.info("running %s", command[0])
    try:
        process = subprocess.Popen(command, env=settings, cwd=folder, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise InputError(
            f"the command {command[0]} cannot be run in {folder} ({os.strerror(error.errno or 0)})"
        ) from error
    # What is left of it where this is interrupted ends with the server, as both have its mark.
    status = process.wait()
    if status != 0:
        raise InputError(f"the command {command[0]} failed with exit status {status}; the lines above say why")


def filled(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """Words of a command with {name} replaced by its value; other braces stay."""
    found = []
    for word in words:
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", value)
        found.append(word)
    return found


def _wait(process: subprocess.Popen[bytes], address: str, seconds: float) -> None:
    start = last = time.monotonic()
    while not _answers(address):
        if process.poll() is not None:
            raise InputError(f"the server ended with exit status {process.returncode}; the lines above say why")
        now = time.monotonic()
        if now - start > seconds:
            raise InputError(f"the server does not answer at {address} after {seconds:g} s; give it more start_seconds")
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            log.info("waiting for the server: %d s of at most %d", now - start, seconds)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    log.info("the server is up after %.1f s", time.monotonic() - start)


def _answers(address: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=_SECONDS_TO_ANSWER) as answer:
            return 200 <= answer.status < 300
    except (urllib.error.URLError, OSError):
        return False


def _end(process: subprocess.Popen[bytes] | None, mark: str) -> None:
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_END)
    # What it started in groups of their own, and what does not want to end.
    for left in marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, signal.SIGTERM)
    end_marked(mark, _SECONDS_TO_FOLLOW)
    if process is not None:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _pair(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value
