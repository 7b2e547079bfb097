"""Colour names of the starter's world, and the description of a figure in the words of the starter's prompts.

The colours that each name has in pictures, under each sky, were learned from renders (`python -m controlnext.starter colours`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from annotators.base import AnnotatorError
from annotators.starter import figure_row, net

if TYPE_CHECKING:
    from PIL import Image

TABLE = Path(__file__).with_name("starter_colours.json")
MIN_PIXELS = 60
"""A colour is named where at least this many pixels of it are read."""

SKY = "sky"
SOMEBODY = "a person"
"""Description of a figure of which nothing could be read."""

_AREA = 256 * 256  # pixels of the pictures that `MIN_PIXELS` is meant for
_PHRASES = {
    "grass": "on green grass", "sand": "on sand", "snow": "on snow", "road": "on a grey road",
    "day": "at day", "sunset": "at sunset", "night": "at night", "dawn": "at dawn",
}  # fmt: skip


class ColourNames:
    """Names the colour of a region by the nearest mean in CIELAB, among those of its part under the same sky.

    Near in units of the spread inside each colour (Mahalanobis distance, one pooled covariance a part): light and shade move
    lightness about twenty times as much as hue, so that plain distances take shaded colours for black.

    Attributes:
        means: (part, sky, name) -> (3,) mean CIELAB colour; the sky of the sky itself is empty.
        precision: part -> (3, 3) inverse covariance.
    """

    def __init__(self, means: Mapping[tuple[str, str, str], np.ndarray], precision: Mapping[str, np.ndarray]) -> None:
        """Take what was learned."""
        self.means = dict(means)
        self.precision = dict(precision)

    @staticmethod
    def colour(rgb: np.ndarray, parts: np.ndarray, part: str) -> np.ndarray | None:
        """Return the (3,) median CIELAB colour of a part, or None where too little of it is seen.

        Args:
            rgb: (H, W, 3) uint8.
            parts: (H, W) indices into the starter net's parts.
            part: name of one.
        """
        mask = parts == net.PARTS.index(part)
        if mask.sum() < MIN_PIXELS * min(1.0, mask.size / _AREA):
            return None
        lab = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2LAB)
        return np.asarray(np.median(lab[mask], axis=0))

    def name(self, rgb: np.ndarray, parts: np.ndarray, part: str, sky: str = "") -> str | None:
        """Name the colour of a part under a sky; None where too little of it is seen. Arguments as of `colour`."""
        colour = self.colour(rgb, parts, part)
        if colour is None:
            return None
        under = "" if part == SKY else sky
        precision = self.precision[part]
        near = {
            key[2]: (mean - colour) @ precision @ (mean - colour)
            for key, mean in self.means.items()
            if key[:2] == (part, under)
        }
        return min(near, key=near.__getitem__) if near else None

    def save(self, path: Path = TABLE) -> None:
        """Write what was learned as JSON."""
        means = {"/".join(key): np.round(mean, 1).tolist() for key, mean in sorted(self.means.items())}
        precision = {part: np.round(matrix, 6).tolist() for part, matrix in sorted(self.precision.items())}
        path.write_text(json.dumps({"means": means, "precision": precision}, indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path = TABLE) -> ColourNames:
        """Read what `save` wrote."""
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        means = {tuple(key.split("/")): np.array(mean) for key, mean in record["means"].items()}
        return cls(means, {part: np.array(matrix) for part, matrix in record["precision"].items()})


@cache
def bundled() -> ColourNames:
    """Return the bundled names, read once."""
    return ColourNames.load()


def describe_figure(image: Image.Image) -> str:
    """Describe a figure in the words of the starter's prompts.

    Args:
        image: picture of one figure, of the starter's world or a photograph; of a photograph the parts are those that its
            pose and the mask of the person give, and what is behind the person counts as no sky.

    Returns:
        A line such as `a person with blond hair in a red shirt and blue trousers on sand at day`; what is not seen is left
        out. At least `SOMEBODY`.
    """
    from annotators.table import annotate

    try:
        annotation = annotate("segmentation", image)
    except AnnotatorError:
        return SOMEBODY
    data = annotation.data or {}
    if tuple(data.get("names", ())) != tuple(net.PARTS):
        return SOMEBODY  # a map of other classes, or a mask of people
    outdoors = annotation.backend != figure_row.NAME
    return in_words(np.asarray(image.convert("RGB")), np.asarray(data["ids"]), bundled(), outdoors=outdoors)


def in_words(rgb: np.ndarray, parts: np.ndarray, names: ColourNames, *, outdoors: bool = True) -> str:
    """Describe a picture (H, W, 3) uint8 with known parts (H, W); see `describe_figure`.

    Args:
        rgb: the picture.
        parts: indices into the starter net's parts.
        names: the colours.
        outdoors: whether what is neither ground nor figure is the sky, whose light colours everything.
    """
    sky = names.name(rgb, parts, SKY) if outdoors else None
    under = sky or "day"
    found = {part: names.name(rgb, parts, part, under) for part in ("hair", "hat", "shirt", "trousers", "ground")}
    words = [SOMEBODY]
    if found["hair"]:
        words.append(f"with {found['hair']} hair")
    if found["hat"]:
        words.append(f"{'and' if found['hair'] else 'with'} {_article(found['hat'])} hat")
    clothes = [_article(f"{found['shirt']} shirt")] if found["shirt"] else []
    clothes += [f"{found['trousers']} trousers"] if found["trousers"] else []
    if clothes:
        words.append(f"in {' and '.join(clothes)}")
    words += [_PHRASES[name] for name in (found["ground"], sky) if name]
    return " ".join(words)


def _article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"
