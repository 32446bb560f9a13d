"""A training that is killed goes on where it was; one that has to stop leaves a checkpoint for the next attempt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT
from corpusmith.stopping import Stopped
from corpusmith.tuning import training
from corpusmith.tuning.checkpoints import MARK, Progress, mark_whole, newest_whole, others, rotate
from corpusmith.tuning.keeper import Keeper
from tuning_runs import conversations, flags_of, losses, make_base, preferences, tune, weights, write_lines

# 20 rows by 4: five steps an epoch, two epochs; dropout draws from the generators that a checkpoint has to keep.
STEPS = 10
ARGUMENTS = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "learning_rate": 0.01}
EVERY_STEP = ("--checkpoint-minutes", "0", "--lora-dropout", "0.3")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("bases") / "small")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("rows") / "rows.jsonl", conversations(20))


def arguments(**more: object) -> tuple[str, str]:
    return "--arguments", json.dumps(ARGUMENTS | more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base: Path, rows: Path) -> Path:
    """A training that nothing interrupts."""
    folder = tmp_path_factory.mktemp("tuning") / "whole"
    tune("sft", folder, base, rows, *EVERY_STEP, *arguments(), "--evaluation-data", str(rows))
    return folder


class Killed(BaseException):
    """What ends a training as a kill does: nothing of it is tidied up."""


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Does something once a step is begun."""

    class Acting(Keeper):
        def on_step_begin(self, args, state, control, **_):  # type: ignore[no-untyped-def]
            if state.global_step == step:
                act()

    monkeypatch.setattr(training, "Keeper", Acting)


def state_of(folder: Path) -> Path:
    """The folder of the checkpoints of the one set of rows and settings that has some."""
    (state,) = [path for path in (folder / "checkpoints").iterdir() if path.name != "rows"]
    return state


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("step", [1, 5, STEPS - 1])
def test_a_killed_training_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, whole: Path, step: int
) -> None:
    flags = (*EVERY_STEP, *arguments(), "--evaluation-data", str(rows))
    folder = tmp_path / "killed"
    with monkeypatch.context() as patch:
        at_step(patch, step, kill)
        with pytest.raises(Killed):
            tune("sft", folder, base, rows, *flags)
    assert not (folder / "model").exists()
    state = state_of(folder)
    found = newest_whole(state)
    assert found is not None
    assert found[1].step == step
    # The one after it was not finished.
    half = state / f"checkpoint-{step + 1}"
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")

    began: list[int] = []
    at_step(monkeypatch, step, lambda: began.append(step))
    record = tune("sft", folder, base, rows, *flags)
    assert began == [step]
    assert record["steps"] == STEPS
    assert [row["step"] for row in losses(folder)] == [str(number) for number in range(1, STEPS + 1)]
    assert (folder / "losses.tsv").read_bytes() == (whole / "losses.tsv").read_bytes()
    assert weights(folder) == weights(whole)
    assert record["identity"] == json.loads((whole / "training.json").read_text())["identity"]
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("step", [4, 6])
def test_a_training_that_is_told_to_end_leaves_a_checkpoint_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, whole: Path, step: int
) -> None:
    """Step 4 is the fifth, the last one of an epoch, behind which rows are evaluated."""
    # No other checkpoint comes in between.
    flags = ("--lora-dropout", "0.3", *arguments(), "--evaluation-data", str(rows))
    folder = tmp_path / "ended"
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped, match="SIGTERM") as caught:
            tune("sft", folder, base, rows, *flags)
    assert caught.value.status == 128 + signal.SIGTERM
    found = newest_whole(state_of(folder))
    assert found is not None
    assert found[1].step == step + 1
    tune("sft", folder, base, rows, *flags)
    assert (folder / "losses.tsv").read_bytes() == (whole / "losses.tsv").read_bytes()
    assert weights(folder) == weights(whole)


def test_a_training_stops_before_the_end_of_its_job_s_time_with_75(
    tmp_path: Path, base: Path, rows: Path, whole: Path
) -> None:
    flags = ("--lora-dropout", "0.3", *arguments(), "--evaluation-data", str(rows))
    soon = ("--deadline", str(time.time() + 100), "--drain-seconds", "120")
    folder = tmp_path / "late"
    for _ in range(2):
        with pytest.raises(Stopped, match="the time of the job ends") as caught:
            tune("sft", folder, base, rows, *flags, *soon)
        assert caught.value.status == os.EX_TEMPFAIL
    # Each attempt gets one step further, whatever the time that it has.
    found = newest_whole(state_of(folder))
    assert found is not None
    assert found[1].step == 2
    record = tune("sft", folder, base, rows, *flags)
    assert record["steps"] == STEPS
    assert record["seconds"] > found[1].seconds
    assert weights(folder) == weights(whole)


def test_dpo_that_goes_on_with_an_sft_keeps_its_reference_where_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, whole: Path
) -> None:
    pairs = write_lines(tmp_path / "pairs.jsonl", preferences(20))
    flags = ("--checkpoint-minutes", "0", *arguments(), "--adapter", str(whole / "receipt.json"))
    tune("dpo", tmp_path / "plain", base, pairs, *flags)
    folder = tmp_path / "killed"
    with monkeypatch.context() as patch:
        at_step(patch, 6, kill)
        with pytest.raises(Killed):
            tune("dpo", folder, base, pairs, *flags)
    tune("dpo", folder, base, pairs, *flags)
    assert (folder / "losses.tsv").read_bytes() == (tmp_path / "plain" / "losses.tsv").read_bytes()
    assert weights(folder) == weights(tmp_path / "plain")


def test_checkpoints_of_other_settings_stay_aside_and_serve_when_these_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, base: Path, rows: Path
) -> None:
    folder, began = tmp_path / "changing", []

    class Recording(Keeper):
        def on_train_begin(self, args, state, control, **options):  # type: ignore[no-untyped-def]
            began.append(state.global_step)
            super().on_train_begin(args, state, control, **options)

        def on_step_begin(self, args, state, control, **_):  # type: ignore[no-untyped-def]
            if state.global_step == (3 if len(began) == 1 else 5):
                raise Killed

    monkeypatch.setattr(training, "Keeper", Recording)
    with pytest.raises(Killed):
        tune("sft", folder, base, rows, *EVERY_STEP, *arguments())
    first = state_of(folder)
    for changed in (arguments(weight_decay=0.1), ("--seed", "2", *arguments())):
        with caplog.at_level("INFO", logger="corpusmith"), pytest.raises(Killed):
            tune("sft", folder, base, rows, *EVERY_STEP, *changed)
        assert f"checkpoints of other rows or settings stay aside until this is done: {first}" in caplog.text
    fewer = write_lines(tmp_path / "fewer.jsonl", conversations(21))
    with pytest.raises(Killed):
        tune("sft", folder, base, fewer, *EVERY_STEP, *arguments())
    with pytest.raises(Killed):
        tune("sft", folder, base, rows, *EVERY_STEP, *arguments())
    assert began == [0, 0, 0, 0, 3]


def test_where_something_runs_changes_no_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path
) -> None:
    at_step(monkeypatch, 2, kill)
    with pytest.raises(Killed):
        tune("sft", tmp_path / "a", base, rows, *EVERY_STEP, *arguments())
    moved = write_lines(tmp_path / "elsewhere" / "moved.jsonl", conversations(20))
    with pytest.raises(Killed):
        tune("sft", tmp_path / "b", base, moved, "--lora-dropout", "0.3", "--checkpoint-minutes", "1", *arguments())
    assert state_of(tmp_path / "a").name == state_of(tmp_path / "b").name


# --- checkpoints ---


def checkpoint(state: Path, step: int, whole: bool = True) -> Path:
    folder = state / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}")
    if whole:
        mark_whole(folder, Progress(step, 1.5, 100))
    return folder


def test_the_newest_whole_checkpoint_is_gone_on_from_and_half_ones_are_removed(tmp_path: Path) -> None:
    for step, whole in ((9, True), (10, True), (100, False), (101, True)):
        checkpoint(tmp_path, step, whole)
    (tmp_path / "checkpoint-101" / MARK).write_text('{"step": 10')
    (tmp_path / "checkpoint-x").mkdir()
    assert newest_whole(tmp_path) == (tmp_path / "checkpoint-10", Progress(10, 1.5, 100))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9", "checkpoint-x"]


def test_without_a_whole_checkpoint_a_training_begins_anew(tmp_path: Path) -> None:
    assert newest_whole(tmp_path / "nowhere") is None
    checkpoint(tmp_path, 3, whole=False)
    assert newest_whole(tmp_path) is None


def test_the_newest_checkpoints_stay_and_the_best_one(tmp_path: Path) -> None:
    for step in (2, 5, 10, 20):
        checkpoint(tmp_path, step)
    rotate(tmp_path, 2, also=str(tmp_path / "checkpoint-2"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-2", "checkpoint-20"]
    rotate(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-20"]


def test_folders_of_other_settings_are_those_with_checkpoints(tmp_path: Path) -> None:
    checkpoint(tmp_path / "mine", 1)
    checkpoint(tmp_path / "other", 1)
    (tmp_path / "rows").mkdir()
    assert others(tmp_path, "mine") == ["other"]
    assert others(tmp_path / "nowhere", "mine") == []


# --- as a program ---


@pytest.mark.slow
def test_the_program_killed_without_a_word_goes_on(tmp_path: Path, base: Path, rows: Path, whole: Path) -> None:
    folder = tmp_path / "killed"
    flags = flags_of(folder, base, rows, *EVERY_STEP, *arguments(), "--evaluation-data", str(rows))
    command = [sys.executable, str(ROOT / "scripts" / "train_sft.py"), *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        marks = folder / "checkpoints"
        while process.poll() is None and not list(marks.glob(f"*/checkpoint-*/{MARK}")):
            time.sleep(0.01)
        process.kill()
    record = tune("sft", folder, base, rows, *EVERY_STEP, *arguments(), "--evaluation-data", str(rows))
    assert record["steps"] == STEPS
    assert (folder / "losses.tsv").read_bytes() == (whole / "losses.tsv").read_bytes()
    assert weights(folder) == weights(whole)
