"""A small network that reads pictures of the starter's world: parts, depth and pose.

It serves the `starter` backends of the depth, pose and segmentation annotators and so measures how well a generated
picture follows its control. It was trained on rendered scenes only (`python -m controlnext.starter reader`) and knows
nothing of photographs.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from annotators.assets import STARTER_READER

if TYPE_CHECKING:
    from torch import Tensor, nn

SIZE = 256
HEATMAP_SIZE = 64
KEYPOINTS = 18
PARTS = (
    "sky",
    "ground",
    "face",
    "limb",
    "hair",
    "shirt",
    "trousers",
    "shoes",
    "hat",
    "tree",
    "house",
    "ball",
    "crate",
)
# Colours far apart from each other, so that they survive a resize.
PARTS_PALETTE = np.array(
    [
        (70, 130, 200),
        (110, 110, 90),
        (255, 200, 160),
        (255, 120, 80),
        (90, 50, 20),
        (220, 30, 60),
        (40, 60, 190),
        (20, 20, 20),
        (250, 220, 30),
        (30, 150, 50),
        (160, 60, 180),
        (0, 220, 220),
        (200, 140, 20),
    ],
    np.uint8,
)


@dataclass(frozen=True)
class SceneReading:
    """What the network reads in a picture of height H and width W.

    `parts` (H, W) uint8 indices into `PARTS`; `depth` (H, W) float32 in [0, 1], 1 = nearest; `people` a list of (18, 3)
    float32 arrays of x, y in pixels and confidence in [0, 1], in OpenPose's order; one person at the most.
    """

    parts: np.ndarray
    depth: np.ndarray
    people: list[np.ndarray]


def make_network(width: int = 24, parts: int = len(PARTS)) -> "nn.Module":
    """Return the untrained network: (B, 3, 256, 256) in [-1, 1] to parts, depth and heatmap logits.

    The outputs are (B, `parts`, 128, 128), (B, 1, 128, 128) and (B, 18, 64, 64).
    """
    import torch
    from torch import nn
    from torch.nn import functional

    def block(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
        conv = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        return nn.Sequential(conv, nn.GroupNorm(8, outputs), nn.SiLU())

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            w = width
            self.enter = block(3, w, 2)
            self.down1 = nn.Sequential(block(w, 2 * w, 2), block(2 * w, 2 * w))
            self.down2 = nn.Sequential(block(2 * w, 4 * w, 2), block(4 * w, 4 * w))
            self.down3 = nn.Sequential(
                block(4 * w, 6 * w, 2),
                block(6 * w, 6 * w),
                block(6 * w, 6 * w, dilation=2),
                block(6 * w, 6 * w, dilation=4),
            )
            self.up2 = block(10 * w, 4 * w)
            self.up1 = block(6 * w, 3 * w)
            self.up0 = block(4 * w, 2 * w)
            self.pose = nn.Conv2d(3 * w, KEYPOINTS, 1)
            self.maps = nn.Conv2d(2 * w, parts + 1, 1)

        def forward(self, x: "Tensor") -> tuple["Tensor", "Tensor", "Tensor"]:
            def grow(t: "Tensor") -> "Tensor":
                return functional.interpolate(t, scale_factor=2.0, mode="nearest")

            a = self.enter(x)
            b = self.down1(a)
            c = self.down2(b)
            d = self.down3(c)
            c = self.up2(torch.cat([grow(d), c], 1))
            b = self.up1(torch.cat([grow(c), b], 1))
            maps = self.maps(self.up0(torch.cat([grow(b), a], 1)))
            return maps[:, :parts], maps[:, parts:], self.pose(b)

    return Reader()


def load(path: Path | None = None) -> "nn.Module":
    """Load the network, by default the bundled one.

    Raises:
        FileNotFoundError: The weights are not there.
    """
    from safetensors.torch import load_file

    path = path or STARTER_READER
    if not path.exists():
        raise FileNotFoundError(
            f"The starter's reader is missing at {path.name}; run `python -m controlnext.starter reader`."
        )
    network = make_network()
    network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return network.eval()


@cache
def bundled() -> "nn.Module":
    """Return the bundled network, loaded once."""
    return load()


def _people(heat: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """Turn (18, 64, 64) heatmaps in [0, 1] into keypoints: the peak, refined by the mass of its 5 x 5 surroundings."""
    points = np.zeros((KEYPOINTS, 3), np.float32)
    padded = np.pad(heat, ((0, 0), (2, 2), (2, 2)))
    offsets = np.arange(-2, 3)
    for index in range(KEYPOINTS):
        y, x = np.unravel_index(heat[index].argmax(), heat[index].shape)
        around = padded[index, y : y + 5, x : x + 5] ** 2
        mass = max(float(around.sum()), 1e-9)
        fx = x + 0.5 + float((around.sum(0) * offsets).sum()) / mass
        fy = y + 0.5 + float((around.sum(1) * offsets).sum()) / mass
        points[index] = fx / HEATMAP_SIZE * width, fy / HEATMAP_SIZE * height, heat[index, y, x]
    return [points] if (points[:, 2] > 0.3).sum() >= 4 else []


def read_batch(network: "nn.Module", pictures: np.ndarray) -> list[SceneReading]:
    """Read (B, H, W, 3) uint8 RGB pictures of one size."""
    import torch
    from torch.nn import functional

    height, width = pictures.shape[1:3]
    with torch.inference_mode():
        x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
        if (height, width) != (SIZE, SIZE):
            x = functional.interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True)
        parts, depth, heat = network(x.contiguous(memory_format=torch.channels_last))
        parts, depth = (
            functional.interpolate(maps.float(), (height, width), mode="bilinear") for maps in (parts, depth.sigmoid())
        )
        parts, depth, heat = parts.argmax(1), depth[:, 0], heat.float().sigmoid()
    return [
        SceneReading(p.numpy().astype(np.uint8), d.numpy(), _people(h.numpy(), height, width))
        for p, d, h in zip(parts, depth, heat, strict=True)
    ]


def read(network: "nn.Module", rgb: np.ndarray) -> SceneReading:
    """Read one (H, W, 3) uint8 RGB picture of the starter's world."""
    return read_batch(network, rgb[None])[0]
