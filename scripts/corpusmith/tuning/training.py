"""The training itself, with TRL's trainers: in this process, or in several, one for each GPU.

train(job, stop) → what it was like, with the model in job.model; None where it had to stop, with a checkpoint
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from transformers import PrinterCallback
from trl import DPOTrainer, SFTTrainer

from corpusmith.errors import InputError
from corpusmith.program import log
from corpusmith.tuning.adaptation import count_parameters, load_base, load_policy, load_tokenizer, save_model
from corpusmith.tuning.arguments import config_class
from corpusmith.tuning.checkpoints import Progress, newest_whole
from corpusmith.tuning.job import Job
from corpusmith.tuning.keeper import Keeper


@dataclass(frozen=True)
class Outcome:
    """What a training was like. history: what the trainer logged; seconds and memory: of all attempts together."""

    steps: int
    epochs: float
    seconds: float
    parameters: int
    trainable_parameters: int
    peak_memory_mb: int
    history: list[dict[str, Any]]


class _PreparedDPOTrainer(DPOTrainer):
    """Takes rows that are tokens already: TRL leaves out and cuts rows without a word."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def train(
    job: Job, stop: Callable[[], bool], attended: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Outcome | None:
    """Trains, from the newest whole checkpoint where there is one, and saves the model.

    stop: asked after each step whether there is no more time; attended: what the steps are taken in, as nobody asks
    while a model is loaded. Returns None where it stopped.
    """
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    # Names that TRL still uses, and the next version of transformers will not: nothing for a user to do.
    warnings.filterwarnings("ignore", category=FutureWarning, module="(transformers|trl)\\b")
    _seed(job.seed)
    tokenizer = load_tokenizer(job.base, job.trust_remote_code)
    state = Path(job.state)
    found = newest_whole(state) if _is_first() else None
    found = _told_by_the_first(found)
    checkpoint, before = found if found is not None else (None, Progress())
    keep = int(job.arguments.get("save_total_limit") or 1_000_000)
    keeper = Keeper(state, before, job.checkpoint_minutes, keep, stop)
    trainer = _trainer(job, tokenizer, keeper)
    trainer.remove_callback(PrinterCallback)
    parameters, trained = count_parameters(trainer.model)
    if checkpoint is not None:
        log.info("going on from step %s of %s", f"{before.step:,}", checkpoint)
    with attended():
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.state.global_step < trainer.state.max_steps:
        return None
    so_far = keeper.so_far
    if _is_first():
        save_model(trainer.model, tokenizer, job, Path(job.model))
    return Outcome(
        steps=trainer.state.global_step,
        epochs=float(trainer.state.epoch or 0.0),
        seconds=round(so_far.seconds, 3),
        parameters=parameters,
        trainable_parameters=trained,
        peak_memory_mb=so_far.peak_memory_mb,
        history=trainer.state.log_history,
    )


def _trainer(job: Job, tokenizer: Any, keeper: Keeper) -> Any:
    policy, adapter = load_policy(job)
    rows = {"train_dataset": datasets.Dataset.from_file(job.rows)}
    if job.evaluation_rows is not None:
        rows["eval_dataset"] = datasets.Dataset.from_file(job.evaluation_rows)
    common = {
        "args": _arguments(job),
        "processing_class": tokenizer,
        "peft_config": adapter,
        "callbacks": [keeper],
        **rows,
    }
    try:
        if job.method == "sft":
            return SFTTrainer(policy, **common)
        # Beside an adapter the reference is the same model without it, or with it as it was.
        reference = load_base(job) if job.adaptation == "full" else None
        return _PreparedDPOTrainer(policy, reference, **common)
    except (ValueError, NotImplementedError, ImportError) as error:
        raise InputError(f"the trainer does not take its arguments: {_line(error)}") from error


def _arguments(job: Job) -> Any:
    """The trainer's configuration. Raises InputError where it refuses a value."""
    own: dict[str, Any] = {
        "output_dir": job.state,
        "seed": job.seed,
        "max_length": job.max_length,
        "use_cpu": job.device == "cpu",
        "bf16": job.dtype == "bfloat16",
        "fp16": job.dtype == "float16",
        "disable_tqdm": True,
        # Every weight that is trained takes part in every step.
        "ddp_find_unused_parameters": False,
        "logging_nan_inf_filter": False,
    }
    given = dict(job.arguments)
    # Checkpoints are removed once the next one is whole, which the trainer does not wait for.
    given.pop("save_total_limit", None)
    if job.method == "sft":
        own["dataset_kwargs"] = {"skip_prepare_dataset": not given.get("packing")}
    try:
        return config_class(job.method)(**(own | given))
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(f"the trainer does not take its arguments: {_line(error)}") from error


def _seed(seed: int) -> None:
    """Seeds all that draws before the trainer does so itself: the first weights of a prompt, for one."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _told_by_the_first(found: tuple[Path, Progress] | None) -> tuple[Path, Progress] | None:
    """What the first process has found, in all of them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return found
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    # It makes the connection that the trainer uses, too.
    PartialState(cpu=not torch.cuda.is_available())
    told = [found]
    broadcast_object_list(told)
    return told[0]


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
