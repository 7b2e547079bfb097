"""Tracking: people of single frames become tracks through the clip, and one track is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from controlnext.errors import ControlNeXtError
from controlnext.video.poses import BODY, POINTS, Poses, visible

NOBODY = (
    "Nobody was found in this part of the clip: choose one that shows head and shoulders clearly and not too small, "
    "or another part of it."
)

# Distances are in sizes of the figure, so that they mean the same near and far, at 64 pixels and at 4K.
_REACH = 0.6  # from where a person is expected; a dancer seen 8 times a second moves 0.3 between frames
_REACH_GROWS = 0.5  # a second that the person was not seen
_REACH_MOST = 1.5
_RESIZED = 0.5  # weight of the change in size, as a natural logarithm: a child is not its mother
_REMEMBERED = 1.0  # seconds that an unseen person is expected to move on; after that `_rejoin` decides
_FEWEST_POINTS = 4
_NEWEST = 0.3  # weight of the newest step in the speed: a few frames of a wrong guess do not turn it round
_COAST = 0.5  # seconds that a speed is trusted
_JOIN_MOST = 0.8  # cost up to which one who comes is one who has left
_JOIN_ALONE = 1.5  # the same where nobody else could be meant
_JOIN_SIZE, _JOIN_PLACE, _JOIN_FORGETS = 1.5, 0.3, 2.0  # weights of size and place; seconds in which the place fades
_SHORTEST = 0.25  # seconds that a person is seen at least
_NECK, _HIPS = 1, (8, 11)


class TrackError(ControlNeXtError, ValueError):
    """The clip shows nobody, or not the requested person; the text is one sentence."""


@dataclass(frozen=True)
class Track:
    """One person through all frames.

    Attributes:
        points: (frames, 128, 3) x, y in pixels and confidence; confidence 0 where nothing is known.
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        fps: frames a second.
        start: time of the first frame in its clip, in seconds.
        confidence: (frames,) mean confidence of the body as it was read, 0 where the person was not seen; what is filled in
            later does not change it, so that people see what was guessed.
    """

    points: np.ndarray
    height: int
    width: int
    fps: float
    start: float = 0.0
    confidence: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def shown(self) -> np.ndarray:
        """Frames (frames,) bool in which at least one point of the body is sure enough to be drawn."""
        return visible(self.points[:, BODY]).any(axis=1)

    @property
    def prominence(self) -> float:
        """Prominence of the person: sum of heights over all frames, as a share of the frames' size."""
        heights = [_extent(points) for points in self.points[self.shown]]
        return float(sum(heights) / (max(self.height, self.width) * len(self.points)))

    def poses(self) -> Poses:
        """Return the person alone as poses; frames without it are empty."""
        frames = tuple(
            points[None] if shown else points[None][:0] for points, shown in zip(self.points, self.shown, strict=True)
        )
        return Poses(frames, self.height, self.width, self.fps, self.start)


@dataclass
class _Trail:
    """A person on the way through the frames."""

    seen: dict[int, np.ndarray] = field(default_factory=dict)  # frame -> (128, 3)
    speed: np.ndarray = field(default_factory=lambda: np.zeros(2))  # pixels a frame

    @property
    def first(self) -> int:
        return min(self.seen)

    @property
    def last(self) -> int:
        return max(self.seen)

    def add(self, frame: int, points: np.ndarray) -> None:
        if self.seen:
            step = _shift(self.seen[self.last], points) / (frame - self.last)
            weight = 1.0 if len(self.seen) == 1 else _NEWEST
            self.speed = self.speed + weight * (step - self.speed)
        self.seen[frame] = points

    def expected(self, frame: int, fps: float) -> np.ndarray:
        points = self.seen[self.last].copy()
        points[:, :2] += self.speed * min(frame - self.last, max(1.0, _COAST * fps))
        return points


def find_tracks(poses: Poses) -> list[Track]:
    """Follow every person through the frames.

    In each frame people are given to those followed so far by the least total distance from where each is expected (the
    Hungarian method); so two people who cross keep their identities. One who was out of sight for longer joins the one who left if size
    and place allow it.

    Args:
        poses: everyone in every frame.

    Returns:
        Persons, the most prominent first; each with as many frames as `poses`. One who is seen for a moment only, as a tree
        is in a single frame, is left out where somebody else stays.

    Raises:
        TrackError: there is nobody in any frame.
    """
    trails: list[_Trail] = []
    for frame, people in enumerate(poses.frames):
        found = [points for points in people if visible(points[BODY]).sum() >= _FEWEST_POINTS]
        present = [trail for trail in trails if frame - trail.last <= max(1.0, _REMEMBERED * poses.fps)]
        costs = np.array([[_cost(trail, points, frame, poses.fps) for points in found] for trail in present])
        pairs = _assign(costs.reshape(len(present), len(found)), 1.0)
        for row, column in pairs:
            present[row].add(frame, found[column])
        taken = {column for _, column in pairs}
        for column, points in enumerate(found):
            if column not in taken:
                trails.append(_Trail())
                trails[-1].add(frame, points)
    if not trails:
        raise TrackError(NOBODY)
    joined = _rejoin(trails, poses.fps)
    least = min(len(poses), max(2, round(_SHORTEST * poses.fps)))
    lasting = [trail for trail in joined if len(trail.seen) >= least] or joined
    return sorted((_track(trail, poses) for trail in lasting), key=lambda track: -track.prominence)


def choose_person(tracks: Sequence[Track], person: int = 0) -> Track:
    """Return a person by index; 0 is the most prominent.

    Raises:
        TrackError: there is no such person.
    """
    if not tracks:
        raise TrackError(NOBODY)
    if not 0 <= person < len(tracks):
        who = "one person" if len(tracks) == 1 else f"{len(tracks)} people"
        raise TrackError(
            f"This clip shows {who}: there is no person {person + 1} (person={person} in a program, where counting starts at 0)."
        )
    return tracks[person]


def _cost(trail: _Trail, points: np.ndarray, frame: int, fps: float) -> float:
    """Cost of assigning these points to the trail; 1 and more is impossible."""
    expected = trail.expected(frame, fps)
    one, other = _extent(expected), _extent(points)
    unseen = (frame - trail.last - 1) / fps
    reach = min(_REACH + _REACH_GROWS * unseen, _REACH_MOST)
    far = np.linalg.norm(_differences(expected, points), axis=1).mean() / max(one, other)
    return float(far / reach + _RESIZED * abs(np.log(one / other)) * min(1.0, _common(expected, points) / 8))


def _assign(costs: np.ndarray, most: float) -> list[tuple[int, int]]:
    """Pair rows and columns by the least total cost, each at most once, no pair at `most` or above."""
    if not costs.size:
        return []
    capped = np.minimum(costs, most)
    try:
        from scipy.optimize import linear_sum_assignment

        pairs = list(zip(*linear_sum_assignment(capped), strict=True))
    except ImportError:  # scipy comes with other packages and may be missing
        pairs = _greedy(capped)
    return [(int(row), int(column)) for row, column in pairs if costs[row, column] < most]


def _greedy(costs: np.ndarray) -> list[tuple[int, int]]:
    free, pairs = costs.astype(float).copy(), []
    for _ in range(min(costs.shape)):
        row, column = np.unravel_index(np.argmin(free), free.shape)
        pairs.append((int(row), int(column)))
        free[row, :] = free[:, column] = np.inf
    return pairs


def _rejoin(trails: list[_Trail], fps: float) -> list[_Trail]:
    """Join one who comes with one who has left, where size and place allow it."""
    trails = sorted(trails, key=lambda trail: trail.first)
    costs = np.array([[_join_cost(before, after, trails, fps) for after in trails] for before in trails])
    heirs = dict(_assign(costs, 1.0))
    joined, used = [], set()
    for start in range(len(trails)):
        if start in used:
            continue
        whole, at = _Trail(dict(trails[start].seen)), start
        while (at := heirs.get(at)) is not None:
            used.add(at)
            whole.seen.update(trails[at].seen)
        joined.append(whole)
    return joined


def _join_cost(before: _Trail, after: _Trail, trails: Sequence[_Trail], fps: float) -> float:
    if before.last >= after.first:
        return np.inf
    one, other = before.seen[before.last], after.seen[after.first]
    seconds = (after.first - before.last) / fps
    size = abs(np.log(_size(before, end=True) / _size(after, end=False)))
    place = np.hypot(*_shift(one, other)) / max(_extent(one), _extent(other))
    alone = not any(trail.first < after.first and trail.last > before.last for trail in trails if trail is not before)
    most = _JOIN_ALONE if alone else _JOIN_MOST
    return float((_JOIN_SIZE * size + _JOIN_PLACE * min(place, 3.0) * np.exp(-seconds / _JOIN_FORGETS)) / most)


def _size(trail: _Trail, *, end: bool) -> float:
    """Size of a person where the trail ends or begins: neck to hips, which bends least, else the whole figure."""
    frames = sorted(trail.seen)
    sizes = []
    for points in (trail.seen[frame] for frame in (frames[-5:] if end else frames[:5])):
        whole = visible(points[[_NECK, *_HIPS]]).all()
        torso = np.hypot(*(points[_NECK, :2] - points[list(_HIPS), :2].mean(axis=0)))
        sizes.append(
            torso if whole and torso > 1e-6 else _extent(points) / 3
        )  # a standing figure is about three torsos
    return float(np.median(sizes))


def _extent(points: np.ndarray) -> float:
    """Diagonal of the box around the visible body, in pixels; at least 1."""
    places = points[BODY][visible(points[BODY]), :2]
    return max(1.0, float(np.hypot(*np.ptp(places, axis=0)))) if len(places) else 1.0


def _common(one: np.ndarray, other: np.ndarray) -> int:
    return int((visible(one[BODY]) & visible(other[BODY])).sum())


def _differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Way from the points of one to the other's (n, 2), over those both show; that of their middles if there are none."""
    both = visible(one[BODY]) & visible(other[BODY])
    if both.any():
        return other[BODY][both, :2] - one[BODY][both, :2]
    middles = [points[BODY][visible(points[BODY]), :2].mean(axis=0) for points in (one, other)]
    return (middles[1] - middles[0])[None]


def _shift(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.median(_differences(one, other), axis=0)


def _track(trail: _Trail, poses: Poses) -> Track:
    points = np.zeros((len(poses), POINTS, 3))
    for frame, seen in trail.seen.items():
        points[frame] = seen
    sure = np.where(visible(points[:, BODY]), points[:, BODY, 2], 0.0)
    return replace(
        Track(points, poses.height, poses.width, poses.fps, poses.start), confidence=np.clip(sure.mean(axis=1), 0, 1)
    )
