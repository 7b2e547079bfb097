"""Alignment of a driver's figure with the reference's: scale and offset by the formula of the released video models."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from controlnext.errors import ControlNeXtError
from controlnext.video.poses import BODY, POINTS, visible
from controlnext.video.tracks import Track

FIT_JOINTS = (0, 1, 2, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
"""Joints that are compared: all but elbows and wrists, which show what a person does rather than where it stands."""

NOBODY_IN_REFERENCE = (
    "Nobody was found in the reference picture, so the poses cannot be fitted to it: choose a picture that shows the "
    "character from head to hips at least, or turn “Fit” off."
)
_FEWEST = 3
_ODD = 2.5  # times that the formula's scale may differ from the ratio of the two figures' sizes


class FitError(ControlNeXtError, ValueError):
    """The poses cannot be fitted to the reference; the text is one sentence with the remedy."""


@dataclass(frozen=True)
class Alignment:
    """The map x' = ax * x + bx, y' = ay * y + by between places as fractions of width and height, (0, 0) top left.

    Attributes:
        ax: scale of x.
        ay: scale of y.
        bx: shift of x.
        by: shift of y.
        note: a sentence where the formula could not be used; else empty.
    """

    ax: float
    ay: float
    bx: float
    by: float
    note: str = ""

    def apply(self, track: Track, height: int, width: int) -> Track:
        """Move body, hands and face of every frame into a picture of (height, width) pixels."""
        factors = np.array([self.ax * width / track.width, self.ay * height / track.height, 1.0])
        offsets = np.array([self.bx * width, self.by * height, 0.0])
        return replace(track, points=track.points * factors + offsets, height=height, width=width)


def align(track: Track, reference: np.ndarray, height: int, width: int) -> Alignment:
    """Fit the driver's figure to the reference's.

    Args:
        track: the driver, in pixels of its clip.
        reference: (18, 3) or (128, 3) points of the reference figure, in pixels of the picture to be made.
        height: of the picture to be made, in pixels.
        width: of the picture to be made, in pixels.

    Returns:
        y_ref = ay * y + by by least squares over all frames and joints; ax keeps the figure's shape in pixels;
        bx = mean(x_ref - ax * x).

    Raises:
        FitError: nobody in the reference, or reference and driver show no common part of the body.

    Source: dvlab-research/ControlNeXt, ControlNeXt-SVD-v2 pose preprocessing, `np.polyfit` over the joints visible in the
    reference. Deliberate differences: a joint that the driver's frame does not show is left out instead of counting with
    whatever place it has; and where the fit is no sensible scale (a figure upside down or lying), the ratio of sizes is
    taken instead, with a note.
    """
    joints = [joint for joint in FIT_JOINTS if visible(reference[joint])]
    if not visible(reference[BODY]).any():
        raise FitError(NOBODY_IN_REFERENCE)
    driver = track.points[:, joints]
    shown = visible(driver)
    common = shown.any(axis=0)
    if common.sum() < _FEWEST:
        raise FitError(
            f"The reference and the clip have {int(common.sum())} joints of head, trunk and legs in common, and {_FEWEST} are "
            "needed to fit one to the other: choose a reference that shows more of the body, or turn “Fit” off."
        )
    x, y = driver[..., 0][shown] / track.width, driver[..., 1][shown] / track.height
    target = np.broadcast_to(reference[joints, :2] / (width, height), (*driver.shape[:2], 2))[shown]
    ay, note = _slope(y, target[:, 1]), ""
    ratio = _size_ratio(driver, shown, reference[joints]) * track.height / height
    if not ratio / _ODD < ay < ratio * _ODD:
        ay = ratio
        note = "The driver hardly stands upright as the reference does, so it was scaled by the figures' sizes."
    ax = ay / ((track.height / track.width) / height * width)
    return Alignment(ax, ay, float((target[:, 0] - ax * x).mean()), float((target[:, 1] - ay * y).mean()), note)


def crop_points(points: np.ndarray, size: tuple[int, int], height: int, width: int) -> np.ndarray:
    """Move points of a picture along when it is resized to fill (height, width) and cropped in the middle.

    Args:
        points: (..., 3) x, y in pixels and confidence.
        size: width and height of the picture, in pixels.
        height: of the picture to be made, in pixels.
        width: of the picture to be made, in pixels.

    Returns:
        (..., 3) in pixels of the picture to be made; points that fall outside are kept.
    """
    scale = max(width / size[0], height / size[1])
    moved = np.array(points, np.float64)
    moved[..., 0] = moved[..., 0] * scale - (size[0] * scale - width) / 2
    moved[..., 1] = moved[..., 1] * scale - (size[1] * scale - height) / 2
    return moved


def whole_person(points: np.ndarray) -> np.ndarray:
    """Return (128, 3) points of a person of whom perhaps only the body (18, 3) is given."""
    person = np.zeros((POINTS, 3))
    person[: len(points)] = points
    return person


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of the least-squares line; 0 where all x are the same."""
    spread = ((x - x.mean()) ** 2).sum()
    return float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread > 1e-12 else 0.0


def _size_ratio(driver: np.ndarray, shown: np.ndarray, reference: np.ndarray) -> float:
    """Reference's size over the driver's median one in pixels: diagonals of the boxes around the joints that both show."""
    ratios = []
    for points, seen in zip(driver, shown, strict=True):
        mine, theirs = (
            float(np.hypot(*np.ptp(one[seen, :2], axis=0))) if seen.any() else 0.0 for one in (points, reference)
        )
        if mine > 1e-6 and theirs > 1e-6:
            ratios.append(theirs / mine)
    return float(np.median(ratios)) if ratios else 1.0
