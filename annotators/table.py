"""The table of annotators, and `annotate`, which runs them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar, cast

import numpy as np
from PIL import Image

from annotators.base import Annotation, Annotator, AnnotatorError, Backend, BackendMissing, Value
from annotators.cache import Cache, digest, freeze
from annotators.canny import CANNY
from annotators.depth import DEPTH
from annotators.none import NONE
from annotators.pictures import load_picture
from annotators.pose import POSE, draw_people, draw_people_svd
from annotators.poses.people import People
from annotators.segmentation import SEGMENTATION

T = TypeVar("T")

ANNOTATORS: Mapping[str, Annotator] = MappingProxyType(
    {row.name: row for row in (CANNY, DEPTH, POSE, SEGMENTATION, NONE)}
)

AUTO = "auto"
RESOLUTION = (64, 2048)
"""Range of `resolution`, the short side in pixels."""

SIDES_MULTIPLE = 8
"""With a resolution, both sides become multiples of this, as latents need."""

POSE_DRAWINGS: Mapping[str, Callable[[People], np.ndarray]] = MappingProxyType(
    {"classic": lambda people: draw_people(people, 0.3), "svd": draw_people_svd}
)
"""Pose style -> its drawing function: `svd` is for the released SVD adapters, `classic` for all other pose adapters."""

CACHE_BYTES = 256 * 2**20
CACHE = Cache(CACHE_BYTES)


def annotate(
    name: str,
    image: Image.Image | np.ndarray,
    /,
    *,
    backend: str = AUTO,
    resolution: int | None = None,
    **settings: Value,
) -> Annotation:
    """Turn a picture into a condition picture.

    The same arguments give the same pixels; results and readings are cached by content, so asking again is quick.

    Args:
        name: key of `ANNOTATORS`.
        image: Pillow picture in any mode, or RGB array (H, W, 3) uint8.
        backend: name of one of the annotator's backends, or `auto` for the first that is usable now.
        resolution: short side in pixels to scale the picture to first, sides rounded to multiples of 8 (controlnet_aux
            rounds to 64, which stretches visibly); None keeps the picture's size.
        **settings: the annotator's settings (`describe(name)["settings"]`); those left out have their defaults.

    Returns:
        The condition picture, with who made it, its data and a note.

    Raises:
        AnnotatorError: something cannot be used; the text is one sentence with the reason and the remedy.
    """
    row = _row(name)
    values = row.check_settings(settings)
    _check_resolution(resolution)
    rgb, notes = _pixels(image)
    picture = (digest(rgb), resolution)
    served, remark = _chosen(row, backend, lambda: _scaled(rgb, resolution), picture)
    notes += [remark, *_ignored(row, served, values)]
    base = (served.name, *picture)
    fresh: list[str] = []

    def read() -> object:
        fresh.append(_prepared(row, served))
        reading = served.read(_scaled(rgb, resolution), values)
        freeze(reading)
        return reading

    def make() -> Annotation:
        read_values = tuple((setting, values[setting]) for setting in served.reads)
        drawing = served.draw(CACHE.get_or_make((*base, read_values), read), values)
        if drawing.data is not None:
            freeze(drawing.data)
        return Annotation(Image.fromarray(np.ascontiguousarray(drawing.rgb)), served.name, drawing.data, drawing.note)

    drawn = tuple((setting, values[setting]) for setting in served.settings)
    kept = CACHE.get_or_make((row.name, *base, drawn), make)
    note = " ".join(part for part in (*notes, *fresh, kept.note) if part)
    return replace(kept, image=kept.image.copy(), data=_copied(kept.data), note=note)


def check(name: str, *, backend: str = AUTO, **settings: Value) -> None:
    """Check the arguments of `annotate` before there is a picture; quick, and nothing is loaded.

    Raises:
        AnnotatorError: something cannot be used, as from `annotate`.
    """
    row = _row(name)
    row.check_settings(settings)
    if backend != AUTO:
        _wanted(row, backend)


def draw_pose(
    data: Mapping[str, Any], *, height: int | None = None, width: int | None = None, drawing: str = "classic"
) -> Annotation:
    """Draw a pose that came as data: edited, or read by `people_from_json`.

    Args:
        data: the `data` of a pose annotation.
        height: height to draw at in pixels; the pose is scaled with it.
        width: width to draw at in pixels.
        drawing: key of `POSE_DRAWINGS`.

    Raises:
        AnnotatorError: the data is no pose, or there is no such drawing.
    """
    if drawing not in POSE_DRAWINGS:
        raise AnnotatorError(f"There is no drawing of poses {drawing!r}; there are {', '.join(POSE_DRAWINGS)}.")
    people = People.from_data(data)
    people = people.scaled(height or people.height, width or people.width)
    return Annotation(Image.fromarray(POSE_DRAWINGS[drawing](people)), "data", people.to_data())


def describe(name: str) -> dict[str, Any]:
    """Describe an annotator for a page: `settings` as `Setting` rows, `backends` as dicts, whether and why not usable.

    Raises:
        AnnotatorError: there is no such annotator.
    """
    row = _row(name)
    backends = [_backend_status(backend) for backend in row.backends]
    automatic = next((status for status in backends if status["usable"] and status["automatic"]), None)
    return {
        "name": row.name,
        "label": row.label,
        "help": row.help,
        "settings": row.settings,
        "backends": backends,
        "usable": automatic is not None,
        "reason": automatic["reason"] if automatic else _missing(row),
    }


def status() -> list[dict[str, Any]]:
    """Describe every annotator in plain JSON values, for programs."""
    rows = [describe(name) for name in ANNOTATORS]
    return [{**row, "settings": [asdict(setting) for setting in row["settings"]]} for row in rows]


def fetch_backend(name: str, backend: str) -> None:
    """Download what a backend needs; call it only on a person's request.

    Raises:
        AnnotatorError: it needs nothing, does not exist, or cannot be fetched.
    """
    row = _row(name)
    chosen = _named(row, backend)
    if chosen.fetch is None:
        raise AnnotatorError(f"The backend {backend} of {name} has nothing to fetch.")
    chosen.fetch()


def _row(name: str) -> Annotator:
    row = ANNOTATORS.get(name) if isinstance(name, str) else None
    if row is None:
        raise AnnotatorError(f"There is no annotator {name!r}; there are {', '.join(ANNOTATORS)}.")
    return row


def _named(row: Annotator, name: str) -> Backend:
    for backend in row.backends:
        if backend.name == name:
            return backend
    names = ", ".join(backend.name for backend in row.backends)
    raise AnnotatorError(f"The annotator {row.name} has no backend {name!r}; it has {names}, and auto.")


def _wanted(row: Annotator, name: str) -> Backend:
    chosen = _named(row, name)
    now = chosen.check()
    if not now.usable:
        raise BackendMissing(f"{now.reason} {_alternatives(row, chosen)}".strip())
    return chosen


def _chosen(
    row: Annotator, name: str, scaled: Callable[[], np.ndarray], picture: tuple[Hashable, ...]
) -> tuple[Backend, str]:
    """Return the backend that serves a picture, and what people should know about the choice."""
    if name != AUTO:
        return _wanted(row, name), ""
    usable = [backend for backend in row.backends if backend.automatic and backend.check().usable]
    for backend in usable:
        if backend.suits is None:
            return backend, backend.caveat
        if CACHE.get_or_make(("suits", backend.name, *picture), partial(_suits, backend.suits, scaled)):
            return backend, backend.caveat
    # the tests above may have found one that is not usable
    usable = [backend for backend in usable if not backend.suited_only and backend.check().usable]
    if not usable:
        raise BackendMissing(_missing(row))
    return usable[0], usable[0].doubt or usable[0].caveat


def _suits(test: Callable[[np.ndarray], bool], scaled: Callable[[], np.ndarray]) -> bool:
    return test(scaled())


def _prepared(row: Annotator, backend: Backend) -> str:
    if backend.prepare is None:
        return ""
    try:
        return backend.prepare()
    except BackendMissing as error:
        raise BackendMissing(f"{error} {_alternatives(row, backend)}".strip()) from error


def _missing(row: Annotator) -> str:
    reasons = [
        f"{backend.label}: {backend.check().reason}"
        for backend in row.backends
        if backend.automatic and not backend.suited_only
    ]
    return f"{row.label} cannot be made on this machine yet. {' '.join(reasons)} {_alternatives(row, None)}".strip()


def _alternatives(row: Annotator, failed: Backend | None) -> str:
    """Name the backends that would serve instead."""
    others = [backend for backend in row.backends if backend is not failed and backend.check().usable]
    if failed is not None:
        others = [backend for backend in others if backend.prepare is None or backend.prepare is not failed.prepare]
    if not others:
        return ""
    names = [
        f"“{b.name}”" + (" (for pictures drawn by the starter model)" if b.name == "starter" else "") for b in others
    ]
    return f"What works now: the backend {' or '.join(names)}."


def _backend_status(backend: Backend) -> dict[str, Any]:
    now = backend.check()
    return {
        "name": backend.name,
        "label": backend.label,
        "usable": now.usable,
        "reason": now.reason,
        "automatic": backend.automatic and not backend.suited_only,
        "caveat": backend.caveat or backend.doubt,
        "settings": list(backend.settings),
        "source": backend.source,
        "licence": backend.licence,
        "megabytes": backend.megabytes,
        "fetchable": backend.fetch is not None,
    }


def _ignored(row: Annotator, backend: Backend, values: Mapping[str, Value]) -> list[str]:
    """Return a sentence about given settings that this backend does not support."""
    labels = [
        setting.label.lower()
        for setting in row.settings
        if setting.name not in backend.settings and values[setting.name] != setting.default
    ]
    return [f"{backend.label} does not use the setting {', '.join(labels)}."] if labels else []


def _check_resolution(resolution: int | None) -> None:
    low, high = RESOLUTION
    number = isinstance(resolution, int | float) and not isinstance(resolution, bool)
    if resolution is not None and not (number and low <= resolution <= high and resolution == int(resolution)):
        raise AnnotatorError(f"The resolution is a whole number of pixels from {low} to {high}, not {resolution!r}.")


def _pixels(image: Image.Image | np.ndarray) -> tuple[np.ndarray, list[str]]:
    if isinstance(image, Image.Image):
        note = image.info.get("note")
        if image.mode == "RGB" and image.format is None:  # decoded already, as `load_picture` returns it
            return np.asarray(image), [note] if isinstance(note, str) else []
        loaded = load_picture(image)
        return np.asarray(loaded), [loaded.info["note"]] if "note" in loaded.info else []
    if (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size
    ):
        return image, []
    if isinstance(image, np.ndarray):
        raise AnnotatorError(f"An array to annotate is RGB (height, width, 3) uint8, not {image.shape} {image.dtype}.")
    raise AnnotatorError("There is no picture yet: upload one first.")


def _scaled(rgb: np.ndarray, resolution: int | None) -> np.ndarray:
    if resolution is None:
        return np.ascontiguousarray(rgb)
    import cv2

    height, width = rgb.shape[:2]
    scale = resolution / min(height, width)
    size = tuple(
        max(SIDES_MULTIPLE, SIDES_MULTIPLE * round(side * scale / SIDES_MULTIPLE)) for side in (width, height)
    )
    if size == (width, height):
        return np.ascontiguousarray(rgb)
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LANCZOS4)


def _copied(data: T) -> T:
    """Copy data for the caller; arrays are shared, since they are read-only."""
    if isinstance(data, dict):
        return cast(T, {key: _copied(value) for key, value in data.items()})
    if isinstance(data, list):
        return cast(T, [_copied(value) for value in data])
    return data
