"""Key poses of a clip: the few frames whose poses differ most from each other, each taken where it is held."""

from __future__ import annotations

import numpy as np

from controlnext.adherence.skeletons import VISIBLE

NEAR = 0.08
"""Mean distance of joints in figure heights below which two frames show the same pose."""

_FEWEST_JOINTS = 4


def key_poses(points: np.ndarray, most: int) -> list[int]:
    """Choose the frames of the key poses.

    Poses are compared by shape alone: where the person stands, and how large, does not count. The first key pose is the one
    that is held longest; each further one is the farthest from all before it.

    Args:
        points: (frames, joints, 3) x, y in pixels and confidence of one person.
        most: key poses at most, >= 1.

    Returns:
        Frames in order of time; fewer than asked for where the clip shows no more different poses, none without a person.
    """
    shown = np.isfinite(points).all(axis=2) & (points[..., 2] >= VISIBLE)
    usable = np.flatnonzero(shown.sum(axis=1) >= _FEWEST_JOINTS)
    if not len(usable):
        return []
    apart = _distances(_shapes(points[usable], shown[usable]), shown[usable])
    held = (apart < NEAR / 2).sum(axis=1)
    chosen = [int(held.argmax())]
    while len(chosen) < most:
        nearest = apart[:, chosen].min(axis=1)
        if nearest.max() < NEAR:
            break
        farthest = int(nearest.argmax())
        # The pose itself is where it is held: of the frames that show it, the one with most others like it.
        alike = np.flatnonzero((apart[farthest] < NEAR / 2) & (nearest >= NEAR / 2))
        chosen.append(int(alike[held[alike].argmax()]) if len(alike) else farthest)
    return sorted(int(usable[index]) for index in set(chosen))


def _shapes(points: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(F, J, 2) joints around their middle, in heights of the figure (the longer side of the box around its joints)."""
    places = np.where(shown[..., None], points[..., :2], np.nan)
    middle = np.nanmean(places, axis=1, keepdims=True)
    extent = (np.nanmax(places, axis=1) - np.nanmin(places, axis=1)).max(axis=1)
    height = np.median(extent[extent > 0]) if (extent > 0).any() else 1.0
    return np.nan_to_num((places - middle) / height)


def _distances(shapes: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(F, F) mean distance over the joints that both frames show; 1 where they have too few in common."""
    apart = np.ones((len(shapes), len(shapes)))
    for index, (shape, seen) in enumerate(zip(shapes, shown, strict=True)):
        both = shown & seen
        count = both.sum(axis=1)
        total = (np.linalg.norm(shapes - shape, axis=2) * both).sum(axis=1)
        apart[index] = np.where(count >= _FEWEST_JOINTS, total / np.maximum(count, 1), 1.0)
    return apart
