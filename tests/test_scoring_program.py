"""Where a scorer runs: on one GPU, on several side by side, or split among them. Devices here are pretended ones."""

from __future__ import annotations

import dataclasses
import random
from functools import partial
from pathlib import Path

import pytest

from corpusmith.engines.hosted import HostedWorker
from corpusmith.engines.protocol import Worker
from corpusmith.engines.replicas import Replicas
from corpusmith.errors import InputError
from corpusmith.metricx import MetricX
from corpusmith.models import ModelReceipt, describe_folder, read_receipt, write_receipt
from corpusmith.pairs import Pair, PairQuestion, PairScore
from corpusmith.scoring_program import place, refuse_parts, weight_bytes
from hosted_workers import LengthScorer
from score_metricx import _make
from test_supervised import children
from toy_models import WORDS, mt5_model, mt5_tokenizer, save_mt5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelReceipt]:
    folder = tmp_path_factory.mktemp("metricx")
    mt5_tokenizer(save_mt5(mt5_model(), folder))
    path = folder.with_suffix(".json")
    write_receipt(path, describe_folder(folder, "tiny", "local"))
    return folder, read_receipt(path)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    chooser = random.Random(7)
    return [Pair(*(" ".join(chooser.choices(WORDS, k=chooser.randint(1, 40))) for _ in range(2))) for _ in range(120)]


@pytest.mark.parametrize(
    ("gpus", "memory", "kind"),
    [(2, 10**9, Replicas), (2, 1000, HostedWorker)],
    ids=["side by side", "split"],
)
def test_scores_are_the_same_wherever_they_are_computed(
    checkpoint: tuple[Path, ModelReceipt], pairs: list[Pair], gpus: int, memory: int, kind: type[object]
) -> None:
    before = children()
    folder, receipt = checkpoint
    make = partial(_make, folder=folder, tokenizer=folder, device="cpu", dtype="float64", compiled=False)
    names = [f"GPU-{number}" for number in range(gpus)]
    worker: Worker[PairQuestion, PairScore] = place(make, receipt, "float64", "cpu", names, 900, lambda: memory)
    assert isinstance(worker, kind)
    found = {}
    for handle, pair in enumerate(pairs):
        worker.submit(PairQuestion(handle, pair))
    while len(found) < len(pairs):
        found |= {answer.handle: answer.score for answer in worker.collect()}
    worker.close()
    expected = [score for score, _ in MetricX(folder, folder, dtype="float64").score(pairs)]
    assert [found[handle] for handle in range(len(pairs))] == pytest.approx(expected, abs=1e-9)
    assert children() == before


def test_a_model_is_split_where_its_weights_take_more_than_four_fifths_of_a_gpu(
    checkpoint: tuple[Path, ModelReceipt],
) -> None:
    _, receipt = checkpoint
    assert receipt.parameters is not None
    assert [weight_bytes(receipt, dtype) // receipt.parameters for dtype in ("float64", "float32", "bfloat16")] == [
        8,
        4,
        2,
    ]
    # A checkpoint whose weights nobody counted is as large as its files.
    uncounted = dataclasses.replace(receipt, parameters=None)
    assert weight_bytes(uncounted, "bfloat16") == sum(file.size for file in receipt.files)

    needed = 4 * receipt.parameters
    for memory, kind in ((needed * 5 // 4 + 1, Replicas), (needed * 5 // 4 - 1, HostedWorker)):
        worker: Worker[PairQuestion, PairScore] = place(
            LengthScorer, receipt, "float32", "cpu", ["0", "1"], 900, lambda memory=memory: memory
        )
        worker.close()
        assert isinstance(worker, kind)


def test_a_scorer_that_cannot_be_split_says_so() -> None:
    refuse_parts(Path("reward"), 1)
    with pytest.raises(InputError, match="reward does not fit on one GPU of this job, and cannot be split"):
        refuse_parts(Path("reward"), 2)
