"""Saved sweeps: folders that hold a plan, its pictures, and their figures, read back from these files."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from controlnext.errors import ControlNeXtError
from controlnext.recipes.sweep_plan import SweepCell, SweepError, SweepPlan, shown
from controlnext.results.sweep_table import SweepTable, SweptCell

FOLDER = "sweeps"
"""Folder of the results that sweeps have folders in."""

PLAN, TABLE, GRID, PLOT = "sweep.json", "sweep.csv", "grid.png", "plot.png"
"""Files of a sweep next to its pictures."""


@dataclass(frozen=True)
class SavedSweep:
    """A sweep as its folder has it.

    Attributes:
        folder: of the plan and its pictures.
        plan: what was swept.
        table: its cells and their figures; cells without a picture are left to make.
    """

    folder: Path
    plan: SweepPlan
    table: SweepTable

    @classmethod
    def read(cls, folder: Path) -> SavedSweep:
        """Read a folder.

        Raises:
            SweepError: it holds no plan, or one that cannot be read.
            RecipeError: the recipe of the plan is wrong.
        """
        try:
            plan = SweepPlan.from_json((folder / PLAN).read_bytes())
        except OSError:
            raise SweepError(f"The sweep {folder.name} is not there any more; it may have been deleted.") from None
        rows = {_key(row, plan): row for row in _rows(folder / TABLE)}
        cells = tuple(_swept(cell, rows.get(_key(cell.values, plan), {}), folder) for cell in plan.cells())
        return cls(folder, plan, SweepTable(plan.axes, cells))

    @property
    def pictures(self) -> list[Path]:
        """The pictures of the cells that are made, in the order of the cells."""
        return [cell.file for cell in self.table.cells if cell.file is not None]

    @property
    def pictured(self) -> tuple[Path, Path]:
        """Where its grid and its plot are, if it was not killed before they were drawn."""
        return self.folder / GRID, self.folder / PLOT

    @property
    def files(self) -> list[Path]:
        """Everything that belongs to it and is there: plan, figures, grid, plot and pictures."""
        named = (self.folder / name for name in (PLAN, TABLE, GRID, PLOT))
        return [*(path for path in named if path.is_file()), *self.pictures]


def is_sweep(folder: Path) -> bool:
    """Tell whether a folder holds a sweep."""
    return (folder / PLAN).is_file() and not folder.is_symlink()


def written(folder: Path) -> float:
    """Return when a sweep was last written to, in seconds since 1970; 0 where it has gone."""
    for name in (TABLE, PLAN):
        with suppress(OSError):
            return (folder / name).stat().st_mtime
    return 0.0


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError, csv.Error):  # a sweep that was killed has no figures yet
        return []


def _key(values: Mapping[str, object], plan: SweepPlan) -> tuple[str, ...]:
    """A cell by its values as text, in the order of the axes."""
    texts = []
    for axis in plan.axes:
        value = values.get(axis.name, "")
        with suppress(ControlNeXtError, ValueError):
            value = float(str(value)) if axis.numeric else value
        texts.append(shown(value) if isinstance(value, str | int | float) else "")
    return tuple(texts)


def _swept(cell: SweepCell, row: Mapping[str, str], folder: Path) -> SweptCell:
    file = folder / name if (name := row.get("file")) and Path(name).name == name else None
    state: Literal["done", "failed", "left"] = "left"
    if row.get("state") == "failed":
        state = "failed"
    elif file is not None and file.is_file():
        state = "done"
    numbers = row if state == "done" else {}
    seed = _number(row.get("seed"))
    return SweptCell(
        cell.column, cell.row, cell.values, state, file if state == "done" else None,
        adherence=_number(numbers.get("adherence")), distance=_number(numbers.get("distance")),
        seconds=_number(numbers.get("seconds")), seed=None if seed is None else int(seed), reason=row.get("reason") or "",
    )  # fmt: skip


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
