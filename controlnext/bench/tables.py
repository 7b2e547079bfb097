"""Markdown tables of figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NOTHING = "–"
"""A cell without a value."""
_NUMBER = re.compile(rf"[-+(]?\d.*|{NOTHING}|")


def number(value: float | None, form: str = ".3f") -> str:
    """Format a number; `NOTHING` for None."""
    return NOTHING if value is None else format(value, form)


def markdown(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", notes: Sequence[str] = ()
) -> str:
    """Format a Markdown table; columns of numbers are aligned right.

    Args:
        columns: headings.
        rows: cells of each row, as many as columns; None becomes `NOTHING`.
        title: line above the table.
        notes: paragraphs below it.

    Returns:
        Text that ends with a line break.
    """
    cells = [[NOTHING if cell is None else str(cell) for cell in row] for row in rows]
    right = [bool(cells) and all(_NUMBER.fullmatch(row[place]) for row in cells) for place in range(len(columns))]
    rule = "|".join("---:" if numbers else "---" for numbers in right)
    lines = [title, ""] if title else []
    lines += [f"| {' | '.join(columns)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in cells)]
    for note in notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"
