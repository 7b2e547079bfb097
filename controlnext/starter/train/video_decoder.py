"""Train the decoder of the video starter's autoencoder on finished latents; its temporal layers stay as they are.

A figure's hair is a few cells of a latent, and a loss on single pixels lets a strong colour fade into its
surroundings. People see, and the benchmark measures, the colour of a part as a whole, so the loss includes that.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from PIL import Image
from torch import Tensor, nn

from controlnext.starter.train.clips import CELL
from controlnext.starter.train.dataset import Shards, to_tensor
from controlnext.starter.train.loop import Loop, Plan, rank
from controlnext.starter.train.vae import PART_WEIGHTS, reconstruction_loss
from controlnext.starter.train.video_networks import CLIP_SIZE
from controlnext.starter.train.video_vae import held_out, psnr
from controlnext.starter.world.sheets import save_sheet
from controlnext.starter.world.world import PARTS
from controlnext.training.quick import cpu_autocast, quicken

logger = logging.getLogger(__name__)
PICTURES = 1500  # shards read by each process
CROP = 12  # cells along each side of a decoded window
# Sampled latents are never as exact as encoded ones.
NOISE = 0.04
HEAD = [PARTS.index(name) for name in ("face", "hair")]
FIGURE = range(2, 9)
COLOURED = [*HEAD, *(PARTS.index(name) for name in ("shirt", "trousers"))]
PART_COLOURS = 2.0  # weight of the colours of parts, in addition to pixels
FEWEST = 12  # pixels that make a colour
# Pixels along the sides of a window that are not compared: it ends there as only whole pictures should.
RIM = 12
UNSEEN = 255  # the part of such a pixel


class Known(NamedTuple):
    """N pictures of S x S pixels in the clips' size: (N, S, S, 3) and (N, S, S) uint8, (N, 4, S/8, S/8) raw latents."""

    rgb: np.ndarray
    parts: np.ndarray
    latents: Tensor


class DecoderCut(NamedTuple):
    """B windows: raw latents (B, 4, c, c), pictures (B, 3, 8c, 8c) in [-1, 1], parts or `UNSEEN` (B, 8c, 8c) uint8."""

    latents: Tensor
    target: Tensor
    parts: Tensor


def shrink(rgb: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make a picture of the image starter and its parts as small as those of clips."""
    size = (CLIP_SIZE, CLIP_SIZE)
    picture = Image.fromarray(np.ascontiguousarray(rgb)).resize(size, Image.Resampling.BOX)
    return np.asarray(picture), np.asarray(Image.fromarray(np.array(parts)).resize(size, Image.Resampling.NEAREST))


@torch.no_grad()
def learn_pictures(data: Path, encoder: AutoencoderKL, count: int, rng: np.random.Generator) -> Known:
    """Take `count` pictures of the shards in `data`, as small as clips, and encode them."""
    shards = Shards(data, latents=False)
    chosen = [shards[int(i)].picture for i in rng.permutation(len(shards))[:count]]
    rgb, parts = (np.stack(column) for column in zip(*(shrink(p.rgb, p.parts) for p in chosen), strict=True))
    latents = [encoder.encode(to_tensor(rgb[i : i + 8])).latent_dist.mean for i in range(0, len(rgb), 8)]
    return Known(rgb, parts, torch.cat(latents))


def cut(known: Known, size: int, rng: np.random.Generator) -> DecoderCut:
    """Cut out `size` windows, four in ten around a point of the head and as many around one of the figure."""
    cells, rows = known.latents.shape[-1], []
    for index in rng.integers(0, len(known.rgb), size):
        parts = known.parts[index]
        wanted = rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2])  # the head, the figure, anything
        points = np.argwhere(np.isin(parts, (HEAD, [*FIGURE], [])[wanted]))
        middle = points[rng.integers(len(points))] // CELL if len(points) else rng.integers(0, cells, 2)
        y, x = (int(np.clip(v - CROP // 2 + rng.integers(-3, 4), 0, cells - CROP)) for v in middle)
        window = slice(y * CELL, (y + CROP) * CELL), slice(x * CELL, (x + CROP) * CELL)
        seen = np.full_like(parts[window], UNSEEN)
        inner = tuple(slice(RIM * (a > 0), CROP * CELL - RIM * (a + CROP < cells)) for a in (y, x))
        seen[inner] = parts[window][inner]
        rows.append((known.latents[index, :, y : y + CROP, x : x + CROP], known.rgb[index][window], seen))
    latents, rgb, parts = zip(*rows, strict=True)
    return DecoderCut(torch.stack(latents), to_tensor(np.stack(rgb)), torch.from_numpy(np.stack(parts)))


def part_colour_loss(result: Tensor, target: Tensor, parts: Tensor) -> Tensor:
    """Return the mean absolute error of the parts' mean colours, over the parts that are seen.

    Args:
        result: (B, 3, H, W) decoded pictures in [-1, 1].
        target: (B, 3, H, W) what they should be.
        parts: (B, H, W) uint8, numbers in `PARTS`; others do not count.
    """
    errors = []
    for number in COLOURED:
        mask = (parts == number).flatten(1).float()
        count = mask.sum(1)
        mean = ((result.float() - target).flatten(2) * mask[:, None]).sum(2) / count.clamp(min=1)[:, None]
        errors.append(mean.abs().mean(1)[count >= FEWEST])
    found = torch.cat(errors)
    return found.mean() if len(found) else result.sum() * 0


def _still(vae: AutoencoderKLTemporalDecoder) -> list[nn.Parameter]:
    """Freeze the temporal layers, and return the parameters that learn."""
    vae.requires_grad_(False)
    learning = {
        name: p
        for name, p in vae.decoder.named_parameters()
        if not any(key in name for key in ("temporal_res_block", "time_mixer", "time_conv_out"))
    }
    for parameter in learning.values():
        parameter.requires_grad_(True)
    return [*learning.values()]


def train(
    data: Path, teacher: Path, start: Path, out: Path, plan: Plan, *, rate: float = 3e-4, batch: int = 8
) -> None:
    """Train the decoder of the autoencoder in `start` and write the autoencoder to `out`.

    Args:
        data: Folder of shards.
        teacher: The image starter's autoencoder, whose latents the video UNet draws.
        start: Autoencoder to start from, as `video_vae.make` writes it.
        out: Folder of the result; also holds the checkpoint.
        plan: Time budget.
        rate: Peak learning rate.
        batch: Windows a step.
    """
    vae = quicken(AutoencoderKLTemporalDecoder.from_pretrained(start)).train()
    encoder = AutoencoderKL.from_pretrained(teacher).eval().requires_grad_(False)
    loop = Loop(out, {"vae": vae}, [(_still(vae), rate)], plan)
    rng = np.random.default_rng([rank(), loop.step])
    known = learn_pictures(data, encoder, PICTURES, rng)
    weights = torch.zeros(UNSEEN + 1)
    weights[: len(PARTS)] = torch.from_numpy(PART_WEIGHTS)
    shown = held_out()
    with torch.no_grad():
        latents = encoder.encode(shown).latent_dist.mean

    def loss(step: int) -> Tensor:
        drawn = cut(known, batch, rng)
        noisy = drawn.latents + NOISE * torch.randn_like(drawn.latents)
        with cpu_autocast():
            result = vae.decode(noisy, num_frames=1).sample
        pixels = reconstruction_loss(result, drawn.target, weights[drawn.parts.long()][:, None])
        return pixels + PART_COLOURS * part_colour_loss(result, drawn.target, drawn.parts)

    def report() -> None:
        averaged = loop.averaged()["vae"]
        with torch.no_grad():
            result = averaged.decode(latents, num_frames=len(latents)).sample.clamp(-1, 1)
        logger.info("held out: %.2f dB", psnr(result, shown))
        averaged.save_pretrained(out)
        rows = [((x + 1) * 127.5).permute(0, 2, 3, 1).numpy().astype(np.uint8) for x in (shown, result)]
        save_sheet(out / "sheet.png", rows)

    loop.run(loss, report)
