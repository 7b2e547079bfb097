"""`python -m controlnext bench annotators`: milliseconds of each annotator backend at 512 px on one core.

Measured are the first use, a new picture with models loaded, and the same picture again, from the cache.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.bench.command import BenchError, bench_parser, publish
from controlnext.bench.tables import markdown, number

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
class BackendTimes:
    """One backend's times in milliseconds; None where it could not be used, with the reason.

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 if every usable backend met its bars, else 1."""
    parser = bench_parser("annotators", __doc__)
    parser.add_argument("--image", type=Path, help="photo of a person (default: one that comes with scikit-image)")
    options = parser.parse_args(arguments)
    _use_one_core()
    rows = measure(photo(options.image))
    figures = [{**asdict(row), "passed": row.passed} for row in rows]
    return publish(options, figures, table(rows), passed=all(row.passed is not False for row in rows))


def photo(path: Path | None = None) -> Image.Image:
    """Return the given photo, or one of a person from scikit-image's own pictures.

    Raises:
        BenchError: scikit-image is not installed.
    """
    from annotators import load_picture

    if path is None:
        package = importlib.util.find_spec("skimage")
        if package is None or package.origin is None:
            raise BenchError(
                "Give a photo of a person with --image FILE (or pip install scikit-image, which has one)."
            )
        path = Path(package.origin).parent / "data" / "astronaut.png"
    return load_picture(path)


def measure(picture: Image.Image) -> list[BackendTimes]:
    """Measure every backend of every annotator on a picture of a person."""
    from annotators import ANNOTATORS, AnnotatorError, describe

    rows = []
    for name in ANNOTATORS:
        for backend in describe(name)["backends"]:
            row = BackendTimes(name, backend["name"], bar=BARS.get((name, backend["name"])))
            try:
                row = _measured(row, picture) if backend["usable"] else replace(row, reason=backend["reason"])
            except AnnotatorError as error:
                row = replace(row, reason=str(error))
            rows.append(row)
    return rows


def _measured(row: BackendTimes, picture: Image.Image) -> BackendTimes:
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
    return replace(row, first=first, new=new, cached=statistics.median(_milliseconds(run) for _ in range(REPEATS)))


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


def table(rows: Sequence[BackendTimes]) -> str:
    """Format the rows as a Markdown table."""
    cells = [
        [row.annotator, row.backend, *(_digits(value) for value in (row.first, row.new, row.bar, row.cached)),
         row.reason if row.passed is None else "yes" if row.passed else "**no**"]
        for row in rows
    ]  # fmt: skip
    columns = ["annotator", "backend", "first use", "new picture", "bar", "cached", "met"]
    return markdown(
        columns, cells, title=f"Milliseconds at {RESOLUTION} px on one core; cached may take {CACHED_BAR:g}."
    )


def _digits(value: float | None) -> str:
    return number(value, ".0f" if value is not None and value >= 10 else ".1f")
