"""Options of pictures and additional controls: `--control`, `--init-image`, `--mask`, and gamma as a curve."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from controlnext.recipes.inputs import Inputs
from controlnext.recipes.kinds import READY_MADE
from controlnext.studio.conditions import condition_of

if TYPE_CHECKING:
    from controlnext.recipes.recipe import ControlUse, Recipe
    from controlnext.studio.protocols import MadeCondition


@dataclass(frozen=True)
class ExtraControl:
    """One `--control KIND[:GAMMA][=IMAGE]`.

    Attributes:
        kind: annotator.
        gamma: number or curve as it was written; empty takes the adapter's own.
        image: picture of its own; None takes that of `--image`.
    """

    kind: str
    gamma: str = ""
    image: Path | None = None

    @classmethod
    def parse(cls, text: str) -> ExtraControl:
        """Read the option; the gamma may hold colons itself, as in `depth:0:1, 0.5:0.3`."""
        head, _, image = text.partition("=")
        kind, _, gamma = head.partition(":")
        return cls(kind.strip(), gamma.strip(), Path(image) if image else None)

    def values(self) -> dict[str, Any]:
        """Return its fields of the recipe."""
        return {"annotator": self.kind, **(gamma_values(self.gamma) if self.gamma else {})}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of a command that makes one recipe's pictures."""
    parser.add_argument("--init-image", type=Path, help="picture to start from instead of noise; see --strength")
    parser.add_argument("--mask", type=Path, help="of the size of --init-image, white where it is to be repainted")
    parser.add_argument("--reference", type=Path, help="picture to take looks from by an IP-Adapter; see --ip-adapter")


def gamma_values(text: str) -> dict[str, Any]:
    """Read gamma: a number, or a curve, which then stands alone."""
    try:
        return {"gamma": float(text), "gamma_curve": ""}
    except ValueError:
        return {"gamma": 1.0, "gamma_curve": text}


def made_by(annotator: str | None, adapter: str | None, image: Path | None) -> tuple[str, str | None]:
    """Return annotator and adapter of what a person named.

    A kind that no annotator makes, such as one of your own training, means a ready-made map of that kind.
    """
    import annotators

    if annotator is None:
        return READY_MADE if adapter or image is None else "pose", adapter
    if adapter is None and annotator not in list(annotators.ANNOTATORS):
        return READY_MADE, annotator
    return annotator, adapter


def inputs_of(
    image: Path | None,
    recipe: Recipe,
    further: Sequence[ExtraControl] = (),
    kept: Mapping[str, Any] = MappingProxyType({}),
) -> Inputs:
    """Make the conditions that a recipe asks for.

    Args:
        image: picture to take them from; None where there is none.
        recipe: what is asked for.
        further: may name pictures of their own.
        kept: conditions that are there already, by kind.

    Returns:
        The conditions that could be had, in the recipe's order up to the first that could not.
    """
    own = {one.kind: one.image for one in further}
    conditions = []
    for control in recipe.all_controls:
        kind = control.condition_kind
        path = own.get(kind) or (None if kind in kept else image)
        if path is None and kind not in kept:
            break
        conditions.append(kept[kind] if path is None else _condition(path, control, recipe))
    return Inputs(tuple(conditions))


def with_start(inputs: Inputs, options: argparse.Namespace, kept: Inputs | None = None) -> Inputs:
    """Add the start picture, the mask and the reference, those named on the command line before those that are there already."""
    import annotators

    init, mask = (annotators.load_picture(path) if path else None for path in (options.init_image, options.mask))
    if kept is not None and options.init_image is None:
        init, mask = kept.init_image, mask or kept.mask
    reference = (
        annotators.load_picture(options.reference) if options.reference else None if kept is None else kept.reference
    )
    return Inputs(inputs.conditions, init, mask, reference=reference)


def _condition(path: Path, control: ControlUse, recipe: Recipe) -> MadeCondition:
    import annotators

    return condition_of(annotators, annotators.load_picture(path), control, recipe).annotation
