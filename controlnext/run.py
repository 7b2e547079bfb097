"""One run of a recipe on a loaded model: batch after batch, each picture saved before the next batch begins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.device import is_out_of_memory
from controlnext.errors import ControlNeXtError
from controlnext.measure import adherence_name, measure
from controlnext.progress import Clock, Progress

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.engine import Engine
    from controlnext.gallery import Gallery
    from controlnext.measure import Annotate, Asked
    from controlnext.recipe import Recipe

log = logging.getLogger(__name__)


class StudioError(ControlNeXtError, RuntimeError):
    """A recipe that this machine could not run; the text says why and what helps."""


class Cancelled(ControlNeXtError, RuntimeError):
    """Stopped before a picture was finished."""


@dataclass
class Run:
    """A recipe being run.

    Attributes:
        engine: the loaded model, prepared for the recipe.
        recipe: what to make.
        asked: the condition; None for words alone.
        gallery: where pictures are saved.
        annotate: measures the adherence; None measures nothing.
        report: told about every step.
        cancel: stops after the current step once it is set.
        clock: estimates the time left.
        images: pictures made so far, saved.
        files: where they are.
        seeds: seed of each.
        adherence: score of each.
        stopped: whether it was stopped before all were made.
    """

    engine: Engine
    recipe: Recipe
    asked: Asked | None
    gallery: Gallery
    annotate: Annotate | None
    report: Callable[[Progress], None]
    cancel: threading.Event
    clock: Clock
    images: list[Image.Image] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    adherence: list[float | None] = field(default_factory=list)
    stopped: bool = False

    def __call__(self) -> None:
        """Make all pictures; a batch too large for the memory is made in halves.

        Raises:
            Cancelled: stopped before a picture was finished; later, `stopped` is set instead.
            ControlNeXtError: memory or disk are full, or the numbers overflowed; says how many pictures are saved.
        """
        size = self.engine.preset.batch
        try:
            while (left := self.recipe.num_images - len(self.images)) > 0:
                first = self.recipe.seed + len(self.images)
                seeds = range(first, first + min(size, left))
                images = self._batch(seeds)
                if images is None:
                    size = len(seeds) // 2
                    self.clock.replan(-(-left // size))
                    continue
                for image, seed in zip(images, seeds, strict=True):
                    self._keep(image, seed)
                self.clock.end_batch()
        except Cancelled:
            if not self.images:
                raise
            self.stopped = True
        except ControlNeXtError as error:
            if not self.files:
                raise
            saved = f"The {len(self.files)} made before it are saved in {self.gallery.output_dir}."
            raise type(error)(f"{error} {saved}") from error

    def _batch(self, seeds: Sequence[int]) -> list[Image.Image] | None:
        """Make one batch; None if it did not fit into the memory and a smaller one may."""
        last = self.clock.done + self.recipe.num_inference_steps

        def on_step(preview: Image.Image | None) -> None:
            self.clock.tick()
            self._tell(preview)
            if self.clock.done < last:  # a picture that only waits to be decoded is not thrown away
                stop_if(self.cancel)

        stop_if(self.cancel)
        self._tell(None)
        self.clock.begin_batch()
        try:
            return self.engine.run(self.recipe, seeds, self.asked.image if self.asked else None, on_step)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler, so that the error no longer holds on to what filled the memory.
        log.warning("Out of memory with %d pictures of %dx%d", len(seeds), self.recipe.width, self.recipe.height)
        self.engine.free()
        if len(seeds) > 1:
            return None
        raise StudioError(
            f"There is not enough memory for a picture of {self.recipe.width}x{self.recipe.height}; "
            "make it smaller, or close other programs."
        )

    def _tell(self, preview: Image.Image | None) -> None:
        self.report(Progress("Drawing", self.clock.done, self.clock.total, self.clock.seconds_left, preview))

    def _keep(self, image: Image.Image, seed: int) -> None:
        """Measure a picture, save it and count it as made."""
        value = measure(self.annotate, self.engine.preset, self.recipe, self.asked, image)
        name = adherence_name(self.recipe.condition_kind)
        facts = {} if value is None else {"adherence": round(value, 4), "adherence_name": name}
        recipe = self.recipe.alone(seed - self.recipe.seed)
        self.files.append(self.gallery.save(image, recipe, self.asked.image if self.asked else None, facts))
        self.images.append(image)
        self.seeds.append(seed)
        self.adherence.append(value)


def stop_if(cancel: threading.Event) -> None:
    """Raise `Cancelled` if someone asked to stop."""
    if cancel.is_set():
        raise Cancelled("Stopped before a picture was finished.")
