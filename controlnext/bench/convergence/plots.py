"""Line plots as PNG, drawn with Pillow: mean lines with bands of the smallest and largest value, in panels, two a row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = (
    (200, 60, 40),
    (30, 100, 200),
    (230, 150, 20),
    (120, 80, 170),
    (40, 140, 80),
    (110, 110, 110),
    (0, 160, 170),
)
_SCALE = 2  # drawn so many times as large and made smaller, for smooth lines
_WIDTH, _HEIGHT = 460, 340  # pixels of a panel
_COLUMNS = 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 22, 34, 46
_INK, _GRID, _PAPER = (50, 50, 50), (225, 225, 225), (255, 255, 255)
_BAND = 45  # of 255, how much a band covers
_TEXT, _LINE = 12, 19  # pixels: size of letters, height of a line of the legend


@dataclass(frozen=True)
class Line:
    """A curve; NaN leaves a gap. `low` and `high` bound its band."""

    name: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One plot."""

    title: str
    x_label: str
    lines: Sequence[Line]


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Write panels, two a row, with one legend below; a name has the same colour in all.

    Args:
        panels: at least one, each with at least one line.
        path: PNG to write.
    """
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    columns = min(_COLUMNS, len(panels))
    below = _HEIGHT * -(-len(panels) // columns)
    size = (_WIDTH * columns, below + _LINE * len(names) + _TEXT)
    image = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), _PAPER)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        _panel(image, panel, colours, (column * _WIDTH, row * _HEIGHT))
    pen = ImageDraw.Draw(image)
    for number, name in enumerate(names):
        y = (below + _LINE * number + _LINE // 2) * _SCALE
        pen.line([(_LEFT * _SCALE, y), ((_LEFT + 26) * _SCALE, y)], colours[name], 2 * _SCALE + 1)
        pen.text(((_LEFT + 34) * _SCALE, y), name, _INK, _font(), anchor="lm")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize(size, Image.Resampling.LANCZOS).save(path, optimize=True)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT * _SCALE)


def _panel(
    image: Image.Image, panel: Panel, colours: dict[str, tuple[int, int, int]], corner: tuple[int, int]
) -> None:
    xs = np.concatenate([np.asarray(line.x, float) for line in panel.lines])
    ys = np.concatenate([np.asarray([*line.low, *line.high], float) for line in panel.lines])
    ys = ys[np.isfinite(ys)] if np.isfinite(ys).any() else np.array([0.0, 1.0])
    x_ticks, y_ticks = ticks(float(xs.min()), float(xs.max())), ticks(float(ys.min()), float(ys.max()))
    left, right = (corner[0] + _LEFT) * _SCALE, (corner[0] + _WIDTH - _RIGHT) * _SCALE
    top, bottom = (corner[1] + _TOP) * _SCALE, (corner[1] + _HEIGHT - _BOTTOM) * _SCALE

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return left + across * (right - left), bottom - up * (bottom - top)

    pen = ImageDraw.Draw(image)
    for value in x_ticks:
        x, _ = place(value, y_ticks[0])
        pen.line([(x, top), (x, bottom)], _GRID, _SCALE)
        pen.text((x, bottom + 6 * _SCALE), f"{value:g}", _INK, _font(), anchor="ma")
    for value in y_ticks:
        _, y = place(x_ticks[0], value)
        pen.line([(left, y), (right, y)], _GRID, _SCALE)
        pen.text((left - 6 * _SCALE, y), f"{value:.3g}", _INK, _font(), anchor="rm")
    pen.text(((left + right) / 2, bottom + 26 * _SCALE), panel.x_label, _INK, _font(), anchor="ma")
    pen.text((left, top - 8 * _SCALE), panel.title, _INK, _font(), anchor="ls")
    for line in panel.lines:
        mask = Image.new("L", image.size, 0)
        for x, low, high in _pieces(line.x, line.low, line.high):
            edge = [place(a, b) for a, b in zip(x, low, strict=True)]
            edge += [place(a, b) for a, b in zip(x[::-1], high[::-1], strict=True)]
            ImageDraw.Draw(mask).polygon(edge, fill=_BAND)
        image.paste(colours[line.name], mask=mask)
    for line in panel.lines:
        for x, mean in _pieces(line.x, line.mean):
            dots = [place(a, b) for a, b in zip(x, mean, strict=True)]
            pen.line(dots, colours[line.name], 2 * _SCALE, joint="curve")
            for a, b in dots:
                pen.ellipse([a - 2 * _SCALE, b - 2 * _SCALE, a + 2 * _SCALE, b + 2 * _SCALE], colours[line.name])


def _pieces(x: Sequence[float], *curves: Sequence[float]) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the stretches of at least two points on which all curves are numbers."""
    rows = np.array([x, *curves], float)
    breaks = [-1, *np.flatnonzero(~np.isfinite(rows).all(0)), rows.shape[1]]
    for before, after in pairwise(breaks):
        if after - before > 2:
            yield tuple(rows[:, before + 1 : after])


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers, evenly apart, from at most `low` to at least `high`; at least two."""
    span = (high - low) or abs(high) or 1.0
    rough = span / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 12) for number in range(first, max(last, first + 1) + 1)]
