"""The toy dataset against its truth: how right single answers are, the best of several, and what the filter leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corpusmith.files import write_json
from corpusmith.identity import item_id
from corpusmith.quality_lines import quality_lines
from corpusmith.table_files import write_table
from corpusmith.tables import FILTERED, SELECTED_SOURCES
from corpusmith.toy.quality import group_sizes, measure, measure_answers, measure_filtered
from translation_tables import FAILED, Answer, run_program, write_answers

# --- the measure ---


def test_exact_is_the_share_of_equal_answers_and_chrf_is_that_of_the_whole_corpus() -> None:
    # Matches of n characters, of as many given as there are in the right ones: 3 + 2 of 6, 2 + 1 of 4, 1 of 2, 0 of 1.
    # Mean precision and recall, and so chrF: (5/6 + 3/4 + 1/2 + 0) / 4 = 0.520833.
    assert measure([("abcd", "abce"), ("xy", "xy")]) == {"exact": 0.5, "chrf": 52.08, "rows": 2}


def test_chrf_counts_what_is_missing_four_times_as_much_as_what_is_too_much() -> None:
    # One character: precision 1, recall 2/4; two: 1 and 1/3; so (5 * 1 * 5/12) / (4 * 1 + 5/12) = 0.471698.
    assert measure([("abcd", "ab")])["chrf"] == 47.17
    # The other way round: (5 * 5/12 * 1) / (4 * 5/12 + 1) = 0.78125.
    assert measure([("ab", "abcd")])["chrf"] == pytest.approx(78.125, abs=0.006)


def test_an_answer_that_differs_in_a_space_is_not_exact() -> None:
    assert measure([("사과 두 개", "사과 두개")]) == {"exact": 0.0, "chrf": 100.0, "rows": 1}


def test_nothing_has_no_quality() -> None:
    assert measure([]) == {"exact": None, "chrf": None, "rows": 0}


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (1, []),
        (2, [2]),
        (3, [2, 3]),
        (8, [2, 8]),
        (9, [2, 8, 9]),
        (32, [2, 8, 32]),
        (128, [2, 8, 32, 128]),
    ],
)
def test_groups_grow_fourfold_from_two_up_to_n(n: int, sizes: list[int]) -> None:
    assert group_sizes(n) == sizes


# --- answers ---

APPLES, APPLES_RIGHT = "Mina bought 3 apples.", "미나는 사과 삼 개를 샀다."
EGGS, EGGS_RIGHT = "Juno lost 40 eggs.", "준호는 달걀 사십 개를 잃었다."
OTHER, OTHER_RIGHT = "Bora sold 5 pears.", "보라는 배 오 개를 팔았다."
WRONG = "미나는 사과 사 개를 샀다."
SOURCES = {item_id(APPLES): APPLES, item_id(EGGS): EGGS}
# In pairs: the wrong one has the better score; one that is cut off never wins. Of four: the wrong one.
APPLES_SAMPLES = [
    Answer(3.0, APPLES_RIGHT),
    Answer(1.0, WRONG),
    Answer(2.0, APPLES_RIGHT),
    Answer(0.0, "미나는", finish_reason="length"),
]
# In pairs: of equal scores the first, which is wrong; the right one. Of four: the right one.
EGGS_SAMPLES = [Answer(2.0, WRONG), Answer(2.0, EGGS_RIGHT), Answer(5.0, EGGS_RIGHT), Answer(1.0, EGGS_RIGHT)]


def prefilter() -> dict[str, Any]:
    right, wrong = Answer(1.0, APPLES_RIGHT), Answer(1.0, WRONG)
    return {
        item_id(APPLES): {"greedy": [right], "sampled": [wrong]},
        item_id(EGGS): {"greedy": [wrong], "sampled": [wrong]},
        # Not selected, so that it does not count.
        item_id(OTHER): {"greedy": [Answer(1.0, OTHER_RIGHT)], "sampled": [wrong]},
    }


def final() -> dict[str, Any]:
    return {item_id(APPLES): {"sampled": APPLES_SAMPLES}, item_id(EGGS): {"sampled": EGGS_SAMPLES}}


def exact(quality: dict[str, Any]) -> dict[str, Any]:
    found = {name: (quality[name]["exact"], quality[name]["rows"]) for name in ("greedy", "sampled")}
    return found | {size: (value["exact"], value["rows"]) for size, value in quality["best_of"].items()}


@pytest.mark.parametrize("shards", [1, 3])
def test_greedy_single_and_best_answers_are_measured_by_hand(tmp_path: Path, shards: int) -> None:
    greedy = write_answers(tmp_path / "prefilter", prefilter(), shards)
    sampled = write_answers(tmp_path / "final", final(), shards)
    quality = measure_answers(SOURCES, greedy, sampled, 4)
    assert exact(quality) == {"greedy": (0.5, 2), "sampled": (5 / 8, 8), "2": (2 / 4, 4), "4": (1 / 2, 2)}
    assert 0 < quality["greedy"]["chrf"] < 100


def test_greedy_and_sampled_answers_may_stand_in_the_same_tables(tmp_path: Path) -> None:
    answers = {item_id(APPLES): {"greedy": [Answer(1.0, WRONG)], "sampled": APPLES_SAMPLES}}
    tables = write_answers(tmp_path, answers)
    quality = measure_answers({item_id(APPLES): APPLES}, tables, tables, 4)
    assert exact(quality) == {"greedy": (0.0, 1), "sampled": (0.5, 4), "2": (0.5, 2), "4": (0.0, 1)}


def test_only_whole_groups_count_and_one_without_an_answer_counts_as_wrong(tmp_path: Path) -> None:
    samples = [FAILED, FAILED, Answer(1.0, APPLES_RIGHT), FAILED, Answer(0.5, WRONG)]
    tables = write_answers(tmp_path, {item_id(APPLES): {"greedy": [FAILED], "sampled": samples}})
    quality = measure_answers({item_id(APPLES): APPLES}, tables, tables, 5)
    assert exact(quality) == {"greedy": (0.0, 1), "sampled": (1 / 5, 5), "2": (1 / 2, 2), "5": (0.0, 1)}


# --- what the filter leaves, the programs ---


def filtered_row(source: str, target: str) -> dict[str, Any]:
    numbers = {"score": 0.5, "sample": 0, "candidates": 1, "mean_score": 0.5, "top_k": []}
    return {"item_id": item_id(source), "source": source, "target": target} | numbers


def test_the_filtered_rows_of_all_splits_are_measured(tmp_path: Path) -> None:
    write_table(tmp_path / "train", FILTERED, [filtered_row(APPLES, APPLES_RIGHT), filtered_row(EGGS, WRONG)])
    write_table(tmp_path / "test", FILTERED, [filtered_row(OTHER, OTHER_RIGHT)])
    write_table(tmp_path / "empty", FILTERED, [])
    quality = measure_filtered([tmp_path / "train", tmp_path / "test", tmp_path / "empty"])
    assert (quality["exact"], quality["rows"]) == (0.6667, 3)
    assert measure_filtered([tmp_path / "empty"])["rows"] == 0


def write_sources(path: Path, *texts: str) -> None:
    rows = [{"item_id": item_id(text), "text": text, "kind": "sentence", "tokens": 4} for text in texts]
    write_table(path, SELECTED_SOURCES, rows)


def test_the_programs_measure_a_build_and_show_it(tmp_path: Path) -> None:
    write_answers(tmp_path / "prefilter", prefilter(), 2)
    write_answers(tmp_path / "final", final())
    baseline = {"greedy": [Answer(1.0, WRONG)], "sampled": [Answer(1.0, OTHER_RIGHT)] * 3 + [Answer(2.0, WRONG)]}
    write_answers(tmp_path / "baseline", {item_id(OTHER): baseline})
    write_sources(tmp_path / "final" / "sources.parquet", APPLES, EGGS)
    write_sources(tmp_path / "baseline" / "sources.parquet", OTHER)
    write_table(tmp_path / "filtered" / "train.parquet", FILTERED, [filtered_row(EGGS, EGGS_RIGHT)])
    write_table(tmp_path / "filtered" / "test.parquet", FILTERED, [])
    run_program(
        *("measure_toy_quality.py", "--folder", tmp_path, "--prefilter-shards", 2, "--final-shards", 1, "--n", 4),
        *("--splits", "train", "test", "--quality", tmp_path / "quality.json"),
    )
    quality = json.loads((tmp_path / "quality.json").read_text())
    assert list(quality) == ["selected", "random"]
    assert list(quality["selected"]) == ["greedy", "sampled", "best_of", "filtered"]
    assert list(quality["random"]) == ["greedy", "sampled", "best_of"]
    selected, baseline_quality = quality["selected"], quality["random"]
    assert exact(selected) == {"greedy": (0.5, 2), "sampled": (5 / 8, 8), "2": (2 / 4, 4), "4": (1 / 2, 2)}
    assert (selected["filtered"]["exact"], selected["filtered"]["rows"]) == (1.0, 1)
    assert exact(baseline_quality) == {"greedy": (0.0, 1), "sampled": (0.75, 4), "2": (1.0, 2), "4": (1.0, 1)}

    write_json(tmp_path / "release" / "manifest.json", {"recipe": "translation", "rows": {"train": 1200, "test": 0}})
    shown = run_program("show_quality.py", tmp_path).stdout.splitlines()
    assert shown[0] == f"{tmp_path / 'release'}: 1,200 rows in train, 0 rows in test"
    assert shown[1:] == list(quality_lines(quality))
    assert len(shown) == 1 + 6 + 5

    against = {"released": {"difference": 1.25, "standard_error": 0.5}}
    systems = {"greedy": {"score": 90.0}, "released": {"score": 91.25}}
    bleu = {"direction": "higher", "systems": systems, "against_greedy": against}
    write_json(
        tmp_path / "evaluation" / "metrics.json",
        {"rows": {"in": 9, "kept": 7, "dropped": {"no_answer": 2}}, "corpus_metrics": {"BLEU": bleu}, "metrics": {}},
    )
    *others, title, _, line = run_program("show_quality.py", tmp_path).stdout.splitlines()
    assert others == shown
    assert title == "Against references, 7 sources (2 left out: no answer):"
    assert line.split() == ["BLEU", "higher", "90.00", "91.25", "+1.25", "±", "0.50"]


def test_the_lines_show_every_step_with_answers_as_percentages() -> None:
    right, none = {"exact": 0.9616, "chrf": 98.77, "rows": 1200}, {"exact": None, "chrf": None, "rows": 0}
    entry = {"greedy": {"exact": 0.25, "chrf": 50.0, "rows": 4}, "sampled": right, "best_of": {"2": right}}
    lines = list(quality_lines({"selected": entry | {"filtered": none}, "random": entry}))
    words = [line.split() for line in lines]
    assert words[1] == ["greedy", "25.0%", "chrF", "50.0", "4", "answers"]
    assert words[3] == ["best", "of", "2", "96.2%", "chrF", "98.8", "1,200", "answers"]
    assert not any("filtered" in line for line in lines)
    assert "selected" in lines[0]
    assert "random" in lines[4]
    assert len(lines) == 8
