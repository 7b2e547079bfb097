"""The classic drawing of skeletons, for training, photos and videos alike.

It is the drawing that ControlNet's pose weights expect: seventeen limbs as slim ellipses in the classic rainbow dimmed to 0.6,
eighteen joints as dots in the full colours, hands as thin rainbow lines, faces as white dots. Widths grow with the picture.

Source: order, limbs and colours of the OpenPose COCO body model as drawn by lllyasviel/ControlNet
`annotator/openpose/util.py`. Deliberate differences: edges are antialiased at sub-pixel places (a small move of a joint
is visible at 256 px), and widths are proportional to the short side instead of always 4 px.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np

KEYPOINTS: tuple[str, ...] = (
    "nose",
    "neck",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_eye",
    "left_eye",
    "right_ear",
    "left_ear",
)
"""OpenPose-18 order; right is the person's right."""

LIMBS: tuple[tuple[int, int], ...] = (
    (1, 2),
    (1, 5),
    (2, 3),
    (3, 4),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
"""Pairs of indices into `KEYPOINTS`; limb i is drawn in `COLOURS[i]`."""

COLOURS: tuple[tuple[int, int, int], ...] = (
    (255, 0, 0),
    (255, 85, 0),
    (255, 170, 0),
    (255, 255, 0),
    (170, 255, 0),
    (85, 255, 0),
    (0, 255, 0),
    (0, 255, 85),
    (0, 255, 170),
    (0, 255, 255),
    (0, 170, 255),
    (0, 85, 255),
    (0, 0, 255),
    (85, 0, 255),
    (170, 0, 255),
    (255, 0, 255),
    (255, 0, 170),
    (255, 0, 85),
)
"""RGB of joint i; limbs take the same rainbow times `LIMB_DIM`."""

HAND_LIMBS: tuple[tuple[int, int], ...] = tuple(
    (0 if step == 0 else 4 * finger + step, 4 * finger + step + 1) for finger in range(5) for step in range(4)
)
"""Twenty bones of the 21-point hand: wrist, then four points for each of thumb, index, middle, ring and little finger."""

HAND_COLOURS: tuple[tuple[int, int, int], ...] = tuple(
    (round(255 * r), round(255 * g), round(255 * b))
    for r, g, b in (colorsys.hsv_to_rgb(i / len(HAND_LIMBS), 1.0, 1.0) for i in range(len(HAND_LIMBS)))
)

CONFIDENCE = 0.3
"""A point below this confidence is not drawn (the threshold of the released pose checkpoints' own preprocessing)."""

LIMB_DIM = 0.6
"""Brightness of limbs; joints stay at 1."""

REFERENCE_SIZE = 512
"""Short side in pixels at which the widths below hold."""

LIMB_HALF_WIDTH = 4.0
JOINT_RADIUS = 4.0
HAND_LINE_WIDTH = 2.0
HAND_JOINT_RADIUS = 3.0
FACE_DOT_RADIUS = 2.0

_SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates: places are exact to 1/16 px
_ONE = 1 << _SHIFT
_FAR = 4.0  # a point further outside than this many picture sizes is noise, and would overflow fixed point
_TURN = np.linspace(0.0, 2.0 * math.pi, 24, endpoint=False)
_CIRCLE = np.stack(
    [np.cos(_TURN), np.sin(_TURN)], axis=1
)  # (24, 2): unit circle that limbs and dots are stretched from

Rgb = tuple[int, int, int]


def draw_skeleton(
    people: Sequence[np.ndarray],
    height: int,
    width: int,
    *,
    hands: Sequence[np.ndarray] | None = None,
    faces: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Draw people on black.

    Args:
        people: one (18, 3) array a person: x, y in pixels (0, 0 is the top left corner), confidence in [0, 1]. Points
            below `CONFIDENCE`, not finite or far outside are left out, with the limbs that end there.
        height: picture height in pixels, >= 1.
        width: picture width in pixels, >= 1.
        hands: one (21, 3) array a hand, same columns.
        faces: one (n, 3) array a face, same columns.

    Returns:
        RGB picture (height, width, 3), uint8.

    Raises:
        ValueError: a size below one pixel, or an array of another shape.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a skeleton needs a picture of at least 1x1 pixels, not {width}x{height}")
    canvas = np.zeros((height, width, 3), np.uint8)
    scale = min(height, width) / REFERENCE_SIZE
    for person in people:
        _draw_body(canvas, _points(person, len(KEYPOINTS), "a person"), scale)
    for hand in hands or ():
        _draw_hand(canvas, _points(hand, 21, "a hand"), scale)
    for face in faces or ():
        for x, y, visible in _points(face, None, "a face"):
            if visible and _inside(canvas, x, y):
                _dot(canvas, (x, y), FACE_DOT_RADIUS * scale, (255, 255, 255))
    return canvas


def _points(array: np.ndarray, count: int | None, what: str) -> list[tuple[float, float, bool]]:
    """Check one (n, 3) array and turn its confidences into drawn or not."""
    points = np.asarray(array, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or (count is not None and len(points) != count):
        raise ValueError(f"{what} is an array of shape ({count or 'n'}, 3), not {points.shape}")
    drawn = np.isfinite(points).all(axis=1) & (points[:, 2] >= CONFIDENCE)
    return [(float(x), float(y), bool(ok)) for (x, y, _), ok in zip(points, drawn, strict=True)]


def _inside(canvas: np.ndarray, x: float, y: float) -> bool:
    limit = _FAR * max(canvas.shape[:2])
    return bool(abs(x) <= limit and abs(y) <= limit)


def _draw_body(canvas: np.ndarray, points: list[tuple[float, float, bool]], scale: float) -> None:
    shown = [ok and _inside(canvas, x, y) for x, y, ok in points]
    for (a, b), colour in zip(LIMBS, COLOURS, strict=False):
        if shown[a] and shown[b]:
            red, green, blue = (int(LIMB_DIM * value) for value in colour)
            _ellipse(canvas, points[a][:2], points[b][:2], LIMB_HALF_WIDTH * scale, (red, green, blue))
    for (x, y, _), ok, colour in zip(points, shown, COLOURS, strict=True):
        if ok:
            _dot(canvas, (x, y), JOINT_RADIUS * scale, colour)


def _draw_hand(canvas: np.ndarray, points: list[tuple[float, float, bool]], scale: float) -> None:
    shown = [ok and _inside(canvas, x, y) for x, y, ok in points]
    thickness = max(1, round(HAND_LINE_WIDTH * scale))
    for (a, b), colour in zip(HAND_LIMBS, HAND_COLOURS, strict=True):
        if shown[a] and shown[b]:
            start, end = (tuple(round(v * _ONE) for v in points[i][:2]) for i in (a, b))
            cv2.line(canvas, start, end, colour, thickness, cv2.LINE_AA, _SHIFT)
    for (x, y, _), ok in zip(points, shown, strict=True):
        if ok:
            _dot(canvas, (x, y), HAND_JOINT_RADIUS * scale, (0, 0, 255))


def _ellipse(
    canvas: np.ndarray, start: tuple[float, float], end: tuple[float, float], half_width: float, colour: Rgb
) -> None:
    """Fill the ellipse whose long axis is the limb."""
    axis = np.array([end[0] - start[0], end[1] - start[1]]) / 2.0
    centre = np.array([end[0] + start[0], end[1] + start[1]]) / 2.0
    length = math.hypot(*axis)
    if length < 1e-6:
        return
    across = np.array([-axis[1], axis[0]]) * (max(half_width, 0.5) / length)
    outline = centre + _CIRCLE[:, :1] * axis + _CIRCLE[:, 1:] * across
    _fill(canvas, outline, colour)


def _dot(canvas: np.ndarray, centre: tuple[float, float], radius: float, colour: Rgb) -> None:
    _fill(canvas, np.asarray(centre) + _CIRCLE * max(radius, 0.75), colour)


def _fill(canvas: np.ndarray, outline: np.ndarray, colour: Rgb) -> None:
    cv2.fillConvexPoly(canvas, np.rint(outline * _ONE).astype(np.int32), colour, cv2.LINE_AA, _SHIFT)
