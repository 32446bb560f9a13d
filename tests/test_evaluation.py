"""A release held against references: which rows are compared, with what, and what comes out; and the programs."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from corpusmith.errors import InputError
from corpusmith.evaluation import MetricScores, bleu, evaluate
from corpusmith.evaluation_lines import evaluation_lines
from corpusmith.identity import digest, item_id, shard_names, shard_of
from corpusmith.metrics import metricx
from corpusmith.references import (
    SYSTEMS,
    Answer,
    Pairing,
    ReferenceForm,
    read_references,
    reference_files,
    write_pairs,
)
from corpusmith.scoring import count_missing
from corpusmith.store import Store
from corpusmith.tables import BAD_ROWS, COMPLETIONS, FILTERED, REQUESTS, SCORES, SEGMENTS, read_rows, write_table
from corpusmith.toy.translation import translate
from corpusmith.translation import Asking, Language, translation_requests
from translation_tables import call_program, run_program, segment

LANGUAGES = (Language("English", "en"), Language("Korean", "ko"))
PREFILTER_SHARDS, FINAL_SHARDS = 2, 3
SPLITS = ("train", "test")
CUT = " (cut off)"


@dataclass(frozen=True)
class Source:
    """A source, its answers (None: none came; behind CUT: cut off), and which sample was released, if any."""

    text: str
    greedy: str | None
    samples: Sequence[str | None]
    released: int | None = 0

    @property
    def item(self) -> str:
        return item_id(self.text)


def write_step(folder: Path, sources: Sequence[Source], n: int, greedy: bool, shards: int) -> None:
    """Requests as the build asks them, and completions whose keys are all different."""
    asking = Asking(n, greedy, temperature=0.7, top_p=0.9, top_k=40, max_tokens=50)
    by_item = {source.item: source for source in sources}
    rows = [{"item_id": source.item, "text": source.text} for source in sources]
    for shard in shard_names(shards):
        requests = list(translation_requests(rows, shard, lambda text, **_: f"To Korean: {text}", LANGUAGES, asking))
        write_table(folder / "requests" / f"{shard}.parquet", REQUESTS, requests)
        write_table(
            folder / "completions" / f"{shard}.parquet",
            COMPLETIONS,
            [
                completion(request, sample, text)
                for request in requests
                for sample, text in enumerate(answers_to(by_item[request["item_id"]], request))
            ],
        )


def answers_to(source: Source, request: Mapping[str, Any]) -> Sequence[str | None]:
    return [source.greedy] if request["request"] == "greedy" else source.samples[: request["n"]]


def completion(request: Mapping[str, Any], sample: int, text: str | None) -> dict[str, Any]:
    finish_reason = "error" if text is None else "length" if text.endswith(CUT) else "stop"
    return {
        "item_id": request["item_id"],
        "request": request["request"],
        "sample": sample,
        "text": text or "",
        "finish_reason": finish_reason,
        "prompt_tokens": 11,
        "completion_tokens": 0 if text is None else len(text),
        "error": "the engine gave up" if text is None else None,
        "key": digest(request["item_id"], request["request"], str(sample)),
    }


def write_build(folder: Path, sources: Sequence[Source]) -> None:
    """The tables of a build in shards: the prefilter asks all sources, the final step those with samples."""
    kept = [source for source in sources if source.samples]
    write_step(folder / "prefilter", sources, 1, True, PREFILTER_SHARDS)
    write_step(folder / "final", kept, len(kept[0].samples), False, FINAL_SHARDS)
    released = [
        {
            "item_id": source.item,
            "source": source.text,
            "target": source.samples[source.released],
            "score": 1.0,
            "sample": source.released,
            "candidates": len(source.samples),
            "mean_score": 1.5,
            "top_k": [],
        }
        for source in kept
        if source.released is not None
    ]
    for number, split in enumerate(SPLITS):
        write_table(folder / "filtered" / f"{split}.parquet", FILTERED, released[number :: len(SPLITS)])


def write_lines(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def pair_flags(folder: Path, *references: Path, shards: int = 2, evaluation: str = "evaluation") -> list[Any]:
    return [
        *("pair_references.py", "--folder", folder, "--splits", *SPLITS),
        *("--prefilter-shards", PREFILTER_SHARDS, "--final-shards", FINAL_SHARDS),
        *("--references", *references, "--shards", shards, "--evaluation", folder / evaluation),
    ]


def pair(folder: Path, *references: Path, **options: Any) -> dict[str, Any]:
    """Pairs a build with references; returns what the program says it did."""
    run_program(*pair_flags(folder, *references, **options))
    return json.loads((folder / options.get("evaluation", "evaluation") / "pairing.json").read_text())


def rows_of(folder: Path, kind: str, shards: int) -> list[dict[str, Any]]:
    table = {"requests": REQUESTS, "completions": COMPLETIONS}[kind]
    return [row for shard in shard_names(shards) for row in read_rows(folder / kind / f"{shard}.parquet", table)]


BUILD = [
    Source("Released, third sample.", "greedy 0", ["first 0", "second 0", "third 0"], released=2),
    Source("Released, without a reference.", "greedy 1", ["first 1", "second 1", "third 1"]),
    Source("Released, first sample.", "greedy 2" + CUT, ["first 2", "second 2", "third 2"], released=0),
    Source("Rejected by the filter.", "greedy 3", ["first 3", "second 3", "third 3"], released=None),
    Source("Two lines,\none text.", None, [None, "second 4", "third 4"], released=1),
    Source("Dropped by the prefilter.", "greedy 5", []),
    Source("Released, second sample.", "greedy 6", ["first 6", None, "third 6"], released=2),
]
WITH_REFERENCE = [BUILD[0], BUILD[2], BUILD[4], BUILD[6]]
REFERENCES = [
    {"source": "Released, first sample.", "reference": "right 2", "domain": "news"},
    {"source": "Dropped by the prefilter.", "reference": "right 5"},
    {"source": "Two lines,\none text.", "reference": "right\n4"},
    {"source": "Released, second sample.", "reference": "right 6"},
    {"source": "released, without a reference.", "reference": "right but for a capital"},
    {"source": "Rejected by the filter.", "reference": "right 3"},
    {"source": "Released, third sample.", "reference": "right 0"},
]
RIGHT = {"Released, third sample.": "right 0", "Released, first sample.": "right 2"} | {
    "Two lines,\none text.": "right\n4",
    "Released, second sample.": "right 6",
}

# --- pairing ---


def test_released_rows_with_a_reference_get_three_answers_copied_from_the_tables_of_both_steps(tmp_path: Path) -> None:
    write_build(tmp_path, BUILD)
    summary = pair(tmp_path, write_lines(tmp_path / "r.jsonl", REFERENCES))
    requests = rows_of(tmp_path / "evaluation", "requests", 2)
    completions = rows_of(tmp_path / "evaluation", "completions", 2)

    # In the order of the final step: by shard, and in each as they were asked.
    ordered = sorted(WITH_REFERENCE, key=lambda source: shard_of(source.item, FINAL_SHARDS))
    assert [(row["item_id"], row["request"]) for row in requests] == [
        (source.item, system) for source in ordered for system in ("greedy", "sampled", "released")
    ]
    was_asked = {
        (step, row["item_id"], row["request"]): row
        for step, shards in (("prefilter", PREFILTER_SHARDS), ("final", FINAL_SHARDS))
        for row in rows_of(tmp_path / step, "requests", shards)
    }
    was_answered = {
        (step, row["item_id"], row["request"], row["sample"]): row
        for step, shards in (("prefilter", PREFILTER_SHARDS), ("final", FINAL_SHARDS))
        for row in rows_of(tmp_path / step, "completions", shards)
    }
    by_item = {source.item: source for source in BUILD}
    for request, found in zip(requests, completions, strict=True):
        source = by_item[request["item_id"]]
        step, name, sample = {
            "greedy": ("prefilter", "greedy", 0),
            "sampled": ("final", "sampled", 0),
            "released": ("final", "sampled", source.released),
        }[request["request"]]
        changed = {"request": request["request"], "n": 1, "first_sample": sample, "reference": RIGHT[source.text]}
        assert request == was_asked[step, source.item, name] | changed
        assert found == was_answered[step, source.item, name, sample] | {"request": request["request"]}
    assert [row["text"] for row in completions if row["item_id"] == BUILD[0].item] == ["greedy 0", "first 0", "third 0"]
    # A failed answer is carried along as it is.
    failed = [row for row in completions if row["item_id"] == BUILD[4].item]
    assert [(row["text"], row["error"] is None) for row in failed] == [("", False), ("", False), ("second 4", True)]

    assert summary == {
        "references": {"in": 7, "kept": 4, "dropped": {"not_released": 3}},
        "released": {"in": 5, "kept": 4, "dropped": {"no_reference": 1}},
        "answers": {
            "greedy": {"failed": 1, "cut_off": 1},
            "sampled": {"failed": 1, "cut_off": 0},
            "released": {"failed": 0, "cut_off": 0},
        },
        "first_bad_rows": [],
    }


def test_the_score_step_takes_what_was_paired(tmp_path: Path) -> None:
    write_build(tmp_path, BUILD)
    pair(tmp_path, write_lines(tmp_path / "r.jsonl", REFERENCES), shards=1)
    tables = [tmp_path / "evaluation" / kind / "0000-of-0001.parquet" for kind in ("requests", "completions")]
    # Twelve answers, two failed; where the first sample was released, two are one pair.
    assert count_missing(*tables, metricx("some", "float32"), Store(tmp_path / "store")) == 9


def test_the_same_pairs_come_from_any_form_of_file_in_any_number_of_shards(tmp_path: Path) -> None:
    write_build(tmp_path, BUILD)
    lines = write_lines(tmp_path / "r.jsonl", REFERENCES)
    (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress(lines.read_bytes()))
    columns = {name: [row[name] for row in REFERENCES] for name in ("source", "reference")}
    table = pa.table({"number": list(range(7))} | {"source": pa.array(columns["source"], pa.large_string())})
    table = table.append_column("reference", pa.array(columns["reference"]).dictionary_encode())
    pq.write_table(table, tmp_path / "r.parquet", row_group_size=2)
    others = write_lines(
        tmp_path / "others.jsonl", [{"en": row["source"], "ko": row["reference"]} for row in REFERENCES]
    )

    summaries = [
        pair(tmp_path, tmp_path / f"r.{kind}", shards=shards, evaluation=f"{kind}-{shards}")
        for kind, shards in (("jsonl", 2), ("jsonl.gz", 2), ("parquet", 2), ("jsonl", 1), ("jsonl", 7))
    ]
    named = ("--source-field", "en", "--reference-field", "ko")
    run_program(*pair_flags(tmp_path, others, evaluation="named-2"), *named)
    assert all(summary == summaries[0] for summary in summaries)
    for kind in ("requests", "completions"):
        for shard in shard_names(2):
            contents = {
                (tmp_path / name / kind / f"{shard}.parquet").read_bytes()
                for name in ("jsonl-2", "jsonl.gz-2", "parquet-2", "named-2")
            }
            assert len(contents) == 1
        whole = rows_of(tmp_path / "jsonl-1", kind, 1)
        assert len(whole) == 12
        assert rows_of(tmp_path / "jsonl-2", kind, 2) == whole
        assert rows_of(tmp_path / "jsonl-7", kind, 7) == whole


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 12), st.integers(1, 7))
def test_shards_differ_by_one_item_at_most(tmp_path_factory: pytest.TempPathFactory, items: int, shards: int) -> None:
    folder = tmp_path_factory.mktemp("pairs")

    def pairs() -> Iterator[list[Answer]]:
        for number in range(items):
            (row,) = translation_requests(
                [{"item_id": item_id(str(number)), "text": "a"}], "0000-of-0001", lambda text, **_: text, LANGUAGES,
                Asking(1, False, 1.0, 1.0, 0, 5),
            )  # fmt: skip
            asked = [row | {"request": system} for system in SYSTEMS]
            yield [Answer(request, completion(request, 0, "b")) for request in asked]

    write_pairs(pairs(), items, shards, folder, Pairing())
    sizes = [len(list(read_rows(folder / "requests" / f"{shard}.parquet", REQUESTS))) for shard in shard_names(shards)]
    assert sum(sizes) == 3 * items
    assert all(size % 3 == 0 for size in sizes)
    assert max(sizes) - min(sizes) <= 3
    found = rows_of(folder, "completions", shards)
    assert [row["item_id"] for row in found] == [item_id(str(n)) for n in range(items) for _ in SYSTEMS]


def test_of_several_references_the_first_counts_and_the_others_are_counted(tmp_path: Path) -> None:
    write_build(tmp_path, BUILD)
    first = write_lines(tmp_path / "a.jsonl", [*REFERENCES, {"source": BUILD[0].text, "reference": "right 0"}])
    again = [
        {"source": BUILD[0].text, "reference": "other 0"},
        {"source": BUILD[2].text, "reference": "right 2"},
        {"source": BUILD[2].text, "reference": "x"},
        # Single letters are one object in Python however often they are read.
        {"source": BUILD[1].text, "reference": "y"},
        {"source": BUILD[1].text, "reference": "y"},
        {"source": BUILD[3].text, "reference": "not released, so neither of these"},
    ]
    summary = pair(tmp_path, first, write_lines(tmp_path / "b.jsonl", again))
    assert summary["references"] == {
        "in": 14,
        "kept": 5,
        "dropped": {"conflicting": 2, "duplicate": 3, "not_released": 4},
    }
    assert summary["released"] == {"in": 5, "kept": 5, "dropped": {}}
    found = {row["item_id"]: row["reference"] for row in rows_of(tmp_path / "evaluation", "requests", 2)}
    assert found == {item_id(text): reference for text, reference in RIGHT.items()} | {BUILD[1].item: "y"}


def test_bad_references_are_set_aside_with_their_place_and_reason(tmp_path: Path) -> None:
    write_build(tmp_path, BUILD)
    good = [json.dumps(row) for row in REFERENCES]
    bad = [
        '{"source": "cut o',
        '{"source": "a", "reference": " \\n"}',
        "",
        '{"source": "a", "target": "b"}',
        '{"source": null, "reference": "b"}',
        '{"source": "a", "reference": "b\\u0000"}',
        '["a", "b"]',
    ]
    path = write_lines(tmp_path / "r.jsonl", [*bad, *good])
    flags = pair_flags(tmp_path, path)
    result = run_program(*flags, "--max-bad-share", 0.5, "--max-document-characters", 40)
    summary = json.loads((tmp_path / "evaluation" / "pairing.json").read_text())
    reasons = [
        (1, "not_json"),
        (2, "empty_text: reference"),
        (4, "no_text: reference"),
        (5, "text_not_a_string: source"),
        (6, "nul_character: reference"),
        (7, "not_an_object"),
    ]
    assert summary["first_bad_rows"] == [{"file": "r.jsonl", "line": line, "reason": why} for line, why in reasons]
    dropped = {why: 1 for _, why in reasons} | {"not_released": 3}
    assert summary["references"] == {"in": 13, "kept": 4, "dropped": dict(sorted(dropped.items()))}
    table = list(read_rows(tmp_path / "evaluation" / "bad_rows.parquet", BAD_ROWS))
    assert [(row["line"], row["reason"]) for row in table] == reasons
    assert table[1]["excerpt"] == bad[1]
    assert "set aside: r.jsonl line 4: field reference: the object has no such text field" in result.stderr

    result = call_program(*pair_flags(tmp_path, path, evaluation="again"), "--max-bad-share", 0.4)
    assert result.returncode == 1
    assert (
        "6 of the first 13 references (46.2%) are bad, more than --max-bad-share 0.4 allows: r.jsonl line 1: the line"
        " is no JSON; r.jsonl line 2: field reference: the text is empty; r.jsonl line 4: field reference: the object"
        " has no such text field; and 3 more."
    ) in result.stderr
    assert not list(tmp_path.glob("again/*"))


def test_bad_rows_of_parquet_have_the_same_reasons(tmp_path: Path) -> None:
    write_build(tmp_path, BUILD)
    texts = [row["source"].encode() for row in REFERENCES] + [b"caf\xe9", None, b"s" * 41, b"Released"]
    right = [row["reference"].encode() for row in REFERENCES] + [b"x", b"x", b"x", b""]
    table = pa.table({"source": pa.array(texts, pa.binary()), "reference": pa.array(right, pa.binary())})
    schema = pa.schema([("source", pa.string()), ("reference", pa.string())])
    # As a file may hold texts that are not UTF-8; Arrow checks that only where it is asked to.
    arrays = [
        pa.Array.from_buffers(pa.string(), len(table), column.combine_chunks().buffers()) for column in table.columns
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), tmp_path / "r.parquet")
    run_program(*pair_flags(tmp_path, tmp_path / "r.parquet"), "--max-bad-share", 0.4, "--max-document-characters", 40)
    found = [(row["line"], row["reason"]) for row in read_rows(tmp_path / "evaluation" / "bad_rows.parquet", BAD_ROWS)]
    assert found == [
        (8, "not_utf8"),
        (9, "text_not_a_string: source"),
        (10, "text_too_long: source"),
        (11, "empty_text: reference"),
    ]


def write_bad_files(folder: Path) -> None:
    whole = gzip.compress((json.dumps(REFERENCES[0]) + "\n").encode() * 2000)
    (folder / "short.jsonl.gz").write_bytes(whole[:-20])
    (folder / "damaged.jsonl.gz").write_bytes(whole[:40] + b"\x00\xff" * 10 + whole[60:])
    (folder / "text.jsonl.gz").write_text("{}\n")
    (folder / "empty.jsonl").write_text("")
    (folder / "blank.jsonl").write_text("\n \n")
    (folder / "table.csv").write_text("source,reference\n")
    (folder / "text.parquet").write_text("PAR1, or so it says")
    pq.write_table(pa.table({"src": ["a"], "reference": ["b"]}), folder / "other.parquet")
    pq.write_table(pa.table({"source": [1], "reference": ["b"]}), folder / "numbers.parquet")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("short.jsonl.gz", "the compressed data ends too early; fetch the file again"),
        ("damaged.jsonl.gz", "the compressed data is broken"),
        ("text.jsonl.gz", "line 1: is no gzip file"),
        ("empty.jsonl", "the file is empty"),
        ("blank.jsonl", "the file holds no lines"),
        ("missing.jsonl", "no such file"),
        ("missing.parquet", "no such file"),
        ("table.csv", "only .jsonl, .jsonl.gz, .parquet are read"),
        ("text.parquet", "is no Parquet file, or a broken one"),
        ("other.parquet", "no column 'source'; found: src, reference; correct --source-field"),
        ("numbers.parquet", "column 'source' is int64, it should be text"),
    ],
)
def test_a_broken_file_of_references_is_an_error_that_names_it(tmp_path: Path, name: str, says: str) -> None:
    write_bad_files(tmp_path)
    with pytest.raises(InputError) as raised:
        list(read_references(reference_files([tmp_path / name]), ReferenceForm("source", "reference", 1000)))
    assert str(raised.value).startswith(f"{tmp_path / name}: ")
    assert says in str(raised.value)


def test_a_file_that_breaks_off_leaves_no_tables_behind(tmp_path: Path) -> None:
    write_build(tmp_path, BUILD)
    write_bad_files(tmp_path)
    result = call_program(*pair_flags(tmp_path, tmp_path / "short.jsonl.gz"))
    assert result.returncode == 1
    assert f"error: {tmp_path / 'short.jsonl.gz'}: line " in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("evaluation/*"))


def test_a_release_without_any_reference_shows_a_source_of_each_side(tmp_path: Path) -> None:
    write_build(tmp_path, BUILD)
    references = write_lines(tmp_path / "r.jsonl", [REFERENCES[1], REFERENCES[5]])
    result = call_program(*pair_flags(tmp_path, references))
    assert result.returncode == 1
    assert "none of the 5 released rows has a reference" in result.stderr
    assert "one of the 2 references read" in result.stderr
    assert "A released source: 'Released, third sample.'; a reference's: 'Dropped by the prefilter.'" in result.stderr
    assert not list(tmp_path.glob("evaluation/*"))


@pytest.mark.parametrize(
    ("step", "now", "says"),
    [
        ("final", Source(BUILD[0].text, "", ["first 0", "second 0", "another"]), "is not what was released"),
        ("final", Source(BUILD[0].text, "", ["first 0", "second 0"]), "has no sample 2 of item"),
        ("final", Source("Something else.", "", ["a", "b", "c"]), f"has no item {BUILD[0].item}, which was released"),
        ("prefilter", Source("Something else.", "x", ["y"]), f"has no greedy answer to item {BUILD[0].item}"),
    ],
)
def test_tables_of_another_build_are_an_error(tmp_path: Path, step: str, now: Source, says: str) -> None:
    write_build(tmp_path, BUILD[:1])
    greedy, shards = (True, PREFILTER_SHARDS) if step == "prefilter" else (False, FINAL_SHARDS)
    write_step(tmp_path / step, [now], len(now.samples), greedy, shards)
    result = call_program(*pair_flags(tmp_path, write_lines(tmp_path / "r.jsonl", REFERENCES)))
    assert result.returncode == 1
    assert f"error: {tmp_path / step}: " in result.stderr
    assert says in result.stderr


def test_the_truth_of_the_toy_world_is_a_file_of_references(tmp_path: Path) -> None:
    texts = ["Mina bought 342 apples.", "Juno lost 7 books at school.\nMina sold 20 books."]
    write_table(tmp_path / "segments.parquet", SEGMENTS, map(segment, texts))
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        flags = ("--segments", tmp_path / "segments.parquet", "--references", tmp_path / name)
        run_program("make_toy_references.py", *flags)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    # No time in the header.
    assert (tmp_path / "a.jsonl.gz").read_bytes()[4:8] == bytes(4)
    rows = list(map(json.loads, gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).decode().splitlines()))
    assert rows == [{"source": text, "reference": translate(text)} for text in texts]
    assert rows[0]["reference"] == "미나는 사과 삼백사십이 개를 샀다."

    write_build(tmp_path, [Source(text, "가", ["나", "다"], released=1) for text in texts])
    assert pair(tmp_path, tmp_path / "a.jsonl.gz")["released"] == {"in": 2, "kept": 2, "dropped": {}}

    write_table(tmp_path / "segments.parquet", SEGMENTS, [segment("The ship left.")])
    result = call_program("make_toy_references.py", *flags[:2], "--references", tmp_path / "c.jsonl.gz")
    assert result.returncode == 1
    assert f"segments.parquet: item {item_id('The ship left.')}: not a sentence of the toy language" in result.stderr
    assert not (tmp_path / "c.jsonl.gz").exists()


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
