"""One video being made: frames written and measured as they come, and what was made kept whatever ends the run."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from controlnext.adherence.score import pose_pck
from controlnext.animation.output import REFERENCE_KEY, Output
from controlnext.errors import ControlNeXtError, StudioError
from controlnext.progress import Cancelled
from controlnext.recipes.kinds import KINDS, POSE
from controlnext.recipes.png import FACTS_KEY, RECIPE_KEY
from controlnext.recipes.video_recipe import VideoRecipe
from controlnext.video.poses import BODY, people_array

if TYPE_CHECKING:
    from controlnext.animation.driven import Driving
    from controlnext.animation.driving import PoseTools
    from controlnext.animation.renderers import Road
    from controlnext.results.gallery import Gallery

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoResult:
    """What a run made.

    Attributes:
        file: the MP4, with its recipe inside.
        beside: the same beside poses and clip, if it was asked for.
        poses: the poses alone, if they were asked for.
        recipe: what was run, with the digests of reference, clip and weights filled in.
        frames: frames of the video.
        fps: frames a second.
        seed: seed of the noise.
        adherence: how well the frames follow their poses, PCK@0.1 averaged over frames; None where it was not measured.
        seconds: time from the call to here.
        stopped: whether it was stopped before all frames were made.
        notes: sentences worth showing.
        adherence_name: what that number is.
        pose_data: the poses as JSON, which may be given as a clip, if poses were asked for.
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
        """Return the recipe as JSON values, and with it what came of it; `fps` is the video's own."""
        return {
            **self.recipe.model_dump(mode="json"),
            **facts(self),
            "file": self.file.name,
            "notes": list(self.notes),
        }


def facts(result: VideoResult) -> dict[str, Any]:
    """Say what came of a recipe, as a video carries it and the API returns it."""
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
class Follow:
    """How well frames follow their poses, while they are made."""

    tools: PoseTools
    backend: str
    driving: Driving
    scores: list[float] = field(default_factory=list)
    reader: Any = None
    broken: bool = False

    def look(self, index: int, image: Image.Image) -> None:
        """Read a frame and compare it with what was asked for; a frame that asks for nobody does not count."""
        asked = [person[BODY] for person in self.driving.poses.frames[index]]
        if self.broken or not asked:
            return
        try:
            rgb = np.array(image.convert("RGB"))
            if self.reader is None:
                self.reader = self.tools.PoseReader(self.backend)
            found = [person[BODY] for person in people_array(self.reader(rgb))]
            score = pose_pck(asked, found)
        except Exception as error:  # measuring is an extra: whatever fails here, the frame is there
            log.info("The adherence could not be measured: %s", error)
            self.broken = True
            return
        if np.isfinite(score):
            self.scores.append(score)

    @property
    def mean(self) -> float | None:
        """Mean over the frames; None where it could not be measured."""
        return float(np.mean(self.scores)) if self.scores and not self.broken else None


@dataclass
class Job:
    """One video being made."""

    gallery: Gallery
    road: Road
    recipe: VideoRecipe
    driving: Driving
    follow: Follow
    reference: str
    begun: float
    extras: tuple[bool, bool]

    def run(self, notes: list[str]) -> VideoResult:
        """Write every frame as it comes; what is whole is kept, whatever ends the run.

        Raises:
            Cancelled, ControlNeXtError: as `Animator.animate`.
        """
        stopped, failure = False, None
        path = self.gallery.video_path(self.recipe.seed)
        with Output(path, self.driving, beside=self.extras[0], poses=self.extras[1]) as output:
            try:
                for index, image in enumerate(self.road):
                    output.write(image)
                    self.follow.look(index, image)
            except Cancelled:
                if not output.frames:
                    raise
                stopped = True
            except Exception as error:  # foreseen or not, it is no reason to throw frames away
                if not output.frames:
                    raise
                failure = _as_sentence(error)
            result = self._finish(output, notes, stopped=stopped or failure is not None, failure=failure)
        if failure is not None:
            raise type(failure)(
                f"{failure} The {result.frames} frames made before it are saved as {path}."
            ) from failure
        return result

    def _finish(
        self, output: Output, notes: list[str], *, stopped: bool, failure: ControlNeXtError | None
    ) -> VideoResult:
        shorter = stopped and self.road.frames_stand_alone
        recipe = self.recipe.replace(max_frames=output.frames) if shorter else self.recipe
        result = VideoResult(
            file=output.video.path,
            beside=None,
            poses=None,
            recipe=recipe,
            frames=output.frames,
            fps=self.driving.fps,
            seed=recipe.seed,
            adherence=self.follow.mean,
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
            raise failure from None  # what ended the run is what people need to know
        beside, poses = (None if writer is None else writer.path for writer in (output.beside, output.poses))
        notes = tuple(filter(None, notes))
        return replace(result, beside=beside, poses=poses, pose_data=output.pose_data, notes=notes)


def _as_sentence(error: Exception) -> ControlNeXtError:
    if isinstance(error, ControlNeXtError):
        return error
    log.error("A video ended with an error that nobody foresaw", exc_info=error)
    reason = " ".join(str(error).split())[:200].rstrip(".")  # those of drivers run over many lines
    return StudioError(
        f"The video ended early because of an error that nobody foresaw ({type(error).__name__}: {reason})."
    )
