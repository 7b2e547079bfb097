"""The skeleton drawing of the released SVD adapters: thin lines, dimmed by confidence.

Compared with the classic drawing of `annotators.poses.skeleton`, its lines are a quarter as wide, every part is dimmed by its confidence
instead of cut at one, and red and blue are exchanged. It is drawn at a short side of 2160 pixels and brought to size without
smoothing, so edges are as jagged as those the adapters saw.

Source: Tencent/MimicMotion `mimicmotion/dwpose/util.py`, the same to the pixel; its neighbouring files are those of
dvlab-research/ControlNeXt `ControlNeXt-SVD-v2/dwpose`, whose own `util.py` was not available. Deliberate difference: a
point of confidence 0, which was not read, is left out; there it is black.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from annotators.poses.skeleton import COLOURS, CONFIDENCE, HAND_LIMBS, KEYPOINTS, LIMB_DIM, LIMBS, Rgb

SHORT_SIDE = 2160
"""Short side in pixels that is drawn at, and at which the widths below hold."""

LIMB_HALF_WIDTH = 4
JOINT_RADIUS = 4
HAND_LINE_WIDTH = 2
HAND_JOINT_RADIUS = 4
FACE_DOT_RADIUS = 3

_FAR = 16_000.0  # pixels of the canvas; a point further away is noise, and would overflow OpenCV's 16 bits

_HAND_HUES = tuple(colorsys.hsv_to_rgb(i / len(HAND_LIMBS), 1.0, 1.0) for i in range(len(HAND_LIMBS)))


@dataclass(frozen=True)
class _Part:
    """A body, hand or face on the canvas.

    Attributes:
        places: (n, 2) x and y in pixels of the canvas.
        sure: (n,) confidences.
        shown: (n,) bool, whether a point is drawn.
    """

    places: np.ndarray
    sure: np.ndarray
    shown: np.ndarray


def draw_svd_skeleton(
    people: Sequence[np.ndarray],
    height: int,
    width: int,
    *,
    hands: Sequence[np.ndarray] | None = None,
    faces: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Draw people on black; arguments, result and errors as of `annotators.poses.skeleton.draw_skeleton`.

    Of a body, points below `CONFIDENCE` are left out; of hands and faces, none that was read.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a skeleton needs a picture of at least 1x1 pixels, not {width}x{height}")
    scale = SHORT_SIDE / min(height, width)
    canvas = np.zeros((int(height * scale), int(width * scale), 3), np.uint8)
    zoom = np.array([canvas.shape[1] / width, canvas.shape[0] / height])
    bodies = [_part(body, zoom, len(KEYPOINTS), least=CONFIDENCE) for body in people]
    # all limbs lie below all joints, those below hands, and those below faces, whoever they are of
    for limb, colour in zip(LIMBS, COLOURS, strict=False):
        for body in bodies:
            _limb(canvas, body, limb, colour)
    for joint, colour in enumerate(COLOURS):
        for body in bodies:
            _dot(canvas, body, joint, JOINT_RADIUS, colour)
    for hand in hands or ():
        _hand(canvas, _part(hand, zoom, 21, inside=True))
    for face in faces or ():
        part = _part(face, zoom, None, inside=True)
        for point in range(len(part.sure)):
            _dot(canvas, part, point, FACE_DOT_RADIUS, (255, 255, 255))
    return np.ascontiguousarray(cv2.resize(canvas, (width, height))[..., ::-1])


def _part(
    points: np.ndarray, zoom: np.ndarray, count: int | None, *, least: float = 0.0, inside: bool = False
) -> _Part:
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or (count is not None and len(points) != count):
        raise ValueError(f"points are an array of shape ({count or 'n'}, 3), not {points.shape}")
    finite = np.isfinite(points).all(axis=1)
    points = np.where(finite[:, None], points, 0.0)
    places, sure = points[:, :2] * zoom, points[:, 2]
    shown = finite & (sure > 0) & (sure >= least) & (np.abs(places) <= _FAR).all(axis=1)
    if inside:
        shown &= (places >= 1).all(axis=1)
    return _Part(places, sure, shown)


def _dimmed(colour: Rgb, confidence: float) -> Rgb:
    red, green, blue = (int(value * confidence) for value in colour)
    return red, green, blue


def _limb(canvas: np.ndarray, body: _Part, limb: tuple[int, int], colour: Rgb) -> None:
    """Fill the ellipse whose long axis is the limb."""
    a, b = limb
    if not body.shown[a] or not body.shown[b]:
        return
    middle, (x, y) = (body.places[a] + body.places[b]) / 2, body.places[a] - body.places[b]
    axes, turn = (int(math.hypot(x, y) / 2), LIMB_HALF_WIDTH), int(math.degrees(math.atan2(y, x)))
    outline = np.asarray(cv2.ellipse2Poly((int(middle[0]), int(middle[1])), axes, turn, 0, 360, 1))
    cv2.fillConvexPoly(canvas, outline, _dimmed(_dimmed(colour, body.sure[a] * body.sure[b]), LIMB_DIM))


def _hand(canvas: np.ndarray, hand: _Part) -> None:
    for (a, b), hue in zip(HAND_LIMBS, _HAND_HUES, strict=True):
        if hand.shown[a] and hand.shown[b]:
            start, end = hand.places[[a, b]].astype(int).tolist()
            bright = int(255 * hand.sure[a] * hand.sure[b])
            cv2.line(canvas, start, end, [value * bright for value in hue], HAND_LINE_WIDTH)
    for point in range(len(hand.sure)):
        _dot(canvas, hand, point, HAND_JOINT_RADIUS, (0, 0, 255))


def _dot(canvas: np.ndarray, part: _Part, point: int, radius: int, colour: Rgb) -> None:
    if part.shown[point]:
        place = part.places[point].astype(int).tolist()
        cv2.circle(canvas, place, radius, _dimmed(colour, part.sure[point]), thickness=-1)
