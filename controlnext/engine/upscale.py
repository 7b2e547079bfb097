"""Enlarging of finished pictures: by a model of a folder, in any format that spandrel reads, or by Lanczos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from controlnext.device import enough_memory
from controlnext.errors import ControlNeXtError
from controlnext.models.upscalers import UpscalerFolders

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

TILE, MARGIN = 512, 32
"""Pixels of a tile's side, and of what it sees beyond it, before they are enlarged."""


class UpscaleError(ControlNeXtError, ValueError):
    """An upscaling model that cannot be used; the text says why and what helps."""


@dataclass
class Upscaling:
    """Enlarges pictures, and keeps the last model.

    Attributes:
        folders: where models are.
        device: name of the device that models run on.
    """

    folders: UpscalerFolders
    device: str = "cpu"
    _loaded: tuple[Path, ImageModelDescriptor] | None = field(default=None, repr=False)

    def enlarge(
        self, image: Image.Image, times: int, name: str = "", on_tile: Callable[[int, int], None] = lambda *_: None
    ) -> Image.Image:
        """Make a picture larger.

        A model of another factor than asked for is brought to the size by Lanczos.

        Args:
            image: RGB.
            times: factor of both sides.
            name: file name of a model; empty takes Lanczos.
            on_tile: called with the number of tiles done and of all; may raise to stop.

        Raises:
            UpscaleError: there is no such model, spandrel is not installed, or the file is damaged or no upscaling model.
        """
        size = image.width * times, image.height * times
        if name:
            with enough_memory(f"to enlarge a picture with {name}; choose a smaller model, or Lanczos"):
                image = self._by_model(image, self.load(name), on_tile)
        return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)

    def load(self, name: str) -> ImageModelDescriptor:
        """Return a model; errors as of `enlarge`."""
        path = self.folders.find(name)
        if self._loaded is None or self._loaded[0] != path:
            self._loaded = None
            self._loaded = path, _load(path)
        return self._loaded[1].to(torch.device(self.device))

    def _by_model(
        self, image: Image.Image, model: ImageModelDescriptor, on_tile: Callable[[int, int], None]
    ) -> Image.Image:
        scale = model.scale
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        large = torch.zeros(1, 3, image.height * scale, image.width * scale)
        tiles = list(_tiles(image.height, image.width))
        for number, (top, left, bottom, right) in enumerate(tiles):
            on_tile(number, len(tiles))
            y, x = max(0, top - MARGIN), max(0, left - MARGIN)
            tile = pixels[:, :, y : bottom + MARGIN, x : right + MARGIN]
            with torch.inference_mode():
                made = model(tile.to(self.device, model.dtype)).float().cpu()
            inner = made[:, :, (top - y) * scale : (bottom - y) * scale, (left - x) * scale : (right - x) * scale]
            large[:, :, top * scale : bottom * scale, left * scale : right * scale] = inner
        return Image.fromarray((large[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def _tiles(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield top, left, min(top + TILE, height), min(left + TILE, width)


def _load(path: Path) -> ImageModelDescriptor:
    try:
        from spandrel import ImageModelDescriptor, ModelLoader
    except ImportError as error:
        raise UpscaleError(
            f"The upscaler {path.name} needs the package spandrel: pip install 'controlnext-studio[upscale]', or take Lanczos."
        ) from error
    try:
        model = ModelLoader("cpu").load_from_state_dict(_weights(path))
    except Exception as error:  # files that a person supplied may fail in any way
        reason = " ".join(str(error).split())[:200]
        raise UpscaleError(
            f"{path.name} cannot be loaded as an upscaling model: {type(error).__name__}: {reason}"
        ) from error
    if not isinstance(model, ImageModelDescriptor) or model.input_channels != 3 or model.output_channels != 3:
        raise UpscaleError(
            f"{path.name} holds {model.architecture.name}, which does not enlarge RGB pictures; take another file."
        )
    return model.eval()


def _weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file; nothing of it is run, in `.pth` files either."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    from spandrel import canonicalize_state_dict

    return canonicalize_state_dict(torch.load(path, map_location="cpu", weights_only=True))
