"""Upload doctor: recognises photographs and ready-made maps by their colours and neighbourhoods alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from controlnext.adherence.skeletons import joints_in_drawing
from controlnext.recipes.kinds import POSE

NORMAL = "normal"
"""A map of surface directions; the project has no annotator for it, a training may bring one."""

MapName = Literal["", "pose", "canny", "depth", "normal", "segmentation"]

SIDE = 320
"""Longer side that is looked at, by leaving pixels out, so that neither lines nor flat colours are mixed."""

# All on a scale of 0 to 255 or as shares of the pixels; set on made maps and photographs, see tests/adherence/test_map_kind.py.
_CONTRAST = 40  # between the brightest and the darkest value of a map at least
_GREY = 14  # (max - min) of a pixel that counts as grey, with room for JPEG
_DARK = 40  # brightness up to which a pixel is black background
_TWO_LEVELS = 0.9  # share of pixels that are nearly black or nearly white, in line drawings
_THIN = 0.35  # share that lines cover at most
_STAYS = 0.35  # share of the lines that is left when their sides are taken off, at most
_BACKGROUND = 0.7  # share of black around a skeleton
_COLOURFUL = 0.45  # (max - min) / max of a skeleton's colours
_UNIT = 0.12  # deviation of a normal from length 1
_NORMALS = 0.8  # share of pixels that are normals
_FLAT = 0.87  # share of pixels like both neighbours, in a colour map
_AREA = 64  # pixels of an area whose colour counts
_JOINED = 3  # difference of neighbours up to which they are in one area
_NOISE = 1 / 64  # distance from the mean colour of its area that JPEG leaves in a flat one, of the contrast
_EVEN = 0.85  # share of the pixels of areas within that: 0.92 and more in maps, 0.75 and less in drawings with shading
_COLOURS = 24  # colours that cover a colour map
_GREY_LEVELS = 6  # and levels that cover a grey one: a depth map has more
_COVERED = 0.87
_BEND = 1.0  # second difference in brightness from one pixel to the next that is still smooth
_SMOOTH = 0.84  # share of smooth places in a depth map
_LIMBS = ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0))


@dataclass(frozen=True)
class MapKind:
    """What a picture is.

    Attributes:
        name: kind of condition that it already is; empty for a photograph or any other picture.
        inverted: whether it is an edge map with black lines on white.
        swapped: whether its red and its blue have changed places.
    """

    name: MapName = ""
    inverted: bool = False
    swapped: bool = False


PHOTOGRAPH = MapKind()


def map_kind(rgb: np.ndarray) -> MapKind:
    """Recognise a ready-made map.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        What it is; `PHOTOGRAPH` where it is none of the known maps.
    """
    step = max(1, round(max(rgb.shape[:2]) / SIDE))
    small = np.ascontiguousarray(rgb[::step, ::step]).astype(np.int16)
    if min(small.shape[:2]) < 8 or np.ptp(small) < _CONTRAST:
        return PHOTOGRAPH
    bright, dark = small.max(axis=2), small.min(axis=2)
    skeleton = _skeleton(rgb, bright, dark)
    if skeleton is not None:
        return skeleton
    if float((bright - dark <= _GREY).mean()) > 0.98:
        return _grey_kind(rgb, small)
    for swapped in (False, True):
        if _is_normal(small[..., ::-1] if swapped else small):
            return MapKind("normal", swapped=swapped)
    return MapKind("segmentation") if _is_flat(small) else PHOTOGRAPH


def _grey_kind(rgb: np.ndarray, small: np.ndarray) -> MapKind:
    """Tell line drawings, masks, depth maps and grey photographs apart."""
    grey = small.mean(axis=2)
    white, black = grey > 255 - 2 * _DARK, grey < 2 * _DARK
    share = float(white.mean())
    if float((white | black).mean()) > _TWO_LEVELS and 0 < share < 1:
        whole = rgb.mean(axis=2)
        inverted = share > 0.5
        lines = whole < 128 if inverted else whole >= 128
        thin = float(lines.mean()) < _THIN and float(_eroded(lines).sum()) < _STAYS * float(lines.sum())
        if thin:
            return MapKind("canny", inverted=inverted)
    if _is_flat(small, _GREY_LEVELS):
        return MapKind("segmentation")
    return MapKind("depth") if _is_smooth(grey) else PHOTOGRAPH


def _eroded(mask: np.ndarray) -> np.ndarray:
    """Take so many pixels off all around as a line of a map in this size is wide."""
    for _ in range(max(2, round(min(mask.shape) / 256))):
        mask = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return mask


def _skeleton(rgb: np.ndarray, bright: np.ndarray, dark: np.ndarray) -> MapKind | None:
    """Recognise colourful lines on black, and whether the joints in them make sense with red and blue as they are."""
    marked = bright > _DARK
    share = float(marked.mean())
    if not 0.0005 < share < 1 - _BACKGROUND:
        return None
    colourful = (bright - dark)[marked] > _COLOURFUL * bright[marked]
    if float(colourful.mean()) < 0.6:
        return None
    as_it_is, swapped = (_untidiness(joints_in_drawing(picture)) for picture in (rgb, rgb[..., ::-1]))
    if min(as_it_is, swapped) == np.inf:
        return None
    return MapKind(POSE, swapped=swapped < as_it_is)


def _untidiness(people: list[np.ndarray]) -> float:
    """Mean length of limbs in sizes of the figure, the longer the fewer limbs are there; infinite without any."""
    lengths = []
    for person in people:
        shown = person[:, 2] > 0
        size = float(np.ptp(person[shown, :2], axis=0).max()) if shown.sum() > 3 else 0.0
        if size:
            lengths += [
                float(np.linalg.norm(person[a, :2] - person[b, :2])) / size if shown[a] and shown[b] else 0.5
                for a, b in _LIMBS
            ]
    return float(np.mean(lengths)) if lengths else np.inf


def _is_normal(small: np.ndarray) -> bool:
    """Whether pixels are directions of length 1 that look at the viewer; black and grey background is left out."""
    vectors = small / 127.5 - 1
    grey = small.max(axis=2) - small.min(axis=2) <= _GREY
    if float(grey.mean()) > 0.9:
        return False
    vectors = vectors[~grey]
    lengths = np.linalg.norm(vectors, axis=1)
    unit = float((np.abs(lengths - 1) < _UNIT).mean())
    return unit > _NORMALS and float((vectors[:, 2] > 0).mean()) > 0.9 and float(vectors[:, 2].mean()) > 0.4


def _is_flat(small: np.ndarray, colours: int = _COLOURS) -> bool:
    """Whether few colours cover the picture, in areas of one colour each, without texture and shading."""
    across, down = np.abs(np.diff(small, axis=1)).max(axis=2), np.abs(np.diff(small, axis=0)).max(axis=2)
    if float(((across[:-1] <= 8) & (down[:, :-1] <= 8)).mean()) < _FLAT or _evenness(small, across, down) < _EVEN:
        return False
    codes = (small[::2, ::2] + 4) // 8 @ np.array([1024, 32, 1])
    counts = np.sort(np.unique(codes, return_counts=True)[1])[::-1]
    return float(counts[:colours].sum() / counts.sum()) > _COVERED


def _evenness(small: np.ndarray, across: np.ndarray, down: np.ndarray) -> float:
    """Share of pixels with the colour of their area: a shaded area is joined from neighbour to neighbour too, and its ends differ.

    Args:
        small: (H, W, 3) of 0 to 255.
        across: (H, W - 1) differences of neighbours.
        down: (H - 1, W) likewise.
    """
    import cv2  # building the page imports this file

    # Pixels, and between them what joins them
    joined = np.zeros((2 * small.shape[0] - 1, 2 * small.shape[1] - 1), bool)
    joined[::2, ::2], joined[::2, 1::2], joined[1::2, ::2] = True, across <= _JOINED, down <= _JOINED

    areas = cv2.connectedComponents(joined.astype(np.uint8), connectivity=4)[1][::2, ::2].ravel()
    sizes = np.bincount(areas)
    inside = sizes[areas] >= _AREA
    if not inside.any():
        return 0.0
    off = np.zeros(areas.size)
    for band in small.reshape(-1, 3).T:
        means = np.bincount(areas, band) / np.maximum(sizes, 1)
        off = np.maximum(off, np.abs(band - means[areas]))
    return float((off[inside] <= _NOISE * np.ptp(small)).mean())


def _is_smooth(grey: np.ndarray) -> bool:
    """Whether brightness (H, W) bends nowhere but at a few outlines."""
    middle = 2 * grey[1:-1, 1:-1]
    bend = np.abs(grey[1:-1, 2:] - middle + grey[1:-1, :-2]), np.abs(grey[2:, 1:-1] - middle + grey[:-2, 1:-1])
    return float((np.maximum(*bend) <= _BEND).mean()) > _SMOOTH
