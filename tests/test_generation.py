"""From a table of requests to a table of completions: every sample in its place, whatever the engine does."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from corpusmith.accounting import Account
from corpusmith.engines.protocol import Answer, Engine, Prompt, Question
from corpusmith.engines.supervised import SupervisedEngine
from corpusmith.errors import InputError
from corpusmith.generation import GenerationStats, answer_requests, count_samples
from corpusmith.identity import item_id
from corpusmith.models import describe_folder, write_receipt
from corpusmith.requests import request
from corpusmith.store import Store
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, REQUESTS
from toy_models import causal_model, letter_tokenizer, save_causal

UNASKABLE = "unaskable"


class ScrambledEngine:
    """Answers what it is asked with the prompt and the seed, in an order of its own.

    failing: texts of prompts that get no answer; stubborn: answers the first question only when nothing else is left.
    submitted: how many questions came; most_ahead: how many of them while the first had no answer.
    """

    family = "scrambled"
    retries = 0
    heard = math.inf

    def __init__(
        self,
        capacity: int = 4,
        order: int = 0,
        *,
        failing: Iterable[str] = (),
        stubborn: bool = False,
        template: str = "",
    ) -> None:
        self.capacity, self.template = capacity, template
        self._rng, self._failing, self._stubborn = random.Random(order), set(failing), stubborn
        self._in_flight: list[Question] = []
        self.submitted = self.most_ahead = 0

    def prepare(self, request: Mapping[str, Any]) -> Prompt:
        text = request["prompt"]
        return Prompt(text, tuple(range(len(text))), "too long to ask" if text == UNASKABLE else None)

    def submit(self, question: Question) -> None:
        assert len(self._in_flight) < self.capacity
        assert question.prompt.error is None
        self._in_flight.append(question)
        self.submitted += 1
        if self._in_flight[0].handle == 1:
            self.most_ahead = self.submitted

    def collect(self, timeout: float | None = None) -> Sequence[Answer]:
        held = self._in_flight[:1] if self._stubborn and len(self._in_flight) > 1 else []
        ready = self._in_flight[len(held) :]
        self._rng.shuffle(ready)
        count = self._rng.randint(1, len(ready)) if ready else 0
        self._in_flight = held + ready[count:]
        return [self._answer(question) for question in ready[:count]]

    def _answer(self, question: Question) -> Answer:
        text, tokens = question.prompt.rendered, len(question.prompt.token_ids)
        if text in self._failing:
            return Answer(question.handle, "", "error", tokens, 0, "no luck")
        return Answer(question.handle, f"{text} {question.seed}", "stop", tokens, 2)

    def close(self) -> None:
        self._in_flight.clear()


def ask(
    tmp_path: Path,
    rows: Sequence[Mapping[str, Any]],
    engine: Engine,
    *,
    model: str = "model",
    max_failed: float = 0.0,
    store: Store | None = None,
) -> tuple[list[dict[str, Any]], Account, GenerationStats]:
    """The completions, the account and the stats of asking these requests."""
    write_table(tmp_path / "requests.parquet", REQUESTS, rows)
    account = Account("generate")
    stats = answer_requests(
        tmp_path / "requests.parquet", engine, model, tmp_path / "completions.parquet", account, max_failed, store
    )
    return list(read_rows(tmp_path / "completions.parquet", COMPLETIONS)), account, stats


def asking(text: str, n: int = 1, *, name: str = "sampled", temperature: float = 1.0, **more: Any) -> dict[str, Any]:
    return request(item_id(text), name, **{"prompt": text, "n": n, "temperature": temperature, "max_tokens": 8} | more)


# --- rows ---


@settings(max_examples=60)
@given(
    samples=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=12),
    capacity=st.integers(1, 7),
    order=st.integers(0, 10_000),
)
def test_rows_are_in_the_order_of_requests_and_samples_whatever_order_the_answers_come_in(
    tmp_path_factory: pytest.TempPathFactory, samples: list[tuple[int, int]], capacity: int, order: int
) -> None:
    requests = [asking(f"prompt {place}", n, first_sample=first) for place, (first, n) in enumerate(samples)]
    rows, account, stats = ask(tmp_path_factory.mktemp("shuffled"), requests, ScrambledEngine(capacity, order))
    expected = [
        (row["item_id"], row["prompt"], sample)
        for row in requests
        for sample in range(row["first_sample"], row["first_sample"] + row["n"])
    ]
    assert [(row["item_id"], row["text"].rpartition(" ")[0], row["sample"]) for row in rows] == expected
    assert {(row["request"], row["finish_reason"], row["error"]) for row in rows} <= {("sampled", "stop", None)}
    assert (stats.asked, stats.failed, stats.from_store, stats.retries) == (len(expected), 0, 0, 0)
    assert (account.taken.count, account.kept.count) == (len(requests), len(requests))


def test_an_answer_that_does_not_come_holds_back_no_question(tmp_path: Path) -> None:
    engine = ScrambledEngine(capacity=5, stubborn=True)
    rows, _, _ = ask(tmp_path, [asking(f"prompt {place}") for place in range(200)], engine)
    assert [row["text"].rpartition(" ")[0] for row in rows] == [f"prompt {place}" for place in range(200)]
    assert engine.most_ahead == 200


def test_memory_does_not_grow_with_the_number_of_requests(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / "requests.parquet"
        write_table(path, REQUESTS, (asking(f"prompt {place}") for place in range(count)))
        tracemalloc.start()
        answer_requests(path, ScrambledEngine(64), "model", tmp_path / "completions.parquet", Account("generate"), 0.0)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    # Rows are written in groups of 8,192 and looked up 4,096 at a time: from there on, more rows take no more memory.
    assert peak(27_000) < 1.1 * peak(18_000)


def test_no_requests_make_an_empty_table(tmp_path: Path) -> None:
    rows, account, stats = ask(tmp_path, [], ScrambledEngine())
    assert rows == []
    assert (account.taken.count, stats.asked, count_samples(tmp_path / "requests.parquet")) == (0, 0, 0)


# --- what an answer is known by ---


def by_sample(rows: Iterable[Mapping[str, Any]]) -> dict[int, tuple[str, str]]:
    return {row["sample"]: (row["text"], row["key"]) for row in rows}


def test_more_samples_of_a_prompt_leave_the_first_ones_as_they_are(tmp_path: Path) -> None:
    few, _, _ = ask(tmp_path, [asking("prompt", 2)], ScrambledEngine(order=1))
    many, _, _ = ask(tmp_path, [asking("prompt", 6)], ScrambledEngine(order=2))
    rest, _, _ = ask(tmp_path, [asking("prompt", 4, first_sample=2)], ScrambledEngine(order=3))
    assert by_sample(few) | by_sample(rest) == by_sample(many)
    assert sorted(by_sample(many)) == list(range(6))
    assert len({text for text, _ in by_sample(many).values()}) == 6


def test_one_prompt_of_two_items_has_the_same_answers(tmp_path: Path) -> None:
    twice = [asking("prompt", 3), request(item_id("other"), "again", prompt="prompt", temperature=1, n=3, max_tokens=8)]
    rows, _, _ = ask(tmp_path, twice, ScrambledEngine())
    assert by_sample(rows[:3]) == by_sample(rows[3:])


VARIANTS = {
    "temperature": asking("prompt", temperature=0.5),
    "top_p": asking("prompt", top_p=0.9),
    "top_k": asking("prompt", top_k=5),
    "max_tokens": asking("prompt", max_tokens=9),
    "stop": asking("prompt", stop=["x"]),
    "choices": asking("prompt", choices=["x"]),
    "more choices": asking("prompt", choices=["x", "y"]),
    "json_schema": asking("prompt", json_schema='{"type": "object"}'),
    "prompt": asking("prompt 2"),
}


def test_whatever_determines_an_answer_is_in_its_key_and_nothing_else(tmp_path: Path) -> None:
    plain = asking("prompt")
    rows, _, _ = ask(tmp_path, [plain, *VARIANTS.values()], ScrambledEngine())
    others, _, _ = ask(tmp_path, [plain], ScrambledEngine(template="other"))
    of_other_model, _, _ = ask(tmp_path, [plain], ScrambledEngine(), model="other")
    distinct = [row["key"] for row in [*rows, *others, *of_other_model]]
    assert len(set(distinct)) == len(distinct) == len(VARIANTS) + 3
    assert len({row["text"] for row in [*rows, *others, *of_other_model]}) == len(distinct)
    same = [asking("prompt", 5, source="a source", reference="a reference"), asking("prompt", name="other")]
    assert {row["key"] for row in ask(tmp_path, same, ScrambledEngine(9))[0]} == {rows[0]["key"]}


def test_what_greedy_decoding_does_not_look_at_is_not_in_its_key(tmp_path: Path) -> None:
    rows, _, _ = ask(
        tmp_path,
        [asking("prompt", temperature=0), asking("prompt", temperature=0, top_p=0.5, top_k=3), asking("prompt")],
        ScrambledEngine(),
    )
    assert rows[0]["key"] == rows[1]["key"] != rows[2]["key"]


# --- failures ---


def test_failed_answers_are_rows_with_their_reasons_and_are_counted(tmp_path: Path) -> None:
    requests = [asking("good", 2), asking("bad"), asking(UNASKABLE, 2), asking("fine", 5)]
    engine = ScrambledEngine(failing=["bad"])
    rows, account, stats = ask(tmp_path, requests, engine, max_failed=0.3)
    assert [(row["finish_reason"], row["error"]) for row in rows] == [
        *[("stop", None)] * 2,
        ("error", "no luck"),
        *[("error", "too long to ask")] * 2,
        *[("stop", None)] * 5,
    ]
    assert [row["text"] for row in rows if row["error"]] == ["", "", ""]
    assert (stats.asked, stats.failed) == (8, 3)
    assert engine.submitted == 8
    # Tokens: a prompt has one a letter, an answer two.
    assert account.prompt_tokens == 2 * 4 + 3 + 2 * len(UNASKABLE) + 5 * 4
    assert account.completion_tokens == 7 * 2
    assert account.as_json()["kept"] == 4
    account.check()


@pytest.mark.parametrize(("failing", "max_failed"), [(0, 0.0), (1, 0.125), (2, 0.26), (8, 1.0)])
def test_as_many_failures_as_allowed_pass(tmp_path: Path, failing: int, max_failed: float) -> None:
    requests = [asking(f"prompt {place}") for place in range(8)]
    engine = ScrambledEngine(failing=[f"prompt {place}" for place in range(failing)])
    rows, _, stats = ask(tmp_path, requests, engine, max_failed=max_failed)
    assert sum(row["error"] is not None for row in rows) == stats.failed == failing


@pytest.mark.parametrize(("failing", "max_failed"), [(1, 0.0), (2, 0.125), (2, 0.24), (8, 0.99)])
def test_more_failures_than_allowed_fail_the_job_and_leave_no_table(
    tmp_path: Path, failing: int, max_failed: float
) -> None:
    requests = [asking(f"prompt {place}") for place in range(8)]
    engine = ScrambledEngine(failing=[f"prompt {place}" for place in range(failing)])
    with pytest.raises(InputError) as caught:
        ask(tmp_path, requests, engine, max_failed=max_failed)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'requests.parquet'}: {failing} of 8 samples failed")
    assert f"item {item_id(f'prompt {failing - 1}')}, request sampled, sample 0: no luck" in message
    assert os.listdir(tmp_path) == ["requests.parquet"]


class BrokenEngine(ScrambledEngine):
    """Breaks down after some answers."""

    def collect(self, timeout: float | None = None) -> Sequence[Answer]:
        if self.submitted > 10:
            raise RuntimeError("the machine is on fire")
        return super().collect(timeout)


def test_an_engine_that_breaks_down_leaves_the_table_that_was_there(tmp_path: Path) -> None:
    before, _, _ = ask(tmp_path, [asking("prompt")], ScrambledEngine())
    with pytest.raises(RuntimeError, match="on fire"):
        ask(tmp_path, [asking(f"prompt {place}") for place in range(50)], BrokenEngine())
    assert list(read_rows(tmp_path / "completions.parquet", COMPLETIONS)) == before
    assert sorted(os.listdir(tmp_path)) == ["completions.parquet", "requests.parquet"]


# --- accounts ---


def test_an_item_with_several_requests_is_kept_once(tmp_path: Path) -> None:
    requests = [
        row for text in ("one", "two", "three") for row in (asking(text, name="greedy", temperature=0), asking(text, 4))
    ]
    _, account, _ = ask(tmp_path, requests, ScrambledEngine())
    assert account.as_json()["in"] == account.as_json()["kept"] == 3
    total = sum(int(item_id(text), 16) for text in ("one", "two", "three")) % 2**128
    assert account.kept.sum == account.taken.sum == total


# --- the program, with a real model ---


@pytest.fixture(scope="module")
def receipt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The receipt of a tiny model."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = letter_tokenizer()
    save_causal(causal_model(tokenizer), tokenizer, folder)
    path = tmp_path_factory.mktemp("receipts") / "receipt.json"
    write_receipt(path, describe_folder(folder, "tiny", "local"))
    return path


def generate(
    tmp_path: Path, receipt: Path, *flags: str, python: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    command = [
        *(sys.executable, *python, str(ROOT / "scripts" / "generate.py")),
        *("--requests", str(tmp_path / "requests.parquet"), "--model", str(receipt), "--engine", "transformers"),
        *("--device", "cpu", "--dtype", "float64", "--stage", "answers"),
        *("--completions", str(tmp_path / "completions.parquet"), "--account", str(tmp_path / "account.json")),
        *flags,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=environment)


def mixed_requests() -> list[dict[str, Any]]:
    found = []
    for text in ("a", "abcdefg" * 6, "cab", "ffffee"):
        messages = [{"role": "user", "content": text}]
        found.append(asking(text, name="greedy", temperature=0, prompt=None, messages=messages))
        found.append(asking(text, 5, top_p=0.9))
        found.append(asking(text, 2, name="verdict", choices=["ab", "abc", "g"]))
    return found


def test_the_program_writes_the_same_bytes_for_every_batch_size(tmp_path: Path, receipt: Path) -> None:
    from corpusmith.engines.transformers_engine import TransformersEngine
    from corpusmith.models import read_receipt

    write_table(tmp_path / "requests.parquet", REQUESTS, mixed_requests())
    done = generate(tmp_path, receipt, "--batch-size", "7")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "completions.parquet").read_bytes()
    model = read_receipt(receipt)
    engine = TransformersEngine(model.folder or "", device="cpu", dtype="float64", batch_size=1)
    rows, account, _ = ask(tmp_path, mixed_requests(), engine, model=model.identity)
    assert (tmp_path / "completions.parquet").read_bytes() == written
    assert len(rows) == 4 * (1 + 5 + 2)
    assert {row["text"] for row in rows if row["request"] == "verdict"} <= {"ab", "abc", "g"}
    in_account = json.loads((tmp_path / "account.json").read_text())
    assert in_account == account.as_json() | {"stage": "answers"}
    # A greedy prompt is wrapped into "<s>", "</s>" and "<s>", a raw one begins with "<s>".
    letters = 1 + 42 + 3 + 6
    assert in_account["prompt_tokens"] == (letters + 4 * 3) + 7 * (letters + 4)
    run_stats = json.loads((tmp_path / "completions.run-stats.json").read_text())
    assert {name: run_stats[name] for name in ("stage", "asked", "from_store", "failed", "retries")} == {
        "stage": "answers",
        "asked": 32,
        "from_store": 0,
        "failed": 0,
        "retries": 0,
    }


def test_an_empty_shard_needs_no_model(tmp_path: Path) -> None:
    write_table(tmp_path / "requests.parquet", REQUESTS, [])
    done = generate(tmp_path, tmp_path / "there is no receipt.json", python=["-X", "importtime"])
    assert done.returncode == 0, done.stderr
    assert "corpusmith.generation" in done.stderr
    assert "torch" not in done.stderr
    assert list(read_rows(tmp_path / "completions.parquet", COMPLETIONS)) == []
    account = json.loads((tmp_path / "account.json").read_text())
    assert (account["stage"], account["in"], account["kept"], account["dropped"]) == ("answers", 0, 0, {})
    assert json.loads((tmp_path / "completions.run-stats.json").read_text())["asked"] == 0


def test_the_program_ends_with_one_line_when_too_much_fails(tmp_path: Path, receipt: Path) -> None:
    requests = [asking("abc", 3), asking("a" * 300), asking("abc", json_schema='{"type": "frob"}')]
    write_table(tmp_path / "requests.parquet", REQUESTS, requests)
    done = generate(tmp_path, receipt, "--max-failed", "0.3")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {tmp_path / 'requests.parquet'}: 2 of 5 samples failed")
    assert "frob" in last
    assert "the prompt has 301 tokens, the model takes 256" in done.stderr
    assert os.listdir(tmp_path) == ["requests.parquet"]


# --- the store ---


def test_what_is_in_the_store_is_not_asked_again_and_more_samples_pay_for_the_difference(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    few, _, paid = ask(tmp_path, [asking("a", 3), asking("b", 3)], ScrambledEngine(), store=store)
    assert (paid.asked, paid.from_store) == (6, 0)
    engine = ScrambledEngine(order=9)
    many, _, paid = ask(tmp_path, [asking("b", 5), asking("a", 5)], engine, store=store)
    assert (paid.asked, paid.from_store, engine.submitted) == (4, 6, 4)
    texts = {(row["item_id"], row["sample"]): row["text"] for row in many}
    assert all(texts[row["item_id"], row["sample"]] == row["text"] for row in few)
    assert many == ask(tmp_path, [asking("b", 5), asking("a", 5)], ScrambledEngine())[0]


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"max_tokens": 9},
        {"stop": ["x"]},
        {"choices": ["x", "y"]},
        {"first_sample": 1},
    ],
)
def test_a_request_that_differs_is_asked(tmp_path: Path, other: Mapping[str, Any]) -> None:
    store = Store(tmp_path / "store")
    ask(tmp_path, [asking("a")], ScrambledEngine(), store=store)
    assert ask(tmp_path, [asking("a", **other)], ScrambledEngine(), store=store)[2].asked == 1


def test_another_model_or_chat_template_is_asked_and_another_name_of_the_request_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    ask(tmp_path, [asking("a")], ScrambledEngine(), store=store)
    assert ask(tmp_path, [asking("a", name="again")], ScrambledEngine(), store=store)[2].asked == 0
    assert ask(tmp_path, [asking("a")], ScrambledEngine(template="other"), store=store)[2].asked == 1
    assert ask(tmp_path, [asking("a")], ScrambledEngine(), model="other", store=store)[2].asked == 1


def test_failures_are_not_kept_and_the_answers_of_a_failed_job_are(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    rows = [asking(f"prompt {place}") for place in range(20)]
    with pytest.raises(InputError, match="max_failed"):
        ask(tmp_path, rows, ScrambledEngine(failing=["prompt 7"]), store=store)
    assert not (tmp_path / "completions.parquet").exists()
    assert ask(tmp_path, rows, ScrambledEngine(), store=store)[2].asked == 1


def test_an_engine_is_not_started_for_what_is_known_or_cannot_be_asked(tmp_path: Path) -> None:
    def start(share: float) -> Engine:
        started.append(ScrambledEngine(capacity=3))
        return started[-1]

    started: list[ScrambledEngine] = []
    store = Store(tmp_path / "store")
    rows = [asking("a", 4), asking(UNASKABLE), asking("b", 4)]
    first, _, _ = ask(
        tmp_path, rows, SupervisedEngine(ScrambledEngine(), start, stall_timeout=60), store=store, max_failed=0.5
    )
    assert [engine.submitted for engine in started] == [8]
    again, _, stats = ask(
        tmp_path, rows, SupervisedEngine(ScrambledEngine(), start, stall_timeout=60), store=store, max_failed=0.5
    )
    assert (len(started), stats.asked, stats.from_store, stats.failed) == (1, 0, 8, 1)
    assert again == first


@settings(max_examples=40)
@given(known=st.sets(st.integers(0, 40)), capacity=st.integers(1, 5), order=st.integers(0, 1000))
def test_known_and_new_answers_come_out_in_order(
    tmp_path_factory: pytest.TempPathFactory, known: set[int], capacity: int, order: int
) -> None:
    folder = tmp_path_factory.mktemp("mixed")
    store = Store(folder / "store")
    rows = [asking(f"prompt {place}") for place in range(41)]
    ask(folder, [rows[place] for place in sorted(known)], ScrambledEngine(), store=store)
    mixed, _, stats = ask(folder, rows, ScrambledEngine(capacity, order, stubborn=True), store=store)
    assert [row["item_id"] for row in mixed] == [row["item_id"] for row in rows]
    assert (stats.from_store, stats.asked) == (len(known), 41 - len(known))
    assert mixed == ask(folder, rows, ScrambledEngine())[0]
