"""Arguments of the trainer: this project's defaults, under them presets of cards, under these what is given.

resolve_arguments("sft", "lora", "cuda", "gpu-16gb", {"max_grad_norm": 0.3})
{"learning_rate": 2e-4, "num_train_epochs": 3, "per_device_train_batch_size": 1, "max_grad_norm": 0.3, …}
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from corpusmith.errors import InputError
from corpusmith.tuning.settings import RESERVED

Arguments = dict[str, Any]

# LoRA and DPO as in published tunings of models of 3B parameters. Prompts: PEFT's guide to them. Whole models: the
# defaults of TRL.
_RATES = {
    ("sft", "lora"): 2e-4,
    ("sft", "prompt"): 3e-2,
    ("sft", "full"): 2e-5,
    ("dpo", "lora"): 5e-5,
    ("dpo", "full"): 1e-6,
}
_EPOCHS = {"sft": 3, "dpo": 1}
_WARMUP = {"sft": 0.03, "dpo": 0.1}
# 16 rows a step in all of them.
_PRESETS: dict[str, Arguments] = {
    "none": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1},
    "gpu-16gb": {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 16,
        "gradient_checkpointing": True,
        "optim": "paged_adamw_8bit",
    },
    "gpu-40gb": {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "gradient_checkpointing": True,
    },
}


def resolve_arguments(
    method: str, adaptation: str, device: str, preset: str, given: Mapping[str, Any], *, evaluated: bool = False
) -> Arguments:
    """What the trainer is told, but for what `RESERVED` names. evaluated: whether there are rows to evaluate on.

    Raises InputError for a name that the trainer does not know, and for a value of a wrong kind.
    """
    check_arguments(method, given)
    found: Arguments = {
        "learning_rate": _RATES[method, adaptation],
        "num_train_epochs": _EPOCHS[method],
        "lr_scheduler_type": "cosine",
        "warmup_steps": _WARMUP[method],
        "logging_steps": 1,
        "save_strategy": "no",
        "save_total_limit": 2,
        "report_to": "none",
        "gradient_checkpointing": device == "cuda",
        "eval_strategy": "epoch" if evaluated else "no",
        **_PRESETS[preset],
    }
    found |= given
    if found.get("eval_strategy") not in ("no", None) and not evaluated:
        raise InputError("eval_strategy: there are no rows to evaluate on; give some, or leave it out")
    return found


def check_arguments(method: str, given: Mapping[str, Any]) -> None:
    """Raises InputError for arguments that the trainer of a method does not take."""
    # What there is takes seconds to find out.
    known = trainer_fields(method) if given else {}
    for name, value in given.items():
        if name in RESERVED:
            raise InputError(f"trainer argument {name} cannot be given: {RESERVED[name]}")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            allowed = f"did you mean {', '.join(close)}?" if close else f"allowed: {', '.join(sorted(known))}"
            raise InputError(f"trainer argument {name}: {config_class(method).__name__} has no such one; {allowed}")
        if not _fits(value, known[name]):
            hint = ""
            if isinstance(value, str) and _is_number(value):
                hint = f"; a number has no quotes, and YAML takes {value} for text where it has no dot: write 1.0e-4"
            raise InputError(f"trainer argument {name}: {value!r} is not of the kind {_name(known[name])}{hint}")


def trainer_fields(method: str) -> dict[str, Any]:
    """Every argument that may be given, with its type."""
    config = config_class(method)
    hints = typing.get_type_hints(config)
    return {
        field.name: hints[field.name]
        for field in dataclasses.fields(config)
        if field.init and not field.name.startswith("_") and field.name not in RESERVED
    }


def config_class(method: str) -> Any:
    """The class of TRL that holds the arguments of a method."""
    from trl import DPOConfig, SFTConfig  # seconds

    return {"sft": SFTConfig, "dpo": DPOConfig}[method]


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value, as JSON has it, is of a type; True where the type is none of the simple ones."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(kind))
    if kind is types.NoneType:
        return value is None
    kind = origin or kind
    if kind is bool:
        return isinstance(value, bool)
    if kind in (int, float):
        return isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    if kind in (str, list, dict):
        return isinstance(value, kind)
    # Names of a list, such as those of schedules, are texts to it.
    return True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
