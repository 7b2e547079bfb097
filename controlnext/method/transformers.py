"""Where the control enters diffusion transformers: the rows of diffusers' classes, and the equation on tokens. Experimental.

The authors published no weights for transformers. The rows follow what is public of the method there: one addition at the
input of one block, on the tokens of the picture. `attach` is the one of `controlnext.method.injection`.

Source:
    The FLUX module and place: Eugeoter/euge-trainer, `modules/models/flux/flux_controlnext_models.py`, statistics over
    tokens and channels. Statistics of each channel over the tokens: Bex0n/ControlNeXt-SD3. The control on latents before
    they are cut into patches: Eugeoter/euge-trainer, `modules/models/sd3/controlnext_nnet.py`. Names of arguments and
    blocks: diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from controlnext.method.cross_norm import add_control
from controlnext.method.gamma import ControlSizeError
from controlnext.method.variants import Layout, Tokens, Variant

if TYPE_CHECKING:
    from torch import Tensor

_DEEP = Layout(stage_channels=(128, 256, 256), stage_groups=(4, 8, 8))  # ends at a sixteenth of the picture
_WIDTHS = {"flux": 3072, "flux2": 6144, "sd3": 1536, "wan": 1536, "qwen-image": 3072, "z-image": 3840, "sana": 2240, "pixart": 1152}  # fmt: skip
_MIN_FRACTION = 1000.0  # pipelines of these give the timestep in [0, 1]


def _row(name: str, injection_point: str, tokens: Tokens, time_scale: float = 1.0, **changes: str) -> Variant:
    layout = replace(_DEEP, out_channels=_WIDTHS[name])
    if tokens.cell == 32:
        layout = replace(layout, stage_channels=(128, 256, 256, 256), stage_groups=(4, 8, 8, 8))
    return Variant(
        name=name,
        family="transformer",
        layout=layout,
        parameters=0,
        injection_point=injection_point,
        eps=1e-12,
        pool_first=False,
        latents_argument=changes.get("latents_argument", "hidden_states"),
        time_argument=changes.get("time_argument", "timestep"),
        time_scale=time_scale,
        hidden_argument=changes.get("hidden_argument", "hidden_states"),
        tokens=tokens,
        source="one addition at the entrance, as in euge-trainer's FLUX module; no weights are released",
    )


_ROWS = (
    _row("flux", "transformer_blocks.0", Tokens(), _MIN_FRACTION),
    _row("flux2", "transformer_blocks.0", Tokens(), _MIN_FRACTION),
    _row("sd3", "transformer_blocks.0", Tokens()),
    _row("wan", "blocks.0", Tokens(per_frame=True)),
    _row("qwen-image", "transformer_blocks.0", Tokens(), _MIN_FRACTION),
    # its layers take the picture's tokens first, padded to a multiple of 32, and the caption's behind them
    _row("z-image", "layers.0", Tokens(), _MIN_FRACTION, latents_argument="x", time_argument="t", hidden_argument="x"),
    _row("sana", "transformer_blocks.0", Tokens(cell=32)),
    _row("pixart", "transformer_blocks.0", Tokens()),
)
_SD3 = _ROWS[2]

TRANSFORMERS: Mapping[str, Variant] = MappingProxyType(
    {row.name: row for row in _ROWS}
    | {
        "sd3-channels": replace(_SD3, name="sd3-channels", tokens=Tokens(per_channel=True)),
        # on the latents themselves: the injection point is the model, and they are maps, not tokens
        "sd3-latents": replace(
            _SD3,
            name="sd3-latents",
            injection_point="",
            tokens=None,
            layout=replace(Layout(), out_channels=16),
        ),
    }
)
"""Rows of diffusers' transformers, with the width of the largest public checkpoint of each class where they differ; give
`ControlNeXtModel.from_variant` the `out_channels` of another one."""


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
