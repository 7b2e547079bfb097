"""Methods of control that can be trained: the interface, and ControlNeXt.

The trainer uses `Method` alone, so that other methods (a ControlNet, a T2I-Adapter, another way to add the control) are
trained by the same loop on the same samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.method.injection import Injection
from controlnext.method.model import ControlNeXtModel
from controlnext.method.variants import Variant, get_variant
from controlnext.method.weights import check_tensors, unet_parameters
from controlnext.training import subset
from controlnext.training.config import TrainingError
from controlnext.training.data.samples import States

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


_CLIP = {"motion_bucket_id": 128, "decode_chunk_size": 2}
"""Motion bucket of the training, and the authors' decoding chunk; diffusers' defaults are 127 and all frames at once."""


@dataclass(frozen=True)
class Group:
    """Weights with one learning rate.

    Attributes:
        name: `module`, `subset` and so on.
        parameters: by name; names are kept in checkpoints.
        rate: peak learning rate.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]
    rate: float


@dataclass(frozen=True)
class DrawRequest:
    """Pictures to draw with a method in one batch.

    Attributes:
        prompts: one a picture.
        conditions: `(B, 3, H, W)` in [0, 1], or `(1, F, 3, H, W)` for a clip.
        seeds: one a picture.
        steps: denoising steps.
        guidance_scale: weight of the prompt.
        gamma: control strength, relative to the one in training.
        start: reference picture of a clip.
        options: more of the pipeline's arguments.
    """

    prompts: Sequence[str]
    conditions: Tensor
    seeds: Sequence[int]
    steps: int = 20
    guidance_scale: float = 3.0
    gamma: float = 1.0
    start: Image.Image | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """A method of controlling a UNet, with the weights that learn. Calling it predicts.

    Attributes:
        name: for curves and tables.
        unet: the UNet it controls.
    """

    name: str
    unet: nn.Module

    @abstractmethod
    def groups(self) -> list[Group]:
        """Return the weights that learn."""

    @abstractmethod
    def predict(self, noisy: Tensor, timestep: Tensor, states: States, condition: Tensor, keep: Tensor) -> Tensor:
        """Return what the UNet predicts under control.

        Args:
            noisy: `(B, 4, h, w)` or `(B, F, 4, h, w)`.
            timestep: `(B,)`.
            states: see `controlnext.training.data.samples.States`, each `(B, ...)`.
            condition: `(B, 3, H, W)` or `(B, F, 3, H, W)` in [0, 1].
            keep: `(B,)` 1 where there is control, 0 where there is none.

        Returns:
            The prediction, shaped as `noisy`.
        """

    @abstractmethod
    def pictures(self, pipeline: DiffusionPipeline, request: DrawRequest) -> list[Image.Image]:
        """Draw pictures with the pipeline whose UNet is being trained; for a clip its frames."""

    @abstractmethod
    def save(self, folder: Path, facts: Mapping[str, str], dtype: torch.dtype) -> None:
        """Write the trained weights atomically; `facts` go into the metadata."""

    def forward(self, noisy: Tensor, timestep: Tensor, states: States, condition: Tensor, keep: Tensor) -> Tensor:
        """See `predict`; wrappers for several processes call `forward`."""
        return self.predict(noisy, timestep, states, condition, keep)

    def describe(self) -> str:
        """Describe how many weights learn."""
        counts = {group.name: subset.count(group.parameters.values()) for group in self.groups()}
        total = sum(parameter.numel() for parameter in unet_parameters(self.unet).values())
        return subset.describe(counts, total)


def model_of(pipeline: DiffusionPipeline) -> nn.Module:
    """Return the model of a pipeline that learns: its UNet or its transformer."""
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer


def is_transformer(model: nn.Module) -> bool:
    """Whether a model is a diffusion transformer."""
    return hasattr(model, "transformer_blocks")


def call_unet(unet: nn.Module, noisy: Tensor, timestep: Tensor, states: States, **more: Any) -> Tensor:
    """Call a stock UNet or transformer with states by name; `more` are other arguments of its own."""
    if is_transformer(unet):
        return unet(hidden_states=noisy, timestep=timestep, **states, **more).sample
    states = dict(states)
    if "image_latents" in states:
        still = states.pop("image_latents").to(noisy.dtype)
        noisy = torch.cat([noisy, still.unsqueeze(1).expand(-1, noisy.shape[1], -1, -1, -1)], dim=2)
    added = {name: states.pop(name) for name in ("text_embeds", "time_ids") if name in states}
    if added:
        more["added_cond_kwargs"] = added
    return unet(noisy, timestep, **states, **more).sample


def stock_pictures(pipeline: DiffusionPipeline, request: DrawRequest, **more: Any) -> list[Image.Image]:
    """Run a stock pipeline for a request; `more` are other arguments of its own."""
    generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
    shared = {"num_inference_steps": request.steps, **request.options, **more}
    height, width = request.conditions.shape[-2:]
    if request.start is not None:
        frames = request.conditions.shape[1]
        return pipeline(
            request.start, height=height, width=width, num_frames=frames, generator=generators[0],
            min_guidance_scale=request.guidance_scale, max_guidance_scale=request.guidance_scale, **_CLIP | shared,
        ).frames[0]  # fmt: skip
    return pipeline(
        list(request.prompts),
        height=height,
        width=width,
        generator=generators,
        guidance_scale=request.guidance_scale,
        **shared,
    ).images


class ControlNeXtMethod(Method):
    """The control module and a subset of the UNet, or a LoRA on it, joined by `controlnext.method.injection`."""

    name = "controlnext"

    def __init__(  # noqa: PLR0913 - the settings of a method
        self,
        unet: nn.Module,
        variant: str | Variant,
        *,
        module: nn.Module | None = None,
        pattern: str = "",
        lora: tuple[int, str] = (0, ""),
        rates: tuple[float, float] = (1e-4, 1e-5),
        gamma: float = 1.0,
        kind: str = "delta",
        start: str | Path | None = None,
    ) -> None:
        """Freeze the UNet but for what learns, and attach the module.

        Args:
            unet: a stock UNet; its trained weights become float32.
            variant: row or name.
            module: a control module; None makes an untrained one from torch's random state.
            pattern: regular expression of the UNet weights that learn.
            lora: rank and layers' expression of a LoRA instead; rank 0 is none.
            rates: of the module and of the UNet weights.
            gamma: control strength in training.
            kind: how UNet weights are saved, `delta` or `subset`.
            start: adapter to start from.

        Raises:
            TrainingError: the pattern matches nothing, or the adapter to start from does not fit.
        """
        super().__init__()
        self.variant = get_variant(variant)
        self.unet, self.rates, self.gamma, self.kind = unet, rates, gamma, kind
        self.module = ControlNeXtModel.from_variant(self.variant) if module is None else module
        unet.requires_grad_(False)
        self.start = None if start is None else str(start)
        started = self._load_start(start) if start is not None else {}
        rank, targets = lora
        self.lora = rank > 0
        chosen = {} if self.lora else subset.choose_subset(unet, pattern)
        lost = [] if self.lora else sorted(started.keys() - chosen.keys())
        if lost:
            raise TrainingError(
                f"The adapter {start} changes {lost[0]} and {len(lost) - 1} more UNet weights that trainable.subset does "
                "not name: widen it, so that they are saved again."
            )
        # Clones: on a CPU they would otherwise share memory with the weights, and every difference would be zero.
        self.originals = {
            name: (started[name] if name in started else parameter.detach().to("cpu", torch.float32, copy=True))
            for name, parameter in (chosen or {name: unet.get_parameter(name) for name in started}).items()
        }
        if self.lora:
            self._trained = subset.add_lora(unet, rank, targets)
        else:
            for parameter in chosen.values():
                parameter.data = parameter.data.float()
            self._trained = chosen
        for parameter in (*self.module.parameters(), *self._trained.values()):
            parameter.requires_grad_(True)
        self.module.float()
        self.injection = Injection(unet, self.module, self.variant)

    def _load_start(self, start: str | Path) -> dict[str, Tensor]:
        """Load an adapter's weights; return the UNet's weights before, by name."""
        adapter = ControlNeXtAdapter.from_pretrained(start, variant=self.variant)
        check_tensors(adapter.module.state_dict(), self.module.state_dict(), what=f"The control module of {start}")
        self.module.load_state_dict(adapter.module.state_dict())
        parameters = unet_parameters(self.unet)
        weights = adapter.unet_weights or {}
        check_tensors(weights, parameters, what=f"The UNet weights of {start}", complete=False)
        before = {name: parameters[name].detach().to("cpu", torch.float32, copy=True) for name in weights}
        with torch.no_grad():
            for name, tensor in weights.items():
                tensor = tensor.float()
                value = before[name] + tensor if adapter.kind == "delta" else tensor
                parameters[name].data = value.to(parameters[name].device)
        return before

    def groups(self) -> list[Group]:
        """See `Method.groups`."""
        module = {f"module.{name}": parameter for name, parameter in self.module.named_parameters()}
        found = [Group("module", module, self.rates[0])]
        if self._trained:
            trained = {f"unet.{name}": parameter for name, parameter in self._trained.items()}
            found.append(Group("LoRA" if self.lora else "subset", trained, self.rates[1]))
        return found

    def predict(self, noisy: Tensor, timestep: Tensor, states: States, condition: Tensor, keep: Tensor) -> Tensor:
        """See `Method.predict`."""
        gamma = self.gamma * keep.float()
        if torch.is_grad_enabled() and not gamma.any():
            gamma.requires_grad_()  # the module must take part: several processes wait for gradients of every weight
        self.injection.set(condition, gamma)
        return call_unet(self.unet, noisy, timestep, states)

    def pictures(self, pipeline: DiffusionPipeline, request: DrawRequest) -> list[Image.Image]:
        """See `Method.pictures`."""
        self.injection.set(request.conditions, self.gamma * request.gamma)
        try:
            return stock_pictures(pipeline, request)
        finally:
            self.injection.set(None)

    def unet_weights(self) -> dict[str, Tensor]:
        """Return the trained UNet weights by stock names, float32 on the CPU: differences or full values, by `kind`."""
        if self.lora:
            now = {name: value.clone() for name, value in self._deltas_of_start().items()}
            for name, delta in subset.merged_lora(self.unet).items():
                now[name] = now[name] + delta if name in now else delta
        elif self.kind == "subset":
            return {name: parameter.detach().cpu().float() for name, parameter in self._trained.items()}
        else:
            now = {
                name: parameter.detach().cpu().float() - self.originals[name]
                for name, parameter in self._trained.items()
            }
        if self.kind == "delta":
            return now
        base = unet_parameters(self.unet)
        return {name: self._original(name, base) + delta for name, delta in now.items()}

    def _original(self, name: str, base: Mapping[str, nn.Parameter]) -> Tensor:
        return self.originals[name] if name in self.originals else base[name].detach().cpu().float()

    def _deltas_of_start(self) -> dict[str, Tensor]:
        """Return the differences of the adapter it started from, which stay under a LoRA."""
        base = unet_parameters(self.unet)
        return {name: base[name].detach().cpu().float() - value for name, value in self.originals.items()}

    def save(self, folder: Path, facts: Mapping[str, str], dtype: torch.dtype) -> None:
        """See `Method.save`."""
        weights = self.unet_weights() or None
        adapter = ControlNeXtAdapter(self.module, weights, self.kind, variant=self.variant, gamma=self.gamma)
        partial = folder.with_name(f"{folder.name}.partial")
        adapter.save_pretrained(partial, dtype=dtype, metadata=facts)
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(
            partial.iterdir(), key=lambda file: file.suffix == ".json"
        ):  # the configuration, which names the files, comes last
            file.replace(folder / file.name)
        partial.rmdir()
