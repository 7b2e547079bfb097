"""Synthetic people: a standing figure that is moved about, as points and as drawn frames."""

import numpy as np

from annotators.poses.skeleton import draw_skeleton
from controlnext.video.poses import POINTS, Poses

# A standing figure, one unit tall, its neck at (0, 0); OpenPose-18 order.
STANDING = np.array(
    [
        *((0.0, -0.12), (0.0, 0.0)),
        *((-0.11, 0.0), (-0.14, 0.17), (-0.15, 0.32), (0.11, 0.0), (0.14, 0.17), (0.15, 0.32)),
        *((-0.07, 0.32), (-0.08, 0.56), (-0.08, 0.8), (0.07, 0.32), (0.08, 0.56), (0.08, 0.8)),
        *((-0.02, -0.14), (0.02, -0.14), (-0.05, -0.13), (0.05, -0.13)),
    ]
)


def person(x, y, size, swing=0.0, confidence=0.9):
    """A body (128, 3) with its neck at (x, y); `swing` turns arms and legs, as walking does."""
    body = STANDING.copy()
    for joint, sign in ((3, 1), (4, 2), (6, -1), (7, -2), (9, -1), (10, -2), (12, 1), (13, 2)):
        body[joint, 0] += sign * swing
    points = np.zeros((POINTS, 3))
    points[:18] = np.concatenate([body * size + (x, y), np.full((18, 1), confidence)], axis=1)
    return points


def poses(frames, fps=10.0, height=100, width=200):
    """Poses of lists of people."""
    return Poses(
        tuple(np.stack(people) if people else np.zeros((0, POINTS, 3)) for people in frames), height, width, fps
    )


def drawn(people, height=64, width=64):
    """A pose frame with these people on it."""
    return draw_skeleton([one[:18] for one in people], height, width)
