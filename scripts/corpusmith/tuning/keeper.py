"""What watches over a training: checkpoints that are whole, an end in time, progress, losses that are numbers."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from corpusmith import program
from corpusmith.errors import InputError
from corpusmith.tuning.checkpoints import Progress, mark_whole, rotate

_NOTHING, _SAVE, _STOP = 0, 1, 2


class Keeper(TrainerCallback):
    """Saves a checkpoint every so many minutes, and one before the training has to stop.

    state: folder of the checkpoints; before: how far the checkpoint is that the training goes on from; keep: how many
    checkpoints stay; stop: whether the training has to stop, asked after each step of the first process.
    """

    def __init__(self, state: Path, before: Progress, minutes: float, keep: int, stop: Callable[[], bool]) -> None:
        self._state, self._before, self._keep, self._stop = state, before, keep, stop
        self._seconds_between = 60 * minutes
        self._began = self._saved = time.monotonic()
        self._later = False
        self._stopped_within = False
        self._progress: program.Progress | None = None

    @property
    def so_far(self) -> Progress:
        """Seconds and memory of all attempts together."""
        return Progress(
            step=self._before.step,
            seconds=self._before.seconds + time.monotonic() - self._began,
            peak_memory_mb=max(self._before.peak_memory_mb, peak_memory_mb()),
        )

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The clock starts when all is loaded."""
        self._began = self._saved = time.monotonic()
        if state.is_world_process_zero:
            self._progress = program.Progress("training", state.max_steps - state.global_step, "steps")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Decides whether to save and to stop."""
        if self._progress is not None:
            self._progress.advance()
        if _ends_an_epoch(state):
            # What is evaluated at its end belongs into the checkpoint, which is saved before that otherwise.
            self._later, control.should_save = control.should_save, False
            return
        self._stopped_within = self._decide(state, control)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The same where a step was an epoch's last."""
        if self._stopped_within:
            # Its end is not reached, and there is no time for what is done there.
            control.should_log = control.should_evaluate = control.should_save = False
            return
        self._decide(state, control)
        control.should_save, self._later = control.should_save or self._later, False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The checkpoint is written: it counts from here on."""
        _wait_for_all()
        if state.is_world_process_zero:
            found = self.so_far
            folder = self._state / f"checkpoint-{state.global_step}"
            mark_whole(folder, Progress(state.global_step, round(found.seconds, 3), found.peak_memory_mb))
            rotate(self._state, self._keep, state.best_model_checkpoint)
        self._saved = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Raises InputError where the loss is no number any more: nothing good comes of it."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise InputError(
                f"the loss of step {state.global_step} is {loss}: the training goes astray; give a smaller"
                " learning_rate, a smaller max_grad_norm, or dtype: float32"
            )

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The last line of progress."""
        if self._progress is not None:
            self._progress.close("done" if state.global_step >= state.max_steps else "stopped")

    def _decide(self, state: TrainerState, control: TrainerControl) -> bool:
        """Whether the training stops here."""
        if state.global_step >= state.max_steps:
            return False
        due = _SAVE if time.monotonic() - self._saved >= self._seconds_between else _NOTHING
        found = _of_the_first(_STOP if self._stop() else due)
        if found != _NOTHING:
            # A table of losses has a row for what was not logged yet, so that it has no gap.
            control.should_save = control.should_log = True
        if found == _STOP:
            control.should_training_stop = True
        return found == _STOP


def peak_memory_mb() -> int:
    """Most memory that this process has had: of the GPU where it uses one, else main memory. In MB of 2^20 bytes."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated() / 2**20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def _ends_an_epoch(state: TrainerState) -> bool:
    return state.epoch is not None and float(state.epoch).is_integer()


def _wait_for_all() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def _of_the_first(value: int) -> int:
    """The first process's value, in all of them: they have to save and to stop at the same step."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    found = torch.tensor([value], device="cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
    torch.distributed.broadcast(found, 0)
    return int(found.item())
