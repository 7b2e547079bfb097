"""Poses over time: arrays of everyone in every frame, and their JSON format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controlnext.adherence.skeletons import VISIBLE
from controlnext.video.ffmpeg import MAX_PIXELS, VideoError

POINTS = 128
"""Points of a person: 18 of the body, 21 of each hand, 68 of the face; a point that was not read has confidence 0."""

BODY = slice(0, 18)
LEFT_HAND = slice(18, 39)
RIGHT_HAND = slice(39, 60)
FACE = slice(60, 128)

FORMAT = "controlnext-poses"
VERSION = 1
_FIELDS = {
    "pose_keypoints_2d": BODY,
    "hand_left_keypoints_2d": LEFT_HAND,
    "hand_right_keypoints_2d": RIGHT_HAND,
    "face_keypoints_2d": FACE,
}
_MOST_FRAMES = 100_000
_MOST_PEOPLE = 64


@dataclass(frozen=True)
class Poses:
    """Everyone in every frame.

    Attributes:
        frames: one array (people, 128, 3) a frame: x, y in pixels and confidence in [0, 1].
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        fps: frames a second.
        start: time of the first frame in its clip, in seconds.
        note: a sentence about the reading, or empty.
        smoothed: whether jitter was already removed; twice would shrink moves.
    """

    frames: tuple[np.ndarray, ...]
    height: int
    width: int
    fps: float
    start: float = 0.0
    note: str = ""
    smoothed: bool = False

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    def data(self, index: int) -> dict[str, Any]:
        """Return a frame as the `data` of a pose annotation, ready to be drawn."""
        people = self.frames[index]

        def listed(part: slice) -> list[list[list[float]] | None]:
            return [_points(person[part]) for person in people]

        return {
            "people": [np.round(person[BODY], 3).tolist() for person in people],
            "hands": [list(pair) for pair in zip(listed(LEFT_HAND), listed(RIGHT_HAND), strict=True)],
            "faces": listed(FACE),
            "height": self.height,
            "width": self.width,
        }

    def to_json(self) -> str:
        """Write as JSON; each frame holds its people in OpenPose's own fields."""
        frames = [{"people": [_row(person) for person in people]} for people in self.frames]
        record = {
            "format": FORMAT,
            "version": VERSION,
            "height": self.height,
            "width": self.width,
            "fps": self.fps,
            "start": self.start,
            "note": self.note,
            "smoothed": self.smoothed,
            "frames": frames,
        }
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Poses:
        """Read what `to_json` wrote.

        Raises:
            VideoError: it is something else, or damaged.
        """
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise VideoError(f"This is not a pose sequence: it is not valid JSON ({error}).") from None
        if not isinstance(record, Mapping) or record.get("format") != FORMAT or record.get("version") != VERSION:
            raise VideoError(
                f'This is not a pose sequence of this program: its JSON says "format": "{FORMAT}", "version": {VERSION}.'
            )
        try:
            frames = record["frames"]
            if not 0 < len(frames) <= _MOST_FRAMES or any(len(frame["people"]) > _MOST_PEOPLE for frame in frames):
                raise ValueError(f"it has {len(frames):,} frames, or a frame with more than {_MOST_PEOPLE} people")
            people = tuple(_stacked([_person(row) for row in frame["people"]]) for frame in frames)
            made = cls(
                people,
                int(record["height"]),
                int(record["width"]),
                float(record["fps"]),
                float(record.get("start", 0.0)),
                str(record.get("note", "")),
                record.get("smoothed") is True,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise VideoError(f"This pose sequence is damaged: {error}; save it again.") from None
        shaped = made.height > 0 and made.width > 0 and made.height * made.width <= MAX_PIXELS  # as of decoded frames
        if not (shaped and 0 < made.fps <= 1000 and made.start >= 0):
            raise VideoError(
                f"This pose sequence has {made.fps:g} frames a second of {made.width}×{made.height}, and at most 1000 of "
                f"{MAX_PIXELS // 1_000_000} million pixels are read: save it again, smaller."
            )
        return made


def people_array(data: Mapping[str, Any]) -> np.ndarray:
    """Turn the `data` of a pose annotation into an array.

    Args:
        data: `people` (18 points each), and where they were read `hands` and `faces`.

    Returns:
        (people, 128, 3) float64; what is not finite counts as not read.
    """
    bodies = data["people"]
    hands = data.get("hands") or [(None, None)] * len(bodies)
    faces = data.get("faces") or [None] * len(bodies)
    people = []
    for body, (left, right), face in zip(bodies, hands, faces, strict=True):
        person = np.zeros((POINTS, 3))
        for part, given in ((BODY, body), (LEFT_HAND, left), (RIGHT_HAND, right), (FACE, face)):
            if given is not None:
                points = np.asarray(given, np.float64)[: part.stop - part.start]  # a face may have its pupils, too
                person[part.start : part.start + len(points)] = points
        person[~np.isfinite(person).all(axis=1)] = 0.0
        people.append(person)
    return _stacked(people)


def person_of_pose(text: str, height: int, width: int) -> np.ndarray:
    """Read the first person of a checked pose, placed in frames of another size.

    Args:
        text: OpenPose JSON with `canvas_width` and `canvas_height`.
        height: of the frames, in pixels.
        width: same.

    Returns:
        (128, 3) points in pixels of the frames.
    """
    pose = json.loads(text)
    row = pose["people"][0]
    faces = (row.get("face_keypoints_2d") or [])[: 3 * (FACE.stop - FACE.start)]  # it may have its pupils, too
    person = _person({**row, "face_keypoints_2d": faces})
    return person * (width / pose["canvas_width"], height / pose["canvas_height"], 1.0)


def visible(points: np.ndarray) -> np.ndarray:
    """Return which points (..., 3) have enough confidence to be shown, (...) bool."""
    return points[..., 2] >= VISIBLE


def _stacked(people: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(people) if people else np.zeros((0, POINTS, 3))


def _points(part: np.ndarray) -> list[list[float]] | None:
    return np.round(part, 3).tolist() if part[:, 2].any() else None


def _row(person: np.ndarray) -> dict[str, list[float]]:
    parts = {field: person[part] for field, part in _FIELDS.items()}
    return {
        field: np.round(part, 3).reshape(-1).tolist() if field == "pose_keypoints_2d" or part[:, 2].any() else []
        for field, part in parts.items()
    }


def _person(row: Mapping[str, Sequence[float]]) -> np.ndarray:
    person = np.zeros((POINTS, 3))
    for field, part in _FIELDS.items():
        values = row.get(field) or []
        if values:
            person[part] = np.asarray(values, np.float64).reshape(part.stop - part.start, 3)
    if not np.isfinite(person).all():
        raise ValueError("a point is not a finite number")
    return person
