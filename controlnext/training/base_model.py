"""The base model of a training: finding and loading it, and the preset that is written with the result."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

import yaml

from controlnext.models.hub import Repo
from controlnext.models.presets import Base, Place, Preset, load_presets
from controlnext.models.sources import adapter_of, parts_of
from controlnext.recipes.video_recipe import Drawing
from controlnext.training.config import CLASSIC, TrainConfig, TrainingError
from controlnext.training.family_defaults import FAMILY_DEFAULTS

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


WHOLE_BODY: Mapping[str, bool] = MappingProxyType({"hands": True, "face": True})
"""Settings of the pose annotator for the drawing of the released SVD adapters."""


def base_preset(config: TrainConfig) -> Preset:
    """Return the preset of the base model that a training names.

    Raises:
        TrainingError: it is no preset, folder, checkpoint file or hub repository, or of another family.
    """
    presets, _ = load_presets()
    row = FAMILY_DEFAULTS[config.family]
    preset = presets[row.preset]
    if config.base is None:
        return preset
    if config.base in presets:
        preset = presets[config.base]
        if preset.family != config.family:
            raise TrainingError(
                f"The preset {config.base} is of the family {preset.family}, but the training is of {config.family}: "
                "change one of them."
            )
        return preset
    place = Path(config.base).expanduser()
    if place.exists():
        base = Base(path=str(place.resolve()), licence="")
    else:
        try:
            Repo.parse(config.base)
        except ValueError:
            raise TrainingError(
                f"There is no base model {config.base!r}: give a preset ({', '.join(presets)}), a folder, a "
                ".safetensors file, or owner/name on the hub."
            ) from None
        base = Base(repo=config.base, licence="")
    return preset.model_copy(update={"base": base, "title": config.base})


def load_base(
    config: TrainConfig, dtype: torch.dtype, log: Callable[[str], None], cancel: threading.Event
) -> DiffusionPipeline:
    """Load the pipeline that a training starts from; a base that is not on this disk is downloaded first.

    Args:
        config: names the base.
        dtype: of the frozen weights.
        log: receives lines of progress.
        cancel: stops a download.

    Returns:
        A stock diffusers pipeline on the CPU.

    Raises:
        ControlNeXtError: the base cannot be found, downloaded or loaded.
    """
    from controlnext.engine import loading
    from controlnext.models import downloads  # loading imports torch
    from controlnext.models import mismatch as families

    preset = base_preset(config)
    parts = parts_of(preset, (), half=str(dtype) == "torch.float16")
    downloads.fetch(preset, parts, lambda progress: log(f"{progress.stage} {progress.counted}"), cancel)
    place, vae = [*(part.find() for part in parts), None][:2]
    if place is None:
        raise TrainingError(f"The base model {parts[0].path} is missing or incomplete: correct `base`.")
    families.check_base(preset, place)
    try:
        pipeline = loading.load_pipeline(preset, place, vae, dtype, lambda: None)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(
            f"The base model in {place} cannot be loaded: {type(error).__name__}: {reason}."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def start_adapter(config: TrainConfig) -> Path | None:
    """Return the folder of the adapter that a training starts from; None if it starts from none.

    The configuration names a folder, or `model/kind` of a preset, such as `starter/depth`.

    Raises:
        TrainingError: there is no such adapter on this disk.
    """
    given = config.trainable.start
    if given is None or Path(given).expanduser().exists():
        return None if given is None else Path(given).expanduser()
    model, _, kind = given.partition("/")
    preset = load_presets()[0].get(model)
    found = adapter_of(preset, kind).find() if preset is not None and kind in preset.adapters else None
    if found is None:
        raise TrainingError(
            f"There is no adapter {given!r} to start from: give its folder, or model/kind of one that is on this disk, such "
            "as starter/depth."
        )
    return found


def pose_drawing(config: TrainConfig) -> Drawing:
    """Return how poses of clips are drawn: as the configuration says, or as the adapter it starts from learned them."""
    given = config.trainable.start
    poses = FAMILY_DEFAULTS[config.family].video and config.condition == "pose"
    if config.data.drawing is not None or given is None or not poses:
        return config.data.drawing or CLASSIC
    folder = Path(given).expanduser()
    if folder.exists():
        drawing = read_facts(folder).get("drawing")
        return drawing if drawing in get_args(Drawing) else CLASSIC
    model, _, kind = given.partition("/")
    preset = load_presets()[0].get(model)
    row = None if preset is None else preset.adapters.get(kind)
    return CLASSIC if row is None else row.drawing


def read_facts(folder: Path) -> dict[str, Any]:
    """Read the facts of an adapter's training from its configuration; empty if it is missing or cannot be read."""
    try:
        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def write_preset(config: TrainConfig, adapter: Path, file: Path) -> None:
    """Write a preset with a training's base model and its result.

    Args:
        config: filled in.
        adapter: folder of the result.
        file: YAML file to write.
    """
    preset = base_preset(config)
    row = {"path": str(adapter.resolve()), "gamma": config.learning.gamma}
    if config.distill.steps:
        row |= {"num_inference_steps": config.distill.steps, "guidance_scale": 1.0, "scheduler": "ddim_trailing"}
    if (drawing := pose_drawing(config)) != CLASSIC:
        row["drawing"] = drawing
    values = {
        "title": f"{preset.title}, {config.output.name}",
        "description": f"Trained on {config.condition} by this installation.",
        "variant": config.variant,
        "base": _place_values(preset, preset.base),
        "sizes": preset.sizes.model_dump(mode="json"),
        "defaults": {name: value for name, value in preset.defaults.values().items() if name != "loras"},
        "adapters": {config.condition: row},
        "adherence_backend": preset.adherence_backend,
        "batch": preset.batch,
        "precision": preset.precision,
    }
    if preset.vae is not None:
        values["vae"] = _place_values(preset, preset.vae)
    partial = file.with_suffix(".partial")
    partial.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    partial.replace(file)


def _place_values(preset: Preset, place: Place) -> dict[str, Any]:
    """Return the values of a place in a preset, with absolute paths, so that the file can be moved."""
    values = place.model_dump(mode="json", exclude_defaults=True) | {"licence": place.licence}
    return values | {name: str(preset.resolve_path(values[name])) for name in {"path", "config"} & values.keys()}
