"""The animator: makes an MP4 that carries its recipe, from a recipe, a reference picture and a clip."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import numpy as np
from PIL import Image

from controlnext.animation.choice import POSE_FRAMES, choice_of
from controlnext.animation.clip_reader import ClipReader, PoseTools
from controlnext.animation.driving_clip import DrivingClip
from controlnext.animation.opened_clip import Source
from controlnext.animation.reference import bounded_reference, pack_reference
from controlnext.animation.renderers import FrameRenderer, SequenceRenderer
from controlnext.animation.video_run import FrameScorer, VideoResult, VideoRun
from controlnext.device import enough_memory
from controlnext.engine.memory_savings import savings_note
from controlnext.errors import ControlNeXtError, add_sentence
from controlnext.method.families import FAMILIES
from controlnext.models.catalogue import RANDOM_SEEDS, Catalogue
from controlnext.models.presets import Preset
from controlnext.models.readiness import conversion_advice
from controlnext.progress import Pace, Progress, stop_if
from controlnext.recipes.kinds import AUTO, POSE
from controlnext.recipes.pictures import picture_digest
from controlnext.recipes.prompts import Wildcards, choose_words
from controlnext.recipes.recipe import RecipeError
from controlnext.recipes.video_recipe import VideoRecipe
from controlnext.results.gallery import Gallery
from controlnext.video.extract import clip_digest

if TYPE_CHECKING:
    from controlnext.engine.engine import Engine

DEFAULT_VIDEO_MODEL = "starter-video"
FALLBACK = "starter"
"""Image model that draws frame by frame where the bundled video model is missing."""

_UNSET = {"seed": -1, "width": 0, "height": 0}


class Host(Protocol):
    """What an animator takes of its studio: where results go, models in memory, and turns."""

    gallery: Gallery
    catalogue: Catalogue
    wildcards: Wildcards

    def load(
        self, preset: Preset, kinds: Sequence[str], report: Callable[[Progress], None], cancel: threading.Event
    ) -> Engine:
        """Return the engine of a preset with the adapters of some kinds."""

    def turn(self, report: Callable[[Progress], None], cancel: threading.Event) -> AbstractContextManager[None]:
        """Wait for other runs of this process to end."""


class VideoOptions(TypedDict, total=False):
    """What `Animator.animate` takes by name."""

    beside: bool
    poses: bool
    driving: DrivingClip | None
    on_progress: Callable[[Progress], None] | None
    cancel: threading.Event | None


class Animator:
    """Makes videos with a studio's models. Safe to call from several threads; they take turns."""

    def __init__(self, tools: PoseTools, host: Host) -> None:
        """Connect to a studio; nothing is loaded.

        Args:
            tools: the package `annotators`, or something that acts like it.
            host: the studio.
        """
        self.clip_reader = ClipReader(tools)
        self._tools = tools
        self._host = host
        self._paces: dict[tuple, Pace] = {}

    def models(self) -> list[dict[str, Any]]:
        """List the models that make videos; see `Catalogue.animators`."""
        return self._host.catalogue.animators()

    def resolve(
        self, model: str = DEFAULT_VIDEO_MODEL, reference: Image.Image | None = None, **values: object
    ) -> VideoRecipe:
        """Make a recipe of the given values and the model's defaults.

        Args:
            model: name of a preset.
            reference: selects the model's size of the nearest shape, where no size is given.
            **values: fields of a recipe. None means the default, as do a seed of -1 (random) and a width or height of 0.

        Raises:
            ControlNeXtError: a value is wrong, or the model lacks a requested feature; one sentence.
        """
        preset = self._host.catalogue.preset(model)
        given = {
            key: value
            for key, value in values.items()
            if value is not None and (isinstance(value, bool) or value != _UNSET.get(key))
        }
        width, height = _size(preset, reference)
        known = VideoRecipe.model_fields
        defaults = {**self._host.catalogue.defaults(preset, POSE, given), **FAMILIES[preset.family].video_defaults}
        defaults["drawing"] = preset.adapters[POSE].drawing
        filled = {"seed": secrets.randbelow(RANDOM_SEEDS), "width": width, "height": height, **defaults}
        recipe = VideoRecipe(
            **{key: value for key, value in filled.items() if key in known}
            | {"model": model}
            | {key: value for key, value in given.items() if key != "loras"}
        )
        self._check(recipe, preset)
        return recipe

    def read(
        self,
        recipe: VideoRecipe,
        reference: Image.Image | None,
        clip: Source,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> DrivingClip:
        """Check whether the recipe can be run, and read its clip; no model is loaded.

        Arguments and errors are those of `animate`.

        Returns:
            The clip's poses, placed in the video. They may be passed to another process.
        """
        preset = self._host.catalogue.preset(recipe.model)
        self._check(recipe, preset)
        if reference is None:
            raise RecipeError("There is no reference picture: add one that shows the character.")
        self._require(preset)
        self._host.gallery.check()
        size = (recipe.width, recipe.height)
        return self.clip_reader.drive(reference, clip, choice_of(recipe), size, on_progress=on_progress, cancel=cancel)

    def animate(
        self,
        recipe: VideoRecipe,
        reference: Image.Image | None,
        clip: Source,
        *,
        beside: bool = False,
        poses: bool = False,
        driving: DrivingClip | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> VideoResult:
        """Run a recipe. It waits for other runs to end; the clip is read while it waits.

        Args:
            recipe: what to make.
            reference: picture of the character, upright RGB.
            clip: who moves; as `open_clip` takes it.
            beside: whether to write a version with result, poses and clip side by side as well.
            poses: whether to write the poses alone as well, as a video and as JSON.
            driving: the result of `read` for the same recipe, reference and clip, if it was called before.
            on_progress: called after every frame read and every step, in the calling thread.
            cancel: set it to stop; finished frames are kept as a shorter video.

        Raises:
            Cancelled: stopped before a frame was finished.
            ControlNeXtError: the recipe does not fit the model, reference or clip cannot be used, a file is missing or
                damaged, memory or disk are full; one sentence each. Frames made before it are kept and named.
        """
        report, cancel = on_progress or (lambda progress: None), cancel or threading.Event()
        begun = time.perf_counter()
        preset, gallery = self._host.catalogue.preset(recipe.model), self._host.gallery
        if driving is None:
            driving = self.read(recipe, reference, clip, on_progress=report, cancel=cancel)
        reference = bounded_reference(reference)
        notes = list(driving.sentences)
        with self._host.turn(report, cancel):
            engine = self._host.load(preset, [POSE], report, cancel)
            stop_if(cancel)
            prompted = self._with_prompt(recipe, preset, reference, notes)
            loras = self._host.catalogue.lora_files(recipe, preset)
            with enough_memory("for the adapter; choose a smaller model, or close other programs"):
                notes += engine.prompt_notes(prompted)
                engine.prepare(prompted if preset.video else prompted.picture(prompted.prompt), loras)
            final = prompted.replace(
                reference_sha256=picture_digest(reference),
                clip_sha256=clip_digest(driving.clip),
                weights=engine.hashes(prompted, loras),
            )
            notes += _changes(recipe, final)
            kind = (preset.name, recipe.width, recipe.height, recipe.window, recipe.guidance_scale > 1)
            renderer = (SequenceRenderer if preset.video else FrameRenderer)(
                engine, final, driving, report, cancel, self._paces.get(kind)
            )
            scorer = FrameScorer(self._tools, _backend(preset, recipe), driving)
            packed = pack_reference(reference)
            result = VideoRun(gallery, renderer, final, driving, scorer, packed, begun, (beside, poses)).run(notes)
            if renderer.pace is not None:
                self._paces[kind] = renderer.pace
        advice = [*conversion_advice(preset, [POSE]), savings_note(renderer.memory_savings)]
        return replace(result, notes=(*result.notes, *filter(None, advice)))

    def _check(self, recipe: VideoRecipe, preset: Preset) -> None:
        self._host.catalogue.defaults(preset, POSE)
        try:
            preset.sizes.check(recipe.width, recipe.height, preset.title)
        except ValueError as error:
            raise RecipeError(str(error)) from None
        if preset.video and recipe.loras:
            raise RecipeError(
                f"{preset.title} takes no LoRAs: leave them out, or choose a model that draws frame by frame."
            )
        if preset.video and recipe.scheduler is not None:
            raise RecipeError(f"{preset.title} has a sampler of its own: leave the scheduler out.")
        self._host.catalogue.lora_files(recipe, preset)

    def _require(self, preset: Preset) -> None:
        try:
            self._host.catalogue.require(preset, [POSE], video=True)
        except ControlNeXtError as error:
            if preset.name != DEFAULT_VIDEO_MODEL:
                raise
            add_sentence(error, f"Until then the model {FALLBACK} draws videos frame by frame.")
            raise

    def _with_prompt(
        self, recipe: VideoRecipe, preset: Preset, reference: Image.Image, notes: list[str]
    ) -> VideoRecipe:
        """Fill an empty prompt of an image model with a description of the reference, if the model knows one."""
        if preset.video:
            return recipe
        if recipe.prompt:
            texts = {
                name: choose_words(getattr(recipe, name), f"{name}:{recipe.seed}", self._host.wildcards, notes)
                for name in ("prompt", "negative_prompt")
            }
            return recipe.replace(**texts)
        if preset.family != FALLBACK:
            notes.append("The prompt is empty; words about the character keep its looks from frame to frame.")
            return recipe
        words = self._tools.describe_figure(reference)
        notes.append(f"Each frame is drawn by itself, from these words for the reference: {words}.")
        return recipe.replace(prompt=words)


def _backend(preset: Preset, recipe: VideoRecipe) -> str:
    """Return the backend that reads the finished frames."""
    if preset.adherence_backend != AUTO:
        return preset.adherence_backend
    return AUTO if recipe.reader == POSE_FRAMES else recipe.reader


def _size(preset: Preset, reference: Image.Image | None) -> tuple[int, int]:
    """Return width and height: the model's own, or the one of its sizes that is nearest to the reference's shape."""
    own = (preset.sizes.width, preset.sizes.height)
    if reference is None:
        return own
    wanted = np.log(reference.width / reference.height)
    return min((own, *preset.sizes.choices.values()), key=lambda size: abs(np.log(size[0] / size[1]) - wanted))


def _changes(recipe: VideoRecipe, final: VideoRecipe) -> list[str]:
    """Return sentences about a recipe that was made with other weights or pictures."""
    changed = [name for name, old in recipe.weights.items() if final.weights.get(name, old) != old]
    notes = [
        f"The recipe was made with other weights ({', '.join(changed)}), so the video may differ." if changed else ""
    ]
    for what, before, after in (
        ("reference", recipe.reference_sha256, final.reference_sha256),
        ("clip", recipe.clip_sha256, final.clip_sha256),
    ):
        notes.append(
            f"The recipe was made with another {what}, so the video will differ." if before not in ("", after) else ""
        )
    return [note for note in notes if note]
