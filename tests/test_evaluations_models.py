"""Models on tasks of lm-evaluation-harness: the numbers are those of its own command, and of generation by hand."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from corpusmith.errors import InputError
from corpusmith.evaluations.results import read_result, sample_rows, scores_by_metric
from corpusmith.evaluations.running import Settings, check_chat_template, evaluate, load_model, model_arguments
from corpusmith.evaluations.subjects import find_subject
from corpusmith.evaluations.task_files import files_of_task
from corpusmith.evaluations.tasks import check_allowed, check_metrics, find_task, load_task
from evaluation_models import QUESTIONS, TASK, World
from translation_tables import SCRIPTS

pytestmark = pytest.mark.slow

ON_CPU = Settings(device="cpu", dtype="float32", batch_size=3)
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a node without internet; the libraries have looked at the variables by now."""
    import datasets
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def call(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **OFFLINE}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stderr
    return result


def wrong_from(answers: list[str], right: int) -> list[str]:
    """The first `right` answers as they are, the others another text."""
    return [answer if place < right else f"{answer}?" for place, answer in enumerate(answers)]


def test_the_program_the_harness_by_hand_and_generation_by_hand_give_one_number(world: World, tmp_path: Path) -> None:
    """Five of the eight answers of the base are made the right ones."""
    task = world.write_task("by-hand", wrong_from(world.answers(), 5))
    result = tmp_path / "evals" / "base" / "toy.json"
    program = [sys.executable, SCRIPTS / "evaluate_model.py", "--model", world.base, "--task-file", task]
    program += ["--device", "cpu", "--dtype", "float32", "--name", "mine", "--result", result]
    call(list(map(str, program)))
    found = read_result(result)
    # Eight items that are 0 or 1: the variance of the mean is p (1 - p) / (n - 1).
    stderr = math.sqrt(5 / 8 * 3 / 8 / 7)
    assert found["metrics"] == {
        "exact_match": {"value": 0.625, "stderr": pytest.approx(stderr), "higher_is_better": True}
    }
    assert (found["task"], found["version"], found["samples"]) == ("greedy_answers", 2.5, 8)
    identity = json.loads(world.base.read_text())["identity"]
    assert found["model"] == {"name": "mine", "identity": identity, "base": None}
    scores = scores_by_metric(result.with_suffix(".samples.parquet"))["exact_match"]
    assert [scores[key] for key in sorted(scores, key=lambda key: key[1])] == [1.0] * 5 + [0.0] * 3

    model = f"pretrained={world.folder / 'base'},dtype=float32"
    by_hand = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", model, "--device", "cpu"]
    # Its data files are seen from where it runs.
    by_hand += ["--tasks", str(task), "--batch_size", "4", "--output_path", str(tmp_path / "by-hand")]
    call(by_hand, cwd=task.parent)
    (written,) = (tmp_path / "by-hand").rglob("results_*.json")
    said = json.loads(written.read_text())["results"]["greedy_answers"]
    metric = found["metrics"]["exact_match"]
    assert (said["exact_match,none"], said["exact_match_stderr,none"]) == (metric["value"], metric["stderr"])


@pytest.mark.parametrize("kind", ["lora", "prompt"])
def test_an_adapter_answers_as_peft_does_on_its_base(world: World, kind: str) -> None:
    receipt = getattr(world, kind)
    expected = world.answers(receipt)
    assert expected != world.answers()
    task = load_task(find_task(None, world.write_task(kind, wrong_from(expected, 3))))
    result, samples = evaluate(find_subject(receipt, world.base), task, ON_CPU)
    assert [row["response"] for row in sample_rows(samples)] == expected
    assert result["metrics"]["exact_match"]["value"] == 3 / 8
    assert result["model"]["base"]["name"] == "base"
    # The folder alone, as somebody else made it.
    subject = find_subject(world.base, adapter=receipt.parent / "model")
    assert (subject.folder, subject.adapter) == (world.folder / "base", receipt.parent / "model")


def test_prompts_go_through_the_chat_template_and_only_as_many_items_as_asked(world: World) -> None:
    expected = world.answers(template=True)
    assert expected != world.answers()
    task = load_task(find_task(None, world.write_task("template", expected)))
    settings = Settings(device="cpu", dtype="float32", chat_template=True, limit=3)
    subject = find_subject(world.base)
    check_chat_template(subject, settings)
    result, samples = evaluate(subject, task, settings)
    assert [row["response"] for row in sample_rows(samples)] == expected[:3]
    assert (result["samples"], result["metrics"]["exact_match"]["value"]) == (3, 1.0)
    assert result["settings"]["limit"] == 3


def test_a_model_without_a_chat_template_is_refused_where_one_is_asked_for(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.folder / "base", tmp_path / "base")
    shutil.copy(world.base, tmp_path / "base.json")
    (tmp_path / "base" / "chat_template.jinja").write_text("")
    receipt = json.loads((tmp_path / "base.json").read_text())
    receipt["files"] = [file for file in receipt["files"] if not file["path"].endswith(".jinja")]
    (tmp_path / "base.json").write_text(json.dumps(receipt))
    subject = find_subject(tmp_path / "base.json")
    check_chat_template(subject, ON_CPU)
    with pytest.raises(InputError, match=r"model base: its tokenizer .* has no chat template"):
        check_chat_template(subject, Settings(chat_template=True))


def test_an_adapter_of_another_base_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model lora: its adapter was trained on sha256:.*, and the base .* deeper"):
        find_subject(world.lora, world.deeper)
    with pytest.raises(InputError, match=r"model lora .* is an adapter; give the receipt of its base"):
        find_subject(world.lora)
    with pytest.raises(InputError, match="is no adapter of PEFT"):
        find_subject(world.base, adapter=world.folder / "base")
    # One of which nobody wrote down the base: PEFT would fill the third layer with weights of its own.
    folder = shutil.copytree(world.lora.parent / "model", tmp_path / "adapter")
    with pytest.raises(InputError, match=r"its adapter does not fit on deeper.*no counterpart.*layers\.2\."):
        load_model(find_subject(world.deeper, adapter=folder), ON_CPU)
    with pytest.raises(InputError, match=r"its adapter does not fit on wider; .*\(.*size mismatch"):
        load_model(find_subject(world.wider, adapter=folder), ON_CPU)


def test_vllm_is_told_of_lora_and_refuses_other_adapters(world: World) -> None:
    settings = Settings(backend="vllm", gpus=2, max_length=64, model_args={"gpu_memory_utilization": 0.5})
    arguments = model_arguments(find_subject(world.lora, world.base), settings)
    assert arguments == {
        "pretrained": str(world.folder / "base"),
        "tokenizer": str(world.lora.parent / "model"),
        "dtype": "bfloat16",
        "max_length": 64,
        "tensor_parallel_size": 2,
        "lora_local_path": str(world.lora.parent / "model"),
        "max_lora_rank": 8,
        "gpu_memory_utilization": 0.5,
    }
    with pytest.raises(InputError, match="vLLM runs no adapter of the kind PROMPT_TUNING"):
        model_arguments(find_subject(world.prompt, world.base), settings)


# --- tasks ---


@pytest.fixture
def few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness with some of its tasks: reading all of them takes seconds."""
    import lm_eval.tasks

    folder = Path(lm_eval.tasks.__file__).parent
    own = lm_eval.tasks.TaskManager
    some = [folder / name for name in ("hellaswag", "mmlu/default", "ifeval", "truthfulqa")]
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", lambda **_: own(include_path=some, include_defaults=False))


@pytest.mark.usefixtures("few_tasks")
def test_a_task_that_there_is_not_is_refused_with_the_closest(world: World) -> None:
    with pytest.raises(InputError, match="has no task 'hellaswagg'; close to it: hellaswag;"):
        find_task("hellaswagg", None)
    with pytest.raises(InputError, match=r"nothing.yaml: there is no such task file"):
        find_task(None, world.folder / "nothing.yaml")


@pytest.mark.usefixtures("few_tasks")
@pytest.mark.parametrize(
    ("name", "dataset"),
    [("hellaswag", "Rowan/hellaswag"), ("mmlu", "cais/mmlu"), ("truthfulqa_mc1", "truthfulqa/truthful_qa")],
)
def test_a_task_whose_data_are_not_here_names_them_and_how_to_fetch_them(
    name: str, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    found = find_task(name, None)
    assert found.datasets == (dataset,)
    with pytest.raises(InputError, match=f"needs the dataset {dataset} of the Hub.*fetch_task.py --task {name}"):
        load_task(found)


def test_a_task_without_what_it_needs_of_nltk_is_refused_before_it_runs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ifeval's module is, which fetches it when it is imported, and goes on where it cannot."""
    import nltk

    task = find_task(None, world.write_task("nltk", QUESTIONS))
    monkeypatch.setattr(nltk.data, "path", [])
    load_task(task)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks.fake", SimpleNamespace(download_nltk_resources=None))
    with pytest.raises(InputError, match="needs punkt_tab of NLTK, which is not on this machine"):
        load_task(task)


def test_a_missing_data_file_is_named(world: World) -> None:
    task = world.write_task("no-data", QUESTIONS)
    (task.parent / "items.jsonl").unlink()
    with pytest.raises(InputError, match=r"greedy_answers: its data cannot be read .*no-data/items\.jsonl"):
        load_task(find_task(None, task))


def test_a_task_that_runs_code_of_the_models_has_to_be_allowed(world: World) -> None:
    task = load_task(find_task(None, world.write_task("unsafe", QUESTIONS, TASK + "unsafe_code: true\n")))
    with pytest.raises(InputError, match=r"runs code that the model writes .*confirm_unsafe_code: true"):
        check_allowed(task, confirm_unsafe_code=False)
    check_allowed(task, confirm_unsafe_code=True)


def test_a_metric_that_a_task_does_not_have_is_refused_before_anything_runs(world: World) -> None:
    task = load_task(find_task(None, world.write_task("metrics", QUESTIONS)))
    check_metrics(task, ["exact_match", "exact_match,strict-match"])
    with pytest.raises(InputError, match="has no metric 'acc'; allowed: exact_match"):
        check_metrics(task, ["acc"])


def group_of(world: World, name: str, aggregated: str) -> Path:
    """A group of two tasks in one file: all eight items right, and two of them."""
    answers, folder = world.answers(), world.folder / "tasks"
    parts = []
    for part, right in (("all", 8), ("few", 2)):
        world.write_task(f"{name}-{part}", wrong_from(answers, right))
        data = {"data_files": {"test": f"{name}-{part}/items.jsonl"}}
        parts.append(yaml.safe_load(TASK) | {"task": part, "dataset_kwargs": data})
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"group": name, "task": parts, **yaml.safe_load(aggregated)}))
    return path


@pytest.mark.usefixtures("few_tasks")
def test_a_group_has_its_own_number_and_those_of_its_tasks(world: World) -> None:
    path = group_of(world, "both", "{aggregate_metric_list: [{metric: exact_match, weight_by_size: true}]}")
    result, samples = evaluate(find_subject(world.base), load_task(find_task(None, path)), ON_CPU)
    # Eight of eight, and two of eight.
    assert result["metrics"]["exact_match"]["value"] == 10 / 16
    assert {name: metrics["exact_match"]["value"] for name, metrics in result["tasks"].items()} == {
        "both::all": 1.0,
        "both::few": 0.25,
    }
    assert result["samples"] == len(list(sample_rows(samples))) == 16
    assert files_of_task(path)[1:] == [str(path.parent / f"both-{part}" / "items.jsonl") for part in ("all", "few")]


@pytest.mark.usefixtures("few_tasks")
def test_a_group_without_a_number_of_its_own_is_refused_with_its_tasks(world: World) -> None:
    with pytest.raises(InputError, match=r"without a number of its own; .*bare::all, bare::few"):
        load_task(find_task(None, group_of(world, "bare", "{}")))
