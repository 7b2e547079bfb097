"""Recorded poses become a pose sequence: drags as they were, and eased moves between the poses that were held."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from controlnext.video.ffmpeg import VideoError
from controlnext.video.poses import Poses, visible

FPS = 12.0
HOLD = 0.25
"""Seconds that a key pose is held."""

MOVE = 0.75
"""Seconds of the move from one key pose to the next."""

PAUSE = 0.4
"""Seconds between two moments from which the second is a new key pose and no part of a drag."""

MOST_MOMENTS = 600
"""Poses of a recording; at the rate of a drag that is about a minute."""

Moment = tuple[float, np.ndarray]
"""Time in seconds, and everyone then: (people, 128, 3)."""


def pose_sequence(
    moments: Sequence[Moment], height: int, width: int, own: np.ndarray | None = None, fps: float = FPS
) -> Poses:
    """Turn recorded moments into poses at an even rate.

    Moments that follow each other within `PAUSE` are a drag, whose tempo is kept. After a longer pause the pose before it is
    held for `HOLD` and then eased into the next for `MOVE`, however long the pause was.

    Args:
        moments: in the order of time; people are taken by their place, as many as all moments have.
        height: of the canvas, in pixels.
        width: same.
        own: (128, 3) pose to begin in, in pixels of the canvas, such as that of the character; None begins in the first moment.
        fps: frames a second of the sequence.

    Raises:
        VideoError: there is nothing that moves.
    """
    people = min((len(pose) for _, pose in moments), default=0)
    keys = [(time, np.asarray(pose, np.float64)[:people]) for time, pose in moments]
    if own is not None and people:
        first = np.concatenate([own[None], keys[0][1][1:]])  # the others wait in their first pose
        keys.insert(0, (keys[0][0] - MOVE, first))
    if len(keys) < 2 or not people:
        raise VideoError("A recording needs at least two poses: record, move a joint, and move it again.")
    times, eased = [HOLD], [False]
    for (before, _), (after, _) in itertools.pairwise(keys):
        paused = after - before >= PAUSE
        times.append(times[-1] + (HOLD + MOVE if paused else max(after - before, 0.0)))
        eased.append(paused)
    frames = [_between(keys, times, eased, index / fps) for index in range(round((times[-1] + HOLD) * fps) + 1)]
    return Poses(tuple(frames), height, width, fps, smoothed=True)


def ease(part: float) -> float:
    """Return how far a move is after a part of its time: slow at both ends, 0 to 1."""
    part = min(max(part, 0.0), 1.0)
    return part * part * (3 - 2 * part)


def _between(keys: Sequence[Moment], times: Sequence[float], eased: Sequence[bool], now: float) -> np.ndarray:
    """Return everyone at a time of the sequence."""
    after = next((index for index, time in enumerate(times) if time > now), len(times))
    if after in (0, len(times)):
        return keys[min(after, len(keys) - 1)][1]
    begun = times[after - 1] + (HOLD if eased[after] else 0.0)
    part = (now - begun) / max(times[after] - begun, 1e-9)
    return _mixed(keys[after - 1][1], keys[after][1], ease(part) if eased[after] else min(max(part, 0.0), 1.0))


def _mixed(first: np.ndarray, second: np.ndarray, part: float) -> np.ndarray:
    """Mix two poses (people, 128, 3); a point that only one of them shows is taken from that one, in its half of the way."""
    mixed = (1 - part) * first + part * second
    one = visible(first) != visible(second)
    mixed[one] = (first if part < 0.5 else second)[one]
    return mixed
