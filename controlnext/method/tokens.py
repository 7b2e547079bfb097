"""The control on the tokens of a diffusion transformer: the equation of `cross_norm`, laid out for sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controlnext.method.cross_norm import add_control
from controlnext.method.gamma import ControlSizeError
from controlnext.method.variants import Tokens, Variant

if TYPE_CHECKING:
    from torch import Tensor


def add_to_tokens(
    hidden: Tensor,
    control: Tensor,
    strength: Tensor,
    variant: Variant,
    grid: tuple[int, int, int],
    reference: Tensor | None = None,
) -> Tensor:
    """Add the cross-normalised control to the tokens of the picture; all others stay bit for bit.

    Args:
        hidden: `(N, L, C)`; not changed.
        control: `(N * F or 1, C, h, w)`, F = 1 for pictures.
        strength: `(N * F or 1, 1, 1, 1)`.
        variant: Gives eps, the order of pooling and normalising, and where the tokens are.
        grid: Frames F, and rows and columns of the tokens of one frame.
        reference: `(N, L, C)`, gives the statistics; None = `hidden`.

    Returns:
        The controlled hidden states `(N, L, C)`.

    Raises:
        ControlSizeError: There are fewer tokens than the condition has cells.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    tokens = variant.tokens or Tokens()
    (batch, length, width), (frames, rows, columns) = hidden.shape, grid
    count = frames * rows * columns
    if count > length:
        raise ControlSizeError(
            f"The condition has {frames} x {rows} x {columns} cells of {tokens.cell} pixels, but the transformer has "
            f"{length} tokens: give a condition of the picture's size."
        )
    place = slice(length - count, length) if tokens.last else slice(0, count)

    def maps(states: Tensor) -> Tensor:
        """Lay `(N, F, C, rows, columns)` out so that each entry of the first axis has statistics of its own."""
        if tokens.per_frame:
            states = states.flatten(0, 1)
        else:
            states = states.transpose(1, 2).reshape(batch, width, frames * rows, columns)
        return states.reshape(-1, 1, *states.shape[-2:]) if tokens.per_channel else states

    def as_maps(states: Tensor) -> Tensor:
        return maps(states[:, place].reshape(batch, frames, rows, columns, width).permute(0, 1, 4, 2, 3))

    pooled = control if control.shape[-2:] == (rows, columns) else adaptive_avg_pool2d(control, (rows, columns))
    shown = maps(pooled.expand(batch * frames, -1, -1, -1).reshape(batch, frames, width, rows, columns))
    if len(strength) > 1:
        strength = strength if tokens.per_frame else strength[::frames]
        strength = strength.repeat_interleave(len(shown) // len(strength), dim=0)
    added = add_control(as_maps(hidden), shown, strength, variant, None if reference is None else as_maps(reference))
    if tokens.per_frame:
        changed = added.reshape(batch, frames, width, rows, columns).permute(0, 1, 3, 4, 2)
    else:
        changed = added.reshape(batch, width, frames, rows, columns).permute(0, 2, 3, 4, 1)
    return torch.cat([hidden[:, : place.start], changed.reshape(batch, count, width), hidden[:, place.stop :]], dim=1)
