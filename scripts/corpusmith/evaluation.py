"""How good released translations are against references, beside greedy answers and single samples to the same sources.

BLEU, chrF and chrF++ are sacrebleu's, of the corpus as a whole; any other metric gives each answer a score, of which
the mean counts. All systems are compared on the same rows, and with greedy row by row.

BLEU and chrF of a corpus follow from counts of each row. Those are all that stays in memory, about a kilobyte a row;
sacrebleu's own bootstrap would take a hundred. It is done here on the same draws, so that p-values are the same.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from corpusmith.errors import InputError
from corpusmith.identity import shard_names
from corpusmith.program import Progress, track
from corpusmith.references import SYSTEMS
from corpusmith.splitting import base_language
from corpusmith.table_files import read_rows, row_count
from corpusmith.tables import COMPLETIONS, REQUESTS
from corpusmith.translation import GREEDY, scored_answers

LOWER, HIGHER = "lower", "higher"
DIRECTIONS = (LOWER, HIGHER)
# Those of sacrebleu's paired bootstrap.
RESAMPLES, SEED = 1000, 12345
_OTHERS = tuple(system for system in SYSTEMS if system != GREEDY)
_DIGITS = 6
# What sacrebleu recommends, and characters where words have no spaces between them.
_UNSPACED = ("th", "lo", "km", "my", "bo", "dz")
_TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"} | dict.fromkeys(_UNSPACED, "char")
_TOKENIZER = "13a"


@dataclass(frozen=True)
class MetricScores:
    """A metric's name, where its scores lie, and which of them are better: lower or higher ones."""

    name: str
    direction: str
    scores: Path

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise InputError(f"metric {self.name}: direction {self.direction!r}; allowed: {', '.join(DIRECTIONS)}")


class Row(NamedTuple):
    """A source's reference and its answers by system: rows of completions."""

    reference: str
    answers: Mapping[str, Mapping[str, Any]]

    @property
    def whole(self) -> bool:
        """Whether every system has an answer."""
        return all(answer["error"] is None for answer in self.answers.values())


def evaluate(evaluation: Path, shards: int, target_language: str, metrics: Sequence[MetricScores]) -> dict[str, Any]:
    """Every number, as it is written. evaluation: the folder of requests and completions, in so many shards.

    Raises InputError where the tables do not belong together, or where no row has an answer by every system.
    """
    names = [metric.name for metric in metrics]
    if repeated := [name for place, name in enumerate(names) if name in names[:place]]:
        raise InputError(f"metric {repeated[0]} is given twice; name each once")
    corpus = CorpusMetrics(target_language)
    measured = {metric.name: _measure(metric, evaluation, shards) for metric in metrics}
    failed = dict.fromkeys(SYSTEMS, 0)
    taken = kept = 0
    requests = [evaluation / "requests" / f"{shard}.parquet" for shard in shard_names(shards)]
    total = sum(map(row_count, requests)) // len(SYSTEMS)
    with Progress("BLEU and chrF", total) as progress:
        for row in _rows(evaluation, shards):
            taken += 1
            kept += row.whole
            if row.whole:
                corpus.add(row.reference, {system: answer["text"] for system, answer in row.answers.items()})
            for system, answer in row.answers.items():
                failed[system] += answer["error"] is not None
            progress.advance()
    if not kept:
        raise InputError(f"{evaluation}: none of {taken} rows has an answer by every system; build the steps again")
    return {
        "target_language": target_language,
        "rows": {"in": taken, "kept": kept, "dropped": {"no_answer": taken - kept} if taken > kept else {}},
        "failed_answers": failed,
        "paired_bootstrap": {"resamples": RESAMPLES, "seed": SEED},
        "corpus_metrics": corpus.measure(),
        "metrics": measured,
    }


def _rows(evaluation: Path, shards: int) -> Iterator[Row]:
    for shard in shard_names(shards):
        requests, completions = (evaluation / kind / f"{shard}.parquet" for kind in ("requests", "completions"))
        for _, rows in groupby(_with_references(requests, completions), key=lambda row: row["item_id"]):
            answers = _by_system(rows, completions)
            yield Row(answers[GREEDY]["reference"], answers)


def _with_references(requests: Path, completions: Path) -> Iterator[dict[str, Any]]:
    """Completions, each with the reference of its request; both tables are in the same order."""
    names = ["item_id", "request"]
    asked = read_rows(requests, REQUESTS, [*names, "reference"])
    answered = read_rows(completions, COMPLETIONS, [*names, "text", "error"])
    for request, completion in zip_longest(asked, answered):
        if request is None or completion is None or any(request[name] != completion[name] for name in names):
            raise InputError(f"{completions}: does not belong to {requests}; delete both and build again")
        if request["reference"] is None:
            raise InputError(f"{requests}: item {request['item_id']} has no reference; pair references again")
        yield request | completion


def _by_system(rows: Iterable[dict[str, Any]], path: Path) -> dict[str, dict[str, Any]]:
    """The answers to a source, in the order of SYSTEMS."""
    found = list(rows)
    if tuple(row["request"] for row in found) != SYSTEMS:
        raise InputError(f"{path}: item {found[0]['item_id']} has not one answer each of {', '.join(SYSTEMS)}")
    return dict(zip(SYSTEMS, found, strict=True))


# --- BLEU and chrF ---


def bleu(target_language: str) -> BLEU:
    """BLEU, with the tokenizer for a language. Raises InputError where what that needs is not installed."""
    tokenizer = _TOKENIZERS.get(base_language(target_language), _TOKENIZER)
    try:
        return BLEU(tokenize=tokenizer)
    except (RuntimeError, AssertionError, ImportError) as error:
        # Another tokenizer would give numbers that no one else's can be compared with.
        raise InputError(
            f"BLEU in {target_language} wants sacrebleu's tokenizer {tokenizer}, which cannot be loaded"
            f" ({' '.join(str(error).split())}); install it as in envs/evaluation.yaml"
        ) from error


class CorpusMetrics:
    """BLEU, chrF and chrF++ of all systems on the same rows."""

    def __init__(self, target_language: str) -> None:
        self._metrics = {"BLEU": bleu(target_language), "chrF": CHRF(), "chrF++": CHRF(word_order=2)}
        # Counts of a row behind those of the one before; how many a row has is the metric's business.
        self._counts = {name: {system: array("i") for system in SYSTEMS} for name in self._metrics}
        self._rows = 0

    def add(self, reference: str, answers: Mapping[str, str]) -> None:
        """Takes in a row."""
        self._rows += 1
        texts = [answers[system] for system in SYSTEMS]
        for name, metric in self._metrics.items():
            found = metric._extract_corpus_statistics(texts, [[reference] * len(texts)])
            for system, counts in zip(SYSTEMS, found, strict=True):
                self._counts[name][system].extend(counts)

    def measure(self) -> dict[str, Any]:
        """The numbers by metric."""
        return {name: self._measured(name) for name in self._metrics}

    def _measured(self, name: str) -> dict[str, Any]:
        metric = self._metrics[name]
        counts = {
            system: np.asarray(values, np.float64).reshape(self._rows, -1)
            for system, values in self._counts[name].items()
        }
        scores = {system: self._score(name, table.sum(0)) for system, table in counts.items()}
        resampled = self._resampled(name, counts)
        against: dict[str, dict[str, float | None]] = {}
        for system in _OTHERS:
            difference = scores[system] - scores[GREEDY]
            drawn = resampled[system] - resampled[GREEDY]
            against[system] = {"difference": round(difference, _DIGITS), **_spread(drawn, difference, self._rows)}
        return {
            "direction": HIGHER,
            "signature": str(metric.get_signature()),
            "systems": {system: {"score": round(score, _DIGITS)} for system, score in scores.items()},
            f"against_{GREEDY}": against,
        }

    def _score(self, name: str, counts: np.ndarray) -> float:
        return float(self._metrics[name]._compute_score_from_stats(counts.astype(np.int64).tolist()).score)

    def _resampled(self, name: str, counts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The scores of each system on the same rows, drawn with replacement again and again."""
        rng = np.random.default_rng(SEED)
        scores = {system: np.empty(RESAMPLES) for system in counts}
        for number in range(RESAMPLES):
            times = np.bincount(rng.choice(self._rows, size=self._rows), minlength=self._rows)
            for system, table in counts.items():
                scores[system][number] = self._score(name, times @ table)
        return scores


def _spread(drawn: np.ndarray, difference: float, rows: int) -> dict[str, float | None]:
    """Standard error and p-value of a difference, from the differences of resamples.

    The p-value is that of sacrebleu's paired bootstrap, which others report. It centres sizes and not differences, so
    that it is too small where systems are about equally good; there the standard error says more.
    """
    if rows < 2:
        return {"standard_error": None, "p_value": None}
    sizes = np.abs(drawn)
    farther = int(np.sum(sizes - sizes.mean() > abs(difference)))
    return {
        "standard_error": round(float(drawn.std(ddof=1)), _DIGITS),
        "p_value": round((farther + 1) / (len(drawn) + 1), _DIGITS),
    }


# --- metrics that score each answer ---


@dataclass
class Mean:
    """A mean and its standard error, in flat memory (Welford)."""

    count: int = 0
    mean: float = 0.0
    _squares: float = 0.0

    def add(self, value: float) -> None:
        """Takes in a number."""
        self.count += 1
        distance = value - self.mean
        self.mean += distance / self.count
        self._squares += distance * (value - self.mean)

    def as_json(self, name: str) -> dict[str, float | None]:
        """Mean, under a name, and standard error; None where there are too few numbers."""
        error = math.sqrt(self._squares / (self.count - 1) / self.count) if self.count > 1 else None
        return {
            name: round(self.mean, _DIGITS) if self.count else None,
            "standard_error": round(error, _DIGITS) if error is not None else None,
        }


@dataclass
class _System:
    mean: Mean = field(default_factory=Mean)
    difference: Mean = field(default_factory=Mean)
    without_score: int = 0
    truncated: int = 0


def _measure(metric: MetricScores, evaluation: Path, shards: int) -> dict[str, Any]:
    """The means of a metric. Where one system has no score, none of that row's counts."""
    systems = {system: _System() for system in SYSTEMS}
    rows = 0
    for shard in track(shard_names(shards), metric.name, shards, "tables"):
        scores = metric.scores / f"{shard}.parquet"
        for _, found in scored_answers(evaluation / "completions" / f"{shard}.parquet", scores):
            answers = _by_system(found, scores)
            if any(answer["error"] is not None for answer in answers.values()):
                continue
            rows += 1
            values = {system: answer["score"] for system, answer in answers.items()}
            for system, answer in answers.items():
                systems[system].without_score += not _is_number(values[system])
                systems[system].truncated += answer["truncated"]
            if all(map(_is_number, values.values())):
                for system, value in values.items():
                    systems[system].mean.add(value)
                    systems[system].difference.add(value - values[GREEDY])
    return {
        "direction": metric.direction,
        "systems": {
            name: system.mean.as_json("mean")
            | {"rows": system.mean.count, "without_score": system.without_score, "truncated": system.truncated}
            for name, system in systems.items()
        },
        f"against_{GREEDY}": {
            name: systems[name].difference.as_json("difference") | {"rows": systems[name].difference.count}
            for name in _OTHERS
        },
    }


def _is_number(score: float | None) -> bool:
    # A model in too narrow a number format gives NaN or infinity.
    return score is not None and math.isfinite(score)
