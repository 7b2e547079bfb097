"""Cross normalisation: the equation by which a control joins hidden states without zero convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from controlnext.method.variants import Variant

# A standard deviation below this many units in the last place of the mean is rounding, not signal.
ROUNDING_ULPS = 16


def cross_norm(control: Tensor, hidden: Tensor, eps: float = 1e-12) -> Tensor:
    """Move a control to the mean and standard deviation of a hidden state.

    Each sample is standardised by its own statistics and re-coloured with those of the hidden state, over channel,
    height and width together, never over the batch; deviations are unbiased (n - 1). Statistics are at least float32,
    whatever the inputs are.

    A constant control has nothing to standardise: its deviation is rounding noise, which division would blow up to
    full strength. Here its standardised part is zero, so it contributes the hidden mean alone, with finite gradients.

    Args:
        control: `(B or 1, C, H', W')`, any float dtype.
        hidden: `(B, C, H, W)`, any float dtype; gives the statistics, the device and the dtype of the result.
        eps: added to the control's standard deviation, unitless, >= 0.

    Returns:
        The aligned control `(B, C, H', W')` in the dtype of `hidden`.

    Source:
        dvlab-research/ControlNeXt, the lines after `conv_in` in each forked UNet: AdaIN with the hidden state as style.
        The paper's equation has no shift and divides by the hidden deviation; the released weights were trained with
        the code's form. The treatment of a constant control and the float32 statistics are ours.
    """
    import torch  # here and below, so that importing the package costs nothing

    work = torch.promote_types(hidden.dtype, torch.float32)
    # The coarser of the control's own spacing and that of the sums below tells signal from rounding.
    spacing = max(torch.finfo(control.dtype).eps, ROUNDING_ULPS * torch.finfo(work).eps)
    control, target = control.to(work), hidden.to(work)
    mean, std = (f(control, dim=(1, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
    target_mean, target_std = (f(target, dim=(1, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
    std = std.masked_fill(std <= spacing * mean.abs(), torch.inf)
    return ((control - mean) * (target_std / (std + eps)) + target_mean).to(hidden.dtype)


def add_control(
    hidden: Tensor, control: Tensor, strength: Tensor, variant: Variant, reference: Tensor | None = None
) -> Tensor:
    """Add the cross-normalised control to the hidden states, in the order the variant was trained with.

    Args:
        hidden: `(N, C, H, W)`; not changed.
        control: `(N or 1, C, h, w)`, any float dtype.
        strength: `(N or 1, 1, 1 or H, 1 or W)`, what multiplies the normalised control; where 0, the hidden states stay bit for bit.
        variant: Gives eps and the order of pooling and normalising.
        reference: `(N, C, H, W)`, gives the statistics; None = `hidden`. With several controls, the hidden states before
            the first.

    Returns:
        The controlled hidden states `(N, C, H, W)` in the dtype of `hidden`.

    Source:
        dvlab-research/ControlNeXt, the five lines that differ in each release's forked UNet.
    """
    import torch

    size, reference = hidden.shape[-2:], hidden if reference is None else reference
    if variant.pool_first:
        aligned = cross_norm(_pool(control, size), reference, variant.eps)
    else:
        aligned = _pool(cross_norm(control, reference, variant.eps), size)
    strength = strength.to(hidden.dtype)
    return torch.where(strength == 0, hidden, hidden + strength * aligned)


def _pool(features: Tensor, size: torch.Size) -> Tensor:
    """Average features to a size; replicates where they are smaller, as upstream does."""
    from torch.nn.functional import adaptive_avg_pool2d

    return features if features.shape[-2:] == size else adaptive_avg_pool2d(features, (size[0], size[1]))
