"""How good the toy dataset is, against the truth: single answers, the best of several, what the filter leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sacrebleu

from corpusmith.table_files import read_rows
from corpusmith.tables import FILTERED
from corpusmith.toy.translation import translate
from corpusmith.translation import GREEDY, SAMPLED, best_first, scored_answers

Tables = Sequence[tuple[Path, Path]]


def measure(answers: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Share of exactly right translations, chrF (0 to 100) and number of rows. answers: pairs of right and given."""
    pairs = list(answers)
    if not pairs:
        return {"exact": None, "chrf": None, "rows": 0}
    exact = sum(right == given for right, given in pairs) / len(pairs)
    chrf = sacrebleu.corpus_chrf([given for _, given in pairs], [[right for right, _ in pairs]]).score
    return {"exact": round(exact, 4), "chrf": round(chrf, 2), "rows": len(pairs)}


def group_sizes(n: int) -> list[int]:
    """2, 8, 32, … up to n, and n itself."""
    sizes, size = [], 2
    while size < n:
        sizes.append(size)
        size *= 4
    return [*sizes, n] if n > 1 else []


def measure_answers(sources: Mapping[str, str], greedy: Tables, sampled: Tables, n: int) -> dict[str, Any]:
    """The quality of greedy, of single sampled and of the best of several answers to some sources.

    sources: item_id to text; greedy, sampled: completions and scores that hold those answers. The best of k is
    measured on each whole group of k samples, not only on the first.
    """
    truth = {item: translate(text) for item, text in sources.items()}
    found = {"greedy": _measured(greedy, truth, GREEDY, 1), "sampled": _measured(sampled, truth, SAMPLED, 1)}
    best = {str(size): _measured(sampled, truth, SAMPLED, size) for size in group_sizes(n)}
    return found | {"best_of": best}


def _measured(tables: Tables, truth: Mapping[str, str], request: str, size: int) -> dict[str, Any]:
    pairs = []
    for completions, scores in tables:
        for item, answers in scored_answers(completions, scores):
            if item not in truth:
                continue
            chosen = [answer for answer in answers if answer["request"] == request]
            for start in range(0, len(chosen) - size + 1, size):
                best = best_first(chosen[start : start + size]) if size > 1 else chosen[start : start + 1]
                pairs.append((truth[item], best[0]["text"] if best else ""))
    return measure(pairs)


def measure_filtered(paths: Iterable[Path]) -> dict[str, Any]:
    """The quality of what the filter leaves."""
    rows = (row for path in paths for row in read_rows(path, FILTERED, ["source", "target"]))
    return measure((translate(row["source"]), row["target"]) for row in rows)
