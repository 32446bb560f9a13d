"""What a store that cuts files by their content would send of a new version, as Xet does: chunks of some 64 kB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

# The gear hash of Xet: of the last 64 bytes, by a table of random numbers; a chunk ends where its first 16 bits are 0.
_GEAR = np.random.default_rng(0).integers(0, 2**64, 256, dtype=np.uint64)
_WINDOW, _LEAST, _MOST = 64, 8 * 1024, 128 * 1024
_MASK = np.uint64(0xFFFF000000000000)


def chunks(content: bytes) -> Iterator[bytes]:
    """The content cut where it says."""
    hashes = _GEAR[np.frombuffer(content, dtype=np.uint8)]
    window = 1
    while window < _WINDOW:
        # The hash of twice as many bytes is that of the last ones and that of those before, moved up.
        moved = hashes[:-window] << np.uint64(window)
        hashes[window:] += moved
        window *= 2
    start = 0
    for end in [*(np.flatnonzero((hashes & _MASK) == 0) + 1).tolist(), len(content)]:
        while end - start > _MOST:
            yield content[start : start + _MOST]
            start += _MOST
        if end - start >= _LEAST or (end == len(content) and end > start):
            yield content[start:end]
            start = end


def share_known(old: bytes, new: bytes) -> float:
    """Share of the new content's bytes whose chunks are in the old one."""
    known = {hashlib.sha256(chunk).digest() for chunk in chunks(old)}
    found = sum(len(chunk) for chunk in chunks(new) if hashlib.sha256(chunk).digest() in known)
    return found / len(new)
