"""Where controls enter a block: the equation of one, and how several come together.

Several control modules may steer one UNet. Where they enter the same block, each is normalised by the hidden states as
they were before any control was added, and the results are added in the order of attachment: with cn for cross_norm,
h + g1 cn(c1, h) + g2 cn(c2, h). So each control adds exactly what it adds alone, which is what it was trained with, and
the order matters to rounding only. Taken in turns instead, cn(c2, h + g1 cn(c1, h)) would give the second control the
first one's share too: its mean grows from m to (1 + g1) m and its deviation with it, so equal gammas would not be equal
strengths, and three controls at gamma 1 would add 7 m where here they add 3 m.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from controlnext.errors import ControlNeXtError
from controlnext.method.cross_norm import cross_norm
from controlnext.method.variants import Variant


class InjectionError(ControlNeXtError, RuntimeError):
    """The control cannot enter this UNet, or the hooks are used out of order."""


class ControlSizeError(ControlNeXtError, ValueError):
    """Sizes or values of condition, gamma, control and hidden states that do not go together."""


def add_control(
    hidden: Tensor, control: Tensor, strength: Tensor, variant: Variant, reference: Tensor | None = None
) -> Tensor:
    """Add the cross-normalised control to the hidden states, in the order the variant was trained with.

    Args:
        hidden: `(N, C, H, W)`; not changed.
        control: `(N or 1, C, h, w)`, any float dtype.
        strength: `(N or 1, 1, 1, 1)`, what multiplies the normalised control; where 0, the sample stays bit for bit.
        variant: Gives eps and the order of pooling and normalising.
        reference: `(N, C, H, W)`, gives the statistics; None = `hidden`. With several controls, the hidden states before
            the first.

    Returns:
        The controlled hidden states `(N, C, H, W)` in the dtype of `hidden`.

    Source:
        dvlab-research/ControlNeXt, the five lines that differ in each release's forked UNet.
    """
    size, reference = hidden.shape[-2:], hidden if reference is None else reference
    if variant.pool_first:
        aligned = cross_norm(_pool(control, size), reference, variant.eps)
    else:
        aligned = _pool(cross_norm(control, reference, variant.eps), size)
    strength = strength.to(hidden.dtype)
    return torch.where(strength == 0, hidden, hidden + strength * aligned)


def _pool(features: Tensor, size: torch.Size) -> Tensor:
    """Average features to a size; replicates where they are smaller, as upstream does."""
    return features if features.shape[-2:] == size else adaptive_avg_pool2d(features, size)


class Member(Protocol):
    """One control at an entrance, usually a `controlnext.method.injection.Injection`."""

    variant: Variant

    def take(self) -> tuple[Tensor, Tensor] | None:
        """Hand over the control and its strength for this forward, once; None if there is none."""


class Entrance:
    """The one hook on a block through which all controls enter that come in there, in the order they were attached."""

    def __init__(self, block: nn.Module) -> None:
        """Register the hook on a block."""
        self.members: list[Member] = []
        self._handle = block.register_forward_pre_hook(self._before_block, with_kwargs=True)

    @classmethod
    def of(cls, block: nn.Module) -> Entrance:
        """Return the entrance of a block, made if it has none."""
        owners = (getattr(hook, "__self__", None) for hook in block._forward_pre_hooks.values())
        return next((owner for owner in owners if isinstance(owner, Entrance)), None) or cls(block)

    def leave(self, member: Member) -> None:
        """Forget a member; the last one takes the hook along."""
        if member in self.members:
            self.members.remove(member)
            if not self.members:
                self._handle.remove()

    def _before_block(
        self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Replace the block's `hidden_states`, given by name or first in order."""
        pending = [(member, member.take()) for member in self.members]
        pending = [(member, *taken) for member, taken in pending if taken is not None]
        if not pending:
            return None
        by_name = "hidden_states" in kwargs
        reference = hidden = kwargs["hidden_states"] if by_name else args[0]
        for member, control, strength in pending:
            if control.shape[1] != hidden.shape[1]:
                raise ControlSizeError(
                    f"The control has {control.shape[1]} channels but the hidden states at "
                    f"{member.variant.injection_point!r} have {hidden.shape[1]}: this adapter is for another base model."
                )
            hidden = add_control(hidden, control, strength, member.variant, reference)
        return (args, {**kwargs, "hidden_states": hidden}) if by_name else ((hidden, *args[1:]), kwargs)
