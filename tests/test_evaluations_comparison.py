"""Adaptations against their bases: numbers worked out by hand, words that say no more than they bear."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from corpusmith.errors import InputError
from corpusmith.evaluations.comparison import PAIRED, UNPAIRED, Difference, Measured, difference
from corpusmith.evaluations.harness_results import metrics_of
from corpusmith.evaluations.results import SAMPLES
from corpusmith.files import write_json
from corpusmith.table_files import write_table
from translation_tables import call_program, run_program

TRAINING = {
    "name": "student",
    "base": "base",
    "adapter_of": None,
    "method": "sft",
    "adaptation": "lora",
    "rows": 1000,
    "steps": 250,
    "seconds": 3725.4,
    "parameters": 600_000,
    "trainable_parameters": 4_500,
    "peak_memory_mb": 1536.4,
    "device": "cpu",
}


def metric(value: float, stderr: float | None = 0.1, better: bool | None = True) -> dict[str, Any]:
    return {"value": value, "stderr": stderr, "higher_is_better": better}


def result(folder: Path, model: str, metrics: dict[str, Any], scores: list[float] | None = None, **other: Any) -> Path:
    """A TASK.json; scores: what the items got by the metric `right`."""
    settings = {"num_fewshot": None, "limit": None, "batch_size": 8, "gpus": 1} | other.pop("settings", {})
    path = folder / model / "toy.json"
    value = {"task": "toy", "version": 1.0, "metrics": metrics, "samples": len(scores or [])}
    value |= {"model": {"name": model}, "settings": settings, "seconds": 1.0, **other}
    write_json(path, value)
    if scores is not None:
        rows = [
            {"task": "toy", "item": place, "item_hash": f"hash-{place}", "filter": "none", "target": "", "response": ""}
            | {"scores": [{"metric": "right", "value": score}]}
            for place, score in enumerate(scores)
        ]
        write_table(path.with_suffix(".samples.parquet"), SAMPLES, rows)
    return path


def of(folder: Path, name: str) -> Measured:
    return Measured(name, "toy", folder / name / "toy.json")


BASE, TUNED = [1, 0, 0, 0], [1, 1, 1, 0]


def test_the_standard_error_is_that_of_the_mean_of_the_differences_of_the_items(tmp_path: Path) -> None:
    """Differences 0, 1, 1, 0: their mean is 1/2, the squares of what is left add up to 1; / 3 / 4 is 1/12."""
    result(tmp_path, "base", {"right": metric(0.25)}, BASE)
    result(tmp_path, "student", {"right": metric(0.75)}, TUNED)
    found = difference(of(tmp_path, "base"), of(tmp_path, "student"), "right")
    assert (found.value, found.kind, found.items) == (0.5, PAIRED, 4)
    assert found.stderr == pytest.approx(math.sqrt(1 / 12))
    # 0.5 is less than twice 0.289.
    assert found.verdict == "within noise"


@pytest.mark.parametrize("why", ["no samples", "other items", "no mean"])
def test_what_cannot_be_paired_has_the_standard_error_of_two_samples(tmp_path: Path, why: str) -> None:
    values = (0.25, 0.75) if why != "no mean" else (0.3, 0.8)
    result(tmp_path, "base", {"right": metric(values[0], 0.03)}, BASE if why != "no samples" else None, samples=4)
    result(tmp_path, "student", {"right": metric(values[1], 0.04)}, TUNED, samples=4)
    if why == "other items":
        result(tmp_path, "student", {"right": metric(values[1], 0.04)}, [*TUNED, 1], samples=4)
    found = difference(of(tmp_path, "base"), of(tmp_path, "student"), "right")
    # 3, 4, 5.
    assert (found.kind, found.stderr) == (UNPAIRED, pytest.approx(0.05))
    assert found.verdict == "better"


VERDICTS = [
    # difference, standard error, whether higher is better
    (0.21, 0.1, True, "better"),
    (-0.21, 0.1, True, "worse"),
    (-0.21, 0.1, False, "better"),
    (0.21, 0.1, False, "worse"),
    (0.19, 0.1, True, "within noise"),
    (-0.19, 0.1, False, "within noise"),
    (0.21, 0.1, None, "higher"),
    (-0.21, 0.1, None, "lower"),
    (0.0, 0.0, True, "within noise"),
    (0.5, None, True, "no standard error"),
]


@pytest.mark.parametrize(("value", "stderr", "better", "verdict"), VERDICTS)
def test_a_difference_is_called_one_from_two_standard_errors_on(
    value: float, stderr: float | None, better: bool | None, verdict: str
) -> None:
    assert Difference(0.5, 0.5 + value, stderr, PAIRED, 10, better).verdict == verdict


def test_one_item_has_no_standard_error(tmp_path: Path) -> None:
    result(tmp_path, "base", {"right": metric(0.0, None)}, [0])
    result(tmp_path, "student", {"right": metric(1.0, None)}, [1])
    found = difference(of(tmp_path, "base"), of(tmp_path, "student"), "right")
    assert (found.stderr, found.verdict) == (None, "no standard error")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"settings": {"num_fewshot": 5}}, "num_fewshot 5, and .*base/toy.json with None"),
        ({"version": 2.0}, "version 2.0, and .* with 1.0"),
        ({"samples": 3}, "samples 3, and .* with 4"),
    ],
)
def test_models_that_were_evaluated_in_two_ways_are_not_compared(
    tmp_path: Path, other: dict[str, Any], said: str
) -> None:
    result(tmp_path, "base", {"right": metric(0.25)}, BASE, settings={"batch_size": 4})
    result(tmp_path, "student", {"right": metric(0.75)}, TUNED)
    # How fast it ran changes nothing.
    difference(of(tmp_path, "base"), of(tmp_path, "student"), "right")
    result(tmp_path, "student", {"right": metric(0.75)}, TUNED, **other)
    with pytest.raises(InputError, match=said):
        difference(of(tmp_path, "base"), of(tmp_path, "student"), "right")


# --- the page ---


def compare(folder: Path, output: Path, *more: Any) -> tuple[str, bytes]:
    (folder / "training.json").write_text(json.dumps(TRAINING))
    run_program(
        *("compare_evaluations.py", "--evaluations", folder, "--models", "base", "student", *more),
        *("--compare", "student", "base", "--training", "student", folder / "training.json"),
        *("--comparison", output / "comparison.md", "--picture", output / "comparison.png"),
    )
    return (output / "comparison.md").read_text(encoding="utf-8"), (output / "comparison.png").read_bytes()


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    """Ten items, of which the student gets seven right and the base two: differences 5 times 1 and 5 times 0."""
    scores = [1.0] * 2 + [0.0] * 8, [1.0] * 7 + [0.0] * 3
    for name, found in zip(("base", "student"), scores, strict=True):
        mean = sum(found) / 10
        metrics = {"right": metric(mean, 0.15), "loss": metric(2.5 - mean, None, better=False)}
        result(tmp_path, name, metrics, list(found))
    return tmp_path


def test_the_page_shows_differences_costs_and_values(evaluated: Path, tmp_path: Path) -> None:
    text, picture = compare(evaluated, tmp_path / "out", "--task", "toy", "right", "loss")
    lines = text.splitlines()
    # 5 * 0.25 + 5 * 0.25 = 2.5; / 9 / 10 has the root 0.1667; 0.5 is three of those.
    assert "| student | base | toy | right | 0.7000 | 0.2000 | +0.5000 | 0.1667 (paired) | better |" in lines
    assert "| student | base | toy | loss | 1.8000 | 2.3000 | −0.5000 | – | no standard error |" in lines
    cost = "| student | base | – | sft | lora | 1,000 | 250 | 1 h 02 min | 4,500 | 0.750% | 1,536 MB | cpu |"
    assert cost in lines
    assert "| base | toy | right | 0.2000 ± 0.1500 | 10 |" in lines
    assert "| student | toy | loss | 1.8000 | 10 |" in lines
    assert "(comparison.png)" in text
    assert "sqrt(sum((d − mean d)²) / (n − 1) / n)" in text
    assert "there are 2 here" in text
    assert picture.startswith(b"\x89PNG")


def test_the_same_results_give_the_same_bytes(evaluated: Path, tmp_path: Path) -> None:
    first = compare(evaluated, tmp_path / "one", "--task", "toy")
    assert compare(evaluated, tmp_path / "two", "--task", "toy") == first


def test_without_adaptations_the_page_shows_the_values_alone(evaluated: Path, tmp_path: Path) -> None:
    run_program(
        *("compare_evaluations.py", "--evaluations", evaluated, "--models", "base", "--task", "toy", "right"),
        *("--comparison", tmp_path / "out.md", "--picture", tmp_path / "out.png"),
    )
    assert (tmp_path / "out.md").read_text(encoding="utf-8") == (
        "# Models compared\n\n## All models\n\n"
        "| model | task | metric | value ± standard error | items |\n| --- | --- | --- | ---: | ---: |\n"
        "| base | toy | right | 0.2000 ± 0.1500 | 10 |\n"
    )


def test_a_metric_without_its_filter_is_that_of_every_filter(tmp_path: Path) -> None:
    for name in ("base", "student"):
        names = ("exact_match,strict", "exact_match,flexible", "loss")
        result(tmp_path, name, {one: metric(0.5, 0.1) for one in names}, [1.0, 0.0])
    text, _ = compare(tmp_path, tmp_path / "out", "--task", "toy", "exact_match")
    shown = [line.split(" | ")[2:4] for line in text.splitlines() if line.startswith("| student | base | toy")]
    assert shown == [["toy", "exact_match,strict"], ["toy", "exact_match,flexible"]]


def test_a_metric_or_a_result_that_is_missing_is_named(evaluated: Path, tmp_path: Path) -> None:
    for task, said in (
        (["toy", "wrong"], "base/toy.json: has no metric 'wrong'; allowed: right, loss"),
        (["mmlu"], "base/mmlu.json: there is no such result"),
    ):
        found = call_program(
            *("compare_evaluations.py", "--evaluations", evaluated, "--models", "base", "--task", *task),
            *("--comparison", tmp_path / "out.md", "--picture", tmp_path / "out.png"),
        )
        assert found.returncode == 1
        assert said in found.stderr
        assert not (tmp_path / "out.md").exists()


# --- results of other harnesses ---

FOUND = {"overall": {"success": 0.4, "n.b": 3}, "runs": [{"rate": 0.25, "error": 0.05}], "name": "x", "yes": True}


def test_numbers_are_found_by_keys_and_places() -> None:
    wanted = {
        "success": {"value": "overall.success"},
        "dotted": {"value": "overall.n.b", "higher_is_better": False},
        "rate": {"value": "runs.0.rate", "stderr": "runs.0.error", "higher_is_better": True},
    }
    assert metrics_of(FOUND, wanted, "r.json") == {
        "success": {"value": 0.4, "stderr": None, "higher_is_better": True},
        "dotted": {"value": 3.0, "stderr": None, "higher_is_better": False},
        "rate": {"value": 0.25, "stderr": 0.05, "higher_is_better": True},
    }


@pytest.mark.parametrize("place", ["overall", "overall.nothing", "runs.1.rate", "name", "yes", "overall.success.x"])
def test_a_place_without_a_number_is_named_with_what_there_is(place: str) -> None:
    with pytest.raises(InputError, match=f"r.json: has no number at '{place}'; at the top it has overall, runs, name"):
        metrics_of(FOUND, {"metric": {"value": place}}, "r.json")
