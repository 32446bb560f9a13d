"""What an evaluation comes to: TASK.json, and TASK.samples.parquet with what each item got.

    {"task": "ifeval", "version": 4.0,
     "metrics": {"prompt_level_strict_acc": {"value": 0.52, "stderr": 0.021, "higher_is_better": true}},
     "samples": 541, "model": {"name": "base", "identity": "hub:…", "base": null}, "settings": {"backend": "hf", …},
     "lm_eval": "0.4.13", "seconds": 321.5}

A metric is called as lm-evaluation-harness calls it; of one that a filter belongs to, such as strict-match, the name is
METRIC,FILTER. `stderr` is null where nobody knows it. Groups have their tasks' own numbers under `tasks`.
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import pyarrow as pa

from corpusmith.errors import InputError
from corpusmith.files import read_json
from corpusmith.table_files import read_rows
from corpusmith.tables import Column, Table

# What lm-evaluation-harness calls the filter that changes nothing.
_NO_FILTER = "none"
_STDERR = "_stderr"
_KEYS = ("task", "version", "metrics", "samples", "model", "settings", "seconds")

SAMPLES = Table(
    "samples",
    Column("task", pa.string(), "name of the task; of a group, the task of it that the item belongs to"),
    Column("item", pa.int64(), "number of the item among those of its task, from 0"),
    Column("item_hash", pa.string(), "hash of the item as lm-evaluation-harness makes it"),
    Column("filter", pa.string(), "what the answer was put through before it was judged; none: nothing"),
    Column("target", pa.string(), "what would have been right"),
    Column("response", pa.string(), "the answer that was judged; of a choice, log-likelihoods as JSON"),
    Column(
        "scores",
        pa.list_(pa.struct([pa.field("metric", pa.string()), pa.field("value", pa.float64())])),
        "what the item got, by metric, as far as that is one number",
    ),
    row_group=1024,
)


def metric_name(metric: str, filter_name: str) -> str:
    """What a metric is called in results."""
    return metric if filter_name == _NO_FILTER else f"{metric},{filter_name}"


def metrics_of(results: Mapping[str, Any], better: Mapping[str, bool | None]) -> dict[str, dict[str, Any]]:
    """The metrics of one task or group. results: what lm-evaluation-harness says of it; better: of its metrics."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in results.items():
        metric, comma, filter_name = key.partition(",")
        if not comma or metric.endswith(_STDERR) or not _is_number(value):
            continue
        stderr = results.get(f"{metric}{_STDERR},{filter_name}")
        found[metric_name(metric, filter_name)] = {
            "value": float(value),
            "stderr": float(stderr) if _is_number(stderr) else None,
            "higher_is_better": better.get(metric),
        }
    return found


def sample_rows(samples: Mapping[str, list[Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Rows of SAMPLES, by task and item. samples: as lm-evaluation-harness logs them."""
    for task in sorted(samples):
        for sample in sorted(samples[task], key=lambda sample: (sample["doc_id"], sample["filter"])):
            responses = sample["filtered_resps"]
            response = responses[0] if len(responses) == 1 and isinstance(responses[0], str) else _as_json(responses)
            scores = [(name, sample.get(name)) for name in sample["metrics"]]
            target = sample["target"]
            yield {
                "task": task,
                "item": int(sample["doc_id"]),
                "item_hash": sample["doc_hash"],
                "filter": sample["filter"],
                "target": target if isinstance(target, str) else _as_json(target),
                "response": response,
                "scores": [{"metric": name, "value": float(value)} for name, value in scores if _is_number(value)],
            }


def read_result(path: str | Path) -> dict[str, Any]:
    """A TASK.json. Raises InputError where it is none."""
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such result; build it first")
    found = read_json(path)
    if not isinstance(found, dict) or any(key not in found for key in _KEYS):
        raise InputError(f"{path}: is no result of an evaluation; delete it and build again")
    return found


def scores_by_metric(path: str | Path) -> dict[str, dict[tuple[str, int, str], float]]:
    """Of each metric what the items got, by task, number and hash."""
    found: dict[str, dict[tuple[str, int, str], float]] = {}
    for row in read_rows(path, SAMPLES, ["task", "item", "item_hash", "filter", "scores"]):
        item = row["task"], row["item"], row["item_hash"]
        for score in row["scores"]:
            found.setdefault(metric_name(score["metric"], row["filter"]), {})[item] = score["value"]
    return found


def _is_number(value: Any) -> TypeGuard[float]:
    # numpy's booleans are no numbers of Python's.
    return (isinstance(value, numbers.Real) or type(value).__name__ in ("bool", "bool_")) and math.isfinite(value)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
