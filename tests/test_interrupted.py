"""Programs that ask are interrupted: real processes, tiny models, real signals. What was committed is not asked again,
and each table has in the end the bytes of one whose making nobody disturbed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from checkout import bytes_of
from conftest import ROOT
from corpusmith.accounting import Account
from corpusmith.engines.transformers_engine import TransformersEngine
from corpusmith.generation import answer_requests
from corpusmith.identity import item_id
from corpusmith.metrics import metricx
from corpusmith.metricx import MetricX
from corpusmith.models import describe_folder, read_receipt, write_receipt
from corpusmith.requests import request
from corpusmith.scoring import WINDOW, score_completions
from corpusmith.scoring_worker import ScoringWorker
from corpusmith.store import COMPLETION, SCORE, Kind, Store, completion_entry, score_entry
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, REQUESTS, SCORES
from toy_models import causal_model, letter_tokenizer, mt5_model, mt5_tokenizer, save_causal, save_mt5

pytestmark = pytest.mark.slow

KEPT = "; what is finished is kept, start again to go on"
# One by one an answer takes a hundredth of a second or so, many together a twentieth of that: programs that are to be
# interrupted are slow, so that they are not done before that, and those that are to finish are fast.
SLOW = ("--batch-size", "1", "--commit-seconds", "0.2")
FAST = ("--batch-size", "400", "--commit-seconds", "0.2")
# Ending the process of a model alone takes up to five seconds where the machine is busy.
DRAIN_SECONDS = 20
DRAIN = ("--drain-seconds", str(DRAIN_SECONDS))
PROMPTS, SAMPLES, PAIRS = ["a", "bcd", "abcdefg", "gfedcba"], 1000, 6000


@dataclass
class Shard:
    """A shard of which a program makes a table.

    flags: what it is made with; table: its bytes where nobody disturbs; keys: what its answers are known by; seconds:
    how long the program needed for its first answers when it was last waited for.
    """

    program: str
    flags: list[str]
    output: str
    kind: Kind
    model: str
    table: bytes
    keys: frozenset[bytes]
    seconds: float = 0.0

    def committed(self, made: Path) -> set[bytes]:
        """The keys of those answers that the store holds."""
        return set(self.keys) - Store(made / "store").missing(self.kind, self.model, self.keys)


class Running:
    """A program that works on a shard. made: the folder of all that it makes."""

    def __init__(self, shard: Shard, made: Path, flags: tuple[str, ...], variables: dict[str, str]) -> None:
        self._shard, self._made = shard, made
        self._log = made.with_name(f"{time.monotonic_ns()}.log")
        command = [
            *(sys.executable, str(ROOT / "scripts" / shard.program), *shard.flags, *flags),
            *("--device", "cpu", "--dtype", "float64", "--max-failed", "0", "--store", str(made / "store")),
            *(f"--{shard.output}", str(made / f"{shard.output}.parquet"), "--account", str(made / "account.json")),
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | variables
        self._begin = time.monotonic()
        with open(self._log, "w") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log, start_new_session=True)

    def wait_for_answers(self, more: int = 1) -> set[bytes]:
        """Waits until the store holds so many more; gives all that it holds of this shard."""
        before = len(self._shard.committed(self._made))
        while len(found := self._shard.committed(self._made)) < before + more:
            assert self.process.poll() is None, self.log()
            time.sleep(0.1)
        self._shard.seconds = time.monotonic() - self._begin
        return found

    def hosted(self) -> int:
        """The process in which the model is."""
        (found,) = [
            process
            for process in map(int, filter(str.isdecimal, os.listdir("/proc")))
            if about(process)[1] == self.process.pid and b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
        ]
        return found

    def end(self, within: float = 300.0) -> tuple[int, list[str]]:
        """Waits for its end; gives its exit status and the lines of its log, without the time of the day."""
        status = self.process.wait(within)
        return status, [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in self.log().splitlines()]

    def log(self) -> str:
        return self._log.read_text()


def about(process: int) -> tuple[str, int]:
    """The state of a process and its parent; one that is no longer there is taken for a zombie."""
    try:
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
        return state, int(parent)
    except OSError:
        return "Z", 0


def gone(process: int) -> bool:
    return about(process)[0] == "Z"


Start = Callable[..., Running]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Starts a program; what still runs in the end is killed, and with it, by its guard, the process of the model."""
    started: list[Running] = []

    def begin(shard: Shard, made: Path, *flags: str, **variables: str) -> Running:
        made.mkdir(exist_ok=True)
        started.append(Running(shard, made, flags, variables))
        return started[-1]

    yield begin
    for running in started:
        running.process.kill()
        running.process.wait()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """So small models are faster so, and disturb nobody."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def receipt_of(folder: Path) -> tuple[str, str]:
    """The path of the receipt of a model, and the model's identity."""
    path = folder.with_suffix(".receipt.json")
    write_receipt(path, describe_folder(folder, "tiny", "local"))
    return str(path), read_receipt(path).identity


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    """Answers of a tiny language model."""
    folder = tmp_path_factory.mktemp("answers")
    tokenizer = letter_tokenizer()
    model, requests, made = folder / "model", folder / "requests.parquet", folder / "made.parquet"
    receipt, identity = receipt_of(save_causal(causal_model(tokenizer), tokenizer, model))
    asked = [
        request(item_id(text), "sampled", prompt=text, temperature=1, n=SAMPLES, max_tokens=40) for text in PROMPTS
    ]
    write_table(requests, REQUESTS, asked)
    engine = TransformersEngine(model, device="cpu", dtype="float64", batch_size=400)
    answer_requests(requests, engine, identity, made, Account("undisturbed"), 0.0)
    keys = [completion_entry(row["key"], row["sample"]) for row in read_rows(made, COMPLETIONS)]
    assert len(keys) == len(set(keys)) == len(PROMPTS) * SAMPLES
    flags = ["--requests", str(requests), "--model", receipt, "--engine", "transformers"]
    return Shard("generate.py", flags, "completions", COMPLETION, identity, made.read_bytes(), frozenset(keys))


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    """Scores of a tiny scorer."""
    folder = tmp_path_factory.mktemp("scores")
    model, requests, made = folder / "model", folder / "requests.parquet", folder / "made.parquet"
    mt5_tokenizer(save_mt5(mt5_model(), model))
    receipt, identity = receipt_of(model)
    asked = request(
        item_id("red"), "sampled", prompt="red", source="the red train", temperature=1, n=PAIRS, max_tokens=8
    )
    write_table(requests, REQUESTS, [asked])
    words = ["기차", "는", "마을", "근처", "모든", "역", "에서", "멈춘다", "빨간", "초록"]
    # The digits of the sample's number, as words.
    texts = [" ".join(words[int(digit)] for digit in f"{sample:04}") for sample in range(PAIRS)]
    same = {"item_id": asked["item_id"], "request": "sampled", "finish_reason": "stop", "key": "key"}
    same |= {"prompt_tokens": 1, "completion_tokens": 1}
    completions = folder / "completions.parquet"
    write_table(completions, COMPLETIONS, [same | {"sample": place, "text": text} for place, text in enumerate(texts)])
    metric = metricx(identity, "float64")
    worker = ScoringWorker(MetricX(model, model, dtype="float64"), WINDOW)
    score_completions(requests, completions, worker, metric, made, Account("undisturbed"))
    keys = frozenset(score_entry(row["key"]) for row in read_rows(made, SCORES))
    assert len(keys) == PAIRS
    flags = ["--requests", str(requests), "--completions", str(completions), "--scorer", receipt]
    flags += ["--tokenizer", receipt]
    return Shard("score_metricx.py", flags, "scores", SCORE, metric.identity, made.read_bytes(), keys)


def check_nothing_is_written(made: Path) -> None:
    """No table, no account, no run stats, and nothing partial: the store is all there is."""
    assert os.listdir(made) == ["store"]


def check_all_is_written(shard: Shard, made: Path) -> dict[str, Any]:
    """The table is that of the undisturbed run, and nothing partial is beside it. Gives the run stats."""
    expected = {"store", "account.json", f"{shard.output}.parquet", f"{shard.output}.run-stats.json"}
    assert set(os.listdir(made)) == expected
    assert not [name for name in bytes_of(made / "store") if name.endswith(".partial")]
    assert (made / f"{shard.output}.parquet").read_bytes() == shard.table
    stats = json.loads((made / f"{shard.output}.run-stats.json").read_text())
    assert stats["failed"] == 0
    return stats


def check_it_goes_on(start: Start, shard: Shard, made: Path, *flags: str) -> None:
    """Started again, a program asks what is not there yet and nothing else, and makes the table."""
    before = shard.committed(made)
    assert 0 < len(before) < len(shard.keys)
    running = start(shard, made, *flags)
    assert running.end()[0] == 0, running.log()
    stats = check_all_is_written(shard, made)
    assert (stats["asked"], stats["from_store"]) == (len(shard.keys) - len(before), len(before))
    assert stats["retries"] == 0


def kill(start: Start, shard: Shard, made: Path) -> None:
    running = start(shard, made, *SLOW)
    before = running.wait_for_answers(20)
    hosted = running.hosted()
    running.process.kill()
    # Nobody but its guard is left to end the model's process.
    patience = time.monotonic() + 60
    while not gone(hosted):
        assert time.monotonic() < patience
        time.sleep(0.05)
    assert before <= shard.committed(made)


def terminate(start: Start, shard: Shard, made: Path, *flags: str) -> None:
    running = start(shard, made, *(flags or SLOW))
    before = running.wait_for_answers(20)
    hosted = running.hosted()
    sent = time.monotonic()
    # As schedulers do it: all processes of the job are told.
    os.killpg(running.process.pid, signal.SIGTERM)
    status, lines = running.end()
    # One that went on would do so for twenty seconds.
    assert time.monotonic() - sent < 20
    assert (status, lines[-1]) == (128 + signal.SIGTERM, f"stopped: the job was told to end (SIGTERM){KEPT}")
    assert "Traceback" not in running.log()
    assert gone(hosted)
    assert before <= shard.committed(made)


def run_out_of_time(start: Start, shard: Shard, made: Path) -> None:
    for deadline in enough_time(shard, made):
        check_it_stops(start(shard, made, *SLOW, *DRAIN, "--deadline", str(deadline)), deadline)


def run_out_of_time_by_slurm(start: Start, shard: Shard, made: Path) -> None:
    squeue = made.parent / "bin" / "squeue"
    squeue.parent.mkdir()
    variables = {"SLURM_JOB_ID": "4711", "PATH": f"{squeue.parent}{os.pathsep}{os.environ['PATH']}"}
    for deadline in enough_time(shard, made):
        end = datetime.fromtimestamp(deadline).isoformat()
        squeue.write_text(f'#!/bin/sh\n[ "$*" = "-h -j 4711 -o %e" ] && echo {end}\n')
        squeue.chmod(0o755)
        check_it_stops(start(shard, made, *SLOW, *DRAIN, **variables), deadline)


def enough_time(shard: Shard, made: Path) -> Iterator[float]:
    """Deadlines, until one has left time for some answers: the machine may have more to do than before."""
    before = shard.committed(made)
    for longer in (1, 2, 4):
        yield float(int(time.time() + longer * (1.3 * shard.seconds + 6) + DRAIN_SECONDS))
        if shard.committed(made) > before:
            return


def check_it_stops(running: Running, deadline: float) -> None:
    """It begins to drain when it was told to, and is gone before the deadline."""
    status, lines = running.end()
    assert deadline - DRAIN_SECONDS <= time.time() < deadline, running.log()
    reason = f"the time of the job ends at {datetime.fromtimestamp(deadline).isoformat(' ')}"
    assert (status, lines[-1]) == (os.EX_TEMPFAIL, f"stopped: {reason}{KEPT}")
    assert "Traceback" not in running.log()


def test_whatever_ends_it_what_was_committed_is_kept_and_not_asked_again(
    start: Start, answers: Shard, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    committed: set[bytes] = set()
    for end in (kill, terminate, run_out_of_time, run_out_of_time_by_slurm):
        end(start, answers, made)
        check_nothing_is_written(made)
        found = answers.committed(made)
        assert committed < found
        committed = found
    check_it_goes_on(start, answers, made, *FAST)


def test_a_model_whose_process_dies_and_then_hangs_is_started_again_and_nothing_is_given_up(
    start: Start, answers: Shard, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    running = start(answers, made, "--batch-size", "50", "--commit-seconds", "0.1", "--stall-timeout", "6")
    running.wait_for_answers()
    killed = running.hosted()
    os.kill(killed, signal.SIGKILL)
    while "starting it again" not in running.log():
        time.sleep(0.1)
    # More than were in flight or not yet committed then: those are asked again first, a few at a time, and the last of
    # them alone, which would be given up.
    running.wait_for_answers(2 * 8 * 50 + 100)
    stopped = running.hosted()
    os.kill(stopped, signal.SIGSTOP)
    status, lines = running.end()
    assert status == 0, lines
    assert killed != stopped
    assert gone(killed)
    assert gone(stopped)
    reasons = [line.partition(", with ")[0] for line in lines if " questions in flight: " in line]
    assert reasons == [
        "its process has ended (SIGKILL; the machine may have run out of memory)",
        "no sign of life for 6 seconds",
    ]
    assert [line for line in lines if line.startswith("starting it again")] == [
        f"starting it again ({number} of at most 16 times)" for number in (1, 2)
    ]
    stats = check_all_is_written(answers, made)
    assert (stats["asked"], stats["from_store"]) == (len(answers.keys), 0)
    # Each time what was in flight, and that is no more than eight batches.
    assert 2 <= stats["retries"] <= 2 * 8 * 50


@pytest.mark.thorough
def test_two_at_one_shard_at_the_same_time_leave_one_table(start: Start, answers: Shard, tmp_path: Path) -> None:
    made = tmp_path / "made"
    racing = [start(answers, made, "--batch-size", size, "--commit-seconds", "0.1") for size in ("400", "333")]
    for running in racing:
        assert running.end()[0] == 0, running.log()
    check_all_is_written(answers, made)


@pytest.mark.thorough
def test_a_scorer_that_is_told_to_end_keeps_its_scores_and_goes_on(start: Start, scores: Shard, tmp_path: Path) -> None:
    made = tmp_path / "made"
    # A whole window is under way: what of it has no score when the time to drain is over is left.
    flags = ("--tokens-per-batch", "1", "--commit-seconds", "0.2", "--drain-seconds", "1")
    terminate(start, scores, made, *flags)
    check_nothing_is_written(made)
    check_it_goes_on(start, scores, made)
