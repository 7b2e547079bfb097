"""Figures of a sweep: adherence and distance of each cell, the knee of the curve, and the table as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from PIL import Image

from controlnext.recipes.sweep_plan import SweepAxis, Value, shown

KNEE_SHARE = 0.9
"""Share of the whole rise of adherence that is reached at the knee."""

LEAST_RISE = 0.05
"""A curve that rises by less than this has no knee."""


UsedCache: TypeAlias = tuple[int, int, float, float]
"""Controls found, controls computed, seconds of computing, and seconds that the found ones once took."""

UNUSED: UsedCache = (0, 0, 0.0, 0.0)


@dataclass(frozen=True)
class SweptCell:
    """One cell as far as it is there.

    Attributes:
        column: place on the first axis.
        row: place on the second one.
        values: value by axis.
        state: whether it was made, cannot be made, or is left to make.
        file: its picture.
        seed: of the picture.
        adherence: in [0, 1]; None where it was not measured.
        distance: mean absolute difference to the picture without control, in [0, 1]; None where there is none.
        seconds: time it took.
        reason: why it cannot be made.
        recipe: what made it, as JSON values.
        cache: what it took from the control cache.
    """

    column: int
    row: int
    values: Mapping[str, Value]
    state: Literal["done", "failed", "left"]
    file: Path | None = None
    seed: int | None = None
    adherence: float | None = None
    distance: float | None = None
    seconds: float | None = None
    reason: str = ""
    recipe: Mapping[str, Any] | None = None
    cache: UsedCache = UNUSED

    @property
    def label(self) -> str:
        """The values alone, such as `0.5 · 3`."""
        return " · ".join(shown(value) for value in self.values.values())


@dataclass(frozen=True)
class SweepTable:
    """All cells of a sweep, row after row.

    Attributes:
        axes: one or two.
        cells: as many as the axes have values together.
        adherence_name: what the score is called.
        references: what the pictures without control took from the cache, as `SweptCell.cache`.
    """

    axes: tuple[SweepAxis, ...]
    cells: tuple[SweptCell, ...]
    adherence_name: str = "adherence"
    references: tuple[UsedCache, ...] = ()

    @property
    def done(self) -> int:
        """Cells that were made."""
        return sum(cell.state == "done" for cell in self.cells)

    def row(self, index: int) -> list[SweptCell]:
        """Return the cells of one row."""
        return [cell for cell in self.cells if cell.row == index]

    def curve(self, name: Literal["adherence", "distance"], row: int | None = None) -> list[float | None]:
        """Return one figure along the first axis: of a row, or the mean over the rows where None."""
        curve: list[float | None] = []
        for column in range(len(self.axes[0].values)):
            cells = [cell for cell in self.cells if cell.column == column and row in (None, cell.row)]
            values = [value for cell in cells if (value := getattr(cell, name)) is not None]
            curve.append(float(np.mean(values)) if values else None)
        return curve

    @cached_property
    def knee(self) -> Value | None:
        """The value of the first axis from which on the mean adherence gains little; None where there is no such."""
        axis = self.axes[0]
        return knee_of(axis.values, self.curve("adherence")) if axis.numeric and axis.name != "seed" else None

    @cached_property
    def best(self) -> SweptCell | None:
        """The cell of the highest adherence; None where none was measured."""
        measured = [cell for cell in self.cells if cell.adherence is not None]
        return max(measured, key=lambda cell: cell.adherence or 0.0, default=None)

    @cached_property
    def saved(self) -> tuple[int, int, float]:
        """Controls that were there already, controls that were computed, and the seconds that the first took when they were."""
        uses = [*(cell.cache for cell in self.cells), *self.references]
        return sum(use[0] for use in uses), sum(use[1] for use in uses), sum(use[3] for use in uses)

    def saved_text(self) -> str:
        """Say what the control cache saved; empty where nothing was counted."""
        found, computed, seconds = self.saved
        if not found:
            return ""
        return f"{found} of {found + computed} controls came from the cache, which saved {seconds:.1f} s."

    def rows(self) -> list[dict[str, Any]]:
        """Return the cells as plain data."""
        return [
            {
                **cell.values,
                "state": cell.state,
                "adherence": _rounded(cell.adherence),
                "distance": _rounded(cell.distance),
                "seconds": _rounded(cell.seconds),
                "seed": cell.seed,
                "file": cell.file.name if cell.file else None,
                "reason": cell.reason,
            }
            for cell in self.cells
        ]

    def csv(self) -> str:
        """Return the cells as CSV with a header."""
        out, rows = io.StringIO(), self.rows()
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()


def knee_of(values: Sequence[Value], scores: Sequence[float | None]) -> Value | None:
    """Return the smallest value at which adherence has made 90 % of its rise.

    Args:
        values: numbers in any order.
        scores: adherence of each in [0, 1], or None.

    Returns:
        One of the values; None where fewer than three are measured, or the rise from the smallest value to the best one is
        less than `LEAST_RISE`.
    """
    pairs = sorted(
        (float(value), score, value) for value, score in zip(values, scores, strict=True) if score is not None
    )
    if len(pairs) < 3:
        return None
    lowest, highest = pairs[0][1], max(score for _, score, _ in pairs)
    if highest - lowest < LEAST_RISE:
        return None
    level = lowest + KNEE_SHARE * (highest - lowest)
    return next(value for _, score, value in pairs if score >= level)


def cache_use(record: Mapping[str, Any]) -> UsedCache:
    """Return what the record of a picture says of the control cache."""
    found, computed, seconds, saved = (*(record.get("cache") or ()), 0, 0, 0.0, 0.0)[:4]
    return int(found), int(computed), float(seconds), float(saved)


def picture_distance(one: Path, other: Path) -> float:
    """Return the mean absolute difference of two pictures over all pixels and colours, in [0, 1]; the second is resized."""
    with Image.open(one) as first, Image.open(other) as second:
        resized = second.convert("RGB") if first.size == second.size else second.convert("RGB").resize(first.size)
        pair = [np.asarray(image.convert("RGB"), dtype=np.float32) for image in (first, resized)]
    return float(np.abs(pair[0] - pair[1]).mean() / 255)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
