"""What ControlBench draws with: a model of the page, or a ControlNet or T2I-Adapter of diffusers on its base."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from PIL import Image

from controlnext.bench.command import BenchError
from controlnext.device import choose_device
from controlnext.engine.engine import Engine
from controlnext.method.control_cache import ControlCache
from controlnext.models.catalogue import Catalogue
from controlnext.recipes.inputs import Inputs

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from controlnext.recipes.inputs import Annotated

OTHERS = {
    "starter": ("StableDiffusionControlNetPipeline", "StableDiffusionAdapterPipeline"),
    "sd15": ("StableDiffusionControlNetPipeline", "StableDiffusionAdapterPipeline"),
    "sdxl": ("StableDiffusionXLControlNetPipeline", "StableDiffusionXLAdapterPipeline"),
}
"""Family -> diffusers' pipelines for a ControlNet and for a T2I-Adapter."""


class MeasuredModel(Protocol):
    """What is measured.

    Attributes:
        title: for tables.
        kinds: conditions it can follow.
        size: width and height that it draws.
        backend: annotator backend that reads its pictures.
    """

    title: str
    size: tuple[int, int]
    backend: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """Conditions it can follow."""

    def draw(
        self, kind: str, prompt: str, condition: Annotated, seeds: Sequence[int], *, controlled: bool = True
    ) -> list[Image.Image]:
        """Draw a picture a seed, with control or without."""

    def through(self, picture: Image.Image) -> Image.Image:
        """Encode and decode a picture."""


@torch.no_grad()
def passed_through(pipeline: DiffusionPipeline, picture: Image.Image) -> Image.Image:
    """Encode and decode a picture by a pipeline's autoencoder."""
    vae = pipeline.vae
    pixels = pipeline.image_processor.preprocess(picture).to(vae.device, vae.dtype)
    made = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
    read: Image.Image = pipeline.image_processor.postprocess(made, output_type="pil")[0]
    return read


class PageModel:
    """A model of the page with its ControlNeXt adapters; see `MeasuredModel`."""

    def __init__(
        self, name: str, values: dict[str, Any], size: int | None, catalogue: Catalogue | None = None
    ) -> None:
        """Load the base; nothing is downloaded.

        Args:
            name: of a preset.
            values: of the recipe, such as steps and guidance; those left out are the model's own.
            size: side in pixels; None takes the model's own.
            catalogue: of the presets; None takes the project's.

        Raises:
            ControlNeXtError: the model is not there, or makes no pictures of that size.
        """
        self._catalogue = catalogue or Catalogue()
        self.preset = self._catalogue.preset(name)
        self._catalogue.require(self.preset)
        sizes = self.preset.sizes
        self.size = (sizes.width, sizes.height) if size is None else (size, size)
        if not sizes.minimum <= min(self.size) <= max(self.size) <= sizes.maximum:
            raise BenchError(
                f"{self.preset.title} draws sides from {sizes.minimum} to {sizes.maximum} pixels, not {size}: give --own, which "
                "takes its own size, steps and guidance."
            )
        self._values, self.backend = values, self.preset.adherence_backend
        self.engine = Engine.load(self.preset, choose_device(None), ControlCache())
        self.title = f"{self.preset.title}, ControlNeXt"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Conditions it has adapters for."""
        return tuple(self.preset.adapters)

    def draw(
        self, kind: str, prompt: str, condition: Annotated, seeds: Sequence[int], *, controlled: bool = True
    ) -> list[Image.Image]:
        """Draw a picture a seed; without control the adapter's weights stay, and gamma is 0."""
        recipe = self._catalogue.resolve(
            self.preset.name, adapter=kind, prompt=prompt, num_images=len(seeds), seed=seeds[0], width=self.size[0],
            height=self.size[1], loras=[], **(self._values if controlled else {**self._values, "gamma": 0.0}),
        )  # fmt: skip
        self.engine.prepare(recipe, [])
        with torch.inference_mode():
            return self.engine.run(recipe, seeds, Inputs.of(condition.image), None)

    def through(self, picture: Image.Image) -> Image.Image:
        """Encode and decode a picture: what the autoencoder alone loses of it."""
        return passed_through(self.engine.pipeline, picture)


class DiffusersModel(PageModel):
    """The base of a model of the page with a ControlNet or a T2I-Adapter of diffusers instead of its adapters."""

    def __init__(
        self, name: str, net: Path, *, adapter: bool, kind: str, values: dict[str, Any], size: int | None,
        catalogue: Catalogue | None = None,
    ) -> None:  # fmt: skip
        """Load the base and the network.

        Args:
            name: of a preset, whose base is taken.
            net: folder of the network, or its name on the hub.
            adapter: whether it is a T2I-Adapter.
            kind: of condition that it reads.
            values: see `PageModel`.
            size: see `PageModel`.
            catalogue: see `PageModel`.

        Raises:
            BenchError: diffusers has no pipeline of that kind for the base, or the network cannot be loaded.
        """
        import diffusers

        super().__init__(name, values, size, catalogue)
        if self.preset.family not in OTHERS:
            raise BenchError(
                f"diffusers has no ControlNet or T2I-Adapter for {self.preset.title}; choose another base."
            )
        stock, self._kind, self._adapter = self.engine.pipeline, kind, adapter
        network = diffusers.T2IAdapter if adapter else diffusers.ControlNetModel
        try:
            loaded = network.from_pretrained(str(net), dtype=stock.dtype).to(stock.device)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BenchError(f"{net} is no {network.__name__} of diffusers ({reason}): name its folder.") from error
        pipeline = getattr(diffusers, OTHERS[self.preset.family][adapter])
        parts = {**stock.components, "adapter" if adapter else "controlnet": loaded, "requires_safety_checker": False}
        taken = inspect.signature(pipeline.__init__).parameters
        self._pipeline = pipeline(**{name: part for name, part in parts.items() if name in taken})
        self._pipeline.set_progress_bar_config(disable=True)
        self.title = f"{self.preset.title}, {'T2I-Adapter' if adapter else 'ControlNet'}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The one condition that the network reads."""
        return (self._kind,)

    def draw(
        self, kind: str, prompt: str, condition: Annotated, seeds: Sequence[int], *, controlled: bool = True
    ) -> list[Image.Image]:
        """See `PageModel.draw`; without control the network's scale is 0."""
        scale = "adapter_conditioning_scale" if self._adapter else "controlnet_conditioning_scale"
        recipe = self._catalogue.resolve(
            self.preset.name, loras=[], **{k: v for k, v in self._values.items() if v is not None}
        )
        with torch.inference_mode():
            return self._pipeline(
                prompt, image=condition.image, num_images_per_prompt=len(seeds), width=self.size[0], height=self.size[1],
                num_inference_steps=recipe.num_inference_steps, guidance_scale=recipe.guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                **{scale: (self._values.get("gamma", 1.0) if controlled else 0.0)},
            ).images  # fmt: skip
