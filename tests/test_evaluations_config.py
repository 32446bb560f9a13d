"""What a config says of evaluations: what is refused, what is built, and with which flags; and what its page shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from corpusmith.config import resolve_config
from corpusmith.errors import InputError
from corpusmith.evaluations import settings
from corpusmith.evaluations.task_files import files_of_task, needs_fetching

CONFIG = """
models:
  base: {engine: transformers, repo: owner/base, trust_remote_code: true}
  other: {engine: transformers, toy: {}}
  server: {engine: openai, openai: {base_url: "https://example.org/v1", model: large}}
evaluations:
  models: [base]
  device: cpu
  tasks:
    ifeval: {chat_template: true, limit: 100}
    knowledge: {task: mmlu, num_fewshot: 5, metrics: [acc]}
"""
TUNING = {
    "student": {"base": "base"},
    "dpo": {"base": "base", "adapter": "student"},
    "other-student": {"base": "other", "adapter": None},
}


def given(**evaluations: Any) -> dict[str, Any]:
    config = yaml.safe_load(CONFIG)
    config["evaluations"] |= evaluations
    return config


def resolved(**evaluations: Any) -> dict[str, Any]:
    """With adaptations, of which the config as a whole has its own checks."""
    names = evaluations.pop("models", None)
    config = resolve_config(given(**evaluations))
    config["tuning"] = TUNING
    config["evaluations"]["models"] = names or config["evaluations"]["models"]
    return config


PROMPTED = {
    "models": {"base": {"engine": "vllm", "repo": "owner/base"}},
    "tuning": {"p": {"method": "sft", "base": "base", "adaptation": "prompt", "data": {"files": ["rows.jsonl"]}}},
}
HARNESS = {"command": ["run"], "result": "r.json", "metrics": {"right": {"value": "right"}}}
REFUSED = [
    ({"models": ["nobody"]}, "models.0: there is no model or tuning nobody; allowed: base, other"),
    ({"models": ["server"]}, "models.0: server is asked over HTTP, and has no files to evaluate; allowed: base, other"),
    ({"tasks": {}}, "tasks: there is no task to evaluate on; allowed: one or more, or no models"),
    ({"models": []}, "models: there is no model to evaluate; allowed: base, other"),
    ({"tasks": {"a": {"task": "mmlu", "file": "b"}}}, "tasks.a: task and file are both given; allowed: one of them"),
    ({"harnesses": {"ifeval": HARNESS}}, "harnesses.ifeval: there is a task of that name; allowed: any other name"),
    ({"gpus": 2}, "gpus: 2 GPUs with device: cpu; allowed: 1, or device: cuda"),
    ({"backend": "vllm"}, "device: cpu with backend: vllm; allowed: cuda, or backend: hf"),
    (
        {"backend": "vllm", "device": "cuda", "dtype": "float64"},
        "dtype: vLLM knows no float64; allowed: float32, bfloat16, float16",
    ),
    ({"tasks": {"a": {"shots": 1}}}, "tasks.a.shots: there is no such key; allowed: chat_template, confirm_"),
    ({"harnesses": {"a": {"command": ["run"], "result": "r"}}}, "harnesses.a.metrics: is missing"),
    ({"batch_size": "many"}, "batch_size: 'many' does not fit here; allowed: what matches ^auto$"),
]


@pytest.mark.parametrize(("evaluations", "said"), REFUSED)
def test_what_contradicts_itself_is_refused_with_what_is_allowed(evaluations: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_config(given(**evaluations))
    assert str(caught.value).startswith(f"config: evaluations.{said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("evaluations", "said"),
    [
        ({"backend": "vllm"}, "backend: vllm, which runs no trained prompt such as p; allowed: backend: hf, or"),
        (
            {"harnesses": {"a": HARNESS}},
            "harnesses.a: served by vLLM, which runs no trained prompt such as p; allowed: a server.command that",
        ),
        ({"harnesses": {"a": HARNESS | {"server": {"command": ["serve", "{model}"]}}}}, None),
        ({"backend": "vllm", "models": ["base"]}, None),
    ],
)
def test_a_trained_prompt_is_not_evaluated_by_what_cannot_run_it(evaluations: dict[str, Any], said: str | None) -> None:
    config = PROMPTED | {"evaluations": {"models": ["p"], "tasks": {"mmlu": {}}, **evaluations}}
    if said is None:
        resolve_config(config)
        return
    with pytest.raises(InputError) as caught:
        resolve_config(config)
    assert str(caught.value).startswith(f"config: evaluations.{said}")


def test_a_config_of_tunings_alone_is_one() -> None:
    assert set(resolve_config(PROMPTED)["tuning"]) == {"p"}


def test_nothing_is_evaluated_where_the_config_says_nothing() -> None:
    config = resolve_config(yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text()) | {"evaluations": {}})
    assert (settings.results(config), settings.comparisons(config)) == ([], [])


def test_what_an_adaptation_stands_on_is_evaluated_before_it() -> None:
    config = resolved(models=["other-student", "dpo", "base"])
    assert settings.evaluated(config) == ["other", "other-student", "base", "student", "dpo"]
    assert settings.compared(config) == [
        ("other-student", "other"),
        ("student", "base"),
        ("dpo", "student"),
        ("dpo", "base"),
    ]
    assert settings.results(config)[:2] == ["results/evals/other/ifeval.json", "results/evals/other/knowledge.json"]
    assert settings.comparisons(config) == ["results/evals/comparison.md"]
    assert settings.receipt_of(config, "base") == "resources/models/base/fetch.json"
    assert settings.receipt_of(config, "other") == "results/models/other/receipt.json"
    assert settings.receipt_of(config, "dpo") == "results/models/dpo/receipt.json"
    flags = settings.comparison_flags(config)
    assert flags[: flags.index("--compare")] == [
        *("--evaluations", "results/evals", "--models", *settings.evaluated(config)),
        *("--task", "ifeval", "--task", "knowledge", "acc"),
    ]
    assert flags[-3:] == ["--training", "dpo", "results/models/dpo/training.json"]


def test_a_try_evaluates_no_more_items_than_its_limit_in_its_own_folder() -> None:
    config = resolved()
    config["limit"] = 20
    assert settings.results(config)[0] == "results-limit-20/evals/base/ifeval.json"
    for name, limit in (("ifeval", "20"), ("knowledge", "20")):
        flags = settings.task_flags(config, name)
        assert flags[flags.index("--limit") + 1] == limit
    config["limit"] = 200
    flags = settings.task_flags(config, "ifeval")
    assert flags[flags.index("--limit") + 1] == "100"


def test_flags_say_how_a_task_is_run_and_code_runs_only_where_it_may() -> None:
    config = resolved(seed=7, gpus=1, model_args={"add_bos_token": True})
    assert settings.task_flags(config, "ifeval") == [
        *("--task", "ifeval", "--limit", "100", "--seed", "7", "--chat-template"),
    ]
    assert settings.task_flags(config, "knowledge") == [
        *("--task", "mmlu", "--num-fewshot", "5", "--seed", "7"),
    ]
    # Which metrics are compared changes no measurement.
    assert settings.fetch_flags(config, "knowledge") == ["--task", "mmlu", "--metrics", "acc"]
    assert settings.model_flags(config, "dpo") == [
        *("--base", "resources/models/base/fetch.json", "--backend", "hf", "--model-args", '{"add_bos_token": true}'),
        *("--device", "cpu", "--dtype", "bfloat16", "--trust-remote-code"),
    ]
    assert "--trust-remote-code" not in settings.model_flags(config, "other")
    assert settings.environment(config) == "benchmark-cpu"
    assert settings.environment(resolved(device="cuda", backend="vllm")) == "benchmark-vllm"
    assert settings.environment(resolved(device="cuda"), harness=True) == "vllm"


def test_a_model_that_does_not_fit_on_its_gpus_is_known_before_it_is_fetched(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    config = resolved(device="cuda", resources={"gpu_memory_gb": 24})
    assert settings.memory_problem(config, "dpo") is None
    config["models"]["base"]["parameters_b"] = 70
    # 70 billion of two bytes each.
    said = "evaluations.gpus: 1: base needs 130.4 GB of each GPU for its weights, and there are 24.0 GB"
    assert said in (settings.memory_problem(config, "dpo") or "")
    config["evaluations"]["gpus"] = 8
    assert settings.memory_problem(config, "dpo") is None


# --- task files ---


def write_task(folder: Path, **keys: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump({"task": "mine", "dataset_path": "json", **keys}))
    return path


def test_a_task_file_comes_with_all_that_it_reads(tmp_path: Path) -> None:
    path = write_task(tmp_path, dataset_kwargs={"data_files": {"test": ["*.jsonl"], "train": "more/gone.jsonl"}})
    for name in ("a.jsonl", "b.jsonl", "other.txt", "checks.py"):
        (tmp_path / name).write_text("{}")
    path.write_text(path.read_text() + "process_results: !function checks.process\n")
    names = ["task.yaml", "checks.py", "a.jsonl", "b.jsonl", "more/gone.jsonl"]
    assert files_of_task(path) == [str(tmp_path / name) for name in names]
    assert not needs_fetching(path)


@pytest.mark.parametrize(
    "keys",
    [
        {"dataset_path": "owner/data"},
        {"include": "other.yaml"},
        {"custom_dataset": "x"},
        {"group": "g", "task": ["mmlu"]},
    ],
)
def test_what_may_lie_on_the_hub_is_fetched_first(tmp_path: Path, keys: dict[str, Any]) -> None:
    path = write_task(tmp_path, **keys)
    (tmp_path / "other.yaml").write_text("dataset_path: json")
    assert needs_fetching(path)
    config = resolved(tasks={"mine": {"file": str(path)}, "ifeval": {}})
    assert settings.fetched(config, "mine") == ["resources/tasks/mine.json"]
    assert settings.fetched(config, "ifeval") == ["resources/tasks/ifeval.json"]


def test_a_task_file_that_the_build_makes_is_read_by_nobody_before(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    config = resolved(tasks={"mine": {"file": "results/toy/task.yaml"}})
    (tmp_path / "results").mkdir()
    for _ in range(2):
        assert settings.task_files(config, "mine") == ["results/toy/task.yaml"]
        assert settings.fetched(config, "mine") == []
        # Once it is there, its inputs have to be the same.
        write_task(tmp_path / "results" / "toy", dataset_kwargs={"data_files": "items.jsonl"})


def test_a_task_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("[1, 2")
    with pytest.raises(InputError, match=r"evaluations\.tasks\.mine\.file: .*task\.yaml: is no YAML"):
        resolve_config(given(tasks={"mine": {"file": str(tmp_path / "task.yaml")}}))


# --- docs/evaluation-of-models.md ---

PAGE = (ROOT / "docs" / "evaluation-of-models.md").read_text(encoding="utf-8")


def test_what_the_page_shows_as_a_part_of_a_config_is_one() -> None:
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)]
    configs = [block for block in blocks if "evaluations" in block]
    assert len(configs) >= 2
    for block in configs:
        config = yaml.safe_load(CONFIG)
        config["evaluations"]["device"] = "cuda"
        config["models"]["llama-3.2-3b"] = config["models"]["base"]
        config["evaluations"] |= block["evaluations"]
        resolve_config(config)


def test_the_task_of_the_page_is_one_of_files(tmp_path: Path) -> None:
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL) if "dataset_path" in block]
    (tmp_path / "task.yaml").write_text(text)
    assert files_of_task(tmp_path / "task.yaml")[1:] == [str(tmp_path / "items.jsonl")]
    assert not needs_fetching(tmp_path / "task.yaml")
