"""`python -m controlnext.starter.remake.offsets`: how far from a figure's joints does MediaPipe find them in renders?

Two distances for each joint, medians as shares of the person's extent: from where the figure has it, and from where training tells it
(`Joints.body`). The last column is what is left to move it by, in metres of an adult: the least squares of all readings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from annotators.poses.skeleton import CONFIDENCE, KEYPOINTS
from controlnext.starter.remake.gaps import readings
from controlnext.starter.scenes.joints import Joints
from controlnext.starter.scenes.shards import make_example

SAME = 0.15
"""A reading is of the person where the median distance of its joints is at most this share of the person's extent."""


class JointReading(NamedTuple):
    """One joint in one render, in shares of the person's extent.

    `drawn` and `told` are the distances from the figure's joint and from where training tells it; `left` (2,) is the way from there to the
    reading, and `slopes` (2, 3) what a metre of an adult along each axis of the part of the body would move it by.
    """

    drawn: float
    told: float
    slopes: np.ndarray
    left: np.ndarray


def turn_of(joints: Joints, name: str) -> tuple[np.ndarray, float]:
    """Return the rotation and the size of the part of the body that a joint belongs to."""
    if name in ("nose", "right_eye", "left_eye", "right_ear", "left_ear"):
        return joints.turns["head"], joints.unit
    upper = name == "neck" or name.endswith("shoulder")
    return joints.turns["chest" if upper else "hips"], joints.height


def measure(seeds: Iterable[int]) -> dict[str, list[JointReading]]:
    """Read the renders of scenes of one person that are not mirrored; return by joint both distances and the equations of its offset."""
    rows: dict[str, list[JointReading]] = {name: [] for name in KEYPOINTS}
    for seed in seeds:
        example = make_example(2 * seed)  # odd ones are mirrored
        picture = Image.fromarray(example.view.rgb)
        found = readings(picture, "mediapipe") if len(example.shot.people) == 1 else []
        if len(found) != 1:
            continue
        told, read, joints = example.view.people[0], found[0], example.shot.joints()[0]
        both = (told[:, 2] > 0) & (read[:, 2] >= CONFIDENCE)
        extent = float(np.ptp(told[told[:, 2] > 0, :2], axis=0).max()) if both.any() else 0.0
        if extent == 0 or np.median(np.hypot(*(read - told)[both, :2].T)) > SAME * extent:
            continue
        for index, name in enumerate(KEYPOINTS):
            if told[index, 2] < 1 or not both[index]:
                continue
            turn, size = turn_of(joints, name)
            body = joints.body()[index]
            points = np.stack([joints.points[name], body, *(body + 0.01 * size * turn.T)])
            at = example.shot.lens.project(points, *example.shot.size)[:, :2] / extent
            target = read[index, :2] / extent
            slopes = (at[2:] - at[1]).T / 0.01
            drawn, kept = (float(np.hypot(*(target - place))) for place in at[:2])
            rows[name].append(JointReading(drawn, kept, slopes, target - at[1]))
    return rows


def remaining(rows: Sequence[JointReading]) -> np.ndarray:
    """Return the (3,) offset that best explains what is left, in metres of an adult: to the left, up and front of the part."""
    slopes, left = np.concatenate([row.slopes for row in rows]), np.concatenate([row.left for row in rows])
    return np.linalg.lstsq(slopes, left, rcond=None)[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m controlnext.starter.remake.offsets", description=__doc__)
    parser.add_argument("--scenes", type=int, default=400, help="scenes to render (default: %(default)s)")
    for name, rows in measure(range(parser.parse_args(arguments).scenes)).items():
        if len(rows) >= 3:
            drawn, told = (np.median(values) for values in ([row.drawn for row in rows], [row.told for row in rows]))
            offset = " ".join(f"{value:+.3f}" for value in remaining(rows))
            print(f"{name:15} {len(rows):4} readings: {drawn:.3f} from the joint, {told:.3f} as told, left {offset}")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
