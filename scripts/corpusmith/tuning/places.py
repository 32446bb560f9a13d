"""Where tunings lie, and what the config says of them as flags of their programs.

Imported by the Snakefile: nothing heavy here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from corpusmith import layout
from corpusmith.recipes import recipe_of

Config = Mapping[str, Any]
# Folder of a release by what it holds.
_FOLDERS = {"default": "data", "preferences": "preferences"}


def tuning_folder(config: Config, name: str) -> str:
    """The folder of a tuning: in the results of a try too, whose rows are fewer."""
    return f"{layout.results_folder(config)}/models/{name}"


def tuning_receipt(config: Config, name: str) -> str:
    """The receipt of what a tuning makes."""
    return f"{tuning_folder(config, name)}/receipt.json"


def tuning_files(config: Config, name: str) -> list[str]:
    """Everything that a tuning makes, but for the model's own folder."""
    folder = tuning_folder(config, name)
    return [f"{folder}/{file}" for file in ("receipt.json", "training.json", "losses.tsv", "losses.png")]


def tuning_environment(config: Config, name: str) -> str:
    """The environment of a tuning's program."""
    return "train-cpu" if config["tuning"][name]["device"] == "cpu" else "train"


def tuning_manifests(config: Config, name: str) -> list[str]:
    """The manifest of the release that a tuning reads; none where it reads files."""
    data = config["tuning"][name]["data"]
    return [f"{_release(config, data)}/manifest.json"] if "dataset" in data else []


def tuning_prompt(config: Config, name: str) -> str | None:
    """The file of the prompt that rows are asked with; None where they hold conversations."""
    found = _asking(config, name)
    return None if found is None else str(found["prompt"])


def tuning_prompts(config: Config) -> list[str]:
    """The files of all tunings' prompts, each once."""
    return sorted({prompt for name in config["tuning"] if (prompt := tuning_prompt(config, name)) is not None})


def _asking(config: Config, name: str) -> dict[str, Any] | None:
    """How rows become conversations: prompt, completion, names of columns in the prompt, further names."""
    entry = config["tuning"][name]
    data = entry["data"]
    given = {key: data[key] for key in ("prompt", "completion") if data[key] is not None}
    own = None
    if "dataset" in data and entry["method"] == "sft":
        dataset = config["datasets"][data["dataset"]]
        own = recipe_of(dataset).learnt(dataset)
    if own is None and given:
        own = {"columns": {}, "values": {}}
    return None if own is None else {**own, **given}


def tuning_flags(config: Config, name: str) -> list[str]:
    """The settings on which the tuned weights depend, as flags of train_sft.py or train_dpo.py."""
    entry = config["tuning"][name]
    data = entry["data"]
    flags: list[Any]
    if "dataset" in data:
        kind = f"{_release(config, data)}/{_FOLDERS[data['config']]}"
        flags = ["--data", f"{kind}/{data['split']}-*.parquet"]
        if data["evaluation_split"] is not None:
            flags += ["--evaluation-data", f"{kind}/{data['evaluation_split']}-*.parquet"]
    else:
        flags = ["--data", *data["files"]]
        flags += ["--evaluation-data", *data["evaluation_files"]] if data["evaluation_files"] else []
    if entry["adapter"] is not None:
        flags += ["--adapter", tuning_receipt(config, entry["adapter"])]
    if entry["method"] == "sft":
        flags += ["--loss-on", entry["loss_on"]]
    asking = _asking(config, name)
    if asking is not None:
        # The prompt itself is the rule's to name.
        flags += ["--row-completion", asking["completion"]]
        flags += [word for key in ("columns", "values") for word in (f"--row-{key}", json.dumps(asking[key]))]
        flags += ["--row-texts"] if data["texts"] else []
    flags += ["--adaptation", entry["adaptation"]]
    lora, prompt = entry.get("lora"), entry.get("prompt")
    if lora is not None:
        flags += ["--lora-r", lora["r"], "--lora-alpha", lora["alpha"], "--lora-dropout", lora["dropout"]]
        flags += ["--lora-targets", *lora["targets"]] if lora["targets"] else []
    if prompt is not None:
        flags += ["--prompt-tokens", prompt["tokens"]]
        flags += ["--prompt-text", prompt["text"]] if prompt["text"] is not None else []
    flags += ["--max-length", entry["max_length"] or 0]
    for key in ("seed", "preset", "quantization", "device", "dtype", "gpus"):
        flags += [f"--{key}", entry[key]]
    return [*map(str, flags), *(["--trust-remote-code"] if entry["trust_remote_code"] else [])]


def _release(config: Config, data: Mapping[str, Any]) -> str:
    return f"{layout.results_folder(config)}/{data['dataset']}/release"
