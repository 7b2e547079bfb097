"""Train the starter's text encoder and UNet together, and write them as a folder that diffusers loads."""

import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionPipeline
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from controlnext.starter.train.dataset import SceneSample, Shards, make_samples
from controlnext.starter.train.loop import Loop, Plan, rank
from controlnext.starter.train.networks import make_scheduler, make_text_encoder, make_unet
from controlnext.starter.world.captions import MAX_TOKENS, write_tokenizer
from controlnext.starter.world.sheets import save_sheet
from controlnext.training.quick import cpu_autocast, quicken

logger = logging.getLogger(__name__)
# Share of empty prompts, which teaches the unconditional half of classifier-free guidance.
EMPTY_PROMPTS = 0.1
# Sky and ground are learned soon; most of the time should go into the figure, which covers a tenth of a picture.
FIGURE_WEIGHT = 2.0
# Files of the repository stay below 10 MB.
SHARD_SIZE = "9MB"


class Diffusion:
    """The forward process of the starter's schedule with v-prediction (Salimans and Ho, arXiv 2202.00512)."""

    def __init__(self, *, late: bool = False) -> None:
        """Read the schedule; `late` draws noisy timesteps more often (density 2t), where a control has most to decide."""
        self.late = late
        alphas = make_scheduler().alphas_cumprod
        self.signal, self.noise = alphas.sqrt(), (1 - alphas).sqrt()

    def noised(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return noised latents, timesteps and targets v = signal * noise - sigma * latents for (B, 4, h, w) latents."""
        noisy, t, target = self.noised_clips(latents)
        return noisy.contiguous(memory_format=torch.channels_last), t, target

    def noised_clips(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same for (N, ..., h, w) latents of any shape, one timestep for each of the N."""
        share = torch.rand(len(latents))
        t = ((share.sqrt() if self.late else share) * len(self.signal)).long()
        noise = torch.randn_like(latents)
        a, b = (level[t].view(-1, *[1] * (latents.dim() - 1)).to(latents) for level in (self.signal, self.noise))
        return a * latents + b * noise, t.to(latents.device), a * noise - b * latents


class SceneBatches:
    """Draws latents and token ids at random from shards."""

    def __init__(self, data: Path, tokenizer: CLIPTokenizer, size: int, empty: float = EMPTY_PROMPTS) -> None:
        """Open the shards of `data` for batches of `size`, a share `empty` of them with an empty prompt."""
        self.shards = Shards(data)
        self.tokenizer, self.size, self.empty = tokenizer, size, empty
        self.rng = np.random.default_rng(torch.initial_seed() % 2**32)

    def samples(self) -> list[SceneSample]:
        """Draw a batch of samples."""
        return [self.shards[i] for i in self.rng.integers(0, len(self.shards), self.size)]

    def tokens(self, samples: list[SceneSample]) -> Tensor:
        """Return (B, MAX_TOKENS) ids of the samples' captions in varying words."""
        captions = ["" if self.rng.random() < self.empty else sample.caption(self.rng) for sample in samples]
        return tokenize(self.tokenizer, captions)

    @staticmethod
    def latents(samples: list[SceneSample]) -> Tensor:
        """Return the (B, 4, 32, 32) float32 latents of samples."""
        return torch.from_numpy(np.stack([sample.latent for sample in samples])).float()


def importance(samples: list[SceneSample], figure: float) -> Tensor:
    """Return (B, 1, 32, 32) weights of the loss with mean 1: `figure` times as much on the figure as elsewhere."""
    mask = np.stack([(s.picture.parts >= 2) & (s.picture.parts <= 8) for s in samples]).astype(np.float32)
    weight = 1 + (figure - 1) * functional.avg_pool2d(torch.from_numpy(mask)[:, None], 8)
    return weight / weight.mean((1, 2, 3), keepdim=True)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return (B, MAX_TOKENS) token ids."""
    batch = tokenizer(captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    return batch.input_ids


def make_pipeline(
    unet: torch.nn.Module, text: CLIPTextModel, tokenizer: CLIPTokenizer, vae: AutoencoderKL
) -> StableDiffusionPipeline:
    """Put the parts together as a stock pipeline."""
    pipeline = StableDiffusionPipeline(
        vae,
        text,
        tokenizer,
        unet,
        make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_pipeline(pipeline: DiffusionPipeline, out: Path) -> None:
    """Write a pipeline's float16 weights in shards below 10 MB; the modules handed in become float16."""
    pipeline.to(torch.float16).save_pretrained(out, max_shard_size=SHARD_SIZE)


def sample_sheet(pipeline: StableDiffusionPipeline, path: Path, count: int = 16) -> None:
    """Generate pictures for held-out captions and write them as a contact sheet, with the captions in a text file next to it."""
    captions = [make_samples(seed, 1)[0].caption() for seed in range(count)]
    pictures = []
    for i in range(0, count, 8):
        generators = [torch.Generator().manual_seed(seed) for seed in range(i, i + 8)]
        result = pipeline(
            captions[i : i + 8], num_inference_steps=20, guidance_scale=3.0, generator=generators, output_type="np"
        )
        pictures.append((result.images * 255).astype(np.uint8))
    save_sheet(path, pictures)
    path.with_suffix(".txt").write_text("\n".join(captions))


def train(
    data: Path,
    vae_folder: Path,
    out: Path,
    plan: Plan,
    *,
    start: Path | None = None,
    rate: float = 8e-4,
    batch: int = 16,
) -> None:
    """Train UNet and text encoder on latents; write a diffusers folder to `out / "pipeline"` at each checkpoint.

    Args:
        data: Folder of encoded shards.
        vae_folder: The autoencoder that encoded them.
        out: Folder of results and the checkpoint.
        plan: Time budget.
        start: Pipeline folder whose UNet and text encoder to start from, e.g. the bundled one; None starts from random weights.
        rate: Peak learning rate.
        batch: Pictures per step and process.
    """
    if rank() == 0:
        write_tokenizer(out / "tokenizer")
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    torch.manual_seed(0)
    unet = quicken(make_unet()).train()
    text = make_text_encoder(len(tokenizer), tokenizer.eos_token_id, tokenizer.bos_token_id).train()
    if start:
        unet.load_state_dict(type(unet).from_pretrained(start / "unet", dtype=torch.float32).state_dict())
        text.load_state_dict(type(text).from_pretrained(start / "text_encoder", dtype=torch.float32).state_dict())
    loop = Loop(out, {"unet": unet, "text": text}, [([*unet.parameters(), *text.parameters()], rate)], plan)
    batches, diffusion = SceneBatches(data, tokenizer, batch), Diffusion()
    if rank() == 0:
        logger.info(
            "%d pictures, UNet %.2fM, text %.2fM",
            len(batches.shards),
            *(sum(p.numel() for p in m.parameters()) / 1e6 for m in (unet, text)),
        )

    def loss(step: int) -> Tensor:
        if step % 250 == 249:
            batches.shards.refresh()
        samples = batches.samples()
        noisy, t, target = diffusion.noised(batches.latents(samples))
        with cpu_autocast():
            states = text(batches.tokens(samples)).last_hidden_state
            predicted = unet(noisy, t, states).sample
        error = functional.mse_loss(predicted.float(), target, reduction="none")
        return (error * importance(samples, FIGURE_WEIGHT)).mean()

    def report() -> None:
        averaged = loop.averaged()
        vae = AutoencoderKL.from_pretrained(vae_folder)
        pipeline = make_pipeline(averaged["unet"], averaged["text"], tokenizer, vae)
        sample_sheet(pipeline, out / "sheets" / f"{round(loop.elapsed / 60):03d}.png", 8)
        save_pipeline(pipeline, out / "pipeline")

    loop.run(loss, report)
