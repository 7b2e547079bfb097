"""Loading base models: diffusers folders and single checkpoint files, component by component, offline.

Every path here is local: what has to be downloaded was downloaded before (`downloads.py`), so a damaged or foreign file is
distinguished from a bad network, and a person can stop between two components.
"""

from __future__ import annotations

import gzip
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL
from torch import nn

import controlnext
from controlnext.assets import CONFIGS
from controlnext.engine.weight_storage import load_gguf_unet
from controlnext.method.families import FAMILIES
from controlnext.models.sources import INDEX_FILE, WEIGHTED, weight_variant
from controlnext.quiet import quiet_loading

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from transformers import CLIPTokenizer

    from controlnext.models.presets import Preset

_MERGES = CONFIGS / "clip_merges.txt.gz"
_LIBRARIES = ("diffusers", "transformers")
_PADS = {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"}  # SDXL's second text encoder was trained padded with "!"
_MAY_LACK = ("text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3")
"""Components without which pipelines of SD3's class run; diffusers wants to be told that they are left out."""
_LENGTH = 77  # tokens a CLIP text encoder reads


def load_pipeline(
    preset: Preset, base: Path, vae: Path | nn.Module | None, dtype: torch.dtype, stop: Callable[[], None]
) -> DiffusionPipeline:
    """Load a base model into main memory.

    Args:
        preset: says of which family it is.
        base: folder in diffusers' layout, or a single `.safetensors` checkpoint.
        vae: an autoencoder to use instead of its own, or the folder of one; None keeps its own.
        dtype: of the weights.
        stop: called between components; may raise.

    Returns:
        The pipeline, on the CPU.

    Raises:
        Exception: whatever diffusers and transformers raise on files that are missing, damaged or something else.
    """
    family = FAMILIES[preset.family]
    kind = getattr(controlnext, family.pipeline)
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    if family.safety_checker:
        options |= {"safety_checker": None, "requires_safety_checker": False}
    with quiet_loading():
        if isinstance(vae, nn.Module):
            options["vae"] = vae
        elif vae is not None:
            options["vae"] = AutoencoderKL.from_pretrained(
                vae, dtype=dtype, local_files_only=True, variant=weight_variant(vae)
            )
        stop()
        if preset.unet is not None:
            options["unet"] = load_gguf_unet(preset.resolve_path(preset.unet), preset, base, dtype)
            stop()
        if base.is_file():
            return kind.from_single_file(str(base), **_checkpoint_options(preset), **options)
        options |= _components(base, dtype, stop, leave={"vae", "unet"} & options.keys())
        return kind.from_pretrained(str(base), **options)


def _components(base: Path, dtype: torch.dtype, stop: Callable[[], None], leave: set[str]) -> dict[str, Any]:
    """Load the components with weights one by one; anything unusual is left to diffusers."""
    index = json.loads((base / INDEX_FILE).read_text(encoding="utf-8"))
    found: dict[str, Any] = {name: None for name in _MAY_LACK if index.get(name) == [None, None]}
    for name in WEIGHTED:
        library, kind = index.get(name) or (None, None)
        if name in leave or library not in _LIBRARIES:
            continue
        stop()
        found[name] = getattr(importlib.import_module(library), kind).from_pretrained(
            base, subfolder=name, dtype=dtype, local_files_only=True, use_safetensors=True,
            variant=weight_variant(base / name),
        )  # fmt: skip
    stop()
    return found


def _checkpoint_options(preset: Preset) -> dict[str, Any]:
    """What `from_single_file` would otherwise ask the hub for."""
    own = preset.base.config
    config = CONFIGS / preset.family if own is None else preset.resolve_path(own)
    index = json.loads((config / INDEX_FILE).read_text(encoding="utf-8"))
    tokenizers = {
        name: clip_tokenizer(pad) for name, pad in _PADS.items() if name in index and not (config / name).is_dir()
    }
    return {"config": str(config), **tokenizers}


def clip_tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """Build CLIP's tokenizer from the bundled merges; its vocabulary follows from them.

    Args:
        pad: token that fills a prompt up.

    Returns:
        The tokenizer of Stable Diffusion 1.5 and XL.

    Source:
        openai/CLIP `clip/simple_tokenizer.py`: 256 bytes, the same at a word's end, a token for each merge, two marks.
    """
    from transformers import CLIPTokenizer

    with gzip.open(_MERGES, "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n") if line]
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=_LENGTH, pad_token=pad)


def _byte_letters() -> list[str]:
    """A printable letter for each byte, in the tokenizer's order: printable bytes stand for themselves and come first."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = 256 - len(shown)
    return [chr(byte) for byte in shown] + [chr(256 + number) for number in range(rest)]
