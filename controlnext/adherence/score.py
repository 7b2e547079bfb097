"""Adherence scores: how well a picture follows its condition, by comparing the condition with the result's own annotation.

Four measures, one for each kind of condition, in plain numpy and exactly defined, so that the page, sweeps and benches show
the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from PIL import Image

from controlnext.adherence.skeletons import VISIBLE, joints_in_drawing
from controlnext.recipes.inputs import Annotated

EDGE_TOLERANCE = 2 / 256
"""Edge tolerance as a fraction of the longer side: 2 px at 256."""


def score(kind: str, condition: Annotated, result: Annotated) -> float | None:
    """Compare the condition asked for with the annotation of the result.

    Args:
        kind: a key of `SCORES`; another kind has no measure.
        condition: what was asked; its picture, and people as data for a pose if known (else read from the drawing).
        result: the annotation of the picture made; resized to the condition's size where it differs.

    Returns:
        Score in [0, 1], 1 = followed; None when this kind has no measure or the condition asks for nothing.
    """
    if kind not in SCORES:
        return None
    value = SCORES[kind](condition, result)
    return float(value) if np.isfinite(value) else None


def edge_f1(asked: np.ndarray, found: np.ndarray, tolerance_px: float = 2.0) -> float:
    """F1 of two edge maps: an edge pixel counts as right when the other map has one within the tolerance.

    Args:
        asked: (H, W) bool, edges asked for.
        found: (H, W) bool, edges of the result.
        tolerance_px: Euclidean distance in pixels, >= 0.

    Returns:
        Harmonic mean of precision (found pixels near asked ones) and recall (asked pixels near found ones), in [0, 1];
        1 when both are empty, 0 when one is.

    Source: the boundary measure of Martin, Fowlkes and Malik (2004), without its one-to-one matching.
    """
    asked, found = _same_shape(asked, found)
    asked, found = asked.astype(bool), found.astype(bool)
    if not asked.any() or not found.any():
        return float(asked.any() == found.any())
    precision = (found & dilate(asked, tolerance_px)).sum() / found.sum()
    recall = (asked & dilate(found, tolerance_px)).sum() / asked.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def depth_rank_correlation(asked: np.ndarray, found: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Spearman rank correlation of two depth maps: is what should be nearer, nearer?

    Args:
        asked: (H, W) any real dtype; NaN and infinities are left out.
        found: (H, W), same.
        valid: (H, W) bool, pixels to compare; all when None.

    Returns:
        Correlation of the ranks (ties share their mean rank) in [-1, 1]; 0 when one map is constant, NaN when fewer
        than two pixels are valid.
    """
    asked, found = (array.astype(np.float64) for array in _same_shape(asked, found))
    keep = np.isfinite(asked) & np.isfinite(found)
    if valid is not None:
        keep &= _same_shape(asked, valid)[1].astype(bool)
    if keep.sum() < 2:
        return float("nan")
    ranks_asked, ranks_found = (ranks(array[keep]) for array in (asked, found))
    ranks_asked, ranks_found = ranks_asked - ranks_asked.mean(), ranks_found - ranks_found.mean()
    spread = np.sqrt((ranks_asked**2).sum() * (ranks_found**2).sum())
    return float((ranks_asked * ranks_found).sum() / spread) if spread else 0.0


def pose_pck(
    asked: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    alpha: float = 0.1,
    height: float | None = None,
) -> float:
    """Percentage of correct keypoints: asked joints that the result shows within alpha of the figure's height.

    Each asked person is compared with one found person; pairs are taken by most correct joints first. A joint that is
    not visible in what was asked does not count; one that is not visible in the result is wrong.

    Args:
        asked: (18, 3) arrays of x, y in pixels and confidence in [0, 1].
        found: same.
        alpha: allowed distance as a fraction of the height.
        height: figure height in pixels; None takes each asked person's own, the longer side of the box around its
            visible joints.

    Returns:
        Fraction in [0, 1]; NaN when nothing visible was asked for.

    Source: Yang and Ramanan (2013), with the figure's height instead of the head or torso.
    """
    asked = [np.asarray(person, dtype=np.float64) for person in asked]
    found = [np.asarray(person, dtype=np.float64) for person in found]
    total = sum(int(_visible(person).sum()) for person in asked)
    if not total:
        return float("nan")
    correct = np.array([[_correct_joints(a, b, alpha, height) for b in found] for a in asked]).reshape(len(asked), -1)
    matched = 0
    for _ in range(min(correct.shape)):
        row, column = np.unravel_index(np.argmax(correct), correct.shape)
        matched += int(correct[row, column])
        correct = np.delete(np.delete(correct, row, axis=0), column, axis=1)
    return matched / total


def mean_iou(asked: np.ndarray, found: np.ndarray) -> float:
    """Mean intersection over union over the classes that occur in what was asked.

    Args:
        asked: (H, W) integer class ids.
        found: (H, W), same; a class only it has counts against the classes it covers.

    Returns:
        Mean in [0, 1]; NaN for an empty map.
    """
    asked, found = _same_shape(asked, found)
    if not asked.size:
        return float("nan")
    classes, ids = np.unique(asked, return_inverse=True)
    place = np.searchsorted(classes, found).clip(0, len(classes) - 1)
    ids, known = ids.ravel(), (classes[place] == found).ravel()
    place = place.ravel()
    both = np.bincount(ids[ids == np.where(known, place, -1)], minlength=len(classes))
    either = np.bincount(ids, minlength=len(classes)) + np.bincount(place[known], minlength=len(classes)) - both
    return float((both / either).mean())


def _same_shape(asked: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    asked, found = np.asarray(asked), np.asarray(found)
    if asked.shape != found.shape or asked.ndim != 2:
        raise ValueError(f"two maps of one shape (H, W) are compared, not {asked.shape} with {found.shape}")
    return asked, found


def dilate(edges: np.ndarray, radius: float) -> np.ndarray:
    """Grow a mask by a Euclidean disc: one shifted copy for each offset of the disc."""
    reach = int(radius)
    padded = np.pad(edges, reach)
    height, width = edges.shape
    grown = np.zeros_like(edges)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy * dy + dx * dx <= radius * radius:
                grown |= padded[reach + dy : reach + dy + height, reach + dx : reach + dx + width]
    return grown


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties sharing the mean of the places they take."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return (last - (counts - 1) / 2)[inverse]


def _visible(person: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(person).all(axis=1) & (person[:, 2] >= VISIBLE))


def _correct_joints(asked: np.ndarray, found: np.ndarray, alpha: float, height: float | None) -> int:
    shown = _visible(asked)
    if not shown.any():
        return 0
    if height is None:
        places = asked[shown, :2]
        height = float((places.max(axis=0) - places.min(axis=0)).max())
    both = shown & _visible(found)
    distance = np.linalg.norm(asked[both, :2] - found[both, :2], axis=1)
    return int((distance <= alpha * height).sum())


def sized(image: Image.Image, like: Image.Image, resample: Image.Resampling = Image.Resampling.NEAREST) -> Image.Image:
    """Return a picture in the size of another one."""
    return image if image.size == like.size else image.resize(like.size, resample)


def edges_of(image: Image.Image) -> np.ndarray:
    """Return the edges of an edge map, (H, W) bool."""
    return np.asarray(image.convert("L")) > 127


def people_of(annotation: Annotated, like: Image.Image) -> list[np.ndarray]:
    """People as data, moved to the pixels of `like`; read from the drawing when there is no data."""
    data = annotation.data or {}
    people = data.get("people")
    if people is None:
        people = joints_in_drawing(np.asarray(annotation.image.convert("RGB")))
    zoom = np.array([like.width / annotation.image.width, like.height / annotation.image.height, 1.0])
    return [np.asarray(person, dtype=np.float64).reshape(-1, 3)[:18] * zoom for person in people]


def colour_codes(image: Image.Image) -> np.ndarray:
    """One integer a pixel, (H, W), for a picture in which a colour is a class."""
    return np.asarray(np.asarray(image).astype(np.int64) @ np.array([1 << 16, 1 << 8, 1]))


def _edge_score(asked: Annotated, found: Annotated) -> float:
    whole = asked.image.convert("RGB")
    tolerance = max(1, round(EDGE_TOLERANCE * max(whole.size)))
    return edge_f1(edges_of(whole), edges_of(sized(found.image.convert("RGB"), whole)), tolerance)


def _depth_score(asked: Annotated, found: Annotated) -> float:
    whole = asked.image.convert("RGB")
    smooth = sized(found.image.convert("RGB"), whole, Image.Resampling.BILINEAR)
    return max(0.0, depth_rank_correlation(np.asarray(whole.convert("L")), np.asarray(smooth.convert("L"))))


def _pose_score(asked: Annotated, found: Annotated) -> float:
    return pose_pck(people_of(asked, asked.image), people_of(found, asked.image))


def _parts_score(asked: Annotated, found: Annotated) -> float:
    whole = asked.image.convert("RGB")
    return mean_iou(colour_codes(whole), colour_codes(sized(found.image.convert("RGB"), whole)))


SCORES: Mapping[str, Callable[[Annotated, Annotated], float]] = MappingProxyType(
    {"canny": _edge_score, "depth": _depth_score, "pose": _pose_score, "segmentation": _parts_score}
)
"""Kind of condition -> how what was asked and what was found are compared; what each is called is said in `KINDS`."""
