"""What makes videos for the fake studio: the real reading and fitting of clips over a reader without a model, and real MP4s."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from annotators.poses.people import people_from_json, people_to_json
from controlnext.animation.choice import choice_of
from controlnext.animation.clip_reader import ClipReader
from controlnext.animation.reference import REFERENCE_KEY, pack_reference
from controlnext.animation.video_files import VideoFiles
from controlnext.animation.video_run import VideoResult
from controlnext.progress import Progress
from controlnext.recipes.pictures import picture_digest
from controlnext.recipes.png import RECIPE_KEY
from controlnext.recipes.recipe import RecipeError
from controlnext.recipes.video_recipe import VideoRecipe
from controlnext.video.extract import clip_digest
from controlnext.video.ffmpeg import run
from controlnext.video.writer import write_video

# A standing figure, one unit tall, its neck at (0, 0); OpenPose-18 order.
STANDING = np.array(
    [
        *((0.0, -0.12), (0.0, 0.0)),
        *((-0.11, 0.0), (-0.24, 0.1), (-0.3, -0.05), (0.11, 0.0), (0.24, 0.1), (0.3, -0.05)),
        *((-0.07, 0.32), (-0.08, 0.56), (-0.08, 0.8), (0.07, 0.32), (0.08, 0.56), (0.08, 0.8)),
        *((-0.02, -0.14), (0.02, -0.14), (-0.05, -0.13), (0.05, -0.13)),
    ]
)


class ColumnReader:
    """Sees a standing person on the red and on the blue of a picture, else where most colour is; on an even picture nobody."""

    key = "columns"

    def __call__(self, rgb: np.ndarray) -> dict[str, Any]:
        height, width = rgb.shape[:2]
        places = []
        for strong, weak in ((0, 2), (2, 0)):
            columns = (rgb[..., strong].astype(int) - rgb[..., weak] > 130).sum(axis=0)
            if columns.max() > height // 12:
                places.append(float(np.average(np.arange(width), weights=columns)))
        if not places and rgb.std() > 10:
            colour = (rgb.max(axis=2) - rgb.min(axis=2)).sum(axis=0)
            places = [float(np.average(np.arange(width), weights=colour + 1.0))]
        people = [
            np.concatenate([STANDING * 0.7 * height + (x, 0.25 * height), np.full((18, 1), 0.9)], axis=1).tolist()
            for x in places
        ]
        return {"people": people, "hands": [(None, None)] * len(people), "faces": [None] * len(people)}


def write_clips(folder: Path) -> None:
    """Write clips of one second, 96 x 64 at 10 frames a second, which `ColumnReader` sees red and blue people in.

    `one.mp4`, the same as `one.gif`, `two.mp4` (the red one leaves for the last frames), `nobody.mp4`, `sound.mp4` (a tone and no picture),
    `text.mp4` (no video), and the picture `red.png`.
    """
    for name, colours in (("one", "r"), ("two", "rb"), ("nobody", "")):
        write_video(folder / f"{name}.mp4", (_frame(colours, index) for index in range(10)), 10)
    run(["-f", "lavfi", "-i", "sine", "-t", "1", "-c:a", "aac", str(folder / "sound.mp4")])
    run(["-i", str(folder / "one.mp4"), str(folder / "one.gif")])
    (folder / "text.mp4").write_text("no video", encoding="ascii")
    Image.fromarray(_frame("r", 0)).save(folder / "red.png")


def _frame(colours: str, index: int) -> np.ndarray:
    frame = np.full((64, 96, 3), 128, np.uint8)
    if "r" in colours and not (len(colours) > 1 and index > 6):
        frame[8:56, 20 + 2 * index : 28 + 2 * index] = (250, 20, 20)
    if "b" in colours:
        frame[8:56, 76:84] = (20, 20, 250)
    return frame


class FakePoses:
    """What `ClipReader` needs of the package `annotators`."""

    def describe_figure(self, image: Image.Image) -> str:
        return "a figure"

    def PoseReader(self, backend: str = "auto", **settings: bool | int) -> ColumnReader:
        return ColumnReader()

    def draw_pose(self, data: Mapping[str, Any], *, drawing: str = "classic") -> Any:
        from annotators.poses.skeleton import draw_skeleton  # it loads OpenCV, which building a page must not

        people = [np.asarray(person) for person in data["people"]]
        image = Image.fromarray(draw_skeleton(people, data["height"], data["width"]))
        return SimpleNamespace(image=image, data=data, backend="data", note="")

    def people_from_json(self, text: str | Mapping[str, Any]) -> dict[str, Any]:
        return people_from_json(text)

    def people_to_json(self, data: Mapping[str, Any]) -> str:
        return people_to_json(data)


@dataclass
class FakeAnimator:
    """Acts like `controlnext.animation.animator.Animator`; a video is the fit laid over its reference.

    Attributes:
        output_dir: where videos are written.
        frame_seconds: time of one frame.
        recipes: every recipe that was run.
        frames: frames made in all runs.
    """

    output_dir: Path
    frame_seconds: float = 0.0
    clip_reader: ClipReader = field(default_factory=lambda: ClipReader(FakePoses()))
    recipes: list[VideoRecipe] = field(default_factory=list)
    frames: int = 0

    def models(self) -> list[dict[str, Any]]:
        sizes = {"width": 192, "height": 192, "minimum": 128, "maximum": 384, "choices": {"3:4": [144, 192]}}
        return [
            {"name": "svd-v2", "label": "SVD v2", "sizes": sizes, "usable": False, "state": "missing", "licence": "",
             "reason": "Its base model is not downloaded.", "frame_by_frame": False},
            {"name": "starter-video", "label": "Starter video", "sizes": sizes, "usable": True, "reason": "", "licence": "MIT",
             "description": "Moves a figure.", "frame_by_frame": False},
            {"name": "starter", "label": "Starter", "sizes": sizes, "usable": True, "reason": "", "licence": "MIT",
             "description": "Draws frame by frame.", "frame_by_frame": True},
        ]  # fmt: skip

    def resolve(
        self, model: str = "starter-video", reference: Image.Image | None = None, **values: Any
    ) -> VideoRecipe:
        if model not in {row["name"] for row in self.models()}:
            raise RecipeError(f"There is no model {model!r}.")
        tall = reference is not None and reference.height > 1.2 * reference.width
        defaults = {"width": 144 if tall else 192, "height": 192, "num_inference_steps": 12, "guidance_scale": 1.5}
        defaults |= {"gamma": 0.9 if model == "starter" else 1.0, "seed": int(np.random.default_rng().integers(2**32))}
        defaults |= {"hands": True, "face": True} if model.startswith("svd") else {}
        given = {name: value for name, value in values.items() if value is not None and (name, value) != ("seed", -1)}
        return VideoRecipe(**{**defaults, **given, "model": model})

    def read(self, recipe, reference, clip, *, on_progress=None, cancel=None):
        if reference is None:
            raise RecipeError("There is no reference picture: add one that shows the character.")
        size = (recipe.width, recipe.height)
        return self.clip_reader.drive(reference, clip, choice_of(recipe), size, on_progress=on_progress, cancel=cancel)

    def animate(
        self, recipe, reference, clip, *, beside=False, poses=False, driving=None, on_progress=None, cancel=None
    ):
        begun, cancel = time.perf_counter(), cancel or threading.Event()
        driving = driving or self.read(recipe, reference, clip, on_progress=on_progress, cancel=cancel)
        recipe = recipe.replace(reference_sha256=picture_digest(reference), clip_sha256=clip_digest(driving.clip))
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.output_dir / f"{len(self.recipes):04d}-{recipe.seed}.mp4"
        with VideoFiles(path, driving, beside=beside, poses=poses) as output:
            for index in range(len(driving)):
                if cancel.is_set():
                    raise RecipeError("Stopped before a frame was finished.")
                time.sleep(self.frame_seconds)
                image = Image.blend(driving.reference, driving.overlay(index), 0.7)
                output.write(image)
                self.frames += 1
                if on_progress is not None:
                    left = (len(driving) - index - 1) * self.frame_seconds
                    on_progress(Progress("Drawing", index + 1, len(driving), left, image))
            self.recipes.append(recipe)
            contents = {RECIPE_KEY: recipe.model_dump(mode="json"), REFERENCE_KEY: pack_reference(reference)}
            notes = tuple(filter(None, output.finish(contents, sound=recipe.keep_sound)))
            extras = [None if writer is None else writer.path for writer in (output.beside, output.poses)]
        seconds = time.perf_counter() - begun
        return VideoResult(
            path, *extras, recipe, len(driving), driving.fps, recipe.seed, 0.91, seconds, False, notes
        )  # fmt: skip
