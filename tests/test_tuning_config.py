"""Tunings in the config: what is filled in, what is refused, and that their flags are those of the programs."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from corpusmith.config import resolve_config
from corpusmith.placement import Placement
from corpusmith.tuning import places
from corpusmith.tuning.arguments import resolve_arguments
from corpusmith.tuning.settings import quantization_of
from corpusmith.tuning.tuning_program import add_sft_flags, add_tuning_flags
from test_config import problems, put, small

FILES = {"files": ["rows/*.jsonl"]}
SAID = {"recipe": "instructions", "sources": {"files": ["tasks.jsonl"]}, "respond": {"model": "toy-base"}}


def config_of(**tunings: dict[str, Any]) -> dict[str, Any]:
    """The small config with tunings; what they leave out is an SFT of its model on files."""
    config = small()
    config["models"]["server"] = {"engine": "openai", "openai": {"base_url": "https://a.org/v1", "model": "large"}}
    config["models"]["other"] = {"engine": "vllm", "repo": "owner/other", "parameters_b": 8}
    config["tuning"] = {
        name: {"method": "sft", "base": "toy-base", "data": dict(FILES), **entry} for name, entry in tunings.items()
    }
    return config


def filled(**entry: Any) -> dict[str, Any]:
    found: dict[str, Any] = resolve_config(config_of(student=entry))["tuning"]["student"]
    return found


# --- what is filled in ---


def test_settings_of_an_adaptation_are_filled_in_where_it_is_that_and_begins_anew() -> None:
    assert filled()["lora"] == {"r": 8, "alpha": 16, "dropout": 0.05, "targets": None}
    assert "prompt" not in filled()
    assert filled(adaptation="prompt")["prompt"] == {"tokens": 16, "text": None}
    assert not {"lora", "prompt"} & set(filled(adaptation="full"))
    config = resolve_config(config_of(first={"lora": {"r": 4}}, second={"adapter": "first"}))
    assert config["tuning"]["first"]["lora"]["r"] == 4
    assert "lora" not in config["tuning"]["second"]


def test_dpo_reads_the_preferences_of_a_dataset_and_sft_its_rows() -> None:
    assert filled(data={"dataset": "toy-translation"})["data"]["config"] == "default"
    lines = problems(config_of(student={"method": "dpo", "data": {"dataset": "toy-translation"}}))
    assert lines == ["tuning.student.data.dataset: toy-translation has no preferences; allowed: none is defined"]
    without = config_of(student={"method": "dpo", "data": {"dataset": "said"}})
    without["datasets"]["said"] = SAID
    assert problems(without) == ["tuning.student.data.dataset: said has no preferences; allowed: none is defined"]
    for method, config, other in (("dpo", "default", "preferences"), ("sft", "preferences", "default")):
        entry = {"method": method, "data": {"dataset": "toy-translation", "config": config}}
        line = f"tuning.student.data.config: {config} with method: {method}; allowed: {other}, or no such key"
        assert problems(config_of(student=entry)) == [line]


def test_rows_without_conversations_are_asked_as_their_own_model_was_or_as_the_config_says() -> None:
    maths = {"recipe": "maths", "sources": {"files": ["problems.jsonl"]}}
    config = config_of(
        translating={"data": {"dataset": "toy-translation"}},
        labelled={"data": {"dataset": "labelled"}},
        solving={"data": {"dataset": "solved", "texts": True}},
        another={"data": {"dataset": "toy-translation", "prompt": "mine.txt", "completion": "source"}},
        said={"data": {"dataset": "said"}},
        reworded={"data": {"dataset": "said", "prompt": "mine.txt", "completion": "response", "texts": True}},
        mine={"data": {"files": ["rows.jsonl"], "prompt": "mine.txt", "completion": "answer"}},
        plain={"data": {"files": ["rows.jsonl"]}},
    )
    config["datasets"]["labelled"] = maths
    config["datasets"]["said"] = SAID
    solve = {"model": "toy-base", "prompt": "config/prompts/toy-solve.txt", "n": 2}
    config["datasets"]["solved"] = maths | {"solve": solve, "select": {"solutions": "generated"}}
    config = resolve_config(config)
    prompts = {name: places.tuning_prompt(config, name) for name in config["tuning"]}
    assert prompts == {
        "translating": "config/prompts/translate.txt", "labelled": "config/prompts/solve.txt",
        "solving": "config/prompts/toy-solve.txt", "another": "mine.txt", "mine": "mine.txt", "plain": None,
        "said": None, "reworded": "mine.txt",
    }  # fmt: skip
    assert places.tuning_prompts(config) == sorted({*filter(None, prompts.values())})
    flags = {name: parsed(config, name) for name in config["tuning"]}
    answers = {name: found.row_completion for name, found in flags.items()}
    assert answers == {
        "translating": "target", "labelled": "generated_solution", "solving": "generated_solution",
        "another": "source", "mine": "answer", "plain": None,
        "said": None, "reworded": "response",
    }  # fmt: skip
    assert json.loads(flags["translating"].row_columns) == {"text": "source"}
    assert json.loads(flags["translating"].row_values)["target_language"] == {"code": "ko", "name": "Korean"}
    assert [name for name, found in flags.items() if found.row_texts] == ["solving", "reworded"]


@pytest.mark.parametrize(
    ("preset", "quantization", "found"),
    [
        ("none", "auto", "none"),
        ("gpu-16gb", "auto", "4bit"),
        ("gpu-40gb", "auto", "none"),
        ("gpu-16gb", "none", "none"),
        ("none", "4bit", "4bit"),
    ],
)
def test_what_is_said_of_quantization_counts_more_than_the_preset(preset: str, quantization: str, found: str) -> None:
    assert quantization_of({"preset": preset, "quantization": quantization}) == found


# --- what is refused ---

TWO = {"first": {}, "second": {"adapter": "first"}}
CONTRADICTIONS = [
    # tunings, path, value, what is said
    (
        TWO,
        "second.base",
        "teacher",
        [".base: 'teacher': there is no such model; allowed: other, toy-base", ".base: tea"],
    ),
    ({"first": {}}, "first.base", "server", [".base: 'server': is asked over HTTP; allowed: other, toy-base"]),
    (TWO, "second.base", "other", [".base: other, and first, its adapter, has toy-base; allowed: the same"]),
    (TWO, "second.adapter", "third", [".adapter: there is no other tuning 'third'; allowed: first"]),
    (TWO, "second.adapter", "second", [".adapter: there is no other tuning 'second'; allowed: first"]),
    (TWO, "second.lora", {"r": 4}, [".lora: the adapter of first has its own; allowed: no such key"]),
    (TWO, "second.adaptation", "full", [".adaptation: full, and first, its adapter, has lora; allowed: the same"]),
    (TWO, "second.data", {}, [".data: none of dataset, files given; allowed: exactly one"]),
    (TWO, "second.data.dataset", "toy-translation", [".data: dataset and files of dataset, files given; allowed: exa"]),
    (TWO, "second.data", {"dataset": "toy"}, [".data.dataset: there is no dataset 'toy'; allowed: toy-translation"]),
    (
        TWO,
        "second.data",
        {"dataset": "toy-translation", "split": "dev", "evaluation_split": "test"},
        [".data.split: toy-translation has no split dev; allowed: test, train"],
    ),
    (TWO, "second.data.evaluation_split", "test", [".data.evaluation_split: is of a dataset, and there are files"]),
    (
        TWO,
        "second.data",
        {"dataset": "toy-translation", "evaluation_files": ["a"]},
        [".data.evaluation_files: go with files; allowed: evaluation_split"],
    ),
    (
        TWO,
        "second.data.prompt",
        "mine.txt",
        [".data.completion: is missing, and prompt is given; allowed: both"],
    ),
    (
        TWO,
        "second.data.texts",
        True,
        [".data.prompt: is missing, and texts is given; allowed: both"],
    ),
    (
        {"first": {"method": "dpo"}},
        "first.data.completion",
        "answer",
        [".data.completion: is of method: sft, and this is dpo; allowed: no such key"],
    ),
    (
        TWO,
        "second.arguments",
        {"seed": 3},
        [".arguments.seed: cannot be given, the key seed says it; allowed: no"],
    ),
    (TWO, "first.prompt", {"tokens": 3}, [".prompt: the adaptation is lora; allowed: adaptation: prompt, or no such"]),
    (TWO, "second.gpus", 2, []),
    (
        {"first": {"adaptation": "prompt"}},
        "first.method",
        "dpo",
        [".adaptation: prompt with method: dpo; allowed: l"],
    ),
    ({"first": {"method": "dpo"}}, "first.loss_on", "all", [".loss_on: all with method: dpo; allowed: assistant"]),
    (
        {"first": {"adaptation": "full"}},
        "first.preset",
        "gpu-16gb",
        [".quantization: 4bit by its preset, and weights in 4 bits cannot be trained; allowed: none"],
    ),
    ({"first": {"device": "cpu"}}, "first.gpus", 2, [".gpus: 2 with device: cpu; allowed: 1, or device: cuda"]),
    ({"first": {"device": "cpu"}}, "first.preset", "gpu-40gb", [".preset: gpu-40gb with device: cpu; allowed: none"]),
    ({"first": {"device": "cpu"}}, "first.quantization", "4bit", [".quantization: 4bit with device: cpu; allowed: n"]),
    ({"first": {"device": "cpu"}}, "first.dtype", "float16", [".dtype: float16 with device: cpu; allowed: float32, b"]),
    (
        {"first": {"adaptation": "prompt"}, "second": {"adaptation": "prompt"}},
        "second.adapter",
        "first",
        [".adapter: a trained prompt cannot be gone on with"],
    ),
]


@pytest.mark.parametrize(("tunings", "path", "value", "said"), CONTRADICTIONS)
def test_what_contradicts_itself_is_a_line_that_says_what_is_allowed(
    tunings: dict[str, Any], path: str, value: Any, said: list[str]
) -> None:
    config = config_of(**{name: dict(entry) for name, entry in tunings.items()})
    put(config, f"tuning.{path}", value)
    if not said:
        resolve_config(config)
        return
    name = path.partition(".")[0]
    found = problems(config)
    assert len(found) == len(said), found
    for line, beginning in zip(found, said, strict=True):
        assert line.startswith(f"tuning.{name}{beginning}")
        assert "; allowed: " in line


def test_tunings_that_stand_on_one_another_in_a_circle_are_refused() -> None:
    found = problems(config_of(a={"adapter": "c"}, b={"adapter": "a"}, c={"adapter": "b"}))
    assert [line for line in found if "in its turn" in line] == [
        "tuning.a.adapter: c stands on a in its turn; allowed: a tuning that does not",
        "tuning.b.adapter: a stands on b in its turn; allowed: a tuning that does not",
        "tuning.c.adapter: b stands on c in its turn; allowed: a tuning that does not",
    ]


@pytest.mark.parametrize(("name", "kind"), [("toy-base", "model"), ("toy-metricx", "scorer")])
def test_a_tuning_has_a_name_of_its_own(name: str, kind: str) -> None:
    assert problems(config_of(**{name: {}})) == [
        f"tuning.{name}: there is a {kind} of that name; allowed: any other name"
    ]


# --- files and flags ---


def parsed(config: dict[str, Any], name: str) -> argparse.Namespace:
    """The flags of a tuning as its program reads them."""
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    add_tuning_flags(parser)
    if config["tuning"][name]["method"] == "sft":
        add_sft_flags(parser)
    outputs = ("base", "checkpoints", "folder", "receipt", "training", "losses", "picture")
    given = [word for output in outputs for word in (f"--{output}", output)]
    return parser.parse_args(["--name", name, *given, *places.tuning_flags(config, name)])


def test_the_programs_are_told_what_the_config_says() -> None:
    student = {
        "data": {"dataset": "toy-translation", "evaluation_split": "test"},
        "loss_on": "all",
        "lora": {"r": 4, "alpha": 8, "dropout": 0, "targets": ["q_proj", "v_proj"]},
        "max_length": None,
        "seed": 7,
        "preset": "gpu-16gb",
        "gpus": 2,
        "trust_remote_code": True,
    }
    config = resolve_config(config_of(student=student, preferring={"method": "dpo", "adapter": "student"}))
    flags = parsed(config, "student")
    assert flags.data == ["results/toy-translation/release/data/train-*.parquet"]
    assert flags.evaluation_data == ["results/toy-translation/release/data/test-*.parquet"]
    assert (flags.adaptation, flags.adapter, flags.loss_on) == ("lora", None, "all")
    assert (flags.lora_r, flags.lora_alpha, flags.lora_dropout) == (4, 8, 0)
    assert flags.lora_targets == ["q_proj", "v_proj"]
    assert (flags.max_length, flags.seed, flags.preset, flags.quantization) == (0, 7, "gpu-16gb", "auto")
    assert (flags.device, flags.dtype, flags.gpus, flags.trust_remote_code) == ("cuda", "auto", 2, True)
    assert places.tuning_manifests(config, "student") == ["results/toy-translation/release/manifest.json"]

    flags = parsed(config, "preferring")
    assert (flags.data, flags.evaluation_data) == (["rows/*.jsonl"], None)
    assert flags.adapter == places.tuning_receipt(config, "student") == "results/models/student/receipt.json"
    assert places.tuning_manifests(config, "preferring") == []


def test_what_a_tuning_is_filled_in_with_are_the_defaults_of_its_program() -> None:
    config = resolve_config(config_of(student={}, prompted={"adaptation": "prompt"}))
    for name in config["tuning"]:
        plain = argparse.ArgumentParser()
        add_tuning_flags(plain)
        flags = vars(parsed(config, name))
        for flag in ("lora_r", "lora_alpha", "lora_dropout", "lora_targets", "prompt_tokens", "prompt_text",
                     "max_length", "seed", "preset", "quantization", "device", "dtype", "gpus"):  # fmt: skip
            assert flags[flag] == plain.get_default(flag), flag


def test_a_try_has_tunings_of_its_own_and_a_cpu_an_environment() -> None:
    config = resolve_config(config_of(student={}, small={"device": "cpu"}) | {"limit": 5})
    assert places.tuning_folder(config, "student") == "results-limit-5/models/student"
    assert [places.tuning_environment(config, name) for name in ("student", "small")] == ["train", "train-cpu"]
    for name in ("train", "train-cpu"):
        assert (ROOT / "envs" / f"{name}.yaml").is_file()


# --- where its job runs ---


def placed(config: dict[str, Any], name: str, attempt: int = 1) -> dict[str, Any]:
    return Placement(resolve_config(config)).resources_of_tuning(name, attempt)


def test_a_job_asks_for_its_gpus_and_what_goes_with_them() -> None:
    config = config_of(student={"gpus": 2, "memory_mb": 20_000, "resources": {"gpu_model": "a100", "qos": "low"}})
    found = placed(config, "student", attempt=2)
    asked = {"gpu": 2, "cpus_per_task": 8, "mem_mb": 40_000, "runtime": 240, "nodes": 1, "gpu_model": "a100"}
    assert asked.items() <= found.items()
    assert found["qos"] == "low"
    config = config_of(student={"device": "cpu", "cpus": 3, "resources": {"gpu_model": "a100"}})
    assert {"gpu": 0, "cpus_per_task": 3, "gpu_model": None}.items() <= placed(config, "student").items()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"gpus": 8, "resources": {"gpus_per_node": 4}}, r"gpus: 8 GPUs on one node, and a node has 4; allowed: at mo"),
        # 8e9 parameters of two bytes, or of four where all of them are trained.
        ({"resources": {"gpu_memory_gb": 14}}, r"base: other: it needs 14\.9 GB of each GPU"),
        ({"adaptation": "full", "resources": {"gpu_memory_gb": 29}}, r"base: other: it needs 29\.8 GB of each GPU"),
        ({"gpus": 4, "resources": {"gpu_memory_gb": 14}}, r"base: other: it needs 14\.9 GB of each GPU"),
    ],
)
def test_a_tuning_that_can_run_nowhere_is_refused_before_it_waits(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=rf"^config: tuning\.student\.{said}"):
        placed(config_of(student={"base": "other", **entry}), "student")


def test_in_four_bits_a_base_needs_less_than_its_weights() -> None:
    entry = {"base": "other", "preset": "gpu-16gb", "resources": {"gpu_memory_gb": 14}}
    assert placed(config_of(student=entry), "student")["gpu"] == 1


# --- its page ---

PAGE = ROOT / "docs" / "tuning.md"


def test_what_the_page_shows_as_a_part_of_a_config_is_one() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        config = small()
        config["models"]["teacher"] = config["models"]["toy-base"]
        resolve_config(config | yaml.safe_load(block))


def test_the_page_gives_the_defaults_of_each_method() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = {
        cells[0]: cells[1:]
        for line in text.splitlines()
        if (cells := [cell.strip() for cell in line.strip("|").split("|")]) and len(cells) == 3
    }
    kinds = {
        "epochs": ("lora", "num_train_epochs"),
        "learning rate with LoRA": ("lora", "learning_rate"),
        "with a prompt": ("prompt", "learning_rate"),
        "of all weights": ("full", "learning_rate"),
        "warm-up, share of the steps": ("lora", "warmup_steps"),
    }
    for said, (adaptation, argument) in kinds.items():
        for method, cell in zip(("sft", "dpo"), rows[said], strict=True):
            if (method, adaptation) == ("dpo", "prompt"):
                assert cell == ""
            else:
                assert float(cell) == resolve_arguments(method, adaptation, "cuda", "none", {})[argument]


def test_the_page_names_every_file_that_a_tuning_leaves() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for file in places.tuning_files(resolve_config(config_of(student={})), "student"):
        assert f"| `{Path(file).name}` |" in text
