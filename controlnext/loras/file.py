"""Headers of LoRA files: layers, rank, key style, and the base model they were made for.

Nothing but the header is read, so a folder of gigabytes is listed at once, and no file can run code by being looked at.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeGuard

from controlnext.loras.kinds import rank_and_width
from controlnext.loras.layers import LayerName, layers_of
from controlnext.method.families import FAMILIES, TEXT_FAMILIES

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
"""Endings of pickled files. Opening one runs the code inside, so they are listed and never opened."""

_METADATA = "__metadata__"
_ITEM_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16), **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64), "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits of one value of a safetensors type. Source: huggingface/safetensors, `safetensors/src/tensor.rs`."""
_HEADER_LIMIT = 64 << 20  # bytes; the header of the largest models stays far below
_STYLES = (
    ("lycoris", (".hada_w1", ".lokr_w", ".oft_", ".glora_")),
    ("kohya", (".lora_down.", ".lora_up.")),
    ("diffusers", (".lora.down.", "_lora.down.", ".lora_linear_layer.down.")),  # before PEFT's, which it mixes in
    ("peft", (".lora_A.", ".lora_B.")),
)
_UNREAD = (".oft_", ".glora_", ".a1.weight", ".boft_")
_TRANSFORMERS = (
    "transformer.",
    "lora_transformer_",
    *(
        f"{prefix}{blocks}"
        for prefix in ("lora_unet_", "diffusion_model.")
        for blocks in ("double_blocks", "single_blocks", "joint_blocks", "blocks", "layers", "transformer_blocks")
    ),
)
_TRIGGERS, _TRIGGER_SHARE, _TRIGGER_LENGTH = 3, 0.9, 60
"""Tags that nearly every training picture had trigger the style: how many are named, from which share of the most frequent
one's count, and how many characters of each are shown (whole captions count as tags, too)."""
_PICKLE = "It is a pickled file, which can run code when it is opened; convert it to safetensors."


@dataclass(frozen=True)
class BaseShape:
    """The shape of a base model, which a LoRA has to fit.

    Attributes:
        text_width: width of the text features the UNet reads; None if unknown.
        widths: widths of the UNet's levels; empty if unknown.
    """

    text_width: int | None = None
    widths: tuple[int, ...] = ()

    @classmethod
    def of_folder(cls, base: Path) -> BaseShape:
        """Read the shape of a base model's UNet from its folder; unknown where there is no such file."""
        try:
            config = json.loads((base / "unet" / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls()
        width = config.get("cross_attention_dim")
        return cls(width if isinstance(width, int) else None, tuple(config.get("block_out_channels") or ()))


@dataclass(frozen=True)
class LoraInfo:
    """The facts in the header of one file.

    Attributes:
        name: path inside its folder without the ending; what recipes call it.
        path: the file.
        style: key style: `peft`, `diffusers`, `kohya` or `lycoris`.
        family: base-model family by the shapes, or else by the metadata; empty if neither shows it.
        rank: the most frequent rank of its layers.
        text_width: width of the text features it was trained on; None if it touches no text attention.
        widths: widths of the self-attentions it touches.
        title: from the metadata, else the name.
        trigger: words that call the style, from the metadata: as its maker says, else its most frequent training tags.
        weight: recommended weight, from the metadata, else 1.
        size: of the file, in bytes.
        problem: why it can never be used; empty if it can.
    """

    name: str
    path: Path
    style: str = ""
    family: str = ""
    rank: int = 0
    text_width: int | None = None
    widths: frozenset[int] = field(default_factory=frozenset)
    title: str = ""
    trigger: str = ""
    weight: float = 1.0
    size: int = 0
    problem: str = ""

    def misfit(self, shape: BaseShape, title: str) -> str:
        """Return why this LoRA does not fit a base model; empty if it does, as far as the header shows."""
        if self.problem:
            return self.problem
        made_for = f"{self.family} " if self.family else ""
        if None not in (self.text_width, shape.text_width) and self.text_width != shape.text_width:
            return (
                f"It was made for a {made_for}base model with text features {self.text_width} wide; "
                f"{title} has {shape.text_width}. Choose a LoRA of this model."
            )
        if shape.widths and not self.widths <= set(shape.widths):
            return (
                f"It was made for a {made_for}base model with layers {_list(self.widths)} wide; "
                f"{title} has {_list(shape.widths)}. Choose a LoRA of this model."
            )
        return ""


def inspect_lora(path: str | Path, name: str | None = None) -> LoraInfo:
    """Read a file's header; never raises for a bad file, the row says what is wrong with it.

    Args:
        path: the file.
        name: what to call it; the file's own name if None.

    Returns:
        The row.
    """
    path = Path(path)
    name = path.stem if name is None else name
    if path.suffix.lower() != ".safetensors":
        return LoraInfo(name, path, title=path.name, size=_size(path), problem=_PICKLE)
    try:
        header = _read_header(path)
    except (OSError, ValueError, RecursionError) as error:
        problem = f"The file is damaged ({error}); get it again."
        return LoraInfo(name, path, title=name, size=_size(path), problem=problem)
    metadata = header.pop(_METADATA, None) or {}
    shapes = {key: entry["shape"] for key, entry in header.items()}
    style = next((style for style, marks in _STYLES if any(mark in key for mark in marks for key in shapes)), "")
    sizes = {
        name: rank_and_width({part: shapes[key] for part, key in keys.items()})
        for name, keys in layers_of(shapes).items()
    }
    down = {name: size for name, size in sizes.items() if size is not None}  # rank, width
    text = {size[1] for layer, size in down.items() if _is(layer, "attn2", "to_k", "to_v")}
    own = {size[1] for layer, size in down.items() if _is(layer, "attn1", "to_q", "to_k", "to_v")}
    text_width = min(text) if len(text) == 1 else None
    stated = "sdxl" if any(layer.part == "text_encoder_2" for layer in down) else _stated_family(metadata)
    if not text:
        text_width = FAMILIES[stated].text_width if stated in FAMILIES else None
    ranks = Counter(rank for rank, _ in down.values() if rank)
    return LoraInfo(
        name=name,
        path=path,
        style=style,
        family=TEXT_FAMILIES.get(text_width or 0, stated or str(metadata.get("base", ""))),
        rank=ranks.most_common(1)[0][0] if ranks else 0,
        text_width=text_width,
        widths=frozenset(own),
        title=str(metadata.get("modelspec.title") or metadata.get("title") or name),
        trigger=str(
            metadata.get("modelspec.trigger_phrase")
            or metadata.get("trigger")
            or _frequent_tags(metadata.get("ss_tag_frequency"))
        ),
        weight=_weight(metadata.get("weight")),
        size=_size(path),
        problem=_problem(shapes, style),
    )


def _read_header(path: Path) -> dict[str, Any]:
    """Read the JSON header of a safetensors file and check that the file is as long as it says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError("it is too short for a safetensors file")
        (length,) = struct.unpack("<Q", start)
        if length > min(size - 8, _HEADER_LIMIT):
            raise ValueError("it is no safetensors file, or was not downloaded to its end")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no table of tensors")
    end = max((_checked_entry(key, entry) for key, entry in header.items() if key != _METADATA), default=0)
    if not isinstance(header.get(_METADATA, {}), dict):
        raise ValueError("its header's metadata is no table of texts")
    if 8 + length + end != size:
        raise ValueError(f"it should have {8 + length + end:,} bytes and has {size:,}")
    return header


def _checked_entry(key: str, entry: object) -> int:
    """Check the entry of one tensor, turn its shape into a tuple, and return where its bytes end.

    Raises:
        ValueError: type, shape and place do not describe a tensor.
    """
    wrong = ValueError(f"its header does not describe the tensor {shorten(key, width=60, placeholder=' ...')!r}")
    if not isinstance(entry, dict):
        raise wrong
    dtype, shape, place = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if (
        not isinstance(dtype, str)
        or dtype not in _ITEM_BITS
        or not _sizes(shape)
        or not _sizes(place)
        or len(place) != 2
    ):
        raise wrong
    if 8 * (place[1] - place[0]) != math.prod(shape) * _ITEM_BITS[dtype]:
        raise wrong
    entry["shape"] = tuple(shape)
    return place[1]


def _sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 2**48 for one in value)


def _problem(shapes: Mapping[str, tuple[int, ...]], style: str) -> str:
    if any(key.startswith(_TRANSFORMERS) for key in shapes):
        return "It was made for a transformer model such as FLUX or SD3, not for a UNet; choose another LoRA."
    if any(mark in key for key in shapes for mark in _UNREAD):
        return (
            "It is a LyCORIS file of the kind OFT, BOFT or GLoRA, which is not supported; convert it to a plain LoRA."
        )
    if not style:
        return "It holds no LoRA layers; it may be a whole model or another kind of adapter."
    if not layers_of(shapes):
        return "It holds halves of layers alone: each needs its down and its up matrix; get the file again."
    return ""


def _is(layer: LayerName, attention: str, *parts: str) -> bool:
    """Whether a layer of the UNet is one of these of an attention."""
    return layer.part == "unet" and attention in layer.flat and layer.flat.endswith(parts)


def _stated_family(metadata: Mapping[str, Any]) -> str:
    """Family of the base model that the trainer wrote down; empty if it did not."""
    for key in ("ss_base_model_version", "modelspec.architecture"):
        version = str(metadata.get(key, "")).lower()
        for family, row in FAMILIES.items():
            if row.trainer_names and version.startswith(row.trainer_names):
                return family
    return ""


def _frequent_tags(value: object) -> str:
    """The tags that nearly all training pictures had, from kohya's `ss_tag_frequency`: {folder: {tag: pictures}} as JSON."""
    try:
        folders = json.loads(str(value or "{}"))
        counts: Counter[str] = Counter()
        for tags in folders.values():
            for tag, pictures in tags.items():
                counts[tag.strip()] += int(pictures)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ""
    counts.pop("", None)
    most = max(counts.values(), default=0)
    often = [tag for tag, pictures in counts.most_common(_TRIGGERS) if pictures >= _TRIGGER_SHARE * most]
    return ", ".join(shorten(tag, width=_TRIGGER_LENGTH, placeholder=" …") for tag in often)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _weight(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 1.0


def _list(widths: Sequence[int] | frozenset[int]) -> str:
    return ", ".join(str(width) for width in sorted(set(widths)))
