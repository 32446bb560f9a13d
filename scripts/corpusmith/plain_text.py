"""Text for a terminal: aligned tables, sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def size_text(count: float) -> str:
    """A number of bytes as people read it: 12.3 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def table_lines(heads: Sequence[str], rows: Iterable[Sequence[str | int]]) -> list[str]:
    """Lines of a table with aligned columns; those whose head begins with > stand at the right."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    titles = [head.removeprefix(">") for head in heads]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if head.startswith(">") else cell.ljust(width)
            for head, cell, width in zip(heads, line, widths, strict=True)
        ).rstrip()
        for line in [titles, *cells]
    ]
