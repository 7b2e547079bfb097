"""A run of a recipe on a loaded model: batch after batch, each picture saved before the next batch begins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.adherence.measure import measure
from controlnext.device import is_out_of_memory, software
from controlnext.errors import ControlNeXtError, StudioError, add_sentence
from controlnext.progress import Cancelled, Clock, Progress, stop_if
from controlnext.recipes.kinds import kind_of
from controlnext.studio.wording import count_batches, same_words

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.adherence.measure import Annotate, Asked
    from controlnext.engine.engine import Engine
    from controlnext.engine.memory_savings import Saving
    from controlnext.recipes.inputs import Inputs
    from controlnext.recipes.recipe import Recipe
    from controlnext.results.gallery import Gallery
    from controlnext.studio.enhance import Enhancing
    from controlnext.studio.wording import Wording

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """A recipe being run.

    Attributes:
        engine: the loaded model, prepared for the recipe.
        recipe: what to make.
        asked: the conditions, one for each control of the recipe; empty without control.
        inputs: all pictures it is run with, in the size to be made.
        gallery: where pictures are saved.
        annotate: measures the adherence; None measures nothing.
        report: called after every step.
        cancel: stops after the current step once it is set.
        clock: estimates the time left.
        words: of each picture.
        enhancing: what is done to each picture after it was drawn.
        images: pictures made so far, saved.
        files: where they are.
        seeds: seed of each.
        adherence: score of each; with several controls, that of the first.
        adherences: scores of each by kind of control.
        stopped: whether it was stopped before all were made.
        memory_savings: memory savings that were needed on the way.
    """

    engine: Engine
    recipe: Recipe
    asked: tuple[Asked, ...]
    inputs: Inputs
    gallery: Gallery
    annotate: Annotate | None
    report: Callable[[Progress], None]
    cancel: threading.Event
    clock: Clock
    words: Wording
    enhancing: Enhancing
    images: list[Image.Image] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    adherence: list[float | None] = field(default_factory=list)
    adherences: dict[str, list[float | None]] = field(default_factory=dict)
    stopped: bool = False
    memory_savings: list[Saving] = field(default_factory=list)

    def __call__(self) -> None:
        """Make all pictures; where the memory is too small, the engine saves memory and makes the batch again.

        Raises:
            Cancelled: stopped before a picture was finished; later, `stopped` is set instead.
            ControlNeXtError: memory or disk are full, or the numbers overflowed; says how many pictures are saved.
        """
        try:
            recipes = self.words.final(self.recipe)
            prepared = recipes[0].loras
            while left := recipes[len(self.images) :]:
                alike = list(takewhile(lambda one: same_words(one, left[0]), left[: self._size()]))
                if left[0].loras != prepared:
                    prepared = left[0].loras
                    self.engine.prepare(left[0], self.words.loras[prepared])
                images = self._batch(alike)
                if images is None:
                    self.clock.replan(count_batches(left, self._size()))
                    continue
                for image, recipe in zip(images, alike, strict=True):
                    self._keep(image, recipe, len(alike))
                self.clock.end_batch()
        except Cancelled:
            if not self.images:
                raise
            self.stopped = True
        except ControlNeXtError as error:
            if not self.files:
                raise
            add_sentence(error, f"The {len(self.files)} made before it are saved in {self.gallery.output_dir}.")
            raise

    def _size(self) -> int:
        """Pictures to make at once."""
        return self.engine.savings.most(self.recipe.width * self.recipe.height, self.engine.preset.batch)

    def _batch(self, recipes: Sequence[Recipe]) -> list[Image.Image] | None:
        """Make one batch of recipes with the same words; None if it did not fit into the memory and another try may."""
        last = self.clock.done + self.recipe.steps_to_run

        def on_step(preview: Image.Image | None) -> None:
            self.clock.tick()
            self._tell(preview)
            if self.clock.done < last:  # a picture that only needs decoding is not thrown away
                stop_if(self.cancel)

        stop_if(self.cancel)
        if self.inputs.drawn is not None:
            return [self.inputs.drawn.image]
        self._tell(None)
        self.clock.begin_batch()
        try:
            return self.engine.run(recipes[0], [recipe.seed for recipe in recipes], self.inputs, on_step)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler, so that the error no longer holds on to what filled the memory.
        logger.warning("Out of memory with %d pictures of %dx%d", len(recipes), self.recipe.width, self.recipe.height)
        saving = self.engine.save_memory(self.recipe, len(recipes))
        if saving is not None:
            self.memory_savings.append(saving)
            return None
        raise StudioError(
            f"There is not enough memory for a picture of {self.recipe.width}x{self.recipe.height}; "
            "make it smaller, or close other programs."
        )

    def _tell(self, preview: Image.Image | None) -> None:
        self.report(Progress("Drawing", self.clock.done, self.clock.total, self.clock.seconds_left, preview))

    def _keep(self, image: Image.Image, recipe: Recipe, batch: int) -> None:
        """Finish a picture, measure it, save it and add it to the results; it is measured before it is enlarged."""
        image = self.enhancing.detail(image, recipe)
        controls = self.recipe.all_controls
        scores = {
            control.condition_kind: measure(self.annotate, control, asked, image, self.engine.preset.adherence_backend)
            for control, asked in zip(controls, self.asked, strict=True)
        }
        value = scores.get(self.recipe.condition_kind)
        made_with = {**software(), **self.engine.made_on(), "batch": batch}  # what pixels depend on besides the recipe
        facts = _facts(scores) | {"made_with": made_with}
        if recipe.prompt != self.recipe.prompt:
            facts["prompt_as_written"] = self.recipe.prompt
        image = self.enhancing.enlarge(image, recipe)
        kept = replace(self.inputs, conditions=self.asked)  # with the joints that a drawing cannot show
        self.files.append(self.gallery.save(image, recipe, kept, facts))
        for kind, score in scores.items():
            self.adherences.setdefault(kind, []).append(score)
        self.images.append(image)
        self.seeds.append(recipe.seed)
        self.adherence.append(value)


def _facts(scores: Mapping[str, float | None]) -> dict[str, object]:
    """Return the scores that a picture carries: the first by name, and all by kind where there are several."""
    rounded = {kind: None if value is None else round(value, 4) for kind, value in scores.items()}
    kind, first = next(iter(rounded.items()), ("", None))
    facts: dict[str, object] = {} if first is None else {"adherence": first, "adherence_name": kind_of(kind).score}
    return facts | ({"adherences": rounded} if len(rounded) > 1 else {})
