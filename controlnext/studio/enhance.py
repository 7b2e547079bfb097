"""What is done to a picture after it was drawn: faces and hands in detail, then larger. All of it is in the recipe.

A picture that was drawn before is enhanced by its own recipe with more fields: the same recipe, run from the start, gives
the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from controlnext.errors import ControlNeXtError, StudioError
from controlnext.progress import Progress, stop_if
from controlnext.recipes.inputs import Drawn, Inputs
from controlnext.recipes.png import read_inputs, read_png
from controlnext.studio.detail import add_detail, read_people

if TYPE_CHECKING:
    import threading

    from controlnext.adherence.measure import Annotate, Asked
    from controlnext.engine.engine import Engine
    from controlnext.models.upscalers import UpscalerFolders
    from controlnext.recipes.recipe import BodyPart, Recipe


class EnhanceError(ControlNeXtError, ValueError):
    """A picture that cannot be enhanced; the text says why."""


@dataclass
class Enhancing:
    """Enhances the pictures of a run.

    Attributes:
        engine: prepared for the run's recipe.
        asked: the conditions.
        inputs: pictures of the run, in its size.
        annotate: finds people; None where the studio has no annotators.
        upscalers: where upscaling models are.
        report: called with the progress.
        cancel: stops after the current step once it is set.
        notes: what was found, a sentence each.
    """

    engine: Engine
    asked: tuple[Asked, ...]
    inputs: Inputs
    annotate: Annotate | None
    upscalers: UpscalerFolders
    report: Callable[[Progress], None]
    cancel: threading.Event
    notes: list[str] = field(default_factory=list)

    def detail(self, image: Image.Image, recipe: Recipe) -> Image.Image:
        """Draw what `recipe.detail` names again, but for what the picture was given with.

        Args:
            image: in the recipe's size.
            recipe: of this one picture.

        Raises:
            ControlNeXtError: people cannot be found here, or memory ran out.
        """
        from controlnext.device import enough_memory
        from controlnext.engine.start_from import keep_unmasked

        done = self.inputs.drawn.detail if self.inputs.drawn else ()
        for part in recipe.detail[len(done) :]:
            if self.annotate is None:
                raise StudioError(f"The {part} cannot be found: this studio was started without annotators.")
            self._tell(f"Looking for the {part}")
            backend = self.engine.preset.adherence_backend
            people = read_people(self.annotate, image, recipe, self.asked, backend)
            with enough_memory("for details; close other programs, or make the picture smaller"):
                image, count = add_detail(image, recipe, self.inputs, part, people, self._draw)
            found = {"face": "face", "hands": "hand"}[part]
            self.notes.append(f"{count} {found}{'' if count == 1 else 's'} drawn in detail.")
            image = keep_unmasked(image, self.inputs)
        return image

    def enlarge(self, image: Image.Image, recipe: Recipe) -> Image.Image:
        """Make a picture as much larger as its recipe says; errors as of `Upscaling.enlarge`."""
        if recipe.upscale == 1:
            return image
        from controlnext.engine.upscale import Upscaling

        return Upscaling(self.upscalers, self.engine.device).enlarge(
            image, recipe.upscale, recipe.upscaler, self._on_tile
        )

    def _draw(self, recipe: Recipe, inputs: Inputs) -> Image.Image:
        step = 0

        def on_step(preview: Image.Image | None) -> None:
            nonlocal step
            step += 1
            self._tell("Drawing details", step, recipe.steps_to_run, preview)

        (image,) = self.engine.run(recipe, [recipe.seed], inputs, on_step)
        return image

    def _on_tile(self, done: int, tiles: int) -> None:
        self._tell("Enlarging", done, tiles)

    def _tell(self, stage: str, step: int = 0, total: int = 0, preview: Image.Image | None = None) -> None:
        stop_if(self.cancel)
        self.report(Progress(stage, step, total, None, preview, "tile" if stage == "Enlarging" else "step"))


def enhanced(
    file: Path, detail: Sequence[BodyPart] = (), upscale: int = 1, upscaler: str = ""
) -> tuple[Recipe, Inputs]:
    """Return what a run takes to enhance a saved picture.

    Args:
        file: a PNG with its recipe inside.
        detail: parts to draw again; those that it has already stay.
        upscale: 1, 2 or 4.
        upscaler: file name of a model; empty takes Lanczos.

    Raises:
        EnhanceError: it carries no recipe, it was enlarged already, or there is nothing to do.
        RecipeError: a value is wrong.
    """
    recipe = read_png(file)
    if recipe is None:
        raise EnhanceError(f"{file.name} carries no recipe; give a PNG as this app saved it.")
    if recipe.precision:
        raise EnhanceError("This is a live picture; press Generate for one to enhance.")
    if recipe.upscale > 1:
        raise EnhanceError(
            f"{file.name} was enlarged {recipe.upscale} times already; take the picture that it was made from."
        )
    new = [part for part in detail if part not in recipe.detail]
    if not new and upscale == 1:
        named = " and ".join(recipe.detail)
        raise EnhanceError(
            f"Nothing to do: {f'the {named} of this picture has been drawn in detail' if named else 'no part'} and no size was asked for; "
            "choose face or hands, or 2 or 4 times the size."
        )
    with Image.open(file) as opened:
        drawn = Drawn(opened.convert("RGB"), recipe.detail)
    recipe = recipe.replace(detail=(*recipe.detail, *new), upscale=upscale, upscaler=upscaler)
    return recipe, replace(read_inputs(file), drawn=drawn)
