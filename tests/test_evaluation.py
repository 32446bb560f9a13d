"""What comes out where a release is held against references, worked out by hand and by sacrebleu; and the program."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from corpusmith.errors import InputError
from corpusmith.evaluation import MetricScores, bleu, evaluate
from corpusmith.evaluation_lines import evaluation_lines
from corpusmith.identity import digest, item_id, shard_names
from corpusmith.paired_answers import Answer, write_pairs
from corpusmith.references import SYSTEMS, Pairing
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, REQUESTS, SCORES
from corpusmith.translation import Asking, translation_requests
from test_references import LANGUAGES, completion, rows_of
from translation_tables import call_program, run_program

# --- BLEU and chrF ---

WORDS = ("the", "a", "ship", "left", "harbour", "early", "morning", "in", "of", "captain", "old", "new", "boat")


@dataclass(frozen=True)
class Compared:
    """A source's reference and its answers by system, in the order of SYSTEMS; None: none came."""

    reference: str
    texts: Sequence[str | None]


def write_evaluation(folder: Path, rows: Sequence[Compared], shards: int = 1) -> Path:
    """Requests and completions as pairing writes them."""

    def pairs() -> Iterator[list[Answer]]:
        for number, row in enumerate(rows):
            source = [{"item_id": item_id(f"source {number}"), "text": f"source {number}"}]
            asking = Asking(1, False, 1.0, 1.0, 0, 5)
            (asked,) = translation_requests(source, "0000-of-0001", lambda text, **_: text, LANGUAGES, asking)
            named = [asked | {"request": system, "reference": row.reference} for system in SYSTEMS]
            yield [
                Answer(request, completion(request, 0, text)) for request, text in zip(named, row.texts, strict=True)
            ]

    write_pairs(pairs(), len(rows), shards, folder, Pairing())
    return folder


def write_scores(evaluation: Path, folder: Path, scores: Sequence[Sequence[Any]], shards: int = 1) -> Path:
    """Scores of all answers, row by row in the order of SYSTEMS; a score of text is a truncated one."""
    values = iter([value for row in scores for value in row])
    for shard in shard_names(shards):
        answers = read_rows(evaluation / "completions" / f"{shard}.parquet", COMPLETIONS)
        write_table(folder / f"{shard}.parquet", SCORES, [score(answer, next(values)) for answer in answers])
    assert next(values, None) is None
    return folder


def score(answer: Mapping[str, Any], value: float | str | None) -> dict[str, Any]:
    same = {name: answer[name] for name in ("item_id", "request", "sample")}
    return same | {"score": None if value is None else float(value), "truncated": isinstance(value, str), "key": "k"}


def noisy(count: int) -> list[Compared]:
    """Answers that differ from the reference in some words: the released ones in the fewest."""
    rows = []
    for number in range(count):
        places = [int(digest(str(number), str(place), size=4), 16) for place in range(10)]
        right = [WORDS[place % len(WORDS)] for place in places]
        texts = []
        for system, most in enumerate((30, 40, 15)):
            draws = [int(digest("d", str(number), str(system), str(place), size=4), 16) for place in range(10)]
            texts.append(
                " ".join(
                    WORDS[draw % len(WORDS)] if draw % 100 < most else word
                    for draw, word in zip(draws, right, strict=True)
                )
            )
        rows.append(Compared(" ".join(right) + ".", [text + "." for text in texts]))
    return rows


@pytest.mark.parametrize("language", ["de", "ko"])
def test_bleu_and_chrf_are_those_of_sacrebleu_called_by_hand(tmp_path: Path, language: str) -> None:
    if language == "de":
        rows = noisy(60)
    else:
        rows = [
            Compared(
                "미나는 사과 세 개를 샀다.",
                ["미나는 사과를 샀다.", "소라는 배 세 개를 샀다.", "미나는 사과 세 개를 샀다."],
            ),
            Compared("준호는 학교에서\n책을 잃었다.", ["준호는 책을 잃었다.", "", "준호는 학교에서 책을 팔았다."]),
            Compared("그러나 배는 떠났다.", ["그러나 배는 떠났다.", "그러나 배는 항구를 떠났다.", "배는 떠났다."]),
        ]
    failed = Compared("x", ["a", None, "x"])
    found = evaluate(write_evaluation(tmp_path, [failed, *rows, failed]), 1, language, [])
    assert found["rows"] == {"in": len(rows) + 2, "kept": len(rows), "dropped": {"no_answer": 2}}
    assert found["failed_answers"] == {"greedy": 0, "sampled": 2, "released": 0}

    metrics = {"BLEU": BLEU(trg_lang=language), "chrF2": CHRF(), "chrF2++": CHRF(word_order=2)}
    systems = [(system, [row.texts[place] for row in rows]) for place, system in enumerate(SYSTEMS)]
    references = [[row.reference for row in rows]]
    _, tested = PairedTest(systems, metrics, references, test_type="bs")()
    for ours, theirs in (("BLEU", "BLEU"), ("chrF", "chrF2"), ("chrF++", "chrF2++")):
        measured = found["corpus_metrics"][ours]
        by_hand = {system: metrics[theirs].corpus_score(texts, references).score for system, texts in systems}
        assert {name: values["score"] for name, values in measured["systems"].items()} == pytest.approx(
            by_hand, abs=1e-6
        )
        assert measured["signature"] == str(metrics[theirs].get_signature())
        for place, system in ((1, "sampled"), (2, "released")):
            against = measured["against_greedy"][system]
            assert against["difference"] == pytest.approx(by_hand[system] - by_hand["greedy"], abs=1e-6)
            assert against["p_value"] == pytest.approx(tested[theirs][place].p_value, abs=1e-6)
    assert ("ko-mecab" if language == "ko" else "tok:13a") in found["corpus_metrics"]["BLEU"]["signature"]


def test_the_standard_error_of_a_difference_is_that_of_many_corpora(tmp_path: Path) -> None:
    rows = noisy(4000)
    differences = []
    for start in range(0, len(rows), 100):
        part = rows[start : start + 100]
        references = [[row.reference for row in part]]
        scores = [CHRF().corpus_score([row.texts[place] for row in part], references).score for place in (0, 2)]
        differences.append(scores[1] - scores[0])
    found = evaluate(write_evaluation(tmp_path, rows[:100]), 1, "de", [])["corpus_metrics"]["chrF"]
    # Of 40 corpora: their standard deviation is off by 11% or so itself, and so is one estimated on 100 rows.
    error = found["against_greedy"]["released"]["standard_error"]
    assert 0.65 < error / statistics.stdev(differences) < 1.5


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        *(("de", "13a"), ("en-GB", "13a"), ("zh", "zh"), ("zh_Hant-TW", "zh"), ("ja", "ja-mecab-0.996-IPA")),
        *(("ko", "ko-mecab-0.996/ko-0.9.2-KO"), ("th", "char"), ("lo", "char"), ("km", "char"), ("my", "char")),
    ],
)
def test_bleu_has_the_tokenizer_for_the_language(language: str, tokenizer: str) -> None:
    metric = bleu(language)
    metric.corpus_score(["a"], [["a"]])
    assert f"|tok:{tokenizer}|" in str(metric.get_signature())


def test_a_tokenizer_that_cannot_be_loaded_is_an_error_and_no_other_is_taken(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation", noisy(3))
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "mecab_ko.py").write_text("raise ImportError('not installed')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "hidden")}
    flags = ("--evaluation", tmp_path / "evaluation", "--shards", 1, "--metrics", tmp_path / "metrics.json")
    result = call_program("evaluate_release.py", *flags, "--target-language", "ko", env=environment)
    assert result.returncode == 1
    assert "error: BLEU in ko wants sacrebleu's tokenizer ko-mecab, which cannot be loaded" in result.stderr
    assert "pip install sacrebleu[ko]" in result.stderr
    assert not (tmp_path / "metrics.json").exists()


# --- metrics that score each answer ---


def test_means_errors_and_differences_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    answered = Compared("a", ["a", "b", "c"])
    rows = [answered, Compared("a", [None, "b", "c"]), answered, answered, answered, answered]
    evaluation = write_evaluation(tmp_path / "evaluation", rows, 2)
    scores = [
        [4, 5, 3],
        # Left out, as greedy failed.
        [None, 9, 9],
        [2, "3", 2.5],
        # Left out, as one system has no score.
        [1, None, 1],
        [1, 7, math.nan],
        [6, 7, 3],
    ]
    folder = write_scores(evaluation, tmp_path / "scores", scores, 2)
    metric = MetricScores("metricx-xl", "lower", folder)
    found = evaluate(evaluation, 2, "de", [metric])
    assert found["rows"] == {"in": 6, "kept": 5, "dropped": {"no_answer": 1}}
    assert found["metrics"] == {
        "metricx-xl": {
            "direction": "lower",
            "systems": {
                # (0 + 4 + 4) / 2 / 3 under the root.
                "greedy": {
                    "mean": 4.0, "standard_error": 1.154701, "rows": 3, "without_score": 0, "truncated": 0
                },
                # 5, 3, 7.
                "sampled": {
                    "mean": 5.0, "standard_error": 1.154701, "rows": 3, "without_score": 1, "truncated": 1
                },
                # 3, 2.5, 3: (1/36 + 4/36 + 1/36) / 2 / 3 = 1/36 under the root.
                "released": {
                    "mean": 2.833333, "standard_error": 0.166667, "rows": 3, "without_score": 1, "truncated": 0
                },
            },
            "against_greedy": {
                # 1, 1, 1.
                "sampled": {"difference": 1.0, "standard_error": 0.0, "rows": 3},
                # -1, 0.5, -3: (1/36 + 100/36 + 121/36) / 2 / 3 = 37/36 under the root.
                "released": {"difference": -1.166667, "standard_error": 1.013794, "rows": 3},
            },
        }
    }  # fmt: skip


def test_one_row_has_no_standard_error_and_none_has_no_mean(tmp_path: Path) -> None:
    evaluation = write_evaluation(tmp_path / "evaluation", [Compared("a b c d", ["a b c d", "a", "b"])])
    one = MetricScores("one", "higher", write_scores(evaluation, tmp_path / "one", [[0.5, 0.25, 0.75]]))
    none = MetricScores("none", "higher", write_scores(evaluation, tmp_path / "none", [[0.5, 0.25, None]]))
    found = evaluate(evaluation, 1, "de", [one, none])
    assert found["metrics"]["one"]["systems"]["released"] == {
        "mean": 0.75, "standard_error": None, "rows": 1, "without_score": 0, "truncated": 0
    }  # fmt: skip
    assert found["metrics"]["none"]["against_greedy"]["released"] == {
        "difference": None, "standard_error": None, "rows": 0
    }  # fmt: skip
    greedy = found["corpus_metrics"]["BLEU"]["systems"]["greedy"]["score"]
    assert greedy == pytest.approx(100, abs=1e-6)
    assert found["corpus_metrics"]["BLEU"]["against_greedy"]["released"]["p_value"] is None
    title, heads, *lines = evaluation_lines(found)
    assert title == "Against references, 1 sources:"
    assert heads.split() == ["metric", "better", "greedy", "sampled", "released", "released", "-", "greedy"]
    assert [line.split() for line in lines[-2:]] == [
        ["one", "higher", "0.50", "0.25", "0.75", "+0.25"],
        ["none", "higher", "-", "-", "-", "-"],
    ]


def test_rows_that_all_failed_are_an_error(tmp_path: Path) -> None:
    evaluation = write_evaluation(tmp_path, [Compared("a", ["a", "b", None])] * 2)
    with pytest.raises(InputError, match="none of 2 rows has an answer by every system"):
        evaluate(evaluation, 1, "de", [])


def test_tables_that_do_not_belong_together_are_an_error(tmp_path: Path) -> None:
    mine = write_evaluation(tmp_path / "mine", noisy(3))
    other = write_evaluation(tmp_path / "other", noisy(2))
    scores = write_scores(other, tmp_path / "scores", [[1, 2, 3]] * 2)
    with pytest.raises(InputError, match=r"scores/0000-of-0001.parquet: does not belong to .*mine/completions"):
        evaluate(mine, 1, "de", [MetricScores("x", "lower", scores)])
    requests = mine / "requests" / "0000-of-0001.parquet"
    (other / "requests" / "0000-of-0001.parquet").rename(requests)
    with pytest.raises(InputError, match=r"mine/completions/0000-of-0001.parquet: does not belong to .*mine/requests"):
        evaluate(mine, 1, "de", [])
    write_table(
        requests,
        REQUESTS,
        [row | {"reference": None} for row in rows_of(write_evaluation(tmp_path / "m", noisy(3)), "requests", 1)],
    )
    with pytest.raises(InputError, match=r"mine/requests/0000-of-0001.parquet: item \w+ has no reference"):
        evaluate(mine, 1, "de", [])


# --- the programs ---


def test_the_program_writes_the_same_bytes_for_any_number_of_shards_and_an_aligned_table(tmp_path: Path) -> None:
    rows = [*noisy(20), Compared("x", [None, "a", "b"])]
    scores = [[4 + number % 3, 4.5, 3 - number % 2] for number in range(20)] + [[None, 1, 1]]
    outputs, logs = [], []
    for name, shards in (("a", 1), ("b", 4), ("c", 1)):
        evaluation = write_evaluation(tmp_path / name / "evaluation", rows, shards)
        errors = write_scores(evaluation, tmp_path / name / "evaluation-metricx" / "scores", scores, shards)
        other = write_scores(evaluation, tmp_path / name / "evaluation-comet" / "scores", scores, shards)
        output = tmp_path / name / "metrics.json"
        result = run_program(
            *("evaluate_release.py", "--evaluation", evaluation, "--shards", shards, "--target-language", "de"),
            *("--metric", "metricx", "lower", errors, "--metric", "a-long-name", "higher", other),
            *("--metrics", output),
        )
        outputs.append(output.read_bytes())
        logs.append([line.split(" ", 1)[1] for line in result.stderr.splitlines() if line[2:3] == ":"])
    assert len(set(outputs)) == 1
    found = json.loads(outputs[0])
    assert found["target_language"] == "de"
    assert list(found["metrics"]) == ["metricx", "a-long-name"]
    # 7 of 4, 7 of 5, 6 of 6: 99 / 20; 10 of 3, 10 of 2.
    means = {name: system["mean"] for name, system in found["metrics"]["metricx"]["systems"].items()}
    assert means == {"greedy": 4.95, "sampled": 4.5, "released": 2.5}
    title, heads, *lines = logs[1][-7:]
    assert title == "Against references, 20 sources (1 left out: no answer):"
    assert re.split(" {2,}", heads.strip()) == [
        "metric",
        "better",
        "greedy",
        "sampled",
        "released",
        "released - greedy",
    ]
    names = [re.split(" {2,}", line.strip())[:2] for line in lines]
    assert names == [[name, "higher"] for name in ("BLEU", "chrF", "chrF++")] + [
        ["metricx", "lower"],
        ["a-long-name", "higher"],
    ]
    # Numbers end below each other, the last one below its head.
    assert {len(line) for line in lines} == {len(heads)}
    assert f"{means['released']:.2f} ± " in lines[3]
    assert "-2.45 ± " in lines[3]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--metric", "x", "down", "scores"], "metric x: direction 'down'; allowed: lower, higher"),
        (["--metric", "x", "lower", "a", "--metric", "x", "lower", "b"], "metric x is given twice"),
        (["--metric", "x", "lower", "nowhere"], "nowhere/0000-of-0001.parquet: no such file"),
    ],
)
def test_a_wrong_metric_is_one_line(tmp_path: Path, flags: list[str], says: str) -> None:
    evaluation = write_evaluation(tmp_path / "evaluation", noisy(2))
    plain = ("--evaluation", evaluation, "--shards", 1, "--target-language", "de", "--metrics", tmp_path / "m.json")
    result = call_program("evaluate_release.py", *plain, *flags)
    assert result.returncode == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        (
            "pair_references.py",
            "--folder --splits --prefilter-shards --final-shards --references --source-field --reference-field"
            " --max-bad-share --max-document-characters --shards --evaluation",
        ),
        ("evaluate_release.py", "--evaluation --shards --target-language --metric --metrics"),
        ("make_toy_references.py", "--segments --references"),
    ],
)
def test_each_program_says_what_it_wants(program: str, flags: str) -> None:
    shown = run_program(program, "--help").stdout
    assert {word.rstrip(",") for word in shown.split() if word.startswith("--")} >= set(flags.split())
    assert call_program(program).returncode == 2
