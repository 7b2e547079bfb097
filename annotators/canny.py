"""The canny annotator: white edges on black."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotators.base import Annotator, Backend, Drawing, Setting, Settings

AUTOMATIC_LOW = 0.67
AUTOMATIC_HIGH = 1.33
"""Automatic thresholds as shares of the median brightness. Source: the SDXL canny preprocessor of dvlab-research/ControlNeXt."""


@dataclass(frozen=True)
class Edges:
    """Edge map (H, W) uint8, 0 or 255, and the thresholds that made it."""

    map: np.ndarray
    low: int
    high: int


def find_edges(
    rgb: np.ndarray, *, low: int = 100, high: int = 200, blur: float = 0.0, automatic: bool = False
) -> Edges:
    """Find edges.

    Args:
        rgb: picture (H, W, 3), uint8.
        low: gradient above which an edge continues, 0..500.
        high: gradient above which an edge begins, 0..500; swapped with `low` if smaller.
        blur: deviation of the Gaussian that smooths the picture first, in pixels; 0 = none.
        automatic: take both thresholds from the median brightness instead.

    Source: OpenCV's Canny on the grey picture, as in the SDXL canny preprocessor of dvlab-research/ControlNeXt.
    """
    import cv2

    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if blur > 0:
        grey = cv2.GaussianBlur(grey, (0, 0), blur)
    if automatic:
        median = float(np.median(grey))
        low, high = int(max(0.0, AUTOMATIC_LOW * median)), int(min(255.0, AUTOMATIC_HIGH * median))
    low, high = min(low, high), max(low, high)
    return Edges(cv2.Canny(grey, low, high), low, high)


def _read(rgb: np.ndarray, settings: Settings) -> Edges:
    return find_edges(
        rgb,
        low=int(settings["low"]),
        high=int(settings["high"]),
        blur=float(settings["blur"]),
        automatic=bool(settings["automatic"]),
    )


def _draw(edges: Edges, settings: Settings) -> Drawing:
    notes = []
    if settings["automatic"]:
        notes.append(f"Automatic thresholds: {edges.low} and {edges.high}.")
    elif int(settings["low"]) > int(settings["high"]):
        notes.append(f"The low threshold was above the high one, so they were swapped: {edges.low} and {edges.high}.")
    if not edges.map.any():
        notes.append("No edges were found: lower the thresholds or the blur.")
    rgb = np.repeat(edges.map[..., None], 3, axis=2)
    return Drawing(rgb, {"low": edges.low, "high": edges.high}, " ".join(notes))


CANNY = Annotator(
    name="canny",
    label="Canny edges",
    help="White edges on black: keeps outlines and inner lines.",
    settings=(
        Setting(
            "low",
            "Low threshold",
            "int",
            100,
            0,
            500,
            1,
            help="An edge continues while its contrast stays above this.",
        ),
        Setting(
            "high", "High threshold", "int", 200, 0, 500, 1, help="An edge begins where its contrast is above this."
        ),
        Setting(
            "blur",
            "Blur",
            "float",
            0.0,
            0.0,
            10.0,
            0.1,
            unit="px",
            help="Smooths texture before edges are detected.",
        ),
        Setting(
            "automatic",
            "Automatic thresholds",
            "bool",
            False,
            help="Take both thresholds from the picture's brightness.",
        ),
    ),
    backends=(
        Backend(
            "opencv",
            "OpenCV",
            _read,
            _draw,
            reads=("low", "high", "blur", "automatic"),
            source="opencv-python-headless",
        ),
    ),
)
