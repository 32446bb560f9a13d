"""The quality of a toy dataset in a few lines for people. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def quality_lines(quality: Mapping[str, Any]) -> Iterator[str]:
    """A table of the shares of exactly right translations, and of chrF, on the way to the release."""
    for name, title in (("selected", "selected sources"), ("random", "sources drawn at random from the pool")):
        entry = quality[name]
        steps = [("greedy", entry["greedy"]), ("one sample", entry["sampled"])]
        steps += [(f"best of {size}", value) for size, value in entry["best_of"].items()]
        if "filtered" in entry:
            steps.append(("filtered", entry["filtered"]))
        yield f"Exactly right translations of {title}:"
        for step, value in steps:
            if value["rows"]:
                yield f"  {step:<12}{value['exact']:7.1%}   chrF {value['chrf']:5.1f}   {value['rows']:,} answers"
