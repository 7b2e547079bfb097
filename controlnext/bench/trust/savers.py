"""`python -m controlnext.bench.trust.savers KIND FOLDER`: saves results of a kind again and again until it is killed.

For `bench faults`, which kills it at random moments and looks at what is left.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 512


def pictures(folder: Path) -> Callable[[], object]:
    """Save a picture with its recipe."""
    from controlnext.recipes.recipe import Recipe
    from controlnext.results.gallery import Gallery

    gallery, image = Gallery(folder), Image.fromarray(_noise())
    gallery.check()
    return lambda: gallery.save(image, Recipe(seed=1))


def videos(folder: Path) -> Callable[[], object]:
    """Save a video of four frames."""
    from controlnext.results.gallery import Gallery
    from controlnext.video import write_video

    gallery, frames = Gallery(folder), [_noise()] * 4
    gallery.check()
    return lambda: write_video(gallery.video_path(1), frames, 8, contents={"controlnext": {"model": "starter-video"}})


def loras(folder: Path) -> Callable[[], object]:
    """Add a LoRA of some megabytes to a library."""
    from controlnext.bench.trust.files import safetensors
    from controlnext.loras.file import BaseShape
    from controlnext.loras.library import LoraLibrary

    layer, size = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", 4 * 1000 * 1000
    header = {
        f"{layer}.lora_{part}.weight": {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [place * size, (place + 1) * size],
        }
        for place, (part, shape) in enumerate((("A", [1000, 1000]), ("B", [1000, 1000])))
    }
    source, count = folder.parent / f"{folder.name}-source.safetensors", iter(range(10**9))
    folder.mkdir(parents=True, exist_ok=True)
    library = LoraLibrary([folder])

    def save() -> None:
        source.write_bytes(safetensors(header, next(count).to_bytes(8, "little") + bytes(2 * size - 8)))
        library.add(source, BaseShape(), "the model", f"style {count}.safetensors")

    return save


def checkpoints(folder: Path) -> Callable[[], object]:
    """Save a checkpoint of a training."""
    import torch

    from controlnext.training.checkpoints import Checkpoint, save

    folder.mkdir(parents=True, exist_ok=True)
    weights, step = {"layer.weight": torch.zeros(1000, 1000)}, iter(range(1, 10**9))
    return lambda: save(folder, Checkpoint(next(step), weights, None, {"state": torch.zeros(1000, 1000)}, {}), 3)


KINDS: dict[str, Callable[[Path], Callable[[], object]]] = {
    "pictures": pictures, "videos": videos, "LoRAs": loras, "checkpoints": checkpoints,
}  # fmt: skip
"""What can be saved, by name."""


def _noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def main(kind: str, folder: str) -> None:
    """Save until killed; after the first the output says how many seconds it took."""
    save = KINDS[kind](Path(folder))
    begun = time.perf_counter()
    save()
    sys.stdout.write(f"{time.perf_counter() - begun:.4f}\n")
    sys.stdout.flush()
    while True:
        save()


if __name__ == "__main__":
    main(*sys.argv[1:])
