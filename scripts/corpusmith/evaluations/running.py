"""Runs lm-evaluation-harness on one model and one task, as `lm_eval run` does by hand.

Its cache of requests and answers stays off, and its tables go nowhere: what comes out is in results.py.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from corpusmith.errors import InputError
from corpusmith.evaluations.results import metrics_of
from corpusmith.evaluations.subjects import Subject
from corpusmith.evaluations.tasks import LoadedTask
from corpusmith.program import log

# Ranks that vLLM makes room for: https://docs.vllm.ai/en/latest/features/lora.html
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_OF_A_MISFIT = ("size mismatch", "not found in the base model")
# PEFT's names for adapters that stand before the input.
_TRAINED_PROMPTS = ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CARTRIDGE")


@dataclass(frozen=True)
class Settings:
    """How a task is run. limit: items of each task, None is all; num_fewshot, seed: None is what the harness takes.

    model_args: further arguments of the harness's class for the backend (hf or vllm).
    """

    backend: str = "hf"
    num_fewshot: int | None = None
    limit: int | None = None
    chat_template: bool = False
    system_instruction: str | None = None
    gen_kwargs: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    batch_size: int | str = 8
    device: str = "cuda"
    dtype: str = "bfloat16"
    gpus: int = 1
    max_length: int | None = None
    trust_remote_code: bool = False
    confirm_unsafe_code: bool = False
    model_args: dict[str, Any] = field(default_factory=dict)


def check_chat_template(subject: Subject, settings: Settings) -> None:
    """Raises InputError where a chat template is asked for and the model has none."""
    if not settings.chat_template:
        return
    from transformers import AutoTokenizer

    from corpusmith.pretrained import load_part

    tokenizer = load_part(AutoTokenizer, subject.tokenizer, "tokenizer", trust_remote_code=settings.trust_remote_code)
    if not tokenizer.chat_template:
        raise InputError(
            f"model {subject.name}: its tokenizer ({subject.tokenizer}) has no chat template; evaluate it with"
            " chat_template: false (without --chat-template), as base models are"
        )


def model_arguments(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Arguments of the harness's class. Raises InputError where the backend cannot run the model."""
    found: dict[str, Any] = {"pretrained": str(subject.folder), "dtype": settings.dtype}
    found |= {"tokenizer": str(subject.tokenizer)} if subject.tokenizer != subject.folder else {}
    found |= {"max_length": settings.max_length} if settings.max_length is not None else {}
    found |= {"trust_remote_code": True} if settings.trust_remote_code else {}
    if settings.backend == "hf":
        found |= {"peft": str(subject.adapter)} if subject.adapter is not None else {}
        found |= {"parallelize": True} if settings.gpus > 1 else {}
    else:
        found |= {"tensor_parallel_size": settings.gpus}
        found |= {"seed": settings.seed} if settings.seed is not None else {}
        if subject.adapter is not None:
            found |= {"lora_local_path": str(subject.adapter), "max_lora_rank": lora_rank(subject)}
    return found | settings.model_args


def lora_rank(subject: Subject) -> int:
    """The rank that vLLM makes room for. Raises InputError where the adapter is of another kind than LoRA."""
    config = subject.adapter_config
    if config.get("peft_type") != "LORA":
        raise InputError(
            f"model {subject.name}: vLLM runs no adapter of the kind {config.get('peft_type')}; evaluate it with"
            " backend: hf"
        )
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    return next((known for known in _LORA_RANKS if known >= rank), rank)


def seeds(seed: int | None) -> dict[str, int]:
    """One seed for all that is drawn, as the harness takes it; none: its own."""
    names = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
    return {} if seed is None else dict.fromkeys(names, seed)


def load_model(subject: Subject, settings: Settings) -> Any:
    """The harness's model. Raises InputError where the adapter does not fit on the base."""
    from lm_eval.api.registry import get_model

    log.info("loading %s", subject.name)
    arguments = model_arguments(subject, settings)
    try:
        model = get_model(settings.backend).create_from_arg_obj(
            arguments, {"batch_size": settings.batch_size, "max_batch_size": None, "device": settings.device}
        )
    except (RuntimeError, ValueError) as error:
        # What torch says of weights of another size, and PEFT of layers that are not there.
        line = " ".join(str(error).split())
        if subject.adapter is None or not any(words in line for words in _OF_A_MISFIT):
            raise
        raise InputError(f"{_misfit(subject)} ({line[:300]})") from error
    if subject.adapter is not None and settings.backend == "hf":
        _check_whole(subject, model.model)
        if subject.adapter_config.get("peft_type") in _TRAINED_PROMPTS:
            _generate_without_padding(model)
    return model


def _check_whole(subject: Subject, model: Any) -> None:
    """PEFT fills in what an adapter lacks, and leaves out what the base has no place for, without a word."""
    from peft import get_peft_model_state_dict
    from peft.utils import load_peft_weights

    wanted = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    there = set(load_peft_weights(str(subject.adapter), device="cpu"))
    odd = sorted(name for name in wanted ^ there if "embed_tokens" not in name and "lm_head" not in name)
    if odd:
        raise InputError(f"{_misfit(subject)} ({len(odd)} of its tensors have no counterpart, such as {odd[0]})")


def _misfit(subject: Subject) -> str:
    assert subject.base is not None
    return (
        f"model {subject.name}: its adapter does not fit on {subject.base.name}; give the base that it was trained on"
    )


def _generate_without_padding(model: Any) -> None:
    """Makes the harness generate the answers of a batch in groups of prompts of one length.

    Elsewhere padding stands on the left: between a trained prompt and the question, where PEFT counts it as text, as it
    ignores the positions that say otherwise. An answer would depend on what else is in its batch.
    """
    whole = model._model_generate

    def generate(context: Any, max_length: int, stop: list[str], **options: Any) -> Any:
        mask = options.pop("attention_mask")
        lengths, longest = mask.sum(dim=1), context.shape[1]
        answers = context.new_full((len(context), max_length), model.tokenizer.pad_token_id)
        answers[:, :longest] = context
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            found = whole(
                context=context[rows, longest - length :],
                max_length=max_length - longest + length,
                stop=stop,
                attention_mask=mask[rows, longest - length :],
                **options,
            )[:, length:]
            answers[rows, longest : longest + found.shape[1]] = found
        return answers

    model._model_generate = generate


def evaluate(subject: Subject, task: LoadedTask, settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs a task. Returns what TASK.json holds, and the samples as the harness logs them, by task."""
    from lm_eval import simple_evaluate

    start = time.monotonic()
    model = load_model(subject, settings)
    found = simple_evaluate(
        model=model,
        # What is loaded is not read a second time.
        tasks=[task.root],
        num_fewshot=settings.num_fewshot,
        limit=settings.limit,
        log_samples=True,
        system_instruction=settings.system_instruction,
        apply_chat_template=settings.chat_template,
        fewshot_as_multiturn=settings.chat_template,
        gen_kwargs=dict(settings.gen_kwargs) or None,
        task_manager=task.found.manager,
        **seeds(settings.seed),
        confirm_run_unsafe_code=settings.confirm_unsafe_code,
    )
    assert found is not None
    name, better = task.found.name, found["higher_is_better"]
    metrics = metrics_of(found["results"][name], better.get(name, {}))
    if not metrics:
        raise InputError(f"task {name}: gave no number")
    result = {
        "task": name,
        "version": found["versions"].get(name),
        "metrics": metrics,
        "samples": sum(found["n-samples"][part]["effective"] for part in task.tasks),
    }
    if task.is_group:
        result["tasks"] = {
            part: metrics_of(found["results"][part], better.get(part, {})) for part in sorted(task.tasks)
        }
    result |= {
        "model": subject.described(),
        "settings": json.loads(json.dumps(asdict(settings))),
        "lm_eval": version("lm_eval"),
        "seconds": round(time.monotonic() - start, 1),
    }
    return result, found["samples"]
