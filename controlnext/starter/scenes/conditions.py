"""Conditions of views: exact ones, and ones as they come from photographs, other tools and sketches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType

import cv2
import numpy as np

from annotators.canny import find_edges
from annotators.poses.skeleton import KEYPOINTS, draw_skeleton
from controlnext.starter.scenes.palette import PART, PARTS_COLOURS
from controlnext.starter.scenes.view import View

Points = list[np.ndarray]

_STEEPNESS = 24.0  # depth is in [0, 1] over a picture; this makes a limb's roundness fill the range of a colour

MISSING = MappingProxyType(
    {"joint": 0.04, "hidden": 0.4, "legs": 0.1, "arm": 0.04, "leg": 0.04, "face_side": 0.05, "hips": 0.05}
)
"""How often readers lose what: one joint, a joint behind something, all below the hips, one arm, one leg, one eye with its ear,
the hips. As often or more often than the page's reader loses them on photographs (measured by `controlnext.starter.remake.gaps`, figures
in docs/starter.md), because skeletons of other tools are dropped in, too."""

JITTER = 0.008, 0.03
"""Most deviation of joints as a share of a person's extent: of three in four skeletons, and of the others."""


def _indices(*names: str) -> list[int]:
    return [KEYPOINTS.index(name) for name in names]


LEGS = _indices("right_knee", "left_knee", "right_ankle", "left_ankle")
HIPS = _indices("right_hip", "left_hip")
SIDES = {
    "arm": [_indices(f"{s}_elbow", f"{s}_wrist") for s in ("right", "left")],
    "leg": [_indices(f"{s}_knee", f"{s}_ankle") for s in ("right", "left")],
    "face_side": [_indices(f"{s}_eye", f"{s}_ear") for s in ("right", "left")],
}


def read_people(people: Iterable[np.ndarray], rng: np.random.Generator) -> Points:
    """Return people as a reader would find them: (18, 3) arrays with losses and jitter."""
    found = []
    for person in people:
        person = person.copy()
        if (person[:, 2] > 0).sum() < 4:
            continue
        extent = float(np.ptp(person[person[:, 2] > 0, :2], axis=0).max())
        lost = rng.random(len(person)) < MISSING["joint"]
        lost |= (person[:, 2] == 0.5) & (rng.random(len(person)) < MISSING["hidden"])
        for name, indices in (("legs", LEGS), ("hips", HIPS + LEGS)):
            if rng.random() < MISSING[name]:
                lost[indices] = True
        for name, sides in SIDES.items():
            if rng.random() < MISSING[name]:
                lost[sides[int(rng.integers(2))]] = True
        person[lost, 2] = 0
        jitter = JITTER[int(rng.random() < 0.25)] * rng.random()
        person[:, :2] += rng.normal(0, jitter * extent, (len(person), 2))
        if (person[:, 2] > 0).sum() >= 3:
            found.append(person)
    return found


def _parts_of_people(view: View, rng: np.random.Generator) -> tuple[Points, Points]:
    """Return hands and faces as a reader with these switched on finds them."""
    hands = [hand for pair in view.hands for hand in pair if (hand[:, 2] == 1).sum() >= 15 and rng.random() < 0.85]
    faces = [face for face in view.faces if (face[:, 2] > 0).sum() >= 40]
    return (hands if rng.random() < 0.4 else []), (faces if rng.random() < 0.4 else [])


def _pose(view: View, rng: np.random.Generator | None) -> np.ndarray:
    height, width = view.rgb.shape[:2]
    if rng is None:
        return draw_skeleton(list(view.people), height, width)
    people, (hands, faces) = read_people(view.people, rng), _parts_of_people(view, rng)
    style = rng.random()
    if style < 0.7:
        return draw_skeleton(people, height, width, hands=hands, faces=faces)
    if style < 0.85:  # thick, as in larger drawings made small
        drawn = draw_skeleton(people, height, width, hands=hands, faces=faces)
        return cv2.dilate(drawn, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    double = [[p * np.array([2, 2, 1]) for p in group] for group in (people, hands, faces)]
    drawn = draw_skeleton(double[0], 2 * height, 2 * width, hands=double[1], faces=double[2])
    return cv2.resize(cv2.erode(drawn, np.ones((2, 2), np.uint8)), (width, height), interpolation=cv2.INTER_AREA)


def worn(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 as a camera, a scan or the web makes it: noise, blur, JPEG, contrast."""
    if rng.random() < 0.4:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(2, 14), rgb.shape[:2] if rng.random() < 0.5 else rgb.shape)
        rgb = np.clip(rgb + (noise if noise.ndim == 3 else noise[..., None]), 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        rgb = np.clip((rgb.astype(np.float32) - 128) * rng.uniform(0.5, 1.3) + 128, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        coded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])[1]
        rgb = cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB if hasattr(cv2, "IMREAD_COLOR_RGB") else cv2.IMREAD_COLOR)
    return np.ascontiguousarray(rgb)


def _canny(view: View, rng: np.random.Generator | None) -> np.ndarray:
    if rng is None:
        edges = find_edges(np.ascontiguousarray(view.rgb)).map
    else:
        low = int(np.exp(rng.uniform(np.log(20), np.log(170))))
        edges = find_edges(worn(view.rgb, rng), low=low, high=int(low * rng.uniform(1.4, 3.0))).map
    return np.repeat(edges[..., None], 3, axis=2)


def _warped(picture: np.ndarray, rng: np.random.Generator, reach: float, scale: float) -> np.ndarray:
    """Move what is in a picture by up to about `reach` pixels, smoothly over `scale` pixels."""
    height, width = picture.shape[:2]
    field = rng.normal(0, 1, (2, int(height / scale) + 2, int(width / scale) + 2)).astype(np.float32)
    dx, dy = (reach * cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC) for f in field)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(picture, x + dx, y + dy, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def _scribble(view: View, rng: np.random.Generator | None) -> np.ndarray:
    """Lines as a hand sketches them: borders of parts and the strongest edges, thick, wobbling and with gaps."""
    blurred = cv2.GaussianBlur(view.rgb, (0, 0), 2.0 if rng is None else rng.uniform(1.2, 3.0))
    low = 40 if rng is None else int(rng.uniform(25, 80))
    edges = find_edges(np.ascontiguousarray(blurred), low=low, high=2 * low).map
    borders = cv2.Canny(np.ascontiguousarray(PARTS_COLOURS[view.parts]), 50, 100)
    if rng is None or rng.random() < 0.9:
        edges = np.maximum(edges, borders)
    if rng is None:
        return np.repeat(cv2.dilate(edges, np.ones((3, 3), np.uint8))[..., None], 3, axis=2)
    if rng.random() < 0.8:
        edges = _warped(edges, rng, rng.uniform(0.3, 2.0), rng.uniform(16, 48))
    if rng.random() < 0.4:  # gaps
        gaps = cv2.resize(rng.random((12, 12)).astype(np.float32), edges.shape[::-1], interpolation=cv2.INTER_LINEAR)
        edges = np.where(gaps < rng.uniform(0.2, 0.45), 0, edges).astype(np.uint8)
    size = int(rng.choice([1, 2, 3, 3, 4, 5]))
    lines = cv2.dilate(edges, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    return np.repeat(lines[..., None], 3, axis=2)


def _depth(view: View, rng: np.random.Generator | None) -> np.ndarray:
    depth = view.depth
    if rng is not None:
        depth = depth ** np.exp(rng.normal(0, 0.35))  # estimators disagree on the scale
        low, high = rng.uniform(0, 0.15), rng.uniform(0.75, 1.0)
        depth = low + (high - low) * depth if rng.random() < 0.5 else depth
        if rng.random() < 0.5:
            depth = cv2.GaussianBlur(depth, (0, 0), rng.uniform(0.5, 3.0))
        if rng.random() < 0.4:
            coarse = rng.normal(0, rng.uniform(0.005, 0.04), (9, 9)).astype(np.float32)
            depth = depth + cv2.resize(coarse, depth.shape[::-1], interpolation=cv2.INTER_CUBIC)
        if rng.random() < 0.25:
            depth = depth.copy()
            for _ in range(int(rng.integers(1, 5))):
                y, x = rng.integers(0, depth.shape[0]), rng.integers(0, depth.shape[1])
                cv2.ellipse(
                    depth, (int(x), int(y)), (int(rng.integers(3, 22)), int(rng.integers(3, 22))), 0, 0, 360, 0.0, -1
                )
        depth = np.clip(depth, 0, 1)
    return np.repeat((depth * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


_TAKEN_FOR = MappingProxyType(
    {"coat": "shirt", "glasses": "face", "hat": "hair", "water": "ground", "thing": "furniture", "wall": "house"}
)


def _segmentation(view: View, rng: np.random.Generator | None) -> np.ndarray:
    parts = view.parts
    if rng is not None:
        parts = parts.copy()
        for one, other in _TAKEN_FOR.items():  # readers mix up what is alike
            if rng.random() < 0.15:
                parts[parts == PART[one]] = PART[other]
        if rng.random() < 0.5:
            parts = _warped(parts, rng, rng.uniform(0.5, 2.5), rng.uniform(6, 20))
        if rng.random() < 0.4:
            coarse = int(rng.integers(2, 6))
            small = parts[coarse // 2 :: coarse, coarse // 2 :: coarse]
            parts = cv2.resize(small, parts.shape[::-1], interpolation=cv2.INTER_NEAREST)
        if rng.random() < 0.3:
            parts = cv2.medianBlur(parts, int(rng.choice([3, 5, 7])))
    return PARTS_COLOURS[parts]


def _normal(view: View, rng: np.random.Generator | None) -> np.ndarray:
    depth = view.depth
    if rng is not None and rng.random() < 0.5:
        depth = cv2.GaussianBlur(depth, (0, 0), rng.uniform(0.5, 2.0))
    steepness = _STEEPNESS * (1.0 if rng is None else float(np.exp(rng.normal(0, 0.4))))
    down, right = np.gradient(depth)
    normals = np.stack([-right * steepness, down * steepness, np.ones_like(depth)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.rint((normals * 0.5 + 0.5) * 255).astype(np.uint8)


_MAKERS: MappingProxyType[str, Callable[[View, np.random.Generator | None], np.ndarray]] = MappingProxyType(
    {
        "pose": _pose,
        "depth": _depth,
        "canny": _canny,
        "segmentation": _segmentation,
        "normal": _normal,
        "scribble": _scribble,
    }
)

CONDITIONS = tuple(_MAKERS)
"""Kinds of condition that views have."""


def condition_of(kind: str, view: View, rng: np.random.Generator | None = None) -> np.ndarray:
    """Draw a condition of a view.

    Args:
        kind: One of `CONDITIONS`.
        view: A rendered view of H x W pixels.
        rng: Varies it as readers, cameras and hands do; None gives the exact one.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    return _MAKERS[kind](view, rng)
