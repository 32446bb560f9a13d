"""Batches of texts of like length, and the reading back of what a device makes of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from corpusmith.errors import InputError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def pack(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Batches of places of like length, longest first, so that none has more tokens than asked, padding counted.

    A text that is longer than that by itself is a batch of one.
    """
    batches: list[list[int]] = []
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if batch and lengths[batch[0]] * (len(batch) + 1) > tokens_per_batch:
            batches.append(batch)
            batch = []
        batch.append(place)
    return [*batches, batch] if batch else batches


def behind(started: Iterable[T], count: int) -> Iterator[T]:
    """What was started, each when `count` more have been: a GPU computes those while this one is read back."""
    waiting: deque[T] = deque()
    for one in started:
        waiting.append(one)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on a device; a GPU takes it while the CPU goes on."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def read_back(scores: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Scores on the CPU. dtype: what they were computed with. Raises InputError where one is not finite."""
    found = scores.cpu()
    if not found.isfinite().all():
        raise InputError(
            f"the scorer's numbers overflow in {dtype}; give it another dtype, such as bfloat16 or float32"
        )
    return found
