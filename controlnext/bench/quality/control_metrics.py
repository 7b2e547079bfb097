"""Metrics of controllability as they are published, beside this project's tolerant ones.

Published: edges compared pixel by pixel, structural similarity of soft lines, root mean square error of depth from 0 to 255 and
mean IoU over a whole data set, as ControlNet++ has them (arXiv 2404.07987); PCK, and object keypoint similarity as COCO defines it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from controlnext.adherence.score import SCORES, colour_codes, edge_f1, edges_of, people_of, pose_pck, sized
from controlnext.adherence.skeletons import VISIBLE
from controlnext.bench.command import BenchError

if TYPE_CHECKING:
    from controlnext.recipes.inputs import Annotated

OKS_SIGMAS = np.array([26, 79, 72, 62, 79, 72, 62, 107, 87, 89, 107, 87, 89, 25, 25, 35, 35]) / 1000
"""COCO's, in the order of `COCO_JOINTS`."""
COCO_JOINTS = (0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
"""Places of COCO's 17 joints in an OpenPose figure of 18; the neck is no joint of COCO's."""
BOX_SHARE = 0.53
"""Of the box around the joints: the area that is taken where no mask of the person is known, as xtcocotools does."""
LIMBS = ((2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (11, 12), (12, 13))
"""Upper and lower arms and legs, by their joints."""


@dataclass(frozen=True)
class Metric:
    """One metric of one kind of condition.

    Attributes:
        name: for tables.
        measure: compares what was asked with what was found; NaN where it asks for nothing.
        published: whether it is the published form.
        falls: whether less is better.
    """

    name: str
    measure: Callable[[Annotated, Annotated], float]
    published: bool = True
    falls: bool = False


def exact_f1(asked: Annotated, found: Annotated) -> float:
    """F1 of two edge maps, pixel by pixel."""
    whole = asked.image.convert("RGB")
    return edge_f1(edges_of(whole), edges_of(sized(found.image.convert("RGB"), whole)), 0.0)


def line_ssim(asked: Annotated, found: Annotated) -> float:
    """Structural similarity of two soft line drawings, by scikit-image with its defaults.

    Raises:
        BenchError: scikit-image is not installed.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        raise BenchError(
            "The similarity of lines needs a package that is missing: pip install scikit-image."
        ) from None
    one, other = _greys(asked, found)
    return float(structural_similarity(one, other, data_range=255))


def depth_rmse(asked: Annotated, found: Annotated) -> float:
    """Root mean square difference of two depth maps, 0 to 255; less is better."""
    one, other = (grey.astype(np.float64) for grey in _greys(asked, found))
    return float(np.sqrt(((one - other) ** 2).mean()))


def _greys(asked: Annotated, found: Annotated) -> tuple[np.ndarray, np.ndarray]:
    whole = asked.image.convert("RGB")
    smooth = sized(found.image.convert("RGB"), whole, Image.Resampling.BILINEAR)
    return np.asarray(whole.convert("L")), np.asarray(smooth.convert("L"))


def pose_oks(asked: Annotated, found: Annotated) -> float:
    """Mean over the people asked for of the similarity with the one found for each; see `oks`."""
    wanted, seen = people_of(asked, asked.image), people_of(found, asked.image)
    values = np.array([[oks(person, other) for other in seen] for person in wanted]).reshape(len(wanted), -1)
    values = values[np.isfinite(values).all(1)] if values.size else values
    if not len(wanted):
        return float("nan")
    total, count = 0.0, len(wanted)
    for _ in range(min(values.shape)):
        row, column = np.unravel_index(np.argmax(values), values.shape)
        total += float(values[row, column])
        values = np.delete(np.delete(values, row, axis=0), column, axis=1)
    return total / count


def oks(asked: np.ndarray, found: np.ndarray) -> float:
    """Object keypoint similarity of two figures, as COCO's evaluation computes it.

    Args:
        asked: (18, 3) x, y in pixels and confidence; joints that are not visible do not count.
        found: the same; places count whatever their confidence, but a joint of confidence 0 is nowhere.

    Returns:
        In [0, 1]; NaN where nothing visible was asked for.
    """
    asked, found = (np.asarray(person, np.float64)[list(COCO_JOINTS)] for person in (asked, found))
    shown = asked[:, 2] >= VISIBLE
    if not shown.any():
        return float("nan")
    places = asked[shown, :2]
    area = BOX_SHARE * float(np.prod(np.maximum(places.max(0) - places.min(0), 1.0)))
    squares = ((asked[:, :2] - found[:, :2]) ** 2).sum(1)
    errors = squares / (2 * OKS_SIGMAS) ** 2 / (area + np.spacing(1)) / 2
    similarity = np.where(found[:, 2] > 0, np.exp(-errors), 0.0)
    return float(similarity[shown].mean())


def _tolerant(kind: str) -> Callable[[Annotated, Annotated], float]:
    return lambda asked, found: SCORES[kind](asked, found)


_LINES = (Metric("SSIM", line_ssim),)
METRICS: Mapping[str, tuple[Metric, ...]] = MappingProxyType(
    {
        "canny": (Metric("exact F1", exact_f1), Metric("F1, 2 px in 256", _tolerant("canny"), published=False)),
        "softedge": _LINES,
        "hed": _LINES,
        "lineart": _LINES,
        "depth": (
            Metric("RMSE, 0 to 255", depth_rmse, falls=True),
            Metric("rank correlation", _tolerant("depth"), published=False),
        ),
        "segmentation": (Metric("mean IoU of a picture", _tolerant("segmentation"), published=False),),
        "pose": (Metric("OKS", pose_oks), Metric("PCK@0.1 of the height", _tolerant("pose"))),
    }
)
"""Kind of condition -> its metrics; segmentation has `ClassCounts` too."""


class ClassCounts:
    """Intersections and unions of classes over a data set, a class being a colour: mean IoU as segmentation benches publish it."""

    def __init__(self) -> None:
        """Start empty."""
        self._rows: list[dict[int, tuple[int, int, int]]] = []
        self._made: np.ndarray | None = None

    def add(self, pairs: Sequence[tuple[Annotated, Annotated]]) -> None:
        """Add the pictures of one condition, each as what was asked and what was found."""
        row: dict[int, tuple[int, int, int]] = {}
        for asked, found in pairs:
            whole = asked.image.convert("RGB")
            one, other = colour_codes(whole), colour_codes(sized(found.image.convert("RGB"), whole))
            for code in np.union1d(one, other):
                a, b = one == code, other == code
                before = row.get(int(code), (0, 0, 0))
                row[int(code)] = (
                    before[0] + int((a & b).sum()),
                    before[1] + int((a | b).sum()),
                    before[2] + int(a.sum()),
                )
        self._rows.append(row)
        self._made = None

    def value(self, rows: np.ndarray | None = None) -> float:
        """Return the mean IoU over classes that were asked for, of all conditions or of those numbered `rows` (with repeats)."""
        table = self._table()
        both, either, asked = (table if rows is None else table[rows]).sum(0).T
        return float((both[asked > 0] / either[asked > 0]).mean()) if asked.any() else float("nan")

    def _table(self) -> np.ndarray:
        """Return (conditions, classes, 3): intersections, unions, and pixels that were asked for."""
        if self._made is None:
            codes = sorted({code for row in self._rows for code in row})
            self._made = np.array([[row.get(code, (0, 0, 0)) for code in codes] for row in self._rows], np.float64)
        return self._made


def limb_ratio_error(asked: np.ndarray, found: np.ndarray) -> float:
    """Mean relative error of limb lengths, each as a share of the figure's longest one in both figures.

    Args:
        asked: (18, 3) joints.
        found: the same.

    Returns:
        0 for equal proportions; NaN where fewer than two limbs are visible in both.
    """
    asked, found = (np.asarray(person, np.float64) for person in (asked, found))
    seen = [(a, b) for a, b in LIMBS if min(asked[[a, b], 2].min(), found[[a, b], 2].min()) >= VISIBLE]
    lengths = np.array([[np.linalg.norm(p[a, :2] - p[b, :2]) for a, b in seen] for p in (asked, found)])
    if len(seen) < 2 or lengths[0].max() <= 0 or lengths[1].max() <= 0:
        return float("nan")
    longest = int(lengths[0].argmax())
    one, other = lengths / np.maximum(lengths[:, longest : longest + 1], 1e-9)
    keep = np.arange(len(seen)) != longest
    return float(np.abs(other[keep] / np.maximum(one[keep], 1e-9) - 1).mean())


def flicker(frames: np.ndarray, moving: np.ndarray) -> float:
    """Mean change of the still background from frame to frame, as a share of white.

    Args:
        frames: (F, H, W, 3) uint8.
        moving: (F, H, W) bool, where the figure is; left out of both frames of a pair.

    Returns:
        In [0, 1]; NaN where nothing is still.
    """
    change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(-1) / 255
    still = ~(moving[1:] | moving[:-1])
    values = [float(one[mask].mean()) for one, mask in zip(change, still, strict=True) if mask.any()]
    return float(np.mean(values)) if values else float("nan")


def figure_box(people: Sequence[np.ndarray], height: int, width: int, margin: float = 0.15) -> np.ndarray:
    """Return (H, W) bool: the boxes around people's visible joints, wider by a share of their longer side."""
    mask = np.zeros((height, width), bool)
    for person in people:
        seen = np.asarray(person)[np.asarray(person)[:, 2] >= VISIBLE, :2]
        if len(seen):
            low, high = seen.min(0), seen.max(0)
            reach = margin * float((high - low).max())
            left, top = np.floor(np.maximum(low - reach, 0)).astype(int)
            right, bottom = np.ceil(high + reach).astype(int) + 1
            mask[top:bottom, left:right] = True
    return mask


def clip_figures(
    asked: Sequence[np.ndarray], found: Sequence[list[np.ndarray]], frames: np.ndarray
) -> dict[str, float]:
    """Return the figures of a clip of one person.

    Args:
        asked: (18, 3) joints of each frame, in pixels.
        found: people read in each frame.
        frames: (F, H, W, 3) uint8.

    Returns:
        `PCK@0.1`, `limb-ratio error` and `flicker`; frames in which nobody is found count as 0 in the first alone.
    """
    scores = [pose_pck([one], others) for one, others in zip(asked, found, strict=True)]
    limbs = [limb_ratio_error(one, others[0]) for one, others in zip(asked, found, strict=True) if others]
    moving = np.stack(
        [figure_box([one, *others], *frames.shape[1:3]) for one, others in zip(asked, found, strict=True)]
    )
    means = {"PCK@0.1": scores, "limb-ratio error": limbs}
    figures = {
        name: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        for name, values in means.items()
    }
    return {**figures, "flicker": flicker(frames, moving)}
