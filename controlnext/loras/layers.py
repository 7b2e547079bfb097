"""Layers of LoRA files: keys of every style parsed, and tensors read.

Four styles are about: kohya's (`lora_unet_down_blocks_1_..._to_q.lora_down.weight`, for SDXL with the block numbers of the
original code), PEFT's (`...to_q.lora_A.weight`), diffusers' (`...to_q.lora.down.weight`) and its older one
(`...processor.to_q_lora.down.weight`). One file may mix them: diffusers writes attentions in its own style and convolutions
in PEFT's, and its own loader, which looks at the first key alone, then leaves one half out without a word. So layers are
read here, once for the pipelines and once for the conflict meter, by a name that is the same in all styles.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.errors import ControlNeXtError
from controlnext.loras.kinds import ENDINGS, LayerError, as_pair, is_whole, with_magnitude

if TYPE_CHECKING:
    from torch import Tensor

KOHYA: Mapping[str, str] = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
"""Beginning of a kohya key -> part of the pipeline."""

_DOTTED = (
    ("text_encoders.clip_l.transformer.", "text_encoder"), ("text_encoders.clip_g.transformer.", "text_encoder_2"),
    ("text_encoder_2.", "text_encoder_2"), ("text_encoder.", "text_encoder"), ("text_model.", "text_encoder"),
)  # fmt: skip
_PARTS = (
    (".lora_down.weight", "down"), (".lora_up.weight", "up"),
    (".lora_A.weight", "down"), (".lora_B.weight", "up"),
    (".lora.down.weight", "down"), (".lora.up.weight", "up"),
    (".lora_linear_layer.down.weight", "down"), (".lora_linear_layer.up.weight", "up"),
    ("_lora.down.weight", "down"), ("_lora.up.weight", "up"),
    (".alpha", "alpha"),
    *ENDINGS,
)  # fmt: skip
_TEXT_NAMES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}  # diffusers' older style
# Names with a dot that kohya has written as an underscore, in a UNet of the original code.
_ORIGINAL = re.compile(r"(input_blocks|middle_block|output_blocks)_(\d+)_(?:(\d+)_)?(.+)")
_ORIGINAL_LEAVES = {"in_layers_2": "in_layers.2", "out_layers_3": "out_layers.3", "emb_layers_1": "emb_layers.1"}
_ORIGINAL_ENDS = {
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}
_COMFY = "diffusion_model."  # beginning of a key that names the layer as the original code does, with dots
_METADATA = "lora_adapter_metadata"  # where diffusers keeps PEFT's configuration


class LoraFileError(ControlNeXtError, ValueError):
    """A LoRA file whose tensors cannot be read."""


@dataclass(frozen=True, order=True)
class LayerName:
    """Which layer of which model.

    Attributes:
        part: part of the pipeline: `unet`, `text_encoder` or `text_encoder_2`.
        flat: the layer's path in diffusers' UNet or in the text encoder, dots written as underscores.
    """

    part: str
    flat: str


@dataclass(frozen=True)
class LoraLayer:
    """One layer of a LoRA; its change of the weight is `scale * up @ down`.

    Attributes:
        name: which layer.
        down: `(rank, in, ...)`, the file's dtype; a convolution's has its kernel.
        up: `(out, rank, ...)`.
        scale: alpha / rank, unitless.
    """

    name: LayerName
    down: Tensor
    up: Tensor
    scale: float


def read_key(key: str) -> tuple[LayerName, str] | None:
    """Return the layer that a key belongs to, and which part of it.

    Args:
        key: of a LoRA file in any style.

    Returns:
        The layer and `down`, `up`, `alpha` or another part of `kinds.ENDINGS`; None for a key that is none of these.
    """
    ending, part = next(((ending, part) for ending, part in _PARTS if key.endswith(ending)), ("", ""))
    if not part:
        return None
    stem, old = key.removesuffix(ending), ending.startswith("_lora")
    for start, component in KOHYA.items():
        if stem.startswith(start):
            flat = stem.removeprefix(start)
            return LayerName(component, _of_original(flat) if component == "unet" else flat), part
    stem = stem.removeprefix("base_model.model.").replace(".processor.", ".")
    if stem.startswith(_COMFY):
        return LayerName("unet", _of_original(flattened(stem.removeprefix(_COMFY)))), part
    for start, component in _DOTTED:
        if stem.startswith(start):
            stem = stem.removeprefix(start) if start != "text_model." else stem
            head, _, leaf = stem.rpartition(".")
            return LayerName(component, flattened(f"{head}.{_TEXT_NAMES.get(leaf, leaf)}" if old else stem)), part
    stem = stem.removeprefix("unet.")
    return LayerName("unet", flattened(f"{stem}.0" if old and stem.endswith("to_out") else stem)), part


def flattened(path: str) -> str:
    """Write the path of a layer as kohya does, the form that all styles can be converted to."""
    return path.replace(".", "_")


def _of_original(flat: str) -> str:
    """Convert a name of the original UNet to diffusers' numbering; others pass through."""
    if flat in _ORIGINAL_ENDS:
        return _ORIGINAL_ENDS[flat]
    if not (match := _ORIGINAL.fullmatch(flat)):
        return flat
    from controlnext.method.original_names import KeyNameError, diffusers_name

    half, index, part, rest = match.groups()
    dotted = ".".join(each for each in (half, index, part, _ORIGINAL_LEAVES.get(rest, rest)) if each)
    try:
        return flattened(diffusers_name(f"{dotted}.weight").removesuffix(".weight"))
    except KeyNameError:
        return flat


def layers_of(keys: Iterable[str]) -> dict[LayerName, dict[str, str]]:
    """Group the keys of a file by layer; layers that miss one of their matrices are left out.

    Returns:
        Layer -> key of each of its parts, such as `down`, `up` and `alpha`.
    """
    found: dict[LayerName, dict[str, str]] = {}
    for key in keys:
        if (read := read_key(key)) is not None:
            found.setdefault(read[0], {})[read[1]] = key
    return {name: parts for name, parts in found.items() if is_whole(parts)}


def read_layers(
    path: str | Path,
    wanted: Callable[[LayerName], bool] | None = None,
    base: Callable[[LayerName], Tensor] | None = None,
) -> Iterator[LoraLayer]:
    """Read the layers of a LoRA file one after the other.

    Args:
        path: a `.safetensors` file.
        wanted: which layers; None reads all. The tensors of others are not touched.
        base: weight of the base model's layer, which a DoRA changes in relation to; None where there is none.

    Yields:
        The layers, on the CPU.

    Raises:
        LoraFileError: the file is missing or damaged, an alpha is no number, matrices of a layer do not go together, or it is a
            DoRA and there is no base.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            declared = _declared(file.metadata())
            for name, keys in layers_of(file.keys()).items():
                if wanted is None or wanted(name):
                    parts = {part: file.get_tensor(key) for part, key in keys.items()}
                    alpha, magnitude = _alpha(parts.pop("alpha", None), name, path), parts.pop("magnitude", None)
                    if magnitude is not None and "lora_magnitude" in keys["magnitude"]:
                        magnitude = (
                            magnitude.flatten()
                        )  # PEFT has one for each output alone, (1, out, 1, 1) at convolutions
                    try:
                        down, up, rank = as_pair(parts)
                        scale = _scale(name, rank, alpha, declared) if rank else 1.0
                        if magnitude is not None:
                            if base is None:
                                raise LayerError("it is a DoRA, whose change depends on the base model's weights")
                            (down, up), scale = with_magnitude(down, up.float() * scale, magnitude, base(name)), 1.0
                    except (LayerError, RuntimeError) as error:
                        reason = (
                            error
                            if isinstance(error, LayerError)
                            else "its matrices do not fit the base model's weight"
                        )
                        raise LoraFileError(
                            f"The layer {name.flat} of the LoRA file {Path(path).name} cannot be used: {reason}."
                        ) from error
                    yield LoraLayer(name, down, up, scale)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise LoraFileError(f"The LoRA file {Path(path).name} cannot be read ({error}); get it again.") from error


def _alpha(tensor: Tensor | None, name: LayerName, path: str | Path) -> float | None:
    """The alpha of a layer; one number that is finite."""
    if tensor is None:
        return None
    alpha = float(tensor) if tensor.numel() == 1 else math.nan
    if not math.isfinite(alpha):
        found = str(alpha) if tensor.numel() == 1 else f"{tensor.numel()} numbers"
        raise LoraFileError(
            f"The LoRA file {Path(path).name} gives the layer {name.flat} an alpha of {found}; get it again."
        )
    return alpha


def _declared(metadata: Mapping[str, str] | None) -> Mapping[str, object]:
    """PEFT's configuration as diffusers keeps it in the header, keys beginning with the part of the pipeline."""
    try:
        values = json.loads((metadata or {}).get(_METADATA, "{}"))
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _scale(name: LayerName, rank: int, alpha: float | None, declared: Mapping[str, object]) -> float:
    """Alpha / rank: by the layer's own alpha, else by the configuration in the header, else 1."""
    found: object = alpha
    if alpha is None:
        found = declared.get(f"{name.part}.lora_alpha", rank)
        patterns = declared.get(f"{name.part}.alpha_pattern")
        for pattern, value in patterns.items() if isinstance(patterns, Mapping) else ():
            if re.search(rf"(^|_){re.escape(flattened(pattern.lstrip('^').rstrip('$')))}$", name.flat):
                found = value
    if not isinstance(found, int | float) or not math.isfinite(found):
        found = rank
    return found / (math.sqrt(rank) if declared.get(f"{name.part}.use_rslora") is True else rank)
