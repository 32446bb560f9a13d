"""How many rows of a table of completions or scores have failed."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from corpusmith.table_files import read_batches, row_count
from corpusmith.tables import COMPLETIONS, SCORES, Table

_TABLES = {"completions": COMPLETIONS, "scores": SCORES}


def count_failed(path: str | Path) -> int:
    """Rows of a table in a folder called completions or scores that have an error: asked again, they may have none.

    A score is missing without an error where there was no answer to score: then it is the answer that is asked again.
    """
    table = _TABLES[Path(path).parent.name]
    # Tables of scores that are older than the column have no failures.
    if row_count(path) == 0 or "error" not in pq.read_schema(path).names:
        return 0
    errors = Table(table.name, *(column for column in table.columns if column.name == "error"))
    return sum(batch.num_rows - batch.column("error").null_count for batch in read_batches(path, errors))
