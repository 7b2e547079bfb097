"""One LoRA for a tiny pipeline, written in every key style, and its change worked out by hand."""

import json
from pathlib import Path

import torch
from diffusers.utils import convert_state_dict_to_diffusers
from safetensors.torch import save_file

RANKS = {"attention": 4, "convolution": 2}
ALPHAS = {"attention": 2.0, "convolution": 3.0}
UNET = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "proj_in")
TEXT = ("q_proj", "out_proj", "fc1")


def kind_of(path: str) -> str:
    return "convolution" if path.endswith("conv1") else "attention"


def make_layers(pipeline, seed: int = 0, text: bool = True) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random (down, up) by `unet.PATH` or `text_encoder.PATH`."""
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for part, endings in (("unet", UNET), ("text_encoder", TEXT if text else ())):
        for path, module in getattr(pipeline, part).named_modules():
            if endings and path.endswith(endings):
                weight, rank = module.weight, RANKS[kind_of(path)]
                ones = (1,) * (weight.ndim - 2)
                down = 0.3 * torch.randn(rank, *weight.shape[1:], generator=generator)
                layers[f"{part}.{path}"] = (down, 0.3 * torch.randn(len(weight), rank, *ones, generator=generator))
    return layers


def change_of(path: str, down: torch.Tensor, up: torch.Tensor, weight: float = 1.0, scaled: bool = True):
    """The change of a layer's weight, multiplied out."""
    scale = ALPHAS[kind_of(path)] / RANKS[kind_of(path)] if scaled else 1.0
    return weight * scale * (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])


def old_diffusers(path: str) -> str:
    """Names of diffusers' attention processors; only attentions had them."""
    stem, _, leaf = path.removesuffix(".0").rpartition(".")
    names = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
    return f"{stem}{'.processor' if path.startswith('unet') else ''}.{names.get(leaf, leaf)}_lora"


def write(path: Path, layers: dict, style: str) -> Path:
    """Write layers in a key style: `kohya`, `peft`, `peft-raw`, `diffusers` (which mixes) or `diffusers-old`."""
    tensors, metadata = {}, {"format": "pt"}
    for name, (down, up) in layers.items():
        part, _, inner = name.partition(".")
        if style == "kohya":
            prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[part]
            inner = inner if part == "unet" or inner.startswith("text_model") else f"text_model.{inner}"
            stem = prefix + inner.replace(".", "_")
            tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
            tensors[f"{stem}.alpha"] = torch.tensor(ALPHAS[kind_of(name)])
        elif style == "diffusers-old" and name.endswith(("to_q", "to_k", "to_v", "to_out.0", "q_proj", "out_proj")):
            stem = old_diffusers(name)
            tensors |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
        else:
            stem = f"base_model.model.{inner}" if style == "peft-raw" else name
            tensors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    if style == "diffusers":
        tensors = convert_state_dict_to_diffusers(tensors)
    if style == "peft":
        metadata["lora_adapter_metadata"] = json.dumps(
            {
                f"{part}.{key}": value
                for part in ("unet", "text_encoder")
                for key, value in {
                    "r": RANKS["attention"], "lora_alpha": ALPHAS["attention"],
                    "alpha_pattern": {"conv1": ALPHAS["convolution"]}, "rank_pattern": {"conv1": RANKS["convolution"]},
                }.items()
            }
        )  # fmt: skip
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path


SCALED = {"kohya": True, "peft": True, "peft-raw": False, "diffusers": False, "diffusers-old": False}
"""Styles -> whether the file says alpha; one that does not means alpha = rank."""
