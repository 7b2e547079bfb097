"""Injection of a control into a stock diffusers UNet: two forward pre-hooks, attached and removed without a trace.

The first hook, on the UNet, sees the timestep and prepares the control. The second, on the block at the injection
point, replaces that block's `hidden_states` input and nothing else; the UNet has stored its skip residuals by then, so
they stay as they were. Nothing is ever changed in place, because a block may return one tensor as output and residual.

Several control modules may steer one UNet. Where they enter the same block, each is normalised by the hidden states as
they were before any control was added, and the results are added in the order of attachment: with cn for cross_norm,
h + g1 cn(c1, h) + g2 cn(c2, h). So each control adds exactly what it adds alone, which is what it was trained with, and
the order matters to rounding only. Taken in turns instead, cn(c2, h + g1 cn(c1, h)) would give the second control the
first one's share too: its mean grows from m to (1 + g1) m and its deviation with it, so equal gammas would not be equal
strengths, and three controls at gamma 1 would add 7 m where here they add 3 m.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from controlnext.errors import ControlNeXtError
from controlnext.method.areas import masked
from controlnext.method.control_cache import ControlCache, ControlSource
from controlnext.method.cross_norm import add_control
from controlnext.method.gamma import ControlSizeError, Strength, as_gamma
from controlnext.method.tokens import add_to_tokens
from controlnext.method.variants import Variant, get_variant
from controlnext.method.windows import FrameConditions

Gamma = Strength | Callable[[int], Strength]
"""A number, one per picture, or a function of the count of UNet forwards that returns either."""


class InjectionError(ControlNeXtError, RuntimeError):
    """The control cannot enter this UNet, or the hooks are used out of order."""


class Pending(NamedTuple):
    """What a forward brings to the injection point.

    Attributes:
        control: `(N * F or 1, C, h, w)`.
        strength: `(N * F or 1, 1, 1, 1)`.
        grid: Frames, rows and columns of tokens; None where the hidden states are feature maps.
        window: Frames of a video that are at work; None for all.
    """

    control: Tensor
    strength: Tensor
    grid: tuple[int, int, int] | None
    window: range | None = None


class Injection:
    """An attached control module: the handle that sets what controls the UNet, and detaches it.

    Also a context manager that detaches on exit.
    """

    def __init__(
        self, unet: nn.Module, module: nn.Module, variant: str | Variant, *, cache: ControlCache | None = None
    ) -> None:
        """Register the hooks; nothing is controlled before `set`.

        Args:
            unet: A stock diffusers UNet, compiled or not; only `unet.compile(fullgraph=True)` cannot take the first hook
                in, where `torch.compile(unet, fullgraph=True)` can.
            module: Maps (condition, timestep) to the control, usually a `ControlNeXtModel`. Follows the latents' device.
            variant: Row or name; says where and how the control enters.
            cache: Where controls are kept while gradients are off; None computes each.

        Raises:
            InjectionError: This very module is attached to the UNet already, or the UNet lacks the injection point or a
                timestep.
        """
        self.unet = unwrap(unet)
        self.module = module
        self.variant = get_variant(variant)
        self._names = list(inspect.signature(type(self.unet).forward).parameters)[1:]
        wanted = (self.variant.latents_argument, self.variant.time_argument)
        if not set(wanted) <= set(self._names):
            raise InjectionError(
                f"The variant {self.variant.name!r} is for models that take {' and '.join(wanted)}, which "
                f"{type(self.unet).__name__} does not: choose the variant of its base model."
            )
        if any(other.module is module for other in attached_injections(self.unet)):
            raise InjectionError("This control module is attached to this UNet already: detach it first.")
        try:
            block = self.unet.get_submodule(self.variant.injection_point)
        except AttributeError as error:
            raise InjectionError(
                f"The variant {self.variant.name!r} injects at {self.variant.injection_point!r}, which this "
                f"{type(self.unet).__name__} does not have: choose the variant of its base model."
            ) from error
        self._expected = False
        self._pending: Pending | None = None
        self.source = ControlSource(module, self.variant, cache)
        self.set(None)
        self._handle = self.unet.register_forward_pre_hook(self._before_unet, with_kwargs=True)
        self._point: InjectionPoint | None = InjectionPoint.of(block)
        self._point.members.append(self)
        _forget_compiled(self.unet)

    def set(
        self,
        condition: Tensor | FrameConditions | None,
        gamma: Gamma = 1.0,
        *,
        repeats: int = 1,
        active: Callable[[int], bool] | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Set what controls the forwards from now on.

        Args:
            condition: RGB in [0, 1], `(K, 3, H, W)`, or `(K, F, 3, H, W)` for video; None = no control. A UNet batch
                larger than `K * repeats` is that many pictures over again; if an even number of times, it counts as
                guided, [unconditional, conditional], which matters where the unconditional half has no control.
                `FrameConditions` where the UNet runs in windows over time: those of one step count as one forward, and
                their controls are held for the step instead of the cache, which one long video would flood.
            gamma: Multiplier of the normalised control, in addition to the variant's factor: a finite number, or one per picture,
                or a function that gives these for the count of UNet forwards since `set`. The number 0 leaves the UNet
                without this control.
            repeats: How many pictures in a row share each condition.
            active: Asked with the count of UNet forwards since `set`; False leaves that forward uncontrolled.
            mask: Where it acts, `(1 or F, 1, H, W)` of any size, 1 where at full strength; None = everywhere. See
                `controlnext.method.areas`.

        Raises:
            InjectionError: A mask for a transformer, whose control is added to tokens.
            ControlSizeError: gamma is not finite numbers, or the condition is no batch of pictures.
        """
        if mask is not None and self.variant.tokens is not None:
            raise InjectionError(f"The control of {self.variant.name!r} enters as tokens, which take no mask.")
        self._gamma, self._mask = gamma if callable(gamma) else as_gamma(gamma), mask
        self.source.set(condition, repeats)
        self._active, self._forwards = active, 0

    def detach(self) -> None:
        """Remove both hooks and release the condition; a second call does nothing."""
        if self._point is not None:
            self._handle.remove()
            self._point.leave(self)
            _forget_compiled(self.unet)
        self._point, self._pending = None, None
        self.set(None)

    @property
    def attached(self) -> bool:
        """Whether the hooks are in place."""
        return self._point is not None

    def __enter__(self) -> Self:
        """Return the handle itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Detach."""
        self.detach()

    @torch.compiler.disable  # so that the cache and its keys stay outside of compiled graphs
    def _before_unet(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Prepare the control and its strength for the block."""
        row = self.variant
        latents, timestep = (
            kwargs[name] if name in kwargs else args[self._names.index(name)]
            for name in (row.latents_argument, row.time_argument)
        )
        self._expected, self._pending = True, None
        if row.transformer:
            timestep = _one_timestep(torch.as_tensor(timestep)) * row.time_scale
        source = self.source
        self._forwards += source.window is None or source.window.start == 0
        index = self._forwards - 1
        if source.condition is None or (self._active is not None and not self._active(index)):
            return
        gamma = as_gamma(self._gamma(index)) if callable(self._gamma) else self._gamma
        if isinstance(gamma, float):
            return
        if row.tokens is None:
            source.check(latents)
        frames = source.frames
        place = len(latents), frames, latents[0].device
        control = source.control(timestep, *place)
        strength = source.strength(gamma, *place)
        grid = None
        if row.tokens is not None:
            height, width = source.condition.shape[-2:]
            grid = frames, height // row.tokens.cell, width // row.tokens.cell
            _check_grid(grid, latents, tuple(source.condition.shape))
        self._pending = Pending(control, strength, grid, source.window)

    def take(self) -> Pending | None:
        """Hand over the control and its strength for this forward, once; None if there is none.

        Raises:
            InjectionError: The UNet's forward is not running.
        """
        if not self._expected:
            raise InjectionError("The injection point ran outside its UNet's forward: call the UNet, not its blocks.")
        pending = self._pending
        if self.variant.tokens is None:  # a transformer's block runs again where gradients are checkpointed
            self._expected, self._pending = False, None
        return pending


class InjectionPoint:
    """The one hook on a block; all controls that enter there do so in the order of their attachment."""

    def __init__(self, block: nn.Module) -> None:
        """Register the hook on a block."""
        self.members: list[Injection] = []
        self._handle = block.register_forward_pre_hook(self._before_block, with_kwargs=True)

    @classmethod
    def of(cls, block: nn.Module) -> InjectionPoint:
        """Return the injection point of a block, made if it has none."""
        owners = (getattr(hook, "__self__", None) for hook in block._forward_pre_hooks.values())
        return next((owner for owner in owners if isinstance(owner, InjectionPoint)), None) or cls(block)

    def leave(self, member: Injection) -> None:
        """Remove a member; with the last one the hook is removed."""
        if member in self.members:
            self.members.remove(member)
            if not self.members:
                self._handle.remove()

    def _before_block(
        self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Replace the block's `hidden_states`, given by name or first in order."""
        pending: list[tuple[Injection, Pending]] = []
        for member in self.members:
            taken = member.take()
            if taken is not None:
                pending.append((member, taken))
        if not pending:
            return None
        name = pending[0][0].variant.hidden_argument
        by_name = name in kwargs
        reference = hidden = kwargs[name] if by_name else args[0]
        for member, (control, strength, grid, window) in pending:
            width = hidden.shape[1 if grid is None else 2]
            if control.shape[1] != width:
                raise ControlSizeError(
                    f"The control has {control.shape[1]} channels but the hidden states at "
                    f"{member.variant.injection_point!r} have {width}: this adapter is for another base model."
                )
            if member._mask is not None:
                strength = masked(strength, member._mask, hidden.shape[-2:], len(hidden), window)
            if grid is None:
                hidden = add_control(hidden, control, strength, member.variant, reference)
            else:
                hidden = add_to_tokens(hidden, control, strength, member.variant, grid, reference)
        return (args, {**kwargs, name: hidden}) if by_name else ((hidden, *args[1:]), kwargs)


def attach(
    unet: nn.Module,
    module: nn.Module,
    variant: str | Variant,
    condition: Tensor | None = None,
    gamma: Gamma = 1.0,
    *,
    cache: ControlCache | None = None,
) -> Injection:
    """Attach a control module to a UNet; see `Injection` and `Injection.set` for the arguments and errors.

    Returns:
        The handle: `handle.set(...)` changes what controls, `handle.detach()` or leaving its `with` block removes it.
    """
    injection = Injection(unet, module, variant, cache=cache)
    try:
        injection.set(condition, gamma)
    except ControlNeXtError:
        injection.detach()
        raise
    return injection


def attached_injections(unet: nn.Module) -> list[Injection]:
    """Return the injections attached to a UNet, in the order of attachment."""
    owners = (getattr(hook, "__self__", None) for hook in unwrap(unet)._forward_pre_hooks.values())
    return [owner for owner in owners if isinstance(owner, Injection)]


def _check_grid(grid: tuple[int, int, int], latents: object, shape: tuple[int, ...]) -> None:
    """Raise a `ControlSizeError` if a condition is of another shape than unpacked latents; packed ones do not tell theirs."""
    if not isinstance(latents, Tensor) or latents.ndim < 4:
        return
    frames, rows, columns = grid
    if latents.shape[-2] * columns != latents.shape[-1] * rows or (latents.ndim == 5 and latents.shape[2] != frames):
        raise ControlSizeError(
            f"A condition of shape {shape} does not fit latents of shape {tuple(latents.shape)}: give it the picture's "
            "size, and for a video one frame for each latent frame."
        )


def _one_timestep(timestep: Tensor) -> Tensor:
    """Return timesteps as `(1,)` where all are equal, so that one control serves all pictures, else as `(B,)`.

    Pipelines of transformers give each picture its timestep, and Wan 2.2's 5B each token.
    """
    timestep = timestep.reshape(len(timestep), -1)[:, -1] if timestep.ndim else timestep.reshape(1)
    if len(timestep) > 1 and not timestep.is_meta and not torch.is_grad_enabled() and (timestep == timestep[0]).all():
        return timestep[:1]
    return timestep


def unwrap(unet: nn.Module) -> nn.Module:
    """Return the UNet inside of what `torch.compile` made of it."""
    return getattr(unet, "_orig_mod", unet)


def _forget_compiled(unet: nn.Module) -> None:
    """Drop compiled code of the UNet, which would not notice that hooks were added or removed."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None:
        return
    forwards = [type(unet).forward, inspect.unwrap(type(unet).forward)]
    if unet._compiled_call_impl is not None:
        forwards.append(nn.Module._call_impl)
    for forward in forwards:
        dynamo.eval_frame.remove_from_cache(forward)
