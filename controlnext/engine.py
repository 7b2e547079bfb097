"""One base model in memory, and everything that is put on it and taken off again between pictures.

This is the only file of the studio that knows torch and diffusers; it is imported when a model is first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from PIL import Image

from controlnext import pipelines
from controlnext.adapter import ControlNeXtAdapter
from controlnext.cache import ControlCache
from controlnext.device import Device, is_out_of_memory, release_memory
from controlnext.errors import ControlNeXtError
from controlnext.hashes import weights_digest
from controlnext.lora import load_loras
from controlnext.preview import CleanEstimate, LatentPreview
from controlnext.quiet import quiet_loading
from controlnext.schedulers import SCHEDULERS

if TYPE_CHECKING:
    from controlnext.lora_file import LoraInfo
    from controlnext.presets import Preset
    from controlnext.recipe import Recipe

PIPELINES: Mapping[str, str] = MappingProxyType(
    {
        "starter": "StableDiffusionControlNeXtPipeline",
        "sd15": "StableDiffusionControlNeXtPipeline",
        "sdxl": "StableDiffusionXLControlNeXtPipeline",
    }
)
"""Base-model family -> pipeline class of `controlnext.pipelines`."""

StepCallback = Callable[[Image.Image | None], None]


class EngineError(ControlNeXtError, RuntimeError):
    """A model that cannot be loaded or run; the text says why and what helps."""


class Engine:
    """A loaded base model. Adapters stay in memory once used, and the controls they computed with them."""

    def __init__(self, preset: Preset, pipeline: Any, cache: ControlCache) -> None:  # noqa: ANN401 - a mixin of two classes
        """Take a loaded pipeline; see `load`."""
        self.preset = preset
        self.pipeline = pipeline
        self._cache = cache
        self._base_scheduler = pipeline.scheduler
        self._adapters: dict[str, ControlNeXtAdapter] = {}
        self._attached = ""
        self._preview: LatentPreview | None = None

    @classmethod
    def load(cls, preset: Preset, device: Device, cache: ControlCache) -> Engine:
        """Load the base model of a preset.

        Args:
            preset: says where the model is and of which family.
            device: where it goes and in which precision.
            cache: keeps controls; may outlive the engine.

        Returns:
            The engine.

        Raises:
            EngineError: the weights are missing, damaged or of another family, or there is no pipeline for it.
        """
        if preset.family not in PIPELINES:
            raise EngineError(f"{preset.title} is of the family {preset.family!r}, which makes no pictures here.")
        place = preset.located(preset.base)
        options: dict[str, Any] = {} if isinstance(place, Path) else {"revision": preset.base.revision}
        if preset.family != "sdxl":
            options |= {"safety_checker": None, "requires_safety_checker": False}
        dtype = torch.float32 if preset.precision == "float32" else device.dtype
        here = isinstance(place, Path)
        try:
            with quiet_loading() if here else nullcontext():  # a download should show how far it is
                pipeline = getattr(pipelines, PIPELINES[preset.family]).from_pretrained(
                    str(place), dtype=dtype, local_files_only=here, **options
                )
            pipeline.to(device.name)
        except Exception as error:  # anything may be wrong with files a person put there
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:300]
            raise EngineError(
                f"The model {preset.title} cannot be loaded from {place}: {type(error).__name__}: {reason}. "
                "Check that its files are complete."
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        pipeline.vae.enable_slicing()  # decode one picture after the other: the peak of memory does not grow with the batch
        return cls(preset, pipeline, cache)

    def prepare(self, recipe: Recipe, loras: Sequence[tuple[LoraInfo, float]]) -> None:
        """Put on what the recipe asks for, and take off what it does not: scheduler, adapter, LoRAs.

        Raises:
            ControlNeXtError: an adapter or LoRA is missing, damaged or does not fit.
        """
        self.pipeline.scheduler = self._scheduler(recipe.scheduler)
        self._attach(recipe.condition_kind)
        load_loras(self.pipeline, loras)

    def run(
        self, recipe: Recipe, seeds: Sequence[int], condition: Image.Image | None, on_step: StepCallback
    ) -> list[Image.Image]:
        """Make pictures of one batch; the control is computed once for all of them.

        Args:
            recipe: what to make; `prepare` was called with it.
            seeds: one for each picture.
            condition: RGB picture of the recipe's size, or None.
            on_step: called after each step with a preview; may raise to stop.

        Returns:
            Pictures.

        Raises:
            EngineError: the model's numbers overflowed.
        """
        estimate: CleanEstimate | None = None

        def after_step(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
            nonlocal estimate
            estimate = estimate or CleanEstimate(pipeline.scheduler)
            latents = tensors["latents"]
            on_step(self._look(estimate(step, latents), recipe))
            if step + 1 == recipe.num_inference_steps and not torch.isfinite(latents).all():
                raise EngineError(
                    f"The numbers of {self.preset.title} overflowed in {latents.dtype}, so there is no picture; lower "
                    "guidance and LoRA weights, or set `precision: float32` in its preset."
                )
            return tensors

        control = {}
        if condition is not None:
            control = {
                "control_image": condition,
                "gamma": recipe.gamma,
                "alpha": recipe.alpha,
                "control_start": recipe.control_start,
                "control_end": recipe.control_end,
            }
        return self.pipeline(
            prompt=recipe.prompt,
            negative_prompt=recipe.negative_prompt,
            width=recipe.width,
            height=recipe.height,
            num_inference_steps=recipe.num_inference_steps,
            guidance_scale=recipe.guidance_scale,
            num_images_per_prompt=len(seeds),
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            callback_on_step_end=after_step,
            **control,
        ).images

    def warm(self) -> None:
        """Do now what the first picture would otherwise wait for."""
        if self._preview is None:
            self._preview = LatentPreview.fit(self.pipeline.vae)

    def unread_words(self, prompt: str) -> str:
        """Return the end of a prompt that the text encoder does not see; empty if it sees all."""
        tokenizer = self.pipeline.tokenizer
        ids = tokenizer(prompt, truncation=False, verbose=False)["input_ids"]
        return tokenizer.decode(ids[tokenizer.model_max_length - 1 : -1]).strip()

    def hashes(self, recipe: Recipe, loras: Sequence[tuple[LoraInfo, float]]) -> dict[str, str]:
        """Digests of all weights that a recipe uses; of a hub repository, its name and revision."""
        places: dict[str, Path | str] = {"base": self.preset.located(self.preset.base)}
        if recipe.condition_kind:
            places["adapter"] = self.preset.located(self.preset.adapters[recipe.condition_kind])
        places |= {f"lora:{info.name}": info.path for info, _ in loras}
        revision = self.preset.base.revision or "main"
        return {
            name: weights_digest(place) if isinstance(place, Path) else f"hub:{place}@{revision}"
            for name, place in places.items()
        }

    def free(self) -> None:
        """Give memory back that nothing needs: cached controls, what torch holds in reserve."""
        self._cache.clear()
        release_memory()

    def _scheduler(self, name: str | None) -> Any:  # noqa: ANN401 - diffusers' schedulers share no public base
        """A fresh sampler on the base model's noise schedule; None is the base model's own."""
        own = self._base_scheduler
        if name is None:
            return type(own).from_config(own.config)
        row = SCHEDULERS[name]
        return getattr(diffusers, row.kind).from_config(own.config, **row.overrides)

    def _attach(self, kind: str) -> None:
        if kind == self._attached:
            return
        self.pipeline.unload_controlnext()
        self._attached = ""
        if kind:
            if kind not in self._adapters:
                row = self.preset.adapters[kind]
                adapter = ControlNeXtAdapter.from_pretrained(
                    self.preset.located(row),
                    variant=row.variant or self.preset.variant,
                    dtype=self.pipeline.unet.dtype,
                )
                adapter.cache = self._cache
                self._adapters[kind] = adapter
            self.pipeline.load_controlnext(self._adapters[kind])
            self._attached = kind

    def _look(self, latents: torch.Tensor, recipe: Recipe) -> Image.Image | None:
        self.warm()
        return self._preview.draw(latents, recipe.width, recipe.height)
