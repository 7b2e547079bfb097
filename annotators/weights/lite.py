"""TensorFlow Lite models: a picture in, numpy arrays out."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import cv2
import numpy as np

from annotators.weights import fetch
from annotators.weights.loading import once


class LiteModel:
    """A model of MediaPipe's, run on one thread.

    More threads would gain little at these sizes and make the sums depend on the machine's load.
    """

    def __init__(self, name: str) -> None:
        """Load the model; `name` is a key of `fetch.FILES`."""
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(fetch.model_path(name)), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._outputs = {row["name"]: row["index"] for row in self._interpreter.get_output_details()}
        self._lock = threading.Lock()  # an interpreter holds one run's tensors
        self.size: int = int(self._input["shape"][1])

    def __call__(self, picture: np.ndarray) -> dict[str, np.ndarray]:
        """Run the model on a picture (size, size, 3) in its own value range; returns its outputs by name."""
        with self._lock:
            self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(picture[None], dtype=np.float32))
            self._interpreter.invoke()
            return {name: self._interpreter.get_tensor(index)[0].copy() for name, index in self._outputs.items()}


def model(name: str) -> LiteModel:
    """Return the model, loaded on first use."""
    return once(f"mediapipe/{name}", lambda: LiteModel(name))


@dataclass(frozen=True)
class Crop:
    """A square, turned piece of a picture.

    Attributes:
        x: centre in pixels of the picture.
        y: centre in pixels of the picture.
        size: side in pixels.
        turn: angle in radians by which the piece is turned clockwise.
    """

    x: float
    y: float
    size: float
    turn: float = 0.0

    @staticmethod
    def upright(start: tuple[float, float], end: tuple[float, float]) -> float:
        """Return the turn that makes the way from start to end point upwards in the crop."""
        angle = math.pi / 2 - math.atan2(start[1] - end[1], end[0] - start[0])
        return angle - 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))

    def scaled(self, factor: float, shift: float = 0.0) -> Crop:
        """Return the crop grown by a factor, moved down its own vertical by `shift` of its side before growing."""
        return Crop(
            self.x - self.size * shift * math.sin(self.turn),
            self.y + self.size * shift * math.cos(self.turn),
            self.size * factor,
            self.turn,
        )

    def matrix(self, side: int) -> np.ndarray:
        """Return the 2x3 matrix that takes places in the picture to places in the crop drawn `side` pixels wide."""
        scale = side / max(self.size, 1e-6)
        cos, sin = scale * math.cos(self.turn), scale * math.sin(self.turn)
        return np.array(
            [
                [cos, sin, side / 2 - cos * self.x - sin * self.y],
                [-sin, cos, side / 2 + sin * self.x - cos * self.y],
            ]
        )

    def take(self, rgb: np.ndarray, side: int, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
        """Cut the crop out as a picture (side, side, 3) uint8.

        A strong reduction is smoothed first, since the sampling itself looks at four pixels only.
        """
        matrix, reduction = self.matrix(side), int(self.size / side / 2)
        if reduction > 1:
            height, width = rgb.shape[:2]
            rgb = cv2.resize(
                rgb, (max(1, width // reduction), max(1, height // reduction)), interpolation=cv2.INTER_AREA
            )
            matrix = matrix @ np.diag([width / rgb.shape[1], height / rgb.shape[0], 1.0])
        return cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=border)

    def places(self, points: np.ndarray, side: int) -> np.ndarray:
        """Take places (n, 2) in the crop drawn `side` pixels wide back to the picture."""
        back = cv2.invertAffineTransform(self.matrix(side))
        return np.asarray(points @ back[:, :2].T + back[:, 2])

    def paste(self, mask: np.ndarray, height: int, width: int) -> np.ndarray:
        """Take a mask (side, side) float32 back to the picture; zero outside the crop."""
        back = cv2.invertAffineTransform(self.matrix(mask.shape[0]))
        return cv2.warpAffine(mask, back, (width, height), flags=cv2.INTER_LINEAR)


def whole(rgb: np.ndarray) -> Crop:
    """Return the square that holds the whole picture, centred."""
    height, width = rgb.shape[:2]
    return Crop(width / 2, height / 2, max(height, width))


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-values)) without overflow."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -80.0, 80.0))))


def anchors(side: int, cells: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Return the anchor centres of a detector, (n, 2) in [0, 1].

    Args:
        side: side of the detector's input in pixels.
        cells: (stride in pixels, anchors a cell) of each layer.
    """
    layers = []
    for stride, count in cells:
        grid = side // stride
        ys, xs = np.mgrid[0:grid, 0:grid]
        centres = (np.stack([xs, ys], axis=-1).reshape(-1, 2) + 0.5) / grid
        layers.append(np.repeat(centres, count, axis=0))
    return np.concatenate(layers)


@dataclass(frozen=True)
class Detection:
    """A detector's find: score in [0, 1], box (x0, y0, x1, y1) and alignment points (n, 2), in pixels of the picture."""

    score: float
    box: np.ndarray
    points: np.ndarray


def detect(name: str, rgb: np.ndarray, crop: Crop, centres: np.ndarray, threshold: float) -> list[Detection]:
    """Run one of MediaPipe's detectors on a crop of the picture; returns its finds, best first.

    Overlapping finds (IoU above 0.3) are averaged by score, as MediaPipe's weighted suppression does.
    """
    net = model(name)
    picture = crop.take(rgb, net.size, cv2.BORDER_CONSTANT)
    outputs = sorted(net(picture / 127.5 - 1.0).values(), key=lambda array: array.shape[-1])
    scores, raw = sigmoid(outputs[0][:, 0]), outputs[1]
    kept = np.flatnonzero(scores > threshold)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    if not len(kept):
        return []
    scores, values = scores[kept], raw[kept] / net.size
    centre, half = values[:, :2] + centres[kept], values[:, 2:4] / 2
    corners = np.stack([centre - half, centre + half], axis=1)
    points = np.concatenate([corners, values[:, 4:].reshape(len(kept), -1, 2) + centres[kept][:, None]], axis=1)
    finds, free = [], np.ones(len(kept), bool)
    for best in range(len(kept)):
        if not free[best]:
            continue
        group = free & (_overlap(corners[best], corners) > 0.3)
        group[best] = True
        free &= ~group
        mean = np.average(points[group], axis=0, weights=scores[group])
        placed = crop.places(mean * net.size, net.size)
        box = np.concatenate([placed[:2].min(axis=0), placed[:2].max(axis=0)])
        finds.append(Detection(float(scores[best]), box, placed[2:]))
    return finds


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (2, 2) with boxes (n, 2, 2), corners low and high."""
    inner = np.clip(np.minimum(box[1], boxes[:, 1]) - np.maximum(box[0], boxes[:, 0]), 0, None).prod(axis=1)
    areas = np.clip(boxes[:, 1] - boxes[:, 0], 0, None).prod(axis=1)
    area = np.clip(box[1] - box[0], 0, None).prod()
    return np.asarray(inner / np.maximum(area + areas - inner, 1e-9))
