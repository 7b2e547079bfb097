"""Ways of control on the starter's transformer, of SD3's class, that `bench convergence --base dit` compares.

Cross normalisation in its three published layouts, the formula that the paper prints, plain addition, a zero convolution; what learns
along: a subset, a LoRA, nothing; diffusers' ControlNet of the class; and the condition's tokens concatenated to the picture's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from diffusers import SD3ControlNetModel
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from controlnext.bench.convergence.ways import AddedMethod, SteeredMethod, Way, printed_norm
from controlnext.method.model import ControlNeXtModel
from controlnext.method.variants import TRANSFORMERS, Variant
from controlnext.training.methods import ControlNeXtMethod, Method
from controlnext.training.quick import quicken

LORA_RANK, LORA_TARGETS = 8, r".*attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj)"
PATCH, CELL = 16, 8
"""Pixels of a side of a token and of a latent."""
_SUBSET = r".*(to_out|to_add_out).*"
_CROSS = Way("tokens-and-channels", "cross norm over tokens and channels", subset=_SUBSET, ratio=1 / 3)
_ROWS = (
    _CROSS,
    replace(_CROSS, name="channels", title="cross norm of each channel"),
    replace(_CROSS, name="latents", title="cross norm of the latents, before patches"),
    replace(_CROSS, name="paper", title="the formula as the paper prints it", join="paper"),
    replace(_CROSS, name="add", title="plain addition", join="add"),
    replace(_CROSS, name="zero", title="zero convolution", join="add", last=0.0),
    replace(_CROSS, name="lora", title=f"cross norm over tokens and channels, LoRA of rank {LORA_RANK}"),
    replace(_CROSS, name="module", title="cross norm over tokens and channels, module alone", subset=""),
    Way("controlnet", "ControlNet of diffusers, half of the blocks", network="controlnet"),
    replace(_CROSS, name="concatenation", title="the condition's tokens concatenated"),
)
DIT_WAYS: Mapping[str, Way] = MappingProxyType({row.name: row for row in _ROWS})
"""Name -> way, in the order of the tables."""


def variant_of(way: Way, transformer: nn.Module) -> Variant:
    """Return the row of a way, its module as small as the starter's and as wide as the transformer."""
    name = {"channels": "sd3-channels", "latents": "sd3-latents"}.get(way.name, "sd3")
    row, width = TRANSFORMERS[name], transformer.config.num_attention_heads * transformer.config.attention_head_dim
    small, stages = TRANSFORMERS["sd3-small"], len(row.layout.stage_channels)
    layout = replace(
        small.layout, stage_channels=small.layout.stage_channels[:stages], stage_groups=small.layout.stage_groups[:stages],
        stem_padding=row.layout.stem_padding, learned_scale=way.join == "paper",
        out_channels=transformer.config.in_channels if name == "sd3-latents" else width,
    )  # fmt: skip
    return replace(row, layout=layout, eps=small.eps, control_on_uncond=small.control_on_uncond)


def build(way: Way, transformer: nn.Module, rate: float) -> Method:
    """Make a method ready to train; its new weights come from torch's random state.

    Args:
        way: a row.
        transformer: of SD3's class; its trained weights change with training.
        rate: peak learning rate of new weights.

    Returns:
        The method, attached to the transformer.
    """
    if way.network == "controlnet":
        branch = SD3ControlNetModel.from_transformer(
            transformer, num_layers=max(1, transformer.config.num_layers // 2), num_extra_conditioning_channels=_unshuffled(CELL) - transformer.config.in_channels,
        )  # fmt: skip
        return SteeredMethod(way.name, transformer, branch, TransformerBranch(transformer, branch), rate)
    rates = (rate, rate * way.ratio)
    if way.name == "concatenation":
        return ConcatenatedMethod(transformer, variant_of(way, transformer), pattern=way.subset, rates=rates)
    row = variant_of(way, transformer)
    module = quicken(ControlNeXtModel.from_variant(row))
    with torch.no_grad():
        for parameter in module.mid_convs[1].parameters():
            parameter.mul_(way.last)
    lora = (LORA_RANK, LORA_TARGETS) if way.name == "lora" else (0, "")
    options: dict[str, Any] = {
        "module": module,
        "pattern": way.subset,
        "lora": lora,
        "rates": rates,
        "gamma": way.gamma,
    }
    kind = {"cross-norm": ControlNeXtMethod, "add": AddedTokensMethod, "paper": PrintedTokensMethod}[way.join]
    return kind(transformer, row, **options)


def _unshuffled(side: int) -> int:
    """Channels of a picture whose cells of a side became channels."""
    return 3 * side * side


class TokenSteering:
    """Hooks on a transformer of SD3's class; set and detached as an `Injection` is.

    In a guided batch, [unconditional, conditional], the unconditional half has no control.
    """

    def __init__(self, transformer: nn.Module) -> None:
        """Register the hook; nothing is controlled before `set`."""
        self.transformer = transformer
        self._handles = [transformer.register_forward_pre_hook(self._before, with_kwargs=True)]
        self.set(None)

    def set(self, condition: Tensor | None, gamma: float | Tensor = 1.0) -> None:
        """Set what controls the forwards from now on: `(B, 3, H, W)` in [0, 1], and a strength, or one a picture."""
        self._condition, self._gamma = condition, torch.as_tensor(gamma, dtype=torch.float32).reshape(-1)
        self._made: Any = None

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _before(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._made = None
        if self._condition is None:
            return args, kwargs
        batch = len(kwargs["hidden_states"])
        repeats = batch // len(self._condition)
        strength = self._gamma.expand(len(self._condition))
        zero = torch.zeros_like(strength)
        strength = torch.cat([zero] * (repeats - 1) + [strength]).view(-1, 1, 1)
        condition = torch.cat([self._condition] * repeats)
        return args, {**kwargs, **self.prepare(kwargs, condition, strength)}

    def prepare(self, given: dict[str, Any], condition: Tensor, strength: Tensor) -> dict[str, Any]:
        """Make the control of a forward.

        Args:
            given: arguments of the transformer.
            condition: `(N, 3, H, W)`.
            strength: `(N, 1, 1)`.

        Returns:
            More arguments of the transformer.
        """
        raise NotImplementedError

    def on_first_block(self) -> None:
        """Register the hook on the first block, where tokens can be changed."""
        block = self.transformer.transformer_blocks[0]
        self._handles.append(block.register_forward_pre_hook(self._before_block, with_kwargs=True))

    def _before_block(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs if self._made is None else {
            **kwargs,
            "hidden_states": self.joined(kwargs["hidden_states"]),
        }

    def joined(self, hidden: Tensor) -> Tensor:
        """Return the tokens `(N, L, C)` with the control."""
        raise NotImplementedError


class AddedTokens(TokenSteering):
    """A control module whose output is added to the tokens."""

    def __init__(self, transformer: nn.Module, module: nn.Module, variant: Variant) -> None:
        """Hook a module to a transformer."""
        super().__init__(transformer)
        self.module = module
        self.on_first_block()

    def prepare(self, given: dict[str, Any], condition: Tensor, strength: Tensor) -> dict[str, Any]:
        """See `TokenSteering.prepare`."""
        self._made = (
            self.module(condition, given["timestep"].expand(len(condition))).flatten(2).transpose(1, 2),
            strength,
        )
        return {}

    def joined(self, hidden: Tensor) -> Tensor:
        """See `TokenSteering.joined`."""
        control, strength = self._made
        return hidden + strength * control


class PrintedTokens(AddedTokens):
    """A control module whose output is standardised by the tokens, times a learned gamma, and added."""

    def joined(self, hidden: Tensor) -> Tensor:
        """See `TokenSteering.joined`."""
        control, strength = self._made
        return hidden + strength * self.module.scale * printed_norm(control, hidden, (1, 2))


class AddedTokensMethod(AddedMethod):
    """ControlNeXt's module and a subset of the transformer, the control simply added."""

    name, joins_by = "added", AddedTokens


class PrintedTokensMethod(AddedMethod):
    """ControlNeXt's module and a subset of the transformer, the control by the formula that the paper prints."""

    name, joins_by = "printed", PrintedTokens


class TransformerBranch(TokenSteering):
    """A ControlNet: residuals for the blocks."""

    def __init__(self, transformer: nn.Module, branch: SD3ControlNetModel) -> None:
        """Hook a branch to a transformer."""
        super().__init__(transformer)
        self.branch = branch

    def prepare(self, given: dict[str, Any], condition: Tensor, strength: Tensor) -> dict[str, Any]:
        """See `TokenSteering.prepare`; the condition's pixels become channels of latents."""
        names = ("hidden_states", "encoder_hidden_states", "pooled_projections", "timestep")
        residuals = self.branch(
            **{name: given[name] for name in names},
            controlnet_cond=pixel_unshuffle(condition, CELL),
            return_dict=False,
        )[0]
        return {"block_controlnet_hidden_states": [one * strength for one in residuals]}


class PatchTokens(nn.Module):
    """Makes tokens of a condition: a linear layer of its patches, and a learned offset that tells them from the picture's."""

    def __init__(self, width: int) -> None:
        """Build the layer for tokens of a width."""
        super().__init__()
        self.linear = nn.Linear(_unshuffled(PATCH), width)
        self.offset = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, condition: Tensor) -> Tensor:
        """Turn `(N, 3, H, W)` into `(N, tokens, width)`."""
        return self.linear(pixel_unshuffle(condition, PATCH).flatten(2).transpose(1, 2)) + self.offset


class ConcatenatedTokens(TokenSteering):
    """The condition's tokens stand behind the picture's in every block, at the same positions, and are dropped at the end."""

    def __init__(self, transformer: nn.Module, module: nn.Module, variant: Variant) -> None:
        """Hook a module to a transformer."""
        super().__init__(transformer)
        self.module = module
        self.on_first_block()
        self._handles.append(transformer.norm_out.register_forward_pre_hook(self._before_end))

    def prepare(self, given: dict[str, Any], condition: Tensor, strength: Tensor) -> dict[str, Any]:
        """See `TokenSteering.prepare`."""
        size = given["hidden_states"].shape[-2:]
        places = self.transformer.pos_embed.cropped_pos_embed(*size)
        self._made = strength * (self.module(condition) + places)
        return {}

    def joined(self, hidden: Tensor) -> Tensor:
        """See `TokenSteering.joined`."""
        return torch.cat([hidden, self._made.to(hidden.dtype)], dim=1)

    def _before_end(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return args if self._made is None else (args[0][:, : -self._made.shape[1]], *args[1:])


class ConcatenatedMethod(AddedMethod):
    """A layer that makes tokens of a condition, and a subset of the transformer that learns to read them."""

    name, joins_by = "concatenated", ConcatenatedTokens

    def __init__(self, unet: nn.Module, variant: Variant, **options: Any) -> None:
        """Build the layer; see `AddedMethod`."""
        width = unet.config.num_attention_heads * unet.config.attention_head_dim
        super().__init__(unet, variant, module=PatchTokens(width), **options)
