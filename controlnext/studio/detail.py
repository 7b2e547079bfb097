"""Detail: faces and hands of a finished picture are cut out, drawn again at full size under the same control, and pasted back.

The cut has the picture's shape, so that control, start picture and mask are cut and enlarged alike. The edge is soft, and
pixels outside of it stay as they are, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFilter

from controlnext.adherence.body_parts import PartCircle, parts_of_people
from controlnext.adherence.measure import found_nothing
from controlnext.recipes.areas import area_cut
from controlnext.recipes.inputs import Inputs, picture_of
from controlnext.recipes.kinds import AUTO, POSE, kind_of
from controlnext.recipes.limits import LIMITS
from controlnext.recipes.pictures import resized

if TYPE_CHECKING:
    from controlnext.adherence.measure import Annotate, Asked
    from controlnext.recipes.recipe import Recipe

DETAIL_STRENGTH = 0.45
"""Share of a part that is drawn again: less keeps its faults, more gives another face."""

AROUND = 2.0
"""Half the cut's short side, in radii of the part; what is around it tells the model where it is."""

REDRAWN, SOFT = 1.25, 0.15
"""Radius up to which a part is drawn again, and the blur of its edge, in radii of the part."""

MOST_PARTS = 8
"""Parts of one kind that are drawn again, the largest first."""

SMALLEST_CUT = 8
"""Pixels of a cut's short side: there is nothing to draw from in a smaller one."""

Draw = Callable[["Recipe", Inputs], Image.Image]


@dataclass(frozen=True)
class DetailCut:
    """A part of a picture.

    Attributes:
        box: left, top, right and bottom in pixels.
        circle: the part, in pixels of the picture.
    """

    box: tuple[int, int, int, int]
    circle: PartCircle

    @classmethod
    def around(cls, circle: PartCircle, size: tuple[int, int]) -> DetailCut | None:
        """Cut a part out of a picture of a size, in the picture's shape; None where that is too small, or nearly all of it."""
        width, height = size
        scale = 2 * AROUND * circle.radius / min(size)
        inner = round(width * scale), round(height * scale)
        if min(inner) < SMALLEST_CUT or scale >= 1:
            return None
        left, top = (
            min(max(0, round(middle - side / 2)), whole - side)
            for middle, side, whole in zip(circle.centre, inner, size, strict=True)
        )
        return cls((left, top, left + inner[0], top + inner[1]), circle)

    def soft_mask(self) -> Image.Image:
        """Return how much of the new part is pasted: L, of the size of the box."""
        left, top, right, bottom = self.box
        (x, y), radius = self.circle.centre - (left, top), REDRAWN * self.circle.radius
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        return mask.filter(ImageFilter.GaussianBlur(SOFT * self.circle.radius))

    def paste(self, image: Image.Image, part: Image.Image) -> Image.Image:
        """Return the picture with the part, which may be of any size of the same shape, in its place."""
        left, top, right, bottom = self.box
        pasted = image.copy()
        small = part.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        pasted.paste(small, (left, top), self.soft_mask())
        return pasted


def add_detail(
    image: Image.Image, recipe: Recipe, inputs: Inputs, part: str, people: Mapping[str, Any] | None, draw: Draw
) -> tuple[Image.Image, int]:
    """Draw the faces or hands of a picture again.

    Args:
        image: in the recipe's size.
        recipe: of this one picture.
        inputs: what it was made with, in its size.
        part: `face` or `hands`.
        people: data of a pose annotation of the picture.
        draw: runs a recipe of one picture.

    Returns:
        The picture, and how many parts were drawn again.
    """
    cuts = list(_cuts(parts_of_people(people, part), image.size))
    for number, cut in enumerate(cuts, start=1):
        image = cut.paste(image, draw(_again(recipe, number, cut), _cut_out(inputs, recipe, image, cut)))
    return image, len(cuts)


def read_people(
    annotate: Annotate, image: Image.Image, recipe: Recipe, asked: tuple[Asked, ...], backend: str
) -> Mapping[str, Any]:
    """Find the people of a picture; those of its pose control where the reader finds nobody.

    Faces and hands of their own are read where the pose control's settings ask for them.

    Args:
        annotate: `annotate(name, image, backend=..., **settings)`.
        image: in the recipe's size.
        recipe: says what its controls are.
        asked: its conditions.
        backend: annotator backend that can read the model's pictures, or `auto`.

    Raises:
        Exception: the annotators' own errors.
    """
    pose = next((one for one in zip(recipe.all_controls, asked, strict=True) if one[0].condition_kind == POSE), None)
    settings = dict(pose[0].annotator_settings) if pose and pose[0].annotator == POSE else {}
    options = {name: settings[name] for name in ("hands", "face") if name in settings}
    try:
        found = annotate(POSE, image, backend=settings.get("backend", AUTO) if backend == AUTO else backend, **options)
        data = found.data or {}
    except Exception as error:
        if not found_nothing(error):
            raise
        data = {}
    return data if data.get("people") else (pose[1].data if pose else None) or {}


def _cuts(circles: list[PartCircle], size: tuple[int, int]) -> Iterator[DetailCut]:
    for circle in circles[:MOST_PARTS]:
        if cut := DetailCut.around(circle, size):
            yield cut


def _cut_out(inputs: Inputs, recipe: Recipe, image: Image.Image, cut: DetailCut) -> Inputs:
    """Return what the part is drawn with: everything cut out and brought to the picture's size."""
    conditions = tuple(
        resized(picture_of(condition).crop(cut.box), image.size, kind_of(control.condition_kind).fit.resample)
        for condition, control in zip(inputs.conditions, recipe.all_controls, strict=True)
    )
    mask = cut.soft_mask().point(lambda value: 255 * (value > 0)).resize(image.size, Image.Resampling.NEAREST)
    start = image.crop(cut.box).resize(image.size, Image.Resampling.LANCZOS)
    return Inputs(conditions, start, mask, reference=inputs.reference)


def _again(recipe: Recipe, number: int, cut: DetailCut) -> Recipe:
    """Return the recipe of a part: the words and the control stay."""
    size = recipe.width, recipe.height
    controls = [one.model_copy(update={"area": area_cut(one.area, cut.box, size)}) for one in recipe.controls]
    strength = DETAIL_STRENGTH if int(DETAIL_STRENGTH * recipe.num_inference_steps) else 1.0
    return recipe.replace(
        seed=min(recipe.seed + number, int(LIMITS["seed"].maximum)), num_images=1, strength=strength, init_sha256="",
        mask_sha256="", weights={}, people=(), detail=(), upscale=1, upscaler="", controls=controls, area=area_cut(recipe.area, cut.box, size),
    )  # fmt: skip
