"""The starter's styles as repaintings: a style LoRA learns to do what these do to a picture of the world.

Each is seen at a glance and keeps every shape where it is, so that a condition still says what it said.
"""

from collections.abc import Callable
from types import MappingProxyType

import cv2
import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Warm, since the autoencoder, which knows the world's colours alone, turns small things of a neutral grey green.
_PAPER, _INK = np.array([0.98, 0.92, 0.79], np.float32), np.array([0.27, 0.14, 0.09], np.float32)
# Colours from cold to hot, at even steps.
_HEAT = np.array(
    [[0.05, 0.03, 0.20], [0.32, 0.08, 0.48], [0.72, 0.16, 0.38], [0.95, 0.45, 0.16], [1.00, 0.82, 0.30], [1, 1, 0.85]],
    np.float32,
)


def _luma(rgb: np.ndarray) -> np.ndarray:
    return (rgb @ _LUMA)[..., None]


def _lines(rgb: np.ndarray) -> np.ndarray:
    """Outlines about 2 pixels wide, (H, W, 1) in [0, 1]: where any colour changes, not only where it gets darker."""
    smooth = cv2.GaussianBlur(rgb, (0, 0), 0.8)
    change = sum(cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) ** 2 for order in ((1, 0), (0, 1)))
    strength = np.sqrt(change.max(axis=-1, keepdims=True))
    return np.clip((strength - 0.25) / 0.6, 0, 1)


def _clay(rgb: np.ndarray) -> np.ndarray:
    """Fire everything in one terracotta: light and shade stay, colours go."""
    return _luma(rgb) ** np.float32(0.85) * np.array([0.98, 0.66, 0.48], np.float32) + 0.04


def _night(rgb: np.ndarray) -> np.ndarray:
    """Moonlight: dark and blue, some of each colour left."""
    return (0.55 * rgb + 0.45 * _luma(rgb)) * np.array([0.34, 0.42, 0.72], np.float32)


def _ink(rgb: np.ndarray) -> np.ndarray:
    """Sepia ink and wash on cream paper: outlines, and a brown where the picture is dark.

    The wash is half of it on purpose: one latent of the autoencoder stands for 8 x 8 pixels, and of outlines alone it makes
    blots where a figure is small.
    """
    wash = 0.7 * np.clip(1 - _luma(rgb) / 0.75, 0, 1)
    covered = np.clip(wash + 0.55 * _lines(rgb), 0, 0.92)
    return _PAPER + covered * (_INK - _PAPER)


def _heat(rgb: np.ndarray) -> np.ndarray:
    """As a thermal camera shows it: from violet where the picture is dark over red and orange to yellow where it is light."""
    position = np.clip(_luma(rgb)[..., 0] * 1.15, 0, 1) * (len(_HEAT) - 1)
    return np.stack([np.interp(position, range(len(_HEAT)), channel) for channel in _HEAT.T], axis=-1)


STYLES: MappingProxyType[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {"clay": _clay, "night": _night, "ink": _ink, "heat": _heat}
)
"""Name -> repainting of (H, W, 3) float32 RGB in [0, 1]; the result may leave that range."""


def restyle(name: str, rgb: np.ndarray) -> np.ndarray:
    """Repaint (H, W, 3) uint8 RGB in a style of `STYLES`."""
    painted = STYLES[name](rgb.astype(np.float32) / 255)
    return (np.clip(painted, 0, 1) * 255 + 0.5).astype(np.uint8)
