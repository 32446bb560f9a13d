"""From requests and completions to a table of scores, whatever the scorer; and with a real one, as a program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith import metrics
from corpusmith.accounting import Account
from corpusmith.errors import InputError
from corpusmith.generation import GenerationStats
from corpusmith.metrics import Metric
from corpusmith.metricx import MetricX
from corpusmith.models import read_receipt
from corpusmith.pairs import Pair, Scored
from corpusmith.scoring import WINDOW, score_completions
from corpusmith.scoring_worker import ScoringWorker
from corpusmith.store import Store
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, REQUESTS, SCORES
from scoring_tables import answers, asking, receipt_of, run_scorer
from toy_models import mt5_model, mt5_tokenizer, save_mt5


class LengthScorer:
    """Scores the length of the answer against that of the source; sees the first 20 letters of a source."""

    def __init__(self) -> None:
        self.asked: list[Pair] = []

    def prepare(self, pairs: Sequence[Pair]) -> Sequence[Pair]:
        return pairs

    def score_batches(self, pairs: Sequence[Pair]) -> Iterator[list[Scored]]:
        self.asked += pairs
        scores = [
            Scored(
                place,
                len(pair.hypothesis) / (3 * len(pair.source)) + 10 * len(pair.reference or ""),
                len(pair.source) > 20,
            )
            for place, pair in enumerate(pairs)
        ]
        # In an order of its own, a few at a time.
        for start in range(0, len(pairs), 3):
            yield scores[::-1][start : start + 3]


def score(
    tmp_path: Path,
    requests: Sequence[Mapping[str, Any]],
    completions: Sequence[Mapping[str, Any]],
    metric: str = "it",
    store: Store | None = None,
) -> tuple[list[dict[str, Any]], LengthScorer, Account, GenerationStats]:
    write_table(tmp_path / "requests.parquet", REQUESTS, requests)
    write_table(tmp_path / "completions.parquet", COMPLETIONS, completions)
    scorer, account = LengthScorer(), Account("score")
    paths = (tmp_path / name for name in ("requests.parquet", "completions.parquet"))
    worker = ScoringWorker(scorer, 100)
    stats = score_completions(*paths, worker, Metric(metric), tmp_path / "scores.parquet", account, store=store)
    return list(read_rows(tmp_path / "scores.parquet", SCORES)), scorer, account, stats


@settings(max_examples=40)
@given(asked=st.lists(st.lists(st.none() | st.text("ab", max_size=3), min_size=1, max_size=5), max_size=8))
def test_each_answer_gets_the_score_of_its_pair_in_its_place_and_each_pair_is_scored_once(
    tmp_path_factory: pytest.TempPathFactory, asked: list[list[str | None]]
) -> None:
    requests = [asking(f"source {place % 3}", len(texts), name=f"{place}") for place, texts in enumerate(asked)]
    completions = [row for row, texts in zip(requests, asked, strict=True) for row in answers(row, texts)]
    rows, scorer, _, stats = score(tmp_path_factory.mktemp("scores"), requests, completions)
    names = ("item_id", "request", "sample")
    assert [[row[name] for name in names] for row in rows] == [[row[name] for name in names] for row in completions]
    # A source has 8 letters.
    expected = [None if text is None else round(len(text) / 24, 6) for texts in asked for text in texts]
    assert [row["score"] for row in rows] == expected
    distinct = {(place % 3, text) for place, texts in enumerate(asked) for text in texts if text is not None}
    assert len(scorer.asked) == len(set(scorer.asked)) == len(distinct) == stats.asked


def test_failed_answers_have_no_score_and_the_scorer_never_sees_them(tmp_path: Path) -> None:
    long = asking("a source of more than twenty letters", 3)
    # An empty answer is the same pair as a failed one, and does have a score.
    rows, scorer, _, _ = score(tmp_path, [long], answers(long, [None, "", "x"]))
    assert [row["score"] for row in rows] == [None, 0.0, round(1 / 3 / 36, 6)]
    assert [row["truncated"] for row in rows][1:] == [True, True]
    assert [pair.hypothesis for pair in scorer.asked] == ["", "x"]


def test_an_answer_that_was_cut_off_is_scored_like_any_other(tmp_path: Path) -> None:
    row = asking("source", 1)
    completions = [answer | {"finish_reason": "length"} for answer in answers(row, ["cut o"])]
    assert score(tmp_path, [row], completions)[0][0]["score"] == round(5 / 18, 6)


def test_scores_are_rounded_to_a_millionth(tmp_path: Path) -> None:
    row = asking("abcdefg", 2)
    rows, _, _, _ = score(tmp_path, [row], answers(row, ["a", "ab"]))
    # 1/21 and 2/21
    assert [row["score"] for row in rows] == [0.047619, 0.095238]


def test_a_reference_is_part_of_the_pair(tmp_path: Path) -> None:
    requests = [asking("abc", 1), asking("abc", 1, name="with", reference="abcd")]
    rows, _, _, _ = score(tmp_path, requests, [row for asked in requests for row in answers(asked, ["abc"])])
    assert [row["score"] for row in rows] == [0.333333, 40.333333]
    assert rows[0]["key"] != rows[1]["key"]


def test_the_key_of_a_score_is_that_of_metric_and_pair(tmp_path: Path) -> None:
    requests = [asking("abc", 2), asking("abc", 1, name="again"), asking("other", 1)]
    texts = [["x", "y"], ["x"], ["x"]]
    completions = [row for asked, found in zip(requests, texts, strict=True) for row in answers(asked, found)]
    keys = [row["key"] for row in score(tmp_path, requests, completions)[0]]
    assert keys[0] == keys[2]
    assert len(set(keys)) == 3
    assert not set(keys) & {row["key"] for row in score(tmp_path, requests, completions, metric="other")[0]}


def test_more_answers_than_are_sorted_together_all_get_their_scores(tmp_path: Path) -> None:
    row = asking("abc", WINDOW + 100)
    texts = ["x" * (place % 50) for place in range(WINDOW + 100)]
    rows, scorer, _, stats = score(tmp_path, [row], answers(row, texts))
    assert [row["score"] for row in rows] == [round(len(text) / 9, 6) for text in texts]
    assert len(scorer.asked) == stats.asked == 50


def test_a_pair_that_the_store_knows_is_not_scored_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    row = asking("the source", 3)
    first, _, _, paid = score(tmp_path, [row], answers(row, ["a", "bb", "a"]), store=store)
    assert (paid.asked, paid.from_store) == (2, 0)
    other = asking("the source", 2, name="other")
    second, scorer, _, paid = score(tmp_path, [other], answers(other, ["bb", "ccc"]), store=store)
    assert (paid.asked, paid.from_store) == (1, 1)
    assert [pair.hypothesis for pair in scorer.asked] == ["ccc"]
    assert second[0]["score"] == first[1]["score"]
    assert score(tmp_path, [other], answers(other, ["bb", "ccc"]), metric="another", store=store)[3].asked == 2
    unloaded = score(tmp_path, [row], answers(row, ["a", "bb", "a"]), store=store)
    assert unloaded[0] == first
    assert unloaded[1].asked == []


def test_the_account_keeps_each_item_once(tmp_path: Path) -> None:
    requests = [
        row for text in ("one", "two") for row in (asking(text, 1, name="greedy", temperature=0), asking(text, 3))
    ]
    completions = [row for asked in requests for row in answers(asked, [None, "x", "y"][: asked["n"]])]
    _, _, account, stats = score(tmp_path, requests, completions)
    found = account.as_json()
    assert (found["in"], found["kept"], found["dropped"]) == (2, 2, {})
    account.check()
    assert (stats.failed, stats.from_store, stats.retries) == (0, 0, 0)


ONE, TWO = asking("one", 2), asking("two", 1)


@pytest.mark.parametrize(
    ("requests", "completions", "says"),
    [
        ([ONE, TWO], answers(TWO, ["x"]) + answers(ONE, ["x", "y"]), "row 0 there asks something else"),
        ([ONE, TWO], answers(ONE, ["x", "y"]), "row 1 there asks something else"),
        ([ONE], answers(ONE, ["x", "y"]) + answers(TWO, ["x"]), "has rows that"),
        ([ONE, TWO], answers(ONE, ["x"]) + answers(TWO, ["x"]), "row 0 there asks other samples"),
        ([ONE, TWO], answers(ONE, ["x", "y", "z"]) + answers(TWO, ["x"]), "row 0 there asks other samples"),
        ([ONE | {"first_sample": 2}, TWO], answers(ONE, ["x", "y"]) + answers(TWO, ["x"]), "row 0 there asks other"),
        ([asking(None, 1)], answers(asking(None, 1), ["x"]), "row 0: no source"),
    ],
    ids=[
        "other order",
        "one too few",
        "one too many",
        "sample missing",
        "sample too many",
        "other samples",
        "no source",
    ],
)
def test_completions_of_other_requests_are_refused_and_nothing_is_written(
    tmp_path: Path, requests: list[dict[str, Any]], completions: list[dict[str, Any]], says: str
) -> None:
    with pytest.raises(InputError) as caught:
        score(tmp_path, requests, completions)
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["completions.parquet", "requests.parquet"]


# --- the program, with a real model ---


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metricx")
    mt5_tokenizer(save_mt5(mt5_model(), folder))
    return folder


def score_metricx(
    tmp_path: Path, receipt: Path, *flags: str, python: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    return run_scorer("score_metricx.py", tmp_path, receipt, receipt, "--dtype", "float64", *flags, python=python)


def test_the_program_writes_the_scores_of_metricx(tmp_path: Path, checkpoint: Path) -> None:
    requests = [asking("the red train stops at every station", 4), asking("red", 2)]
    texts = [["빨간 기차 는 모든 역 에서 멈춘다", "기차 " * 60, None, "책 을 샀다"], ["빨간", "빨간"]]
    completions = [row for asked, found in zip(requests, texts, strict=True) for row in answers(asked, found)]
    write_table(tmp_path / "requests.parquet", REQUESTS, requests)
    write_table(tmp_path / "completions.parquet", COMPLETIONS, completions)
    receipt = receipt_of(checkpoint, tmp_path / "receipt.json")
    done = score_metricx(tmp_path, receipt, "--tokens-per-batch", "100", "--stage", "scores")
    assert done.returncode == 0, done.stderr
    rows = list(read_rows(tmp_path / "scores.parquet", SCORES))
    scorer = MetricX(checkpoint, checkpoint, dtype="float64")
    for row, (asked, text) in zip(
        rows, [(asked, text) for asked, found in zip(requests, texts, strict=True) for text in found], strict=True
    ):
        expected = None if text is None else round(scorer.score([Pair(asked["source"], text)])[0][0], 6)
        assert row["score"] == expected
    assert len({row["key"] for row in rows}) == 5
    identity = read_receipt(receipt).identity
    again, _, account, _ = score(tmp_path, requests, completions, metric=f"metricx-24 {identity} float64")
    assert [row["key"] for row in again] == [row["key"] for row in rows]
    assert json.loads((tmp_path / "account.json").read_text()) == account.as_json() | {"stage": "scores"}
    assert json.loads((tmp_path / "scores.run-stats.json").read_text())["asked"] == 4


@pytest.mark.parametrize(("flag", "reference"), [("--references", "빨간 기차"), ("--no-references", None)])
def test_the_program_reads_a_reference_where_there_is_one_unless_it_must_not(
    tmp_path: Path, checkpoint: Path, flag: str, reference: str | None
) -> None:
    asked = asking("the red train", 2, reference="빨간 기차")
    write_table(tmp_path / "requests.parquet", REQUESTS, [asked])
    write_table(tmp_path / "completions.parquet", COMPLETIONS, answers(asked, ["기차 는", "빨간 역"]))
    done = score_metricx(tmp_path, receipt_of(checkpoint, tmp_path / "receipt.json"), flag)
    assert done.returncode == 0, done.stderr
    scorer = MetricX(checkpoint, checkpoint, dtype="float64")
    expected = scorer.score([Pair("the red train", text, reference) for text in ("기차 는", "빨간 역")])
    found = [row["score"] for row in read_rows(tmp_path / "scores.parquet", SCORES)]
    assert found == [round(score, 6) for score, _ in expected]


def test_what_a_metric_reads_and_what_its_scores_are_known_by() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    row = {"source": "2 + 2?", "messages": messages, "prompt": None, "text": "4", "reference": "four"}
    by_reference, blind = metrics.metricx("model", "float32"), metrics.metricx("model", "float32", references=False)
    assert by_reference.pair(row) == Pair("2 + 2?", "4", "four")
    assert blind.pair(row) == Pair("2 + 2?", "4")
    assert by_reference.identity == blind.identity == "metricx-24 model float32"
    chat, pair = (metrics.reward("model", "float32", form, 512) for form in ("chat", "pair"))
    assert json.loads(chat.pair(row).source) == messages
    assert chat.pair(row).reference is None
    assert json.loads(chat.pair(row | {"messages": None, "prompt": "Hello"}).source) == [
        {"role": "user", "content": "Hello"}
    ]
    assert pair.pair(row) == Pair("2 + 2?", "4")
    others = [by_reference, blind, chat, pair, metrics.reward("model", "float32", "pair", None)]
    others += [metrics.reward("model", "bfloat16", "pair", 512), metrics.comet("model", "float32")]
    assert len({metric.key(row) for metric in others}) == len(others)
    # A score without a reference is that of a row that has none.
    assert blind.key(row) == by_reference.key(row | {"reference": None})


def test_an_empty_shard_needs_no_checkpoint(tmp_path: Path) -> None:
    write_table(tmp_path / "requests.parquet", REQUESTS, [])
    write_table(tmp_path / "completions.parquet", COMPLETIONS, [])
    done = score_metricx(tmp_path, tmp_path / "there is no receipt.json", python=["-X", "importtime"])
    assert done.returncode == 0, done.stderr
    assert "corpusmith.scoring" in done.stderr
    assert "torch" not in done.stderr
    assert list(read_rows(tmp_path / "scores.parquet", SCORES)) == []
    assert json.loads((tmp_path / "account.json").read_text())["in"] == 0


def test_a_checkpoint_that_is_none_ends_the_program_with_one_line_before_anything_is_scored(
    tmp_path: Path, checkpoint: Path
) -> None:
    row = asking("the red train", 1)
    write_table(tmp_path / "requests.parquet", REQUESTS, [row])
    write_table(tmp_path / "completions.parquet", COMPLETIONS, answers(row, ["기차"]))
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    done = score_metricx(tmp_path, receipt_of(folder, tmp_path / "receipt.json"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {weights}: is no whole file of weights")
    assert not (tmp_path / "scores.parquet").exists()
    assert not (tmp_path / "account.json").exists()
