"""ControlBench's model of Stable Diffusion 3's class: a pipeline with an adapter, which the page does not run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from controlnext.bench.command import BenchError
from controlnext.bench.quality.control_models import passed_through
from controlnext.device import choose_device
from controlnext.engine.loading import load_pipeline
from controlnext.errors import ControlNeXtError
from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.models.presets import load_presets

if TYPE_CHECKING:
    from controlnext.recipes.inputs import Annotated

SMALL = "sd3-small"
"""The variant of adapters of the starter's transformer, whose pictures the starter's own readers read."""


class TransformerModel:
    """A base of the class and an adapter for it.

    Attributes:
        title: for tables.
        kinds: the one condition that the adapter reads.
        size: width and height that it draws.
        backend: annotator backend that reads its pictures.
    """

    def __init__(self, base: Path, adapter: Path, kind: str, values: dict[str, float], size: int | None) -> None:
        """Load both; nothing is downloaded.

        Args:
            base: folder of a pipeline.
            adapter: folder of the adapter.
            kind: of condition that it reads.
            values: steps, guidance and gamma as the pipeline names them; those left out are its own, or the adapter's.
            size: side in pixels; None takes the base's own.

        Raises:
            BenchError: one of them cannot be loaded, or they do not fit each other.
        """
        device = choose_device(None)
        try:
            loaded = ControlNeXtAdapter.from_pretrained(adapter, dtype=device.dtype)
            self._pipeline = load_pipeline(load_presets()[0]["sd35"], base, None, device.dtype, lambda: None).to(
                device.name
            )
            self._pipeline.load_controlnext(loaded)
        except (ControlNeXtError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BenchError(
                f"{base} with {adapter} cannot be loaded as Stable Diffusion 3's class: {reason}"
            ) from error
        self._pipeline.set_progress_bar_config(disable=True)
        own = self._pipeline.default_sample_size * self._pipeline.vae_scale_factor
        self.size = (size or own, size or own)
        self.backend = "starter" if loaded.variant.name == SMALL else "auto"
        self.title, self.kinds, self._values = f"{base.name}, ControlNeXt", (kind,), values

    def draw(
        self, kind: str, prompt: str, condition: Annotated, seeds: Sequence[int], *, controlled: bool = True
    ) -> list[Image.Image]:
        """Draw a picture a seed; without control the adapter's weights stay, and gamma is 0."""
        made: list[Image.Image] = self._pipeline(
            prompt, control_image=condition.image, num_images_per_prompt=len(seeds), width=self.size[0], height=self.size[1],
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **(self._values if controlled else {**self._values, "gamma": 0.0}),
        ).images  # fmt: skip
        return made

    def through(self, picture: Image.Image) -> Image.Image:
        """Encode and decode a picture: what the autoencoder alone loses of it."""
        return passed_through(self._pipeline, picture)
