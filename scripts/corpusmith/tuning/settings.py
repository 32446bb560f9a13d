"""What the config says of tuning beyond its schema: defaults that depend on other keys, and contradictions.

Imported by the Snakefile: nothing heavy here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from corpusmith.recipes import recipe_of

Config = Mapping[str, Any]
# What the programs do: a larger number trains every model anew, as a change of their code does not.
VERSION = 1

METHODS = ("sft", "dpo")
ADAPTATIONS = ("lora", "prompt", "full")
PRESETS = ("none", "gpu-16gb", "gpu-40gb")
# Presets under which the base is loaded in 4 bits.
_IN_4_BITS = ("gpu-16gb",)
# Settings of an adaptation, under a key of its name.
_OF_ADAPTATION = ("lora", "prompt")
_PREFERENCES = "preferences"
# Recipes whose releases hold preferences.
_WITH_PREFERENCES = ("instructions",)

# Trainer arguments that are no user's to give, with what to do instead.
RESERVED = {
    "output_dir": "it is the folder of the model",
    "seed": "the key seed says it",
    "max_length": "the key max_length says it",
    "bf16": "the key dtype says it",
    "fp16": "the key dtype says it",
    "use_cpu": "the key device says it",
    "trust_remote_code": "the key trust_remote_code says it",
    "resume_from_checkpoint": "a training goes on by itself",
    "save_only_model": "a training has to go on where it was",
    "ignore_data_skip": "a training has to go on where it was",
    "restore_callback_states_from_checkpoint": "a training goes on by itself",
    "disable_tqdm": "progress is shown anyway",
    "log_level": "progress is shown anyway",
    "logging_nan_inf_filter": "a loss that is no number has to show",
    "logging_dir": "the losses are in losses.tsv",
    "model_init_kwargs": "the keys dtype, quantization and trust_remote_code say it",
    "chat_template_path": "the chat template is the base's",
    "eos_token": "it is the base's",
    "pad_token": "it is the base's",
    "dataset_text_field": "rows have prompt and completion",
    "dataset_kwargs": "rows are prepared already",
    "completion_only_loss": "the key loss_on says it",
    "assistant_only_loss": "the key loss_on says it",
    "truncation_mode": "rows are cut at their end",
    "fsdp": "each GPU holds the whole model",
    "fsdp_config": "each GPU holds the whole model",
    "deepspeed": "each GPU holds the whole model",
    "push_to_hub": "snakemake upload publishes",
    "hub_model_id": "snakemake upload publishes",
    "hub_token": "secrets are never in a config",
    "hub_strategy": "snakemake upload publishes",
    "hub_private_repo": "snakemake upload publishes",
    "hub_always_push": "snakemake upload publishes",
    "hub_revision": "snakemake upload publishes",
}


def quantization_of(entry: Mapping[str, Any]) -> str:
    """none or 4bit: what is said, or what the preset says."""
    if entry["quantization"] != "auto":
        return str(entry["quantization"])
    return "4bit" if entry["preset"] in _IN_4_BITS else "none"


def fill_tuning(config: Mapping[str, Any]) -> None:
    """Fills in what depends on other keys, which a schema's default cannot: before the schema's own."""
    for entry in config.get("tuning", {}).values():
        adaptation = entry.get("adaptation", ADAPTATIONS[0])
        # What goes on with an adapter has its settings.
        if adaptation in _OF_ADAPTATION and entry.get("adapter") is None:
            entry.setdefault(adaptation, {})
        if "dataset" in entry["data"]:
            entry["data"].setdefault("config", _PREFERENCES if entry["method"] == "dpo" else "default")


def tuning_contradictions(config: Config) -> Iterator[str]:
    """A line for each: the key's path, what is wrong, what is allowed."""
    for name, entry in config["tuning"].items():
        path = f"tuning.{name}"
        for kind in ("models", "scorers"):
            if name in config[kind]:
                yield f"{path}: there is a {kind[:-1]} of that name; allowed: any other name"
        yield from _base(path, entry, config)
        yield from _adapter(name, entry, config)
        yield from _data(f"{path}.data", entry, config)
        yield from _adaptation(path, entry)
        yield from _device(path, entry)
        for argument in entry["arguments"]:
            if argument in RESERVED:
                yield f"{path}.arguments.{argument}: cannot be given, {RESERVED[argument]}; allowed: no such key"


def _base(path: str, entry: Mapping[str, Any], config: Config) -> Iterator[str]:
    possible = [name for name, model in config["models"].items() if "openai" not in model]
    if entry["base"] not in possible:
        what = "is asked over HTTP" if entry["base"] in config["models"] else "there is no such model"
        yield f"{path}.base: {entry['base']!r}: {what}; allowed: {_names(possible)}"


def _adapter(name: str, entry: Mapping[str, Any], config: Config) -> Iterator[str]:
    path, adapter = f"tuning.{name}.adapter", entry["adapter"]
    if adapter is None:
        return
    others = [other for other in config["tuning"] if other != name]
    if adapter not in others:
        yield f"{path}: there is no other tuning {adapter!r}; allowed: {_names(others)}"
        return
    if entry["adaptation"] == "prompt":
        yield f"{path}: a trained prompt cannot be gone on with; allowed: adaptation: lora, or no such key"
    below = config["tuning"][adapter]
    for key in ("base", "adaptation"):
        if below[key] != entry[key]:
            yield f"tuning.{name}.{key}: {entry[key]}, and {adapter}, its adapter, has {below[key]}; allowed: the same"
    if name in _below(adapter, config):
        yield f"{path}: {adapter} stands on {name} in its turn; allowed: a tuning that does not"
    for key in _OF_ADAPTATION:
        if key in entry:
            yield f"tuning.{name}.{key}: the adapter of {adapter} has its own; allowed: no such key"


def _below(name: str, config: Config) -> list[str]:
    """A tuning and those that it stands on, each once."""
    found: list[str] = []
    while name in config["tuning"] and name not in found:
        found.append(name)
        name = config["tuning"][name]["adapter"] or ""
    return found


def _data(path: str, entry: Mapping[str, Any], config: Config) -> Iterator[str]:
    data = entry["data"]
    given = [key for key in ("dataset", "files") if key in data]
    if len(given) != 1:
        yield f"{path}: {' and '.join(given) or 'none'} of dataset, files given; allowed: exactly one"
        return
    yield from _asking(path, entry, config)
    if "files" in data:
        for key in ("config", "evaluation_split"):
            if data.get(key) is not None:
                yield f"{path}.{key}: is of a dataset, and there are files; allowed: no such key"
        return
    if data["evaluation_files"]:
        yield f"{path}.evaluation_files: go with files; allowed: evaluation_split"
    if data["dataset"] not in config["datasets"]:
        yield f"{path}.dataset: there is no dataset {data['dataset']!r}; allowed: {_names(config['datasets'])}"
        return
    dataset = config["datasets"][data["dataset"]]
    wanted = _PREFERENCES if entry["method"] == "dpo" else "default"
    if data["config"] != wanted:
        yield f"{path}.config: {data['config']} with method: {entry['method']}; allowed: {wanted}, or no such key"
    elif data["config"] == _PREFERENCES and not _has_preferences(dataset):
        with_them = [name for name, other in config["datasets"].items() if _has_preferences(other)]
        yield f"{path}.dataset: {data['dataset']} has no preferences; allowed: {_names(with_them)}"
    for key in ("split", "evaluation_split"):
        if data[key] is not None and data[key] not in dataset["splits"]:
            yield f"{path}.{key}: {data['dataset']} has no split {data[key]}; allowed: {_names(dataset['splits'])}"


def _has_preferences(dataset: Mapping[str, Any]) -> bool:
    return dataset["recipe"] in _WITH_PREFERENCES and dataset[_PREFERENCES] is not None


def _asking(path: str, entry: Mapping[str, Any], config: Config) -> Iterator[str]:
    """How rows without conversations are made some."""
    data = entry["data"]
    dataset = config["datasets"].get(data.get("dataset"))
    has_its_own = dataset is not None and recipe_of(dataset).learnt(dataset) is not None
    given = [key for key in ("prompt", "completion", "texts") if data[key]]
    if given and entry["method"] == "dpo":
        yield f"{path}.{given[0]}: is of method: sft, and this is dpo; allowed: no such key"
    elif given and not has_its_own and (data["prompt"] is None or data["completion"] is None):
        missing = "prompt" if data["prompt"] is None else "completion"
        yield f"{path}.{missing}: is missing, and {given[0]} is given; allowed: both, or rows that hold conversations"


def _adaptation(path: str, entry: Mapping[str, Any]) -> Iterator[str]:
    adaptation = entry["adaptation"]
    if entry["method"] == "dpo" and adaptation == "prompt":
        yield f"{path}.adaptation: prompt with method: dpo; allowed: lora, full"
    if entry["method"] == "dpo" and entry["loss_on"] != "assistant":
        yield f"{path}.loss_on: {entry['loss_on']} with method: dpo; allowed: assistant"
    for key in _OF_ADAPTATION:
        if key in entry and key != adaptation:
            yield f"{path}.{key}: the adaptation is {adaptation}; allowed: adaptation: {key}, or no such key"
    if adaptation == "full" and quantization_of(entry) == "4bit":
        what = "by its preset" if entry["quantization"] == "auto" else "with adaptation: full"
        yield f"{path}.quantization: 4bit {what}, and weights in 4 bits cannot be trained; allowed: none"


def _device(path: str, entry: Mapping[str, Any]) -> Iterator[str]:
    if entry["device"] != "cpu":
        return
    if entry["gpus"] > 1:
        yield f"{path}.gpus: {entry['gpus']} with device: cpu; allowed: 1, or device: cuda"
    if entry["preset"] != "none":
        yield f"{path}.preset: {entry['preset']} with device: cpu; allowed: none, or device: cuda"
    if entry["quantization"] == "4bit":
        yield f"{path}.quantization: 4bit with device: cpu; allowed: none, or device: cuda"
    if entry["dtype"] == "float16":
        yield f"{path}.dtype: float16 with device: cpu; allowed: float32, bfloat16"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none is defined"
