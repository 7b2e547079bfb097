"""The control module: a few convolutions that turn a condition image into one feature map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple, Self, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import Downsample2D, ResnetBlock2D
from torch import Tensor, nn

from controlnext.errors import ControlNeXtError
from controlnext.method.variants import Layout, Variant, VariantError, get_variant

IMAGE_CHANNELS = 3
STEM_GROUPS = 2
TAIL_GROUPS = 8


class ConditionError(ControlNeXtError, ValueError):
    """A condition or timestep whose shape the control module cannot take."""


class Prepared(NamedTuple):
    """The features that depend on the condition alone, to be kept between timesteps; see `ControlNeXtModel.prepare`.

    Attributes:
        sample: Output of the stem, `(B * F, C, h, w)`; the first resnet's shortcut still needs it.
        hidden: Output of the first resnet's first convolution, `(B * F, C', h, w)`.
    """

    sample: Tensor
    hidden: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes that both take."""
        return self.sample.nbytes + self.hidden.nbytes


def _stem(channels: Sequence[int], padding: int, pool: bool) -> nn.Sequential:
    """Build the stem: stride-2 convolution, two stride-1 ones, each with GroupNorm and ReLU, optionally pooled."""
    layers: list[nn.Module] = []
    width = IMAGE_CHANNELS
    for index, out in enumerate(channels):
        stride, pad = (2, 1) if index == 0 else (1, padding)
        layers += [nn.Conv2d(width, out, 3, stride, pad), nn.GroupNorm(STEM_GROUPS, out), nn.ReLU()]
        width = out
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _tail(width: int, residual: bool) -> nn.Sequential:
    """Build the two 3x3 convolutions before the output; the residual kind norms after the ReLU, as released."""
    first, last = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
    if not residual:
        return nn.Sequential(first, nn.ReLU(), last)
    return nn.Sequential(first, nn.ReLU(), nn.GroupNorm(TAIL_GROUPS, width), last, nn.GroupNorm(TAIL_GROUPS, width))


class ControlNeXtModel(ModelMixin, ConfigMixin):
    """Map a condition image and a timestep to the control.

    State-dict keys and shapes equal those of the released files. Build one with `from_variant`.

    Source:
        dvlab-research/ControlNeXt, `models/controlnet.py` of each release.
    """

    @register_to_config
    def __init__(  # noqa: PLR0913 - a diffusers config is its constructor's arguments
        self,
        variant_name: str | None = None,
        time_proj_dim: int = Layout.time_proj_dim,
        time_embed_dim: int = Layout.time_embed_dim,
        stem_channels: Sequence[int] = Layout.stem_channels,
        stem_padding: int = Layout.stem_padding,
        stem_pool: bool = Layout.stem_pool,
        stage_channels: Sequence[int] = Layout.stage_channels,
        stage_groups: Sequence[int] = Layout.stage_groups,
        tail_residual: bool = Layout.tail_residual,
        out_channels: int = Layout.out_channels,
        learned_scale: bool = Layout.learned_scale,
    ) -> None:
        """Build the layers, untrained; the arguments are the fields of `controlnext.method.variants.Layout`.

        Args:
            variant_name: Key of `VARIANTS` this module was built from, kept in the saved configuration.
            time_proj_dim: See `Layout`, as are all the following.
            time_embed_dim: See `Layout`.
            stem_channels: See `Layout`.
            stem_padding: See `Layout`.
            stem_pool: See `Layout`.
            stage_channels: See `Layout`.
            stage_groups: See `Layout`.
            tail_residual: See `Layout`.
            out_channels: See `Layout`.
            learned_scale: See `Layout`; the injection multiplies by it, `forward` does not.
        """
        super().__init__()
        self.time_proj = Timesteps(time_proj_dim, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(time_proj_dim, time_embed_dim)
        self.embedding = _stem(stem_channels, stem_padding, stem_pool)

        width = stem_channels[-1] if stem_channels else IMAGE_CHANNELS
        self.down_res, self.down_sample = nn.ModuleList(), nn.ModuleList()
        for out, groups in zip(stage_channels, stage_groups, strict=True):
            self.down_res.append(
                ResnetBlock2D(in_channels=width, out_channels=out, temb_channels=time_embed_dim, groups=groups)
            )
            self.down_sample.append(Downsample2D(out, use_conv=True, padding=1, name="op"))  # "op": one key, `conv`
            width = out

        self.mid_convs = nn.ModuleList([_tail(width, tail_residual), nn.Conv2d(width, out_channels, 1)])
        if learned_scale:
            self.scale = nn.Parameter(torch.tensor(1.0))

    @classmethod
    def from_variant(cls, variant: str | Variant, **overrides: int | bool | Sequence[int]) -> Self:
        """Build an untrained module of a variant.

        Args:
            variant: A key of `VARIANTS`, or a row.
            **overrides: Fields of `Layout` to change, e.g. `stem_padding=1` for the SVD v2 of the training code.

        Returns:
            The module, float32 on the CPU.

        Raises:
            VariantError: There is no such variant or field.
        """
        row = get_variant(variant)
        if unknown := overrides.keys() - vars(row.layout).keys():
            raise VariantError(
                f"A control module has no {', '.join(sorted(unknown))}: see controlnext.method.variants.Layout."
            )
        changes: dict[str, Any] = dict(overrides)
        return cast("Self", cls(variant_name=row.name, **asdict(replace(row.layout, **changes))))

    @property
    def worth_preparing(self) -> bool:
        """Whether the layers before the timestep are worth keeping; without a stem they are one convolution of RGB."""
        return len(self.config.stem_channels) > 0

    def prepare(self, condition: Tensor) -> Prepared:
        """Run the layers that the timestep does not reach: the stem, and the first resnet up to its first convolution.

        Args:
            condition: As `forward` takes it.

        Returns:
            Their outputs, for `forward(condition, timestep, prepared)` at any timestep.

        Raises:
            ConditionError: The condition is not a batch of RGB pictures.
        """
        if condition.ndim not in (4, 5) or condition.shape[-3] != IMAGE_CHANNELS:
            raise ConditionError(
                f"A condition has the shape (batch, 3, height, width) or (batch, frames, 3, height, width), "
                f"not {tuple(condition.shape)}."
            )
        first = cast("ResnetBlock2D", self.down_res[0])
        sample = self.embedding(condition.to(self.dtype).reshape(-1, *condition.shape[-3:]))
        return Prepared(sample, first.conv1(first.nonlinearity(first.norm1(sample))))

    def forward(self, condition: Tensor, timestep: Tensor | float, prepared: Prepared | None = None) -> Tensor:
        """Compute the control.

        Args:
            condition: RGB in [0, 1], `(B, 3, H, W)`, or `(B, F, 3, H, W)` for F video frames.
            timestep: A number, a 0-dim tensor, or a `(B,)` tensor; may be fractional and negative (SVD).
            prepared: `prepare(condition)`, kept from another timestep; the control is the same to the last bit.

        Returns:
            The control `(B, C, h, w)` or `(B * F, C, h, w)` in the module's dtype; h, w are about H/8, W/8 (SVD v1: /32).

        Raises:
            ConditionError: The condition is not a batch of RGB pictures, there are neither 1 nor B timesteps, or what
                was prepared is of another number of pictures.
        """
        if prepared is None:
            prepared = self.prepare(condition)
        sample, hidden = prepared
        batch, frames = len(condition), condition.shape[1] if condition.ndim == 5 else 1
        if len(sample) != batch * frames:
            raise ConditionError(
                f"{batch * frames} pictures were given, but {len(sample)} prepared: prepare them again."
            )

        timesteps = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device).reshape(-1)
        if len(timesteps) not in (1, batch):
            raise ConditionError(f"{batch} conditions need 1 or {batch} timesteps, not {len(timesteps)}.")
        code = self.time_proj(timesteps.expand(batch)).to(self.dtype)
        embedding = self.time_embedding(code).repeat_interleave(frames, dim=0)

        sample = self.down_sample[0](_finish(self.down_res[0], sample, hidden, embedding))
        for resnet, downsample in zip(self.down_res[1:], self.down_sample[1:], strict=True):
            sample = downsample(resnet(sample, embedding))
        mixed = self.mid_convs[0](sample)
        control: Tensor = self.mid_convs[1](mixed + sample if self.config.tail_residual else mixed)
        return control


def _finish(resnet: ResnetBlock2D, sample: Tensor, hidden: Tensor, embedding: Tensor) -> Tensor:
    """Run a stock resnet from where the time embedding comes in.

    Source:
        diffusers, `ResnetBlock2D.forward`, for the arguments that this module builds it with.
    """
    hidden = hidden + resnet.time_emb_proj(resnet.nonlinearity(embedding))[:, :, None, None]
    hidden = resnet.conv2(resnet.dropout(resnet.nonlinearity(resnet.norm2(hidden))))
    if resnet.conv_shortcut is not None:
        sample = resnet.conv_shortcut(sample.contiguous() if resnet.training else sample)
    merged: Tensor = (sample + hidden) / resnet.output_scale_factor
    return merged
