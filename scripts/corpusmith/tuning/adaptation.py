"""The model that is trained: a base with new weights beside it (LoRA), before its input (a prompt), or its own.

Weights that are trained are kept in float32, whatever the arithmetic's number format; the others in that format.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PromptTuningConfig, TaskType
from transformers import AutoModelForCausalLM, AutoTokenizer

from corpusmith.devices import check_devices
from corpusmith.errors import InputError
from corpusmith.files import write_text
from corpusmith.pretrained import load_model, load_part
from corpusmith.tuning.job import Job

_ADAPTER_CONFIG = "adapter_config.json"
ALL_LINEAR = "all-linear"


def load_tokenizer(folder: str | Path, trust_remote_code: bool) -> Any:
    """The tokenizer of a base; where it has no padding, its end serves."""
    tokenizer = load_part(AutoTokenizer, folder, "tokenizer", trust_remote_code=trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise InputError(f"{folder}: the tokenizer has neither a token for padding nor one for the end; give it one")
    return tokenizer


def load_base(job: Job) -> Any:
    """The base as it is before the training: with the weights of an earlier tuning where that changed them all."""
    whole = job.adaptation == "full"
    folder = job.adapter if whole and job.adapter is not None else job.base
    options: dict[str, Any] = {"trust_remote_code": job.trust_remote_code}
    if job.quantization == "4bit":
        options |= _in_4_bits(job)
    return load_model(AutoModelForCausalLM, folder, "float32" if whole else job.dtype, **options)


def load_policy(job: Job) -> tuple[Any, PeftConfig | None]:
    """The model to train, and the adapter that the trainer has to add to it; None where it has one, or gets none.

    DPO that goes on with an adapter keeps, through TRL, a copy of it as it was: its reference.
    """
    base = load_base(job)
    if job.adaptation == "full":
        return base, None
    if job.adapter is not None:
        return _with_adapter(base, job.adapter), None
    return base, new_adapter(job)


def new_adapter(job: Job) -> PeftConfig:
    """The settings of new weights."""
    if job.adaptation == "lora":
        return LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=job.lora["r"],
            lora_alpha=job.lora["alpha"],
            lora_dropout=job.lora["dropout"],
            target_modules=job.lora["targets"] or ALL_LINEAR,
        )
    text = job.prompt["text"]
    return PromptTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=job.prompt["tokens"],
        prompt_tuning_init="SAMPLE_VOCAB" if text is None else "TEXT",
        prompt_tuning_init_text=text,
        tokenizer_name_or_path=None if text is None else job.base,
    )


def save_model(model: Any, tokenizer: Any, job: Job, folder: Path) -> None:
    """Writes what was trained, with the tokenizer: an adapter that loads on the base, or a whole model.

    The same weights are the same bytes, wherever the base lies.
    """
    if job.adaptation == "full":
        model.to(getattr(torch, job.stored_dtype or "float32")).save_pretrained(folder)
    else:
        # A copy that DPO kept as its reference is none of the result.
        model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
        _name_base(folder / _ADAPTER_CONFIG, job)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def count_parameters(model: Any) -> tuple[int, int]:
    """Parameters of a model, new ones included, and how many of them are trained."""
    found = [
        # In 4 bits two of them share a number.
        (parameter.numel() * (2 if parameter.__class__.__name__ == "Params4bit" else 1), parameter.requires_grad)
        for name, parameter in model.named_parameters()
        if ".ref." not in name
    ]
    return sum(count for count, _ in found), sum(count for count, trained in found if trained)


def check_gpus(device: str, gpus: int, quantization: str) -> None:
    """Raises InputError where the job has not what it is to run on; on a CPU, fixes the threads."""
    if device == "cpu" and quantization == "4bit":
        raise InputError("--quantization 4bit needs a GPU; leave it out, or take --device cuda")
    check_devices(device, gpus, "--gpus")
    if quantization == "4bit":
        try:
            import bitsandbytes  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"--quantization 4bit needs bitsandbytes, which cannot be imported here ({error}); envs/train.yaml has"
                " it, or take --quantization none"
            ) from error


def _with_adapter(base: Any, folder: str) -> Any:
    try:
        return PeftModel.from_pretrained(base, folder, is_trainable=True)
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"{folder}: no adapter of this base that PEFT can load ({first_line})") from error


def _in_4_bits(job: Job) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    # As in the paper of QLoRA: https://arxiv.org/abs/2305.14314
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, job.dtype),
    )
    return {"quantization_config": config, "device_map": {"": int(os.environ.get("LOCAL_RANK", "0"))}}


def _name_base(path: Path, job: Job) -> None:
    """Gives an adapter the name of its base in place of a folder of this machine, and its sets an order."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = job.base_name
    for key in ("target_modules", "exclude_modules", "modules_to_save"):
        if isinstance(settings.get(key), list):
            settings[key] = sorted(settings[key])
    if "prompt_tuning_init" in settings:
        # How it began: whoever goes on with it would look for the tokenizer again.
        settings |= {"prompt_tuning_init": "RANDOM", "prompt_tuning_init_text": None, "tokenizer_name_or_path": None}
    write_text(path, json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
