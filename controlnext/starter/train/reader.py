"""Train the network that reads parts, depth and pose from pictures of the starter's world."""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from annotators.starter.net import HEATMAP_SIZE, KEYPOINTS, PARTS, make_network, read_batch
from controlnext.method.weights import write_tensors
from controlnext.starter.train.dataset import Shards, make_samples, to_tensor
from controlnext.starter.train.loop import Loop, Plan
from controlnext.starter.world.world import SIZE, Picture, mirrored
from controlnext.training.quick import cpu_autocast, quicken

logger = logging.getLogger(__name__)
_SIGMA = 1.6  # of a heatmap's blob, in its own pixels
# Figures seen from behind are 7 % of the world; drawn no more often than that, their left and right stay confused.
BACKS = 0.2


def heatmaps(people: np.ndarray) -> np.ndarray:
    """Draw (B, 18, 3) keypoints in picture pixels as (B, 18, 64, 64) blobs of height 1; unseen ones stay empty."""
    grid = np.arange(HEATMAP_SIZE, dtype=np.float32) + 0.5
    scaled = people[..., :2] * (HEATMAP_SIZE / SIZE)
    x = np.exp(-((grid - scaled[..., 0:1]) ** 2) / (2 * _SIGMA**2))
    y = np.exp(-((grid - scaled[..., 1:2]) ** 2) / (2 * _SIGMA**2))
    return y[..., :, None] * x[..., None, :] * (people[..., 2] > 0.3)[..., None, None].astype(np.float32)


def _worn(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur, brighten and add noise, so that the network also reads softer, generated pictures."""
    if rng.random() < 0.6:
        scale = float(rng.uniform(0.3, 0.9))
        small = functional.interpolate(pictures, scale_factor=scale, mode="bilinear", antialias=True)
        pictures = functional.interpolate(small, pictures.shape[2:], mode="bilinear")
    gain = torch.tensor(rng.uniform(0.85, 1.15, (len(pictures), 3, 1, 1)), dtype=torch.float32)
    shift = torch.tensor(rng.uniform(-0.1, 0.1, (len(pictures), 3, 1, 1)), dtype=torch.float32)
    return pictures * gain + shift + float(rng.uniform(0, 0.08)) * torch.randn_like(pictures)


def _score(network: torch.nn.Module, pictures: list[Picture]) -> str:
    hits, seen, inter, union = 0, 0, np.zeros(len(PARTS)), np.zeros(len(PARTS))
    for i in range(0, len(pictures), 8):
        for picture, reading in zip(
            pictures[i : i + 8], read_batch(network, np.stack([p.rgb for p in pictures[i : i + 8]])), strict=True
        ):
            truth = picture.people[0]
            visible = truth[:, 2] > 0.3
            found = reading.people[0] if reading.people else np.full((KEYPOINTS, 3), 1e6)
            height = np.ptp(truth[visible, 1])
            hits += (np.linalg.norm(found[visible, :2] - truth[visible, :2], axis=1) < 0.1 * height).sum()
            seen += visible.sum()
            for part in range(len(PARTS)):
                a, b = reading.parts == part, picture.parts == part
                inter[part] += (a & b).sum()
                union[part] += (a | b).sum()
    return f"PCK@0.1 {hits / seen:.3f}, IoU {np.round(inter / np.maximum(union, 1), 2).tolist()}"


def train(data: Path, out: Path, plan: Plan, *, rate: float = 2e-3, batch: int = 8) -> None:
    """Train on the shards of `data`; write `model.safetensors` (float16) to `out`."""
    network = quicken(make_network())
    shards = Shards(data, latents=False)
    rng = np.random.default_rng(rank_seed())
    loop = Loop(out, {"network": network}, [(list(network.parameters()), rate)], plan)
    held_out = [sample.picture for seed in range(64) for sample in make_samples(seed, 1)]

    backs = shards.backs()

    def loss(step: int) -> Tensor:
        drawn = rng.integers(0, len(shards), batch)
        if len(backs):
            drawn = np.where(rng.random(batch) < BACKS, rng.choice(backs, batch), drawn)
        pictures = [shards[i].picture for i in drawn]
        pictures = [mirrored(p) if rng.random() < 0.5 else p for p in pictures]
        x = _worn(to_tensor(np.stack([p.rgb for p in pictures])), rng).contiguous(memory_format=torch.channels_last)
        parts_true = torch.from_numpy(np.stack([p.parts[::2, ::2] for p in pictures]).astype(np.int64))
        depth_true = torch.from_numpy(np.stack([p.depth[::2, ::2] for p in pictures]))[:, None]
        heat_true = torch.from_numpy(heatmaps(np.stack([p.people[0] for p in pictures])))
        with cpu_autocast():
            parts, depth, heat = network(x)
        heat = heat.float()
        # Blobs are a few pixels of 4096: give them more weight, and the rest enough that an unseen joint stays unseen.
        pose = functional.binary_cross_entropy_with_logits(heat, heat_true, weight=1 + 40 * heat_true)
        entropy = functional.cross_entropy(parts.float(), parts_true)
        return entropy + 4 * pose + 2 * (depth.float().sigmoid() - depth_true).abs().mean()

    def report() -> None:
        averaged = loop.averaged()["network"]
        logger.info("held out: %s", _score(averaged, held_out))
        weights = {name: value.half().contiguous() for name, value in averaged.state_dict().items()}
        write_tensors(out / "model.safetensors", weights, {})

    loop.run(loss, report)


def rank_seed() -> int:
    """Return a NumPy seed that differs between processes and between resumed runs."""
    return torch.initial_seed() % 2**32
