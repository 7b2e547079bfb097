"""The configuration of a training: one YAML file, changed by `key=value`, checked before anything is loaded.

`python -m controlnext train --defaults` prints every field with its default and meaning, from the descriptions here.
A value of null takes the default of the family; see `controlnext.training.family_defaults`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from controlnext.errors import ControlNeXtError, fail
from controlnext.method.variants import get_variant
from controlnext.recipes.explain import explain
from controlnext.recipes.video_recipe import Drawing

CLASSIC: Drawing = "classic"
"""The drawing of poses where nothing else is chosen."""

Share = Annotated[float, Field(ge=0, le=1)]
Steps = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=64, le=4096, multiple_of=8)]


class TrainingError(ControlNeXtError, RuntimeError):
    """A training that cannot start or continue: what is missing or wrong, and what to do."""


class ConfigError(ControlNeXtError, ValueError):
    """A configuration that is wrong; one sentence that names the field."""


class Section(BaseModel):
    """A section of the configuration: frozen, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _of(default: Any, text: str, **limits: Any) -> Any:  # noqa: ANN401 - as pydantic's Field
    return Field(default, description=text, **limits)


class DataConfig(Section):
    """Where the pictures come from and how they are cut."""

    folder: Path | None = _of(None, "folder of pictures (for video: of clips), with metadata.jsonl or without")
    dataset: str | None = _of(
        None, "instead: a Hugging Face dataset, a folder written by save_to_disk or a name on the hub"
    )
    split: str = _of("train", "split of the dataset")
    image_column: str = _of("image", "column of the dataset with the picture")
    text_column: str = _of("text", "column with the caption")
    condition_column: str = _of("conditioning_image", "column with the condition; where missing, annotators make it")
    annotator: str | None = _of(None, "annotator that makes missing conditions; null: the one named as the condition")
    annotator_settings: dict[str, bool | int | float | str] = _of({}, "its settings, and `backend`")
    drawing: Drawing | None = _of(
        None,
        "video: how poses are drawn; svd: thin, with hands and faces; null: as trainable.start learned it, or classic",
    )
    caption: str = _of("", "caption of pictures that have none of their own")
    width: Size | None = _of(None, "width in pixels; null: the family's")
    height: Size | None = _of(None, "height in pixels; null: the family's")
    aspect: Literal["fixed", "buckets"] = _of("fixed", "buckets: keep shapes near each picture's own, of equal area")
    crop: Literal["center", "random"] = _of(
        "center", "which part of a picture that is too long; random needs cache_latents: false"
    )
    flip: bool = _of(
        False, "show each picture mirrored too; wrong for given poses, whose colours tell left from right"
    )
    frames: Annotated[int, Field(ge=2, le=64)] = _of(14, "video: frames of a clip")
    stride: Steps = _of(3, "video: take every n-th frame")
    limit: Steps | None = _of(None, "use only so many rows, the first ones")
    max_bad_rows: Annotated[int, Field(ge=0)] = _of(
        20, "rows that cannot be used are named and skipped, up to so many"
    )
    cache: Path | None = _of(None, "folder of prepared conditions, latents and texts; null: `cache` in the output")
    cache_latents: bool = _of(True, "encode each picture once and keep the latents on disk")
    cache_text: bool = _of(True, "encode each caption once and keep the result on disk")
    memory_mb: Annotated[int, Field(ge=0)] = _of(512, "megabytes of prepared samples kept in memory")
    workers: Annotated[int, Field(ge=0, le=32)] = _of(0, "threads that prepare batches ahead; 0: none")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.folder is None) == (self.dataset is None):
            fail("The training needs pictures: give either data.folder or data.dataset, and not both.")
        if (self.width is None) != (self.height is None):
            fail("Give both data.width and data.height, or neither.")
        if self.crop == "random" and self.cache_latents:
            fail("data.crop=random shows another part each time, so set data.cache_latents=false with it.")
        return self


class TrainableConfig(Section):
    """The weights that learn besides the control module."""

    subset: str | None = _of(
        None, "regular expression of the UNet weights that learn, full names; null: the family's; '' none"
    )
    lora_rank: Annotated[int, Field(ge=0, le=512)] = _of(
        0, "instead of the subset: LoRA of this rank (PEFT); 0: subset"
    )
    lora_targets: str = _of(
        r".*attn[12]\.(to_q|to_k|to_v|to_out\.0)", "regular expression of the layers that get a LoRA"
    )
    start: str | None = _of(
        None, "adapter to start from, its folder or model/kind such as starter/depth; another condition's helps too"
    )
    kind: Literal["delta", "subset"] = _of("delta", "how UNet weights are saved: differences or full values")
    save_dtype: Literal["float16", "bfloat16", "float32"] = _of("float16", "dtype of the saved adapter")

    @field_validator("subset", "lora_targets")
    @classmethod
    def _is_regex(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            fail(f"{value!r} is no regular expression: {error}.")
        return value


class OptimizerConfig(Section):
    """Optimizer, learning rates and averages."""

    name: Literal["adamw", "adamw8bit", "adafactor"] | None = _of(
        None, "null: the family's (sdxl: adafactor, else adamw)"
    )
    rate: Annotated[float, Field(gt=0, le=1)] | None = _of(
        None, "learning rate of the UNet subset; null: the family's"
    )
    module_rate: Annotated[float, Field(gt=0, le=1)] | None = _of(
        None, "of the control module; null: 10 times `rate`, or the family's"
    )
    betas: tuple[Share, Share] = _of((0.9, 0.999), "AdamW's averages")
    weight_decay: Annotated[float, Field(ge=0)] = _of(1e-2, "AdamW's and Adafactor's")
    eps: Annotated[float, Field(gt=0)] = _of(1e-8, "AdamW's")
    clip: Annotated[float, Field(ge=0)] = _of(1.0, "largest norm of all gradients together; 0: no clipping")
    schedule: Literal["constant", "cosine"] | None = _of(None, "null: the family's; cosine: constant, then down to 0")
    hold: Share = _of(0.6, "share of the time a cosine schedule stays constant")
    warm_up: Annotated[int, Field(ge=0)] | None = _of(None, "steps in which rates rise from 0; null: the family's")
    ema: Annotated[float, Field(ge=0, lt=1)] | None = _of(
        None, "decay of averaged weights, which are the ones saved; 0: off; null: the family's"
    )


class LearningConfig(Section):
    """One training step."""

    batch: Steps = _of(4, "samples at once in one process")
    accumulation: Steps = _of(1, "batches summed up before the weights move")
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = _of(
        "auto", "auto: bf16 where the device is faster in it; trained weights stay float32"
    )
    gradient_checkpointing: bool = _of(False, "less memory for a third more time")
    gamma: Annotated[float, Field(gt=0, le=4)] | None = _of(
        None, "control strength; null: by how dense the conditions are"
    )
    empty_prompts: Share | None = _of(None, "share of samples without prompt but with control; null: the family's")
    nothing: Share | None = _of(
        None, "share with neither; null: 0.1 where the unconditional half has no control, else 0"
    )
    timesteps: Literal["uniform", "late"] | None = _of(
        None, "late: density 2t, noisy timesteps more often; null: the family's"
    )
    min_snr: Annotated[float, Field(ge=0)] = _of(
        0.0, "min-SNR weighting of the loss (arXiv 2303.09556), 5 is usual; 0: off"
    )
    detail_weight: Annotated[float, Field(ge=1, le=50)] = _of(
        1.0, "weight of the loss on hands and faces where the pose annotator finds people; 1: as everywhere"
    )
    device: str | None = _of(None, "cuda, cpu or mps; null: the best there is")
    threads: Steps | None = _of(None, "CPU threads; null: one on a machine of two cores, else torch's own choice")

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _as_written(cls, value: object) -> object:
        return "no" if value is False else value  # YAML reads a bare no as false


class ValidationConfig(Section):
    """Pictures and scores during the training."""

    every: Annotated[int, Field(ge=0)] = _of(200, "steps between validations; 0: only at the end")
    rows: Annotated[int, Field(ge=0, le=64)] = _of(
        4, "rows held out and drawn each time; also learned from if they are more than a fifth; 0: no validation"
    )
    steps: Steps = _of(20, "denoising steps")
    guidance_scale: Annotated[float, Field(ge=1)] | None = _of(None, "null: the family's")
    seed: Annotated[int, Field(ge=0)] = _of(0, "picture i is drawn from this plus i, always the same")
    adherence: bool = _of(True, "annotate the pictures and compare with what was asked")
    tensorboard: bool = _of(False, "also write curves and pictures for TensorBoard")


class CheckpointConfig(Section):
    """How often the state is saved."""

    every: Steps = _of(200, "steps between checkpoints")
    minutes: Annotated[float, Field(gt=0)] | None = _of(None, "and at the latest after so many minutes")
    keep: Steps = _of(2, "checkpoints kept")


class DistillConfig(Section):
    """Few steps: instead of a control, the steps of a guided teacher are learned."""

    steps: Literal[0, 1, 2, 4, 8] = _of(0, "steps of the result, without guidance; 0: train a control instead")
    teacher_steps: Annotated[int, Field(ge=1, le=200)] = _of(20, "steps of the teacher, a multiple of `steps`")
    guidance_scale: Annotated[float, Field(ge=1)] | None = _of(None, "of the teacher; null: the family's")
    noises: Annotated[int, Field(ge=1, le=1000)] = _of(2, "runs of the teacher for each row, kept in data.cache")


class TrainConfig(Section):
    """A training."""

    family: Literal["starter", "sd15", "sdxl", "svd", "sd3"] = _of("starter", "base-model family")
    condition: str = _of(
        ..., "kind of condition the adapter will read: canny, depth, pose, segmentation, or a name of yours"
    )
    output: Path = _of(..., "folder of this run: checkpoints, curves, report and the adapter")
    base: str | None = _of(
        None, "base model: a preset, a diffusers folder, a .safetensors file or owner/name; null: the family's preset"
    )
    variant: str | None = _of(None, "key of VARIANTS; null: the family's")
    steps: Steps = _of(1000, "total optimizer steps")
    minutes: Annotated[float, Field(gt=0)] | None = _of(
        None, "end after so many minutes if that is sooner, over all resumed runs"
    )
    seed: Annotated[int, Field(ge=0)] = _of(0, "of everything random")
    data: DataConfig = _of(DataConfig.model_construct(), "")
    trainable: TrainableConfig = _of(TrainableConfig(), "")
    optimizer: OptimizerConfig = _of(OptimizerConfig(), "")
    learning: LearningConfig = _of(LearningConfig(), "")
    validation: ValidationConfig = _of(ValidationConfig(), "")
    checkpoints: CheckpointConfig = _of(CheckpointConfig(), "")
    distill: DistillConfig = _of(DistillConfig(), "")

    @field_validator("condition")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not re.fullmatch(r"[\w-]{1,40}", value):
            fail(f"condition is one word such as canny or scribble, not {value!r}.")
        return value

    @model_validator(mode="after")
    def _fits_its_family(self) -> Self:
        if self.variant is not None and (family := get_variant(self.variant).family) != self.family:
            fail(
                f"The variant {self.variant} is of the family {family}, not {self.family}: correct variant or family."
            )
        learning = self.learning
        if (learning.empty_prompts or 0) + (learning.nothing or 0) > 1:
            fail("learning.empty_prompts and learning.nothing are shares of the same samples: together at most 1.")
        if self.data.drawing not in (None, "classic") and (self.family, self.condition) != ("svd", "pose"):
            fail(f"Only poses of clips may be drawn otherwise: leave data.drawing={self.data.drawing} out.")
        if self.distill.steps and (self.family in ("svd", "sd3") or self.trainable.start is None):
            fail("distill.steps needs an adapter to start from, trainable.start, of a family that makes pictures.")
        if self.family != "svd":
            return self
        if self.data.dataset is not None:
            fail("Clips are learned from a folder: give data.folder instead of data.dataset.")
        if learning.min_snr or learning.timesteps == "late":
            fail("Clips have noise levels of their own: leave learning.min_snr and learning.timesteps out.")
        return self


def load_config(path: str | Path | None, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a training from a YAML file.

    Args:
        path: the file; None takes the changes alone.
        changes: `key=value`, dots reach into sections, values are YAML: `data.folder=photos`, `steps=500`.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: the file or a change cannot be read, or a field is unknown, missing or wrong.
    """
    values = {} if path is None else _read(Path(path))
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise ConfigError(f"A change is written key=value, such as data.folder=photos, not {change!r}.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"The value of {key} cannot be read: {' '.join(str(error).split())}.") from None
        _put(values, key.split("."), value)
    return as_config(values)


def as_config(values: Mapping[str, Any]) -> TrainConfig:
    """Check values that are plain data, such as those of the page.

    Raises:
        ConfigError: a field is unknown, missing or wrong.
    """
    try:
        return TrainConfig(**{"data": {}, **_numbers(values)})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden" and (meant := _meant(where)):
            raise ConfigError(f"The training has an unknown field {where!r}: did you mean {meant}?") from None
        raise ConfigError(explain(error, "training")) from None


def to_yaml(config: TrainConfig) -> str:
    """Write a configuration as YAML that `load_config` reads."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _meant(where: str) -> str:
    """Return the fields with the name nearest to an unknown one, preferably of the same section."""
    section, _, name = where.rpartition(".")
    places: dict[str, list[str]] = {}
    for place in _places(TrainConfig, ""):
        places.setdefault(place.rpartition(".")[2], []).append(place)
    near = [place for close in get_close_matches(name, places, n=1) for place in places[close]]
    same = [place for place in near if place.rpartition(".")[0] == section]
    return " or ".join(map(repr, same or near))


def _places(section: type[BaseModel], before: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        if (inner := section_of(field.annotation)) is not None:
            yield from _places(inner, f"{before}{name}.")
        else:
            yield before + name


def section_of(annotation: object) -> type[Section] | None:
    """Return a field's annotation where it is a section of its own."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"The training {path} cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(
            f"The training {path} must be a list of `key: value` lines; see presets/training/starter.yaml."
        )
    return values


def _put(values: dict[str, Any], keys: Sequence[str], value: object) -> None:
    for key in keys[:-1]:
        inner = values.get(key)
        values[key] = inner = dict(inner) if isinstance(inner, Mapping) else {}
        values = inner
    values[keys[-1]] = value


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `1e-5`, which YAML reads as text, into a number, and empty sections into default ones."""
    made: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            made[key] = _numbers(value)
        elif value is None and isinstance(
            TrainConfig.model_fields[key].default if key in TrainConfig.model_fields else 0, BaseModel
        ):
            made[key] = {}
        elif isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
            made[key] = float(value)
        else:
            made[key] = value
    return made
