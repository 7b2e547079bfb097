"""The starter net as a backend: depth, parts and pose of pictures in the starter model's own world."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annotators.base import Availability, BackendMissing, Settings
from annotators.loading import once

if TYPE_CHECKING:
    from types import ModuleType

NAME = "starter"
LABEL = "Starter net"
WEIGHTS = Path(__file__).resolve().parent.parent / "assets" / "starter" / "annotator" / "model.safetensors"
CAVEAT = "The starter net was made for pictures drawn by the starter model; on a photo its answer is a rough guess."


def check() -> Availability:
    """Say whether the net's code, weights and torch are here."""
    if not WEIGHTS.is_file():
        return Availability(
            usable=False, reason="The starter net's weights (assets/starter/annotator) are not in this checkout."
        )
    if importlib.util.find_spec("torch") is None:
        return Availability(usable=False, reason="The package torch is not installed.")
    return Availability(usable=True)


def module() -> ModuleType:
    """Return the module of the net, imported on first use.

    Raises:
        BackendMissing: it is not part of this checkout.
    """
    try:
        return importlib.import_module("annotators.starter_net")
    except ModuleNotFoundError as error:
        raise BackendMissing(f"The starter net cannot be used: {error}.") from error


def read(rgb: np.ndarray, settings: Settings) -> Any:  # noqa: ANN401 - a `starter_net.Reading`, whose module imports torch
    """Read a picture (H, W, 3) uint8: parts (H, W) uint8, depth (H, W) float32 in [0, 1], people as (18, 3) arrays."""
    net = once("starter", lambda: module().load())
    return module().read(net, rgb.copy())  # torch wants an array it could write to
