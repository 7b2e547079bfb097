"""Words of single people: cross-attention that reads other words in an area.

A processor is put around each one that the UNet has, stock diffusers' own or another's such as an IP-Adapter's. It asks that
one for the whole picture, and again for each area with its words, and mixes the answers by the masks. Self-attention, and so
the picture's unity, is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

if TYPE_CHECKING:
    from diffusers.models.attention_processor import Attention


@dataclass(frozen=True)
class WordArea:
    """Where some words are read.

    Attributes:
        mask: (h, w) in [0, 1].
        words: (1, tokens, width), encoded.
    """

    mask: np.ndarray
    words: Tensor


class AreaAttention:
    """Cross-attention with words by area; see the module."""

    def __init__(self, inner: Callable[..., Tensor], areas: Sequence[WordArea], guided: bool) -> None:
        """Wrap a processor.

        Args:
            inner: the processor that was there.
            areas: masks of one shape, that of the picture.
            guided: whether the first half of a batch is unconditional; it keeps its words.
        """
        self.inner, self.areas, self.guided = inner, areas, guided
        self._masks: dict[tuple[int, torch.device, torch.dtype], list[Tensor]] = {}

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Attend; arguments as of a diffusers processor, the hidden states `(N, tokens, C)`."""
        whole: Tensor = self.inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        if encoder_hidden_states is None or hidden_states.ndim != 3:
            return whole
        start = len(hidden_states) // 2 if self.guided else 0
        base, asked = whole[start:], hidden_states[start:]
        mixed = base
        for mask, area in zip(self._masks_for(asked), self.areas, strict=True):
            words = area.words.to(asked).expand(len(asked), -1, -1)
            if isinstance(encoder_hidden_states, tuple):  # of an IP-Adapter: words, and features of pictures
                features = [one[start:] for one in encoder_hidden_states[1]]
                given: Any = (words, features)
            else:
                given = words
            own = self.inner(attn, asked, given, *args, **kwargs)
            mixed = mixed + mask * (own - base)
        return torch.cat([whole[:start], mixed])

    def _masks_for(self, hidden: Tensor) -> list[Tensor]:
        """Return the masks on the tokens of a layer, `(1, tokens, 1)`."""
        key = hidden.shape[1], hidden.device, hidden.dtype
        if key not in self._masks:
            height, width = self.areas[0].mask.shape
            rows = round((key[0] * height / width) ** 0.5)
            size = next(
                (row, key[0] // row) for gap in range(key[0]) for row in (rows + gap, rows - gap) if row > 0 and key[0] % row == 0
            )  # fmt: skip
            self._masks[key] = [
                adaptive_avg_pool2d(torch.from_numpy(area.mask)[None, None], size).reshape(1, -1, 1).to(hidden)
                for area in self.areas
            ]
        return self._masks[key]


@contextmanager
def words_by_area(unet: nn.Module, areas: Sequence[WordArea], *, guided: bool) -> Iterator[None]:
    """Let a UNet read words by area, and put its own processors back at the end.

    Args:
        unet: of diffusers.
        areas: none changes nothing.
        guided: whether it runs on an unconditional half first.
    """
    if not areas:
        yield
        return
    layers = [layer for name, layer in unet.named_modules() if name.endswith("attn2")]
    kept = [layer.processor for layer in layers]
    try:
        for layer, processor in zip(layers, kept, strict=True):
            layer.set_processor(AreaAttention(processor, areas, guided))
        yield
    finally:
        for layer, processor in zip(layers, kept, strict=True):
            layer.set_processor(processor)
