"""A small build whose every row is known, as far as its release; for tests."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from corpusmith import layout
from corpusmith.accounting import Account
from corpusmith.config import resolve_config
from corpusmith.files import write_json
from corpusmith.generation import tally_items
from corpusmith.identity import item_id, shard_names
from corpusmith.judging import apply_verdicts, judge_requests
from corpusmith.release import Build, write_release
from corpusmith.table_files import read_rows, row_count, write_table
from corpusmith.tables import BAD_ROWS, FILTERED, REJECTED, REQUESTS, ROWS, SEGMENTS, SELECTED_SOURCES, Table
from corpusmith.toy.translation import Clause, Sentence, english, korean
from corpusmith.translation import Asking, Language, select_best, select_sources, translation_requests
from translation_tables import FAILED, Answer, Answers, run_program, segment, write_answers

ROOT = Path(__file__).resolve().parent.parent
NAME = "mini"
LANGUAGES = (Language("English", "en"), Language("Korean", "ko"))
JUDGE = {"model": "judge", "prompt": "p.txt", "verdicts": ["good", "bad"], "accept": ["good"], "shards": 1}
SPLITS = {"train": 0.6, "test": 0.4}

# --- a build, made by the real programs around hand-made answers ---
#
# 24 sources. 0 and 1 have no whole answers; of the others the 16 with the largest gain are kept, 8 to 23. All answers
# to 8 are cut off, all to 9 fail; the best ones to 10 and 11 have a wrong number; 12 scores badly; the judge says no to
# 13 and nothing to 14. So 15 to 23 are released.

RELEASED = range(15, 24)


def sentence(number: int, shift: int = 0) -> Sentence:
    names = ("Mina", "Minjun", "Suyeon")
    return Sentence("", names[number % 3], "", (Clause("sold", 21 + number + shift, "pears"),), " and ")


SOURCES = [english(sentence(number)) for number in range(24)]
TARGETS = [korean(sentence(number)) for number in range(24)]


def prefilter_answers(number: int) -> dict[str, list[Answer]]:
    pair = {"greedy": [Answer(20.0)], "sampled": [Answer(20.0 - number / 2)]}
    faults = {0: {"greedy": [FAILED]}, 1: {"sampled": [Answer(0.0, finish_reason="length")]}}
    return pair | faults.get(number, {})


def final_answers(number: int) -> list[Answer]:
    if number == 8:
        return [Answer(0.0, TARGETS[number], finish_reason="length")] * 3
    if number == 9:
        return [FAILED] * 3
    best = korean(sentence(number, shift=1000)) if number in (10, 11) else TARGETS[number]
    score = 6.0 if number == 12 else number / 100
    return [Answer(9.0, "배."), Answer(score, best), Answer(score + 1, best + " ")]


def verdict(number: int) -> Answer:
    return {13: Answer(None, "bad"), 14: FAILED}.get(number, Answer(None, "good"))


def config_of(splits: Mapping[str, float], minimum: int = 1) -> dict[str, Any]:
    step = {"model": "teacher", "scorer": "metric", "prompt": "p.txt", "shards": 2}
    entry = {
        "recipe": "translation",
        "source_language": {"code": "en", "name": "English"},
        "target_language": {"code": "ko", "name": "Korean"},
        "sources": {"files": ["*.jsonl.gz"], "pool": 24},
        "prefilter": step | {"keep": 16},
        "final": step | {"n": 3, "keep_top": 2},
        "filter": {"judge": JUDGE},
        "splits": dict(splits),
        "release": {
            "title": "Pears: sold – 배",
            "licence": "cc-by-4.0",
            "description": "Small, {{ but }} complete.",
            "minimum_rows": minimum,
        },
    }
    model = {"engine": "transformers", "repo": "someone/something", "device": "cpu", "batch_size": 3}
    return resolve_config(
        {
            "models": {"teacher": model, "judge": model},
            "scorers": {"metric": {"metric": "metricx-24", "repo": "someone/metric", "device": "cpu"}},
            "datasets": {NAME: entry},
        }
    )


@dataclass
class Made:
    """A build in a folder."""

    folder: Path
    config: dict[str, Any]
    release: Path = field(init=False)
    stats: Path = field(init=False)

    def __post_init__(self) -> None:
        self.release, self.stats = self.folder / "release", self.folder / "stats.json"

    @property
    def build(self) -> Build:
        return Build(
            name=NAME,
            folder=self.folder,
            stages=layout.stages(self.config, NAME),
            tables=layout.tables(self.config, NAME),
            dropped=layout.dropped(self.config, NAME),
            pool=self.folder / "sources" / "segments.parquet",
            card=ROOT / layout.card_of(self.config, NAME),
            splits={
                split: self.folder / "filtered" / f"{split}.parquet"
                for split in self.config["datasets"][NAME]["splits"]
            },
            config=layout.release_config(self.config, NAME),
            models={name: self.folder.parent / f"{name}.json" for name in ("teacher", "metric", "judge")},
            environments=[ROOT / "envs" / "data.yaml"],
        )

    def write(self) -> int:
        return write_release(self.build, self.release, self.stats)

    def flags(self) -> list[Any]:
        """The same as flags of the program."""
        build = self.build
        models = [f"{name}={path}" for name, path in build.models.items()]
        return [
            *("--dataset", NAME, "--folder", self.folder, "--config", json.dumps(build.config)),
            *("--stages", *build.stages, "--tables", *build.tables, "--dropped", *build.dropped),
            *("--pool", build.pool, "--card", build.card, "--splits", *build.splits, "--models", *models),
            *("--environments", *build.environments),
            *("--manifest", self.release / "manifest.json", "--stats", self.stats),
        ]

    def copy(self, parent: Path, order: random.Random | None = None) -> Made:
        """The build in another folder, its files made in another order."""
        files = sorted(path for path in self.folder.parent.rglob("*") if path.is_file())
        if order is not None:
            order.shuffle(files)
        for path in files:
            target = parent / path.relative_to(self.folder.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return Made(parent / self.folder.name, self.config)


def make(parent: Path) -> Made:
    """Makes the build, as far as the release."""
    made = Made(parent / "dataset", config_of(SPLITS))
    folder, numbers = made.folder, {item_id(text): number for number, text in enumerate(SOURCES)}
    for name in ("teacher", "metric", "judge"):
        receipt = {
            "name": name,
            "origin": "hub",
            "repo": f"someone/{name}",
            "revision": "ab12",
            "identity": f"id-{name}",
        }
        write_json(parent / f"{name}.json", receipt | {"parameters": 7, "dtype": "float32", "files": [], "folder": "f"})

    sources = folder / "sources"
    write_table(sources / "segments.parquet", SEGMENTS, map(segment, SOURCES))
    bad_row = {"file": "a.jsonl.gz", "line": 3, "reason": "not_json", "excerpt": "{"}
    write_table(sources / "bad_rows.parquet", BAD_ROWS, [bad_row])
    for account, taken, kept, reasons in (
        (Account("read", "documents"), 9, 8, {"not_json": 1}),
        (Account("sample", "segments"), 50, 24, {"not_drawn": 20, "outside_buckets": 6}),
    ):
        account.taken.count, account.kept.count, account.dropped.count = taken, kept, taken - kept
        account.reasons.update(reasons)
        account.write(sources / f"{account.stage}.account.json")

    def ask(step: str, rows: Path, table: Table, greedy: bool, n: int, answers: Answers) -> list[tuple[Path, Path]]:
        asking = Asking(n=n, greedy=greedy, temperature=1.0, top_p=1.0, top_k=0, max_tokens=20)
        for shard in shard_names(2):
            texts = read_rows(rows, table, ["item_id", "text"])
            requests = translation_requests(texts, shard, lambda text, **_: text, LANGUAGES, asking)
            write_table(folder / step / "requests" / f"{shard}.parquet", REQUESTS, requests)
        tables = write_answers(folder / step, answers, 2)
        account_for_answers(folder, step, ("generate", "score"), 2)
        return tables

    answers: dict[str, Any] = {item: prefilter_answers(number) for item, number in numbers.items()}
    tables = ask("prefilter", sources / "segments.parquet", SEGMENTS, True, 1, answers)
    account = Account("prefilter/select")
    select_sources(
        *(sources / "segments.parquet", tables, 16, folder / "final" / "sources.parquet"),
        *(folder / "prefilter" / "dropped.parquet", account),
    )
    account.write(folder / "prefilter" / "select.account.json")

    kept = [row["item_id"] for row in read_rows(folder / "final" / "sources.parquet", SELECTED_SOURCES)]
    answers = {item: {"sampled": final_answers(numbers[item])} for item in kept}
    tables = ask("final", folder / "final" / "sources.parquet", SELECTED_SOURCES, False, 3, answers)
    for shard, (completions, scores) in zip(shard_names(2), tables, strict=True):
        account = Account("final/select")
        paths = [folder / "final" / kind / f"{shard}.parquet" for kind in ("requests", "selected", "dropped")]
        select_best(paths[0], completions, scores, 2, paths[1], paths[2], account)
        account.write(folder / "final" / "selected" / f"{shard}.account.json")

    checked = folder / "checked"
    run_program(
        *("filter_translations.py", "--selected", folder / "final" / "selected", "--shards", 2),
        *("--source-language", "en", "--target-language", "ko", "--kept", checked / "kept.parquet"),
        *("--rejected", checked / "rejected.parquet", "--account", folder / "checked.account.json"),
    )
    judge_and_split(folder, verdict)
    return made


def judge_and_split(folder: Path, verdict_on: Callable[[int], Answer]) -> None:
    """What follows the rules."""
    checked, judged, filtered = folder / "checked", folder / "judged", folder / "filtered"
    rows = list(read_rows(checked / "kept.parquet", FILTERED))
    requests = judge_requests(rows, "0000-of-0001", lambda **_: "?", JUDGE["verdicts"])
    write_table(folder / "filter-judge" / "requests" / "0000-of-0001.parquet", REQUESTS, requests)
    answers = {row["item_id"]: {"verdict": [verdict_on(SOURCES.index(row["source"]))]} for row in rows}
    ((completions, _),) = write_answers(folder / "filter-judge", answers)
    shutil.rmtree(folder / "filter-judge" / "scores")
    account_for_answers(folder, "filter-judge", ("generate",), 1)
    account = Account("judge")
    apply_verdicts(
        *(checked / "kept.parquet", ROWS["translation"], [completions], JUDGE["accept"], judged / "kept.parquet"),
        *(judged / "rejected.parquet", account),
    )
    account.write(folder / "judged.account.json")

    # The first rows go to train, the others to test: which rows a split gets is tested elsewhere.
    rows = list(read_rows(judged / "kept.parquet", FILTERED))
    train = round(SPLITS["train"] * len(rows))
    write_table(filtered / "train.parquet", FILTERED, rows[:train])
    write_table(filtered / "test.parquet", FILTERED, rows[train:])
    both = [read_rows(place / "rejected.parquet", REJECTED) for place in (checked, judged)]
    write_table(filtered / "rejected.parquet", REJECTED, [row for rows in both for row in rows])


def account_for_answers(folder: Path, step: str, names: Sequence[str], shards: int) -> None:
    """The accounts of generate and score; each answer of these tables has 7 tokens of prompt and 3 of its own."""
    for name, kind in zip(names, ("completions", "scores"), strict=False):
        for shard in shard_names(shards):
            account = Account(f"{step}/{name}")
            tally_items(folder / step / "requests" / f"{shard}.parquet", account)
            if name == "generate":
                rows = row_count(folder / step / "completions" / f"{shard}.parquet")
                account.prompt_tokens, account.completion_tokens = 7 * rows, 3 * rows
            account.write(folder / step / kind / f"{shard}.account.json")


# --- what is to come of it ---


def expected_rows() -> list[dict[str, Any]]:
    return [
        {
            "item_id": item_id(SOURCES[number]),
            "source": SOURCES[number],
            "target": TARGETS[number],
            "score": number / 100,
            "mean_score": round((9.0 + number / 100 + number / 100 + 1) / 3, 6),
            "candidates": 3,
        }
        for number in RELEASED
    ]


def in_order(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: SOURCES.index(row["source"]))


def front_matter(card: Path) -> tuple[dict[str, Any], str]:
    head, front, body = card.read_text(encoding="utf-8").split("---\n", 2)
    assert head == ""
    return yaml.safe_load(front), body


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


LOAD = """
import json, sys
from datasets import load_dataset
found = {}
for folder in sys.argv[1:]:
    loaded = load_dataset(folder)
    found[folder] = {
        split: {"types": {name: str(kind.dtype) for name, kind in rows.features.items()}, "rows": rows.to_list()}
        for split, rows in loaded.items()
    }
print(json.dumps(found))
"""


def load(folders: Sequence[Path], home: Path) -> dict[str, Any]:
    """What `datasets` makes of releases, in a process without network and with a cache of its own."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, *map(str, folders)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])
