"""What the filter steps of every recipe share: rows that stay go to one table, the others to another, with reasons."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpusmith.accounting import Account
from corpusmith.errors import InputError
from corpusmith.table_files import open_table
from corpusmith.tables import RowTables, Table


def text_column(table: Table, name: str, flag: str) -> str:
    """The name of a column of texts. Raises InputError, naming the flag, where the table has no such column."""
    texts = [column.name for column in table.columns if pa.types.is_string(column.type) and column.name != "item_id"]
    if name not in texts:
        raise InputError(f"{flag}: {table.name} have no texts in {name!r}; those with texts: {', '.join(texts)}")
    return name


class RowSplit:
    """Writes both tables of a recipe's filter step, and counts. They appear when the block ends well."""

    def __init__(self, kept: str | Path, rejected: str | Path, tables: RowTables, account: Account) -> None:
        self._paths, self._tables, self._account = (kept, rejected), tables, account
        self._columns = [column.name for column in self._tables.rejected.columns]
        self._open = contextlib.ExitStack()

    def __enter__(self) -> RowSplit:
        with contextlib.ExitStack() as stack:
            self._kept = stack.enter_context(open_table(self._paths[0], self._tables.kept))
            self._rejected = stack.enter_context(open_table(self._paths[1], self._tables.rejected))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._open.__exit__(*error)

    def keep(self, row: Mapping[str, Any]) -> None:
        """The row stays as it is."""
        self._account.keep(row["item_id"])
        self._kept.write(row)

    def reject(self, row: Mapping[str, Any], reason: str, detail: str | None, reasons: Sequence[str] = ()) -> None:
        """The row goes. reason: the first of the reasons, where there are more; detail: what was seen, for people."""
        self._account.drop(row["item_id"], reason)
        known = {name: row[name] for name in self._columns if name in row}
        self._rejected.write(known | {"reason": reason, "reasons": list(reasons) or [reason], "detail": detail})

    def decide(self, row: Mapping[str, Any], objection: tuple[str, str | None] | None) -> None:
        """The row stays, or goes for an objection's reason and detail."""
        if objection is None:
            self.keep(row)
        else:
            self.reject(row, *objection)

    def summary(self, stage: str) -> str:
        """One line for people."""
        account = self._account
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(account.reasons.items())) or "none"
        return f"{stage}: {account.kept.count:,} of {account.taken.count:,} rows kept; rejected: {reasons}"
