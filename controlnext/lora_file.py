"""What the header of a LoRA file tells: layers, rank, key style, and which base model it was made for.

Nothing but the header is read, so a folder of gigabytes is listed at once, and no file can run code by being looked at.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
"""Endings of pickled files: opening one runs whatever code it carries, so they are listed and never opened."""

TEXT_WIDTHS: Mapping[int, str] = {768: "sd15", 1024: "sd21", 2048: "sdxl"}
"""Width of the text features a base-model family reads -> family."""

_HEADER_LIMIT = 64 << 20  # bytes; the header of the largest models stays far below
_STYLES = (
    ("lycoris", (".hada_w1", ".lokr_w", ".oft_", ".glora_")),
    ("kohya", (".lora_down.", ".lora_up.")),
    ("peft", (".lora_A.", ".lora_B.")),
    ("diffusers", (".lora.down.", ".lora.up.", "_lora.down.", "_lora.up.")),
)
_DOWN = (".lora_down.", ".lora_A.", ".lora.down.", "_lora.down.")
_TRANSFORMERS = ("transformer.", "lora_transformer_", "lora_unet_double_blocks", "lora_unet_joint_blocks")
_PICKLE = "It is a pickled file, which can run code when it is opened; convert it to safetensors."


@dataclass(frozen=True)
class BaseShape:
    """What a LoRA has to fit.

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
    """What the header of one file says.

    Attributes:
        name: path inside its folder without the ending; what recipes call it.
        path: the file.
        style: key style: `peft`, `diffusers`, `kohya` or `lycoris`.
        family: base-model family guessed from shapes; empty if they do not tell.
        rank: the most frequent rank of its layers.
        text_width: width of the text features it was trained on; None if it touches no text attention.
        widths: widths of the self-attentions it touches.
        title: from the metadata, else the name.
        trigger: words that call the style, from the metadata.
        weight: recommended weight, from the metadata, else 1.
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
    problem: str = ""

    def misfit(self, shape: BaseShape, title: str) -> str:
        """Say why this LoRA does not go with a base model; empty if it does, as far as the header tells."""
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
    """Read what a file's header tells; never raises for a bad file, the row says what is wrong with it.

    Args:
        path: the file.
        name: what to call it; the file's own name if None.

    Returns:
        The row.
    """
    path = Path(path)
    name = path.stem if name is None else name
    if path.suffix != ".safetensors":
        return LoraInfo(name, path, title=path.name, problem=_PICKLE)
    try:
        header = _read_header(path)
    except (OSError, ValueError, RecursionError) as error:
        return LoraInfo(name, path, title=name, problem=f"The file is damaged ({error}); get it again.")
    metadata = header.pop("__metadata__", None) or {}
    shapes = {key: entry["shape"] for key, entry in header.items()}
    style = next((style for style, marks in _STYLES if any(mark in key for mark in marks for key in shapes)), "")
    down = {key: shape for key, shape in shapes.items() if shape and any(mark in key for mark in _DOWN)}
    text = {shape[1] for key, shape in down.items() if _is(key, "attn2", "to_k", "to_v") and len(shape) > 1}
    own = {shape[1] for key, shape in down.items() if _is(key, "attn1", "to_q", "to_k", "to_v") and len(shape) > 1}
    text_width = min(text) if len(text) == 1 else None
    ranks = Counter(shape[0] for shape in down.values())
    return LoraInfo(
        name=name,
        path=path,
        style=style,
        family=TEXT_WIDTHS.get(text_width or 0, str(metadata.get("base", ""))),
        rank=ranks.most_common(1)[0][0] if ranks else 0,
        text_width=text_width,
        widths=frozenset(own),
        title=str(metadata.get("modelspec.title") or metadata.get("title") or name),
        trigger=str(metadata.get("modelspec.trigger_phrase") or metadata.get("trigger") or ""),
        weight=_weight(metadata.get("weight")),
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
    ends = [0]
    for key, entry in header.items():
        if key == "__metadata__" and isinstance(entry, dict):
            continue
        try:
            entry["shape"] = tuple(int(length) for length in entry["shape"])
            ends.append(int(entry["data_offsets"][1]))
        except (TypeError, LookupError):
            raise ValueError(f"its header does not describe the tensor {key!r}") from None
    if 8 + length + max(ends) != size:
        raise ValueError(f"it should have {8 + length + max(ends):,} bytes and has {size:,}")
    return header


def _problem(shapes: Mapping[str, tuple[int, ...]], style: str) -> str:
    if any(key.startswith(_TRANSFORMERS) for key in shapes):
        return "It was made for a transformer model such as FLUX or SD3, not for a UNet; choose another LoRA."
    if style == "lycoris":
        return "It is a LyCORIS file (LoHa, LoKr, OFT or GLoRA), which is not supported; convert it to a plain LoRA."
    if not style:
        return "It holds no LoRA layers; it may be a whole model or another kind of adapter."
    return ""


def _is(key: str, attention: str, *layers: str) -> bool:
    """Whether a key belongs to one of an attention's layers, in any key style."""
    flat = key.replace(".", "_")
    return attention in flat and any(f"{layer}_lora" in flat for layer in layers)


def _weight(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 1.0


def _list(widths: Sequence[int] | frozenset[int]) -> str:
    return ", ".join(str(width) for width in sorted(set(widths)))
