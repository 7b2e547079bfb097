"""Train the reader of the scenes: parts, depth and the joints of the people in them."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from annotators.starter.net import HEATMAP_SIZE, KEYPOINTS, SIZE
from controlnext.starter.remake.compute import CPU, Compute
from controlnext.starter.remake.networks import borrow, make_reader
from controlnext.starter.scenes.conditions import worn
from controlnext.starter.scenes.palette import PARTS
from controlnext.starter.scenes.shards import Archive, make_example
from controlnext.starter.train.dataset import to_tensor
from controlnext.starter.train.loop import Loop, Plan, rank

logger = logging.getLogger(__name__)
WEIGHTS = "reader.safetensors"
BUNDLED = "model.safetensors"
_MIRRORED = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16]
HELD_OUT = 24
"""Number of pictures that a report measures."""


def as_read(rgb: np.ndarray) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 as the reader gets it: (SIZE, SIZE, 3), squeezed if it is not square."""
    return cv2.resize(rgb, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def halved(values: np.ndarray) -> np.ndarray:
    """Return a map (H, W) as the reader answers it: (SIZE / 2, SIZE / 2), the nearest value of each place."""
    return cv2.resize(values, (SIZE // 2, SIZE // 2), interpolation=cv2.INTER_NEAREST)


def heatmaps(people: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return (18, HEATMAP_SIZE, HEATMAP_SIZE) float32 heatmaps of joints, 1 at each; `people` (n, 18, 3) in pixels of the picture."""
    y, x = np.mgrid[0:HEATMAP_SIZE, 0:HEATMAP_SIZE].astype(np.float32) + 0.5
    cells = HEATMAP_SIZE / width, HEATMAP_SIZE / height
    maps = np.zeros((KEYPOINTS, *y.shape), np.float32)
    for person in people:
        for joint, (px, py, seen) in enumerate(person):
            if seen > 0:
                maps[joint] = np.maximum(
                    maps[joint], np.exp(-((x - px * cells[0]) ** 2 + (y - py * cells[1]) ** 2) / (2 * 1.3**2))
                )
    return maps


def load_reader(folder: Path) -> nn.Module:
    """Load the reader that `train` wrote to `folder`, float32, frozen."""
    network = make_reader()
    network.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
    return network.eval().requires_grad_(False)


def features(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the reader's features of pictures (B, 3, H, W) in [-1, 1] at a half, a quarter and an eighth of the size."""
    a = network.enter(x)
    b = network.down1(a)
    return [a, b, network.down2(b)]


def _loss(found: tuple[Tensor, Tensor, Tensor], parts: Tensor, depth: Tensor, heat: Tensor) -> Tensor:
    logits, near, joints = (v.float() for v in found)
    wanted = functional.binary_cross_entropy_with_logits(joints, heat, reduction="none")
    return (
        functional.cross_entropy(logits, parts)
        + 4 * functional.l1_loss(near[:, 0].sigmoid(), depth)
        + 3 * (wanted * (1 + 30 * heat)).mean()
    )


def train(
    data: Path,
    out: Path,
    plan: Plan,
    *,
    start: Path | None = None,
    rate: float = 2e-3,
    batch: int = 8,
    compute: Compute = CPU,
) -> dict[str, float]:
    """Train the reader on the shards of `data`; write `reader.safetensors` to `out`.

    Args:
        data: Folder of shards.
        out: Folder of the result and the checkpoint.
        plan: Time budget.
        start: Folder of an older reader, of these scenes or of the bundled starter, whose features and joints are a start.
        rate: Peak learning rate.
        batch: Pictures a step and process.
        compute: Where.

    Returns:
        Mean IoU of held-out parts that occur, and the mean absolute error of depth.
    """
    torch.manual_seed(0)
    network, archive = make_reader(), Archive(data)
    if start:
        borrow(network, load_file(next(path for name in (WEIGHTS, BUNDLED) if (path := start / name).exists())))
    network = compute.prepare(network).train()
    loop = Loop(out, {"reader": network}, [(list(network.parameters()), rate)], plan)
    examples, figures = [make_example(seed) for seed in range(HELD_OUT)], {}

    def make(rng: np.random.Generator) -> tuple[Tensor, ...]:
        chosen = archive.draw(rng, batch * compute.batches)
        rgb = [as_read(archive.array("rgb", i)) for i in chosen]  # half of them as soft or rough as what a model draws
        rgb = np.stack([worn(picture, rng) if rng.random() < 0.5 else picture for picture in rgb])
        x = to_tensor(rgb)
        parts = torch.from_numpy(np.stack([halved(archive.array("parts", i)) for i in chosen])).long()
        depth = np.stack([halved(archive.array("depth", i)) for i in chosen]).astype(np.float32) / 65535
        heat = np.stack([heatmaps(archive.array("people", i), *archive.array("parts", i).shape) for i in chosen])
        targets = [parts, torch.from_numpy(depth), torch.from_numpy(heat)]
        if rng.random() < 0.5:  # the joints of a mirror image have the other side's names
            x, *targets = (v.flip(-1) for v in (x, *targets))
            targets[2] = targets[2][:, _MIRRORED]
        return x, *targets

    drawn = compute.stream(make, rank(), loop.step, 3)

    def loss(step: int) -> Tensor:
        if step % 100 == 99:
            archive.refresh()
        x, parts, depth, heat = next(drawn)
        with compute.autocast():
            found = network(x.contiguous(memory_format=torch.channels_last))
        return _loss(found, parts, depth, heat)

    def report() -> None:
        averaged = loop.averaged()["reader"].cpu()
        save_file({name: value.half().contiguous() for name, value in averaged.state_dict().items()}, out / WEIGHTS)
        inter, union = np.zeros(len(PARTS)), np.zeros(len(PARTS))
        errors = []
        with torch.no_grad():
            for e in examples:
                logits, near, _ = averaged(to_tensor(as_read(e.view.rgb)[None]))
                read, truth = logits[0].argmax(0).numpy(), halved(e.view.parts)
                errors.append(float(np.abs(near[0, 0].sigmoid().numpy() - halved(e.view.depth)).mean()))
                for part in range(len(PARTS)):
                    inter[part] += ((read == part) & (truth == part)).sum()
                    union[part] += ((read == part) | (truth == part)).sum()
        figures.update(
            iou=float((inter / np.maximum(union, 1))[union > 0].mean()), depth=float(np.mean(errors)), step=loop.step
        )
        logger.info("reader: mean IoU %.3f, depth error %.4f", figures["iou"], figures["depth"])

    loop.run(loss, report)
    return figures
