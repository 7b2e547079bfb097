"""Overlays: what of a condition a picture followed, and what drifted, drawn over the picture with the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw

from controlnext.adherence.joints import LOST, joint_drift, paired, shown_joints
from controlnext.adherence.score import (
    EDGE_TOLERANCE,
    colour_codes,
    depth_rank_correlation,
    dilate,
    edge_f1,
    edges_of,
    mean_iou,
    people_of,
    ranks,
    sized,
)
from controlnext.recipes.inputs import Annotated

SMALLEST = 512
"""Longer side of an overlay in pixels at least: lines stay fine on small pictures."""

FULL_RED = 0.1
"""Distance of a joint in figure heights from which it is red: what PCK@0.1 counts as wrong."""

DIMMED = 0.45
"""Brightness of the picture under the lines."""

GREEN, AMBER, RED, BLUE = (36, 190, 96), (240, 178, 40), (232, 58, 52), (86, 140, 255)

Row = tuple[str, str, float | None]
"""What was asked for, the number as people read it, and how far it drifted: 0 followed, 1 lost, None where it is no joint."""


@dataclass(frozen=True)
class Overlay:
    """What a picture followed.

    Attributes:
        plain: the picture, in the size of the overlay.
        image: the same with lines and colours over it, RGB.
        legend: what the colours mean, one sentence.
        rows: the numbers; joints with the worst first.
    """

    plain: Image.Image
    image: Image.Image
    legend: str
    rows: tuple[Row, ...]


def overlay(kind: str, picture: Image.Image, asked: Annotated, found: Annotated) -> Overlay | None:
    """Draw what a picture followed.

    Args:
        kind: which condition it is.
        picture: the result.
        asked: the condition in the size of the result, with its people as data for a pose.
        found: the result's own annotation; without people where nobody was found.

    Returns:
        Picture and overlay in one size, or None where this kind has none.
    """
    if kind not in OVERLAYS:
        return None
    zoom = max(1, -(-SMALLEST // max(picture.size)))
    plain = picture.convert("RGB").resize((picture.width * zoom, picture.height * zoom), Image.Resampling.LANCZOS)
    image, legend, rows = OVERLAYS[kind](plain, asked, found)
    return Overlay(plain, image, legend, tuple(rows))


def colour_of(drift: float) -> tuple[int, int, int]:
    """Return green for 0 over amber to red for `FULL_RED` figure heights and more."""
    part = 2 * min(max(drift / FULL_RED, 0.0), 1.0)
    first, second, part = (GREEN, AMBER, part) if part <= 1 else (AMBER, RED, part - 1)
    return tuple(round(a + part * (b - a)) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


_Drawn = tuple[Image.Image, str, list[Row]]


def _pose(plain: Image.Image, asked: Annotated, found: Annotated) -> _Drawn:
    from annotators.poses.skeleton import KEYPOINTS, LIMBS

    image = _dimmed(plain)
    pen, wide = ImageDraw.Draw(image), max(2.0, min(image.size) / 170)
    rows: list[Row] = []
    wanted, seen = people_of(asked, plain), people_of(found, plain)
    drifts = joint_drift(wanted, seen)
    for number, ((person, other), drift) in enumerate(zip(paired(wanted, seen), drifts, strict=True), start=1):
        for a, b in LIMBS:
            pair = drift[a], drift[b]
            if pair[0] is not None and pair[1] is not None:
                ends = [tuple(person[a, :2]), tuple(person[b, :2])]
                pen.line(ends, colour_of((pair[0] + pair[1]) / 2), round(1.5 * wide))
        there = None if other is None else shown_joints(other)
        for joint, value in enumerate(drift):
            if value is None:
                continue
            x, y = person[joint, :2]
            if other is not None and there is not None and there[joint] and value > 0:
                pen.line([(x, y), tuple(other[joint, :2])], "white", max(1, round(wide / 2)))
            lost = value >= LOST
            colour = colour_of(value)
            pen.ellipse(
                [x - 2 * wide, y - 2 * wide, x + 2 * wide, y + 2 * wide], None if lost else colour, colour, round(wide)
            )
            who = f"{number}: " if len(drifts) > 1 else ""
            text = "not found" if lost else f"{100 * value:.1f} %"
            rows.append((f"{who}{KEYPOINTS[joint].replace('_', ' ')}", text, value))
    rows.sort(key=lambda row: -(row[2] or 0.0))
    legend = (
        "Asked joints and bones, green where the picture has them, red from a tenth of the figure's height on; a white line "
        "leads to where the joint is, an empty circle was not found."
    )
    return image, legend, rows


def _canny(plain: Image.Image, asked: Annotated, found: Annotated) -> _Drawn:
    whole = asked.image.convert("RGB")
    wanted, there = edges_of(whole), edges_of(sized(found.image.convert("RGB"), whole))
    tolerance = max(1, round(EDGE_TOLERANCE * max(whole.size)))
    near_found, near_wanted = dilate(there, tolerance), dilate(wanted, tolerance)
    image = _dimmed(plain)
    for mask, colour in ((there & ~near_wanted, BLUE), (wanted & near_found, GREEN), (wanted & ~near_found, RED)):
        _paint(image, mask, colour)
    followed = (wanted & near_found).sum() / max(1, wanted.sum())
    right = (there & near_wanted).sum() / max(1, there.sum())
    rows: list[Row] = [
        ("asked edges that are there", f"{100 * followed:.0f} %", None),
        ("edges that were asked for", f"{100 * right:.0f} %", None),
        ("F1", f"{edge_f1(wanted, there, tolerance):.3f}", None),
    ]
    return image, "Green: asked and there. Red: asked and missed. Blue: not asked for.", rows


def _depth(plain: Image.Image, asked: Annotated, found: Annotated) -> _Drawn:
    whole = asked.image.convert("RGB")
    first = np.asarray(whole.convert("L"))
    second = np.asarray(sized(found.image.convert("RGB"), whole, Image.Resampling.BILINEAR).convert("L"))
    places = [(ranks(array.ravel()) / max(1, array.size - 1)).reshape(array.shape) for array in (first, second)]
    away = np.abs(places[0] - places[1])
    rows: list[Row] = [
        ("rank correlation", f"{depth_rank_correlation(first, second):.3f}", None),
        ("mean difference of rank", f"{100 * away.mean():.1f} %", None),
        ("pixels that differ by over 10 %", f"{100 * (away > FULL_RED).mean():.0f} %", None),
    ]
    return _heat(plain, away / (3 * FULL_RED)), "Red where nearness differs: the stronger, the more.", rows


def _segmentation(plain: Image.Image, asked: Annotated, found: Annotated) -> _Drawn:
    whole = asked.image.convert("RGB")
    first, second = colour_codes(whole), colour_codes(sized(found.image.convert("RGB"), whole))
    wrong = first != second
    rows: list[Row] = [
        ("mean IoU", f"{mean_iou(first, second):.3f}", None),
        ("pixels that differ", f"{100 * wrong.mean():.0f} %", None),
    ]
    codes, counts = np.unique(first, return_counts=True)
    for code in codes[np.argsort(-counts)]:
        both, either = ((first == code) & (second == code)).sum(), ((first == code) | (second == code)).sum()
        rows.append((f"#{int(code):06x}", f"{both / either:.3f}", None))
    return _heat(plain, wrong.astype(float)), "Red where the region is another one than asked for.", rows


def _dimmed(plain: Image.Image) -> Image.Image:
    return Image.blend(Image.new("RGB", plain.size), plain, DIMMED)


def _paint(image: Image.Image, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Give the pixels of a mask (H, W) of any size a colour."""
    stencil = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    image.paste(colour, (0, 0, *image.size), stencil)


def _heat(plain: Image.Image, amount: np.ndarray) -> Image.Image:
    """Return a grey picture with red over it, as strong as an amount (H, W) in [0, 1] says."""
    image = Image.blend(plain, plain.convert("L").convert("RGB"), 0.8)
    strength = Image.fromarray((200 * amount.clip(0, 1)).astype(np.uint8)).resize(
        plain.size, Image.Resampling.BILINEAR
    )
    image.paste(RED, (0, 0, *image.size), strength)
    return image


OVERLAYS: Mapping[str, Callable[[Image.Image, Annotated, Annotated], _Drawn]] = MappingProxyType(
    {"canny": _canny, "depth": _depth, "pose": _pose, "segmentation": _segmentation}
)
"""Kind of condition -> how its overlay is drawn; the kinds of `SCORES`."""
