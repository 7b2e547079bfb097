"""Turn the UNet that learned few steps into one LoRA for the base and all adapters: by singular values, without training."""

import logging
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.method.weights import write_tensors

logger = logging.getLogger(__name__)
RANK = 48
"""Rank of the LoRA; layers with fewer inputs or outputs get what they have."""


def split(difference: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the product of least squares error: `down` (r, in, ...) and `up` (out, r, 1, ...) of a weight's difference.

    Args:
        difference: (out, in) of a linear layer or (out, in, k, k) of a convolution.
        rank: the largest r.
    """
    rows = difference.float().flatten(1)
    u, s, v = torch.linalg.svd(rows, full_matrices=False)
    r = min(rank, len(s))
    root = s[:r].sqrt()
    down = (root[:, None] * v[:r]).reshape(r, *difference.shape[1:])
    up = (u[:, :r] * root).reshape(len(rows), r, *[1] * (difference.dim() - 2))
    return down, up


@torch.no_grad()
def extract(base: Path, teacher: Path, student: Path, out: Path, rank: int = RANK) -> float:
    """Write the LoRA that makes the teacher's UNet the student's.

    Args:
        base: Diffusers folder of the base.
        teacher: Adapter folder that the distillation started from; its own differences stay with it.
        student: Adapter folder that the distillation wrote.
        out: The file to write, `.safetensors`.
        rank: Of the LoRA.

    Returns:
        The share of the differences' energy that the LoRA holds, in [0, 1]; biases and norms are left out.
    """
    kept = total = 0.0
    tensors: dict[str, Tensor] = {}
    before = ControlNeXtAdapter.from_pretrained(teacher).unet_weights or {}
    after = ControlNeXtAdapter.from_pretrained(student).unet_weights or {}
    shapes = UNet2DConditionModel.from_pretrained(base / "unet", dtype=torch.float32).state_dict()
    for name in sorted(after):
        difference = after[name].float() - (before[name].float() if name in before else 0)
        total += float(difference.square().sum())
        if difference.dim() < 2 or name not in shapes:
            continue
        down, up = split(difference, rank)
        layer = f"unet.{name.removesuffix('.weight')}"
        tensors |= {f"{layer}.lora_A.weight": down.half(), f"{layer}.lora_B.weight": up.half()}
        kept += float((up.flatten(1) @ down.flatten(1)).square().sum())
    write_tensors(out, {name: value.contiguous() for name, value in tensors.items()}, {"rank": str(rank)})
    logger.info("%d layers, %.3f of the differences", len(tensors) // 2, kept / total)
    return kept / total
