"""DWPose: whole-body pose (body, hands, face) by two ONNX models, when they have been fetched and onnxruntime is installed.

Source: IDEA-Research/DWPose `ControlNet-v1-1-nightly/annotator/dwpose` (pre- and post-processing, thresholds), the extractor
the released SVD adapters were trained with. Models: a YOLOX person detector and a pose model with 133 COCO-WholeBody points.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Protocol, cast

import numpy as np

from annotators.base import Availability
from annotators.poses.people import Person
from annotators.weights import hub
from annotators.weights.hub import WeightsRepo
from annotators.weights.loading import once

REPO = "yzd-v/DWPose"
MEGABYTES = 351
_FILES = WeightsRepo(REPO, ("yolox_l.onnx", "dw-ll_ucoco_384.onnx"), (), MEGABYTES, "dwpose")

_DETECTOR_SIDE = 640
_PERSON_SCORE = 0.3
_OVERLAP = 0.45
_POSE_SIZE = (288, 384)  # width, height
_BOX_GROWTH = 1.25
_SPLIT = 2.0  # the pose model places points on a grid of half pixels
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
_COCO_TO_18 = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)  # None: the neck, between the shoulders
_FACE, _LEFT_HAND, _RIGHT_HAND = slice(23, 91), slice(91, 112), slice(112, 133)


def check() -> Availability:
    """Return whether onnxruntime and the two models are available."""
    if importlib.util.find_spec("onnxruntime") is None:
        return Availability(usable=False, reason="The package onnxruntime is not installed: pip install onnxruntime.")
    return hub.check(_FILES)


def fetch() -> None:
    """Download the two models from the hub."""
    hub.fetch(_FILES)


def find_people(rgb: np.ndarray, limit: int) -> list[Person]:
    """Find up to `limit` people in a picture (H, W, 3) uint8, the surest first."""
    boxes = detect_people(_session("yolox_l.onnx"), rgb)[:limit]
    pose = _session("dw-ll_ucoco_384.onnx")
    return [to_person(read_points(pose, rgb, box)) for box in boxes]


class Session(Protocol):
    """A session of the optional package onnxruntime, as far as it is used."""

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run the model."""

    def get_inputs(self) -> list[Any]:
        """Return the inputs, each with a `name`."""


def _session(name: str) -> Session:
    def load() -> Session:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the same sums whatever the machine's load
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [provider for provider in wanted if provider in onnxruntime.get_available_providers()]
        session = onnxruntime.InferenceSession(str(hub.require(_FILES) / name), options, providers=providers)
        return cast(Session, session)

    return once(f"dwpose/{name}", load)


def _run(session: Session, batch: np.ndarray) -> list[np.ndarray]:
    return session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(batch, np.float32)})


def detect_people(session: Session, rgb: np.ndarray) -> np.ndarray:
    """Return the boxes (n, 4) of people: x0, y0, x1, y1 in pixels, the surest first."""
    import cv2

    height, width = rgb.shape[:2]
    scale = min(_DETECTOR_SIDE / height, _DETECTOR_SIDE / width)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    padded = np.full((_DETECTOR_SIDE, _DETECTOR_SIDE, 3), 114, np.float32)
    padded[: size[1], : size[0]] = cv2.resize(rgb[..., ::-1], size, interpolation=cv2.INTER_LINEAR)  # YOLOX reads BGR
    raw = _run(session, padded.transpose(2, 0, 1)[None])[0][0]
    cells, strides = _grid()
    centres = (raw[:, :2] + cells) * strides
    half = np.exp(raw[:, 2:4]) * strides / 2
    scores = raw[:, 4] * raw[:, 5]  # there is a thing, and it is a person (class 0)
    boxes = np.concatenate([centres - half, centres + half], axis=1) / scale
    kept = np.flatnonzero(scores > _PERSON_SCORE)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    return np.asarray(boxes[_without_doubles(boxes[kept], kept)])


def _grid() -> tuple[np.ndarray, np.ndarray]:
    cells, strides = [], []
    for stride in (8, 16, 32):
        side = _DETECTOR_SIDE // stride
        ys, xs = np.mgrid[0:side, 0:side]
        cells.append(np.stack([xs, ys], axis=-1).reshape(-1, 2))
        strides.append(np.full((side * side, 1), stride))
    return np.concatenate(cells), np.concatenate(strides)


def _without_doubles(boxes: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Drop boxes that overlap a surer one; returns the remaining indices in order."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    free, chosen = np.ones(len(boxes), bool), []
    for best in range(len(boxes)):
        if free[best]:
            chosen.append(indices[best])
            low, high = np.maximum(boxes[best, :2], boxes[:, :2]), np.minimum(boxes[best, 2:], boxes[:, 2:])
            inner = np.clip(high - low, 0, None).prod(axis=1)
            free &= inner / np.maximum(areas[best] + areas - inner, 1e-9) <= _OVERLAP
    return np.array(chosen, dtype=int)


def read_points(session: Session, rgb: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the 133 points (133, 3) of the person in a box: x, y in pixels and confidence."""
    import cv2

    centre, size = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * _BOX_GROWTH
    aspect = _POSE_SIZE[0] / _POSE_SIZE[1]
    size = np.array([max(size[0], size[1] * aspect), max(size[1], size[0] / aspect)])
    scale = _POSE_SIZE[0] / size[0]
    corner = centre - size / 2
    matrix = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
    crop = cv2.warpAffine(rgb, matrix, _POSE_SIZE, flags=cv2.INTER_LINEAR).astype(np.float32)
    xs, ys = _run(session, ((crop - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None])[:2]
    places = np.stack([xs[0].argmax(axis=1), ys[0].argmax(axis=1)], axis=1) / _SPLIT
    confidence = np.minimum(xs[0].max(axis=1), ys[0].max(axis=1))
    return np.concatenate([places / scale + corner, np.clip(confidence, 0, 1)[:, None]], axis=1)


def to_person(points: np.ndarray) -> Person:
    """Turn 133 COCO-WholeBody points (133, 3) into an OpenPose person; the neck is the middle of the shoulders."""
    left, right = points[5], points[6]
    neck = np.array([*((left[:2] + right[:2]) / 2), min(left[2], right[2])])
    body = np.array([neck if i is None else points[i] for i in _COCO_TO_18])
    return Person(body, points[_LEFT_HAND], points[_RIGHT_HAND], points[_FACE])
