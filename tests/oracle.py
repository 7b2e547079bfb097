"""What the specification says, written a second time without the package: numpy, functional torch, a hand-run UNet."""

import itertools
import math

import numpy as np
import torch
from torch.nn import functional as F

# Where each release's forked UNet adds the control, and how; copied from the specification's table.
PLACES = {
    "sd15": "after mid",
    "sd15-train": "after down block 0",
    "sdxl": "after conv_in",
    "svd-v1": "after last down block",
    "svd-v2": "after down block 0",
    "starter": "after conv_in",
    "starter-video": "after conv_in",
}
POOL_FIRST = {"sd15", "sd15-train"}
EPS = {name: 1e-5 if name.startswith(("svd", "starter")) else 1e-12 for name in PLACES}


def cross_norm(control: np.ndarray, hidden: np.ndarray, eps: float) -> np.ndarray:
    """AdaIN over (C, H, W) with unbiased deviations, in float64."""
    rows = []
    for c, h in zip(control.astype(np.float64), hidden.astype(np.float64), strict=True):
        rows.append((c - c.mean()) * (h.std(ddof=1) / (c.std(ddof=1) + eps)) + h.mean())
    return np.stack(rows)


def adaptive_pool(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Average over the cells that adaptive pooling assigns to each output."""
    out = np.empty((*x.shape[:2], height, width))
    for i in range(height):
        top, bottom = i * x.shape[2] // height, -(-(i + 1) * x.shape[2] // height)
        for j in range(width):
            left, right = j * x.shape[3] // width, -(-(j + 1) * x.shape[3] // width)
            out[:, :, i, j] = x[:, :, top:bottom, left:right].mean((2, 3))
    return out


def multipliers(variant: str, scale: float, rows: int, uncond: int) -> np.ndarray:
    """What multiplies the normalised control at gamma 1, for `rows` rows of which the first `uncond` are unconditional."""
    if variant == "sd15":
        return np.full(rows, scale)
    if variant == "svd-v1":
        return 1.3 / (1 + np.exp(-np.where(np.arange(rows) < uncond, 0.0, scale)))
    if variant in ("svd-v2", "starter", "starter-video"):
        return {"svd-v2": 0.2, "starter": 1.0, "starter-video": scale}[variant] * np.where(
            np.arange(rows) < uncond, 0.0, 1.0
        )
    return np.ones(rows)


def inject(
    variant: str, hidden: np.ndarray, control: np.ndarray, gammas: np.ndarray, scale: float = 1.0, uncond: int = 0
) -> np.ndarray:
    """The five lines of each forked UNet."""
    size = hidden.shape[2:]
    if variant in POOL_FIRST:
        aligned = cross_norm(adaptive_pool(control, *size), hidden, EPS[variant])
    else:
        aligned = adaptive_pool(cross_norm(control, hidden, EPS[variant]), *size)
    strength = gammas * multipliers(variant, scale, len(hidden), uncond)
    return hidden + strength[:, None, None, None] * aligned


def inject_several(hidden: np.ndarray, controls: list[tuple[str, np.ndarray, float]], uncond: int = 0) -> np.ndarray:
    """Several controls (variant, control, gamma) at one place: each adds to the hidden states what it adds alone."""
    return hidden + sum(
        inject(variant, hidden, control, np.full(len(hidden), gamma), uncond=uncond) - hidden
        for variant, control, gamma in controls
    )


def control_module(
    state: dict, condition: torch.Tensor, timestep: float, variant: str, padding: int = 1
) -> torch.Tensor:
    """The control module from its state dict alone; groups and structure as in the specification."""
    groups = (1, 8, 8) if variant == "sd15" else (4, 8, 8)
    half = state["time_embedding.linear_1.weight"].shape[1] // 2
    angles = timestep * torch.exp(-math.log(10000) * torch.arange(half) / half)
    code = torch.cat([angles.cos(), angles.sin()])[None]

    def linear(x, key):
        return F.linear(x, state[f"{key}.weight"], state[f"{key}.bias"])

    def conv(x, key, stride=1, pad=1):
        return F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], stride, pad)

    def norm(x, key, count, eps):
        return F.group_norm(x, count, state[f"{key}.weight"], state[f"{key}.bias"], eps)

    temb = linear(F.silu(linear(code, "time_embedding.linear_1")), "time_embedding.linear_2")
    x = condition
    if variant != "sd15":
        for index, (stride, pad) in zip((0, 3, 6), ((2, 1), (1, padding), (1, padding)), strict=True):
            x = norm(conv(x, f"embedding.{index}", stride, pad), f"embedding.{index + 1}", 2, 1e-5).relu()
    if variant == "svd-v1":
        x = F.max_pool2d(x, 2)
    for stage in range(3 if variant in ("sd15", "svd-v1") else 2):
        key = f"down_res.{stage}"
        y = conv(F.silu(norm(x, f"{key}.norm1", groups[stage], 1e-6)), f"{key}.conv1")
        y = y + linear(F.silu(temb), f"{key}.time_emb_proj")[:, :, None, None]
        y = conv(F.silu(norm(y, f"{key}.norm2", groups[stage], 1e-6)), f"{key}.conv2")
        if f"{key}.conv_shortcut.weight" in state:
            x = conv(x, f"{key}.conv_shortcut", pad=0)
        x = conv(x + y, f"down_sample.{stage}.conv", stride=2)
    y = conv(x, "mid_convs.0.0").relu()
    if variant == "sd15":
        y = conv(y, "mid_convs.0.2")
    else:
        y = norm(y, "mid_convs.0.2", 8, 1e-5)
        y = norm(conv(y, "mid_convs.0.3"), "mid_convs.0.4", 8, 1e-5) + x
    return conv(y, "mid_convs.1", pad=0)


def forked_unet(unet, sample, timestep, encoder_hidden_states, added_time_ids=None, place="", add=None, adds=None):
    """Run a UNet block by block, adding the control between blocks where the authors' fork does."""
    adds = adds or {place: add}

    def at(here, x):
        return adds[here](x) if here in adds else x

    batch = len(sample)
    times = torch.as_tensor(timestep).reshape(-1).expand(batch)
    emb = unet.time_embedding(unet.time_proj(times).to(sample.dtype))
    extra = {}
    if added_time_ids is not None:
        frames = sample.shape[1]
        ids = unet.add_time_proj(added_time_ids.flatten()).reshape(batch, -1)
        emb = (emb + unet.add_embedding(ids)).repeat_interleave(frames, 0)
        sample = sample.flatten(0, 1)
        encoder_hidden_states = encoder_hidden_states.repeat_interleave(frames, 0)
        extra["image_only_indicator"] = torch.zeros(batch, frames)

    def cross(block):
        return {"encoder_hidden_states": encoder_hidden_states} if getattr(block, "has_cross_attention", False) else {}

    sample = unet.conv_in(sample)
    skips = [sample]
    sample = at("after conv_in", sample)
    for index, block in enumerate(unet.down_blocks):
        sample, residuals = block(hidden_states=sample, temb=emb, **cross(block), **extra)
        skips.extend(residuals)
        if index == 0:
            sample = at("after down block 0", sample)
    sample = at("after last down block", sample)
    sample = unet.mid_block(sample, emb, encoder_hidden_states=encoder_hidden_states, **extra)
    sample = at("after mid", sample)
    for block in unet.up_blocks:
        count = len(block.resnets)
        residuals, skips = tuple(skips[-count:]), skips[:-count]
        sample = block(hidden_states=sample, temb=emb, res_hidden_states_tuple=residuals, **cross(block), **extra)
    sample = unet.conv_out(unet.conv_act(unet.conv_norm_out(sample)))
    return sample if added_time_ids is None else sample.unflatten(0, (batch, -1))


def window_starts(frames: int, window: int, overlap: int) -> list[int]:
    """Where the authors' pipelines begin the windows of a video that is longer than one."""
    starts, start = [], 0
    while start < frames - overlap:
        starts.append(start if start + window <= frames else frames - window)
        start += window - overlap
    return starts


def karras_sigmas(steps: int, lowest: float = 0.002, highest: float = 700.0) -> list[float]:
    """The noise levels of Stable Video Diffusion, and the end."""
    low, high = lowest ** (1 / 7), highest ** (1 / 7)
    ramp = [index / (steps - 1) for index in range(steps)]
    return [(high + r * (low - high)) ** 7 for r in ramp] + [0.0]


def denoise_in_windows(predict, latents, sigmas, window, overlap, guidance):
    """The authors' loop over steps and windows; latents (F, C, h, w) of noise level `sigmas[0]`.

    `predict(timestep, sample, frames)` runs the UNet on both halves of a window and returns them, (2, f, C, h, w).
    """
    frames, scale = len(latents), torch.linspace(*guidance, window).view(-1, 1, 1, 1)
    for sigma, after in itertools.pairwise(sigmas):
        total, count = torch.zeros_like(latents), torch.zeros(frames, 1, 1, 1)
        for start in window_starts(frames, window, overlap):
            part = latents[start : start + window]
            numbers = list(range(start, start + window))
            without, condition = predict(0.25 * math.log(sigma), part / math.sqrt(sigma**2 + 1), numbers)
            v = without + scale * (condition - without)
            clean = part / (sigma**2 + 1) - v * sigma / math.sqrt(sigma**2 + 1)
            moved = part + (part - clean) / sigma * (after - sigma)
            skip = 1 if start else 0
            total[start + skip : start + window] += moved[skip:]
            count[start + skip : start + window] += 1
        latents = total / count
    return latents
