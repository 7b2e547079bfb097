"""Requests for pictures as programs send them: checked, and made into a recipe with its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controlnext.recipes.inputs import Inputs
from controlnext.recipes.kinds import READY_MADE
from controlnext.recipes.person_use import PersonUse
from controlnext.recipes.recipe import DEFAULT_STRENGTH
from controlnext.studio.conditions import ConditionRequestError, condition_of
from controlnext.ui.image.controls import SentArea, SentControl
from controlnext.ui.shared import open_picture

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.studio import Studio


@dataclass(frozen=True)
class AskedPictures:
    """A recipe, and what its pictures are made of.

    Attributes:
        studio: makes conditions.
        recipe: what is asked for.
        path: the upload that gives the first control.
        others: additional controls as they were sent.
        init_image: picture to start from.
        mask: where it is repainted.
        reference: picture to take looks from.
    """

    studio: Studio
    recipe: Recipe
    path: str
    others: Sequence[SentControl]
    init_image: Image.Image | None = None
    mask: Image.Image | None = None
    reference: Image.Image | None = None

    def inputs_for(self, recipe: Recipe) -> Inputs:
        """Make the pictures of a recipe: the own one, or one that differs from it in its kind of control or its model."""
        tools, controls = self.studio.annotators, recipe.all_controls
        if not controls:
            raise ConditionRequestError(
                'The image is a condition already: say of which kind in the settings, such as {"adapter": "pose"}.'
            )
        made = [condition_of(tools, open_picture(tools, self.path), controls[0], recipe)]
        for sent, control in zip(self.others, recipe.controls, strict=True):
            made.append(sent.made(tools, control, self.path, recipe))
        pictures = tuple(one.annotation for one in made)
        return Inputs(pictures, self.init_image, self.mask, reference=self.reference)


def ask(
    studio: Studio,
    image: str | None,
    model: str,
    annotator: str,
    settings: dict[str, Any] | None = None,
    controls: list[dict[str, Any]] | None = None,
    init_image: str | None = None,
    mask: str | None = None,
    **values: Any,
) -> AskedPictures:
    """Check a request.

    Args:
        studio: says what models there are.
        image: path of the upload that gives the control.
        model: name of a preset.
        annotator: makes the condition; `none` takes the upload as it is, of the kind that `settings` name as `adapter`.
        settings: of the annotator.
        controls: additional controls.
        init_image: path of a picture to start from.
        mask: path of its mask.
        **values: fields of a recipe; null means the model's default. `area` is a `SentArea`, `reference`
            the path of a picture to take looks from, by the first IP-Adapter that fits unless `ip_adapter` names one.

    Raises:
        ControlNeXtError: something in it cannot be; the sentence says what.
    """
    if settings is not None and not isinstance(settings, dict):
        raise ConditionRequestError(f"settings is an object with names and values, or null; got {settings!r:.80}.")
    settings = dict(settings or {})
    adapter = settings.pop("adapter", "") if annotator == READY_MADE else ""
    others = SentControl.read(controls)
    reference = values.pop("reference", None)
    start = [None if path is None else open_picture(studio.annotators, path) for path in (init_image, mask, reference)]
    if reference is None:
        if values.pop("ip_adapter_scale", None) is not None:
            raise ConditionRequestError(
                "ip_adapter_scale weighs a reference picture: give a reference, too, or leave it out."
            )
    elif not values.get("ip_adapter"):
        values["ip_adapter"] = studio.references.first(studio.catalogue.preset(model))
    strength, area = values.pop("strength", None), values.pop("area", None) or SentArea()
    people = values.pop("people", None) or []
    if not isinstance(people, list) or not all(isinstance(one, str) for one in people):
        raise ConditionRequestError(f"people is a list of texts, or null; got {people!r:.80}.")
    recipe = studio.catalogue.resolve(
        model,
        annotator,
        people=[PersonUse.parse(one) for one in people],
        adapter=adapter,
        annotator_settings=settings,
        strength=(DEFAULT_STRENGTH if strength is None else strength) if init_image else strength,
        controls=[sent.values for sent in others],
        **values,
    )
    first, *further = [one.text(studio.annotators, recipe) for one in (area, *(sent.area for sent in others))]
    pairs = zip(recipe.controls, further, strict=True)
    recipe = recipe.replace(area=first, controls=[one.model_copy(update={"area": text}) for one, text in pairs])
    return AskedPictures(studio, recipe, required(image), others, *start)


def required(path: str | None) -> str:
    """Return the path of the one upload that a request cannot do without.

    Raises:
        ConditionRequestError: it was not sent.
    """
    if path is None:
        raise ConditionRequestError("There is no picture; send one as `image`.")
    return path
