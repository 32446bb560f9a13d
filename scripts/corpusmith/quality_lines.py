"""The quality of toy datasets in a few lines for people. Standard library only."""

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


def maths_lines(quality: Mapping[str, Any]) -> Iterator[str]:
    """A table of the shares of right solutions on the way to the release, and of right verdicts."""
    yield "Right solutions:"
    for stage in quality["stages"]:
        share = f"{stage['right']:7.1%}" if stage["rows"] else "      -"
        yield f"  {stage['name']:<14}{share}   {stage['rows']:,} solutions"
    if "judge" in quality:
        yield f"  right verdicts of the judge: {quality['judge']['right']:.1%} of {quality['judge']['rows']:,}"


def instructions_lines(quality: Mapping[str, Any]) -> Iterator[str]:
    """A table of the commands that can be read, of right responses on the way to the release, and of pairs."""
    yield f"Instructions that can be read: {_share(quality['instructions']).strip()}"
    yield "Right responses:"
    for stage in quality["responses"]:
        yield f"  {stage['name']:<18}{_share(stage)}"
    if quality["pairs"]:
        yield "Preference pairs:"
        for pairs in quality["pairs"]:
            yield f"  {pairs['name']:<18}{_share(pairs)}"


def _share(measured: Mapping[str, Any]) -> str:
    share = f"{measured['right']:7.1%}" if measured["rows"] else "      -"
    return f"{share} of {measured['rows']:,}"
