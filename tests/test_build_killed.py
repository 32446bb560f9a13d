"""A build that is killed at any moment, as often as one likes: nothing is lost, nothing is asked twice."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from checkout import CONTROL, Checkout, bytes_of, need_control
from corpusmith.engines.process_guard import marked
from corpusmith.identity import sample_seed, score_key
from corpusmith.metrics import metricx
from corpusmith.models import read_receipt
from corpusmith.store import completion_entry, score_entry
from corpusmith.store.folder import is_segment, model_folders, vanished
from corpusmith.store.journal import Damage, JournalFile

pytestmark = pytest.mark.slow

DATASET = "results-limit-40/toy-translation"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The release of the tiny dataset, built without a break."""
    need_control()
    return Checkout.with_release(tmp_path_factory)


def committed(store: Path) -> dict[str, set[bytes]]:
    """The keys of all answers in a store that others write, by kind."""
    found: dict[str, set[bytes]] = {"completions": set(), "scores": set()}
    for folder in model_folders(store):
        for name in folder.files():
            path, size = folder.path / name, folder.kind.key_bytes
            try:
                if is_segment(name):
                    found[folder.kind.name] |= set(parquet.read_table(path, columns=["key"])["key"].to_pylist())
                else:
                    with JournalFile(path, folder.kind) as journal:
                        for frame in journal.frames():
                            if not isinstance(frame, Damage):
                                keys = frame.keys
                                found[folder.kind.name] |= {keys[at : at + size] for at in range(0, len(keys), size)}
            except OSError as error:
                if not vanished(error):
                    raise
    return found


def wanted_keys(folder: Path) -> dict[str, set[bytes]]:
    """The keys of all answers and scores that a dataset's release rests on, from its tables."""
    found: dict[str, set[bytes]] = {"completions": set(), "scores": set()}
    for step in ("prefilter", "final"):
        for kind, entry in (
            ("completions", lambda row: completion_entry(row["key"], row["sample"])),
            ("scores", lambda row: score_entry(row["key"])),
        ):
            for path in (folder / step / kind).glob("*.parquet"):
                found[kind] |= {entry(row) for row in parquet.read_table(path).to_pylist()}
    return found


def count(keys: dict[str, set[bytes]]) -> int:
    return sum(map(len, keys.values()))


@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.thorough)])
def test_a_build_that_is_killed_again_and_again_loses_nothing_and_asks_nothing_twice(
    built: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
):
    checkout = Checkout(tmp_path / "checkout", built.environments)
    # Slow enough to be killed in the middle; and what is put to the model and to the scorer is written down there.
    pause = "        import json, os, time\n        time.sleep(0.2)\n"
    note = "        with open(os.environ['ASKED'], 'a') as asked:\n            "
    answer = "    def _answer(self, questions: Sequence[Question]) -> list[Answer]:\n"
    run = "    def _start(self, batch: Batch) -> torch.Tensor:\n"
    submit = "    def submit(self, question: PairQuestion) -> None:\n"
    patches = {
        "engines/transformers_engine.py": (
            answer,
            f"{pause}{note}asked.writelines(json.dumps(['completions', one.seed]) + '\\n' for one in questions)\n",
        ),
        "metricx.py": (run, pause),
        "scoring_worker.py": (
            submit,
            f"        import json, os\n        pair = question.pair\n{note}"
            "asked.write(json.dumps(['scores', pair.source, pair.hypothesis]) + '\\n')\n",
        ),
    }
    for name, (place, addition) in patches.items():
        path = checkout.folder / "scripts" / "corpusmith" / name
        before = path.read_text()
        assert place in before
        path.write_text(before.replace(place, place + addition, 1))
    shutil.copytree(built.folder / "results" / "models", checkout.folder / "results" / "models")
    config = checkout.config(
        "killed",
        commit_seconds=0.1,
        **{"models__toy-base__batch_size": 4, "scorers__toy-metricx__tokens_per_batch": 200},
    )
    target = f"{DATASET}/release/manifest.json"
    # As a build that was killed left it, Snakemake's lock is still there: no other build runs here.
    flags = ("--configfile", config, "--rerun-triggers", "mtime", "--nolock")
    command = [CONTROL / "snakemake", "--profile", "profiles/local", "--conda-prefix", built.environments, *flags]
    asked, store = tmp_path / "asked", checkout.folder / "store"
    asked.touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["ASKED"] = str(asked)
    wanted = wanted_keys(built.folder / DATASET)
    total = count(wanted)
    kills: list[tuple[dict[str, set[bytes]], int]] = []
    reached = 0
    for kill in range(1, times + 1):
        with open(tmp_path / f"build-{kill}.log", "w") as log:
            build = subprocess.Popen(
                [*map(str, command), "--", target],
                cwd=checkout.folder, env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            # Each attempt gets on by an answer at least; the last one leaves enough not to be done before it is killed.
            enough = max(math.ceil(kill * total / (1.2 * times)), reached + 1)
            while count(committed(store)) < enough:
                assert build.poll() is None, (tmp_path / f"build-{kill}.log").read_text()[-3000:]
                # Reading the store is work that the build, too, waits for.
                time.sleep(0.25)
            # Not always just after a commit.
            time.sleep(random.Random(kill).uniform(0, 0.1))
            assert build.poll() is None
            os.killpg(build.pid, signal.SIGKILL)
            build.wait()
        # The guards of the models' processes are in groups of their own, and end by themselves.
        patience = time.monotonic() + 60
        while marked(f"ASKED={asked}"):
            assert time.monotonic() < patience
            time.sleep(0.05)
        kills.append((committed(store), len(asked.read_text().splitlines())))
        reached = count(kills[-1][0])
    monkeypatch.setenv("ASKED", str(asked))
    checkout.snakemake(*flags, "--", target)

    assert bytes_of(checkout.folder / DATASET / "release") == bytes_of(built.folder / DATASET / "release")
    assert committed(store) == wanted
    counts = [count(keys) for keys, _ in kills]
    assert counts == sorted(set(counts))
    assert counts[-1] < total
    for (before, _), (after, _) in pairwise(kills):
        assert all(before[kind] <= after[kind] for kind in before)
    lines = asked.read_text().splitlines()
    scorer = read_receipt(checkout.folder / "results" / "models" / "toy-metricx" / "receipt.json")
    metric = metricx(scorer.identity, "float64").identity
    for keys, place in kills:
        known = {sample_seed(key[:-4].hex(), int.from_bytes(key[-4:], "big")) for key in keys["completions"]}
        later = [json.loads(line) for line in lines[place:]]
        assert not known & {seed for kind, seed in (line for line in later if line[0] == "completions")}
        scored = {
            score_entry(score_key(metric, source, hypothesis, None))
            for _, source, hypothesis in (line for line in later if line[0] == "scores")
        }
        assert not scored & keys["scores"]
    # The notes are those of what was asked: each wanted answer is in them.
    asked_seeds = {json.loads(line)[1] for line in lines if json.loads(line)[0] == "completions"}
    assert asked_seeds == {
        sample_seed(key[:-4].hex(), int.from_bytes(key[-4:], "big")) for key in wanted["completions"]
    }
