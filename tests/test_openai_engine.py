"""The openai engine against a real HTTP server that fails in every way that servers do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout import Checkout, need_control
from conftest import ROOT
from corpusmith.engines import openai_engine
from corpusmith.engines.openai_engine import OpenAIEngine, apportion, retry_after
from corpusmith.engines.protocol import Answer, Question, Sampling
from corpusmith.engines.rate_limits import RateLimit, TokenEstimate
from corpusmith.errors import InputError
from corpusmith.identity import item_id
from corpusmith.models import describe_api_model, folder_of, read_receipt, write_receipt
from corpusmith.requests import request
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, REQUESTS
from corpusmith.toy.translation import translate
from fault_server import BROKEN, PASSING_STATUSES, FaultServer, prompt_of

# In parts, so that a copy of this file does not hold it.
KEY = "-".join(["sk", "5ecret0f", "theTests"])
KEY_VARIABLE = "KEY_OF_THE_TESTS"
SEED_BITS = 31


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits between tries are short."""
    monkeypatch.setattr(openai_engine, "_LONGEST_BACKOFF", 0.02)


@contextlib.contextmanager
def engine_at(server: FaultServer, **settings: Any) -> Iterator[OpenAIEngine]:
    engine = OpenAIEngine(base_url=server.base_url, model=server.model, **settings)
    try:
        yield engine
    finally:
        engine.close()


def row_of(text: str = "a prompt", **more: Any) -> dict[str, Any]:
    """A row of a requests table; its prompt is a message unless the row says otherwise."""
    if not {"messages", "prompt", "token_ids"} & set(more):
        more["messages"] = [{"role": "user", "content": text}]
    return request(item_id(text), "sampled", **{"temperature": 1.0, "max_tokens": 20} | more)


def question_of(engine: OpenAIEngine, handle: int, row: Mapping[str, Any], seed: int | None = None) -> Question:
    sampling = Sampling(row["temperature"], row["top_p"], row["top_k"], row["max_tokens"], tuple(row["stop"]))
    choices = tuple(row["choices"]) if row["choices"] is not None else None
    return Question(
        handle, engine.prepare(row), sampling, handle if seed is None else seed, choices, row["json_schema"]
    )


def answers_of(engine: OpenAIEngine, rows: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """Answers in the order of the rows, the engine kept as full as it may be. A seed is the row's, or its place."""
    waiting = [question_of(engine, handle, row, row.get("seed")) for handle, row in enumerate(rows)]
    found: dict[int, Answer] = {}
    in_flight = 0
    while waiting or in_flight:
        while waiting and in_flight < engine.capacity:
            engine.submit(waiting.pop(0))
            in_flight += 1
        answers = engine.collect()
        assert answers
        assert not set(found) & {answer.handle for answer in answers}
        found |= {answer.handle: answer for answer in answers}
        in_flight -= len(answers)
    assert engine.collect() == []
    return [found[handle] for handle in range(len(rows))]


def only_answer(engine: OpenAIEngine, row: Mapping[str, Any]) -> Answer:
    (answer,) = answers_of(engine, [row])
    return answer


# --- what goes wrong for a while ---


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.usefixtures("hasty")
def test_all_answers_arrive_whatever_the_server_does_and_none_is_asked_for_again(seed: int) -> None:
    faults = dict.fromkeys((*PASSING_STATUSES, *BROKEN), 1.0)
    rows = [row_of(f"prompt {place}") for place in range(120)]
    with (
        FaultServer(faults=faults, fault_share=0.5, seed=seed) as server,
        engine_at(server, concurrency=16, timeout_seconds=20) as engine,
    ):
        answers = answers_of(engine, rows)
        assert [answer.text for answer in answers] == [f"prompt {place} {place}" for place in range(120)]
        assert {(answer.finish_reason, answer.error) for answer in answers} == {("stop", None)}
        assert [(answer.prompt_tokens, answer.completion_tokens) for answer in answers] == [(2, 3)] * 120
        assert len(server.answered) == 120
        assert set(server.answered.values()) == {1}
        bad = sum(count for fault, count in server.met.items() if fault is not None)
        assert set(server.met) == {None, *faults}
        assert engine.retries == bad == len(server.calls) - 120


@pytest.mark.usefixtures("hasty")
def test_the_order_of_questions_changes_no_answer() -> None:
    order = list(range(40))
    random.Random(5).shuffle(order)
    texts = []
    for places in (range(40), order):
        with (
            FaultServer(faults={"500": 1, "half": 1}, fault_share=0.5) as server,
            engine_at(server, concurrency=7) as engine,
        ):
            for place in places:
                engine.submit(question_of(engine, place, row_of(f"prompt {place}")))
            found: dict[int, str] = {}
            while answers := engine.collect():
                found |= {answer.handle: answer.text for answer in answers}
            texts.append(found)
    assert texts[0] == texts[1] == {place: f"prompt {place} {place}" for place in range(40)}


@pytest.mark.parametrize("fault", ["hang", "drip"])
@pytest.mark.usefixtures("hasty")
def test_a_call_that_never_ends_is_given_up_and_made_again(fault: str) -> None:
    with (
        FaultServer(faults={fault: 1}, fault_share=0.5, most_faults=1) as server,
        engine_at(server, timeout_seconds=3) as engine,
    ):
        answers = answers_of(engine, [row_of(f"prompt {place}") for place in range(12)])
        assert all(answer.finish_reason == "stop" for answer in answers)
        assert engine.retries >= server.met[fault] > 3


@pytest.mark.parametrize(
    ("header", "least"),
    [(("retry-after", "1"), 1.0), (("retry-after-ms", "400"), 0.4), (("retry-after", "+3"), 2.0), (None, 0.0)],
    ids=str,
)
@pytest.mark.usefixtures("hasty")
def test_the_server_is_left_alone_for_as_long_as_it_asks(header: tuple[str, str] | None, least: float) -> None:
    with (
        FaultServer(faults={"429": 1}, fault_share=1, most_faults=1, retry_after=header) as server,
        engine_at(server) as engine,
    ):
        assert only_answer(engine, row_of()).error is None
        refused, answered = server.calls
        assert least <= answered.at - refused.at < least + 15


def test_a_server_that_wants_to_be_left_alone_for_a_day_ends_the_job() -> None:
    with (
        FaultServer(statuses={"a prompt": 429}, retry_after=("retry-after", "86400")) as server,
        engine_at(server) as engine,
        pytest.raises(InputError, match=r"wants to be left alone for 86,400 seconds; it says: HTTP 429: not today"),
    ):
        only_answer(engine, row_of())


def test_waits_grow_and_differ_from_call_to_call(monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[float] = []
    monkeypatch.setattr(openai_engine.random, "uniform", lambda low, high: spans.append(high) or low)
    with FaultServer(statuses={"a prompt": 503}) as server, engine_at(server, max_retries=8) as engine:
        assert only_answer(engine, row_of()).error == "HTTP 503: not today (tried 9 times)"
    assert spans == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.usefixtures("hasty")
def test_a_prompt_that_the_server_never_answers_costs_one_row() -> None:
    with FaultServer(statuses={"poison": 500}) as server, engine_at(server, max_retries=2) as engine:
        answers = answers_of(engine, [row_of("fine"), row_of("poison"), row_of("good")])
        assert [answer.text for answer in answers] == ["fine 0", "", "good 2"]
        assert answers[1].finish_reason == "error"
        assert answers[1].error == "HTTP 500: not today (tried 3 times)"
        assert engine.retries == 2


# --- what will not pass ---


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_the_server_refuses_is_a_failure_that_is_not_asked_again(status: int) -> None:
    message = "this model's maximum context length is 4096 tokens\nand then " + "more " * 200
    with FaultServer(statuses={"long": status}, message=message) as server, engine_at(server) as engine:
        answers = answers_of(engine, [row_of("long"), row_of("fine")])
        assert answers[0].finish_reason == "error"
        assert answers[0].text == ""
        assert answers[0].error is not None
        assert answers[0].error.startswith(
            f"HTTP {status}: this model's maximum context length is 4096 tokens and then"
        )
        assert len(answers[0].error) <= 300
        assert answers[1].text == "fine 1"
        assert engine.retries == 0
        assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, f"does not accept the key in {KEY_VARIABLE}"),
        (403, f"does not accept the key in {KEY_VARIABLE}"),
        (402, "wants to be paid first"),
        (404, "knows no model 'tiny', or base_url is wrong (it mostly ends in /v1)"),
    ],
)
def test_what_no_request_will_get_past_ends_the_job_at_once(
    status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    texts = [f"prompt {place}" for place in range(200)]
    with (
        FaultServer(statuses=dict.fromkeys(texts, status), seconds=0.05) as server,
        engine_at(server, concurrency=4, api_key_variable=KEY_VARIABLE) as engine,
    ):
        for handle, text in enumerate(texts):
            engine.submit(question_of(engine, handle, row_of(text)))
        with pytest.raises(InputError) as caught:
            engine.collect()
        assert str(caught.value) == f"{server.base_url} {said}; it says: HTTP {status}: not today"
        time.sleep(0.3)
        assert len(server.calls) <= 4


def test_what_was_answered_before_the_end_is_not_lost() -> None:
    with FaultServer(statuses={"late": 401}, seconds=0.05) as server, engine_at(server, concurrency=2) as engine:
        for handle, text in enumerate(["a", "b", "c", "late"]):
            engine.submit(question_of(engine, handle, row_of(text)))
        found: list[str] = []

        def collect_all() -> None:
            while answers := engine.collect():
                found.extend(answer.text for answer in answers)

        with pytest.raises(InputError):
            collect_all()
        collect_all()
        assert sorted(found) == ["a 0", "b 1", "c 2"]


def test_no_credit_ends_the_job_though_the_status_is_that_of_too_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    monkeypatch.setattr(FaultServer, "_error", lambda self, call: json.dumps(error).encode())
    with (
        FaultServer(statuses={"a prompt": 429}) as server,
        engine_at(server) as engine,
        pytest.raises(InputError, match="wants to be paid first; it says: HTTP 429: You exceeded your current quota"),
    ):
        only_answer(engine, row_of())


@pytest.mark.usefixtures("hasty")
def test_a_server_that_is_not_there_ends_the_job() -> None:
    with FaultServer() as server:
        pass
    with engine_at(server, max_retries=2) as engine:
        with pytest.raises(InputError, match=rf"{server.base_url} cannot be reached: .*\(tried 3 times\)"):
            only_answer(engine, row_of())
        assert engine.retries == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "in OpenAI's form"}}, "in OpenAI's form"),
        ({"error": "in Ollama's form"}, "in Ollama's form"),
        ({"detail": [{"msg": "in the form of FastAPI"}]}, '[{"msg": "in the form of FastAPI"}]'),
        ({"message": "in another form"}, "in another form"),
        ("<html>no JSON</html>", "<html>no JSON</html>"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_a_server_says_is_found_in_every_form(body: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    monkeypatch.setattr(FaultServer, "_error", lambda self, call: text.encode())
    with FaultServer(statuses={"a prompt": 400}) as server, engine_at(server) as engine:
        assert only_answer(engine, row_of()).error == f"HTTP 400: {said}".strip()


# --- the key ---


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, f"the environment variable {KEY_VARIABLE}, named in api_key_variable, holds no key: export it"),
        (" \n", f"the environment variable {KEY_VARIABLE}, named in api_key_variable, holds no key: export it"),
        ("clé", f"the environment variable {KEY_VARIABLE} holds characters that no key has"),
        ("two\nlines", f"the environment variable {KEY_VARIABLE} holds characters that no key has"),
    ],
)
def test_a_key_that_is_missing_or_none_is_said_before_anything_is_asked(
    value: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv(KEY_VARIABLE, value)
    with FaultServer() as server, engine_at(server, api_key_variable=KEY_VARIABLE) as engine:
        question = question_of(engine, 0, row_of())
        with pytest.raises(InputError) as caught:
            engine.submit(question)
        assert str(caught.value) == message
        assert server.calls == []


def test_an_engine_that_is_asked_nothing_wants_no_key_and_starts_nothing() -> None:
    threads = running_threads()
    with FaultServer() as server:
        with engine_at(server, api_key_variable=KEY_VARIABLE) as engine:
            assert engine.prepare(row_of()).error is None
            assert (engine.capacity, engine.retries, engine.collect()) == (64, 0, [])
            assert {thread.name for thread in running_threads() - threads} == {"fault server"}
        assert server.calls == []


def test_the_key_comes_from_the_named_variable_without_the_line_break_of_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, f"{KEY}\n")
    with FaultServer(key=KEY) as server, engine_at(server, api_key_variable=KEY_VARIABLE) as engine:
        assert only_answer(engine, row_of()).text == "a prompt 0"


def test_the_key_of_another_server_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with FaultServer() as server, engine_at(server) as engine:
        assert only_answer(engine, row_of()).text == "a prompt 0"
        assert KEY not in str(server.calls)


def test_a_server_that_wants_a_key_says_where_to_name_it() -> None:
    with (
        FaultServer(key=KEY) as server,
        engine_at(server) as engine,
        pytest.raises(InputError, match="wants a key: name the environment variable that holds it in api_key_variable"),
    ):
        only_answer(engine, row_of())


# --- how much at once ---


@pytest.mark.usefixtures("hasty")
def test_as_many_calls_as_allowed_are_in_flight_and_no_more() -> None:
    with (
        FaultServer(seconds=0.15, faults={"500": 1}, fault_share=0.2) as server,
        engine_at(server, concurrency=6, samples_per_call=3) as engine,
    ):
        assert engine.capacity == 18
        answers_of(engine, [row_of(f"prompt {place}") for place in range(40)])
        assert server.most_in_flight == 6


@pytest.mark.usefixtures("hasty")
def test_calls_a_minute_are_kept_with_their_retries() -> None:
    with (
        FaultServer(faults={"500": 1}, fault_share=0.3) as server,
        engine_at(server, requests_per_minute=1200) as engine,
    ):
        start = time.monotonic()
        answers_of(engine, [row_of(f"prompt {place}") for place in range(25)])
        assert len(server.calls) > 25
        # 1,200 a minute are 20 a second; the first may go at once.
        assert all(call.at - start >= place / 20 for place, call in enumerate(server.calls))


def test_tokens_a_minute_are_kept_by_what_answers_turn_out_to_take() -> None:
    # 100 tokens each, where up to 20,000 are allowed.
    with (
        FaultServer(answer=lambda body, _: "word " * 90, tokens=lambda text: 90 if "word" in text else 10) as server,
        engine_at(server, tokens_per_minute=60_000) as engine,
    ):
        start = time.monotonic()
        answers_of(engine, [row_of(f"prompt {place}", max_tokens=20_000) for place in range(21)])
        # 1,000 tokens a second are 10 calls; 20 seconds for what the first might have taken are not waited out.
        assert all(call.at - start >= (place - 0.5) / 10 for place, call in enumerate(server.calls))
        assert time.monotonic() - start < 15


def test_a_limit_delays_what_follows_by_what_was_taken_and_by_its_correction() -> None:
    async def elapsed(first: float, correction: float) -> float:
        limit = RateLimit(6000)
        start = time.monotonic()
        await limit.take(first)
        asyncio.get_running_loop().call_later(0.02, limit.correct, correction)
        await limit.take()
        return time.monotonic() - start

    assert asyncio.run(elapsed(20, 0)) >= 0.199
    assert asyncio.run(elapsed(20, 10)) >= 0.299
    # What is given back lets the one that waits go at once.
    assert asyncio.run(elapsed(5000, -4999)) < 10


def test_an_estimate_follows_what_calls_took() -> None:
    estimate = TokenEstimate()
    assert estimate.of(300, 2, 50) == pytest.approx(100 + 2 * 50)
    estimate.learn(400, 4, 100, 80)
    assert estimate.of(400, 1, 50) == pytest.approx(100 + 20)
    assert estimate.of(800, 3, 10) == pytest.approx(200 + 3 * 10)
    estimate.learn(400, 4, 300, 0)
    assert estimate.of(800, 1, 50) == pytest.approx(400 + 10)


# --- the way there ---


def dead_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_proxies_of_the_environment_are_ignored_on_request(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{dead_port()}")
    with FaultServer() as server:
        with engine_at(server, proxies=False) as engine:
            assert only_answer(engine, row_of()).text == "a prompt 0"
        with engine_at(server, proxies=True, max_retries=0) as engine, pytest.raises(InputError, match="reached"):
            only_answer(engine, row_of())
        assert len(server.calls) == 1


@pytest.mark.parametrize("address", ["http://[::1/v1", "http://example.org:port/v1"])
def test_an_address_that_is_none_is_said(address: str) -> None:
    engine = OpenAIEngine(base_url=address, model="tiny")
    with pytest.raises(InputError, match=r"base_url is no address: http://"):
        only_answer(engine, row_of())
    engine.close()


def test_a_proxy_that_cannot_be_used_is_said_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"gopher://user:{KEY}@proxy.example:70")
    with FaultServer() as server, engine_at(server) as engine:
        with pytest.raises(InputError, match="set proxies: false") as caught:
            only_answer(engine, row_of())
        assert KEY not in str(caught.value)


# --- what is sent ---


def body_of(row: Mapping[str, Any], **settings: Any) -> tuple[str, dict[str, Any]]:
    """Path and body of the call that asks for a row with seed 0."""
    with FaultServer() as server, engine_at(server, **settings) as engine:
        only_answer(engine, row)
        return server.calls[0].path, server.calls[0].body


MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


def test_messages_go_to_the_chat_endpoint() -> None:
    path, body = body_of(row_of(messages=MESSAGES, temperature=0.7, top_p=0.9, max_tokens=33, stop=["\n", "END"]))
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "tiny",
        "messages": MESSAGES,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 33,
        "stop": ["\n", "END"],
        "seed": 0,
    }


@pytest.mark.parametrize(
    ("prompt", "content"), [({"prompt": "Once upon"}, "Once upon"), ({"token_ids": [5, 0, 7]}, [5, 0, 7])]
)
def test_raw_text_and_token_ids_go_to_the_completions_endpoint(prompt: dict[str, Any], content: Any) -> None:
    path, body = body_of(row_of(**prompt, temperature=0.0))
    assert path == "/v1/completions"
    # A greedy answer has no seed.
    assert body == {"model": "tiny", "prompt": content, "temperature": 0.0, "top_p": 1.0, "max_tokens": 20}


def test_the_most_likely_tokens_are_named_only_where_they_are_limited() -> None:
    assert body_of(row_of(top_k=7))[1]["top_k"] == 7
    assert "top_k" not in body_of(row_of())[1]


def test_a_vllm_server_is_told_to_leave_the_model_s_own_settings_alone() -> None:
    body = body_of(row_of(), structured_output="vllm")[1]
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (0, 0.0, 1.0)
    assert body_of(row_of(top_k=7), structured_output="vllm")[1]["top_k"] == 7


def test_the_longest_answer_has_the_name_that_the_server_knows() -> None:
    body = body_of(row_of(max_tokens=9), max_tokens_parameter="max_completion_tokens")[1]
    assert body["max_completion_tokens"] == 9
    assert "max_tokens" not in body
    raw = body_of(row_of(prompt="Once", max_tokens=9), max_tokens_parameter="max_completion_tokens")[1]
    assert raw["max_tokens"] == 9


def test_further_parameters_are_sent_and_null_leaves_one_out() -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "seed": None, "top_p": None}
    body = body_of(row_of(), extra_body=extra)[1]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert not {"seed", "top_p"} & set(body)


def test_each_sample_has_its_own_seed_in_as_many_bits_as_every_server_takes() -> None:
    with FaultServer() as server, engine_at(server) as engine:
        for handle, seed in enumerate([3, 2**62 + 5, 2**63 - 1]):
            engine.submit(question_of(engine, handle, row_of(), seed))
        while engine.collect():
            pass
        assert sorted(call.body["seed"] for call in server.calls) == [3, 5, 2**SEED_BITS - 1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (row_of(messages=[]), "the prompt is empty"),
        (row_of(prompt=""), "the prompt is empty"),
        (row_of(token_ids=[]), "the prompt is empty"),
        (row_of(json_schema="{"), "the JSON schema is no JSON: "),
    ],
)
def test_what_cannot_be_asked_is_said_before_it_is(row: Mapping[str, Any], said: str) -> None:
    with FaultServer() as server, engine_at(server) as engine:
        assert (engine.prepare(row).error or "").startswith(said)


# --- several samples in one call ---


def test_samples_of_a_prompt_share_calls_where_that_is_allowed() -> None:
    rows = [row_of("first")] * 7 + [row_of("second")] * 3 + [row_of("third", temperature=0.0)] * 2
    with FaultServer() as server, engine_at(server, concurrency=10, samples_per_call=3) as engine:
        answers = answers_of(engine, rows)
        asked = [(prompt_of(call.body), call.body.get("n"), call.body.get("seed")) for call in server.calls]
        # A call has the seed of its first sample; greedy answers are asked for one by one.
        assert sorted(asked, key=str) == sorted(
            [("first", 3, 0), ("first", 3, 3), ("first", None, 6), ("second", 3, 7)] + [("third", None, None)] * 2,
            key=str,
        )
        texts = [f"first {seed}" for seed in range(7)] + [f"second {seed}" for seed in range(7, 10)] + ["third"] * 2
        assert [answer.text for answer in answers] == texts
        assert sum(answer.completion_tokens for answer in answers) == 10 * 2 + 2
        assert {answer.prompt_tokens for answer in answers} == {1}


def test_samples_that_differ_in_more_than_their_seed_are_asked_apart() -> None:
    rows = [
        row_of("same"),
        row_of("same", max_tokens=9),
        row_of("same", choices=["a", "b"]),
        row_of("same", json_schema="{}"),
        row_of(prompt="same"),
    ]
    with (
        FaultServer(answer=lambda body, _: '{"choice": "a"}') as server,
        engine_at(server, samples_per_call=8) as engine,
    ):
        assert all(answer.error is None for answer in answers_of(engine, rows))
        assert len(server.calls) == 5
        assert not any("n" in call.body for call in server.calls)


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_a_server_that_gives_fewer_samples_is_asked_for_the_others(most: int) -> None:
    with FaultServer(most_samples=most) as server, engine_at(server, samples_per_call=5) as engine:
        answers = answers_of(engine, [row_of("a prompt")] * 10)
        assert [answer.text for answer in answers] == [f"a prompt {seed}" for seed in range(10)]
        assert len(server.calls) == 2 * -(-5 // most)


@pytest.mark.usefixtures("hasty")
def test_a_call_that_fails_fails_all_its_samples() -> None:
    with FaultServer(statuses={"bad": 400}) as server, engine_at(server, samples_per_call=4) as engine:
        answers = answers_of(engine, [row_of("bad")] * 4 + [row_of("good")])
        assert [answer.finish_reason for answer in answers] == ["error"] * 4 + ["stop"]
        assert len(server.calls) == 2


@given(total=st.integers(0, 10**6), weights=st.lists(st.integers(0, 10**4), min_size=1, max_size=40))
def test_shares_add_up_and_are_within_one_of_what_is_due(total: int, weights: list[int]) -> None:
    shares = apportion(total, weights)
    assert sum(shares) == total
    due = [total * weight / sum(weights) if any(weights) else total / len(weights) for weight in weights]
    assert all(abs(share - of) <= 1 for share, of in zip(shares, due, strict=True))


# --- constraints ---


def test_a_choice_is_asked_for_as_json_and_taken_out_of_it() -> None:
    row = row_of(choices=["good", "not good"])
    with FaultServer(answer=lambda body, _: '{ "choice": "not good" }') as server, engine_at(server) as engine:
        assert only_answer(engine, row).text == "not good"
        asked = server.calls[0].body["response_format"]
        assert asked["type"] == "json_schema"
        assert asked["json_schema"]["strict"] is True
        schema = asked["json_schema"]["schema"]
    import jsonschema

    jsonschema.validate({"choice": "not good"}, schema)
    for wrong in ({"choice": "bad"}, {}, {"choice": "good", "more": 1}, "good"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_a_vllm_server_is_asked_for_a_choice_in_its_own_way() -> None:
    row = row_of(choices=["good", "not good"])
    with (
        FaultServer(answer=lambda body, _: "not good") as server,
        engine_at(server, structured_output="vllm") as engine,
    ):
        assert only_answer(engine, row).text == "not good"
        assert server.calls[0].body["structured_outputs"] == {"choice": ["good", "not good"]}
        assert "response_format" not in server.calls[0].body


@pytest.mark.parametrize("structured_output", ["response_format", "vllm"])
def test_json_is_asked_for_by_its_schema(structured_output: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    row = row_of(json_schema=json.dumps(schema))
    with (
        FaultServer(answer=lambda body, _: '{"n": 3}') as server,
        engine_at(server, structured_output=structured_output) as engine,
    ):
        assert only_answer(engine, row).text == '{"n": 3}'
        body = server.calls[0].body
        if structured_output == "vllm":
            assert body["structured_outputs"] == {"json": schema}
        else:
            assert body["response_format"]["json_schema"]["schema"] == schema


@pytest.mark.parametrize("structured_output", ["response_format", "vllm"])
@pytest.mark.parametrize("text", ["perhaps", '{"choice": "perhaps"}', '{"verdict": "good"}', "[1]", '{"choice": '])
def test_an_answer_that_keeps_to_no_choice_is_a_failure(structured_output: str, text: str) -> None:
    with (
        FaultServer(answer=lambda body, _: text) as server,
        engine_at(server, structured_output=structured_output) as engine,
    ):
        answer = only_answer(engine, row_of(choices=["good", "bad"]))
        assert (answer.text, answer.finish_reason) == ("", "error")
        assert (answer.error or "").startswith("the answer is none of the choices: ")


def test_an_answer_that_is_no_json_is_a_failure() -> None:
    with FaultServer(answer=lambda body, _: "Sure! Here it is") as server, engine_at(server) as engine:
        assert only_answer(engine, row_of(json_schema="{}")).error == "the answer is no JSON: Sure! Here it is"


# --- how answers end ---


@pytest.mark.parametrize(
    ("finish", "reason", "error"),
    [
        ("stop", "stop", None),
        ("length", "length", None),
        ("content_filter", "error", "the server's content filter stopped the answer"),
        ("tool_calls", "error", "the answer ended with tool_calls; stop or length is what ends an answer"),
        (None, "error", "the answer ended with None; stop or length is what ends an answer"),
    ],
)
@pytest.mark.parametrize("prompt", [{"messages": MESSAGES}, {"prompt": "Hello"}], ids=["chat", "raw"])
def test_finish_reasons_are_those_of_all_engines(
    finish: str | None, reason: str, error: str | None, prompt: dict[str, Any]
) -> None:
    with FaultServer(finish=lambda _: finish) as server, engine_at(server) as engine:
        answer = only_answer(engine, row_of(**prompt))
        assert (answer.finish_reason, answer.error) == (reason, error)
        assert answer.text == ("Hello 0" if error is None else "")
        # What was generated was paid for.
        assert (answer.prompt_tokens, answer.completion_tokens) == (1, 2)


def test_a_constraint_is_not_held_against_an_answer_that_was_cut_off() -> None:
    with (
        FaultServer(answer=lambda body, _: '{"cho', finish=lambda _: "length") as server,
        engine_at(server) as engine,
    ):
        answer = only_answer(engine, row_of(choices=["good", "bad"]))
        assert (answer.text, answer.finish_reason, answer.error) == ('{"cho', "length", None)


def with_choice(monkeypatch: pytest.MonkeyPatch, choice: Any, **more: Any) -> None:
    """Lets the server answer every call with this choice."""
    monkeypatch.setattr(FaultServer, "_good", lambda self, call: {"choices": [choice], **more})


@pytest.mark.parametrize(
    ("message", "text", "error"),
    [
        ({"content": None}, "", None),
        ({"content": None, "refusal": "I cannot help with that."}, "", "the model refuses: I cannot help with that."),
        ({"content": [{"type": "text", "text": "x"}]}, "", "the answer is no text"),
        ({"content": "well", "reasoning_content": "hm"}, "well", None),
        ({"content": "cut off \ud83d"}, "cut off \ufffd", None),
        ({"content": "whole \ud83d\ude00"}, "whole \U0001f600", None),
    ],
)
def test_what_a_message_may_hold_besides_text(
    message: Any, text: str, error: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_choice(monkeypatch, {"message": message, "finish_reason": "stop"})
    with FaultServer() as server, engine_at(server) as engine:
        answer = only_answer(engine, row_of())
        assert (answer.text, answer.error) == (text, error)


@pytest.mark.parametrize("choice", ["text", 3, None, [], {"message": "text", "finish_reason": "stop"}])
@pytest.mark.usefixtures("hasty")
def test_choices_of_no_known_form_are_asked_again_and_then_a_failure(
    choice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_choice(monkeypatch, choice)
    with FaultServer() as server, engine_at(server, max_retries=1) as engine:
        assert only_answer(engine, row_of()).error == "an answer of another form than OpenAI's (tried 2 times)"
        assert len(server.calls) == 2


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 3}, {"prompt_tokens": "3", "completion_tokens": 4}, []])
def test_tokens_are_0_where_the_server_does_not_count_them(usage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_choice(monkeypatch, {"message": {"content": "well"}, "finish_reason": "stop"}, usage=usage)
    with FaultServer() as server, engine_at(server, tokens_per_minute=10**9) as engine:
        answer = only_answer(engine, row_of())
        assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("well", 0, 0)


# --- keys ---


def test_only_what_is_sent_with_every_call_is_part_of_the_key_beside_the_request() -> None:
    with (
        FaultServer() as server, engine_at(server) as plain,
        engine_at(
            server, concurrency=3, samples_per_call=9, requests_per_minute=5, timeout_seconds=1, max_retries=0,
            structured_output="vllm", proxies=False,
        ) as tuned,
        engine_at(server, extra_body={"reasoning_effort": "low"}) as extra,
        engine_at(server, extra_body={"reasoning_effort": "high"}) as other,
    ):  # fmt: skip
        assert plain.template == tuned.template == ""
        assert len({plain.template, extra.template, other.template}) == 3
        assert plain.family == extra.family == "openai"


PROMPTS = st.one_of(
    st.fixed_dictionaries({"prompt": st.text(min_size=1, max_size=8)}),
    st.fixed_dictionaries({"token_ids": st.lists(st.integers(0, 99), min_size=1, max_size=4)}),
    st.fixed_dictionaries(
        {
            "messages": st.lists(
                st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=8)}),
                min_size=1,
                max_size=3,
            )
        }
    ),
)


def test_two_prompts_never_have_one_key() -> None:
    with FaultServer() as server, engine_at(server) as engine:

        @given(one=PROMPTS, other=PROMPTS)
        def check(one: dict[str, Any], other: dict[str, Any]) -> None:
            first, second = (engine.prepare(row_of(**prompt)) for prompt in (one, other))
            assert (first.rendered == second.rendered) == (one == other)
            # A raw prompt may read as a conversation does.
            assert engine.prepare(row_of(prompt=first.rendered)).rendered != first.rendered

        check()


# --- the end ---


def test_closing_drops_what_is_in_flight_at_once(recwarn: pytest.WarningsRecorder) -> None:
    unraisable: list[Any] = []
    threads = running_threads()
    with FaultServer(faults={"hang": 1}, fault_share=1) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", unraisable.append)
        engine = OpenAIEngine(base_url=server.base_url, model="tiny", concurrency=5)
        for place in range(20):
            engine.submit(question_of(engine, place, row_of(f"prompt {place}")))
        while server.in_flight < 5:
            time.sleep(0.01)
        start = time.monotonic()
        engine.close()
        engine.close()
        # One that does not end is given up after so long.
        assert time.monotonic() - start < openai_engine._SECONDS_TO_CLOSE
        assert len(server.calls) == 5
        del engine
        gc.collect()
    assert end_of_threads(threads)
    assert unraisable == []
    assert [warning for warning in recwarn if warning.category in (ResourceWarning, RuntimeWarning)] == []


def test_who_waits_for_answers_waits_no_longer_than_wanted() -> None:
    threads = running_threads()
    with FaultServer(faults={"hang": 1}, fault_share=1, most_faults=1000) as server:
        engine = OpenAIEngine(base_url=server.base_url, model="tiny", concurrency=3, samples_per_call=2)
        assert timed(lambda: engine.collect(100.0))[0] < 50  # nothing is in flight
        for place in range(7):
            engine.submit(question_of(engine, place, row_of()))
        for seconds in (0.5, 0.0, 0.2):
            waited, answers = timed(lambda seconds=seconds: engine.collect(seconds))
            assert answers == []
            # Well below what a call may take.
            assert seconds - 0.001 <= waited < seconds + 20
        assert timed(engine.close)[0] < openai_engine._SECONDS_TO_CLOSE
    assert end_of_threads(threads)


@pytest.mark.usefixtures("hasty")
def test_what_is_late_still_comes_and_is_not_waited_for_longer_than_it_takes() -> None:
    with (
        FaultServer(faults={"hang": 1}, fault_share=0.5, most_faults=1) as server,
        engine_at(server, timeout_seconds=8.0) as engine,
    ):
        for place in range(12):
            engine.submit(question_of(engine, place, row_of(f"prompt {place}")))
        found = {}
        while len(server.calls) < 12 or len(found) < 12 - server.met["hang"]:
            found |= {answer.handle: answer.text for answer in engine.collect(0.5)}
        assert server.met["hang"] > 3
        assert engine.collect(0.5) == []
        waited, answers = timed(lambda: engine.collect(60.0))
        assert answers
        # As long as a call may take, and not as long as this one would wait.
        assert waited < 30
        while answers:
            assert not set(found) & {answer.handle for answer in answers}
            found |= {answer.handle: answer.text for answer in answers}
            answers = engine.collect(60.0)
    assert found == {place: f"prompt {place} {place}" for place in range(12)}


def running_threads() -> set[threading.Thread]:
    """The threads that somebody started; a stranger's thread (pytest-xdist's) counts as soon as it logs something."""
    return {thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)}


def end_of_threads(before: set[threading.Thread]) -> bool:
    """Whether all threads but these end; those of an event loop that look up addresses are not waited for by it."""
    patience = time.monotonic() + 60
    while not running_threads() <= before:
        if time.monotonic() > patience:
            return False
        time.sleep(0.05)
    return True


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call took, and what it gave."""
    start = time.monotonic()
    found = call()
    return time.monotonic() - start, found


def test_a_handler_of_a_signal_runs_while_answers_are_awaited() -> None:
    class Enough(Exception):
        pass

    def stop(*_: object) -> None:
        raise Enough

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with FaultServer(faults={"hang": 1}, fault_share=1) as server, engine_at(server) as engine:
            engine.submit(question_of(engine, 0, row_of()))
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Enough):
                engine.collect()
    finally:
        signal.signal(signal.SIGALRM, before)


# --- headers ---


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 -0000"}, 30.0),
        ({"retry-after": "Wed, 15 Nov 2023 00:13:50 +0200"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
    ],
)
def test_how_long_a_server_wants_to_be_left_alone(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == (None if seconds is None else pytest.approx(seconds))


@given(value=st.text(), name=st.sampled_from(["retry-after", "retry-after-ms"]))
def test_whatever_a_server_writes_there_is_seconds_or_nothing(value: str, name: str) -> None:
    found = retry_after({name: value}, NOW)
    assert found is None or 0 <= found < float("inf")


# --- the program ---


def generate(tmp_path: Path, server: FaultServer, rows: Sequence[Mapping[str, Any]], **settings: Any) -> list[str]:
    """Writes what generate.py needs and gives its command."""
    write_table(tmp_path / "requests.parquet", REQUESTS, rows)
    write_receipt(tmp_path / "receipt.json", describe_api_model("teacher", "api:here/tiny"))
    tuning = {"base_url": server.base_url, "model": server.model, "api_key_variable": KEY_VARIABLE, **settings}
    return [
        sys.executable, str(ROOT / "scripts" / "generate.py"), "--engine", "openai", "--device", "cpu",
        "--requests", str(tmp_path / "requests.parquet"), "--model", str(tmp_path / "receipt.json"),
        "--tuning", json.dumps(tuning), "--max-failed", "0.5", "--stage", "prefilter/generate",
        "--completions", str(tmp_path / "completions.parquet"), "--account", str(tmp_path / "account.json"),
    ]  # fmt: skip


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)


@pytest.mark.usefixtures("with_key")
def test_the_program_writes_answers_failures_and_retries_and_never_the_key(tmp_path: Path) -> None:
    rows = [row_of(f"prompt {place}", n=2, source="s") for place in range(10)]
    with FaultServer(
        key=KEY, faults={"500": 1, "nothing": 1}, fault_share=0.4, most_faults=1, statuses={"prompt 4": 400},
        message="the key {key} may not ask this, says " + "x" * 260 + " {key}",
    ) as server:  # fmt: skip
        done = subprocess.run(generate(tmp_path, server, rows), capture_output=True, text=True, check=False)
        bad = sum(count for fault, count in server.met.items() if fault in ("500", "nothing"))
    assert done.returncode == 0, done.stderr
    completions = list(read_rows(tmp_path / "completions.parquet", COMPLETIONS))
    assert [(row["item_id"], row["sample"]) for row in completions] == [
        (row["item_id"], sample) for row in rows for sample in range(2)
    ]
    failed = [row for row in completions if row["finish_reason"] == "error"]
    assert {row["item_id"] for row in failed} == {item_id("prompt 4")}
    assert all(row["error"].startswith("HTTP 400: the key (the key) may not ask this, says xxx") for row in failed)
    good = [row for row in completions if row["finish_reason"] == "stop"]
    assert len({row["text"] for row in good}) == 18
    stats = json.loads((tmp_path / "completions.run-stats.json").read_text())
    assert (stats["asked"], stats["failed"], stats["retries"]) == (20, 2, bad)
    assert bad > 2
    account = json.loads((tmp_path / "account.json").read_text())
    assert (account["prompt_tokens"], account["completion_tokens"]) == (18 * 2, 18 * 3)
    for text in (done.stdout, done.stderr, str(completions), *everything_in(tmp_path)):
        assert KEY not in text


def everything_in(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes().decode("latin-1")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, f"error: the environment variable {KEY_VARIABLE}, named in api_key_variable, holds no key: export it"),
        ("sk-wrong", f"does not accept the key in {KEY_VARIABLE}; it says: HTTP 401: no, (the key)"),
    ],
)
def test_the_program_ends_with_one_line_where_the_key_is_missing_or_wrong(
    tmp_path: Path, key: str | None, message: str
) -> None:
    environment = {**os.environ, **({KEY_VARIABLE: key} if key else {})}
    with FaultServer(key=KEY, message="no, {key}") as server:
        done = subprocess.run(
            generate(tmp_path, server, [row_of("a prompt")]),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(message)
    assert "Traceback" not in done.stderr
    assert "sk-" not in done.stderr
    assert not (tmp_path / "completions.parquet").exists()


@pytest.mark.usefixtures("with_key")
def test_a_program_that_is_told_to_end_ends_soon_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    rows = [row_of(f"prompt {place}") for place in range(50)]
    with FaultServer(faults={"hang": 1}, fault_share=0.5, most_faults=100) as server:
        command = [*generate(tmp_path, server, rows), "--drain-seconds", "1"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not server.met["hang"] and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        # Without the flag it would wait for twenty seconds.
        _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1].startswith("stopped: the job was told to end (SIGTERM); ")
    assert {path.name for path in tmp_path.iterdir()} == {"requests.parquet", "receipt.json"}


def test_the_program_says_what_it_needs_to_ask(tmp_path: Path) -> None:
    with FaultServer() as server:
        command = generate(tmp_path, server, [row_of("a prompt")])
    for tuning, said in (
        ("{}", "error: --engine openai wants --tuning"),
        ("{", "error: --tuning is no JSON: "),
        ("[]", "error: --tuning is no JSON object"),
    ):
        command[command.index("--tuning") + 1] = tuning
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(said)


def test_the_receipt_of_a_model_behind_an_api_has_an_identity_and_no_files(tmp_path: Path) -> None:
    command = [
        sys.executable, str(ROOT / "scripts" / "describe_api_model.py"), "--name", "teacher",
        "--identity", "api:here/tiny", "--receipt", str(tmp_path / "server.json"),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    receipt = read_receipt(tmp_path / "server.json")
    assert (receipt.name, receipt.origin, receipt.identity, receipt.files) == ("teacher", "api", "api:here/tiny", ())
    with pytest.raises(InputError, match=r"model teacher \(api:here/tiny\) is asked over HTTP: it has no files here"):
        folder_of(receipt)


# --- a build ---


@pytest.mark.slow
@pytest.mark.usefixtures("with_key")
def test_a_build_asks_a_server_through_the_rules_and_asks_again_only_for_what_changed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from corpusmith.toy.language_model import build_tokenizer  # seconds of torch that no other test here needs

    need_control()
    checkout = Checkout.with_environments(tmp_path_factory)
    build_tokenizer(1024).save_pretrained(tmp_path / "counter")
    truth = FaultServer(
        answer=lambda body, _: translate(prompt_of(body).removeprefix("Korean: ")),
        faults={"500": 1, "429": 1, "half": 1},
        fault_share=0.2,
        most_faults=1,
        retry_after=("retry-after", "1"),
        key=KEY,
    )

    def config(name: str, **openai: Any) -> tuple[str, str]:
        server = {
            "base_url": truth.base_url, "model": "tiny", "identity": "the truth", "api_key_variable": KEY_VARIABLE,
        }  # fmt: skip
        models = {
            "teacher": {"engine": "openai", "openai": server | openai},
            "counter": {"engine": "transformers", "path": str(tmp_path / "counter")},
        }
        dataset = "datasets__toy_translation__"
        steps = {f"{dataset}{step}__model": "teacher" for step in ("prefilter", "final")}
        return "--configfile", checkout.config(
            name, models=models, **{f"{dataset}sources__tokenizer": "counter"}, **steps
        )

    shard = "results-limit-40/toy-translation/prefilter/completions/0000-of-0001"
    with truth as server:
        printed = checkout.snakemake(f"{shard}.parquet", *config("api")).stdout
        bad = len(server.calls) - server.met[None]
        assert bad > 5
        assert set(server.answered.values()) == {1}
        assert len(server.answered) == 80

    requests = {
        (row["item_id"], row["request"]): row
        for row in read_rows(checkout.folder / f"{shard.replace('completions', 'requests')}.parquet", REQUESTS)
    }
    completions = list(read_rows(checkout.folder / f"{shard}.parquet", COMPLETIONS))
    assert len(completions) == len(requests) == 80
    for row in completions:
        assert row["text"] == translate(requests[row["item_id"], row["request"]]["source"])
    stats = json.loads((checkout.folder / f"{shard}.run-stats.json").read_text())
    assert (stats["asked"], stats["failed"], stats["retries"]) == (80, 0, bad)
    receipt = read_receipt(checkout.folder / "resources/models/teacher/server.json")
    assert (receipt.origin, receipt.identity) == ("api", "the truth")
    summary = json.loads((checkout.folder / "results-limit-40/toy-translation/sources/summary.json").read_text())
    assert summary["tokenizer"].startswith("counter (sha256:")

    # How fast, and where the same model is, rebuilds nothing; what answers, and how, does.
    for place, (change, rebuilt) in enumerate(
        [
            ({}, {}),
            ({"concurrency": 3, "samples_per_call": 2, "max_retries": 1, "api_key_variable": None}, {}),
            ({"base_url": "http://elsewhere/v1", "model": "large"}, {}),
            ({"extra_body": {"reasoning_effort": "low"}}, {"generate": 1}),
            ({"identity": None}, {"describe_api_model": 1, "generate": 1}),
        ]
    ):
        assert checkout.plan(f"{shard}.parquet", *config(f"change-{place}", **change)) == rebuilt, change
    for text in (printed, *everything_in(checkout.folder)):
        assert KEY not in text
