"""A training in several processes: what they are told, and what becomes of it when they end, fail or have to stop.

The processes themselves are played by a script here: two real ones take most of a minute to start.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from corpusmith.errors import InputError
from corpusmith.stopping import Stopping
from corpusmith.tuning import processes
from corpusmith.tuning.job import Job
from corpusmith.tuning.training import Outcome
from tuning_runs import conversations, make_base, write_lines

Play = Callable[[str], None]
OUTCOME = Outcome(3, 1.0, 2.5, 100, 10, 50, [{"step": 1, "loss": 2.0}])


def job(folder: Path, **changes: object) -> Job:
    values = {
        "name": "student", "method": "sft", "base": str(folder), "base_name": "small", "base_identity": "sha256:0",
        "stored_dtype": "float32", "adapter": None, "adapter_identity": None, "adaptation": "lora",
        "lora": {"r": 8, "alpha": 16, "dropout": 0.0, "targets": None}, "prompt": {}, "rows": "rows.arrow",
        "rows_digest": "1", "evaluation_rows": None, "evaluation_digest": None, "arguments": {}, "max_length": 64,
        "seed": 1, "device": "cpu", "dtype": "float32", "quantization": "none", "gpus": 2, "trust_remote_code": False,
        "checkpoint_minutes": 10.0, "state": str(folder / "state"), "model": str(folder / "model"),
    }  # fmt: skip
    return Job(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Sets what torchrun does in these tests: lines of Python that know `folder`, where it is told what to do."""

    def write(lines: str) -> None:
        script = tmp_path / "torchrun"
        head = f"#!{sys.executable}\nimport sys, time, json\nfrom pathlib import Path\nfolder = Path(sys.argv[-1])\n"
        script.write_text(head + lines)
        script.chmod(0o755)
        monkeypatch.setattr(processes, "sys", SimpleNamespace(executable=str(script)))

    return write


def told(tmp_path: Path) -> Path:
    folder = tmp_path / "told"
    folder.mkdir(exist_ok=True)
    return folder


def test_processes_are_told_all_and_their_outcome_is_read(tmp_path: Path, play: Play) -> None:
    folder = told(tmp_path)
    # What an earlier attempt left counts no longer.
    (folder / "stop").touch()
    play(
        "assert not (folder / 'stop').exists()\n"
        "assert '--nproc-per-node=2' in sys.argv and 'torch.distributed.run' in sys.argv\n"
        f"(folder / 'outcome.json').write_text('''{json.dumps(asdict(OUTCOME))}''')"
    )
    with Stopping(None, 1.0) as stopping:
        assert processes.train_in_processes(job(tmp_path), folder, stopping) == OUTCOME
    assert Job.read(folder / "job.json") == job(tmp_path)


def test_a_process_that_fails_is_an_error(tmp_path: Path, play: Play) -> None:
    play("sys.exit(3)")
    with Stopping(None, 1.0) as stopping, pytest.raises(InputError, match="one of 2 processes of the training failed"):
        processes.train_in_processes(job(tmp_path), told(tmp_path), stopping)


def test_processes_that_have_to_stop_are_told_by_a_file(tmp_path: Path, play: Play) -> None:
    play("while not (folder / 'stop').exists(): time.sleep(0.05)")
    with Stopping(time.time() + 80, 120.0) as stopping:
        assert processes.train_in_processes(job(tmp_path), told(tmp_path), stopping) is None


def test_processes_that_do_not_stop_in_time_are_ended(tmp_path: Path, play: Play) -> None:
    play("(folder / 'begun').touch(); time.sleep(3600)")
    began = time.monotonic()
    # They have ten of these seconds to begin in.
    with Stopping(time.time() + 20, 20.0) as stopping:
        assert processes.train_in_processes(job(tmp_path), told(tmp_path), stopping) is None
    assert time.monotonic() - began < 120
    assert (tmp_path / "told" / "begun").exists()


def test_what_was_done_before_the_end_counts(tmp_path: Path, play: Play) -> None:
    play(
        "while not (folder / 'stop').exists(): time.sleep(0.05)\n"
        f"(folder / 'outcome.json').write_text('''{json.dumps(asdict(OUTCOME))}''')"
    )
    with Stopping(time.time() + 80, 120.0) as stopping:
        assert processes.train_in_processes(job(tmp_path), told(tmp_path), stopping) == OUTCOME


def test_one_process_trains_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from corpusmith.toy.language_model import build_tokenizer
    from corpusmith.tuning.rows import read_tuning_rows
    from corpusmith.tuning.tokens import SftEncoder, write_tokens

    base = make_base(tmp_path / "small").parent / "model"
    rows = write_lines(tmp_path / "rows.jsonl", conversations(8))
    encoder = SftEncoder(build_tokenizer(64), 64, "assistant")
    write_tokens(tmp_path / "rows.arrow", read_tuning_rows([str(rows)], "sft"), encoder)
    (tmp_path / "state").mkdir()
    told(tmp_path)
    arguments = {"per_device_train_batch_size": 4, "num_train_epochs": 1, "report_to": "none", "logging_steps": 1}
    arguments |= {"gradient_checkpointing": False}
    given = job(tmp_path, base=str(base), rows=str(tmp_path / "rows.arrow"), arguments=arguments, gpus=1)
    given.write(tmp_path / "told" / "job.json")
    monkeypatch.setattr(sys, "argv", ["processes", str(tmp_path / "told")])
    monkeypatch.setenv("RANK", "0")
    before = signal.getsignal(signal.SIGTERM)
    try:
        processes.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    outcome = json.loads((tmp_path / "told" / "outcome.json").read_text())
    assert (outcome["steps"], outcome["epochs"]) == (2, 1.0)
    assert (tmp_path / "model" / "adapter_model.safetensors").is_file()
