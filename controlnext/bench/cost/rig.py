"""One denoising step of a base model, alone and with each way of control, on any device, as `bench overhead` measures it.

The UNet, the hooks, the cache, `ControlNetModel` and `T2IAdapter` are the real ones at their real sizes; only the weights are
random, or absent on the meta device. A step is one forward of the UNet over both guidance halves, with what the control
needs for it; text encoders and autoencoder are the same in all of them and left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from torch import Tensor, nn

from controlnext.bench.command import BenchError
from controlnext.bench.cost.base_models import LATENT_CELL, BenchModel
from controlnext.method.control_cache import ControlCache
from controlnext.method.injection import attach
from controlnext.method.model import ControlNeXtModel

if TYPE_CHECKING:
    from controlnext.method.injection import Injection

HALVES = 2
"""Guidance runs the UNet on an unconditional and a conditional half."""
TIMES = (901.0, 601.0)
_PLENTY = 64 * 2**30  # bytes: the bench wants every control kept, whatever the device
_SPREAD = 0.02  # standard deviation of random weights: keeps activations finite in half precision


@dataclass(frozen=True)
class UNetStep:
    """One way to make a step.

    Attributes:
        name: short name, a key of the results.
        title: for people.
        before: prepares the step; not measured.
        run: makes the step.
        modules: networks that it needs in memory.
        bar: index into `BenchModel.bars`, or None.
    """

    name: str
    title: str
    before: Callable[[], object]
    run: Callable[[], object]
    modules: tuple[nn.Module, ...]
    bar: int | None = None

    @property
    def weight_bytes(self) -> int:
        """Bytes of the networks' parameters."""
        return sum(parameter.nbytes for module in self.modules for parameter in module.parameters())


class Rig:
    """The networks of a model and inputs for a step; `steps` lists the ways to make it."""

    def __init__(
        self,
        model: BenchModel,
        device: str = "meta",
        dtype: torch.dtype = torch.float32,
        size: int | None = None,
        compiled: bool = False,
    ) -> None:
        """Build the networks with random weights.

        Args:
            model: what to build.
            device: where; on `meta` nothing has content and only shapes are computed.
            dtype: of weights and inputs.
            size: short side in pixels, a multiple of 64; None = the model's own.
            compiled: also make steps with `torch.compile`.

        Raises:
            BenchError: the size cannot be, or the configuration is not there.
        """
        self.model, self.device, self.dtype = model, torch.device(device), dtype
        self.height, self.width = model.size(size)
        self._networks: list[nn.Module] = []
        self._features: list[Tensor] = []
        self._generator = None if self.device.type == "meta" else torch.Generator(device).manual_seed(0)
        self.unet = self._built(lambda: make_unet(model))
        self.module = self._built(lambda: ControlNeXtModel.from_variant(model.variant))
        self.cache = ControlCache(_PLENTY, _PLENTY)
        self.injection: Injection = attach(self.unet, self.module, model.variant, cache=self.cache)
        self.condition = self._random(*([1, model.frames] if model.frames else [1]), 3, self.height, self.width)
        self._sample, self._others = self._inputs()
        self._compiled = torch.compile(self.unet) if compiled else None

    @property
    def weight_bytes(self) -> int:
        """Bytes of all networks' parameters."""
        return sum(parameter.nbytes for network in self._networks for parameter in network.parameters())

    def steps(self) -> list[UNetStep]:
        """List the ways to make a step, the base alone first; builds the networks that they need."""
        ours = (self.unet, self.module)
        steps = [
            UNetStep("base", "base UNet alone", self._bare, self._forward, (self.unet,)),
            UNetStep("first", "+ ControlNeXt, first timestep of a condition", self._fresh, self._forward, ours, 0),
            UNetStep("further", "+ ControlNeXt, another timestep", self._begun, self._forward_later, ours, 1),
            UNetStep("again", "+ ControlNeXt, the same timestep again", self._kept, self._forward_later, ours, 2),
            UNetStep("authors", "+ ControlNeXt as in the authors' code", self._doubled, self._forward, ours),
        ]
        if self._compiled is not None:
            compiled = self._compiled
            steps += [
                UNetStep("base compiled", "base UNet, compiled", self._bare, lambda: self._forward(compiled), (self.unet,)),
                UNetStep("further compiled", "+ ControlNeXt, another timestep, compiled", self._begun,
                    lambda: self._forward_later(compiled), ours),
                UNetStep("again compiled", "+ ControlNeXt, the same timestep again, compiled", self._kept,
                    lambda: self._forward_later(compiled), ours),
            ]  # fmt: skip
        return steps + self._other_steps()

    def _other_steps(self) -> list[UNetStep]:
        """ControlNet and T2I-Adapter, where diffusers has them for this model."""
        steps = []
        if self.model.controlnet:
            branch = self._built(lambda: diffusers.ControlNetModel.from_unet(self.unet, load_weights_from_unet=False))
            steps.append(
                UNetStep("controlnet", "+ ControlNet, every timestep", self._bare, lambda: self._with_branch(branch), (self.unet, branch))
            )  # fmt: skip
        if self.model.t2i_adapter is not None:
            adapter = self._built(lambda: diffusers.T2IAdapter(**self.model.t2i_adapter))

            def keep() -> None:
                self._bare()
                self._features[:] = adapter(self.condition)

            both = (self.unet, adapter)
            steps += [
                UNetStep("t2i first", "+ T2I-Adapter, first timestep of a run", self._bare,
                    lambda: self._with_features(adapter(self.condition)), both),
                UNetStep("t2i further", "+ T2I-Adapter, another timestep", keep, lambda: self._with_features(self._features), both),
            ]  # fmt: skip
        return steps

    def _bare(self) -> None:
        """No control, and an empty cache."""
        self.injection.cache = self.cache
        self.injection.set(None)
        self.cache.clear()
        self._features.clear()

    def _fresh(self) -> None:
        self._bare()
        self.injection.set(self.condition)

    def _begun(self) -> None:
        self._fresh()
        self._forward()

    def _kept(self) -> None:
        self._begun()
        self._forward_later()

    def _doubled(self) -> None:
        """Both halves, with nothing kept: what the released code computes at each step."""
        self._bare()
        self.injection.cache = None
        self.injection.set(torch.cat([self.condition] * HALVES))

    def _forward(self, unet: nn.Module | None = None, time: float = TIMES[0], **more: Any) -> object:
        return (unet or self.unet)(self._sample, time, **self._others, **more)

    def _forward_later(self, unet: nn.Module | None = None) -> object:
        return self._forward(unet, TIMES[1])

    def _with_branch(self, branch: nn.Module) -> object:
        condition = torch.cat([self.condition] * HALVES)
        down, middle = branch(self._sample, TIMES[0], controlnet_cond=condition, return_dict=False, **self._others)
        return self._forward(down_block_additional_residuals=down, mid_block_additional_residual=middle)

    def _with_features(self, features: list[Tensor]) -> object:
        doubled = [torch.cat([feature] * HALVES) for feature in features]
        return self._forward(down_intrablock_additional_residuals=doubled)

    def _inputs(self) -> tuple[Tensor, dict[str, Any]]:
        """Latents and what else the UNet takes, for both halves."""
        model, config = self.model, self.unet.config
        frames = (model.frames,) if model.frames else ()
        latent = (self.height // LATENT_CELL, self.width // LATENT_CELL)
        sample = self._random(HALVES, *frames, config.in_channels, *latent)
        text = config.cross_attention_dim
        others: dict[str, Any] = {"encoder_hidden_states": self._random(HALVES, model.text_tokens, text)}
        if model.frames:
            others["added_time_ids"] = self._random(HALVES, 3)
        if model.pooled_width:
            added = {"text_embeds": self._random(HALVES, model.pooled_width), "time_ids": self._random(HALVES, 6)}
            others["added_cond_kwargs"] = added
        return sample, others

    def _random(self, *shape: int) -> Tensor:
        if self._generator is None:
            return torch.empty(*shape, device="meta", dtype=self.dtype)
        return torch.rand(*shape, generator=self._generator, device=self.device, dtype=self.dtype)

    def _built(self, build: Callable[[], nn.Module]) -> nn.Module:
        """Build a network on the meta device, then give it random weights on its own."""
        with torch.device("meta"):
            network = build()
        # To the meta device once more: SVD creates its mixing factors on the CPU whatever the default device is.
        network = nn.Module.to(network, "meta", self.dtype).eval().requires_grad_(False)
        self._networks.append(network)
        if self.device.type == "meta":
            return network
        return fill_random(network, self.device, self._generator)


def fill_random(network: nn.Module, device: torch.device | str, generator: torch.Generator | None) -> nn.Module:
    """Give a network of the meta device random weights on another: norms 1, biases 0, everything else small."""
    network.to_empty(device=device)
    for name, parameter in network.requires_grad_(False).named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, _SPREAD, generator=generator)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return network


def make_unet(model: BenchModel) -> nn.Module:
    """Build the untrained UNet of a base model.

    Raises:
        BenchError: its configuration is not there.
    """
    kind = getattr(diffusers, model.unet_class)
    if model.unet_folder is None:
        return kind(**(model.unet or {}))
    if not (model.unet_folder / "config.json").is_file():
        raise BenchError(f"{model.title} cannot be measured: {model.unet_folder} holds no config.json.")
    return kind.from_config(kind.load_config(model.unet_folder))
