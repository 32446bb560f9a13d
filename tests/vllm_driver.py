"""Asks vLLM, in the environment of the vllm engine: what tests/test_vllm_engine.py runs, to look at what comes back.

It reads a JSON file (folder of the model, rounds of rows of a requests table by name) and writes another. Three engines
run one after the other: one answers all rounds, hangs, goes on, hangs again and is closed, of one a process is killed,
and of one its owner.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from corpusmith.engines.process_guard import marked
from corpusmith.engines.protocol import Answer, EngineDied, Question, Sampling
from corpusmith.engines.vllm_engine import VllmEngine

MAX_NUM_SEQS = 8
SHORT_WAIT, LONG_WAIT = 0.02, 2.0


def start(folder: str) -> VllmEngine:
    # Compiling would take longer than everything here.
    return VllmEngine(folder, device="cpu", dtype="float32", max_num_seqs=MAX_NUM_SEQS, options={"enforce_eager": True})


def questions(engine: VllmEngine, rows: Sequence[dict[str, Any]]) -> list[Question]:
    """A question for each row, its seed beside it."""
    return [
        Question(
            handle,
            engine.prepare(row),
            Sampling(row["temperature"], row["top_p"], row["top_k"], row["max_tokens"], tuple(row["stop"])),
            row["seed"],
            tuple(row["choices"]) if row["choices"] else None,
            row["json_schema"],
        )
        for handle, row in enumerate(rows)
    ]


def ask(engine: VllmEngine, asked: Sequence[Question]) -> list[Answer]:
    """The answers in the order of the questions, asked as the caller of an engine has to."""
    waiting, found, in_flight = list(asked), [], 0
    while waiting or in_flight:
        while waiting and in_flight < engine.capacity:
            engine.submit(waiting.pop(0))
            in_flight += 1
        answers = engine.collect()
        assert answers
        found += answers
        in_flight -= len(answers)
    assert engine.collect() == []
    assert sorted(answer.handle for answer in found) == list(range(len(asked)))
    return sorted(found, key=lambda answer: answer.handle)


def scheduler() -> int:
    """The process of vLLM's scheduler."""
    (core,) = [child for child in multiprocessing.active_children() if child.is_alive()]
    assert core.pid is not None
    return core.pid


def stop_scheduler(engine: VllmEngine, asked: Sequence[Question]) -> None:
    """Asks, and stops the scheduler before it has answered all."""
    for question in asked:
        engine.submit(question)
    os.kill(scheduler(), signal.SIGSTOP)


def interrupted_after(engine: VllmEngine, seconds: float) -> float:
    """How long it takes until an alarm after so many seconds ends the waiting for answers."""

    class Enough(Exception):
        pass

    def stop(*_: object) -> None:
        raise Enough

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    begin = time.monotonic()
    with contextlib.suppress(Enough):
        engine.collect()
    return time.monotonic() - begin


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="ours: %(message)s", stream=sys.stderr)
    order = json.loads(Path(sys.argv[1]).read_text())
    report: dict[str, Any] = {"answers": {}, "prompts": {}}

    engine = start(order["folder"])
    report |= {"family": engine.family, "template": engine.template, "capacity": engine.capacity}
    for name, rows in order["rounds"].items():
        asked = questions(engine, rows)
        report["prompts"][name] = [asdict(question.prompt) for question in asked]
        askable = [question for question in asked if question.prompt.error is None]
        askable = [replace(question, handle=handle) for handle, question in enumerate(askable)]
        if name.startswith("alone"):
            found = [ask(engine, [replace(question, handle=0)])[0] for question in askable]
        else:
            found = ask(engine, askable)
        report["answers"][name] = [asdict(answer) for answer in found]
    mark, many = engine._mark, questions(engine, order["rounds"]["long"])
    report["running"] = len(marked(mark))

    report["waits"], found = [], []
    engine.submit(many[0])
    while not found:
        begin = time.monotonic()
        found = engine.collect(SHORT_WAIT)
        report["waits"].append(time.monotonic() - begin)

    stop_scheduler(engine, many)
    found = []
    # What it had answered may still be on its way.
    while answers := engine.collect(0.5):
        found += answers
    begin = time.monotonic()
    report["while_stopped"] = [asdict(answer) for answer in engine.collect(LONG_WAIT)]
    report["waited"] = time.monotonic() - begin
    report["silent_for"] = time.monotonic() - engine.heard
    report["interrupted_after"] = interrupted_after(engine, 0.5)
    os.kill(scheduler(), signal.SIGCONT)
    while len(found) < len(many):
        found += engine.collect()
    report["after_stop"] = [asdict(answer) for answer in found]

    stop_scheduler(engine, many)
    begin = time.monotonic()
    engine.close()
    engine.close()
    report["closed_in"], report["left_by_close"] = time.monotonic() - begin, len(marked(mark))

    engine = start(order["folder"])
    mark, many = engine._mark, questions(engine, order["rounds"]["long"])
    for question in many:
        engine.submit(question)
    os.kill(scheduler(), signal.SIGKILL)
    try:
        for _ in many:
            engine.collect()
    except EngineDied as error:
        report["died"] = str(error)
    engine.close()
    report["left_by_death"] = len(marked(mark))

    engine = start(order["folder"])
    report["after_death"] = [asdict(answer) for answer in ask(engine, many[:1])]
    report["mark"], report["running_at_the_end"] = engine._mark, len(marked(engine._mark))
    Path(sys.argv[2]).write_text(json.dumps(report))
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
