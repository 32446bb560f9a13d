"""The openai engine in front of vLLM's own server: a real one, on a CPU, over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest

from corpusmith.engines import openai_engine
from corpusmith.engines.openai_engine import OpenAIEngine
from corpusmith.engines.process_guard import end_marked, marked, release, start_guard
from corpusmith.engines.protocol import Answer
from corpusmith.engines.transformers_engine import TransformersEngine
from corpusmith.errors import InputError
from fault_server import FaultServer
from test_openai_engine import answers_of, dead_port
from test_vllm_engine import (
    CHOICES,
    HALF,
    MAX_LENGTH,
    SCHEMA,
    SEEDS,
    STOPS,
    TEMPERATURE,
    TEXTS,
    chance_of,
    greedy_by_transformers,
    message,
    row,
    save_model,
    vllm_environment,
)

pytestmark = pytest.mark.slow

MODEL, KEY, KEY_VARIABLE = "tiny", "sk-the-tests", "KEY_OF_THE_TESTS"
# What most servers fill in where a call does not say otherwise, from a file that most models bring along.
SETTINGS_OF_THE_MODEL = {"temperature": 0.1, "top_k": 1, "top_p": 0.1, "min_p": 0.9, "repetition_penalty": 3.0}
SECONDS_TO_START, SECONDS_TO_END = 300, 30


@dataclass
class Server:
    """base_url: where it is; model: the folder of its model, without the settings that the server fills in."""

    base_url: str
    model: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """vLLM's server, which wants a key; ended by its process, and nothing of it is left."""
    environment, folder = vllm_environment(), tmp_path_factory.mktemp("server")
    model = save_model(folder / "model")
    served = shutil.copytree(model, folder / "served")
    (served / "generation_config.json").write_text(json.dumps(SETTINGS_OF_THE_MODEL))
    port, entry = dead_port(), f"CORPUSMITH_TEST_SERVER={folder}"
    name, _, value = entry.partition("=")
    command = [
        environment / "bin" / "python", "-m", "vllm.entrypoints.openai.api_server",
        "--model", served, "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", port,
        "--dtype", "float32", "--max-num-seqs", 8, "--enforce-eager", "--no-enable-chunked-prefill",
        "--kv-cache-memory-bytes", "1G",
        # Weak models get lost in white space.
        "--structured-outputs-config", json.dumps({"backend": "xgrammar", "disable_any_whitespace": True}),
    ]  # fmt: skip
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "VLLM", "HF_"))}
    settings |= {
        name: value, "HOME": str(folder), "VLLM_API_KEY": KEY, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    # Should these tests be killed.
    guard = start_guard(entry, folder / "nothing")
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)), env=settings, stdout=output, stderr=output, start_new_session=True
        )
    try:
        base_url = f"http://127.0.0.1:{port}/v1"
        deadline = time.monotonic() + SECONDS_TO_START
        while not answers_at(base_url):
            assert process.poll() is None, log.read_text()[-6000:]
            assert time.monotonic() < deadline, log.read_text()[-6000:]
            time.sleep(0.5)
        yield Server(base_url, model)
        process.terminate()
        assert process.wait(SECONDS_TO_END) is not None
        assert marked(entry) == []
    finally:
        process.kill()
        process.wait()
        end_marked(entry, 0.0)
        release(guard)


def answers_at(base_url: str) -> bool:
    try:
        return httpx2.get(f"{base_url}/models", headers={"authorization": f"Bearer {KEY}"}, trust_env=False).is_success
    except httpx2.TransportError:
        return False


@pytest.fixture
def engine_of(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., OpenAIEngine]]:
    """Makes engines that ask the server, or what stands in front of it."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setattr(openai_engine, "_LONGEST_BACKOFF", 0.02)
    made: list[OpenAIEngine] = []

    def make(**settings: Any) -> OpenAIEngine:
        usual = {"base_url": server.base_url, "model": MODEL, "api_key_variable": KEY_VARIABLE, "proxies": False}
        made.append(OpenAIEngine(structured_output="vllm", **usual | settings))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


EngineMaker = Callable[..., OpenAIEngine]


def texts_of(answers: list[Answer]) -> list[str]:
    assert all(answer.error is None for answer in answers)
    return [answer.text for answer in answers]


def alone(engine: OpenAIEngine, rows: list[dict[str, Any]]) -> list[str]:
    """Answers to rows that are asked one after the other."""
    return [text for one in rows for text in texts_of(answers_of(engine, [one]))]


def test_greedy_answers_are_those_of_transformers(server: Server, engine_of: EngineMaker) -> None:
    rows = [row(messages=message(text)) for text in TEXTS]
    rows += [row(messages=message(text), stop=STOPS) for text in TEXTS]
    rows += [row(prompt=f"Korean: {text}") for text in TEXTS] + [row(token_ids=[5, 400, 300])]
    # As long as there is room.
    rows += [row(max_tokens=MAX_LENGTH - 1)]
    reference = TransformersEngine(server.model, device="cpu", dtype="float32", batch_size=16)
    expected = greedy_by_transformers(reference, rows)
    # Where an answer holds half a character the server leaves it out, and transformers puts a sign there.
    whole = [place for place, answer in enumerate(expected) if HALF not in answer["text"]]
    found = answers_of(engine_of(), rows)
    assert [vars(found[place]) for place in whole] == [expected[place] for place in whole]
    assert len(whole) > len(rows) * 0.7
    assert {answer.finish_reason for answer in found} == {"stop", "length"}
    assert len({answer.text for answer in found}) > len(rows) / 2


@pytest.mark.parametrize("samples_per_call", [1, 4])
def test_samples_have_the_probabilities_of_the_model(
    server: Server, engine_of: EngineMaker, samples_per_call: int
) -> None:
    rows = [row(seed, temperature=TEMPERATURE, max_tokens=1) for seed in range(SEEDS)]
    found = texts_of(answers_of(engine_of(samples_per_call=samples_per_call), rows))
    assert chance_of(found, server.model) > 1e-3


def test_a_sample_depends_on_its_seed_and_not_on_the_time_or_on_the_call_that_it_shares(
    engine_of: EngineMaker,
) -> None:
    one, four = engine_of(), engine_of(samples_per_call=4)
    rows = [row(1000 + seed, messages=message(text), temperature=1.0) for seed, text in enumerate(TEXTS)]
    found = alone(one, rows)
    assert alone(one, rows) == found
    others = alone(one, [other | {"seed": other["seed"] + 1} for other in rows])
    assert all(text != other for text, other in zip(found, others, strict=True))
    # What shares a call has the seeds that follow that of the call.
    together = [rows[0] | {"seed": 1000 + place} for place in range(4)]
    assert texts_of(answers_of(four, together)) == alone(one, together)


@pytest.mark.parametrize("samples_per_call", [1, 4])
def test_a_choice_is_one_of_those_and_json_keeps_to_its_schema(engine_of: EngineMaker, samples_per_call: int) -> None:
    engine = engine_of(samples_per_call=samples_per_call)
    chosen = texts_of(answers_of(engine, [row(seed, temperature=1.0, choices=CHOICES) for seed in range(40)]))
    assert set(chosen) <= set(CHOICES)
    assert len(set(chosen)) > 1
    asked = {"temperature": 1.0, "max_tokens": 60, "json_schema": json.dumps(SCHEMA)}
    answers = answers_of(engine, [row(seed, **asked) for seed in range(20)])
    found = [json.loads(text) for text in texts_of(answers)]
    for value in found:
        jsonschema.validate(value, SCHEMA)
    assert len({value["count"] for value in found}) > 3
    assert {answer.finish_reason for answer in answers} == {"stop"}


def test_what_cannot_be_asked_costs_its_rows_and_is_asked_once(engine_of: EngineMaker) -> None:
    engine = engine_of()
    rows = [
        row(prompt="Mina" * 200),
        row(token_ids=[10_000]),
        row(max_tokens=10_000),
        row(json_schema=json.dumps({"type": "objct"})),
        row(),
    ]
    *refused, fine = answers_of(engine, rows)
    assert [(answer.finish_reason, answer.text) for answer in refused] == [("error", "")] * 4
    said = ["HTTP 400: .*maximum context length", "out of vocabulary", "max_tokens=10000", "objct"]
    for answer, what in zip(refused, said, strict=True):
        with pytest.raises(ValueError, match=what):
            raise ValueError(answer.error)
    assert (fine.error, bool(fine.text)) == (None, True)
    assert engine.retries == 0


def test_a_wrong_key_and_a_wrong_model_end_the_job(engine_of: EngineMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="knows no model 'large'"):
        answers_of(engine_of(model="large"), [row()])
    monkeypatch.setenv(KEY_VARIABLE, "sk-another")
    with pytest.raises(InputError, match=f"does not accept the key in {KEY_VARIABLE}"):
        answers_of(engine_of(), [row()])


@pytest.mark.parametrize("samples_per_call", [1, 4])
def test_all_answers_arrive_once_where_a_third_is_lost_on_the_way(
    server: Server, engine_of: EngineMaker, samples_per_call: int
) -> None:
    texts = [f"{text} {place}" for place in range(12) for text in ("Mina", "Korean: 사과")]
    rows = [row(8 * place + sample, messages=message(text), temperature=1.0)
            for place, text in enumerate(texts) for sample in range(6)]  # fmt: skip
    rows += [row(prompt=text) for text in texts]
    faults = dict.fromkeys(("half", "broken json", "nothing", "reset", "502"), 1.0)
    with FaultServer(upstream=server.base_url, faults=faults, fault_share=1 / 3, seed=2) as way:
        engine = engine_of(base_url=way.base_url, samples_per_call=samples_per_call)
        answers = answers_of(engine, rows)
        engine.close()
        lost = len(way.calls) - way.met[None]
        assert set(way.answered.values()) == {1}
        assert len(way.answered) == way.met[None] == (24 * 6 if samples_per_call == 1 else 24 * 2) + 24
        assert engine.retries == lost > len(way.calls) / 5
        assert set(way.met) == {None, *faults}
    texts = texts_of(answers)
    assert len(set(texts[: 24 * 6])) > 24 * 6 * 0.9
    # Greedy answers are those that come straight from the server.
    assert texts[24 * 6 :] == texts_of(answers_of(engine_of(), rows[24 * 6 :]))
    assert all(answer.prompt_tokens > 0 and answer.completion_tokens > 0 for answer in answers)
