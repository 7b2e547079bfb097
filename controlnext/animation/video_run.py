"""The run of one video: writes and scores its frames, and keeps the finished ones whatever ends it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from controlnext.adherence.score import pose_pck
from controlnext.animation.reference import REFERENCE_KEY
from controlnext.animation.video_files import VideoFiles
from controlnext.errors import ControlNeXtError, StudioError, add_sentence
from controlnext.progress import Cancelled
from controlnext.recipes.kinds import KINDS, POSE
from controlnext.recipes.png import FACTS_KEY, RECIPE_KEY
from controlnext.recipes.video_recipe import VideoRecipe
from controlnext.video.poses import BODY, people_array

if TYPE_CHECKING:
    from controlnext.animation.clip_reader import PoseTools
    from controlnext.animation.driving_clip import DrivingClip
    from controlnext.animation.renderers import Renderer
    from controlnext.results.gallery import Gallery
    from controlnext.video.extract import FramePoseReader

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoResult:
    """The result of a run.

    Attributes:
        file: the MP4, with its recipe inside.
        beside: the comparison with poses and clip, if it was requested.
        poses: the poses alone, if they were requested.
        recipe: the recipe of the run, with the digests of reference, clip and weights filled in.
        frames: frames of the video.
        fps: frames a second.
        seed: seed of the noise.
        adherence: how well the frames follow their poses, PCK@0.1 averaged over frames; None where it was not measured.
        seconds: time from the call to here.
        stopped: whether it was stopped before all frames were made.
        notes: sentences worth showing.
        adherence_name: name of that number.
        pose_data: the poses as JSON, which may be given as a clip, if poses were requested.
    """

    file: Path
    beside: Path | None
    poses: Path | None
    recipe: VideoRecipe
    frames: int
    fps: float
    seed: int
    adherence: float | None
    seconds: float
    stopped: bool
    notes: tuple[str, ...] = ()
    adherence_name: str = KINDS[POSE].score
    pose_data: Path | None = None

    def facts(self) -> dict[str, Any]:
        """Return the recipe and its result as JSON values; `fps` is the video's own."""
        return {
            **self.recipe.model_dump(mode="json"),
            **facts(self),
            "file": self.file.name,
            "notes": list(self.notes),
        }


def facts(result: VideoResult) -> dict[str, Any]:
    """Return the result of a recipe as a video carries it and the API returns it."""
    return {
        "frames": result.frames,
        "fps": round(result.fps, 4),
        "seed": result.seed,
        "adherence": None if result.adherence is None else round(result.adherence, 4),
        "adherence_name": result.adherence_name,
        "seconds": round(result.seconds, 2),
        "stopped": result.stopped,
    }


@dataclass
class FrameScorer:
    """Scores how well each frame follows its poses, as soon as it is made."""

    tools: PoseTools
    backend: str
    driving: DrivingClip
    scores: list[float] = field(default_factory=list)
    reader: FramePoseReader | None = None
    broken: bool = False

    def score(self, index: int, image: Image.Image) -> None:
        """Compare the poses of a frame with those of the clip; a frame without a person does not count."""
        asked = [person[BODY] for person in self.driving.poses.frames[index]]
        if self.broken or not asked:
            return
        try:
            rgb = np.array(image.convert("RGB"))
            if self.reader is None:
                self.reader = self.tools.PoseReader(self.backend)
            found = [person[BODY] for person in people_array(self.reader(rgb))]
            value = pose_pck(asked, found)
        except Exception as error:  # a score is an extra: its failure must not lose the frame
            logger.info("The adherence could not be measured: %s", error)
            self.broken = True
            return
        if np.isfinite(value):
            self.scores.append(value)

    @property
    def mean(self) -> float | None:
        """Mean over the frames; None where it could not be measured."""
        return float(np.mean(self.scores)) if self.scores and not self.broken else None


@dataclass
class VideoRun:
    """The run of one video."""

    gallery: Gallery
    renderer: Renderer
    recipe: VideoRecipe
    driving: DrivingClip
    scorer: FrameScorer
    reference: str
    begun: float
    extras: tuple[bool, bool]

    def run(self, notes: list[str]) -> VideoResult:
        """Write every frame as it arrives; finished frames are kept whatever ends the run.

        Raises:
            Cancelled, ControlNeXtError: as `Animator.animate`.
        """
        stopped, failure = False, None
        path = self.gallery.video_path(self.recipe.seed)
        with VideoFiles(path, self.driving, beside=self.extras[0], poses=self.extras[1]) as output:
            try:
                for index, image in enumerate(self.renderer):
                    output.write(image)
                    self.scorer.score(index, image)
            except Cancelled:
                if not output.frames:
                    raise
                stopped = True
            except Exception as error:  # no error, expected or not, may lose finished frames
                if not output.frames:
                    raise
                failure = _as_sentence(error)
            result = self._finish(output, notes, stopped=stopped or failure is not None, failure=failure)
        if failure is not None:
            add_sentence(failure, f"The {result.frames} frames made before it are saved as {path}.")
            raise failure
        return result

    def _finish(
        self, output: VideoFiles, notes: list[str], *, stopped: bool, failure: ControlNeXtError | None
    ) -> VideoResult:
        shorter = stopped and self.renderer.frames_stand_alone
        recipe = self.recipe.replace(max_frames=output.frames) if shorter else self.recipe
        result = VideoResult(
            file=output.video.path,
            beside=None,
            poses=None,
            recipe=recipe,
            frames=output.frames,
            fps=self.driving.fps,
            seed=recipe.seed,
            adherence=self.scorer.mean,
            seconds=time.perf_counter() - self.begun,
            stopped=stopped,
        )
        contents = {
            RECIPE_KEY: recipe.model_dump(mode="json"),
            FACTS_KEY: facts(result),
            REFERENCE_KEY: self.reference,
        }
        try:
            notes = [*notes, *output.finish(contents, sound=recipe.keep_sound)]
        except ControlNeXtError:
            if failure is None:
                raise
            raise failure from None  # people need to know what ended the run
        beside, poses = (None if writer is None else writer.path for writer in (output.beside, output.poses))
        notes = tuple(filter(None, notes))
        return replace(result, beside=beside, poses=poses, pose_data=output.pose_data, notes=notes)


def _as_sentence(error: Exception) -> ControlNeXtError:
    if isinstance(error, ControlNeXtError):
        return error
    logger.error("A video ended with an unexpected error", exc_info=error)
    reason = " ".join(str(error).split())[:200].rstrip(".")  # GPU drivers write many lines
    return StudioError(f"The video ended early because of an unexpected error ({type(error).__name__}: {reason}).")
