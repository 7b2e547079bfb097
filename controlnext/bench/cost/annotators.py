"""How long each annotator backend takes at 512 px on one core: the first time, on a new picture, and from the cache."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

RESOLUTION = 512
REPEATS = 5

BARS: dict[tuple[str, str], float] = {
    ("canny", "opencv"): 30.0,
    ("pose", "mediapipe"): 120.0,
    ("segmentation", "person"): 40.0,
}
"""Milliseconds that a new picture may take at most, models loaded."""

CACHED_BAR = 5.0
"""Milliseconds that the same request may take the second time."""


@dataclass(frozen=True)
class Row:
    """One backend's times in milliseconds; None where it could not be asked, with the reason.

    Attributes:
        annotator: key of `ANNOTATORS`.
        backend: name of the backend.
        first: the very first picture, with imports and the loading of models.
        new: a picture not seen before, models loaded; median.
        cached: the same picture again; median.
        bar: what `new` may be at most, or None.
        reason: why there are no times.
    """

    annotator: str
    backend: str
    first: float | None = None
    new: float | None = None
    cached: float | None = None
    bar: float | None = None
    reason: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the bars were met; None where there is nothing to compare."""
        if self.new is None or self.cached is None:
            return None
        return self.cached <= CACHED_BAR and (self.bar is None or self.new <= self.bar)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; returns 0 when every backend that could be asked met its bars."""
    parser = argparse.ArgumentParser(prog="python -m controlnext bench annotators", description=__doc__)
    parser.add_argument("--image", type=Path, help="photo of a person (default: one that comes with scikit-image)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a Markdown table")
    options = parser.parse_args(argv)
    _use_one_core()
    try:
        rows = measure(photo(options.image))
    except _failures() as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write((as_json(rows) if options.json else as_table(rows)) + "\n")
    return 1 if any(row.passed is False for row in rows) else 0


def photo(path: Path | None = None) -> Image.Image:
    """Return the photo to measure with: the one given, or a person from scikit-image's own pictures."""
    from annotators import AnnotatorError, load_picture

    if path is None:
        package = importlib.util.find_spec("skimage")
        if package is None or package.origin is None:
            raise AnnotatorError(
                "Give a photo of a person with --image FILE (or pip install scikit-image, which has one)."
            )
        path = Path(package.origin).parent / "data" / "astronaut.png"
    return load_picture(path)


def measure(picture: Image.Image) -> list[Row]:
    """Measure every backend of every annotator on a picture of a person."""
    from annotators import ANNOTATORS, AnnotatorError, describe

    rows = []
    for name in ANNOTATORS:
        for backend in describe(name)["backends"]:
            row = Row(name, backend["name"], bar=BARS.get((name, backend["name"])))
            if not backend["usable"]:
                rows.append(Row(**{**asdict(row), "reason": backend["reason"]}))
                continue
            try:
                rows.append(_measured(row, picture))
            except AnnotatorError as error:
                rows.append(Row(**{**asdict(row), "reason": str(error)}))
    return rows


def _measured(row: Row, picture: Image.Image) -> Row:
    from annotators import annotate, unload
    from annotators.table import CACHE

    def run() -> None:
        annotate(row.annotator, picture, backend=row.backend, resolution=RESOLUTION)

    def fresh() -> float:
        CACHE.clear()
        return _milliseconds(run)

    CACHE.clear()
    unload()
    first = _milliseconds(run)
    new = statistics.median(fresh() for _ in range(REPEATS))
    cached = statistics.median(_milliseconds(run) for _ in range(REPEATS))
    return Row(row.annotator, row.backend, first, new, cached, row.bar)


def _milliseconds(run: Callable[[], None]) -> float:
    begun = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - begun)


def _use_one_core() -> None:
    """Hold this process and its libraries to one core, where the system lets it."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    with suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _failures() -> tuple[type[Exception], ...]:
    from annotators import AnnotatorError

    return (AnnotatorError,)


def as_json(rows: Sequence[Row]) -> str:
    """Return the rows as JSON."""
    return json.dumps([{**asdict(row), "passed": row.passed} for row in rows], indent=2)


def as_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        f"Milliseconds at {RESOLUTION} px on one core; cached may take {CACHED_BAR:g}.",
        "",
        "| annotator | backend | first use | new picture | bar | cached | met |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        if row.new is None:
            lines.append(f"| {row.annotator} | {row.backend} | – | – | {_number(row.bar)} | – | {row.reason} |")
            continue
        met = "yes" if row.passed else "**no**"
        numbers = " | ".join(_number(value) for value in (row.first, row.new, row.bar, row.cached))
        lines.append(f"| {row.annotator} | {row.backend} | {numbers} | {met} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"


if __name__ == "__main__":
    raise SystemExit(main())
