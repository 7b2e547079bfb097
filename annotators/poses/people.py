"""People as data: 18 body points each, optional hands and faces, and OpenPose's JSON format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from annotators.base import AnnotatorError

BODY_POINTS = 18
HAND_POINTS = 21

_FROM_BODY_25 = (*range(8), *range(9, 19))  # OpenPose BODY_25 has the middle of the hips at 8, and feet at the end
_JSON_VERSION = 1.3  # of OpenPose's output format
_LIMIT = 64  # people in one file; more is not a pose


@dataclass(frozen=True)
class Person:
    """One person; every array has the columns x, y in pixels and confidence in [0, 1].

    Attributes:
        body: (18, 3), OpenPose-18 order (`skeleton.KEYPOINTS`).
        left_hand: (21, 3), or None where none was read. Left is the person's left.
        right_hand: (21, 3), or None.
        face: (n, 3), or None; n is 68 or 70 in the usual order.
    """

    body: np.ndarray
    left_hand: np.ndarray | None = None
    right_hand: np.ndarray | None = None
    face: np.ndarray | None = None

    def parts(self) -> tuple[np.ndarray, ...]:
        """Return the arrays there are."""
        return tuple(part for part in (self.body, self.left_hand, self.right_hand, self.face) if part is not None)


@dataclass(frozen=True)
class People:
    """The people of one picture, most prominent first, and its size in pixels."""

    persons: tuple[Person, ...]
    height: int
    width: int

    def to_data(self) -> dict[str, Any]:
        """Return plain lists: `people` (body points), `hands` ([left, right] a person), `faces`, `height`, `width`."""
        return {
            "people": [_listed(person.body) for person in self.persons],
            "hands": [[_listed(person.left_hand), _listed(person.right_hand)] for person in self.persons],
            "faces": [_listed(person.face) for person in self.persons],
            "height": self.height,
            "width": self.width,
        }

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> People:
        """Read what `to_data` wrote; `hands` and `faces` may be missing.

        Raises:
            AnnotatorError: the data is not of that form.
        """
        try:
            bodies = [_required(body, BODY_POINTS) for body in data["people"]]
            pairs = data.get("hands") or [[None, None]] * len(bodies)
            hands = [(_points(left, HAND_POINTS), _points(right, HAND_POINTS)) for left, right in pairs]
            faces = [_points(face) for face in data.get("faces") or [None] * len(bodies)]
            persons = [Person(body, *pair, face) for body, pair, face in zip(bodies, hands, faces, strict=True)]
            return People(tuple(persons), int(data["height"]), int(data["width"]))
        except (KeyError, TypeError, ValueError) as error:
            raise AnnotatorError(
                "A pose is data with people (18 points of x, y and confidence each), height and width; "
                f"this one cannot be read: {error}."
            ) from error

    def scaled(self, height: int, width: int) -> People:
        """Return the same people in a picture of another size."""
        factors = np.array([width / self.width, height / self.height, 1.0])
        persons = tuple(
            replace(person, **{name: part * factors for name, part in vars(person).items() if part is not None})
            for person in self.persons
        )
        return People(persons, height, width)


def people_to_json(data: Mapping[str, Any]) -> str:
    """Write a pose as OpenPose JSON, with the canvas size that ControlNet editors add.

    Args:
        data: the `data` of a pose annotation.
    """
    people = People.from_data(data)
    rows = [
        {
            "pose_keypoints_2d": _flat(person.body),
            "face_keypoints_2d": _flat(person.face),
            "hand_left_keypoints_2d": _flat(person.left_hand),
            "hand_right_keypoints_2d": _flat(person.right_hand),
        }
        for person in people.persons
    ]
    text = {"version": _JSON_VERSION, "people": rows, "canvas_width": people.width, "canvas_height": people.height}
    return json.dumps(text, separators=(",", ":"))


def people_from_json(
    text: str | bytes | Mapping[str, Any], *, height: int | None = None, width: int | None = None
) -> dict[str, Any]:
    """Read OpenPose JSON into the `data` of a pose annotation, ready for `draw_pose`.

    OpenPose's 18- and 25-point bodies are understood, in pixels or as fractions of the canvas; so is a list with one
    such object, as pose editors write it.

    Args:
        text: JSON text, or the object it holds.
        height: canvas height in pixels, where the file does not say it.
        width: canvas width in pixels, where the file does not say it.

    Raises:
        AnnotatorError: it is not OpenPose JSON, or nobody knows the size of its canvas.
    """
    record = _parsed(text)
    height, width = _canvas(record, height, width)
    rows = record.get("people")
    if not isinstance(rows, list) or len(rows) > _LIMIT:
        raise AnnotatorError(
            f'OpenPose JSON holds a list of at most {_LIMIT} people under "people"; this file does not.'
        )
    try:
        persons = [_read_person(row) for row in rows]
    except (TypeError, ValueError, AttributeError) as error:
        raise AnnotatorError(f"The keypoints in this OpenPose JSON cannot be read: {error}.") from error
    people = People(tuple(persons), height, width)
    shown = [part[part[:, 2] > 0, :2] for person in persons for part in person.parts()]
    if any(len(part) for part in shown) and all((np.abs(part) <= 1).all() for part in shown):
        people = People(people.persons, 1, 1).scaled(height, width)
    return people.to_data()


def _parsed(text: str | bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    record = text
    if isinstance(text, str | bytes):
        try:
            record = json.loads(text)
        except ValueError as error:
            raise AnnotatorError(f"This is not JSON: {error}.") from error
    if isinstance(record, list) and len(record) == 1:
        record = record[0]
    if not isinstance(record, Mapping):
        raise AnnotatorError('OpenPose JSON is an object with "people" in it; this file holds something else.')
    return record


def _canvas(record: Mapping[str, Any], height: int | None, width: int | None) -> tuple[int, int]:
    sizes = []
    for name, given in (("canvas_height", height), ("canvas_width", width)):
        size = record.get(name, given)
        if isinstance(size, bool) or not isinstance(size, int | float) or not 1 <= size <= 16384:
            raise AnnotatorError(f'This OpenPose JSON does not say how large its picture is: add "{name}" in pixels.')
        sizes.append(int(size))
    return sizes[0], sizes[1]


def _read_person(row: Mapping[str, Any]) -> Person:
    body = _triples(row.get("pose_keypoints_2d"))
    if body is not None and len(body) == 25:
        body = body[list(_FROM_BODY_25)]
    if body is None or len(body) != BODY_POINTS:
        raise ValueError(f"a body has 18 or 25 points, not {0 if body is None else len(body)}")
    hands = [_triples(row.get(f"hand_{side}_keypoints_2d")) for side in ("left", "right")]
    for hand in hands:
        if hand is not None and len(hand) != HAND_POINTS:
            raise ValueError(f"a hand has {HAND_POINTS} points, not {len(hand)}")
    return Person(body, hands[0], hands[1], _triples(row.get("face_keypoints_2d")))


def _triples(values: Sequence[float] | None) -> np.ndarray | None:
    if values is None or len(values) == 0:
        return None
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) % 3:
        raise ValueError(f"keypoints are x, y and confidence in one list, not {array.shape}")
    return np.nan_to_num(array.reshape(-1, 3), nan=0.0, posinf=0.0, neginf=0.0)


def _points(values: object, count: int | None = None) -> np.ndarray | None:
    return None if values is None else _required(values, count)


def _required(values: object, count: int | None = None) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or (count is not None and len(array) != count):
        raise ValueError(f"points have the shape ({count or 'n'}, 3), not {array.shape}")
    return array


def _listed(array: np.ndarray | None) -> list[list[float]] | None:
    return None if array is None else np.round(np.asarray(array, np.float64), 3).tolist()


def _flat(array: np.ndarray | None) -> list[float]:
    return [] if array is None else np.round(np.asarray(array, np.float64), 3).reshape(-1).tolist()
