"""The recipe: everything a picture needs, in one frozen object that travels inside the picture.

The page builds one, a preset is a partial one, the studio runs it, a saved PNG carries it, and dropping that PNG back into
the app restores it. The same recipe on the same machine gives the same pixels.
"""

from __future__ import annotations

import hashlib
import json
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from controlnext.errors import fail, shorten
from controlnext.recipes.controls import CheckedModel, Controlled, ControlUse, RecipeError, Setting
from controlnext.recipes.inputs import Inputs, picture_of
from controlnext.recipes.kinds import POSE, READY_MADE
from controlnext.recipes.limits import LIMITS, LORA_WEIGHT, REFERENCE_SCALE, STRENGTH
from controlnext.recipes.person_use import MOST_PEOPLE, PersonUse
from controlnext.recipes.pictures import picture_digest
from controlnext.recipes.pose import check_pose
from controlnext.recipes.schedulers import SCHEDULERS

__all__ = ["ControlUse", "Controlled", "LoraUse", "Recipe", "RecipeError", "SavedRecipe", "Setting"]

VERSION = 1
PROMPT_LENGTH = 2000
"""Longest prompt in characters; far beyond the 77 tokens a CLIP text encoder reads, far below what hurts a page."""
MAX_LORAS = 8
MAX_CONTROLS = 3
DEFAULT_STRENGTH = 0.75
"""Default share of a start picture that is redrawn."""

DEFAULT_SCALE = 0.6
"""Default weight of a reference picture."""

BodyPart = Literal["face", "hands"]
"""What of people can be drawn again in detail."""

_LATER = MappingProxyType(
    {
        "gamma_curve": "",
        "controls": (),
        "strength": None,
        "init_sha256": "",
        "mask_sha256": "",
        "resolution": None,
        "pose": "",
        "precision": "",
        "crop": False,
        "area": "",
        "people": (),
        "ip_adapter": "",
        "ip_adapter_scale": DEFAULT_SCALE,
        "reference_sha256": "",
        "detail": (),
        "upscale": 1,
        "upscaler": "",
    }
)
"""Fields added after the first release: their defaults, which are not written, so that an older recipe stays the same to the byte."""


class LoraUse(CheckedModel):
    """One LoRA of the library and the weight it is used with."""

    name: str
    weight: float = 1.0

    @field_validator("weight", mode="before")
    @classmethod
    def _weight_in_range(cls, value: object) -> float:
        return LORA_WEIGHT.check(value)


class SavedRecipe(Controlled):
    """What recipes of pictures and videos share: checks of version and prompts, and conversion to and from JSON."""

    @field_validator("loras", check_fields=False)
    @classmethod
    def _distinct_loras(cls, value: tuple[LoraUse, ...]) -> tuple[LoraUse, ...]:
        names = [use.name for use in value]
        if len(names) > MAX_LORAS:
            fail(f"{len(names)} LoRAs are too many at once; use at most {MAX_LORAS}.")
        for name in names:
            if names.count(name) > 1:
                fail(f"The LoRA {shorten(name)} is named twice; name it once with the weight you want.")
        return value

    @field_validator("version", check_fields=False)
    @classmethod
    def _known_version(cls, value: int) -> int:
        if value != VERSION:
            fail(f"This recipe has version {value}; this program reads version {VERSION}. Use a matching release.")
        return value

    @field_validator("prompt", "negative_prompt", check_fields=False)
    @classmethod
    def _readable_text(cls, value: str, info: ValidationInfo) -> str:
        label = "The prompt" if info.field_name == "prompt" else "The negative prompt"
        if len(value) > PROMPT_LENGTH:
            fail(f"{label} has {len(value):,} characters; shorten it to at most {PROMPT_LENGTH:,}.")
        if any("\ud800" <= character <= "\udfff" for character in value):
            fail(f"{label} contains a broken character (a lone surrogate); type it again.")
        return value

    @field_validator("scheduler", check_fields=False)
    @classmethod
    def _known_scheduler(cls, value: str | None) -> str | None:
        if value is not None and value not in SCHEDULERS:
            fail(f"There is no scheduler {shorten(value)}; choose one of {', '.join(SCHEDULERS)}.")
        return value

    def replace(self, **changes: object) -> Self:
        """Return a checked copy with some fields changed."""
        return type(self)(**{**self.model_dump(), **changes})

    def to_json(self, indent: int | None = 2) -> str:
        """Write as JSON; every character is kept as it is, emoji too."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            RecipeError: not JSON, not an object, or a field that is wrong.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"This is not a recipe: it is not valid JSON ({error}).") from None
        if not isinstance(values, dict):
            raise RecipeError("This is not a recipe: a recipe is a JSON object with fields such as model and prompt.")
        return cls(**values)

    def digest(self) -> str:
        """SHA-256 over the canonical JSON, in hexadecimal: equal recipes have equal digests."""
        canonical = json.dumps(self.model_dump(mode="json"), ensure_ascii=True, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


class Recipe(SavedRecipe):
    """Everything needed to make a picture again; see `LIMITS` for the ranges.

    Attributes:
        version: format of this object.
        model: name of a preset.
        prompt: what to draw, at most `PROMPT_LENGTH` characters; may be empty.
        negative_prompt: what to avoid.
        seed: picture i of a batch starts from seed + i.
        num_images: pictures in the batch.
        width: pixels.
        height: pixels.
        num_inference_steps: denoising steps.
        guidance_scale: weight of classifier-free guidance.
        gamma: control strength.
        alpha: how much of the adapter's UNet weights is applied.
        control_start: fraction of the schedule at which the control starts.
        control_end: fraction of the schedule at which it ends.
        scheduler: key of `SCHEDULERS`, or None for the base model's own.
        loras: LoRAs and weights, in order.
        annotator: what made the condition; `none` means it was given as it is.
        adapter: adapter of the preset that reads the condition; empty takes the one of the annotator's name.
        annotator_settings: settings of the annotator.
        condition_sha256: `picture_digest` of the condition; empty when there is none.
        weights: what was loaded -> its hash.
        gamma_curve: shape of gamma over the steps that run, as `controlnext.method.gamma` reads it; multiplies gamma. Empty is
            constant.
        controls: controls in addition to the first, each with its own adapter, condition and numbers.
        strength: share of a start picture that is redrawn, in (0, 1]; None where there is no start picture.
        init_sha256: `picture_digest` of the start picture.
        mask_sha256: `picture_digest` of the mask.
        resolution: short side of the condition that the annotator made, in pixels; None follows from the picture's size.
        precision: in which a live picture was made; empty for all others, which the model's usual one makes.
        area: where the first control acts, as `controlnext.recipes.areas` writes it; empty is everywhere.
        people: what the people of the pose control are drawn with, from left to right.
        ip_adapter: file name of the IP-Adapter that a reference picture acts through; empty where there is none.
        ip_adapter_scale: weight of the reference.
        reference_sha256: `picture_digest` of the reference as the picture carries it.
        detail: parts of the people in the finished picture that are drawn again at full size, in this order.
        upscale: how many times larger the picture is made at the end; 1 leaves it.
        upscaler: file name of the model that makes it larger; empty for Lanczos.
        pose: edited pose that the first condition is drawn from, as OpenPose JSON; empty where none was edited.
        crop: whether pictures and masks of another shape are cropped; else they are padded.
    """

    version: int = VERSION
    model: str = "starter"
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = 0
    num_images: int = 1
    width: int = 256
    height: int = 256
    num_inference_steps: int = 20
    guidance_scale: float = 3.0
    gamma: float = 1.0
    alpha: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0
    scheduler: str | None = None
    loras: tuple[LoraUse, ...] = ()
    annotator: str = READY_MADE
    adapter: str = ""
    annotator_settings: dict[str, Setting] = Field(default_factory=dict)
    condition_sha256: str = ""
    weights: dict[str, str] = Field(default_factory=dict)
    gamma_curve: str = ""
    controls: tuple[ControlUse, ...] = ()
    strength: float | None = None
    init_sha256: str = ""
    mask_sha256: str = ""
    resolution: int | None = None
    pose: str = ""
    precision: Literal["", "bfloat16", "float16", "float32"] = ""
    crop: bool = False
    area: str = ""
    people: tuple[PersonUse, ...] = ()
    ip_adapter: str = ""
    ip_adapter_scale: float = DEFAULT_SCALE
    reference_sha256: str = ""
    detail: tuple[BodyPart, ...] = ()
    upscale: Literal[1, 2, 4] = 1
    upscaler: str = ""

    @field_validator("upscale", mode="before")
    @classmethod
    def _upscale_is_a_number(cls, value: object) -> object:
        if isinstance(value, bool):  # true would pass for 1
            fail(f"upscale is 1, 2 or 4, not {value}.")
        return value

    @field_validator("pose")
    @classmethod
    def _pose_can_be_drawn(cls, value: str) -> str:
        return check_pose(value) if value else ""

    @field_validator(*(LIMITS.keys() - ControlUse.model_fields.keys()), mode="before")
    @classmethod
    def _number_in_range(cls, value: object, info: ValidationInfo) -> float | int:
        return LIMITS[str(info.field_name)].check(value)

    @field_validator("ip_adapter_scale", mode="before")
    @classmethod
    def _scale_in_range(cls, value: object) -> float:
        return REFERENCE_SCALE.check(value)

    @field_validator("strength", mode="before")
    @classmethod
    def _strength_in_range(cls, value: object) -> float | None:
        return None if value is None else STRENGTH.check(value)

    @model_validator(mode="after")
    def _enhanced_once(self) -> Self:
        if len(set(self.detail)) < len(self.detail):
            fail(f"The detail names {' and '.join(self.detail)}; name each part once.")
        if self.upscaler and self.upscale == 1:
            fail(f"The upscaler {shorten(self.upscaler)} has nothing to do: set upscale to 2 or 4.")
        return self

    @model_validator(mode="after")
    def _pose_has_its_control(self) -> Self:
        if self.pose and self.condition_kind != POSE:
            fail(
                f"A pose is given, but the first control is {shorten(self.condition_kind)}: take pose control, or no pose."
            )
        return self

    @model_validator(mode="after")
    def _people_have_their_pose(self) -> Self:
        if len(self.people) > MOST_PEOPLE:
            fail(f"Words for {len(self.people)} people are too many; give them to at most {MOST_PEOPLE}.")
        if self.people and POSE not in [control.condition_kind for control in self.all_controls]:
            fail("Words for people need pose control, which says where they are; add it, or leave the people out.")
        return self

    @model_validator(mode="after")
    def _controls_agree(self) -> Self:
        kinds = [self.condition_kind, *(control.condition_kind for control in self.controls)]
        if len(kinds) > MAX_CONTROLS:
            fail(f"{len(kinds)} controls are too many at once; use at most {MAX_CONTROLS}.")
        if self.controls and not self.condition_kind:
            fail("There are additional controls but no first one; give the recipe itself an annotator or an adapter.")
        for kind in kinds:
            if kinds.count(kind) > 1:
                fail(f"The control {shorten(kind)} is asked for twice; each kind of control can be used once.")
        return self

    @model_validator(mode="after")
    def _numbers_agree(self) -> Self:
        if self.steps_to_run < 1:
            fail(
                f"Strength {self.strength:g} of {self.num_inference_steps} steps leaves none to run; raise one of the two."
            )
        if self.seed + self.num_images - 1 > LIMITS["seed"].maximum:
            fail(f"Picture i of a batch uses seed + i, and {self.seed} leaves no room for {self.num_images} pictures.")
        most = SCHEDULERS[self.scheduler].most_steps if self.scheduler else None
        if most is not None and self.num_inference_steps > most:
            fail(
                f"The sampler {self.scheduler} takes at most {most} steps, but {self.num_inference_steps} were asked for; "
                "4 to 8 with an LCM-LoRA are usual."
            )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            key: value
            for key, value in handler(self).items()
            if key not in _LATER or getattr(self, key) != _LATER[key]
        }

    def alone(self, index: int) -> Recipe:
        """Return the recipe of one picture of the batch: seed + index, one picture."""
        return self.replace(seed=self.seed + index, num_images=1)

    @property
    def all_controls(self) -> tuple[ControlUse, ...]:
        """Every control in order, the first made of the recipe's own fields; empty without control."""
        if not self.condition_kind:
            return ()
        return ControlUse(**{name: getattr(self, name) for name in ControlUse.model_fields}), *self.controls

    @property
    def steps_to_run(self) -> int:
        """Steps that run: with a start picture, the share given by `strength`, rounded as diffusers does."""
        steps = self.num_inference_steps
        return steps if self.strength is None else min(int(steps * self.strength), steps)

    def with_digests(self, inputs: Inputs) -> Recipe:
        """Return a copy that names the pictures it is run with."""
        conditions = [picture_digest(picture_of(condition)) for condition in inputs.conditions]
        further = [
            control.model_copy(update={"condition_sha256": digest})
            for control, digest in zip(self.controls, conditions[1:], strict=True)
        ]
        return self.replace(
            condition_sha256=conditions[0] if conditions else "",
            controls=further,
            init_sha256="" if inputs.init_image is None else picture_digest(inputs.init_image),
            mask_sha256="" if inputs.mask is None else picture_digest(inputs.mask),
            reference_sha256="" if inputs.reference is None else picture_digest(inputs.reference),
        )


FIELD_WORDS = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "control_start": "control from",
    "control_end": "control until",
    "annotator": "control",
    "scheduler": "sampler",
}
"""What people call a field of a recipe, where that is not its name."""


def field_words(name: str) -> str:
    """Return what people call a field of a recipe."""
    return FIELD_WORDS.get(name, name.replace("_", " "))
