"""The engine: one base model in memory, with the adapters, LoRAs and sampler that a recipe needs.

This is the only file of the studio that knows torch and diffusers; it is imported when a model is first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import torch
from PIL import Image

from controlnext.device import Device, is_out_of_memory, release_memory
from controlnext.engine.fused_loras import FusedLoras, is_small
from controlnext.engine.loading import load_pipeline
from controlnext.engine.memory_savings import (
    SAVINGS,
    Saving,
    SavingsTaken,
    apply_saving,
    place_on,
    undo_offload,
)
from controlnext.engine.person_words import WordArea, words_by_area
from controlnext.engine.preview import CleanEstimate, DecodedPreview, LatentPreview, TinyPreview
from controlnext.engine.reference import take_reference
from controlnext.engine.small_decoder import small_decoder
from controlnext.engine.start_from import keep_unmasked, start_of
from controlnext.engine.tiny_autoencoder import tiny_autoencoder
from controlnext.engine.weight_storage import check_storage, precision_name, store_weights
from controlnext.engine.words import encoded_words, prompt_arguments, prompt_notes
from controlnext.errors import ControlNeXtError
from controlnext.hashes import weights_digest
from controlnext.loras.library import load_loras
from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.method.control_cache import ControlCache
from controlnext.method.families import FAMILIES
from controlnext.method.gamma import GammaCurve, parse_gamma
from controlnext.method.stored_weights import in_working_dtype, restore_layers
from controlnext.models import mismatch as families
from controlnext.models.embeddings import Embeddings
from controlnext.models.references import ReferenceFolders
from controlnext.models.run_options import RunOptions
from controlnext.models.sources import Part, adapter_of, parts_of
from controlnext.recipes.areas import area_picture
from controlnext.recipes.kinds import POSE
from controlnext.recipes.schedulers import SCHEDULERS

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SchedulerMixin
    from torch import Tensor

    from controlnext.loras.file import LoraInfo
    from controlnext.models.presets import Preset
    from controlnext.recipes.inputs import Inputs
    from controlnext.recipes.recipe import ControlUse, Recipe

StepCallback = Callable[[Image.Image | None], None]
USUAL = RunOptions()


class EngineError(ControlNeXtError, RuntimeError):
    """A model that cannot be loaded or run; the text says why and what helps."""


class Engine:
    """A loaded base model. Adapters stay in memory once used, and the controls they computed with them."""

    def __init__(
        self,
        preset: Preset,
        pipeline: DiffusionPipeline,
        cache: ControlCache,
        device: Device,
        savings: SavingsTaken,
        options: RunOptions = USUAL,
    ) -> None:
        """Take a loaded pipeline; see `load`."""
        self.options = options
        self.preset = preset
        self.pipeline = pipeline
        self.savings = savings
        self._cache = cache
        self._device = device
        self._base_scheduler = pipeline.scheduler
        self._adapters: dict[str, ControlNeXtAdapter] = {}
        self._attached: tuple[str, ...] = ()
        self._fused = FusedLoras(pipeline)
        self._preview: LatentPreview | DecodedPreview | TinyPreview | None = None
        self.embeddings = Embeddings()
        """What words of a prompt may name."""
        self.references = ReferenceFolders()
        """Where IP-Adapters are."""

    @classmethod
    def load(
        cls,
        preset: Preset,
        device: Device,
        cache: ControlCache,
        stop: Callable[[], None] = lambda: None,
        options: RunOptions = USUAL,
    ) -> Engine:
        """Load the base model of a preset from this disk; nothing is downloaded.

        Args:
            preset: says where the model is and of which family.
            device: where it goes and in which precision.
            cache: keeps controls; may outlive the engine.
            stop: called between the model's parts; may raise to stop.
            options: how its weights are kept and run.

        Returns:
            The engine.

        Raises:
            EngineError: the weights are missing, damaged or of another family, or there is no pipeline for it.
        """
        family = FAMILIES.get(preset.family)
        if family is None or not family.pipeline or family.experimental:
            raise EngineError(f"{preset.title} is of the family {preset.family!r}, which makes no pictures here.")
        dtype = device.dtype if preset.precision == "auto" else getattr(torch, preset.precision)
        base, *others = parts_of(preset, (), half=device.dtype == torch.float16)
        places = [_found(preset, part) for part in (base, *others)]
        families.check_base(preset, places[0])
        check_storage(options.weights, device.name)
        tiny = tiny_autoencoder(preset, options, dtype)
        savings = SavingsTaken(device.name.split(":")[0])
        try:
            drawn_by = tiny if tiny is not None and options.tiny == "results" else places[1] if others else None
            pipeline = load_pipeline(preset, places[0], drawn_by, dtype, stop)
            store_weights(pipeline.unet, options.weights, dtype)
            place_on(pipeline, device, savings)
        except ControlNeXtError:
            raise
        except Exception as error:  # files that a person supplied may fail in any way
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:300]
            raise EngineError(
                f"The model {preset.title} cannot be loaded from {places[0]}: {type(error).__name__}: {reason}. "
                "Check that its files are complete."
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        if hasattr(pipeline.vae, "use_slicing"):
            pipeline.vae.enable_slicing()  # one picture is decoded after the other: the batch takes no more memory
        if options.compiler:
            pipeline.unet.compile(backend=options.compiler)
        made = cls(preset, pipeline, cache, device, savings, options)
        made._preview = None if tiny is None else TinyPreview(tiny.to(device.name))
        return made

    def prepare(self, recipe: Recipe, loras: Sequence[tuple[LoraInfo, float]]) -> None:
        """Set what the recipe needs and remove what it does not: scheduler, adapters, LoRAs.

        Raises:
            ControlNeXtError: an adapter or LoRA is missing, damaged or does not fit.
        """
        waiting = next((saving for saving in SAVINGS if saving.name == self.savings.offloaded), None)
        if waiting:
            undo_offload(self.pipeline)  # weights that wait elsewhere cannot be changed
        self.pipeline.scheduler = self._scheduler(recipe.scheduler)
        if not self._fused.hold(recipe, loras):
            self._fused.undo()
            self._attach(tuple(control.condition_kind for control in recipe.all_controls))
            self._take_loras(loras)
            if any(weight for _, weight in loras) and is_small(self.pipeline.unet) and self.options == USUAL:
                self._apply_alphas(recipe)
                self._fused.add(recipe, loras)
        self._take_reference(recipe)
        if waiting:
            self._apply_alphas(recipe)
            apply_saving(self.pipeline, waiting, self._device.name)

    def run(
        self,
        recipe: Recipe,
        seeds: Sequence[int],
        inputs: Inputs,
        on_step: StepCallback | None,
        stop: Callable[[], None] = lambda: None,
    ) -> list[Image.Image]:
        """Make pictures of one batch; the control is computed once for all of them.

        Args:
            recipe: what to make; `prepare` was called with it.
            seeds: one for each picture.
            inputs: pictures of the recipe's size: one condition a control, and a start picture and mask where wanted.
            on_step: called after each step with a preview; may raise to stop. None makes no previews.
            stop: called after each step; may raise to stop.

        Returns:
            Pictures.

        Raises:
            EngineError: the model's numbers overflowed.
        """
        estimate: CleanEstimate | None = None

        def after_step(
            pipeline: DiffusionPipeline, step: int, timestep: Tensor | int, tensors: dict[str, Any]
        ) -> dict[str, Any]:
            nonlocal estimate
            estimate = estimate or CleanEstimate(pipeline.scheduler, pipeline.num_timesteps)
            latents = tensors["latents"]
            stop()
            if on_step is not None:
                on_step(self._look(estimate(step, latents), recipe))
            if step + 1 == recipe.steps_to_run and not torch.isfinite(latents).all():
                raise EngineError(
                    f"The numbers of {self.preset.title} overflowed in {latents.dtype}, so there is no picture; lower "
                    "guidance and LoRA weights, or set `precision: float32` in its preset."
                )
            return tensors

        if isinstance(self._preview, DecodedPreview):
            self._preview.begin()
        pipeline, start = start_of(self.pipeline, self.preset.family, recipe, inputs)
        words = self._words(recipe)
        areas = [
            WordArea(mask, encoded_words(self.pipeline, person.prompt, self.embeddings))
            for mask, person in zip(inputs.people, recipe.people, strict=True)
            if person.prompt
        ]
        try:
            with words_by_area(self.pipeline.unet, areas, guided=recipe.guidance_scale > 1):
                images = pipeline(
                    num_inference_steps=recipe.num_inference_steps,
                    guidance_scale=recipe.guidance_scale,
                    num_images_per_prompt=len(seeds),
                    generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                    callback_on_step_end=after_step,
                    **words,
                    **start,
                    **({"ip_adapter_image": inputs.reference} if recipe.ip_adapter else {}),
                    **_control_arguments(recipe, inputs),
                ).images
        finally:
            if pipeline is not self.pipeline:
                self.pipeline.maybe_free_model_hooks()  # only it knows which parts wait in main memory
        return [keep_unmasked(image, inputs) for image in images]

    def _words(self, recipe: Recipe) -> dict[str, Any]:
        """Return the arguments of a call that say what to draw."""
        return prompt_arguments(self.pipeline, recipe, self.embeddings)

    def warm(self) -> None:
        """Do the work in advance that the first picture would otherwise wait for."""
        if self._preview is None:
            vae, small = self.pipeline.vae, small_decoder(self.preset, self.pipeline.vae)
            self._preview = LatentPreview.fit(vae) if small is None else DecodedPreview(vae, small)

    def prompt_notes(self, recipe: Recipe) -> list[str]:
        """Say what of a recipe's prompts is left as it is."""
        return prompt_notes(self.pipeline, recipe, self.embeddings)

    def hashes(self, recipe: Recipe, loras: Sequence[tuple[LoraInfo, float]]) -> dict[str, str]:
        """Digests of all weights that a recipe uses."""
        places = {"base": _found(self.preset, parts_of(self.preset, ())[0])}
        for number, control in enumerate(recipe.all_controls):
            kind = control.condition_kind
            name = f"adapter:{kind}" if number else "adapter"
            places[name] = _found(self.preset, adapter_of(self.preset, kind))
        places |= {f"lora:{info.name}": info.path for info, _ in loras}
        if self.preset.unet is not None:
            places["unet"] = self.preset.resolve_path(self.preset.unet)
        return {name: weights_digest(place) for name, place in places.items()}

    @property
    def device(self) -> str:
        """Name of the device that the model runs on, such as `cuda:0`."""
        return self._device.name

    def made_on(self) -> dict[str, object]:
        """Return the kind of device and the precision that pictures are made in."""
        name = self._device.name.split(":")[0]
        chip = torch.cuda.get_device_name(self._device.name) if name == "cuda" else name
        precision = precision_name(self.pipeline, self.options.weights, Path(self.preset.unet or "").name)
        return {"device": chip, "precision": precision}

    def save_memory(self, recipe: Recipe, batch: int) -> Saving | None:
        """Take the next memory saving after a batch of a recipe did not fit; None when there is none left."""
        self.free()
        saving = self.savings.take_next(recipe.width * recipe.height, batch)
        if saving is None:
            return None
        if saving.name == self.savings.offloaded:
            undo_offload(self.pipeline)
            self._apply_alphas(recipe)
        apply_saving(self.pipeline, saving, self._device.name)
        return saving

    def free(self) -> None:
        """Free memory that nothing needs: cached controls, and what torch holds in reserve."""
        self._cache.clear()
        release_memory()

    def _scheduler(self, name: str | None) -> SchedulerMixin:
        """A fresh sampler on the base model's noise schedule; None is the base model's own."""
        own = self._base_scheduler
        if name is None:
            return type(own).from_config(own.config)
        row = SCHEDULERS[name]
        return getattr(diffusers, row.kind).from_config(own.config, **row.overrides)

    def _take_loras(self, loras: Sequence[tuple[LoraInfo, float]]) -> None:
        with in_working_dtype(self.pipeline.unet):
            load_loras(self.pipeline, loras)

    def _take_reference(self, recipe: Recipe) -> None:
        file = self.references.find(recipe.ip_adapter, self.preset) if recipe.ip_adapter else None
        take_reference(self.pipeline, file, recipe.ip_adapter_scale)

    def _attach(self, kinds: tuple[str, ...]) -> None:
        """Load the adapters of these kinds into the model, in this order, and no others."""
        if kinds == self._attached:
            return
        self.pipeline.unload_controlnext()
        self._attached = ()
        for kind in kinds:
            adapter = self._adapter(kind)
            restore_layers(self.pipeline.unet, adapter.unet_weights or (), floats=adapter.kind == "delta")
            self.pipeline.load_controlnext(adapter, kind)
        self._attached = kinds

    def _adapter(self, kind: str) -> ControlNeXtAdapter:
        if kind not in self._adapters:
            row = self.preset.adapters[kind]
            place = _found(self.preset, adapter_of(self.preset, kind))
            families.check_adapter(self.preset, kind, place)
            adapter = ControlNeXtAdapter.from_pretrained(
                place,
                variant=row.variant or self.preset.variant,
                kind=row.kind,
                dtype=self.pipeline.unet.dtype,
            )
            adapter.cache = self._cache
            self._adapters[kind] = adapter
        return self._adapters[kind]

    def _look(self, latents: torch.Tensor, recipe: Recipe) -> Image.Image | None:
        self.warm()
        return self._preview.draw(latents, recipe.width, recipe.height)

    def _apply_alphas(self, recipe: Recipe) -> None:
        """Apply the adapters' weights with their alphas while they can be written; the call finds them in place."""
        for control in recipe.all_controls:
            if control.condition_kind in self.pipeline.controlnexts:
                self.pipeline.controlnexts[control.condition_kind].alpha = control.alpha


def _control_arguments(recipe: Recipe, inputs: Inputs) -> dict[str, Any]:
    """The arguments of a controlled call: values for one control, lists for several, nothing for none."""
    rows = [
        {
            "control_image": condition,
            "gamma": control_strength(control),
            "alpha": control.alpha,
            "control_start": control.control_start,
            "control_end": control.control_end,
            "control_mask": control_area(control, recipe, inputs),
        }
        for control, condition in zip(recipe.all_controls, inputs.conditions, strict=True)
    ]
    if len(rows) <= 1:
        return rows[0] if rows else {}
    return {name: [row[name] for row in rows] for name in rows[0]}


def control_strength(control: ControlUse) -> float | GammaCurve:
    """Return gamma as a pipeline takes it: a number, or the curve times the number."""
    if not control.gamma_curve:
        return control.gamma
    return parse_gamma(control.gamma_curve).scaled(control.gamma)


def control_area(control: ControlUse, recipe: Recipe, inputs: Inputs) -> Image.Image | np.ndarray | None:
    """Return where a control acts as a pipeline takes it, people with a strength of their own included; None is everywhere."""
    own = area_picture(control.area) if control.area else None
    if control.condition_kind != POSE or all(person.gamma == 1 for person in recipe.people):
        return own
    factors = np.ones_like(inputs.people[0])
    for mask, person in zip(inputs.people, recipe.people, strict=True):
        factors += mask * (person.gamma - 1)
    factors = factors.clip(0)
    return factors if own is None else factors * np.asarray(own.resize(factors.shape[::-1]), np.float32) / 255


def _found(preset: Preset, part: Part) -> Path:
    """Where a part is on this disk."""
    place = part.find()
    if place is None:
        where = part.path or part.place.repos[0]
        raise EngineError(f"{preset.title} lacks {part.label}: its files from {where} are not on this machine.")
    return place
