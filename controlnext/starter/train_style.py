"""Train a small style LoRA on the starter: the same scenes, repainted."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor
from torch.nn import functional

from controlnext.starter.dataset import Shards, encode
from controlnext.starter.loop import Loop, Plan
from controlnext.starter.networks import quicken
from controlnext.starter.train_base import Diffusion, sample_sheet, tokenize

logger = logging.getLogger(__name__)
RANK = 8
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _clay(rgb: np.ndarray) -> np.ndarray:
    """Fire everything in one terracotta: light and shade stay, colours go."""
    luma = (rgb @ _LUMA)[..., None]
    return luma ** np.float32(0.85) * np.array([0.98, 0.66, 0.48], np.float32) + 0.04


def _night(rgb: np.ndarray) -> np.ndarray:
    """Moonlight: dark and blue, some of each colour left."""
    luma = (rgb @ _LUMA)[..., None]
    return (0.55 * rgb + 0.45 * luma) * np.array([0.34, 0.42, 0.72], np.float32)


STYLES: MappingProxyType[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType({"clay": _clay, "night": _night})


def restyle(name: str, rgb: np.ndarray) -> np.ndarray:
    """Repaint (..., 3) uint8 RGB in a style of `STYLES`."""
    return (np.clip(STYLES[name](rgb.astype(np.float32) / 255), 0, 1) * 255 + 0.5).astype(np.uint8)


def train(
    data: Path,
    base: Path,
    out: Path,
    plan: Plan,
    *,
    name: str,
    rate: float = 1e-3,
    pictures: int = 384,
    batch: int = 16,
) -> None:
    """Train the LoRA `name` on the pipeline in `base`; write `NAME.safetensors` to `out`."""
    pipeline = StableDiffusionPipeline.from_pretrained(base, dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    shards = Shards(data, latents=False)
    rng = np.random.default_rng(7)
    pictures = min(pictures, len(shards))
    samples = [shards[i] for i in rng.choice(len(shards), pictures, replace=False)]
    vae = pipeline.vae.bfloat16().eval()
    styled = [restyle(name, np.array(s.picture.rgb)) for s in samples]
    latents = np.concatenate([encode(vae, np.stack(styled[i : i + 8])) for i in range(0, pictures, 8)])
    latents = torch.from_numpy(latents).float()
    vae.float()
    unet, text = pipeline.unet, pipeline.text_encoder.eval().requires_grad_(False)
    unet.requires_grad_(False)
    targets = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"]
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets))
    unet = quicken(unet).train()
    trained = [p for p in unet.parameters() if p.requires_grad]
    loop = Loop(out / name, {"unet": unet}, [(trained, rate)], plan)
    diffusion = Diffusion()

    def loss(step: int) -> Tensor:
        chosen = rng.integers(0, pictures, batch)
        captions = ["" if rng.random() < 0.1 else samples[i].caption(rng) for i in chosen]
        noisy, t, target = diffusion.noised(latents[chosen])
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(noisy, t, text(tokenize(pipeline.tokenizer, captions)).last_hidden_state).sample
        return functional.mse_loss(predicted.float(), target)

    def report() -> None:
        averaged = loop.averaged()["unet"]
        layers = {k: v.half().contiguous() for k, v in get_peft_model_state_dict(averaged).items()}
        StableDiffusionPipeline.save_lora_weights(
            out, convert_state_dict_to_diffusers(layers), weight_name=f"{name}.safetensors", safe_serialization=True
        )
        stock, pipeline.unet = pipeline.unet, averaged
        sample_sheet(pipeline, out / name / "sheet.png", 8)
        pipeline.unet = stock

    loop.run(loss, report)
