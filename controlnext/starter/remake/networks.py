"""The networks of the starter of people, as real diffusers and transformers classes, and how they start from older weights."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from annotators.starter.net import make_network
from controlnext.starter.scenes.captions import MAX_TOKENS
from controlnext.starter.scenes.palette import PARTS
from controlnext.starter.scenes.shot import SIDE

TEXT_WIDTH = 128
LATENT_SIZE = SIDE // 8
LATENT_CHANNELS = 4
"""Channels of the latents: as many as the older weights have, so that autoencoder, UNet and adapters start from them."""

_LITTLE_NOISE = -6.0  # logarithm of a variance


def make_vae(channels: int = LATENT_CHANNELS) -> AutoencoderKL:
    """Return the untrained autoencoder: RGB to `channels` latents of an eighth of the size."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 96, 128),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=16,
        sample_size=SIDE,
    )


def make_unet(channels: int = LATENT_CHANNELS) -> UNet2DConditionModel:
    """Return the untrained UNet; no attention at its top resolution.

    Its widths are the bundled one's: then that one's weights are a start, and all files together stay below 80 MB.
    """
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(2, 4, 4),
        norm_num_groups=16,
    )


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return the untrained text encoder of a tokenizer."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )


def make_reader() -> nn.Module:
    """Return the untrained reader of parts, depth and joints in these scenes."""
    return make_network(parts=len(PARTS))


@torch.no_grad()
def borrow(network: nn.Module, known: dict[str, torch.Tensor]) -> int:
    """Copy the weights `known` of an older network into a new one wherever a name is in both.

    A tensor that grew keeps its new values outside of the old one's corner, divided by ten, so that what was learned dominates.

    Returns:
        The number of tensors that were taken over, whole or in part.
    """
    taken = 0
    for name, value in network.state_dict().items():
        old = known.get(name)
        if old is None or old.dim() != value.dim():
            continue
        corner = tuple(slice(0, min(a, b)) for a, b in zip(old.shape, value.shape, strict=True))
        if old.shape != value.shape:
            value.mul_(0.1)
        value[corner] = old[corner].to(value.dtype)
        taken += 1
    return taken


@torch.no_grad()
def level(vae: AutoencoderKL, latents: torch.Tensor, few: int) -> None:
    """Scale all channels but the first `few` so that each deviates as much as those do together; pictures stay the same.

    Pipelines know one factor for all channels, and noise would drown one that hardly deviates.

    Args:
        vae: Changed in place: the last layer before the latents, and the first one after them.
        latents: (B, C, h, w) means of pictures.
        few: Channels that stay as they are.
    """
    deviations, channels = latents.float().std((0, 2, 3)), latents.shape[1]
    for channel in range(few, channels):
        factor = float(latents[:, :few].float().std() / deviations[channel].clamp_min(1e-6))
        vae.quant_conv.weight[channel] *= factor
        vae.quant_conv.bias[channel] *= factor
        vae.quant_conv.bias[channels + channel] += 2 * math.log(factor)
        vae.post_quant_conv.weight[:, channel] /= factor


@torch.no_grad()
def borrow_vae(network: AutoencoderKL, folder: Path) -> int:
    """Start an autoencoder from an older one with as many or fewer latent channels, which stay as they were; return how many.

    The new ones begin as what the untrained last layer of the encoder makes, hardly noised.
    """
    older = AutoencoderKL.from_pretrained(folder, dtype=torch.float32)
    few, many = older.config.latent_channels, network.config.latent_channels
    known, own = older.state_dict(), network.state_dict()
    rows = torch.tensor([*range(few), *range(many, many + few)])  # means, then variances
    for name in ("encoder.conv_out.weight", "encoder.conv_out.bias"):
        own[name][rows] = known[name]
        known[name] = own[name]
    weight, bias = torch.eye(2 * many)[:, :, None, None], torch.zeros(2 * many)
    weight[many:], bias[many:] = 0, _LITTLE_NOISE
    weight[rows] = 0
    weight[rows[:, None], rows[None]], bias[rows] = known["quant_conv.weight"], known["quant_conv.bias"]
    known["quant_conv.weight"], known["quant_conv.bias"] = weight, bias
    borrow(network, known)
    return few
