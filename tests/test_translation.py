"""What lies between generating and scoring in the translation recipe, and its programs."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.accounting import Account, read_account
from corpusmith.errors import InputError
from corpusmith.identity import item_id, rank, shard_names, shard_of
from corpusmith.prompts import load_prompt
from corpusmith.table_files import read_rows, row_count, write_table
from corpusmith.tables import DROPPED, REQUESTS, SEGMENTS, SELECTED_ANSWERS, SELECTED_SOURCES
from corpusmith.translation import (
    Asking,
    Language,
    draw_sources,
    select_best,
    select_sources,
    translation_requests,
)
from translation_tables import FAILED, Answer, Answers, call_program, run_program, segment, write_answers

PROMPT = Path(__file__).resolve().parent.parent / "config" / "prompts" / "translate.txt"
LANGUAGES = (Language("English", "en"), Language("Korean", "ko"))
SEVERAL = Asking(n=3, greedy=False, temperature=0.7, top_p=0.9, top_k=40, max_tokens=50)
BOTH = Asking(n=1, greedy=True, temperature=1.0, top_p=1.0, top_k=0, max_tokens=50)

# --- requests ---


def sources(count: int) -> list[dict[str, str]]:
    return [{"item_id": item_id(f"Source {number}."), "text": f"Source {number}."} for number in range(count)]


@given(st.integers(0, 30), st.integers(1, 7))
def test_every_source_is_asked_in_exactly_one_shard_and_in_order(count: int, shards: int) -> None:
    rows = sources(count)
    asked = []
    for number, shard in enumerate(shard_names(shards)):
        found = [
            row["item_id"] for row in translation_requests(rows, shard, lambda text, **_: text, LANGUAGES, SEVERAL)
        ]
        assert found == [row["item_id"] for row in rows if shard_of(row["item_id"], shards) == number]
        asked += found
    assert sorted(asked) == sorted(row["item_id"] for row in rows)


def ask(text: str, prompt: Path, asking: Asking) -> list[dict[str, Any]]:
    rows = [{"item_id": item_id(text), "text": text}]
    return list(translation_requests(rows, "0000-of-0001", load_prompt(prompt), LANGUAGES, asking))


def test_the_prefilter_asks_for_a_greedy_and_a_sampled_answer(tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("To {{ target_language.code }}: {{ text }}\n")
    greedy, sampled = ask("Hello.", tmp_path / "prompt", BOTH)
    for row in (greedy, sampled):
        assert row["messages"] == [{"role": "user", "content": "To ko: Hello."}]
        assert (row["source"], row["max_tokens"], row["n"], row["first_sample"]) == ("Hello.", 50, 1, 0)
    assert (greedy["request"], greedy["temperature"]) == ("greedy", 0.0)
    assert (sampled["request"], sampled["temperature"]) == ("sampled", 1.0)


def test_the_final_step_asks_for_n_sampled_answers_with_the_configured_sampling(tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("{{ text }}")
    (row,) = ask("Hello.", tmp_path / "prompt", SEVERAL)
    assert [row[name] for name in ("request", "n", "temperature", "top_p", "top_k")] == ["sampled", 3, 0.7, 0.9, 40]


def test_the_prompt_names_both_languages_with_their_codes_and_ends_with_the_text() -> None:
    (row,) = ask("Two lines,\none text.", PROMPT, SEVERAL)
    (message,) = row["messages"]
    assert "English (en)" in message["content"]
    assert "Korean (ko)" in message["content"]
    assert message["content"].endswith(":\n\n\nTwo lines,\none text.")


def test_a_source_that_looks_like_a_template_is_asked_as_it_is(tmp_path: Path) -> None:
    text = "{{ target_language }} {% if <b>&amp;"
    (tmp_path / "prompt").write_text("Translate: {{ text }}")
    (row,) = ask(text, tmp_path / "prompt", SEVERAL)
    assert row["messages"][0]["content"] == f"Translate: {text}"


def test_a_prompt_with_an_unknown_name_is_an_error_that_says_what_it_may_use(tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("{{ sentence }}")
    with pytest.raises(InputError, match=r"prompt.* 'sentence' is undefined.*source_language, target_language, text"):
        ask("Hello.", tmp_path / "prompt", SEVERAL)


# --- the prefilter's selection ---


def select(folder: Path, pool: Sequence[str], answers: Answers, keep: int, shards: int = 1) -> Account:
    """Runs the selection on a pool of texts; answers are by text."""
    write_table(folder / "segments", SEGMENTS, map(segment, pool))
    by_item = {item_id(text): requests for text, requests in answers.items()}
    tables = write_answers(folder / "step", by_item, shards)
    account = Account("prefilter/select")
    select_sources(folder / "segments", tables, keep, folder / "selected", folder / "dropped", account)
    account.check()
    return account


def selected(folder: Path) -> list[dict[str, Any]]:
    return list(read_rows(folder / "selected", SELECTED_SOURCES))


def dropped(folder: Path) -> dict[str, tuple[str, str | None]]:
    rows = list(read_rows(folder / "dropped", DROPPED))
    assert len({row["item_id"] for row in rows}) == len(rows)
    assert {row["stage"] for row in rows} <= {"prefilter/select", "final/select"}
    return {row["item_id"]: (row["reason"], row["detail"]) for row in rows}


def pair(greedy: float, sampled: float) -> dict[str, list[Answer]]:
    return {"greedy": [Answer(greedy)], "sampled": [Answer(sampled)]}


def test_the_sources_whose_error_falls_most_from_greedy_to_sampled_are_kept(tmp_path: Path) -> None:
    answers = {
        "small gain": pair(3.0, 2.5),
        "largest gain": pair(9.0, 1.25),
        "loss": pair(1.0, 20.0),
        "second gain": pair(24.0, 20.0),
    }
    account = select(tmp_path, list(answers), answers, keep=2)
    assert [(row["text"], row["greedy_score"], row["sampled_score"], row["gain"]) for row in selected(tmp_path)] == [
        ("largest gain", 9.0, 1.25, 7.75),
        ("second gain", 24.0, 20.0, 4.0),
    ]
    assert dropped(tmp_path) == {
        item_id("small gain"): ("gain_too_small", "greedy 3.000000, sampled 2.500000"),
        item_id("loss"): ("gain_too_small", "greedy 1.000000, sampled 20.000000"),
    }
    assert account.as_json()["dropped"] == {"gain_too_small": 2}
    assert (account.taken.count, account.kept.count, account.dropped.count) == (4, 2, 2)


def test_selected_sources_keep_the_order_and_the_columns_of_the_pool(tmp_path: Path) -> None:
    pool = ["one", "two words", "three words here"]
    select(tmp_path, pool, {text: pair(number, 0) for number, text in enumerate(pool)}, keep=3)
    assert [(row["text"], row["kind"], row["tokens"]) for row in selected(tmp_path)] == [
        ("one", "sentence", 1),
        ("two words", "sentence", 2),
        ("three words here", "sentence", 3),
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (FAILED, "no_answer"),
        (Answer(0.0, finish_reason="length"), "answer_cut_off"),
        (Answer(0.0, truncated=True), "too_long_to_score"),
        (Answer(0.0, text=" \n"), "empty_answer"),
        (Answer(float("nan")), "no_score"),
    ],
)
@pytest.mark.parametrize("request_name", ["greedy", "sampled"])
def test_a_source_without_two_whole_answers_is_dropped_with_the_reason(
    tmp_path: Path, answer: Answer, reason: str, request_name: str
) -> None:
    broken = pair(25.0, 0.0) | {request_name: [answer]}
    account = select(tmp_path, ["good", "broken"], {"good": pair(1.0, 2.0), "broken": broken}, keep=2)
    assert [row["text"] for row in selected(tmp_path)] == ["good"]
    assert dropped(tmp_path) == {item_id("broken"): (reason, None)}
    assert account.reasons == {reason: 1}


def test_equal_gains_are_ordered_by_id_though_the_numbers_differ_in_the_last_bit(tmp_path: Path) -> None:
    # 0.3 - 0.1 is 0.19999999999999998, 0.2 - 0.0 is 0.2.
    texts = [f"tie {number}" for number in range(12)]
    answers = {text: pair(0.3, 0.1) if number % 2 else pair(0.2, 0.0) for number, text in enumerate(texts)}
    select(tmp_path, texts, answers, keep=5)
    assert {row["item_id"] for row in selected(tmp_path)} == set(sorted(map(item_id, texts))[:5])


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from(["", "failed", "cut"])), max_size=14),
    st.integers(1, 8),
    st.integers(1, 4),
)
def test_the_selection_is_that_of_a_plain_sort_and_does_not_depend_on_shards(
    scores: list[tuple[int, int, str]], keep: int, shards: int
) -> None:
    faults = {"failed": FAILED, "cut": Answer(0.0, finish_reason="length")}
    answers, usable = {}, []
    for number, (greedy, sampled, fault) in enumerate(scores):
        text = f"source {number}"
        answers[text] = pair(greedy / 10, sampled / 10)
        if fault:
            answers[text]["sampled"] = [faults[fault]]
        else:
            usable.append((sampled - greedy, item_id(text)))
    expected = {item for _, item in sorted(usable)[:keep]}
    with tempfile.TemporaryDirectory() as name:
        whole, cut = Path(name, "whole"), Path(name, "cut")
        accounts = [select(whole, list(answers), answers, keep), select(cut, list(answers), answers, keep, shards)]
        assert {row["item_id"] for row in selected(cut)} == expected
        assert set(dropped(cut)) == set(map(item_id, answers)) - expected
        assert (whole / "selected").read_bytes() == (cut / "selected").read_bytes()
        assert dropped(whole) == dropped(cut)
    assert accounts[0].as_json() == accounts[1].as_json()
    assert (accounts[1].taken.count, accounts[1].kept.count) == (len(answers), len(expected))


def test_a_source_with_one_answer_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"item {item_id('a')} has not one greedy and one sampled answer"):
        select(tmp_path, ["a"], {"a": {"greedy": [Answer()]}}, keep=1)


def test_two_sampled_answers_in_the_prefilter_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has not one greedy and one sampled answer"):
        select(tmp_path, ["a"], {"a": {"greedy": [Answer()], "sampled": [Answer(), Answer()]}}, keep=1)


def test_a_source_that_is_not_in_the_pool_is_an_error_and_leaves_no_selection(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"segments: does not hold item {item_id('b')}"):
        select(tmp_path, ["a"], {"a": pair(1, 0), "b": pair(2, 0)}, keep=2)
    assert not (tmp_path / "selected").exists()


@pytest.mark.parametrize("other", [{"a": pair(1, 0)}, {"a": pair(1, 0), "c": pair(1, 0)}])
def test_scores_of_other_answers_are_an_error(tmp_path: Path, other: Mapping[str, Any]) -> None:
    mine = {"a": pair(1, 0), "b": pair(1, 0)}
    ((completions, _),) = write_answers(tmp_path / "mine", mine)
    ((_, scores),) = write_answers(tmp_path / "other", other)
    write_table(tmp_path / "segments", SEGMENTS, [])
    with pytest.raises(InputError, match=r"scores/0000-of-0001.parquet: does not belong to .*completions"):
        select_sources(tmp_path / "segments", [(completions, scores)], 1, tmp_path / "s", tmp_path / "d", Account("x"))


# --- sources at random ---


def draw(folder: Path, pool: Sequence[str], count: int, seed: int) -> list[str]:
    if not (folder / "segments").exists():
        write_table(folder / "segments", SEGMENTS, map(segment, pool))
    draw_sources(folder / "segments", count, seed, folder / "drawn")
    return [row["text"] for row in read_rows(folder / "drawn", SELECTED_SOURCES)]


def test_as_many_distinct_sources_are_drawn_as_are_wanted_in_the_order_of_the_pool(tmp_path: Path) -> None:
    pool = [f"source {number}" for number in range(50)]
    drawn = draw(tmp_path, pool, 20, seed=3)
    assert len(drawn) == 20
    assert drawn == [text for text in pool if text in drawn]
    assert draw(tmp_path, pool, 20, seed=3) == drawn
    assert draw(tmp_path, pool, 20, seed=4) != drawn
    assert set(draw(tmp_path, pool, 10, seed=3)) < set(drawn)


def test_no_more_sources_are_drawn_than_there_are(tmp_path: Path) -> None:
    assert draw(tmp_path, ["a", "b"], 5, seed=1) == ["a", "b"]


def test_every_source_is_drawn_as_often_as_any_other(tmp_path: Path) -> None:
    pool = [f"source {number}" for number in range(400)]
    drawn = Counter(text for seed in range(20) for text in draw(tmp_path, pool, 100, seed))
    # Each of 20 drawings takes a quarter: 5 times on average, with a variance of 20 * 0.25 * 0.75 = 3.75. The variance
    # over 400 sources has a standard deviation of about 3.75 * sqrt(2 / 400) = 0.27.
    variance = sum((drawn[text] - 5) ** 2 for text in pool) / len(pool)
    assert sum(drawn.values()) == 2000
    assert 3.75 - 4 * 0.27 < variance < 3.75 + 4 * 0.27
    # 1,000 of the first half; the standard deviation of 20 hypergeometric numbers is sqrt(20 * 100 * 0.25 * 300 / 399).
    assert 1000 - 4 * 19.4 < sum(drawn[text] for text in pool[:200]) < 1000 + 4 * 19.4


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_drawing_from_a_pool_that_the_same_seed_sampled_prefers_no_bucket(tmp_path: Path, seed: int) -> None:
    # The pool holds the bottom 60 of 3,000 short candidates and of 120 long ones, by the rank of that seed.
    def bottom(name: str, candidates: int) -> list[str]:
        return sorted((f"{name} {number}" for number in range(candidates)), key=lambda text: rank(seed, item_id(text)))

    drawn = draw(tmp_path, bottom("short", 3000)[:60] + bottom("long", 120)[:60], 60, seed)
    # 30 on average; the standard deviation of this hypergeometric number is 3.9.
    assert 30 - 4 * 3.9 < sum(text.startswith("short") for text in drawn) < 30 + 4 * 3.9


# --- the best of many ---


def choose(folder: Path, answers: Mapping[str, Sequence[Answer]], keep_top: int = 4) -> Account:
    """Runs the selection of the best; answers are by source text."""
    rows = [{"item_id": item_id(text), "text": text} for text in answers]
    requests = translation_requests(rows, "0000-of-0001", lambda text, **_: text, LANGUAGES, SEVERAL)
    write_table(folder / "requests", REQUESTS, requests)
    by_item = {item_id(text): {"sampled": samples} for text, samples in answers.items()}
    ((completions, scores),) = write_answers(folder / "step", by_item)
    account = Account("final/select")
    select_best(folder / "requests", completions, scores, keep_top, folder / "selected", folder / "dropped", account)
    account.check()
    return account


def best(folder: Path) -> list[dict[str, Any]]:
    return list(read_rows(folder / "selected", SELECTED_ANSWERS))


def top(row: Mapping[str, Any]) -> list[tuple[int, str, float]]:
    return [(candidate["sample"], candidate["text"], candidate["score"]) for candidate in row["top_k"]]


def test_the_answer_with_the_lowest_error_wins(tmp_path: Path) -> None:
    account = choose(tmp_path, {"Hi.": [Answer(3.0, "셋"), Answer(0.5, "반"), Answer(1.0, "하나")]}, keep_top=2)
    (row,) = best(tmp_path)
    assert (row["item_id"], row["source"], row["target"]) == (item_id("Hi."), "Hi.", "반")
    assert (row["score"], row["sample"], row["candidates"], row["mean_score"]) == (0.5, 1, 3, 1.5)
    assert top(row) == [(1, "반", 0.5), (2, "하나", 1.0)]
    assert (account.taken.count, account.kept.count) == (1, 1)


def test_of_equal_scores_the_first_sample_wins(tmp_path: Path) -> None:
    choose(tmp_path, {"Hi.": [Answer(2.0, "z"), Answer(1.0, "y"), Answer(1.0, "x")]})
    (row,) = best(tmp_path)
    assert (row["target"], row["sample"]) == ("y", 1)
    assert [sample for sample, _, _ in top(row)] == [1, 2, 0]


def test_the_top_k_are_distinct_texts_each_with_its_first_sample(tmp_path: Path) -> None:
    texts = ["a", "a", "b", "a", "c", "b", "d"]
    scores = [1.0, 1.0, 0.5, 1.0, 3.0, 0.5, 2.0]
    choose(tmp_path, {"Hi.": [Answer(score, text) for score, text in zip(scores, texts, strict=True)]}, keep_top=3)
    (row,) = best(tmp_path)
    assert top(row) == [(2, "b", 0.5), (0, "a", 1.0), (6, "d", 2.0)]
    assert row["candidates"] == 7


@pytest.mark.parametrize(
    ("loser", "reason"),
    [
        (FAILED, "no_answer"),
        (Answer(0.0, "cut", finish_reason="length"), "answer_cut_off"),
        (Answer(0.0, "long", truncated=True), "too_long_to_score"),
        (Answer(0.0, ""), "empty_answer"),
        (Answer(0.0, " \n "), "empty_answer"),
        (Answer(float("nan"), "strange"), "no_score"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_an_answer_that_is_not_whole_never_wins(tmp_path: Path, loser: Answer, reason: str, place: int) -> None:
    samples = [Answer(24.0, "bad but whole"), Answer(25.0, "worse")]
    samples.insert(place, loser)
    account = choose(tmp_path, {"Hi.": samples, "Bye.": [loser, loser]})
    (row,) = best(tmp_path)
    assert (row["target"], row["candidates"], row["mean_score"]) == ("bad but whole", 2, 24.5)
    assert [text for _, text, _ in top(row)] == ["bad but whole", "worse"]
    assert dropped(tmp_path) == {item_id("Bye."): (reason, "none of 2 answers can be taken")}
    assert account.reasons == {reason: 1}
    assert (account.taken.count, account.kept.count) == (2, 1)


def test_a_source_where_nothing_can_win_is_dropped_with_the_commonest_reason(tmp_path: Path) -> None:
    cut = Answer(0.0, "x", finish_reason="length")
    choose(tmp_path, {"mostly cut": [FAILED, cut, cut], "mostly failed": [cut, FAILED, FAILED], "even": [FAILED, cut]})
    assert {item: reason for item, (reason, _) in dropped(tmp_path).items()} == {
        item_id("mostly cut"): "answer_cut_off",
        item_id("mostly failed"): "no_answer",
        item_id("even"): "answer_cut_off",
    }


SAMPLES = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from("abc"), st.sampled_from(["stop"] * 3 + ["length", "error"])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25)
@given(st.lists(SAMPLES, max_size=5), st.integers(1, 4))
def test_the_best_is_that_of_a_plain_minimum(items: list[list[tuple[int, str, str]]], keep_top: int) -> None:
    answers = {
        f"source {number}": [
            FAILED if reason == "error" else Answer(score / 2, text, reason) for score, text, reason in samples
        ]
        for number, samples in enumerate(items)
    }
    whole = {
        f"source {number}": [
            (score / 2, place, text) for place, (score, text, reason) in enumerate(samples) if reason == "stop"
        ]
        for number, samples in enumerate(items)
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        choose(folder, answers, keep_top)
        rows = {row["source"]: row for row in best(folder)}
        assert set(rows) == {source for source, candidates in whole.items() if candidates}
        assert set(dropped(folder)) == {item_id(source) for source, candidates in whole.items() if not candidates}
    for source, row in rows.items():
        score, sample, text = min(whole[source])
        assert (row["score"], row["sample"], row["target"]) == (score, sample, text)
        mean = sum(value for value, _, _ in whole[source]) / len(whole[source])
        assert row["mean_score"] == pytest.approx(mean, abs=1e-6)
        kept: list[tuple[int, str, float]] = []
        for value, place, answer in sorted(whole[source]):
            if answer not in [taken for _, taken, _ in kept]:
                kept.append((place, answer, value))
        assert top(row) == kept[:keep_top]


# --- the programs ---


def test_the_programs_go_from_a_pool_to_the_best_answers(tmp_path: Path) -> None:
    pool = [f"Source {number}." for number in range(9)]
    write_table(tmp_path / "pool.parquet", SEGMENTS, map(segment, pool))
    languages = ("--source-language", "en", "English", "--target-language", "ko", "Korean")
    requests = []
    for shard in shard_names(2):
        path = tmp_path / "requests" / f"{shard}.parquet"
        asked = ("--greedy", "--n", 1, "--max-tokens", 30, "--requests", path)
        place = ("--sources", tmp_path / "pool.parquet", "--shard", shard, "--prompt", PROMPT)
        run_program("request_translations.py", *place, *languages, *asked)
        requests += list(read_rows(path, REQUESTS))
    assert sorted(row["source"] for row in requests) == sorted(pool * 2)
    assert {(row["request"], row["temperature"], row["top_p"], row["top_k"], row["n"]) for row in requests} == {
        ("greedy", 0.0, 1.0, 0, 1),
        ("sampled", 1.0, 1.0, 0, 1),
    }

    # The gain grows with the number.
    answers = {item_id(text): pair(10.0, 10.0 - number) for number, text in enumerate(pool)}
    write_answers(tmp_path / "prefilter", answers, 2)
    run_program(
        *("select_sources.py", "--segments", tmp_path / "pool.parquet", "--step", tmp_path / "prefilter"),
        *("--shards", 2, "--keep", 2, "--stage", "prefilter/select", "--selected", tmp_path / "sources.parquet"),
        *("--dropped", tmp_path / "dropped.parquet", "--account", tmp_path / "select.json"),
    )
    rows = list(read_rows(tmp_path / "sources.parquet", SELECTED_SOURCES))
    assert [(row["text"], row["gain"]) for row in rows] == [("Source 7.", 7.0), ("Source 8.", 8.0)]
    account = read_account(tmp_path / "select.json")
    assert (account.stage, account.taken.count, account.reasons) == ("prefilter/select", 9, {"gain_too_small": 7})
    assert row_count(tmp_path / "dropped.parquet") == 7

    shard = tmp_path / "final.parquet"
    run_program(
        *("request_translations.py", "--sources", tmp_path / "sources.parquet", "--shard", "0000-of-0001"),
        *("--prompt", PROMPT, *languages, "--n", 2, "--temperature", 0.5, "--max-tokens", 30, "--requests", shard),
    )
    assert [(row["source"], row["n"], row["temperature"]) for row in read_rows(shard, REQUESTS)] == [
        ("Source 7.", 2, 0.5),
        ("Source 8.", 2, 0.5),
    ]
    samples = {"Source 7.": [Answer(2.0, "둘"), Answer(1.0, "하나")], "Source 8.": [FAILED, FAILED]}
    final = {item_id(text): {"sampled": found} for text, found in samples.items()}
    ((completions, scores),) = write_answers(tmp_path / "final", final)
    run_program(
        *("select_best.py", "--requests", shard, "--completions", completions, "--scores", scores, "--keep-top", 1),
        *("--selected", tmp_path / "selected.parquet", "--dropped", tmp_path / "lost.parquet"),
        *("--stage", "final/select", "--account", tmp_path / "best.json"),
    )
    (row,) = read_rows(tmp_path / "selected.parquet", SELECTED_ANSWERS)
    assert (row["source"], row["target"], top(row)) == ("Source 7.", "하나", [(1, "하나", 1.0)])
    (lost,) = read_rows(tmp_path / "lost.parquet", DROPPED)
    assert (lost["item_id"], lost["stage"], lost["reason"]) == (item_id("Source 8."), "final/select", "no_answer")
    account = read_account(tmp_path / "best.json")
    assert (account.taken.count, account.kept.count, account.reasons) == (2, 1, {"no_answer": 1})


def test_the_program_that_draws_takes_as_many_as_it_is_told(tmp_path: Path) -> None:
    pool = [f"Source {number}." for number in range(9)]
    write_table(tmp_path / "pool.parquet", SEGMENTS, map(segment, pool))
    flags = ("--segments", tmp_path / "pool.parquet", "--count", 4, "--seed", 5, "--selected", tmp_path / "drawn")
    run_program("draw_sources.py", *flags)
    drawn = [row["text"] for row in read_rows(tmp_path / "drawn", SELECTED_SOURCES)]
    assert len(drawn) == 4
    assert set(drawn) < set(pool)
    draw_sources(tmp_path / "pool.parquet", 4, 5, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "drawn").read_bytes()


def test_a_missing_shard_is_one_line_that_names_it(tmp_path: Path) -> None:
    write_table(tmp_path / "pool.parquet", SEGMENTS, [])
    write_answers(tmp_path / "prefilter", {}, 1)
    result = call_program(
        *("select_sources.py", "--segments", tmp_path / "pool.parquet", "--step", tmp_path / "prefilter"),
        *("--shards", 2, "--keep", 2, "--selected", tmp_path / "s", "--dropped", tmp_path / "d"),
        *("--account", tmp_path / "a"),
    )
    assert result.returncode == 1
    assert "completions/0000-of-0002.parquet: no such file" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("[sda]"))
