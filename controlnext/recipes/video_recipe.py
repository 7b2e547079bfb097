"""The recipe of a video: everything needed to make it again from its reference picture and clip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from controlnext.errors import fail, shorten
from controlnext.recipes.kinds import AUTO, POSE
from controlnext.recipes.limits import CUT_LIMITS, LIMITS, Limit
from controlnext.recipes.mp4 import read_contents
from controlnext.recipes.png import RECIPE_KEY
from controlnext.recipes.pose import check_pose
from controlnext.recipes.recipe import VERSION, ControlUse, LoraUse, Recipe, RecipeError, SavedRecipe

Drawing = Literal["classic", "svd"]
"""How poses are drawn for an adapter: as for ControlNet's, or as the released SVD adapters learned it."""

VIDEO_LIMITS: Mapping[str, Limit] = MappingProxyType(
    {
        **{name: LIMITS[name] for name in ("seed", "width", "height", "num_inference_steps", "guidance_scale")},
        **{name: CUT_LIMITS[name] for name in ("start", "end", "fps", "max_frames")},
        "person": Limit("The person", 0, 63, "0 is the most prominent one in the clip.", whole=True),
        "window": Limit("The window", 1, 64, "It is in frames; a model draws best as many as it was trained on.", whole=True),
        "overlap": Limit("The overlap", 0, 32, "It is in frames that two windows share.", whole=True),
        "motion_bucket_id": Limit("The motion", 0, 511, "127 is usual; more moves more.", whole=True),
        "noise_aug_strength": Limit("The reference's noise", 0, 1, "0.02 is usual; more keeps less of the reference."),
        "shared_noise": Limit("The shared noise", 0, 1, "It is the share of the initial noise that all frames have in common."),
    }
)  # fmt: skip
"""Allowed range of every number of a video's recipe, except those of its control; the page takes its sliders from here."""


MOST_EDITS = 32
"""Frames of a clip whose poses can be edited."""

EASE = Limit("The easing of an edited pose", 0, 2, "It is in seconds; 0 changes one frame alone.")


class PoseEdit(BaseModel):
    """The edited pose of one frame of a clip.

    Attributes:
        time: of the frame in the clip, in seconds.
        pose: OpenPose JSON of one person, placed as in the video; its canvas may have another size.
        person: who of the clip is followed; the edit is left out where another one is.
        ease: seconds over which the frames before and after go along with the change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: float
    pose: str
    person: int = 0
    ease: float = 0.0

    @field_validator("time", "person", "ease", mode="before")
    @classmethod
    def _number_in_range(cls, value: object, info: ValidationInfo) -> float | int:
        limits = {"time": CUT_LIMITS["start"], "person": VIDEO_LIMITS["person"], "ease": EASE}
        return limits[str(info.field_name)].check(value)

    @field_validator("pose")
    @classmethod
    def _pose_of_one(cls, value: str) -> str:
        return check_pose(value, most=1)


class VideoRecipe(SavedRecipe):
    """Everything needed to make a video again; see `VIDEO_LIMITS` for the ranges.

    Attributes:
        version: format of this object.
        model: name of a preset, of a video model or of an image model with a pose adapter, which draws frame by frame.
        prompt: what to draw, for image models; empty takes the reference's colours where the model has words for them.
        negative_prompt: what to avoid, for image models.
        seed: all frames start from it.
        width: pixels.
        height: pixels.
        num_inference_steps: denoising steps.
        guidance_scale: weight of guidance: by the words for image models, by the reference for video models.
        gamma: control strength.
        gamma_curve: shape of gamma over the steps, multiplies gamma; empty is constant.
        alpha: how much of the adapter's UNet weights is applied.
        control_start: fraction of the schedule at which the control sets in.
        control_end: fraction of the schedule at which it ends.
        scheduler: key of `SCHEDULERS`, for image models; None is the model's own.
        start: where the part of the clip begins, in seconds.
        end: where it ends, in seconds; 0 is the clip's end.
        fps: frames a second; 0 is the clip's own.
        max_frames: at most so many frames; 0 leaves it to the bounds.
        person: who of the clip is followed.
        fit: whether the poses are placed on the reference's figure.
        limbs: whether limbs get the reference's lengths too.
        smooth: whether jitter is taken out.
        follow: whether the camera follows the person from side to side.
        hands: whether hands are read and drawn.
        face: whether faces are read and drawn.
        reader: what reads the poses; see `Choice`.
        edits: edited poses of single frames.
        drawing: how the control frames are drawn for the adapter.
        keep_sound: whether the clip's sound is kept.
        window: frames a video model draws at once.
        overlap: frames that two windows share.
        motion_bucket_id: how much motion a video model is asked for.
        noise_aug_strength: noise on the reference that a video model is given.
        shared_noise: share of the initial noise that all frames have in common; SVD was trained for 0.
        micro_conditioning: whether a video model is given fps, motion and noise; the released code does not.
        reference_sha256: `picture_digest` of the reference as the video carries it, see `bounded_reference`.
        clip_sha256: digest of the clip's content.
        area: where in the frames the control acts, as `controlnext.recipes.areas` writes it; empty is everywhere.
        loras: LoRAs and weights, in order, for image models.
        weights: what was loaded -> its hash.
    """

    version: int = VERSION
    model: str = "starter-video"
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = 0
    width: int = 256
    height: int = 256
    num_inference_steps: int = 20
    guidance_scale: float = 3.0
    gamma: float = 1.0
    gamma_curve: str = ""
    alpha: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0
    scheduler: str | None = None
    start: float = 0.0
    end: float = 0.0
    fps: float = 0.0
    max_frames: int = 0
    person: int = 0
    fit: bool = True
    limbs: bool = False
    smooth: bool = True
    follow: bool = False
    hands: bool = False
    face: bool = False
    reader: str = AUTO
    drawing: Drawing = "classic"
    keep_sound: bool = True
    window: int = 14
    overlap: int = 4
    motion_bucket_id: int = 127
    noise_aug_strength: float = 0.02
    shared_noise: float = 0.0
    micro_conditioning: bool = True
    reference_sha256: str = ""
    clip_sha256: str = ""
    area: str = ""
    weights: dict[str, str] = Field(default_factory=dict)
    edits: tuple[PoseEdit, ...] = Field(default=(), max_length=MOST_EDITS)
    loras: tuple[LoraUse, ...] = ()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A recipe without edits, area and LoRAs is written as before there were any."""
        return {key: value for key, value in handler(self).items() if key not in ("edits", "area", "loras") or value}

    @field_validator(*VIDEO_LIMITS, mode="before")
    @classmethod
    def _number_in_range(cls, value: object, info: ValidationInfo) -> float | int:
        return VIDEO_LIMITS[str(info.field_name)].check(value)

    @field_validator("model", "reader")
    @classmethod
    def _a_name(cls, value: str, info: ValidationInfo) -> str:
        if not value or len(value) > 100:
            fail(f"The {info.field_name} of a video is named by a short word, not {shorten(value)}.")
        return value

    @model_validator(mode="after")
    def _part_and_windows_make_sense(self) -> Self:
        if self.end and self.end <= self.start:
            fail(f"The part would end at {self.end:g} s, before it starts at {self.start:g} s: move one of the two.")
        if self.overlap >= self.window:
            fail(
                f"Windows of {self.window} frames cannot share {self.overlap}: let the overlap be smaller than the window."
            )
        return self

    @property
    def condition_kind(self) -> str:
        """Which condition the adapter reads."""
        return POSE

    @property
    def all_controls(self) -> tuple[ControlUse, ...]:
        """The one control, as a picture's recipe has it."""
        own = ("gamma", "gamma_curve", "alpha", "control_start", "control_end", "area")
        return (ControlUse(annotator=POSE, **{name: getattr(self, name) for name in own}),)

    @property
    def steps_to_run(self) -> int:
        """How many steps run."""
        return self.num_inference_steps

    def picture(self, prompt: str) -> Recipe:
        """Return the recipe of one frame, for an image model."""
        shared = VideoRecipe.model_fields.keys() & Recipe.model_fields.keys() - {"weights", "prompt"}
        return Recipe(annotator=POSE, prompt=prompt, **{name: getattr(self, name) for name in sorted(shared)})


def read_video_recipe(source: str | Path) -> VideoRecipe | None:
    """Read the recipe that a video carries, or None when it carries none (or is no MP4 at all).

    Raises:
        RecipeError: there is a recipe and it is damaged or from another release.
    """
    values = read_contents(source).get(RECIPE_KEY)
    if values is None:
        return None
    if not isinstance(values, dict):
        raise RecipeError("The recipe inside this video is damaged; set the values by hand.")
    return VideoRecipe(**values)
