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


def test_what_is_not_there_is_an_error_that_names_the_folder(results: Path) -> None:
    with pytest.raises(InputError, match="texts: no table holds"):
        find_items(results, "texts", item_id("other"))
    assert find_items(results, "texts", "nobody wrote this") == []
    done = call_program("explain.py", "texts", "nobody wrote this", "--results", results)
    assert "texts: no table holds such a text" in done.stderr
    with pytest.raises(InputError, match="no tables there"):
        find_items(results, "nothing", "a text")


def test_a_text_of_too_many_rows_names_none_of_them(results: Path) -> None:
    rows = [{"item_id": item_id(str(number)), "text": "the same"} for number in range(9)]
    write(results / "texts" / "sources" / "more.parquet", *rows)
    with pytest.raises(InputError, match="more than 5 items hold that text"):
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


def test_a_row_that_its_labels_dropped_is_found_in_the_source(tmp_path: Path) -> None:
    folder, source = tmp_path / "results" / "hard", tmp_path / "problems.jsonl"
    rates = ["0.1", "0.9", "n/a", "nothing"]
    lines = [{"problem": f"What is {n} + 1?", "pass_rate_72b_tir": rate} for n, rate in enumerate(rates)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    labels = {"pass_rate": {"at_most": 0.5, "not_available": "drop"}}
    entry = {"recipe": "maths", "sources": {"files": [str(source)], "columns": {}, "labels": labels}}
    made = folder / "sources"
    done = call_program(
        *("filter_by_labels.py", "--glob", source, "--dataset", "hard", "--labels", json.dumps(labels)),
        *("--rows", made / "rows.parquet", "--bad-rows", made / "bad_rows.parquet", "--max-bad-share", "1"),
        *("--dropped-rows", made / "dropped_rows.parquet", "--account", made / "read.account.json"),
    )
    assert done.returncode == 0, done.stderr
    config = folder / "release" / "resolved_config.yaml"
    config.parent.mkdir()
    config.write_text(json.dumps({"datasets": {"hard": entry}}))

    def told(text: str) -> str:
        done = call_program("explain.py", "hard", text, "--results", tmp_path / "results")
        return (done.stdout or done.stderr).splitlines()[0]

    assert "is in tables of hard" in told("What is 0 + 1?")
    gone = "problems.jsonl row {} left hard in sources/{}.parquet: {}"
    assert told("What is 1 + 1?").startswith(gone.format(2, "dropped_rows", "pass_rate_too_high"))
    assert told("is 2 +").startswith(gone.format(3, "dropped_rows", "pass_rate_not_available"))
    assert told("What is 3 + 1?").startswith(gone.format(4, "bad_rows", "bad_pass_rate"))
    assert "no table holds such a text" in told("What is 5 + 1?")
    source.unlink()
    assert "no file matches" in told("What is 1 + 1?")


def test_an_instruction_is_followed_from_the_sample_that_it_was_and_a_sample_to_what_it_became(tmp_path: Path) -> None:
    sample, gone, instruction = (item_id(name) for name in ("sample", "gone", "instruction"))
    folder = tmp_path / "made-up"
    said = [
        {"item_id": sample, "sample": 0, "text": "Name a river.\n"},
        {"item_id": gone, "sample": 1, "text": "Name a"},
    ]
    write(folder / "instruct" / "completions" / f"{shard_name(0, 1)}.parquet", *said)
    row = {"item_id": instruction, "instruction": "Name a river.", "sample_id": sample}
    write(folder / "sources" / "instructions.parquet", row)
    reason = {"item_id": gone, "stage": "sources/instructions", "reason": "cut_off", "detail": "Name a"}
    write(folder / "sources" / "dropped_samples.parquet", reason)
    write(folder / "filtered" / "train.parquet", {"item_id": instruction, "instruction": "Name a river."})
    for named in (instruction, sample):
        way = trace(tmp_path, "made-up", named)
        assert (way.item, way.fate) == (instruction, "is in the split train of made-up")
        tables = {station.table.split("/")[0] for station in way.stations}
        assert tables == {"instruct", "sources", "filtered"}
    # The text stands in the sample and in what became of it: one item.
    assert find_items(tmp_path, "made-up", "a river") == [instruction]
    assert trace(tmp_path, "made-up", gone).fate == (
        "left made-up in sources/dropped_samples.parquet: cut_off (Name a)"
    )
