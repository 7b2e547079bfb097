"""Pictures of a sweep: the grid of its cells, and the plot of adherence and distance over the first axis."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from controlnext.recipes.sweep_plan import SweepAxis, shown

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from controlnext.results.sweep_table import SweepTable, SweptCell

CELL = 192
"""Side of a cell of the grid in pixels, and the size of its text below."""
_GAP, _LINE, _SIDE = 8, 18, 96
_TILE, _TILE_GAP = 126, 4
_INK, _QUIET, _PAPER, _EMPTY = "#1d2330", "#5b6475", "white", "#eceef2"
_LINES = ("#3b4cc0", "#d1495b", "#2a9d6f", "#b8860b", "#7b4fb3", "#1f8a9e", "#c05a1f", "#5b6475", "#9c3587")


def draw_grid(table: SweepTable) -> Image.Image:
    """Draw all cells: the first axis along the columns, the second down the rows, adherence and distance under each."""
    first, second = table.axes[0], table.axes[1] if len(table.axes) > 1 else None
    columns, rows = len(first.values), len(second.values) if second else 1
    side, top = _SIDE if second else 0, 2 * _LINE + _GAP
    tall = CELL + _LINE + _GAP
    paper = Image.new("RGB", (side + columns * (CELL + _GAP) + _GAP, top + rows * tall + _GAP), _PAPER)
    draw = ImageDraw.Draw(paper)
    font, bold = ImageFont.load_default(13), ImageFont.load_default(14)
    draw.text((side + _GAP, 2), first.label, _QUIET, font)
    for column, value in enumerate(first.values):
        mark = "  knee" if table.knee is not None and value == table.knee else ""
        draw.text((side + _GAP + column * (CELL + _GAP), _LINE + 2), f"{shown(value)}{mark}", _INK, bold)
    for row, value in enumerate(second.values if second else ()):
        draw.text((_GAP, top + row * tall + CELL // 2 - _LINE), _cut(second.label if second else ""), _QUIET, font)
        draw.text((_GAP, top + row * tall + CELL // 2), _cut(shown(value)), _INK, bold)
    for cell in table.cells:
        place = side + _GAP + cell.column * (CELL + _GAP), top + cell.row * tall
        box = Image.new("RGB", (CELL, CELL), _EMPTY)
        if cell.file is not None:
            with Image.open(cell.file) as image:
                small = image.convert("RGB")
                small.thumbnail((CELL, CELL))
                if small.width < CELL > small.height:  # a small model's picture is shown as large as its cell
                    scale = CELL / max(small.size)
                    small = small.resize(
                        (round(small.width * scale), round(small.height * scale)), Image.Resampling.BICUBIC
                    )
                box.paste(small, ((CELL - small.width) // 2, (CELL - small.height) // 2))
        paper.paste(box, place)
        draw.text((place[0], place[1] + CELL + 2), cell_text(cell), _INK, font)
    return paper


def draw_tile(files: Sequence[Path]) -> Image.Image:
    """Draw up to four pictures of a sweep, from its first to its last, as the one small picture that stands for it."""
    most = min(4, len(files))
    chosen = [files[round(index * (len(files) - 1) / max(1, most - 1))] for index in range(most)]
    paper = Image.new("RGB", (2 * _TILE + _TILE_GAP,) * 2, _PAPER)
    for index in range(4):
        box = Image.new("RGB", (_TILE, _TILE), _EMPTY)
        if index < most:
            with Image.open(chosen[index], formats=["PNG"]) as image:
                box = ImageOps.fit(image.convert("RGB"), box.size)
        row, column = divmod(index, 2)
        paper.paste(box, (column * (_TILE + _TILE_GAP), row * (_TILE + _TILE_GAP)))
    return paper


def cell_text(cell: SweptCell) -> str:
    """Return the line under a cell."""
    if cell.state == "failed":
        return "cannot be made"
    if cell.state == "left":
        return "not made yet"
    parts = [] if cell.adherence is None else [f"follows {100 * cell.adherence:.0f} %"]
    return " · ".join([*parts, *([] if cell.distance is None else [f"distance {100 * cell.distance:.1f} %"])])


def draw_plot(table: SweepTable) -> Image.Image:
    """Plot adherence (solid) and the distance to the picture without control (dashed) over the first axis."""
    from matplotlib.figure import Figure

    axis, second = table.axes[0], table.axes[1] if len(table.axes) > 1 else None
    figure = Figure(figsize=(7.2, 3.4), dpi=110, layout="constrained")
    left = figure.add_subplot()
    right = left.twinx() if any(value is not None for value in table.curve("distance")) else None
    places = _places(axis)
    rows = range(len(second.values)) if second else (0,)
    for row in rows:
        colour = _LINES[row % len(_LINES)]
        measure = "adherence" if axis.name == "annotator" else f"adherence ({table.adherence_name})"
        name = f"{second.label} {shown(second.values[row])}" if second else measure
        style = {
            "color": colour,
            "marker": "o",
            "markersize": 4,
            "linewidth": 1.8,
            "linestyle": "-" if axis.numeric else "",
        }
        _line(left, places, table.curve("adherence", row), **style, label=name)
        if right is not None:
            style = {
                "color": colour if second else "#8a8f9c",
                "linestyle": "--",
                "marker": "s",
                "markersize": 3,
                "linewidth": 1.2,
            }
            _line(right, places, table.curve("distance", row), **style, label="" if second else "distance to gamma 0")
    if table.knee is not None:
        place = places[axis.values.index(table.knee)]
        left.axvline(place, color="#2a9d6f", linewidth=1.2, label=f"knee at {shown(table.knee)}")
    left.set(xlabel=axis.label, ylabel="adherence", ylim=(-0.03, 1.03))
    if not axis.numeric or axis.name == "seed":
        left.set_xticks(places, [_cut(shown(value), 14) for value in axis.values])
    if right is not None:
        right.set_ylabel("distance to gamma 0" + (", dashed" if second else ""))
        right.set_ylim(bottom=0)
    handles = [
        pair
        for part in (left, right)
        if part is not None
        for pair in zip(*part.get_legend_handles_labels(), strict=True)
    ]
    left.legend(*zip(*handles, strict=True), fontsize=8, loc="best") if handles else None
    left.grid(alpha=0.25)
    for part in (left, right):
        if part is not None:
            part.spines["top"].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def _line(part: Axes, places: Sequence[float], values: Sequence[float | None], **style: Any) -> None:
    pairs = sorted((place, value) for place, value in zip(places, values, strict=True) if value is not None)
    part.plot([place for place, _ in pairs], [value for _, value in pairs], **style)


def _places(axis: SweepAxis) -> list[float]:
    """Where the values stand: numbers at their own place, names and seeds side by side."""
    if axis.numeric and axis.name != "seed":
        return [float(value) for value in axis.values]
    return [float(index) for index in range(len(axis.values))]


def _cut(text: str, length: int = 13) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
