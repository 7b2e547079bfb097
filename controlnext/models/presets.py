"""Presets: one YAML file for each model, with the places of its weights and the defaults of its recipes.

A preset is data that can be read, compared and shared. Drop a file into the presets folder and the model is there; a key
that nothing reads is an error that names the file, since a misspelt default would otherwise be ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from controlnext.assets import PRESETS
from controlnext.errors import ControlNeXtError, fail
from controlnext.method.families import FAMILIES
from controlnext.method.variants import TRANSFORMERS, VARIANTS
from controlnext.models.hub import Repo
from controlnext.recipes.explain import explain
from controlnext.recipes.limits import LIMITS, Limit
from controlnext.recipes.schedulers import SCHEDULERS
from controlnext.recipes.video_recipe import Drawing

DEFAULT_MODEL = "starter"
_VARIANTS = {**VARIANTS, **{name: row for name, row in TRANSFORMERS.items() if FAMILIES[row.family].experimental}}
LARGEST_PRESET = 1_000_000
"""Bytes of a preset file that are read; those of this project have some thousand."""


class PresetError(ControlNeXtError, ValueError):
    """A preset file that cannot be read, or a model no preset describes."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Row):
    """Where weights come from: a place on this disk or a hub repository, one of the two.

    Attributes:
        path: folder or file, relative to the preset file.
        repo: hub repository, `owner/name`, or a folder in one, `owner/name/folder`.
        mirrors: repositories with the same files, tried in this order when the first does not have them.
        revision: branch, tag or commit of the repository.
        files: weight files that are needed -> size in bytes, null where it is not known; without it they are chosen by
            the layout, safetensors only.
        size: total bytes, where `files` does not say.
        gated: whether the hub wants a licence accepted and a token first.
        licence: licence of the weights, as their owner names it.
        source: who made them, in a few words.
    """

    path: str | None = None
    repo: str | None = None
    mirrors: tuple[str, ...] = ()
    revision: str | None = None
    files: dict[str, int | None] = Field(default_factory=dict)
    size: int | None = None
    gated: bool = False
    licence: str = ""
    source: str = ""

    @field_validator("repo", "mirrors")
    @classmethod
    def _repositories(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for text in (value,) if isinstance(value, str) else value or ():
            Repo.parse(text)
        return value

    @property
    def repos(self) -> tuple[Repo, ...]:
        """The repository and its mirrors, in the order they are tried."""
        return tuple(Repo.parse(text) for text in (self.repo, *self.mirrors) if text)


class Base(Place):
    """Where the base model comes from: a folder or repository in diffusers' layout, or a single checkpoint file.

    Attributes:
        licence: licence of the weights, as its owner names it.
        checkpoint: name of a single `.safetensors` checkpoint in the repository, instead of diffusers' layout.
        config: folder with the configurations that a single checkpoint lacks, relative to the preset file; None takes
            those of the family that come with the project.
        file_variant: which weight files to take where there are several, such as `fp16`.
    """

    licence: str
    checkpoint: str | None = None
    config: str | None = None
    file_variant: str = ""


class Defaults(_Row):
    """Values of a recipe that names none; each may also stand in an adapter's row, which wins.

    Attributes:
        loras: names of LoRAs of the library, for recipes that say nothing about LoRAs and sampling.
    """

    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    gamma: float | None = None
    alpha: float | None = None
    control_start: float | None = None
    control_end: float | None = None
    scheduler: str | None = None
    negative_prompt: str | None = None
    loras: tuple[str, ...] | None = None

    @field_validator("num_inference_steps", "guidance_scale", "gamma", "alpha", "control_start", "control_end")
    @classmethod
    def _in_range(cls, value: float | None, info: ValidationInfo) -> float | None:
        return None if value is None else LIMITS[str(info.field_name)].check(value)

    @field_validator("scheduler")
    @classmethod
    def _known_scheduler(cls, value: str | None) -> str | None:
        if value is not None and value not in SCHEDULERS:
            fail(f"there is no scheduler {value!r}; choose one of {', '.join(SCHEDULERS)}.")
        return value

    def values(self) -> dict[str, Any]:
        """The values that are given, by their names in a recipe."""
        return {name: getattr(self, name) for name in Defaults.model_fields if getattr(self, name) is not None}


class AdapterRow(Place, Defaults):
    """One ControlNeXt adapter of a model, and the defaults that suit it.

    Attributes:
        variant: key of `VARIANTS`, where it differs from the preset's.
        kind: whether its UNet weights are a `delta` or a `subset`; None as their file says.
        style: how the condition it was trained on is drawn, in a few words.
        drawing: how the control frames of a video are drawn for it.
    """

    variant: str | None = None
    kind: Literal["delta", "subset"] | None = None
    style: str = ""
    drawing: Drawing = "classic"


class Sizes(_Row):
    """Picture sizes of a model, in pixels.

    Attributes:
        width: default width.
        height: default height.
        minimum: smallest side it draws sensibly.
        maximum: largest.
        choices: name of a shape, such as "3:4", -> [width, height].
    """

    width: int
    height: int
    minimum: int
    maximum: int
    choices: dict[str, tuple[int, int]] = Field(default_factory=dict)

    @field_validator("choices")
    @classmethod
    def _drawable(cls, value: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        for width, height in value.values():
            LIMITS["width"].check(width)
            LIMITS["height"].check(height)
        return value

    def check(self, width: int, height: int, title: str) -> None:
        """Raise a `ValueError` with a sentence for a size this model does not draw."""
        for label, value in (("The width", width), ("The height", height)):
            advice = f"{title} draws {self.width}x{self.height} best."
            Limit(label, self.minimum, self.maximum, advice, whole=True, multiple=8).check(value)


class Preset(_Row):
    """A model of the studio; fields as in `presets/*.yaml`.

    Attributes:
        name: the file's name without its ending; what a recipe calls the model.
        folder: the file's folder, which paths are relative to.
        title: what the page calls it.
        description: one sentence for the page.
        variant: key of `VARIANTS` its adapters are built by, and its base-model family.
        base: where the base model comes from.
        unet: GGUF file of a UNet that replaces the base model's own, relative to the preset file.
        vae: an autoencoder that replaces the base model's own in float16, where that one overflows.
        sizes: picture sizes.
        defaults: partial recipe.
        adapters: kind of condition -> adapter.
        loras: folders of LoRAs that belong to this model, relative to the preset file.
        adherence_backend: annotator backend that can read this model's pictures.
        batch: pictures denoised at once; more are made in several batches.
        precision: `auto` lets the device decide, `float32` for models that need it, `bfloat16` for large models on a CPU
            with little memory.
        small_decoder: folder of the tail of a small decoder, relative to the preset file, for live pictures and previews on the CPU.
        live_steps: steps without guidance that are enough for a live picture, in bfloat16 too; None for models that need
            guidance or a LoRA for few steps.
    """

    name: str
    folder: Path
    title: str
    description: str = ""
    variant: str
    base: Base
    unet: str | None = None
    vae: Place | None = None
    sizes: Sizes
    defaults: Defaults = Defaults()
    adapters: dict[str, AdapterRow] = Field(default_factory=dict)
    loras: tuple[str, ...] = ()
    adherence_backend: str = "auto"
    batch: int = Field(default=4, ge=1, le=16)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    small_decoder: str | None = None
    live_steps: int | None = Field(default=None, ge=1, le=8)

    @field_validator("variant")
    @classmethod
    def _known_variant(cls, value: str) -> str:
        if value not in _VARIANTS:
            fail(f"there is no variant {value!r}; choose one of {', '.join(_VARIANTS)}.")
        return value

    @field_validator("base", "vae")
    @classmethod
    def _one_base(cls, value: Base | None, info: ValidationInfo) -> Base | None:
        if value is not None:
            _one_place(value, str(info.field_name))
        return value

    @field_validator("adapters")
    @classmethod
    def _one_place_each(cls, value: dict[str, AdapterRow]) -> dict[str, AdapterRow]:
        for kind, row in value.items():
            _one_place(row, f"{kind} adapter")
            if row.drawing != "classic" and kind != "pose":
                fail(f"only the pose adapter takes a `drawing`, not the {kind} adapter.")
        return value

    @property
    def family(self) -> str:
        """Base-model family, as in the variants' table."""
        return _VARIANTS[self.variant].family

    @property
    def video(self) -> bool:
        """Whether it makes videos, and no single pictures."""
        return FAMILIES[self.family].video

    def located(self, row: Place) -> Path | str:
        """Folder or file of a base or an adapter (a path), or its hub repository (a string)."""
        return str(row.repo) if row.path is None else self.resolve_path(row.path)

    def resolve_path(self, path: str) -> Path:
        """Make a path of the preset absolute: `~` and absolute paths as they are, others from the preset's folder."""
        return (self.folder / Path(path).expanduser()).resolve()

    def lora_dirs(self) -> list[Path]:
        """Folders of the LoRAs that belong to this model."""
        return [self.resolve_path(path) for path in self.loras]


def _one_place(place: Place, what: str) -> None:
    if (place.path is None) == (place.repo is None):
        fail(f"the {what} needs either a `path` or a `repo`, not both and not neither.")


def load_preset(path: str | Path) -> Preset:
    """Read one preset file.

    Args:
        path: a YAML file; its name becomes the model's.

    Returns:
        The checked preset.

    Raises:
        PresetError: the file cannot be read, is no YAML mapping, or has a key or value that is wrong; names file and key.
    """
    path = Path(path)
    try:
        values = _read_yaml(path)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise PresetError(
            f"The preset {path.name} cannot be read: {shorten(str(reason), 160, placeholder=' ...')}."
        ) from None
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise PresetError(f"The preset {path.name} must be a list of `key: value` lines; see presets/starter.yaml.")
    for key in ("name", "folder"):
        if key in values:
            raise PresetError(f"The preset {path.name} has an unknown key {key!r}; its name is that of the file.")
    try:
        return Preset(**values, name=path.stem, folder=path.resolve().parent)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = shorten(".".join(str(part) for part in first["loc"]), 60, placeholder=" ...")
        raise PresetError(f"The preset {path.name} is wrong at {key!r}: {explain(error, 'preset')}") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PresetError(
            f"The preset {path.name} holds values that no preset has: compare it with presets/starter.yaml."
        ) from error


def stamp_of(folder: Path) -> tuple[tuple[str, int], ...]:
    """Return name and time of change of every preset of a folder; empty where there is no such folder."""
    stamps = []
    for path in folder.glob("*.y*ml"):
        with suppress(FileNotFoundError):  # removed meanwhile
            stamps.append((path.name, path.stat().st_mtime_ns))
    return tuple(sorted(stamps))


def _read_yaml(path: Path) -> object:
    """Read a file of YAML that is no larger than a preset can be."""
    with path.open("rb") as file:
        data = file.read(LARGEST_PRESET + 1)
    if len(data) > LARGEST_PRESET:
        raise ValueError(f"it is larger than {LARGEST_PRESET:,} bytes")
    return yaml.safe_load(data.decode())


def load_presets(folder: str | Path | None = None) -> tuple[dict[str, Preset], dict[str, str]]:
    """Read all presets of a folder; one that is broken does not take the others away.

    Args:
        folder: a folder of YAML files; None takes `PRESETS`.

    Returns:
        Presets by name, the default model first, and sentences about the broken ones by name.
    """
    folder = PRESETS if folder is None else Path(folder)
    presets, broken = {}, {}
    for path in sorted(folder.glob("*.y*ml"), key=lambda path: (path.stem != DEFAULT_MODEL, path.stem)):
        try:
            presets[path.stem] = load_preset(path)
        except PresetError as error:
            broken[path.stem] = str(error)
    return presets, broken
