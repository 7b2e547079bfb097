"""Let a control module steer a stock diffusers UNet: two forward pre-hooks, attached and removed without a trace.

The first hook, on the UNet, sees the timestep and prepares the control. The second, on the block at the injection
point, replaces that block's `hidden_states` input and nothing else; the UNet has stored its skip residuals by then, so
they stay as they were. Nothing is ever changed in place, because a block may return one tensor as output and residual.

Several control modules may steer one UNet; `controlnext.method.entrance` says how they come together.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from controlnext.errors import ControlNeXtError
from controlnext.method.control_cache import ControlCache, fingerprint
from controlnext.method.entrance import ControlSizeError, Entrance, InjectionError
from controlnext.method.variants import Variant, get_variant
from controlnext.method.windows import FrameConditions, FrameControls

Strength = float | Sequence[float] | Tensor
Gamma = Strength | Callable[[int], Strength]
"""A number, one a picture, or a function of the count of UNet forwards that gives either."""


class Injection:
    """An attached control module: the handle that says what controls the UNet, and detaches it.

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
        self.cache = cache
        self._names = list(inspect.signature(type(self.unet).forward).parameters)[1:]
        if not {"sample", "timestep"} <= set(self._names):
            raise InjectionError(f"{type(self.unet).__name__} is no UNet: its forward takes no sample and timestep.")
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
        self._pending: tuple[Tensor, Tensor] | None = None
        self.set(None)
        self._handle = self.unet.register_forward_pre_hook(self._before_unet, with_kwargs=True)
        self._entrance: Entrance | None = Entrance.of(block)
        self._entrance.members.append(self)
        _forget_compiled(self.unet)

    def set(
        self,
        condition: Tensor | FrameConditions | None,
        gamma: Gamma = 1.0,
        *,
        repeats: int = 1,
        active: Callable[[int], bool] | None = None,
    ) -> None:
        """Say what controls the forwards from here on.

        Args:
            condition: RGB in [0, 1], `(K, 3, H, W)`, or `(K, F, 3, H, W)` for video; None = no control. A UNet batch
                larger than `K * repeats` is that many pictures over again; if an even number of times, it counts as
                guided, [unconditional, conditional], which matters where the unconditional half has no control.
                `FrameConditions` where the UNet runs in windows over time: those of one step count as one forward, and
                their controls are held for the step instead of the cache, which one long video would flood.
            gamma: Multiplier of the normalised control beside the variant's own: a finite number, or one per picture,
                or a function that gives these for the count of UNet forwards since `set`. The number 0 leaves the UNet
                without this control.
            repeats: How many pictures in a row share each condition.
            active: Asked with the count of UNet forwards since `set`; False leaves that forward uncontrolled.

        Raises:
            ControlSizeError: gamma is not finite numbers, or the condition is no batch of pictures.
        """
        if condition is not None and condition.ndim not in (4, 5):
            raise ControlSizeError(
                f"A condition has the shape (batch, 3, height, width) or (batch, frames, 3, height, width), "
                f"not {tuple(condition.shape)}."
            )
        self._gamma = gamma if callable(gamma) else as_gamma(gamma)
        self._condition, self._repeats, self._active = condition, repeats, active
        self._forwards = 0
        self._since = None if self.cache is None else self.cache.now
        self._fingerprint: tuple[Hashable, str] | None = None
        self._prepared: tuple[Hashable, Any] | None = None
        self._frames = FrameControls()

    def detach(self) -> None:
        """Remove both hooks and let go of the condition; a second call does nothing."""
        if self._entrance is not None:
            self._handle.remove()
            self._entrance.leave(self)
            _forget_compiled(self.unet)
        self._entrance, self._pending = None, None
        self.set(None)

    @property
    def attached(self) -> bool:
        """Whether the hooks are in place."""
        return self._entrance is not None

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
        sample, timestep = (
            kwargs[name] if name in kwargs else args[self._names.index(name)] for name in ("sample", "timestep")
        )
        self._expected, self._pending = True, None
        window = self._condition.window if isinstance(self._condition, FrameConditions) else None
        self._forwards += window is None or window.start == 0
        index = self._forwards - 1
        if self._condition is None or (self._active is not None and not self._active(index)):
            return
        gamma = as_gamma(self._gamma(index)) if callable(self._gamma) else self._gamma
        if isinstance(gamma, float):
            return
        wanted = len(window) if window else self._condition.shape[1]
        if sample.ndim != self._condition.ndim or (sample.ndim == 5 and sample.shape[1] != wanted):
            raise ControlSizeError(
                f"A condition of shape {tuple(self._condition.shape)} does not fit latents of shape "
                f"{tuple(sample.shape)}: video needs (batch, frames, 3, height, width) with as many frames."
            )
        batch, frames = len(sample), sample.shape[1] if sample.ndim == 5 else 1
        control = self._control(timestep, batch, sample.device)
        if 1 < len(control) != batch * frames:  # a single one broadcasts
            control = self._spread(control.unflatten(0, (-1, frames)), batch).flatten(0, 1)
        self._pending = control, self._strength(gamma, batch, frames, sample.device)

    def take(self) -> tuple[Tensor, Tensor] | None:
        """Hand over the control and its strength for this forward, once; None if there is none.

        Raises:
            InjectionError: No forward of the UNet goes on.
        """
        if not self._expected:
            raise InjectionError("The injection point ran outside its UNet's forward: call the UNet, not its blocks.")
        pending = self._pending
        self._expected, self._pending = False, None
        return pending

    def _control(self, timestep: Tensor | float, batch: int, device: torch.device) -> Tensor:
        """Return the control of the distinct conditions, `(K * F, C, h, w)`, from the cache if it is there."""
        if any(parameter.device != device for parameter in self.module.parameters()):
            self.module.to(device)
        if isinstance(self._condition, FrameConditions):
            return self._window_control(timestep, device)
        self._condition = condition = self._condition.to(device)
        if torch.as_tensor(timestep).numel() > 1:
            condition = self._spread(condition, batch)  # each picture is at a time of its own
        if self.cache is None or torch.is_grad_enabled():
            return self.module(condition, timestep)
        times = tuple(torch.as_tensor(timestep).reshape(-1).tolist())
        content = self._content(device)
        key = content, times, self._repeats if len(times) > 1 else 1
        control = self.cache.get(key)
        if control is None:
            prepared = self._prepare(condition, content) if len(times) == 1 else None
            control = self.module(condition, timestep, *(() if prepared is None else (prepared,)))
            self.cache.put(key, control, self._since)
        return control

    def _window_control(self, timestep: Tensor | float, device: torch.device) -> Tensor:
        """Return the control of the window at work, `(F, C, h, w)`; frames that windows share are computed once a step."""
        times = tuple(torch.as_tensor(timestep).reshape(-1).tolist())
        if len(times) != 1:
            raise ControlSizeError(f"A video in windows is at one timestep, not at {len(times)}.")
        conditions = self._condition
        return self._frames.get(
            (times, device),
            conditions.controlled_by(self.variant.reference_leads),
            lambda frames: self.module(conditions.take(frames).to(device), timestep),
        )

    def _prepare(self, condition: Tensor, content: Hashable) -> Any:  # noqa: ANN401 - the module's own
        """Return what the module makes of the condition before the timestep enters, held for the condition that is set.

        None where the module makes nothing of that kind or it is not worth its memory; not held where it takes too much.
        """
        if not getattr(self.module, "worth_preparing", False):
            return None
        if self._prepared is None or self._prepared[0] != content:
            self._prepared = None  # so that the old one is gone before the new one is made
            prepared = self.module.prepare(condition)
            if prepared.nbytes > self.cache.prepared_budget:
                return prepared
            self._prepared = content, prepared
        return self._prepared[1]

    def _content(self, device: torch.device) -> Hashable:
        """Name what a control comes from beside the time: condition, weights, precision and place."""
        tensors = [self._condition, *self.module.parameters(), *self.module.buffers()]
        # Content is hashed once per `set`, and again only if something was written to since.
        versions = tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)
        if self._fingerprint is None or self._fingerprint[0] != versions:
            if self._fingerprint is not None:
                self._since = self.cache.now  # what was kept of the old content may go
            self._fingerprint = versions, fingerprint(tensors)
        kind = device.type  # the meta device, where only shapes are computed, has no autocast
        autocast = kind != "meta" and torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
        return self._fingerprint[1], autocast, device

    def _strength(self, gamma: Tensor, batch: int, frames: int, device: torch.device) -> Tensor:
        """Return what multiplies the normalised control: `(N * F or 1, 1, 1, 1)` float32."""
        row = self.variant
        scale = self.module.scale if row.layout.learned_scale else torch.ones(())
        scale = scale.to(device, torch.float32)
        pictures = self._condition.shape[0] * self._repeats
        if not row.control_on_uncond and batch % (2 * pictures) == 0:
            scale = torch.stack([torch.zeros_like(scale), scale]).repeat_interleave(batch // 2)
        factor = row.factor * (torch.sigmoid(scale) if row.sigmoid_scale else scale)
        gamma = gamma.to(device)
        if batch % len(gamma):
            raise ControlSizeError(f"{len(gamma)} values of gamma do not divide the UNet's batch of {batch}.")
        if len(gamma) > 1:
            gamma = gamma.repeat(batch // len(gamma))
        strength = (factor * gamma).reshape(-1)
        return (strength if len(strength) == 1 else strength.repeat_interleave(frames)).view(-1, 1, 1, 1)

    def _spread(self, rows: Tensor, batch: int) -> Tensor:
        """Repeat rows `(K, ...)` to the UNet's batch `(N, ...)`: each `repeats` times, then all over again."""
        rows = rows.repeat_interleave(self._repeats, dim=0)
        if batch % len(rows):
            raise ControlSizeError(
                f"{len(rows)} conditioned pictures do not divide the UNet's batch of {batch}: give one condition, or "
                f"one for each picture."
            )
        return rows.repeat(batch // len(rows), *[1] * (rows.ndim - 1))


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


def attached_injection(unet: nn.Module) -> Injection | None:
    """Return the first injection attached to a UNet, if there is one."""
    return next(iter(attached_injections(unet)), None)


def unwrap(unet: nn.Module) -> nn.Module:
    """Return the UNet inside of what `torch.compile` made of it."""
    return getattr(unet, "_orig_mod", unet)


def as_gamma(gamma: Strength) -> float | Tensor:
    """Check gamma.

    Args:
        gamma: A number, or one per picture.

    Returns:
        The values, `(1,)` or `(B,)` float32, or the number 0 if all of them are.

    Raises:
        ControlSizeError: These are not finite numbers.
    """
    try:
        values = torch.as_tensor(gamma, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ControlSizeError(f"gamma is a number or one number per picture, not {gamma!r}.") from error
    if values.ndim > 1 or not values.numel() or not values.isfinite().all():
        raise ControlSizeError(f"gamma is a finite number or one per picture, not {gamma!r}.")
    if not values.any() and not values.requires_grad:
        return 0.0
    return values.reshape(-1)


def _forget_compiled(unet: nn.Module) -> None:
    """Drop compiled code of the UNet, which would not notice that hooks came or went."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None:
        return
    forwards = [type(unet).forward, inspect.unwrap(type(unet).forward)]
    if unet._compiled_call_impl is not None:
        forwards.append(nn.Module._call_impl)
    for forward in forwards:
        dynamo.eval_frame.remove_from_cache(forward)
