"""MediaPipe BlazePose: 33 landmarks and a mask for every person in a photo.

Source: the graphs `pose_landmark_cpu` and `holistic_landmark_cpu` of google-ai-edge/mediapipe 0.10.21 (constants, crops,
heatmap refinement). Deliberate differences: MediaPipe's pose solution returns one person; here a person found is painted
over and the detector runs again. A picture in which nobody is large can be searched in overlapping tiles of a pyramid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from annotators.poses.people_search import Candidate, extent, is_same_body, merged, tiles
from annotators.weights.lite import Crop, Detection, anchors, detect, model, sigmoid, whole

LANDMARKS = 33
_UPPER_BODY = 17  # the first landmarks: head, shoulders, elbows, wrists

_DETECTOR_SIDE = 224
_CENTRES = anchors(_DETECTOR_SIDE, ((8, 2), (16, 2), (32, 6)))
_FIRST_LOOK = 0.5  # MediaPipe's min_score_thresh
_NEXT_LOOK = 0.3  # people next to a painted-over person score lower; the landmark model then confirms or refuses
_PRESENT = 0.5  # the landmark model's own flag (MediaPipe's threshold)
_SURELY_PRESENT = (
    0.9  # the same where false finds are likelier: next to painted-over people, and in parts of the picture
)
_SEEN = 0.3  # mean confidence of the head and arms below which a find is no person
_SURELY_SEEN = 0.5
_SURELY_SHARP = 0.7  # share of a mask that is certain; a false find has fog for a mask
_SURELY_UPRIGHT = 2.0  # radians of turn; false finds lie and stand on their heads
_DUPLICATE = 0.4  # share of a find's mask that may be somebody else's
_CROP_GROWTH = 1.25
_HEATMAP_WINDOW = 4  # cells to each side
_HEATMAP_PEAK = 0.5
_PART = 0.6  # side of each of the four parts of a picture that seems empty, as a share of the whole
_LARGE = 0.6  # extent of a person, as a share of the short side, from which a picture is not searched in tiles
_TILE_LOOK = 0.3  # score of the detector in tiles; the landmark model then confirms or refuses
_MOST_CANDIDATES = 80


@dataclass(frozen=True)
class Found:
    """One person.

    Attributes:
        landmarks: (33, 3) float64: x, y in pixels of the picture, confidence in [0, 1].
        depths: (33,) float64: distance behind the middle of the hips in pixels of the picture; negative is nearer.
        mask: (H, W) float32 in [0, 1]: where the person is.
    """

    landmarks: np.ndarray
    depths: np.ndarray
    mask: np.ndarray


def find_people(rgb: np.ndarray, limit: int, *, everyone: bool = False) -> list[Found]:
    """Find up to `limit` people, the most prominent first.

    Args:
        rgb: picture (H, W, 3), uint8.
        limit: number of people after which to stop, >= 1.
        everyone: whether to search a picture in which nobody is large in tiles of all sizes, which takes a second; all who
            are found there are returned. Otherwise only a picture that seems empty is read again in four parts.
    """
    people: list[Found] = []
    canvas, views = rgb, [whole(rgb)]
    while len(people) < limit:
        person = _next_person(rgb, canvas, views, people)
        if everyone and not people and (person is None or extent(person.landmarks) < _LARGE * min(rgb.shape[:2])):
            return _search(rgb, [] if person is None else [person])
        if person is None and not people and len(views) == 1:
            views = _parts(rgb)
            continue
        if person is None:
            break
        people.append(person)
        canvas = _paint_over(canvas, person.mask)
    return people


def _search(rgb: np.ndarray, people: list[Found]) -> list[Found]:
    """Return everyone in a picture in which nobody is large, the largest first."""
    height, width = rgb.shape[:2]
    candidates = []
    for level in tiles(height, width):
        for tile in level:
            finds = detect("pose_detection", rgb, tile, _CENTRES, _TILE_LOOK)
            candidates += [one for one in map(Candidate.of, finds) if one.fits(tile, height, width)]
    for candidate in merged(candidates)[:_MOST_CANDIDATES]:
        person = _read_person(rgb, candidate.find, strict=True)
        if person is not None and not any(is_same_body(person.landmarks, other.landmarks) for other in people):
            people.append(person)
    return sorted(people, key=lambda person: -extent(person.landmarks))


def sees_people(rgb: np.ndarray) -> bool:
    """Return whether the detector alone finds anybody in a picture (H, W, 3) uint8; faster than `find_people`."""
    return bool(detect("pose_detection", rgb, whole(rgb), _CENTRES, _FIRST_LOOK))


def _next_person(rgb: np.ndarray, canvas: np.ndarray, views: list[Crop], people: list[Found]) -> Found | None:
    finds: list[Detection] = []
    for view in views:
        finds += detect("pose_detection", canvas, view, _CENTRES, _NEXT_LOOK if people else _FIRST_LOOK)
    strict = bool(people) or len(views) > 1
    for find in sorted(finds, key=lambda find: -find.score):
        person = _read_person(rgb, find, strict=strict)
        if person is not None and not _known(person, people):
            return person
    return None


@dataclass(frozen=True)
class _Reading:
    """One run of the landmark model: how sure it is of a person, 35 points (two of them give the next crop), its mask."""

    crop: Crop
    flag: float
    points: np.ndarray
    depths: np.ndarray
    confidence: np.ndarray
    small_mask: np.ndarray
    size: tuple[int, int]

    @cached_property
    def mask(self) -> np.ndarray:
        """Where the person is, (height, width) float32 in [0, 1]."""
        return self.crop.paste(self.small_mask, *self.size)

    def is_person(self, *, strict: bool) -> bool:
        seen = float(self.confidence[:_UPPER_BODY].mean())
        if not strict:
            return self.flag >= _PRESENT and seen >= _SEEN
        if self.flag < _SURELY_PRESENT or seen < _SURELY_SEEN or abs(self.crop.turn) > _SURELY_UPRIGHT:
            return False
        return bool((self.mask > 0.8).sum() >= _SURELY_SHARP * max(1, (self.mask > 0.2).sum()))


def _read_person(rgb: np.ndarray, find: Detection, *, strict: bool) -> Found | None:
    """Read a find's landmarks twice: the second crop, laid by the first landmarks, sits better than the detector's."""
    reading = _read(rgb, _crop(find.points[0], find.points[1]))
    if not reading.is_person(strict=strict):
        return None
    second = _read(rgb, _crop(*reading.points[LANDMARKS:]))
    if second.is_person(strict=strict):
        reading = second
    elif strict:
        return None
    landmarks = np.concatenate([reading.points[:LANDMARKS], reading.confidence[:, None]], axis=1)
    return Found(landmarks, reading.depths, reading.mask)


def _crop(centre: np.ndarray, top: np.ndarray) -> Crop:
    """Return the square around the circle with this centre (of the hips) that `top` lies on, grown a little."""
    radius = float(np.hypot(*(top - centre)))
    x, y = centre
    return Crop(float(x), float(y), 2 * radius, Crop.upright((x, y), (top[0], top[1]))).scaled(_CROP_GROWTH)


def _read(rgb: np.ndarray, crop: Crop) -> _Reading:
    net = model("pose_landmark_full")
    outputs = net(crop.take(rgb, net.size) / 255.0)
    raw = outputs["Identity"].reshape(-1, 5)[: LANDMARKS + 2]
    confidence = sigmoid(np.minimum(raw[:, 3], raw[:, 4]))[:LANDMARKS]
    places = raw[:, :2].astype(np.float64)
    places[:LANDMARKS] = _refine(places[:LANDMARKS] / net.size, outputs["Identity_3"]) * net.size
    mask = sigmoid(outputs["Identity_2"][..., 0]).astype(np.float32)
    depths = raw[:LANDMARKS, 2] * (crop.size / net.size)
    flag = float(outputs["Identity_1"][0])
    return _Reading(crop, flag, crop.places(places, net.size), depths, confidence, mask, rgb.shape[:2])


def _refine(places: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Move each landmark to the centre of mass of its heatmap around it, where the heatmap is sure.

    Args:
        places: (33, 2) in [0, 1].
        heatmap: (64, 64, >= 33) logits.
    """
    side = heatmap.shape[0]
    refined = places.copy()
    for i, (x, y) in enumerate(places):
        column, row = int(x * side), int(y * side)
        if not (0 <= column < side and 0 <= row < side):
            continue
        left, top = max(0, column - _HEATMAP_WINDOW), max(0, row - _HEATMAP_WINDOW)
        window = sigmoid(heatmap[top : row + _HEATMAP_WINDOW + 1, left : column + _HEATMAP_WINDOW + 1, i])
        if window.max() >= _HEATMAP_PEAK:
            rows, columns = np.mgrid[0 : window.shape[0], 0 : window.shape[1]]
            total = window.sum() * side
            refined[i] = ((columns + left) * window).sum() / total, ((rows + top) * window).sum() / total
    return refined


def _known(person: Found, people: list[Found]) -> bool:
    """Whether the find is somebody found before, seen again through what the painting left over."""
    area = float((person.mask > 0.5).sum())
    if area == 0:
        return True
    taken = sum(((person.mask > 0.5) & (other.mask > 0.5)).sum() for other in people)
    return float(taken) / area > _DUPLICATE


def _paint_over(canvas: np.ndarray, mask: np.ndarray) -> np.ndarray:
    grown = cv2.dilate(
        (mask > 0.3).astype(np.uint8), np.ones((7, 7), np.uint8), iterations=max(1, mask.shape[0] // 200)
    )
    painted = canvas.copy()
    painted[grown > 0] = 128
    return painted


def _parts(rgb: np.ndarray) -> list[Crop]:
    """Return four overlapping squares, in which a distant person fills more of the detector's 224 pixels."""
    height, width = rgb.shape[:2]
    side = _PART * max(height, width)
    xs = sorted({min(side, width) / 2, width - min(side, width) / 2})
    ys = sorted({min(side, height) / 2, height - min(side, height) / 2})
    return [Crop(x, y, side) for y in ys for x in xs]
