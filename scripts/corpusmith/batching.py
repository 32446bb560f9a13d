"""Batches of texts of like length."""

from __future__ import annotations

from collections.abc import Sequence


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
