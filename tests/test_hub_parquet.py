"""Released Parquet: as large as the Hub wants it, read by everybody, and mostly the same where rows are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from content_chunks import chunks, share_known
from corpusmith import hub_parquet
from corpusmith.hub_parquet import open_hub_table, write_shards
from corpusmith.identity import item_id
from corpusmith.released import RELEASED, RELEASED_SOLUTIONS, TOP_K
from corpusmith.table_files import open_table, read_rows, write_table
from corpusmith.tables import ITEM_ID, SAMPLES, Column, Table
from small_maths import sample, solution

TEXTS = Table("texts", ITEM_ID, Column("text", pa.string(), "a text"), row_group=10)


def text_row(number: int, length: int = 1000) -> dict[str, Any]:
    return {"item_id": item_id(str(number)), "text": f"{number:0{length}d}"}


def write(path: Path, table: Table, rows: Sequence[dict[str, Any]]) -> Path:
    with open_hub_table(path, table) as writer:
        writer.write_all(rows)
    return path


# --- sizes ---


def test_files_and_row_groups_are_those_that_datasets_aims_at() -> None:
    assert datasets.config.MAX_SHARD_SIZE == "500MB"
    assert datasets.config.MAX_ROW_GROUP_SIZE == "100MB"
    assert (hub_parquet.BYTES_PER_FILE, hub_parquet.BYTES_PER_ROW_GROUP) == (500_000_000, 100_000_000)
    assert datasets.config.DEFAULT_CDC_OPTIONS == hub_parquet.CHUNKING


def group_sizes(path: Path) -> list[int]:
    file = pq.ParquetFile(path)
    return [file.read_row_group(number).nbytes for number in range(file.num_row_groups)]


def test_row_groups_are_cut_by_bytes_however_the_rows_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_parquet, "BYTES_PER_ROW_GROUP", 45_000)
    rows = [text_row(number) for number in range(97)]
    path = write(tmp_path / "rows.parquet", TEXTS, rows)
    # Ten rows are 10 * (32 + 1000) bytes and 2 * 10 offsets of 4: four times that is 41,600, five times too much.
    assert [pq.ParquetFile(path).metadata.row_group(number).num_rows for number in range(3)] == [40, 40, 17]
    assert max(group_sizes(path)) <= 45_000
    for size in (3, 10, 64):
        with open_hub_table(tmp_path / "batches.parquet", TEXTS) as writer:
            for start in range(0, 97, size):
                batch = pa.RecordBatch.from_pylist(rows[start : start + size], TEXTS.schema)
                writer.write_batch(batch)
        assert (tmp_path / "batches.parquet").read_bytes() == path.read_bytes()
    assert pq.read_table(path).to_pylist() == rows


def test_long_rows_have_row_groups_of_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_parquet, "BYTES_PER_ROW_GROUP", 3_500)
    # One is larger than a row group alone.
    rows = [text_row(number, 5000 if number == 7 else 1000) for number in range(20)]
    path = write(tmp_path / "rows.parquet", TEXTS, rows)
    sizes = group_sizes(path)
    assert sorted(sizes)[-2] <= 3_500 < max(sizes)
    assert pq.read_table(path).to_pylist() == rows


def test_a_split_is_cut_into_files_by_bytes_and_none_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ten rows are 10 * (32 + 1000) bytes and 2 * 10 offsets of 4: a file is full with the second ten of them.
    monkeypatch.setattr(hub_parquet, "BYTES_PER_FILE", 15_000)
    rows = [text_row(number) for number in range(40)]
    shards = write_shards(tmp_path, "train", TEXTS, iter(rows))
    assert [path.name for path in shards.files] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert [pq.read_metadata(path).num_rows for path in shards.files] == [20, 20]
    assert [row for path in shards.files for row in pq.read_table(path).to_pylist()] == rows
    assert (shards.rows, shards.bytes) == (40, 4 * 10_400)
    assert shards.file_bytes == sum(path.stat().st_size for path in shards.files)
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in shards.files]
    assert write_shards(tmp_path / "none", "train", TEXTS, []).files == ()


def test_pages_have_an_index_and_the_file_says_how_it_was_chunked(tmp_path: Path) -> None:
    ours = write(tmp_path / "ours.parquet", TEXTS, [text_row(number) for number in range(20)])
    datasets.Dataset.from_list([text_row(number) for number in range(20)]).to_parquet(tmp_path / "theirs.parquet")
    for name in ("ours", "theirs"):
        metadata = pq.read_metadata(tmp_path / f"{name}.parquet")
        assert metadata.row_group(0).column(1).has_offset_index
        assert metadata.row_group(0).column(1).has_column_index
    key = b"content_defined_chunking"
    found, wanted = (pq.read_metadata(tmp_path / f"{name}.parquet").metadata[key] for name in ("ours", "theirs"))
    assert found == wanted
    assert pq.read_table(ours).num_rows == 20


# --- readers ---


def released_row(number: int) -> dict[str, Any]:
    scores = {"score": number / 7, "mean_score": number / 3, "candidates": number}
    return {"item_id": item_id(str(number)), "source": f"{number} 배\n\"'", "target": "", **scores}


def top_k_row(number: int) -> dict[str, Any]:
    top_k = [{"sample": place, "text": f"배 {place}", "score": place / 3} for place in range(number % 4)]
    return {"item_id": item_id(str(number)), "source": str(number), "top_k": top_k}


MATHS = [solution(number, None if number % 3 else 0.25, answer=None if number % 2 else "1") for number in range(50)]
TABLES: dict[str, tuple[Table, list[dict[str, Any]]]] = {
    "data": (RELEASED, [released_row(number) for number in range(50)]),
    "top_k": (TOP_K, [top_k_row(number) for number in range(50)]),
    "maths": (RELEASED_SOLUTIONS, MATHS),
    "samples": (SAMPLES, [sample(row, number) for number, row in enumerate(MATHS)]),
}


@pytest.mark.parametrize("name", TABLES)
def test_pandas_polars_duckdb_and_datasets_read_the_same_rows(tmp_path: Path, name: str) -> None:
    table, rows = TABLES[name]
    path = write(tmp_path / "rows.parquet", table, rows)
    frame = pandas.read_parquet(path, dtype_backend="pyarrow")
    assert pa.Table.from_pandas(frame, table.schema, preserve_index=False).to_pylist() == rows
    assert polars.read_parquet(path).to_dicts() == rows
    read = duckdb.sql(f"select * from read_parquet('{path}')")
    assert [dict(zip(read.columns, row, strict=True)) for row in read.fetchall()] == rows
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == rows


def test_a_table_is_read_in_flat_memory(tmp_path: Path) -> None:
    # Random bytes do not shrink: 100 row groups of 200 kB.
    rng = random.Random(0)
    rows = ({"item_id": item_id(str(number)), "text": rng.randbytes(10_000).hex()} for number in range(1000))
    write_table(tmp_path / "rows.parquet", TEXTS, rows)
    before, most = pa.total_allocated_bytes(), 0
    for _ in read_rows(tmp_path / "rows.parquet", TEXTS, batch_size=10):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 3_000_000 < (tmp_path / "rows.parquet").stat().st_size


# --- a second release ---


def text(rng: random.Random, words: int) -> str:
    return " ".join(f"{rng.getrandbits(24):x}" for _ in range(words))


def short(number: int, version: int = 0) -> dict[str, Any]:
    rng = random.Random(f"{number} {version}")
    source, target = text(rng, rng.randint(8, 25)), text(rng, rng.randint(8, 25))
    scores = {"score": rng.random(), "mean_score": rng.random(), "candidates": 128}
    return {"item_id": item_id(source), "source": source, "target": target, **scores}


def long(number: int, version: int = 0) -> dict[str, Any]:
    rng = random.Random(f"{number} {version}")
    solved = text(rng, rng.randint(1500, 4500))
    return solution(number, 0.5, generated_solution=solved, item_id=item_id(solved))


def in_clusters(rows: list[dict[str, Any]], make: Any, clusters: int) -> list[dict[str, Any]]:
    """One row in a hundred is another one, in some places, and there are as many more as there are places."""
    changed, length = list(rows), len(rows) // 100 // clusters
    for cluster in range(clusters):
        start = (2 * cluster + 1) * len(rows) // (2 * clusters)
        changed[start : start + length] = [make(number, 1) for number in range(start, start + length + 1)]
    return changed


def spread(rows: list[dict[str, Any]], make: Any) -> list[dict[str, Any]]:
    """One row in a hundred is another one."""
    return [make(number, 1) if number % 100 == 50 else row for number, row in enumerate(rows)]


def sent(folder: Path, table: Table, old: Any, new: Any, by_content: bool) -> float:
    """Share of the new file that is sent."""
    contents = []
    for rows in (old, new):
        if by_content:
            path = write(folder / "rows.parquet", table, rows)
        else:
            path = folder / "rows.parquet"
            with open_table(path, table, most_bytes=hub_parquet.BYTES_PER_ROW_GROUP) as writer:
                writer.write_all(rows)
        contents.append(path.read_bytes())
    return 1 - share_known(*contents)


@pytest.mark.parametrize(
    ("table", "make", "count", "change", "most", "otherwise"),
    [
        # Sentences, 10 MB of them: what one place changes is some pages of some 400 kB, of three columns.
        (RELEASED, short, 60_000, lambda rows, make: in_clusters(rows, make, 1), 0.3, 0.5),
        # Long solutions, 21 MB.
        (RELEASED_SOLUTIONS, long, 2000, lambda rows, make: in_clusters(rows, make, 4), 0.3, 0.8),
        (RELEASED_SOLUTIONS, long, 2000, spread, 0.6, 0.9),
    ],
    ids=["sentences in one place", "solutions in four places", "solutions everywhere"],
)
def test_a_second_release_with_a_percent_of_other_rows_sends_little_of_the_rest(
    tmp_path: Path, table: Table, make: Any, count: int, change: Any, most: float, otherwise: float
) -> None:
    rows = [make(number) for number in range(count)]
    changed = change(rows, make)
    # Share of the second file that a store of chunks does not have: cut by content, and as Parquet is cut without.
    assert sent(tmp_path, table, rows, changed, by_content=True) < most
    assert sent(tmp_path, table, rows, changed, by_content=False) > otherwise


def test_chunks_are_the_content_in_pieces_that_an_insertion_does_not_move() -> None:
    content = random.Random(0).randbytes(3_000_000)
    found = list(chunks(content))
    assert b"".join(found) == content
    assert all(8 * 1024 <= len(chunk) <= 128 * 1024 for chunk in found[:-1])
    assert share_known(content, content) == 1
    assert share_known(content, b"more" + content) > 0.9
    assert share_known(content, random.Random(1).randbytes(100_000)) == 0
