"""Instructions from seed tasks, as Self-Instruct has them: one for each instance of a task.

    {"id": "seed_task_0", "instruction": "Translate into French.", "instances": [{"input": "Hello", "output": "Salut"}]}
    -> instruction "Translate into French.\\n\\nHello", reference "Salut"

An input that is empty, or says <noinput>, adds nothing (the form of Self-Instruct, arXiv 2212.10560).
A task without instances is an instruction by itself. A row may also hold "input" and "output" itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.documents import EXCERPT_CHARACTERS, Source
from corpusmith.errors import InputError
from corpusmith.instructions.collecting import Distinct, instruction_id, objection, sanitise
from corpusmith.row_cells import Bad
from corpusmith.row_files import rows_of
from corpusmith.table_files import open_table
from corpusmith.tables import BAD_ROWS, DROPPED_ROWS, INSTRUCTIONS

_NO_INPUT = ("", "<noinput>")


@dataclass(frozen=True)
class Instance:
    """One instruction of a task. reference: the output that came with it, None where there is none."""

    instruction: str
    reference: str | None


def instances_of(row: dict[str, Any]) -> list[Instance] | str:
    """The instructions of a task; or what is wrong with the row."""
    instruction = row.get("instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        return "no_instruction"
    given = row.get("instances", [{name: row[name] for name in ("input", "output") if name in row}])
    if not isinstance(given, list) or not all(isinstance(instance, dict) for instance in given):
        return "instances_are_no_list_of_objects"
    found = []
    for instance in given or [{}]:
        task, answer = instance.get("input") or "", instance.get("output")
        if not isinstance(task, str) or not isinstance(answer, str | None):
            return "input_or_output_is_no_text"
        parts = [instruction.strip(), *([] if task.strip() in _NO_INPUT else [task.strip()])]
        found.append(Instance("\n\n".join(parts), answer.strip() or None if answer is not None else None))
    return found


def read_tasks(
    sources: Sequence[Source],
    instructions: str | Path,
    bad_rows: str | Path,
    dropped_rows: str | Path,
    account: Account,
    max_bad_share: float,
    limit: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Writes each distinct instruction of all tasks once, in their order.

    account: of instances, and of unreadable rows, which count as one. limit: stop at so many instructions. Raises
    InputError where more than a share of the rows is unreadable.
    """
    distinct, bad, rows, kept = Distinct(), 0, 0, 0
    with (
        open_table(instructions, INSTRUCTIONS) as stays,
        open_table(bad_rows, BAD_ROWS) as aside,
        open_table(dropped_rows, DROPPED_ROWS) as goes,
    ):
        for source, number, row in _rows(sources):
            if limit is not None and kept >= limit:
                break
            rows += 1
            advance()
            found = row.reason if isinstance(row, Bad) else instances_of(row)
            if isinstance(found, str):
                excerpt = row.excerpt if isinstance(row, Bad) else str(row)[:EXCERPT_CHARACTERS]
                bad += 1
                _count(account, found)
                aside.write({"file": source.name, "line": number, "reason": found, "excerpt": excerpt})
                continue
            for instance in found:
                text = sanitise(instance.instruction)
                against = objection(text, "stop", None)
                item = instruction_id(text)
                if against is None and not distinct.is_new(item):
                    against = "same_instruction", None
                if against is not None:
                    _count(account, against[0])
                    goes.write({"file": source.name, "row": number, "reason": against[0]})
                    continue
                kept += 1
                account.taken.add(item)
                account.kept.add(item)
                stays.write(
                    {"item_id": item, "instruction": text, "origin": source.name, "reference": instance.reference}
                )
        if rows and bad / rows > max_bad_share:
            raise InputError(
                f"{bad} of {rows} rows are no tasks, more than max_bad_share {max_bad_share:g}:"
                f" {', '.join(sorted(account.reasons))}; a task is an object with instruction, and instances with input"
                " and output where it has any"
            )
        if not kept:
            raise InputError(f"{', '.join(source.name for source in sources)}: no instruction is in there")


def _count(account: Account, reason: str) -> None:
    account.taken.count += 1
    account.dropped.count += 1
    account.reasons[reason] += 1


def _rows(sources: Sequence[Source]) -> Iterator[tuple[Source, int, dict[str, Any] | Bad]]:
    for source in sources:
        for number, row in rows_of(source):
            yield source, number, row
