"""Videos as an API: `/poses` and `/animate`. Names and defaults are a contract, as those in `controlnext.ui.api`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.animation.choice import choice_of
from controlnext.recipes.video_recipe import VideoRecipe
from controlnext.studio.conditions import ConditionRequestError
from controlnext.ui import shared
from controlnext.ui.api import publish, result_of, running
from controlnext.ui.image.controls import SentArea
from controlnext.ui.image.events import RUN
from controlnext.ui.shared import open_picture, reported_errors
from controlnext.ui.worker import Runs, VideoOrder, VideoStream
from controlnext.video import write_video

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio


class VideoEndpoints:
    """The functions behind the endpoints."""

    def __init__(self, studio: Studio, stream: VideoStream) -> None:
        """Remember who does the work; `publish` makes the endpoints."""
        self.studio = studio
        self.stream = stream
        self.runs = Runs()
        self.file: gr.File | None = None

    def publish(self) -> None:
        """Add the endpoints to the `gr.Blocks` whose context this is called in."""
        self.file = gr.File(visible=False, label="video")
        publish("poses", self.poses, [gr.JSON(visible=False, label="poses"), self.file], RUN)
        publish("animate", self.animate, [self.file, gr.JSON(visible=False, label="recipe")], RUN)

    def poses(  # noqa: PLR0913 - the API's parameters, by name
        self,
        video: str,
        start: float = 0.0,
        end: float = 0.0,
        fps: float = 0,
        person: int = 0,
        smooth: bool = True,
        follow: bool = False,
        hands: bool = False,
        face: bool = False,
        reader: str = "auto",
    ) -> tuple[dict[str, Any], str]:
        """Read the poses of one person in a clip; return them as JSON and as a video.

        0 means the clip's own: its end, its frames a second, and the most prominent person in it. `reader` is a backend of the
        pose annotator, see /annotators, or "drawing" for a clip of pose frames.
        """
        with reported_errors(page=False):
            recipe = VideoRecipe(
                start=start, end=end, fps=fps, person=person, smooth=smooth, follow=follow, hands=hands, face=face, reader=reader
            )  # fmt: skip
            choice = choice_of(recipe)
            driving = self.studio.animator.clip_reader.drive(None, _required(video, "clip", "video"), choice)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "poses.mp4"
                write_video(path, driving.frames(), driving.fps)
                return {**json.loads(driving.poses.to_json()), "notes": list(driving.sentences)}, self._served(path)

    def animate(  # noqa: PLR0913 - the API's parameters, by name
        self,
        reference: str,
        video: str,
        model: str = "starter-video",
        gamma: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int = -1,
        fps: float = 0,
        max_frames: int = 0,
        start: float = 0.0,
        end: float = 0.0,
        person: int = 0,
        fit: bool = True,
        keep_sound: bool = True,
        prompt: str = "",
        negative_prompt: str = "",
        gamma_curve: str = "",
        width: int = 0,
        height: int = 0,
        window: int | None = None,
        overlap: int | None = None,
        motion_bucket_id: int | None = None,
        noise_aug_strength: float | None = None,
        shared_noise: float | None = None,
        micro_conditioning: bool | None = None,
        limbs: bool = False,
        smooth: bool = True,
        follow: bool = False,
        hands: bool | None = None,
        face: bool | None = None,
        reader: str = "auto",
        drawing: str | None = None,
        area: str | None = None,
        area_outside: bool = False,
        area_soft: float = 0.0,
        loras: list | None = None,
    ) -> tuple[str, dict[str, Any]]:
        """Move the character of the picture `reference` as a person in the clip `video` does; return an MP4 and its recipe.

        null, -1 and 0 mean the model's default, a new seed, or the clip's own. `prompt` and `negative_prompt` are for image
        models, `window` to `micro_conditioning` for video models, `drawing` is "classic" or "svd". `area` is a mask,
        white where in the frames the control acts, `loras` are for image models; the rest as for /generate. The recipe has `frames`,
        `fps`, `seed`, `adherence` and `seconds`, too.
        """
        values = {
            name: value
            for name, value in locals().items()
            if name in VideoRecipe.model_fields.keys() - {"model", "area"}
        }
        with reported_errors(page=False):
            picture = open_picture(self.studio.annotators, _required(reference, "picture", "reference"))
            clip = _required(video, "clip", "video")
            recipe = self.studio.animator.resolve(model, picture, **values)
            recipe = recipe.replace(area=SentArea(area, area_outside, area_soft).text(self.studio.annotators, recipe))
            with running(self.runs) as cancel:
                made = result_of(self.stream(VideoOrder(recipe, picture, clip), cancel))
            return self._served(made.file), made.facts()

    def _served(self, path: Path) -> str:
        return shared.served(path, self.file)


def _required(path: str | None, what: str, name: str) -> str:
    if path is None:
        raise ConditionRequestError(f"There is no {what}; send one as `{name}`.")
    return path
