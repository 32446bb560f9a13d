"""Cards of published models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from corpusmith.model_card import model_card
from corpusmith.models import describe_files, read_receipt, write_receipt

WEIGHTS = b"\x02\0\0\0\0\0\0\0{}"
TRAINING = {
    "method": "sft", "adaptation": "lora", "base": "teacher", "base_identity": "hub:owner/base@3f2a",
    "base_folder_or_repo": "owner/base@3f2a", "adapter_of": None, "rows": 1000, "dropped_rows": 3,
    "truncated_rows": 12, "max_length": 1024, "parameters": 3_000_000_000, "trainable_parameters": 24_000_000,
    "lora": {"r": 8, "alpha": 16, "dropout": 0.05, "targets": None}, "prompt": None, "steps": 188, "epochs": 3.0,
    "arguments": {"learning_rate": 2e-4, "optim": "paged_adamw_8bit", "report_to": "none"}, "seed": 1,
    "dtype": "bfloat16", "quantization": "4bit", "seconds": 61.5, "peak_memory_mb": 9000, "gpus": 2, "device": "cuda",
}  # fmt: skip


def card(
    folder: Path, training: dict[str, Any] | None, base: str = "owner/base", file: str = "adapter_config.json", **more
):
    (folder / "model").mkdir()
    (folder / "model" / file).write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "model" / "model.safetensors").write_bytes(WEIGHTS)
    write_receipt(folder / "receipt.json", describe_files(folder / "model", "student"))
    return model_card(read_receipt(folder / "receipt.json"), "mit", training, **more)


def front_of(text: str) -> dict[str, Any]:
    assert ModelCard(text).data.license == "mit"
    front: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return front


def test_the_card_of_a_tuning_tells_its_base_and_how_it_was_tuned(tmp_path: Path) -> None:
    found = card(tmp_path, TRAINING)
    assert front_of(found) == {
        "license": "mit", "library_name": "peft", "tags": ["corpusmith", "sft", "lora"], "base_model": "owner/base"
    }  # fmt: skip
    assert "By SFT on 997 rows, on top of teacher (`hub:owner/base@3f2a`)." in found
    for line in (
        "| what was trained | LoRA, 24,000,000 of 3,000,000,000 parameters |",
        "| lora: r | 8 |",
        "| rows cut at 1024 tokens | 12 |",
        "| optim | paged_adamw_8bit |",
        "| number format | bfloat16, the base in 4 bits |",
        "| time, highest memory | 61.5 s, 9,000 MB on 2 GPU |",
    ):
        assert line in found.splitlines()
    assert "targets" not in found
    assert "report_to" not in found


def test_the_card_of_a_tuning_tells_licences_and_why_one_stands(tmp_path: Path) -> None:
    part = {"role": "base", "name": "owner/base", "licence": "llama3.2", "note": "Its name begins with Llama."}
    terms = {"parts": [part], "conflicts": ["base a_b: has to have <the> same"], "override": "They *said* so."}
    found = card(tmp_path, TRAINING, terms=terms)
    assert "| base | `owner/base` | `llama3.2` | Its name begins with Llama. |" in found.splitlines()
    assert "- base a\\_b: has to have \\<the\\> same" in found.splitlines()
    assert "for the reason that its makers give: They \\*said\\* so." in found.splitlines()
    (tmp_path / "again").mkdir()
    assert "stands against" not in card(tmp_path / "again", TRAINING, terms=terms | {"conflicts": []})


def test_all_weights_are_a_model_of_their_own_whose_base_is_named(tmp_path: Path) -> None:
    training = TRAINING | {"adaptation": "full", "lora": None, "adapter_of": "before", "quantization": "none"}
    found = card(tmp_path, training, file="config.json")
    front = front_of(found)
    assert (front["library_name"], front["base_model"]) == ("transformers", "owner/base")
    assert "going on with before." in found
    assert "| what was trained | all weights, " in found


@pytest.mark.parametrize("base", ["../toy/model", "/models/base", "base"])
def test_a_base_that_lies_on_a_machine_is_not_named_to_the_hub(tmp_path: Path, base: str) -> None:
    assert "base_model" not in front_of(card(tmp_path, TRAINING | {"base_folder_or_repo": base}))


def test_a_licence_that_the_hub_has_no_name_for_goes_there_as_other_and_terms_are_told(tmp_path: Path) -> None:
    card(tmp_path, None)
    part = {"role": "base", "name": "teacher", "licence": "qwen-research", "note": "read its terms"}
    found = model_card(
        read_receipt(tmp_path / "receipt.json"),
        "qwen-research",
        TRAINING,
        {"parts": [part], "conflicts": [], "override": None},
    )
    front = yaml.safe_load(found.split("---\n")[1])
    assert (front["license"], front["license_name"]) == ("other", "qwen-research")
    assert "| base | `teacher` | `qwen-research` | read its terms |" in found.splitlines()


def test_an_adapter_of_which_nothing_else_is_known(tmp_path: Path) -> None:
    found = card(tmp_path, None)
    assert front_of(found)["base_model"] == "owner/base"
    assert "How it was trained" not in found
