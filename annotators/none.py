"""The annotator "none": the upload already is a condition picture."""

from __future__ import annotations

from typing import Literal

import numpy as np

from annotators.base import Annotator, Backend, Drawing, Setting, Settings

_BLACK = 24  # brightness up to which a pixel is background
_BACKGROUND = 0.75  # share of background from which a picture may be a map
_MARKED = 0.0005  # and of something on it
_COLOURFUL = 0.6  # (max - min) / max of a skeleton's colours
_MOST = 0.9


def looks_like_map(rgb: np.ndarray) -> Literal["", "skeleton", "edges"]:
    """Return whether a picture (H, W, 3) uint8 looks like a condition picture already.

    People often pass a skeleton to the pose annotator, which finds nobody in it; this gives the reason.
    """
    step = max(1, min(rgb.shape[:2]) // 256)
    pixels = rgb[::step, ::step].reshape(-1, 3).astype(np.int16)
    bright, dark = pixels.max(axis=1), pixels.min(axis=1)
    marked = bright > _BLACK
    share = float(marked.mean())
    if not _MARKED < share < 1 - _BACKGROUND:
        return ""
    bright, dark = bright[marked], dark[marked]
    if float((bright - dark > _COLOURFUL * bright).mean()) > _MOST:
        return "skeleton"
    if float((dark > 200).mean()) > _MOST and float((bright - dark < 16).mean()) > _MOST:
        return "edges"
    return ""


def _read(rgb: np.ndarray, settings: Settings) -> np.ndarray:
    return rgb.copy()  # the reading is cached and must not share the caller's array


def _draw(rgb: np.ndarray, settings: Settings) -> Drawing:
    rgb = np.ascontiguousarray(rgb[..., ::-1]) if settings["swap"] else rgb
    return Drawing(255 - rgb if settings["invert"] else rgb)


NONE = Annotator(
    name="none",
    label="Ready-made map",
    help="The upload already is a condition picture: it is taken as it is.",
    settings=(
        Setting("invert", "Invert", "bool", False, help="Turn black lines on white into white lines on black."),
        Setting(
            "swap",
            "Swap red and blue",
            "bool",
            False,
            help="For maps that a program wrote with its colours the other way round.",
        ),
    ),
    backends=(Backend("upload", "The upload itself", _read, _draw, draws=("invert", "swap")),),
)
