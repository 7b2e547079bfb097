"""Poses that the editor starts with: what a reader found, what a drawing shows, what a file holds, or a standing figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlnext.recipes.pose import MOST_CHARACTERS, MOST_PEOPLE, PoseError, check_pose
from controlnext.ui.pose_editor.component import read_part

if TYPE_CHECKING:
    from controlnext.studio.protocols import Annotators

CONFIDENCE = 0.3
"""Confidence from which a joint is shown, where the annotator has no setting for it."""

FILLED = 0.8
"""Share of the picture that the standing figure fills."""

LARGEST_FILE = 4 * MOST_CHARACTERS
"""Bytes of a file of poses; other programs write them indented."""


def editable_pose(annotators: Annotators, data: Mapping[str, Any], confidence: float = CONFIDENCE) -> str:
    """Return the value of the editor for the data of a pose annotation.

    Args:
        annotators: the studio's.
        data: `people`, `hands` and `faces` of (x, y, confidence), `height` and `width` in pixels.
        confidence: joints from here on are shown, fully; the others are kept hidden.

    Raises:
        PoseError: it has nobody, or is too large.
    """
    size = int(data["width"]), int(data["height"])
    people = list(data["people"])[:MOST_PEOPLE]
    hands = list(data.get("hands") or [[None, None]] * len(people))
    faces = list(data.get("faces") or [None] * len(people))
    shown = {
        "people": [_shown(body, size, confidence) for body in people],
        "hands": [[_shown(hand, size, confidence) for hand in pair] for pair in hands[: len(people)]],
        "faces": [_shown(face, size, confidence) for face in faces[: len(people)]],
        "width": size[0],
        "height": size[1],
    }
    return check_pose(annotators.people_to_json(shown))


def standing_pose(annotators: Annotators, width: int, height: int) -> str:
    """Return a pose with one standing figure in a picture of `width` and `height` pixels."""
    points = json.loads(read_part("presets.json"))["Standing"]
    wide, tall = (max(row) - min(row) for row in zip(*points, strict=True))
    scale = FILLED * min(height / tall, width / wide)
    body = [[width / 2 + scale * x, height / 2 + scale * y, 1.0] for x, y in points]
    return editable_pose(annotators, {"people": [body], "width": width, "height": height})


def pose_of_file(annotators: Annotators, path: str, size: tuple[int, int]) -> str:
    """Read OpenPose JSON of any program.

    Args:
        annotators: the studio's.
        path: of the uploaded file.
        size: width and height in pixels, where the file does not say them.

    Raises:
        PoseError, AnnotatorError: it holds no pose that can be edited.
    """
    content = Path(path).read_bytes()[: LARGEST_FILE + 1]
    if len(content) > LARGEST_FILE:
        raise PoseError(f"A file with a pose has at most {LARGEST_FILE:,} bytes; this one is larger.")
    record = json.loads(content) if _is_object(content) else content
    if isinstance(record, dict):
        width, height = size
        record = {"canvas_width": width, "canvas_height": height, **record}
    return editable_pose(annotators, annotators.people_from_json(record))


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _shown(points: Sequence[Sequence[float]] | None, size: tuple[int, int], confidence: float) -> list | None:
    if points is None:
        return None
    width, height = size
    rows = [(round(float(x), 3), round(float(y), 3), float(sure)) for x, y, sure in points]
    return [
        [x, y, float(sure >= confidence and sure > 0 and 0 <= x < width and 0 <= y < height)] for x, y, sure in rows
    ]
