"""MediaPipe's hands and face of a person whose body is known: the body locates them and two small models refine them.

Source: the graph `holistic_landmark_cpu` of google-ai-edge/mediapipe 0.10.21 (crops and thresholds); the choice of 68 face
points among the mesh's 468 follows the iBUG 68-point order.
"""

from __future__ import annotations

import numpy as np

from annotators.weights.lite import Crop, anchors, detect, model, sigmoid

_HANDS = {"left": (15, 17, 19), "right": (16, 18, 20)}  # wrist, little finger and index knuckle among the 33 landmarks
_WRIST_SEEN = 0.1
_HAND_PRESENT = 0.5
_FACE_PRESENT = 0.5
_FACE_POINTS_OF_BODY = 11  # the first landmarks: nose, eyes, ears, mouth
_EYES_OF_BODY = (5, 2)
_FACE_CENTRES = anchors(128, ((8, 2), (16, 6)))

FACE_68: tuple[int, ...] = (
    *(
        162,
        234,
        93,
        58,
        172,
        136,
        149,
        148,
        152,
        377,
        378,
        365,
        397,
        288,
        323,
        454,
        389,
    ),  # jaw, the person's right to left
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),  # brows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # lips outside
    *(78, 82, 13, 312, 308, 317, 14, 87),  # lips inside
)


def read_hand(rgb: np.ndarray, body: np.ndarray, side: str) -> np.ndarray | None:
    """Read a hand's 21 points.

    Args:
        rgb: picture (H, W, 3), uint8.
        body: (33, 3) landmarks of `blazepose`.
        side: `left` or `right`, the person's.

    Returns:
        (21, 3): x, y in pixels and the hand's confidence; or None where no hand is seen.
    """
    wrist, little, index = body[list(_HANDS[side])]
    if wrist[2] < _WRIST_SEEN:
        return None
    middle = (2 * index[:2] + little[:2]) / 3
    reach = 2 * float(np.hypot(*(middle - wrist[:2])))
    guess = Crop(float(middle[0]), float(middle[1]), reach, Crop.upright(tuple(wrist[:2]), tuple(middle))).scaled(
        2.7, -0.1
    )
    recrop = model("hand_recrop")
    points = recrop(guess.take(rgb, recrop.size) / 255.0)["output_crop"].reshape(2, 2)
    centre, end = guess.places(points, recrop.size)
    radius = float(np.hypot(*(end - centre)))
    crop = Crop(float(centre[0]), float(centre[1]), 2 * radius, Crop.upright(tuple(end), tuple(centre))).scaled(
        1.0, -0.1
    )
    net = model("hand_landmark_full")
    outputs = net(crop.take(rgb, net.size) / 255.0)
    present = float(outputs["Identity_1"][0])
    if present < _HAND_PRESENT:
        return None
    places = crop.places(outputs["Identity"].reshape(21, 3)[:, :2], net.size)
    return np.concatenate([places, np.full((21, 1), present)], axis=1)


def read_face(rgb: np.ndarray, body: np.ndarray) -> np.ndarray | None:
    """Read a face's 68 points.

    Args:
        rgb: picture (H, W, 3), uint8.
        body: (33, 3) landmarks of `blazepose`.

    Returns:
        (68, 3): x, y in pixels and the face's confidence; or None where no face is seen.
    """
    head = body[:_FACE_POINTS_OF_BODY, :2]
    turn = _level(body[_EYES_OF_BODY[0], :2], body[_EYES_OF_BODY[1], :2])
    area = _around(head, turn).scaled(3.0)
    finds = detect("face_detection_short_range", rgb, area, _FACE_CENTRES, 0.5)
    if not finds:
        return None
    points = finds[0].points
    crop = _around(points, _level(points[0], points[1])).scaled(2.0, -0.1)
    net = model("face_landmark")
    outputs = net(crop.take(rgb, net.size) / 255.0)
    present = float(sigmoid(outputs["conv2d_31"]).reshape(-1)[0])
    if present < _FACE_PRESENT:
        return None
    mesh = outputs["conv2d_21"].reshape(-1, 3)[list(FACE_68), :2]
    return np.concatenate([crop.places(mesh, net.size), np.full((len(FACE_68), 1), present)], axis=1)


def _level(start: np.ndarray, end: np.ndarray) -> float:
    """Return the turn that makes the way from start to end point to the right in the crop."""
    return float(np.arctan2(end[1] - start[1], end[0] - start[0]))


def _around(points: np.ndarray, turn: float) -> Crop:
    """Return the square around points (n, 2), as MediaPipe lays it: bounds along the picture's own axes."""
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = (low + high) / 2
    return Crop(float(x), float(y), float((high - low).max()), turn)
