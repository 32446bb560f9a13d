"""Preference pairs, worked out by hand: the published rule, what it keeps and should not, other rules, the tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.accounting import Account, read_account
from corpusmith.errors import InputError
from corpusmith.identity import item_id, shard_name
from corpusmith.preferences import PairRule, ResponseTables, build_preferences, pair
from corpusmith.requests import request
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, PREFERENCES, REJECTED_PREFERENCES, REQUESTS, SCORES
from translation_tables import call_program

ITEM = item_id("instruction")


def responses(*scores: float | None, texts: list[str] | None = None) -> list[dict[str, Any]]:
    said = texts or [f"response {number}" for number in range(len(scores))]
    return [
        {
            "sample": number,
            "text": text,
            "finish_reason": "stop",
            "error": None,
            "score": score,
            "truncated": False,
        }
        for number, (score, text) in enumerate(zip(scores, said, strict=True))
    ]


def published_rule(rewarded: list[dict[str, Any]]) -> tuple[int, int]:
    """Of all rewards the highest and the lowest, whatever they are and say; the first of several."""
    scores = [response["score"] for response in rewarded]
    return scores.index(max(scores)), scores.index(min(scores))


@pytest.mark.parametrize(
    ("scores", "chosen", "rejected"),
    [
        ((0.1, 2.5, -1.0, 0.3, 1.0), 1, 2),
        ((2.5, 2.5, -1.0, 0.3, -1.0), 0, 2),
        ((-3.0, -2.0, -2.5, -7.0, -2.1), 1, 3),
    ],
)
def test_five_responses_give_the_pair_of_the_published_rule(
    scores: tuple[float, ...], chosen: int, rejected: int
) -> None:
    rewarded = responses(*scores)
    assert published_rule(rewarded) == (chosen, rejected)
    found = pair(ITEM, rewarded, PairRule())
    assert found.chosen is rewarded[chosen]
    assert found.rejected is rewarded[rejected]


@pytest.mark.parametrize(
    ("rewarded", "reason"),
    [
        # The published rule makes a pair of each of these.
        (responses(1.0, 1.0, 1.0, 1.0, 1.0), "equal_scores"),
        (responses(1.0, 1.0000004, 1.0), "equal_scores"),
        (responses(1.0, 0.5, 0.7, texts=["Yes.", " Yes.", "Yes.\n"]), "one_response"),
        # These it cannot have.
        (responses(None, None), "no_score"),
        (responses(1.0, None), "one_response"),
        (responses(), "no_answer"),
        ([{**row, "finish_reason": "length"} for row in responses(1.0, 2.0)], "answer_cut_off"),
        ([{**row, "error": "refused"} for row in responses(None, None)], "no_answer"),
        ([{**row, "truncated": True} for row in responses(1.0, 2.0)], "too_long_to_score"),
        (responses(1.0, float("nan")), "one_response"),
        (responses(2.0, 1.0, texts=["", "  "]), "empty_answer"),
    ],
)
def test_ties_duplicates_and_what_is_no_response_make_no_pair(rewarded: list[dict[str, Any]], reason: str) -> None:
    assert pair(ITEM, rewarded, PairRule()).reason == reason


def test_an_equal_text_counts_once_and_the_next_one_is_taken() -> None:
    # The worst says what the best says: rewards of equal texts differ where a scorer saw other batches.
    rewarded = responses(2.0, 1.0, 0.5, texts=["Yes.", "No.", "Yes."])
    found = pair(ITEM, rewarded, PairRule())
    assert (found.chosen, found.rejected) == (rewarded[0], rewarded[1])


def test_a_pair_has_the_least_margin_or_is_none() -> None:
    assert pair(ITEM, responses(1.0, 0.5), PairRule(minimum_margin=0.5)).reason is None
    found = pair(ITEM, responses(1.0, 0.6), PairRule(minimum_margin=0.5))
    assert (found.reason, found.detail) == ("margin_too_small", "0.4 between the two")


def test_a_fixed_margin_takes_the_response_that_is_nearest_to_it() -> None:
    rewarded = responses(3.0, 2.6, 1.9, -4.0)
    found = pair(ITEM, rewarded, PairRule("fixed_margin", margin=1.0))
    assert found.rejected is rewarded[2]
    assert pair(ITEM, rewarded, PairRule("fixed_margin", margin=9.0)).rejected is rewarded[3]


def test_a_random_one_is_a_worse_one_and_each_is_taken_as_often() -> None:
    rewarded = responses(2.0, 2.0, 1.0, 0.5, 0.0, texts=["a", "b", "c", "d", "e"])
    items = [item_id(str(number)) for number in range(3000)]
    taken = [pair(item, rewarded, PairRule("best_random")).rejected for item in items]
    counts = [sum(response is rewarded[place] for response in taken) for place in range(5)]
    assert counts[:2] == [0, 0]
    # 1,000 each; five standard deviations are 130.
    assert all(abs(count - 1000) < 130 for count in counts[2:])
    again = [pair(item, rewarded, PairRule("best_random")).rejected for item in items]
    assert again == taken
    other = [pair(item, rewarded, PairRule("best_random", seed=1)).rejected for item in items]
    assert other != taken


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", "d"]), st.one_of(st.none(), st.integers(-3, 3).map(float))),
        max_size=6,
    ),
    st.sampled_from([PairRule(), PairRule("best_random", minimum_margin=1.0), PairRule("fixed_margin", margin=2.0)]),
)
def test_a_pair_is_always_of_two_texts_of_which_the_chosen_is_better(
    drawn: list[tuple[str, float | None]], rule: PairRule
) -> None:
    rewarded = responses(*(score for _, score in drawn), texts=[text for text, _ in drawn])
    found = pair(ITEM, rewarded, rule)
    if found.reason is not None:
        assert found.chosen is None
        assert found.rejected is None
        return
    assert found.chosen is not None
    assert found.rejected is not None
    assert found.chosen["text"] != found.rejected["text"]
    assert found.chosen["score"] - found.rejected["score"] >= max(rule.minimum_margin, 1e-6)
    firsts = {text: score for text, score in reversed(drawn) if score is not None}
    assert found.chosen["score"] == max(firsts.values())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rule": "worst_best"}, "allowed: best_worst, best_random, fixed_margin"),
        ({"rule": "fixed_margin"}, "a margin goes with fixed_margin"),
        ({"margin": 1.0}, "a margin goes with fixed_margin"),
        ({"minimum_margin": -1.0}, "0 or more"),
        ({"rule": "fixed_margin", "margin": 0.0}, "above 0"),
    ],
)
def test_what_is_no_rule_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PairRule(**settings)


# --- tables ---


def write_step(folder: Path, items: dict[str, dict[float, list[float | None]]], shards: int = 1) -> None:
    """A step with responses at several temperatures: item to temperature to rewards."""
    asked, answers, scores = [], [], []
    for item, temperatures in items.items():
        for temperature, rewards in temperatures.items():
            name = f"at-{temperature}"
            turn = [{"role": "user", "content": f"Do {item[:4]}."}]
            n = len(rewards)
            asked.append(request(item, name, messages=turn, temperature=temperature, n=n, max_tokens=9))
            for sample, reward in enumerate(rewards):
                common = {"item_id": item, "request": name, "sample": sample, "key": "k"}
                text = f"{item[:4]} at {temperature}, {sample}"
                tokens = {"prompt_tokens": 3, "completion_tokens": 2}
                answers.append({**common, **tokens, "text": text, "finish_reason": "stop", "error": None})
                scores.append({**common, "score": reward, "truncated": False, "error": None})
    for kind, table, rows in (
        ("requests", REQUESTS, asked),
        ("completions", COMPLETIONS, answers),
        ("scores", SCORES, scores),
    ):
        write_table(folder / kind / f"{shard_name(0, shards)}.parquet", table, rows)


def test_the_program_makes_the_columns_that_trl_reads_and_keeps_every_score(tmp_path: Path) -> None:
    good, flat = item_id("good"), item_id("flat")
    write_step(tmp_path / "step", {good: {0.7: [0.5, 1.5], 1.2: [-2.0, None]}, flat: {0.7: [1.0, 1.0]}})
    kept, rejected, account = tmp_path / "kept.parquet", tmp_path / "rejected.parquet", tmp_path / "account.json"
    done = call_program(
        *("build_preferences.py", "--step", tmp_path / "step", "--shards", "1"),
        *("--kept", kept, "--rejected", rejected, "--account", account),
    )
    assert done.returncode == 0, done.stderr
    assert "1 pairs of 2 instructions; without: equal_scores 1" in done.stderr
    (row,) = read_rows(kept, PREFERENCES)
    assert row["prompt"] == [{"role": "user", "content": f"Do {good[:4]}."}]
    assert row["chosen"] == [{"role": "assistant", "content": f"{good[:4]} at 0.7, 1"}]
    assert row["rejected"] == [{"role": "assistant", "content": f"{good[:4]} at 1.2, 0"}]
    assert (row["chosen_score"], row["rejected_score"], row["margin"]) == (1.5, -2.0, 3.5)
    assert [(one["temperature"], one["sample"], one["score"]) for one in row["responses"]] == [
        (0.7, 0, 0.5),
        (0.7, 1, 1.5),
        (1.2, 0, -2.0),
        (1.2, 1, None),
    ]
    (gone,) = read_rows(rejected, REJECTED_PREFERENCES)
    assert (gone["item_id"], gone["reason"], len(gone["responses"])) == (flat, "equal_scores", 2)
    told = read_account(account)
    told.check()
    assert (told.taken.count, told.kept.count, dict(told.reasons)) == (2, 1, {"equal_scores": 1})


def test_tables_of_different_steps_are_refused(tmp_path: Path) -> None:
    write_step(tmp_path / "one", {item_id("a"): {0.7: [0.5, 1.5]}})
    write_step(tmp_path / "two", {item_id("b"): {0.7: [0.5, 1.5]}})
    name = f"{shard_name(0, 1)}.parquet"
    for mixed in (("one", "two", "two"), ("one", "one", "two")):
        kinds = ("requests", "completions", "scores")
        tables = ResponseTables(*(tmp_path / step / kind / name for step, kind in zip(mixed, kinds, strict=True)))
        with pytest.raises(InputError, match="belong"):
            build_preferences([tables], PairRule(), tmp_path / "k", tmp_path / "r", Account("pair"))


def test_a_raw_prompt_is_no_conversation(tmp_path: Path) -> None:
    write_step(tmp_path / "step", {ITEM: {0.7: [0.5, 1.5]}})
    path = tmp_path / "step" / "requests" / f"{shard_name(0, 1)}.parquet"
    write_table(path, REQUESTS, [request(ITEM, "at-0.7", prompt="Do it.", temperature=0.7, n=2, max_tokens=9)])
    done = call_program(
        *("build_preferences.py", "--step", tmp_path / "step", "--shards", "1"),
        *("--kept", tmp_path / "k", "--rejected", tmp_path / "r", "--account", tmp_path / "a"),
    )
    assert done.returncode == 1
    assert "is no conversation" in done.stderr
    assert not (tmp_path / "k").exists()


def test_datasets_reads_the_pairs_as_conversations(tmp_path: Path) -> None:
    import datasets

    write_step(tmp_path / "step", {ITEM: {0.7: [0.5, 1.5]}})
    name = f"{shard_name(0, 1)}.parquet"
    tables = ResponseTables(*(tmp_path / "step" / kind / name for kind in ("requests", "completions", "scores")))
    build_preferences([tables], PairRule(), tmp_path / "k.parquet", tmp_path / "r.parquet", Account("pair"))
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "k.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert json.loads(json.dumps(loaded[0]["chosen"])) == [{"role": "assistant", "content": f"{ITEM[:4]} at 0.7, 1"}]
