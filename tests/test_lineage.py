"""The way of a row, from the files of a build alone: released, dropped, rejected, and made of another dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from corpusmith.errors import InputError
from corpusmith.files import write_json
from corpusmith.identity import item_id, shard_name, shard_of
from corpusmith.lineage import find_items, trace, way_lines
from translation_tables import call_program

KEPT, DROPPED, REJECTED = (item_id(name) for name in ("kept", "dropped", "rejected"))
PROBLEM, ROW = item_id("problem"), item_id("row")


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist([*rows]), path)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    texts = {KEPT: "Mina bought 3 books.", DROPPED: "Juno lost 4 eggs.", REJECTED: "Bora sold 20 pears."}
    place = {"file": "a.jsonl.gz"}
    segments = [
        {"item_id": item, "text": text, "line": line, **place} for line, (item, text) in enumerate(texts.items())
    ]
    write(folder / "sources" / "segments.parquet", *segments)
    for number in range(2):
        rows = [
            {"item_id": item, "sample": sample, "text": f"answer {sample} to {text}"}
            for item, text in texts.items()
            for sample in range(2)
            if shard_of(item, 2) == number
        ]
        write(folder / "final" / "completions" / f"{shard_name(number, 2)}.parquet", *rows)
    gone = {"item_id": DROPPED, "stage": "select", "reason": "gain_too_small", "detail": "1 and 2"}
    write(folder / "prefilter" / "dropped.parquet", gone)
    write(folder / "checked" / "rejected.parquet", {"item_id": REJECTED, "reason": "numbers", "detail": None})
    write(folder / "filtered" / "train.parquet", {"item_id": KEPT, "source": texts[KEPT], "target": "답"})
    return tmp_path


def test_a_released_row_is_followed_from_its_document_to_its_split(results: Path) -> None:
    way = trace(results, "texts", KEPT)
    assert way.fate == "is in the split train of texts"
    rows = {station.table: station.rows for station in way.stations}
    (segment,) = rows["sources/segments.parquet"]
    assert (segment["file"], segment["line"]) == ("a.jsonl.gz", 0)
    answers = rows[f"final/completions/{shard_name(shard_of(KEPT, 2), 2)}.parquet"]
    assert [row["text"] for row in answers] == [f"answer {sample} to Mina bought 3 books." for sample in range(2)]
    assert rows["filtered/train.parquet"][0]["target"] == "답"
    assert not any("dropped" in name or "rejected" in name for name in rows)


def test_a_row_that_is_not_released_says_where_it_left_and_why(results: Path) -> None:
    assert trace(results, "texts", DROPPED).fate.endswith("prefilter/dropped.parquet: gain_too_small (1 and 2)")
    assert trace(results, "texts", REJECTED).fate.endswith("checked/rejected.parquet: numbers")


def test_a_row_is_found_by_a_whole_text_by_a_part_of_one_and_by_its_id(results: Path) -> None:
    assert find_items(results, "texts", "Juno lost 4 eggs.") == [DROPPED]
    assert find_items(results, "texts", "sold 20") == [REJECTED]
    assert find_items(results, "texts", KEPT) == [KEPT]
    # A whole text goes before texts that it is part of: all answers hold their source.
    assert find_items(results, "texts", "Mina bought 3 books.") == [KEPT]


@pytest.mark.parametrize("what", ["nobody wrote this", item_id("other")])
def test_what_is_not_there_is_an_error_that_names_the_folder(results: Path, what: str) -> None:
    with pytest.raises(InputError, match="texts: no table holds"):
        find_items(results, "texts", what)
    with pytest.raises(InputError, match="no tables there"):
        find_items(results, "nothing", what)


def test_a_text_of_too_many_rows_names_none_of_them(results: Path) -> None:
    rows = [{"item_id": item_id(str(number)), "text": "the same"} for number in range(9)]
    write(results / "texts" / "sources" / "more.parquet", *rows)
    with pytest.raises(InputError, match="9 items hold that text"):
        find_items(results, "texts", "the same")


def test_the_problem_of_a_row_and_the_dataset_that_it_comes_from_are_part_of_the_way(results: Path) -> None:
    row = {"item_id": ROW, "problem_id": PROBLEM, "problem": "How many?"}
    write(results / "first" / "sources" / "rows.parquet", row | {"file": "b.jsonl", "row": 7})
    write(results / "first" / "filtered" / "train.parquet", row)
    second = results / "second"
    write(second / "sources" / "rows.parquet", row | {"file": "train.parquet", "row": 1})
    write(second / "solve" / "grades" / f"{shard_name(0, 1)}.parquet", {"item_id": PROBLEM, "pass_rate": 0.25})
    write(second / "filtered" / "train.parquet", row)
    write(second / "release" / "data" / "train.parquet", row)
    tables = ["sources/rows.parquet", f"solve/grades/{shard_name(0, 1)}.parquet", "filtered/train.parquet"]
    write_json(second / "release" / "manifest.json", {"files": [{"path": name} for name in tables]})
    config = {"datasets": {"second": {"sources": {"dataset": ["first"]}}}}
    (second / "release" / "resolved_config.yaml").write_text(json.dumps(config))
    way = trace(results, "second", ROW)
    assert [station.table for station in way.stations] == tables
    assert way.stations[1].rows == [{"item_id": PROBLEM, "pass_rate": 0.25}]
    (earlier,) = way.sources
    assert (earlier.dataset, earlier.stations[0].rows[0]["file"]) == ("first", "b.jsonl")
    lines = list(way_lines(way))
    assert lines.index("    file: b.jsonl") < lines.index("    file: train.parquet")
    assert "    pass_rate: 0.25" in lines
    # Where solutions are made anew, the problem is the item: its rows are its sources.
    assert [one.item for one in trace(results, "second", PROBLEM).sources] == [ROW]


def test_the_program_prints_lines_or_json(results: Path) -> None:
    done = call_program("explain.py", "texts", "Bora sold 20 pears.", "--results", results)
    assert done.stdout.splitlines()[0] == f"{REJECTED} left texts in checked/rejected.parquet: numbers"
    done = call_program("explain.py", "texts", KEPT, "--results", results, "--json")
    (way,) = json.loads(done.stdout)
    assert way["fate"] == "is in the split train of texts"
    tables = [table["table"] for table in way["tables"]]
    assert (tables[0], tables[-1]) == ("sources/segments.parquet", "filtered/train.parquet")
    done = call_program("explain.py", "texts", "nobody", "--results", results)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
