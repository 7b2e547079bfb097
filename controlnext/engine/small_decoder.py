"""A small decoder of latents, for pictures that are looked at and not kept: live pictures, and previews of steps.

It is the beginning of an autoencoder's own decoder, which works at 1/8 of the picture's size and stays as it is, and a short trained
tail in place of the rest, which takes most of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from controlnext.models.presets import Preset


class DecoderTail(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """From features at 1/4 of the picture's size to the picture.

    Two residual blocks as the large decoder has them, a step to 1/2, one narrow residual block, and 2 x 2 pixels of each place.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, inputs: int = 128, inner: int = 96, width: int = 32, groups: int = 16) -> None:
        """Build the layers with random weights.

        Args:
            inputs: channels of the features.
            inner: channels of the residual blocks at 1/4 of the size.
            width: channels of the layers at 1/2 of the size.
            groups: of the normalisation of the residual blocks.
        """
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock2D(in_channels=channels, out_channels=inner, temb_channels=None, groups=groups, eps=1e-6)
            for channels in (inputs, inner)
        )
        self.enter = nn.Conv2d(inner, 4 * width, 3, padding=1)
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.leave = nn.Conv2d(width, 12, 3, padding=1)
        self.larger = nn.PixelShuffle(2)

    @classmethod
    def of(cls, vae: AutoencoderKL) -> DecoderTail:
        """Return a tail that begins with the residual blocks of an autoencoder's own decoder."""
        theirs = vae.decoder.up_blocks[1].resnets
        tail = cls(theirs[0].in_channels, theirs[0].out_channels, groups=vae.config.norm_num_groups)
        tail.resnets.load_state_dict(theirs.state_dict())
        return tail

    def forward(self, features: Tensor) -> Tensor:
        """Draw features (B, C, h, w) as RGB (B, 3, 4 h, 4 w) in about [-1, 1]."""
        found = features
        for part in self.resnets:
            found = part(found, None)
        found = self.larger(self.enter(found))
        found = found + self.second(self.first(found.relu()).relu())
        made: Tensor = self.larger(self.leave(found.relu()))
        return made


class SmallDecoder(nn.Module):
    """Takes the place of an autoencoder's decoder."""

    def __init__(self, vae: AutoencoderKL, tail: DecoderTail) -> None:
        """Share the beginning of a decoder; nothing is copied.

        Args:
            vae: whose decoder has four sizes.
            tail: trained for it.
        """
        super().__init__()
        decoder = vae.decoder
        self.conv_in, self.mid_block, self.up_block = decoder.conv_in, decoder.mid_block, decoder.up_blocks[0]
        self.tail = tail

    def features(self, latents: Tensor) -> Tensor:
        """Return what the tail draws, (B, C, 2 h, 2 w), of latents (B, 4, h, w) as the decoder takes them."""
        made: Tensor = self.up_block(self.mid_block(self.conv_in(latents)))
        return made

    def forward(self, latents: Tensor, latent_embeds: None = None) -> Tensor:
        """Decode (B, 4, h, w) to RGB (B, 3, 8 h, 8 w) in about [-1, 1]."""
        made: Tensor = self.tail(self.features(latents))
        return made


def small_decoder(preset: Preset, vae: AutoencoderKL) -> SmallDecoder | None:
    """Return the small decoder of a model, with weights like those of its autoencoder; None where it has none, or is not on the CPU.

    Args:
        preset: of the model.
        vae: its loaded autoencoder.
    """
    if preset.small_decoder is None or vae.device.type != "cpu":
        return None
    tail = DecoderTail.from_pretrained(preset.resolve_path(preset.small_decoder), dtype=vae.dtype)
    return SmallDecoder(vae, tail.eval())
