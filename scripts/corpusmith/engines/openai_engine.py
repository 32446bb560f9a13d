"""The openai engine: asks any server that speaks OpenAI's API, vLLM's own among them, over HTTP.

Calls run in an event loop on a thread of their own, behind the protocol that all engines have. What may pass is tried
again: refusals for now (408, 409, 429, 5xx), lost connections, timeouts, answers that are no answers. What cannot pass
for any request (a wrong key, an unknown model, no server) ends the job; what concerns one request costs one row.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import queue
import random
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx2
import openai

from corpusmith.engines.protocol import Answer, Prompt, Question, failure
from corpusmith.engines.rate_limits import RateLimit, TokenEstimate
from corpusmith.errors import InputError
from corpusmith.identity import canonical, digest
from corpusmith.program import log

_CHAT, _COMPLETIONS = "/chat/completions", "/completions"
# What vLLM's documentation gives for servers that want no key. The SDK takes none from its own variable then.
_NO_KEY = "EMPTY"
_MAY_PASS = {408, 409, 429}
# No request can be answered after one of these, or, in a body, this code.
_ENDS_THE_JOB = {401, 402, 403, 404}
_NO_CREDIT = "insufficient_quota"
_LONGEST_BACKOFF = 60.0
# A server that wants to be left alone for longer than this has a daily limit.
_LONGEST_PAUSE = 3600.0
_LONGEST_MESSAGE = 300
_LONGEST_CONNECT = 30.0
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_TO_CLOSE = 10.0
# Gateways that read numbers as JavaScript does, and servers that keep a seed in 32 bits, take this much of one.
_SEED_BITS = 31
_UNREACHABLE = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)
# A vLLM server fills in what a call leaves out from the model's generation_config.json; these mean "no such thing".
_VLLM_NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
_CHOICE = "choice"


@dataclass(frozen=True)
class _ApiPrompt(Prompt):
    """A prompt with the path that it is asked at, and the parameter that holds it."""

    path: str = _CHAT
    content: Mapping[str, Any] = field(default_factory=dict, compare=False)


class _Passing(Exception):
    """Something that may go better the next time.

    wait: seconds that the server asks for; unreachable: whether there was no server at all.
    """

    def __init__(self, reason: str, *, wait: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.unreachable = wait, unreachable


class _Refused(Exception):
    """Something that concerns this one request and will not go better."""


@dataclass(frozen=True)
class _Sample:
    """One of the choices that the server sends for a call. error: why it is no answer."""

    text: str
    finish_reason: str
    error: str | None = None


class OpenAIEngine:
    """A model behind an OpenAI-compatible API.

    base_url: mostly ends in /v1; model: what the server calls it; api_key_variable: the environment variable that
    holds the key; concurrency: most calls in flight; requests_per_minute, tokens_per_minute: limits of this engine
    alone; timeout_seconds: for one try; max_retries: tries after the first; proxies: whether those that the
    environment names are used; samples_per_call: most samples of a prompt in one call, which then has one seed, that
    of its first sample; max_tokens_parameter: what the server calls the most tokens of a chat's answer;
    structured_output: response_format or vllm; extra_body: further parameters of every call, null for one of the
    engine's that is to be left out.
    Nothing of this is needed before the first question: answers that the store knows want no key. Then an address, a
    key or a proxy that is missing or unusable is an InputError.
    """

    family = "openai"
    # It never hangs: every call has its own end.
    heard = math.inf

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key_variable: str | None = None,
        concurrency: int = 64,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        timeout_seconds: float = 600.0,
        max_retries: int = 8,
        proxies: bool = True,
        samples_per_call: int = 1,
        max_tokens_parameter: str = "max_tokens",
        structured_output: str = "response_format",
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self._base_url, self._model, self._key_variable = base_url, model, api_key_variable
        self._concurrency, self._timeout, self._proxies = concurrency, timeout_seconds, proxies
        self._max_retries = max_retries
        self._samples_per_call, self._max_tokens_parameter = samples_per_call, max_tokens_parameter
        self._for_vllm = structured_output == "vllm"
        self._extra_body = dict(extra_body or {})
        self._calls = RateLimit(requests_per_minute) if requests_per_minute else None
        self._tokens = RateLimit(tokens_per_minute) if tokens_per_minute else None
        self._estimate = TokenEstimate()
        self._slots = asyncio.Semaphore(concurrency)
        self.capacity = concurrency * samples_per_call
        # The server renders the prompt; what is sent beside it may change how.
        self.template = digest(canonical(self._extra_body)) if self._extra_body else ""
        self.retries = 0
        self._next_line = 0.0
        # Samples that wait for others of their prompt, to be asked in one call.
        self._group: list[Question] = []
        self._in_flight = 0
        self._answered: queue.SimpleQueue[tuple[int, list[Answer] | Exception]] = queue.SimpleQueue()
        self._ended: InputError | None = None
        self._error: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._key: str | None = None
        self._thread: threading.Thread | None = None

    def prepare(self, request: Mapping[str, Any]) -> Prompt:
        """Messages go to the chat endpoint, raw text and token ids to that of completions."""
        if request["json_schema"] is not None:
            try:
                json.loads(request["json_schema"])
            except ValueError as error:
                return _ApiPrompt("", error=f"the JSON schema is no JSON: {error}")
        content: dict[str, Any]
        if request["messages"] is not None:
            messages = [{"role": message["role"], "content": message["content"]} for message in request["messages"]]
            rendered, path, content = f"messages {canonical(messages)}", _CHAT, {"messages": messages}
        elif request["token_ids"] is not None:
            token_ids = list(request["token_ids"])
            rendered = "token ids " + " ".join(map(str, token_ids))
            path, content = _COMPLETIONS, {"prompt": token_ids}
        else:
            rendered, path, content = f"text {request['prompt']}", _COMPLETIONS, {"prompt": request["prompt"] or ""}
        empty = None if any(content.values()) else "the prompt is empty"
        return _ApiPrompt(rendered, error=empty, path=path, content=content)

    def submit(self, question: Question) -> None:
        """Takes a question; it may wait for further samples of its prompt, at most until answers are collected."""
        if self._thread is None:
            self._begin()
        self._in_flight += 1
        if self._group and not _differ_in_sample_alone(self._group[0], question):
            self._send()
        self._group.append(question)
        if len(self._group) == self._samples_per_call:
            self._send()

    def collect(self, timeout: float | None = None) -> Sequence[Answer]:
        """Waits until some answers are there and gives them; empty where none is in flight, or `timeout` seconds pass.

        Raises InputError where the server will answer nothing more; what had been asked before can still be collected.
        """
        self._send()
        deadline = None if timeout is None else time.monotonic() + timeout
        answers: list[Answer] = []
        while self._error is None and self._in_flight and not (answers and self._answered.empty()):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                count, found = self._answered.get(timeout=left)
            except queue.Empty:
                break
            self._in_flight -= count
            if isinstance(found, Exception):
                self._error = found
            else:
                answers += found
        if self._error is not None and not answers:
            error, self._error = self._error, None
            raise error
        return answers

    def close(self) -> None:
        """Drops what is in flight and ends the thread; one that does not end in some seconds is left behind."""
        if self._thread is None or self._loop.is_closed():
            return
        self._group = []
        deadline = time.monotonic() + _SECONDS_TO_CLOSE
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._drop(), self._loop).result(_SECONDS_TO_CLOSE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(max(1.0, deadline - time.monotonic()))
        if not self._thread.is_alive():
            self._loop.close()

    def _begin(self) -> None:
        self._key = _read_key(self._key_variable)
        http_client = _http_client(self._concurrency, self._timeout, self._proxies)
        try:
            self._client = openai.AsyncOpenAI(
                api_key=self._key or _NO_KEY, base_url=self._base_url, max_retries=0, http_client=http_client
            )
        except httpx2.InvalidURL as error:
            raise InputError(f"base_url is no address: {self._base_url} ({error})") from None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai engine", daemon=True)
        self._thread.start()

    def _send(self) -> None:
        if self._group:
            self._loop.call_soon_threadsafe(self._start, self._group)
            self._group = []

    # --- in the event loop ---

    def _start(self, questions: Sequence[Question]) -> None:
        # A loop knows its tasks by weak references alone.
        task = self._loop.create_task(self._answer(questions))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _answer(self, questions: Sequence[Question]) -> None:
        """Answers all of the questions, in as many calls as the server needs for them."""
        try:
            while questions:
                async with self._slots:
                    if self._ended is not None:
                        raise self._ended
                    answers = await self._ask(questions)
                self._answered.put((len(answers), answers))
                # A server that gives fewer samples than were asked for is asked for the others.
                questions = questions[len(answers) :]
        except Exception as error:
            self._answered.put((len(questions), error))

    async def _ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers to some of the questions, at least one; or a failure for each."""
        attempt = 0
        while True:
            try:
                return await self._try(questions)
            except _Refused as error:
                return [failure(question, str(error)) for question in questions]
            except _Passing as error:
                passing = error
            if attempt == self._max_retries:
                break
            self._say(str(passing))
            # Whatever the server asks for, and then all over a span that doubles, so that those refused together do
            # not come back together.
            await asyncio.sleep(passing.wait + random.uniform(0, min(_LONGEST_BACKOFF, 2.0**attempt)))
            attempt += 1
            self.retries += 1
        reason = f"{passing} (tried {attempt + 1} times)"
        if passing.unreachable:
            self._end(f"{self._base_url} cannot be reached: {reason}")
        return [failure(question, reason) for question in questions]

    async def _try(self, questions: Sequence[Question]) -> list[Answer]:
        first = questions[0]
        prompt_bytes = len(first.prompt.rendered.encode("utf-8", "replace"))
        estimate = self._estimate.of(prompt_bytes, len(questions), first.sampling.max_tokens)
        if self._calls is not None:
            await self._calls.take()
        if self._tokens is not None:
            await self._tokens.take(estimate)
        body = await self._call(first.prompt, self._body(first, len(questions)))
        samples = [self._sample(choice, first) for choice in self._choices(body)[: len(questions)]]
        usage = _usage(body)
        if usage is not None:
            self._estimate.learn(prompt_bytes, len(samples), *usage)
            if self._tokens is not None:
                self._tokens.correct(sum(usage) - estimate)
        prompt_tokens, answer_tokens = usage or (0, 0)
        # The server counts the tokens of all samples of a call together.
        shares = apportion(answer_tokens, [len(sample.text) for sample in samples])
        return [
            Answer(
                question.handle,
                sample.text if sample.error is None else "",
                sample.finish_reason if sample.error is None else "error",
                prompt_tokens,
                tokens,
                sample.error,
            )
            for question, sample, tokens in zip(questions, samples, shares, strict=False)
        ]

    async def _call(self, prompt: Prompt, body: Mapping[str, Any]) -> Any:
        """The JSON that the server answers with. Raises _Passing or _Refused, and ends the job where it must."""
        assert isinstance(prompt, _ApiPrompt)
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.post(prompt.path, cast_to=httpx2.Response, body=body)
        except (TimeoutError, openai.APIConnectionError) as error:
            cause = error.__cause__ or error
            timeout = isinstance(error, (TimeoutError, openai.APITimeoutError))
            unreachable = isinstance(cause, _UNREACHABLE)
            if timeout and not unreachable:
                reason = f"no answer within {self._timeout:g} seconds"
            else:
                reason = self._clean(f"no connection: {type(cause).__name__} {cause}")
            raise _Passing(reason, unreachable=unreachable) from error
        except openai.APIStatusError as error:
            self._judge(error)
        try:
            return response.json()
        except ValueError as error:
            raise _Passing("the answer is no JSON") from error

    def _judge(self, error: openai.APIStatusError) -> NoReturn:
        """Raises what an error status means."""
        status = error.status_code
        reason = self._clean(f"HTTP {status}: {_message(error.body)}")
        if status in _ENDS_THE_JOB or error.code == _NO_CREDIT:
            self._end(f"{self._base_url} {self._explain(status)}; it says: {reason}")
        if status not in _MAY_PASS and status < 500:
            raise _Refused(reason) from error
        wait = retry_after(error.response.headers, time.time()) or 0.0
        if wait > _LONGEST_PAUSE:
            self._end(f"{self._base_url} wants to be left alone for {wait:,.0f} seconds; it says: {reason}")
        raise _Passing(reason, wait=wait) from error

    def _explain(self, status: int) -> str:
        if status == 404:
            return f"knows no model {self._model!r}, or base_url is wrong (it mostly ends in /v1)"
        if status not in (401, 403):
            return "wants to be paid first"
        if self._key_variable is None:
            return "wants a key: name the environment variable that holds it in api_key_variable"
        return f"does not accept the key in {self._key_variable}"

    def _end(self, reason: str) -> NoReturn:
        """Ends the job: raises the reason here, and for every question from now on."""
        self._ended = InputError(reason)
        raise self._ended

    def _say(self, reason: str) -> None:
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            log.warning("asking again, %d times so far; the last reason: %s", self.retries + 1, reason)

    def _clean(self, text: str) -> str:
        """What a server says, on one line and not at length, the key taken out."""
        if self._key:
            text = text.replace(self._key, "(the key)")
        text = " ".join(_well_formed(text).split())
        return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"

    def _choices(self, body: Any) -> list[Any]:
        choices = body.get("choices") if isinstance(body, Mapping) else None
        if not isinstance(choices, list) or not choices:
            # Some gateways send their errors with status 200.
            error = body.get("error") if isinstance(body, Mapping) else None
            raise _Passing(self._clean(f"an answer without choices: {_message(error or body)}"))
        return choices

    def _sample(self, choice: Any, question: Question) -> _Sample:
        message = choice.get("message", choice) if isinstance(choice, Mapping) else None
        if not isinstance(message, Mapping):
            raise _Passing("an answer of another form than OpenAI's")
        text = message.get("content" if "message" in choice else "text") or ""
        finish, refusal = choice.get("finish_reason"), message.get("refusal")
        error = None
        if refusal:
            error = self._clean(f"the model refuses: {refusal}")
        elif not isinstance(text, str):
            text, error = "", "the answer is no text"
        elif finish == "content_filter":
            error = "the server's content filter stopped the answer"
        elif finish not in ("stop", "length"):
            error = self._clean(f"the answer ended with {finish}; stop or length is what ends an answer")
        elif finish == "stop":
            text, error = self._constrained(text, question)
        return _Sample(_well_formed(text), str(finish), error)

    def _constrained(self, text: str, question: Question) -> tuple[str, str | None]:
        """The answer out of what a constraint made of it; or an error where the server did not keep to it."""
        if question.choices is not None:
            if not self._for_vllm:
                with suppress(ValueError, KeyError, TypeError):
                    text = json.loads(text)[_CHOICE]
            if text not in question.choices:
                return "", self._clean(f"the answer is none of the choices: {text}")
        if question.json_schema is not None:
            try:
                json.loads(text)
            except ValueError:
                return "", self._clean(f"the answer is no JSON: {text}")
        return text, None

    def _body(self, question: Question, samples: int) -> dict[str, Any]:
        assert isinstance(question.prompt, _ApiPrompt)
        sampling, chat = question.sampling, question.prompt.path == _CHAT
        body: dict[str, Any] = {
            "model": self._model,
            **question.prompt.content,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._max_tokens_parameter if chat else "max_tokens": sampling.max_tokens,
        }
        if self._for_vllm:
            body |= _VLLM_NEUTRAL
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.temperature > 0:
            body["seed"] = question.seed % 2**_SEED_BITS
        if samples > 1:
            body["n"] = samples
        body |= self._constraint(question) | self._extra_body
        return {name: value for name, value in body.items() if value is not None}

    def _constraint(self, question: Question) -> dict[str, Any]:
        if self._for_vllm:
            if question.choices is not None:
                return {"structured_outputs": {"choice": list(question.choices)}}
            if question.json_schema is not None:
                return {"structured_outputs": {"json": json.loads(question.json_schema)}}
            return {}
        if question.choices is not None:
            # The outermost of a schema has to be an object.
            schema = {
                "type": "object",
                "properties": {_CHOICE: {"type": "string", "enum": list(question.choices)}},
                "required": [_CHOICE],
                "additionalProperties": False,
            }
        elif question.json_schema is not None:
            schema = json.loads(question.json_schema)
        else:
            return {}
        asked = {"name": "answer", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": asked}}


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server wants to be left alone, by retry-after-ms or Retry-After (seconds, or a date).

    now: seconds since 1970. None where it does not say, or nothing that makes sense.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                date = parsedate_to_datetime(value)
                seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
            except (ValueError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """A total in whole numbers, shared by weight; equally where nothing has any."""
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    shares, given, passed = [], 0, 0
    for weight in weights:
        passed += weight
        shares.append(total * passed // whole - given)
        given += shares[-1]
    return shares


def _read_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(f"the environment variable {variable}, named in api_key_variable, holds no key: export it")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(f"the environment variable {variable} holds characters that no key has")
    return key


def _http_client(concurrency: int, timeout: float, proxies: bool) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=concurrency)
    # A client that is given its transport looks for no proxies, but still for certificates.
    transport = None if proxies else httpx2.AsyncHTTPTransport(limits=limits)
    times = httpx2.Timeout(timeout, connect=min(timeout, _LONGEST_CONNECT))
    try:
        return openai.DefaultAsyncHttpxClient(timeout=times, limits=limits, transport=transport)
    except (ImportError, ValueError) as error:
        # The error itself may show the password of a proxy.
        raise InputError(
            f"a proxy that the environment names cannot be used ({type(error).__name__}); correct HTTPS_PROXY,"
            " HTTP_PROXY or ALL_PROXY, or set proxies: false"
        ) from None


def _well_formed(text: str) -> str:
    """The text as UTF-8 can hold it: JSON can hold half of a character, where an answer was cut off."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _differ_in_sample_alone(one: Question, other: Question) -> bool:
    return (
        # Greedy answers are equal, and servers refuse to give several.
        one.sampling.temperature > 0
        and one.sampling == other.sampling
        and one.prompt.rendered == other.prompt.rendered
        and (one.choices, one.json_schema) == (other.choices, other.json_schema)
    )


def _usage(body: Mapping[str, Any]) -> tuple[int, int] | None:
    """Tokens of the prompt, and of all answers; None where the server does not say."""
    usage = body.get("usage")
    found = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, Mapping) else []
    numbers = [number for number in found if isinstance(number, int) and number >= 0]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _message(body: Any) -> str:
    """What an error's body says to people."""
    for name in ("message", "detail", "error"):
        if isinstance(body, Mapping) and body.get(name):
            return _message(body[name])
    return body if isinstance(body, str) else "" if body is None else json.dumps(body, ensure_ascii=False)
