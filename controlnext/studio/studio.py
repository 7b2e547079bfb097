"""The studio: runs recipes and returns saved pictures.

It loads what a recipe needs when it needs it, keeps one base model with its adapters and the controls they computed, makes
one batch after the other, reports progress, stops when asked, and saves each picture before anyone sees it. Torch and
diffusers are imported on first use, so that a page can be up long before a model is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from PIL import Image

from controlnext.adherence.no_effect import no_effect
from controlnext.device import enough_memory
from controlnext.engine.memory_savings import savings_note
from controlnext.errors import ControlNeXtError, StudioError
from controlnext.models.catalogue import Catalogue
from controlnext.models.defaults import few_steps_notes
from controlnext.models.extras import ExtraFolders
from controlnext.models.presets import DEFAULT_MODEL, Preset
from controlnext.models.readiness import conversion_advice
from controlnext.models.references import ReferenceFolders
from controlnext.models.run_options import RunOptions
from controlnext.models.upscalers import UpscalerFolders
from controlnext.progress import Cancelled, Clock, Pace, Progress, stop_if
from controlnext.recipes.inputs import Annotated, Inputs
from controlnext.recipes.kinds import kind_of
from controlnext.recipes.prompts import Wildcards
from controlnext.recipes.recipe import Recipe
from controlnext.results.gallery import Gallery
from controlnext.studio.enhance import Enhancing
from controlnext.studio.following import following
from controlnext.studio.live import Followed, LivePicture, follow
from controlnext.studio.prepare import differences, prepared
from controlnext.studio.run import Run
from controlnext.studio.turns import Turns
from controlnext.studio.wording import WordFolders, Wording

if TYPE_CHECKING:
    from controlnext.adherence.overlay import Overlay
    from controlnext.animation.animator import Animator, VideoOptions
    from controlnext.animation.opened_clip import Source
    from controlnext.animation.video_run import VideoResult
    from controlnext.engine.engine import Engine
    from controlnext.engine.live import LiveEngine
    from controlnext.method.control_cache import CacheUse, ControlCache
    from controlnext.recipes.video_recipe import VideoRecipe
    from controlnext.studio.protocols import Annotators

__all__ = ["Cancelled", "Progress", "Result", "Studio", "StudioError"]

logger = logging.getLogger(__name__)

OnProgress = Callable[[Progress], None]

_TURNS = Turns()  # one generation in the process: two would share the memory and each take longer than both in a row


@dataclass(frozen=True)
class Result:
    """The outcome of a run.

    Attributes:
        images: RGB pictures, in the order of their seeds.
        files: the same pictures on disk, each with its own recipe inside.
        recipe: what was run, with the digests of condition and weights filled in.
        seeds: seed of each picture.
        adherence: how well each picture follows the first condition, in [0, 1]; None where it cannot be measured.
        adherence_name: what that number is.
        adherences: the same for each control, by its kind.
        seconds: time from the call to here.
        stopped: whether it was stopped before all pictures were made.
        notes: sentences worth showing, such as a prompt the model did not read to its end.
        cache: controls that were computed, and that were there from earlier runs; None where nobody counted.
    """

    images: list[Image.Image]
    files: list[Path]
    recipe: Recipe
    seeds: list[int]
    adherence: list[float | None]
    adherence_name: str
    seconds: float
    stopped: bool
    notes: tuple[str, ...] = ()
    adherences: Mapping[str, list[float | None]] = field(default_factory=dict)
    cache: CacheUse | None = None


class Studio:
    """Everything between a recipe and its pictures. Safe to call from several threads; they take turns."""

    def __init__(  # noqa: PLR0913 - each is a setting of its own, by name
        self,
        *,
        output_dir: str | Path,
        presets_dir: str | Path | None = None,
        lora_dirs: Sequence[str | Path] = (),
        device: str | None = None,
        annotators: Annotators | None = None,
        threads: int | None = None,
        words: WordFolders | None = None,
        extras: ExtraFolders | None = None,
        run_options: RunOptions | None = None,
    ) -> None:
        """Name the folders; nothing is read, made or loaded yet.

        Args:
            output_dir: where results are saved.
            presets_dir: folder of preset files; None takes the project's.
            lora_dirs: folders of LoRAs for any model, in addition to those that presets name.
            device: `cuda`, `cuda:1`, `mps` or `cpu`; None takes the best there is.
            annotators: the package `annotators`, or something that acts like it; None measures no adherence and makes no videos.
            threads: CPU threads of torch; None takes one on two cores and torch's own choice on more.
            words: folders of embeddings and wildcards; None has none.
            extras: folders of upscaling models and IP-Adapters; None takes those of the current folder.
            run_options: how models are kept in memory and run.
        """
        self.gallery = Gallery(output_dir)
        self.catalogue = Catalogue(presets_dir, lora_dirs)
        self._device_name = device
        self._annotators = annotators
        self._threads = threads
        self._words = words or WordFolders()
        self._run_options = run_options or RunOptions()
        extras = extras or ExtraFolders()
        self.upscalers, self.references = UpscalerFolders(extras.upscalers), ReferenceFolders(extras.references)
        self.wildcards = Wildcards(self._words.wildcards)
        self._engine: Engine | None = None
        self._cache: ControlCache | None = None
        self._paces: dict[tuple[object, ...], Pace] = {}
        self._warming = False

    @property
    def ready(self) -> bool:
        """Whether a model is loaded."""
        return self._engine is not None

    @property
    def annotators(self) -> Annotators:
        """The annotators, which make conditions and read poses.

        Raises:
            StudioError: the studio was started without.
        """
        if self._annotators is None:
            raise StudioError("This studio was started without annotators: it makes no conditions and no videos.")
        return self._annotators

    def warm_up(self) -> None:
        """Load the default model, so that the first picture need not wait for it; made to run in a background thread.

        What fails is logged and shown by `models()`, not raised: there is nobody to catch it. Nothing is downloaded:
        nobody asked for it.
        """
        self._warming = True
        try:
            with self.turn(lambda progress: None, threading.Event()):
                preset = self.catalogue.preset(DEFAULT_MODEL)
                if self.catalogue.here(preset):
                    self.load(preset)
        except ControlNeXtError as error:
            logger.warning("%s", error)
        finally:
            self._warming = False

    def generate(
        self,
        recipe: Recipe,
        condition: Image.Image | Annotated | Inputs | None,
        *,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> Result:
        """Run a recipe; waits for another run to end.

        Args:
            recipe: what to make.
            condition: the condition picture, or an annotation with its data; or `Inputs` with one for each control of the
                recipe, a start picture and a mask; None makes a picture from words alone.
            on_progress: called at every stage and step, in the calling thread.
            cancel: set it to stop after the current step; pictures of finished batches are kept.

        Returns:
            The pictures, already saved.

        Raises:
            Cancelled: stopped before a picture was finished.
            ControlNeXtError: the recipe does not fit the model, a file is missing or damaged, memory or disk are full; one
                sentence each. What was saved before stays.
        """
        report = on_progress or (lambda progress: None)
        cancel = cancel or threading.Event()
        begun = time.perf_counter()
        preset = self.catalogue.preset(recipe.model)
        self.catalogue.check(recipe, preset)
        recipe, asked, inputs = prepared(recipe, Inputs.of(condition), preset)
        words = Wording.of(recipe, preset, self.catalogue, self.wildcards)
        self.gallery.check()
        with self.turn(report, cancel):
            kinds = [control.condition_kind for control in recipe.all_controls]
            engine = self.load(preset, kinds, report, cancel)
            stop_if(cancel)
            with enough_memory("for the adapter and the LoRAs; use fewer of them, or close other programs"):
                engine.prepare(words.recipes[0], words.loras[words.recipes[0].loras])
            weights = engine.hashes(recipe, words.all_loras) | self.upscalers.hashes(recipe.upscaler)
            weights |= self.references.hashes(recipe.ip_adapter, preset)
            final = recipe.with_digests(inputs).replace(weights=weights)
            notes = (
                *no_effect(final, asked),
                *few_steps_notes(final),
                *words.notes,
                *engine.prompt_notes(words.recipes[0]),
                *differences(recipe, final),
            )
            clock = self._clock(preset, recipe, words.batches(preset.batch))
            annotate = None if self._annotators is None else self._annotators.annotate
            used = None if self._cache is None else self._cache.use
            enhancing = Enhancing(engine, asked, inputs, annotate, self.upscalers, report, cancel)
            run = Run(engine, final, asked, inputs, self.gallery, annotate, report, cancel, clock, words, enhancing)
            run()
            cache = None if self._cache is None or used is None else self._cache.use.since(used)
            if clock.pace is not None:
                self._paces[_kind_of_run(preset, recipe)] = clock.pace
        return Result(
            images=run.images,
            files=run.files,
            recipe=final,
            seeds=run.seeds,
            adherence=run.adherence,
            adherence_name=kind_of(recipe.condition_kind).score if asked else "",
            seconds=time.perf_counter() - begun,
            stopped=run.stopped,
            notes=(
                *notes,
                *enhancing.notes,
                *conversion_advice(preset, kinds),
                *filter(None, [savings_note(run.memory_savings)]),
            ),
            adherences=run.adherences,
            cache=cache,
        )

    def draw_live(
        self, recipe: Recipe, condition: Image.Image | Annotated | Inputs | None, cancel: threading.Event | None = None
    ) -> LivePicture:
        """Draw a recipe in few steps, for a page that shows each change at once; nothing is saved.

        Args:
            recipe: as the page shows it; the seed's noise is the same at each call.
            condition: as `generate` takes it.
            cancel: set it to stop, at the latest after the step that is being taken.

        Raises:
            ControlNeXtError: as `generate`.
        """
        from controlnext.engine.live import draws_in_eight_bits, live_recipe, precision_of

        preset = self.catalogue.preset(recipe.model)
        recipe, lora = live_recipe(recipe, preset.live_steps, self.catalogue.loras(recipe.model))
        self.catalogue.check(recipe, preset)
        recipe, asked, inputs = prepared(recipe, replace(Inputs.of(condition), reference=None), preset)
        words = Wording.of(recipe, preset, self.catalogue, self.wildcards)
        recipe, cancel = words.recipes[0], cancel or threading.Event()
        with self.turn(lambda progress: None, cancel):
            loaded = self.load(preset, [control.condition_kind for control in recipe.all_controls])
            with enough_memory("for live pictures; switch them off, or close other programs"):
                engine = self._live.of(loaded)
                engine.embeddings = self._words.vectors()
                begun = time.perf_counter()
                engine.prepare(recipe, words.all_loras)
                (image,) = engine.run(recipe, [recipe.seed], inputs, None, lambda: stop_if(cancel))
        seconds = time.perf_counter() - begun
        made_by = recipe.replace(precision=precision_of(engine))
        return LivePicture(image, made_by, asked, seconds, lora, draws_in_eight_bits(engine), no_effect(recipe, asked))

    def follow_live(self, picture: LivePicture) -> Followed:
        """Measure how well a live picture follows its first condition."""
        return follow(self.annotators.annotate, picture, self.adherence_backend(picture.recipe.model))

    def adherence_backend(self, model: str) -> str:
        """Return the annotator backend that can read the pictures of a model, or `auto`."""
        return self.catalogue.preset(model).adherence_backend

    def show_following(self, file: Path) -> Overlay:
        """Show what a saved picture followed of its first condition, and what drifted.

        Args:
            file: a PNG with its recipe inside.

        Raises:
            ControlNeXtError: it carries no recipe or no condition, or its kind of condition has no measure.
        """
        return following(self.annotators.annotate, file, self.adherence_backend)

    @cached_property
    def _live(self) -> LiveEngine:
        from controlnext.engine.live import LiveEngine

        return LiveEngine()

    @cached_property
    def animator(self) -> Animator:
        """The animator, which makes videos and reads clips for them without a model."""
        from controlnext.animation.animator import Animator

        return Animator(self.annotators, self)

    def animate(
        self, recipe: VideoRecipe, reference: Image.Image | None, clip: Source, **options: Unpack[VideoOptions]
    ) -> VideoResult:
        """Make a video of a reference picture and a clip; see `Animator.animate`."""
        return self.animator.animate(recipe, reference, clip, **options)

    def load(
        self,
        preset: Preset,
        kinds: Sequence[str] = (),
        report: OnProgress = lambda progress: None,
        cancel: threading.Event | None = None,
    ) -> Engine:
        """Return the engine of a preset, with the files of its base model and of some adapters on this disk.

        Another model is released first, so that memory never holds two.
        """
        cancel = cancel or threading.Event()
        self.catalogue.require(preset, kinds, video=preset.video)
        import torch

        from controlnext.device import choose_device, default_threads, release_memory
        from controlnext.engine.engine import EngineError
        from controlnext.method.control_cache import ControlCache

        threads = self._threads or default_threads()
        if threads and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)  # in each thread: torch keeps the number per thread
        device = choose_device(self._device_name)
        self.catalogue.run_in(half=device.dtype == torch.float16)
        self.catalogue.fetch(preset, kinds, report, cancel)
        if self._engine is not None and self._engine.preset == preset:
            return self._engine
        report(Progress(f"Loading {preset.title}"))
        self._cache = self._cache or ControlCache()
        self._engine = None
        self._cache.clear()
        release_memory()
        try:
            with enough_memory(f"to load {preset.title}; close other programs, or choose a smaller model"):
                engine = _engine_of(preset).load(
                    preset, device, self._cache, lambda: stop_if(cancel), self._run_options
                )
                engine.warm()
        except EngineError as error:
            self.catalogue.failed(preset, str(error))
            raise
        self.catalogue.failed(preset, "")
        engine.embeddings, engine.references = self._words.vectors(), self.references
        self._engine = engine
        return engine

    def _clock(self, preset: Preset, recipe: Recipe, batches: int) -> Clock:
        return Clock(recipe.steps_to_run, batches, self._paces.get(_kind_of_run(preset, recipe)))

    @contextmanager
    def turn(self, report: OnProgress, cancel: threading.Event) -> Iterator[None]:
        """Wait for the other runs of this process to end, and say how many there are."""

        def wait(before: int) -> None:
            alone = "Loading the model" if self._warming else "Waiting for another run"
            report(Progress(alone if before == 1 else f"Waiting for {before} other runs"))

        with _TURNS.take(wait, cancel):
            yield


def _engine_of(preset: Preset) -> type[Engine]:
    if preset.video:
        from controlnext.engine.video_engine import VideoEngine

        return VideoEngine
    from controlnext.engine.engine import Engine

    return Engine


def _kind_of_run(preset: Preset, recipe: Recipe) -> tuple[object, ...]:
    """Return a key of runs whose steps take the same time."""
    batch = min(preset.batch, recipe.num_images)
    return preset.name, recipe.width, recipe.height, batch, recipe.guidance_scale > 1
