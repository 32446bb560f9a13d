"""A server that speaks OpenAI's API, and answers as badly as a test asks it to, over real sockets.

    with FaultServer(faults={"500": 1, "half": 1}, fault_share=0.5) as server:
        engine = OpenAIEngine(base_url=server.base_url, model="tiny")

What it does with a call depends on its seed, the call's body and how often that body came, and on nothing else: the
order of calls does not matter, and after `most_faults` of them every call is answered well. It writes down what it did.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Self

import httpx2

from corpusmith.identity import canonical, fraction

Body = Mapping[str, Any]
PASSING_STATUSES = ("408", "409", "429", "500", "502", "503")
# Statuses apart: how a call can go wrong without one.
BROKEN = ("garbage", "broken json", "no choices", "half", "nothing", "reset")
ENDLESS = ("hang", "drip")
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


def echo(body: Body, sample: int) -> str:
    """The prompt and the sample's seed: as an engine of a local model answers, a child i of a call has seed + i."""
    seed = body.get("seed")
    return prompt_of(body) + ("" if seed is None else f" {seed + sample}")


def prompt_of(body: Body) -> str:
    """The last message, or the raw prompt, as text."""
    if "messages" in body:
        return body["messages"][-1]["content"]
    prompt = body["prompt"]
    return prompt if isinstance(prompt, str) else " ".join(map(str, prompt))


@dataclass
class Call:
    """A call as it came. done: when its answer was on the way, None while there is none."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float
    fault: str | None = None
    done: float | None = None


@dataclass
class FaultServer:
    """The server, on a free port of this machine, while the `with` block lasts.

    answer: text of a sample of a call; tokens: its tokens, by its text; finish: its finish reason, by its text;
    faults: kinds of faults and their weights; fault_share: how many calls meet one; most_faults: how many of them one
    body meets before it is answered well; statuses: what a prompt is always answered with, by its text;
    seconds: how long an answer takes; retry_after: header of a 429 or 503; key: the key that it wants;
    message: what it says in errors, `{key}` for the key that was sent; most_samples: how many it gives in one call;
    upstream: the address of a server whose answers it passes on instead of its own, in whole or in part.
    """

    answer: Callable[[Body, int], str] = echo
    tokens: Callable[[str], int] = lambda text: len(text.split())
    finish: Callable[[str], str | None] = lambda _: "stop"
    faults: Mapping[str, float] = field(default_factory=dict)
    fault_share: float = 0.0
    most_faults: int = 3
    statuses: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    retry_after: tuple[str, str] | None = None
    key: str | None = None
    message: str = "not today"
    most_samples: int = 1000
    upstream: str | None = None
    usage: bool = True
    model: str = "tiny"
    seed: int = 0

    calls: list[Call] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    base_url: str = ""

    @property
    def answered(self) -> Counter[str]:
        """How often each body was answered well."""
        return Counter(canonical(call.body) for call in self.calls if call.fault is None and call.done is not None)

    @property
    def met(self) -> Counter[str | None]:
        """How many calls met which fault."""
        return Counter(call.fault for call in self.calls)

    def __enter__(self) -> Self:
        self._seen: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), name="fault server", daemon=True)
        self._thread.start()
        assert started.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run(started))
        self._loop.close()

    async def _run(self, started: threading.Event) -> None:
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        started.set()
        await self._stopping.wait()
        server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the caller hung up, or the server ends
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One call of a connection; True where another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
        call = Call(path, headers, body, time.monotonic())
        self.calls.append(call)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._reply(call, writer)
        finally:
            self.in_flight -= 1

    async def _reply(self, call: Call, writer: asyncio.StreamWriter) -> bool:
        refused = self._refusal(call)
        call.fault = str(refused) if refused else self._draw(call)
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if call.fault is None:
            status, whole = await self._whole(call)
            call.done = time.monotonic()
            await _send(writer, status, whole)
            return True
        if call.fault.isdecimal():
            await _send(writer, int(call.fault), self._error(call), self._pause(call.fault))
            return True
        return await self._break(call, writer)

    def _refusal(self, call: Call) -> int | None:
        if self.key is not None and call.headers.get("authorization") != f"Bearer {self.key}":
            return 401
        if call.path not in ("/v1/chat/completions", "/v1/completions") or call.body.get("model") != self.model:
            return 404
        return self.statuses.get(prompt_of(call.body))

    def _draw(self, call: Call) -> str | None:
        name = canonical(call.body)
        self._seen[name] += 1
        label = f"{self.seed} {self._seen[name]}"
        if self._seen[name] > self.most_faults or fraction(f"whether {label}", name) >= self.fault_share:
            return None
        point = fraction(f"which {label}", name) * sum(self.faults.values())
        for fault, weight in self.faults.items():
            point -= weight
            if point < 0:
                return fault
        return None

    async def _whole(self, call: Call) -> tuple[int, bytes]:
        """Status and body of the answer that a call gets where nothing is wrong."""
        if self.upstream is None:
            return 200, json.dumps(self._good(call)).encode()
        headers = {"authorization": call.headers.get("authorization", "")}
        async with httpx2.AsyncClient(timeout=None, trust_env=False, verify=False) as client:
            response = await client.post(self.upstream + call.path.removeprefix("/v1"), json=call.body, headers=headers)
        return response.status_code, response.content

    def _good(self, call: Call) -> dict[str, Any]:
        samples = min(call.body.get("n", 1), self.most_samples)
        texts = [self.answer(call.body, sample) for sample in range(samples)]
        choices = []
        for index, text in enumerate(texts):
            content = {"message": {"role": "assistant", "content": text}} if "messages" in call.body else {"text": text}
            choices.append({"index": index, "finish_reason": self.finish(text), **content})
        whole: dict[str, Any] = {"object": "chat.completion", "model": self.model, "choices": choices}
        if self.usage:
            prompt, answers = self.tokens(prompt_of(call.body)), sum(map(self.tokens, texts))
            whole["usage"] = {"prompt_tokens": prompt, "completion_tokens": answers, "total_tokens": prompt + answers}
        return whole

    def _error(self, call: Call) -> bytes:
        key = call.headers.get("authorization", "").removeprefix("Bearer ")
        return json.dumps({"error": {"message": self.message.replace("{key}", key), "code": None}}).encode()

    def _pause(self, fault: str) -> tuple[tuple[str, str], ...]:
        if fault not in ("429", "503") or self.retry_after is None:
            return ()
        name, value = self.retry_after
        # A date is so many seconds from now.
        return ((name, formatdate(time.time() + float(value[1:]), usegmt=True) if value[0] == "+" else value),)

    async def _break(self, call: Call, writer: asyncio.StreamWriter) -> bool:
        if call.fault == "hang":
            await self._stopping.wait()
        elif call.fault == "drip":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n")
            while not self._stopping.is_set():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        elif call.fault == "garbage":
            await _send(writer, 200, b"<html>we are moving house</html>", (("content-type", "text/html"),))
            return True
        elif call.fault == "broken json":
            await _send(writer, 200, (await self._whole(call))[1][:-9])
            return True
        elif call.fault == "no choices":
            await _send(writer, 200, self._error(call))
            return True
        elif call.fault == "half":
            _, whole = await self._whole(call)
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(whole)
            )
            writer.write(whole[: len(whole) // 2])
            await writer.drain()
        elif call.fault == "reset":
            writer.transport.abort()
        return False


async def _send(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()
) -> None:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (("content-type", "application/json"), *headers)]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()
