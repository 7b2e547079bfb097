"""Checks that base model and adapter are of one family, from configurations and headers; nothing is loaded.

Wrong combinations are refused here, in a sentence that names both sides, before gigabytes are read.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path

from controlnext.errors import ControlNeXtError
from controlnext.method.families import TEXT_FAMILIES, VIDEO_FAMILIES, title_of
from controlnext.method.variants import detect_variants, get_variant
from controlnext.models.presets import Preset
from controlnext.models.sources import CONTROL_FILES, UNET_FILES

_VIDEO_UNET = "UNetSpatioTemporalConditionModel"
_HEADER_LIMIT = 64 << 20  # bytes; the header of the largest models stays far below
_TEXT_KEY = "attn2.to_k.weight"  # its second side is the width of the text features, which tells the families apart
_TRANSFORMERS = ("double_blocks.", "joint_blocks.", "transformer_blocks.", "model.diffusion_model.joint_blocks.")
_UNET_BLOCKS = re.compile(r"(down_block|mid_block|up_block|input_block|middle_block|output_block)")
_TRANSFORMER_FAMILIES = frozenset({"flux", "sd3", "wan", "transformer"})
_DEEP = re.compile(r"\.transformer_blocks\.[1-9]")  # SDXL alone stacks transformer blocks, two to ten of them


class MismatchError(ControlNeXtError, ValueError):
    """Files of two families that do not go together."""


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes in a safetensors file from its header alone; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(path.stat().st_size, _HEADER_LIMIT):
                return {}
            header = json.loads(file.read(length))
        return {key: tuple(entry["shape"]) for key, entry in header.items() if key != "__metadata__"}
    except (OSError, ValueError, struct.error, TypeError, LookupError, AttributeError):
        return {}


def base_family(place: Path) -> str:
    """Detect the family of a base model from its folder or single file; empty if it cannot be detected."""
    if place.is_file():
        return _family_of_shapes(read_shapes(place))
    try:
        config = json.loads((place / "unet" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "transformer" if (place / "transformer" / "config.json").is_file() else ""
    width = config.get("cross_attention_dim")
    widths = VIDEO_FAMILIES if config.get("_class_name") == _VIDEO_UNET else TEXT_FAMILIES
    return widths.get(width, "") if isinstance(width, int) else ""


def _family_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    if any("time_stack" in key or "temporal_transformer_blocks" in key for key in shapes):
        return "svd"
    widths = {shape[1] for key, shape in shapes.items() if key.endswith(_TEXT_KEY) and len(shape) == 2}
    families = {TEXT_FAMILIES.get(width, "") for width in widths}
    if len(families) == 1:
        return families.pop()
    return "transformer" if any(key.startswith(_TRANSFORMERS) for key in shapes) else ""


def adapter_families(place: Path) -> frozenset[str]:
    """Detect the families an adapter may be for, from its headers; empty if they cannot be detected."""
    folder = place if place.is_dir() else place.parent
    control = (
        place
        if place.is_file()
        else next((folder / name for name in CONTROL_FILES if (folder / name).is_file()), None)
    )
    shapes = read_shapes(control) if control is not None and control.suffix == ".safetensors" else {}
    families = {get_variant(name).family for name in detect_variants(shapes)} if shapes else set()
    if place.is_dir():
        unet = next((read_shapes(folder / name) for name in UNET_FILES if (folder / name).is_file()), {})
        families = _narrowed(families, unet)
    return frozenset(families)


def _narrowed(families: set[str], unet: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Narrow families down by UNet weights: only SDXL stacks blocks, only video models have a time axis."""
    if any(_UNET_BLOCKS.search(key) for key in unet):
        families = families - _TRANSFORMER_FAMILIES
    if not any("transformer_blocks" in key for key in unet):
        return families
    if any("temporal" in key or "time_stack" in key for key in unet):
        return families & set(VIDEO_FAMILIES.values()) or set(VIDEO_FAMILIES.values())
    if any(_DEEP.search(key) for key in unet):
        return {"sdxl"}
    return families - {"sdxl", *VIDEO_FAMILIES.values()} or families


def check_base(preset: Preset, place: Path) -> None:
    """Raise a `MismatchError` if a base model is of another family than its preset says."""
    found = base_family(place)
    known = {*TEXT_FAMILIES.values(), *VIDEO_FAMILIES.values(), "transformer"}
    if found and found != preset.family and preset.family in known:
        raise MismatchError(
            f"{preset.title} is described as {title_of(preset.family)}, but {place} holds {title_of(found)}; correct "
            f"`variant` in {preset.name}.yaml, or name another base model."
        )


def check_adapter(preset: Preset, kind: str, place: Path) -> None:
    """Raise a `MismatchError` if an adapter is for another family than the preset's base model."""
    found = adapter_families(place)
    if found and preset.family not in found:
        made_for = " or ".join(title_of(family) for family in sorted(found))
        raise MismatchError(
            f"The {kind} adapter in {place} was made for {made_for}, but the base of {preset.title} is "
            f"{title_of(preset.family)}; choose an adapter made for that, or another base model."
        )
