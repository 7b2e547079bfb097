"""Ways of control, each a `Method`, that `bench convergence` compares.

ControlNeXt is one row; the others are its own module added without cross normalisation, the same with a zero convolution, a
ControlNet (a copied encoder with zero convolutions) and a T2I-Adapter. The networks of the last two are diffusers' own.
The trainer knows them as `Method` alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch
from diffusers import ControlNetModel, T2IAdapter
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from controlnext.method.model import ControlNeXtModel
from controlnext.method.variants import Variant, get_variant
from controlnext.method.weights import write_tensors
from controlnext.training.config import TrainingError
from controlnext.training.data.samples import States
from controlnext.training.family_defaults import FAMILY_DEFAULTS
from controlnext.training.methods import ControlNeXtMethod, DrawRequest, Group, Method, call_unet, stock_pictures
from controlnext.training.quick import quicken

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


WEIGHTS_FILE = "weights.safetensors"
_STARTER = FAMILY_DEFAULTS["starter"]


@dataclass(frozen=True)
class Way:
    """One way to control, as a row of the comparison.

    Attributes:
        name: short name.
        title: for people.
        network: what learns besides the UNet.
        join: how the control module's output enters: cross normalised, simply added, or by the formula that the paper prints.
        last: what the module's last convolution is multiplied by at the start; 0 makes it a zero convolution.
        subset: regular expression of the UNet weights that learn with the module; empty = none.
        ratio: learning rate of that subset over the module's.
        gamma: control strength.
        injection_point: the block whose input receives the control.
    """

    name: str
    title: str
    network: Literal["controlnext", "controlnet", "t2i-adapter"] = "controlnext"
    join: Literal["cross-norm", "add", "paper"] = "cross-norm"
    last: float = 1.0
    subset: str = ""
    ratio: float = 0.0
    gamma: float = 1.0
    injection_point: str = "down_blocks.0"


_RECOMMENDED = Way(
    "recommended",
    "ControlNeXt, recommended recipe",
    subset=_STARTER.subset,
    ratio=_STARTER.rate / _STARTER.module_rate,
)
_ROWS = (
    # The place and the order of SDXL's release, the subset of SD1.5's; a tenth of the module's rate in both.
    Way("released", "ControlNeXt as released", subset=r".*to_out.*", ratio=0.1),
    _RECOMMENDED,
    replace(_RECOMMENDED, name="add", title="recommended, cross norm off (plain addition)", join="add"),
    replace(
        _RECOMMENDED, name="zero", title="recommended, zero convolution instead of cross norm", join="add", last=0.0
    ),
    replace(_RECOMMENDED, name="paper", title="recommended, the formula as the paper prints it", join="paper"),
    Way("controlnet", "ControlNet (copied encoder, zero convolutions)", network="controlnet"),
    Way("t2i-adapter", "T2I-Adapter", network="t2i-adapter"),
)
WAYS: Mapping[str, Way] = MappingProxyType({row.name: row for row in _ROWS})
"""Name -> way, in the order of the tables."""


def build(way: Way, unet: nn.Module, rate: float) -> Method:
    """Make a method ready to train; its new weights come from torch's random state.

    Args:
        way: a row.
        unet: a stock UNet of the starter's shape; its trained weights change with training.
        rate: peak learning rate of new weights.

    Returns:
        The method, attached to the UNet.

    Raises:
        TrainingError: the way trains nothing that the UNet has.
    """
    if way.network == "controlnet":
        branch = quicken(ControlNetModel.from_unet(unet))
        return SteeredMethod(way.name, unet, branch, BranchSteering(unet, branch), rate)
    if way.network == "t2i-adapter":
        adapter = quicken(make_t2i_adapter(unet))
        return SteeredMethod(way.name, unet, adapter, FeatureSteering(unet, adapter), rate)
    row = variant_at(way.injection_point, unet)
    if way.join == "paper":
        row = replace(row, layout=replace(row.layout, learned_scale=True))
    module = quicken(ControlNeXtModel.from_variant(row))
    with torch.no_grad():
        for parameter in module.mid_convs[1].parameters():
            parameter.mul_(way.last)
    rates = (rate, rate * way.ratio)
    kind = {"cross-norm": ControlNeXtMethod, "add": AddedMethod, "paper": PrintedMethod}[way.join]
    return kind(unet, row, module=module, pattern=way.subset, rates=rates, gamma=way.gamma)


def variant_at(injection_point: str, unet: nn.Module) -> Variant:
    """Return the starter's row with another injection point, its control as wide as the hidden states there.

    Raises:
        TrainingError: there is no such block.
    """
    widths = unet.config.block_out_channels
    before = dict(zip((f"down_blocks.{i}" for i in range(len(widths))), (widths[0], *widths), strict=False))
    channels = {**before, "mid_block": widths[-1], "up_blocks.0": widths[-1]}
    if injection_point not in channels:
        raise TrainingError(f"A control cannot enter at {injection_point!r}: choose one of {', '.join(channels)}.")
    row = get_variant("starter")
    return replace(
        row, injection_point=injection_point, layout=replace(row.layout, out_channels=channels[injection_point])
    )


def make_t2i_adapter(unet: nn.Module) -> T2IAdapter:
    """Make an untrained T2I-Adapter for the starter's UNet.

    Its first block halves before the first features come in, as SDXL's does, so it takes SDXL's kind of adapter.
    """
    return T2IAdapter(
        channels=list(unet.config.block_out_channels),
        num_res_blocks=2,
        downscale_factor=16,  # 8 of the autoencoder, 2 of the first block
        adapter_type="full_adapter_xl",
    )


class Steering(ABC):
    """A hook on a stock UNet that adds to its inputs; set and detached as an `Injection` is.

    In a guided batch, [unconditional, conditional], the unconditional half has no control, as with the starter's adapters.
    """

    def __init__(self, unet: nn.Module) -> None:
        """Register the hook; nothing is controlled before `set`."""
        self._handles = [unet.register_forward_pre_hook(self._before_unet, with_kwargs=True)]
        self.set(None)

    def set(self, condition: Tensor | None, gamma: float | Tensor = 1.0) -> None:
        """Set what controls the forwards from now on.

        Args:
            condition: `(B, 3, H, W)` in [0, 1]; None = no control.
            gamma: what the control is multiplied by: a number, or one a picture.
        """
        self._condition, self._gamma = condition, torch.as_tensor(gamma, dtype=torch.float32).reshape(-1)

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    @abstractmethod
    def inputs(self, sample: Tensor, timestep: Tensor, text: Tensor, condition: Tensor) -> dict[str, Any]:
        """Compute additional keyword arguments of the UNet: tensors `(B, ...)` or lists of them."""

    def _before_unet(
        self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._condition is None:
            return None
        (sample, timestep), text = args[:2], kwargs["encoder_hidden_states"]
        condition = self._condition
        guided = len(sample) == 2 * len(condition)
        if guided:
            sample, text = sample.chunk(2)[1], text.chunk(2)[1]
            timestep = timestep.chunk(2)[1] if torch.as_tensor(timestep).ndim else timestep
        strength = self._gamma.to(sample.device).view(-1, 1, 1, 1)

        def scaled(value: Tensor) -> Tensor:
            value = value * strength.to(value.dtype)
            return torch.cat([torch.zeros_like(value), value]) if guided else value

        made = self.inputs(sample, timestep, text, condition)
        made = {
            name: scaled(value) if isinstance(value, Tensor) else [scaled(one) for one in value]
            for name, value in made.items()
        }
        return args, {**kwargs, **self.pass_on(made)}

    def pass_on(self, made: dict[str, Any]) -> dict[str, Any]:
        """Return the scaled values that go to the UNet itself."""
        return made


class BranchSteering(Steering):
    """A ControlNet: residuals for every skip and the middle."""

    def __init__(self, unet: nn.Module, branch: ControlNetModel) -> None:
        """Hook a branch to a UNet."""
        super().__init__(unet)
        self.branch = branch

    def inputs(self, sample: Tensor, timestep: Tensor, text: Tensor, condition: Tensor) -> dict[str, Any]:
        """See `Steering.inputs`."""
        down, middle = self.branch(sample, timestep, text, condition, return_dict=False)
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


class FeatureSteering(Steering):
    """A T2I-Adapter: features for the encoder's blocks, whatever the timestep."""

    def __init__(self, unet: nn.Module, adapter: T2IAdapter) -> None:
        """Hook an adapter to a UNet."""
        super().__init__(unet)
        self.adapter = adapter

    def inputs(self, sample: Tensor, timestep: Tensor, text: Tensor, condition: Tensor) -> dict[str, Any]:
        """See `Steering.inputs`."""
        return {"down_intrablock_additional_residuals": self.adapter(condition)}


class AddedSteering(Steering):
    """A control module whose output is added to a block's input without cross normalisation."""

    def __init__(self, unet: nn.Module, module: nn.Module, variant: Variant) -> None:
        """Hook a module to a UNet."""
        super().__init__(unet)
        self.module, self._control = module, None
        block = unet.get_submodule(variant.injection_point)
        self._handles.append(block.register_forward_pre_hook(self._before_block, with_kwargs=True))

    def inputs(self, sample: Tensor, timestep: Tensor, text: Tensor, condition: Tensor) -> dict[str, Any]:
        """See `Steering.inputs`."""
        return {"control": self.module(condition, timestep)}

    def pass_on(self, made: dict[str, Any]) -> dict[str, Any]:
        """Keep the control for the block."""
        self._control = made["control"]
        return {}

    def joined(self, control: Tensor, hidden: Tensor) -> Tensor:
        """Return what is added to hidden states."""
        return control

    def _before_block(
        self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        control, self._control = self._control, None
        if control is None:
            return None
        by_name = "hidden_states" in kwargs
        hidden = kwargs["hidden_states"] if by_name else args[0]
        hidden = hidden + self.joined(adaptive_avg_pool2d(control, hidden.shape[-2:]).to(hidden.dtype), hidden)
        return (args, {**kwargs, "hidden_states": hidden}) if by_name else ((hidden, *args[1:]), kwargs)


def printed_norm(control: Tensor, hidden: Tensor, dims: tuple[int, ...] = (1, 2, 3), eps: float = 1e-5) -> Tensor:
    """Return the control by the formula that the paper prints: (c - mean(h)) / sqrt(var(h) + eps), without gamma.

    Source:
        arXiv 2408.06070, equation of cross normalisation.
    """
    mean, variance = hidden.mean(dims, keepdim=True), hidden.var(dims, keepdim=True, correction=0)
    return (control - mean) / (variance + eps).sqrt()


class PrintedSteering(AddedSteering):
    """A control module whose output is standardised by the hidden states, times a learned gamma, and added."""

    def inputs(self, sample: Tensor, timestep: Tensor, text: Tensor, condition: Tensor) -> dict[str, Any]:
        """See `Steering.inputs`; the strength alone passes on: a control of 0 would not leave the base alone."""
        self._raw = self.module(condition, timestep)
        return {"control": torch.ones_like(self._raw[:, :1, :1, :1])}

    def joined(self, control: Tensor, hidden: Tensor) -> Tensor:
        """See `AddedSteering.joined`; `control` is the strength, (B, 1, h, w)."""
        raw = adaptive_avg_pool2d(self._raw, hidden.shape[-2:]).to(hidden.dtype)
        raw = torch.cat([raw] * (len(hidden) // len(raw)))
        return control * self.module.scale.to(hidden.dtype) * printed_norm(raw, hidden)


def _save(method: Method, folder: Path, facts: Mapping[str, str], dtype: torch.dtype) -> None:
    """Write what was learned; no page reads it, since these methods exist for comparison."""
    learned = {name: value for group in method.groups() for name, value in group.parameters.items()}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().to(dtype).contiguous() for name, value in learned.items()}
    write_tensors(folder / WEIGHTS_FILE, tensors, {"format": "pt", **facts, "method": method.name})


class AddedMethod(ControlNeXtMethod):
    """ControlNeXt's module and UNet subset, the control simply added."""

    name, joins_by = "added", AddedSteering

    def __init__(self, unet: nn.Module, variant: str | Variant, **options: Any) -> None:
        """Build as `ControlNeXtMethod` does, and add the control."""
        super().__init__(unet, variant, **options)
        self.injection.detach()
        self.injection = self.joins_by(unet, self.module, self.variant)

    def save(self, folder: Path, facts: Mapping[str, str], dtype: torch.dtype) -> None:
        """See `Method.save`; the result is no adapter, which would be read with cross normalisation."""
        _save(self, folder, facts, dtype)


class PrintedMethod(AddedMethod):
    """ControlNeXt's module and UNet subset, the control by the formula that the paper prints."""

    name, joins_by = "printed", PrintedSteering


class SteeredMethod(Method):
    """A network that steers a frozen UNet."""

    def __init__(self, name: str, unet: nn.Module, network: nn.Module, steering: Steering, rate: float) -> None:
        """Freeze the UNet; the network learns at `rate`."""
        super().__init__()
        self.name, self.unet, self.network, self.rate = (
            name,
            unet.requires_grad_(False),
            network.requires_grad_(True),
            rate,
        )
        self.steering = steering

    def groups(self) -> list[Group]:
        """See `Method.groups`."""
        return [
            Group("network", {f"network.{key}": value for key, value in self.network.named_parameters()}, self.rate)
        ]

    def predict(self, noisy: Tensor, timestep: Tensor, states: States, condition: Tensor, keep: Tensor) -> Tensor:
        """See `Method.predict`."""
        self.steering.set(condition, keep)
        return call_unet(self.unet, noisy, timestep, states)

    def pictures(self, pipeline: DiffusionPipeline, request: DrawRequest) -> list[Image.Image]:
        """See `Method.pictures`."""
        self.steering.set(request.conditions, request.gamma)
        try:
            return stock_pictures(pipeline, request)
        finally:
            self.steering.set(None)

    def save(self, folder: Path, facts: Mapping[str, str], dtype: torch.dtype) -> None:
        """See `Method.save`."""
        _save(self, folder, facts, dtype)
