"""Released rows and their references: which are compared, with which answers; and the programs that pair them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.errors import InputError
from corpusmith.identity import digest, item_id, shard_names, shard_of
from corpusmith.metrics import metricx
from corpusmith.paired_answers import Answer, write_pairs
from corpusmith.references import SYSTEMS, Pairing, ReferenceForm, read_references, reference_files
from corpusmith.scoring import count_missing
from corpusmith.store import Store
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import BAD_ROWS, COMPLETIONS, FILTERED, REQUESTS, SEGMENTS
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


@settings(max_examples=20)
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
