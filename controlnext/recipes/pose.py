"""Edited poses: OpenPose JSON that came from a browser or a file, checked before anything uses it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from controlnext.errors import ControlNeXtError, shorten

BODY_NUMBERS, HAND_NUMBERS = 3 * 18, 3 * 21
"""Numbers of a body and of a hand: x, y and confidence of each point."""

MOST_FACE_NUMBERS = 3 * 70
MOST_PEOPLE = 16
MOST_CHARACTERS = 60_000
SIDES = (16, 4096)
"""Range of a side of the canvas in pixels."""

FAR = 4
"""A hidden point lies at most so many sides of the canvas from its corner."""

PARTS = ("pose_keypoints_2d", "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d")


class PoseError(ControlNeXtError, ValueError):
    """A text that is not a pose that can be drawn."""


def check_pose(text: object, most: int = MOST_PEOPLE) -> str:
    """Return a pose as it is, if it is one.

    Args:
        text: OpenPose JSON as `people_to_json` writes it, with 18 points a body.
        most: people it may have.

    Raises:
        PoseError: not such JSON: a wrong count of people or numbers, a number that is not finite, or a shown point outside
            of the picture.
    """
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        raise PoseError(f"A pose is OpenPose JSON of at most {MOST_CHARACTERS:,} characters; got {shorten(text)}.")
    try:
        pose = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PoseError(f"This pose is not valid JSON: {shorten(str(error), 80)}.") from None
    if not isinstance(pose, Mapping) or not isinstance(pose.get("people"), list):
        raise PoseError('A pose is a JSON object with a list "people", "canvas_width" and "canvas_height".')
    width, height = (_side(pose, name) for name in ("canvas_width", "canvas_height"))
    people = pose["people"]
    if not 1 <= len(people) <= most:
        counts = "one person" if most == 1 else f"1 to {most} people"
        raise PoseError(f"A pose has {counts} here, not {len(people)}: add or delete figures.")
    for number, person in enumerate(people, start=1):
        if not isinstance(person, Mapping):
            raise PoseError(f"Person {number} of the pose is {shorten(person)}; a person is an object with keypoints.")
        for part in PARTS:
            _check_points(person.get(part) or [], part, number, width, height)
    return text


def pose_size(text: str) -> tuple[int, int]:
    """Return width and height of the canvas of a checked pose, in pixels."""
    pose = json.loads(text)
    return int(pose["canvas_width"]), int(pose["canvas_height"])


def _side(pose: Mapping[str, Any], name: str) -> int:
    side = pose.get(name)
    if isinstance(side, bool) or not isinstance(side, int) or not SIDES[0] <= side <= SIDES[1]:
        raise PoseError(f'"{name}" of a pose is a whole number from {SIDES[0]} to {SIDES[1]}, not {shorten(side)}.')
    return side


def _check_points(values: object, part: str, number: int, width: int, height: int) -> None:
    where = f"{part} of person {number}"
    if not isinstance(values, list) or not _counts_right(len(values), part):
        raise PoseError(f"{where} has a wrong count of numbers: 18 points of a body, 21 of a hand, 3 numbers each.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise PoseError(f"{where} holds {shorten(value)}, which is not a finite number.")
    for x, y, confidence in zip(values[::3], values[1::3], values[2::3], strict=True):
        if not 0 <= confidence <= 1:
            raise PoseError(f"{where} has the confidence {confidence:g}; it lies between 0 and 1.")
        if confidence > 0 and not (0 <= x < width and 0 <= y < height):
            raise PoseError(
                f"{where} shows a point at {x:g}, {y:g}, outside of the picture of {width}x{height}: move it inside or hide it."
            )
        if max(abs(x) / width, abs(y) / height) > FAR:
            raise PoseError(f"{where} has a point at {x:g}, {y:g}, far outside of the picture of {width}x{height}.")


def _counts_right(count: int, part: str) -> bool:
    if part == "pose_keypoints_2d":
        return count == BODY_NUMBERS
    if part == "face_keypoints_2d":
        return count % 3 == 0 and count <= MOST_FACE_NUMBERS
    return count in (0, HAND_NUMBERS)
