"""Duplicates: held against a plain comparison of all pairs, on made and on real text."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith import duplicates, near_duplicates
from corpusmith.duplicates import Verdicts, find_duplicates
from corpusmith.errors import InputError
from corpusmith.keeping import visiting_order
from corpusmith.near_duplicates import RECALL, Nearness, band_shape, compared
from corpusmith.words import fold

VOCABULARY = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnr"]


def find(
    texts: Sequence[str | None], nearness: Nearness | None = None, visits: Sequence[int] | None = None
) -> tuple[list[int], Verdicts]:
    """For each row the row that is kept in its place; and all that is known."""
    with tempfile.TemporaryDirectory() as folder:
        order = None if visits is None else np.array(visits, np.int64)
        verdicts = find_duplicates(lambda: iter(texts), len(texts), order, nearness, Path(folder))
        assert not list(Path(folder).iterdir())
    return verdicts.kept_by.tolist(), verdicts


def plain_jaccard(one: str, other: str, size: int = 5) -> float:
    """Of texts that are lower-case words with one space between."""
    sets = []
    for text in (one, other):
        cut = text.split(" ")
        sets.append({tuple(cut[place : place + size]) for place in range(max(1, len(cut) - size + 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def plain_greedy(texts: Sequence[str], threshold: float, visits: Sequence[int]) -> set[int]:
    """The rows that stay, each held against all that stayed before."""
    kept: list[int] = []
    for row in visits:
        if all(plain_jaccard(texts[row], texts[other]) < threshold for other in kept):
            kept.append(row)
    return set(kept)


def varied(count: int, seed: int, length: int = 40) -> list[str]:
    """Texts of which many are a few words off an earlier one."""
    chooser = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        words = chooser.choices(VOCABULARY, k=length)
        if texts and chooser.random() < 0.6:
            words = chooser.choice(texts).split(" ")
            for _ in range(chooser.randrange(4)):
                words[chooser.randrange(len(words))] = chooser.choice(VOCABULARY)
        texts.append(" ".join(words))
    return texts


# --- equal texts ---


def test_equal_texts_but_for_case_spaces_and_forms_go_and_the_first_stays() -> None:
    texts = ["Two  apples", "other", "two apples", "ＴＷＯ apples\n", "Two apples.", "OTHER"]
    kept_by, verdicts = find(texts)
    # A point more is no equal text.
    assert kept_by == [0, 1, 0, 0, 4, 1]
    assert verdicts.similarity == {}


def test_rows_without_a_text_are_nobodys_duplicates() -> None:
    assert find([None, "", None, " ", None, "a"])[0] == [0, 1, 2, 1, 4, 5]
    assert find([None, None, "?", "!", None], Nearness())[0] == [0, 1, 2, 3, 4]
    assert find([])[0] == find([], Nearness())[0] == []
    assert find([None], Nearness())[0] == [0]


def test_the_best_of_equal_rows_stays_and_rows_without_a_value_are_the_last_choice() -> None:
    values = np.array([np.nan, 0.5, 0.25, 0.25, np.nan])
    assert visiting_order(values, 5).tolist() == [2, 3, 1, 0, 4]
    assert visiting_order(values, 5, lowest=False).tolist() == [1, 2, 3, 0, 4]
    assert visiting_order(None, 3).tolist() == [0, 1, 2]
    for lowest, best in ((True, 2), (False, 1)):
        assert find(["a"] * 5, visits=visiting_order(values, 5, lowest).tolist())[0] == [best] * 5


# --- near texts ---


def test_a_row_is_near_from_the_threshold_on_and_not_below_it() -> None:
    # 12 words, 8 runs of 5; one more word in front makes 9, of which 8 are shared.
    base = " ".join(VOCABULARY[:12])
    longer = f"so {base}"
    kept_by, verdicts = find([base, longer], Nearness(8 / 9))
    assert kept_by == [0, 0]
    assert verdicts.similarity == {1: 8 / 9}
    assert find([base, longer], Nearness(0.89))[0] == [0, 1]


def test_texts_shorter_than_a_run_are_near_only_where_all_words_are_equal() -> None:
    assert find(["Good day!", "good day", "good days"], Nearness(0.1))[0] == [0, 0, 2]


def test_a_row_near_a_row_that_went_stays_unless_it_is_near_one_that_stays() -> None:
    # Each loses one word at the end and gains one in front: near the next, not the one after.
    texts = [" ".join(VOCABULARY[start : start + 20]) for start in range(3)]
    assert plain_jaccard(texts[0], texts[1]) == 15 / 17
    assert plain_jaccard(texts[0], texts[2]) == 14 / 18
    assert find(texts, Nearness(0.8))[0] == [0, 0, 2]
    assert find(texts, Nearness(0.8), visits=[1, 0, 2])[0] == [1, 1, 1]


def test_an_equal_of_a_row_that_is_near_another_names_the_row_that_stays() -> None:
    base = " ".join(VOCABULARY[:20])
    kept_by, verdicts = find([base, f"So {base}", f"so  {base}"], Nearness(0.8))
    assert kept_by == [0, 0, 0]
    assert verdicts.similarity == {1: 16 / 17, 2: 16 / 17}


@pytest.mark.parametrize(
    "change",
    [("48", "46"), ("1,000", "1.000"), ("half", "third"), ("x^2 - 5", "x^2 + 5"), ("three", "four"), ("3/4", "34")],
)
def test_texts_with_different_numbers_are_near_only_where_numbers_do_not_count(change: tuple[str, str]) -> None:
    start, end = " ".join(VOCABULARY[:60]), " ".join(VOCABULARY[40:])
    texts = [f"{start} {one} {end}" for one in change]
    assert find(texts, Nearness(0.8))[0] == [0, 1]
    assert find(texts, Nearness(0.8, numbers_distinct=False))[0] == [0, 0]
    # The same numbers with another word beside them are near.
    assert find([texts[0], f"well {texts[0]}"], Nearness(0.8))[0] == [0, 0]


def test_different_numbers_are_not_near_even_where_their_hashes_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_number_key", lambda found: 0)
    rest = " ".join(VOCABULARY)
    assert find([f"{rest} 7", f"{rest} 9", f"so {rest} 9"], Nearness(0.8))[0] == [0, 1, 1]


def test_the_same_numbers_in_another_order_are_another_problem() -> None:
    rest = " ".join(VOCABULARY)
    assert find([f"7 {rest} 9", f"9 {rest} 7"], Nearness(0.8))[0] == [0, 1]


def test_in_chinese_runs_are_of_characters() -> None:
    text = "今天天气很好我们一起去公园散步然后回家吃晚饭最后看了一部电影"
    assert len(compared(fold(text), Nearness()).shingles) == len(text) - 4
    assert find([text, f"昨{text}", "完全不同的一句话没有任何相同的地方"], Nearness(0.8))[0] == [0, 0, 2]


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_what_stays_is_what_a_comparison_of_all_pairs_leaves(threshold: float) -> None:
    texts = varied(400, seed=7)
    visits = random.Random(1).sample(range(400), 400)
    kept_by, verdicts = find(texts, Nearness(threshold), visits)
    kept = {row for row in range(400) if kept_by[row] == row}
    expected = plain_greedy(texts, threshold, visits)
    assert 50 < len(expected) < 350
    assert kept == expected
    for row, similarity in verdicts.similarity.items():
        assert similarity == plain_jaccard(texts[row], texts[kept_by[row]]) >= threshold


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1, 40), st.sampled_from([1, 3, 1024]), st.integers(6, 40))
def test_every_row_that_goes_is_near_a_row_that_stays_and_no_two_that_stay_are_well_over(
    chooser: random.Random, count: int, chunk: int, length: int
) -> None:
    texts = varied(count, chooser.randrange(10**6), length)
    visits = chooser.sample(range(count), count)
    kept_by, verdicts = find(texts, Nearness(0.8), visits)
    # Neither how many rows are taken at once nor what is still in memory matters.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_CHUNK", chunk)
        patch.setattr(near_duplicates, "_CACHED_SHINGLES", 1)
        assert find(texts, Nearness(0.8), visits)[0] == kept_by
    kept = [row for row in range(count) if kept_by[row] == row]
    for row, by in enumerate(kept_by):
        assert by in kept
        assert visits.index(by) <= visits.index(row)
        assert by == row or plain_jaccard(texts[row], texts[by]) >= 0.8
        assert (texts[row] == texts[by]) == (row not in verdicts.similarity)
    # Of pairs at 0.9 some one in ten million is missed.
    assert all(plain_jaccard(texts[a], texts[b]) < 0.9 for a in kept for b in kept if a < b)


def test_bands_find_the_promised_share_and_fill_the_signature() -> None:
    for threshold in (0.05, 0.3, 0.5, 0.8, 0.9, 0.99, 1.0):
        bands, width = band_shape(threshold)
        assert bands * width <= 128
        assert 1 - (1 - threshold**width) ** bands >= RECALL
    assert band_shape(0.8) == (21, 6)


@pytest.mark.parametrize("bad", [{"threshold": 0.0}, {"threshold": 1.1}, {"threshold": float("nan")}, {"ngram": 0}])
def test_a_similarity_that_nothing_can_have_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="near duplicates"):
        Nearness(**bad)  # type: ignore[arg-type]


# --- real text ---


def test_of_real_problems_with_four_solutions_each_one_row_a_problem_stays(shared_data: Path) -> None:
    lines = (shared_data / "math" / "solutions.jsonl").read_text("utf-8").splitlines()
    problems = [json.loads(line)["problem"] for line in lines]
    kept_by, verdicts = find(problems, Nearness(0.8))
    assert len(problems) == 4000
    # No two of its 1,000 problems are near, as the comparison of all pairs of sets below shows.
    assert verdicts.similarity == {}
    assert [row for row in range(4000) if kept_by[row] == row] == [
        problems.index(one) for one in dict.fromkeys(problems)
    ]
    cut = [problem.lower().split() for problem in dict.fromkeys(problems)]
    sets = [{tuple(words[place : place + 5]) for place in range(len(words) - 4)} for words in cut]
    assert max(len(a & b) / len(a | b) for place, a in enumerate(sets) for b in sets[:place]) < 0.6


def test_real_problems_with_a_word_changed_are_found_and_with_a_number_changed_are_not(shared_data: Path) -> None:
    lines = (shared_data / "math" / "seed_problems.jsonl").read_text("utf-8").splitlines()
    problems = [json.loads(line)["problem"] for line in lines]
    other_word = [f"Please solve this: {problem}" for problem in problems]
    other_number = [f"{problem} Add 1." for problem in problems]
    kept_by, _ = find([*problems, *other_word, *other_number], Nearness(0.7))
    found = sum(kept_by[500 + row] == row for row in range(500))
    # Three more words are three more runs, or fewer: near where the problem has seven of them or more.
    assert found == 500
    assert kept_by[1000:] == list(range(1000, 1500))
