"""Train a small style LoRA on the starter: the same scenes, repainted."""

import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor
from torch.nn import functional

from controlnext.device import quick_dtype
from controlnext.method.weights import write_tensors
from controlnext.starter.train.base import Diffusion, sample_sheet, tokenize
from controlnext.starter.train.dataset import Shards, encode
from controlnext.starter.train.loop import Loop, Plan
from controlnext.starter.world.styles import restyle
from controlnext.training.quick import cpu_autocast, quicken

logger = logging.getLogger(__name__)
RANK = 8


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
    vae = pipeline.vae.to(quick_dtype()).eval()
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
        with cpu_autocast():
            predicted = unet(noisy, t, text(tokenize(pipeline.tokenizer, captions)).last_hidden_state).sample
        return functional.mse_loss(predicted.float(), target)

    def report() -> None:
        averaged = loop.averaged()["unet"]
        # PEFT's own names throughout: diffusers' writer would rename the attentions alone, and its loader then skips them.
        layers = {f"unet.{key}": value.half() for key, value in get_peft_model_state_dict(averaged).items()}
        write_tensors(out / f"{name}.safetensors", layers, {"format": "pt", "title": name, "base": "starter"})
        stock, pipeline.unet = pipeline.unet, averaged
        sample_sheet(pipeline, out / name / "sheet.png", 8)
        pipeline.unet = stock

    loop.run(loss, report)
