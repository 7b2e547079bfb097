"""The video starter's networks: Stable Video Diffusion's own classes at the image starter's widths, initialised from its weights."""

import re
from collections.abc import Mapping

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from torch import Tensor
from torch.nn import functional
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from controlnext.starter.train.networks import TEXT_WIDTH
from controlnext.starter.world.motion import CLIP_SIZE

WINDOW = 8  # frames the UNet sees at once
_WIDTHS = (64, 128, 128)
_HEADS = (2, 4, 4)
_LATENT_SIZE = CLIP_SIZE // 8
_VISION_SIZE = 224  # the pipeline's fixed size of the picture that the image encoder reads


def make_frame_unet() -> UNet2DConditionModel:
    """Return the untrained spatial half of the video UNet: input (B, 8, h, w), noise and reference latents."""
    return UNet2DConditionModel(
        sample_size=_LATENT_SIZE,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=_WIDTHS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=_HEADS,
        norm_num_groups=32,
        use_linear_projection=True,
    )


def make_video_unet() -> UNetSpatioTemporalConditionModel:
    """Return the untrained video UNet; attention at half resolution and in the middle."""
    return UNetSpatioTemporalConditionModel(
        sample_size=_LATENT_SIZE,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        block_out_channels=_WIDTHS,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        transformer_layers_per_block=1,
        num_attention_heads=_HEADS,
        num_frames=WINDOW,
    )


def make_image_encoder() -> CLIPVisionModelWithProjection:
    """Return the untrained image encoder: (B, 3, 224, 224) to (B, 128) embeddings."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=96,
            intermediate_size=192,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=_VISION_SIZE,
            patch_size=16,
        )
    )


def make_feature_extractor() -> CLIPImageProcessor:
    """Return what the pipeline normalises pictures with: from [0, 1] to [-1, 1], no resizing."""
    return CLIPImageProcessor(
        image_mean=[0.5] * 3, image_std=[0.5] * 3, do_resize=False, do_center_crop=False, size=_VISION_SIZE
    )


def as_vision_input(pixels: Tensor) -> Tensor:
    """Resize (B, 3, H, W) pictures in [-1, 1] to what the image encoder reads."""
    return functional.interpolate(pixels, (_VISION_SIZE, _VISION_SIZE), mode="bilinear", antialias=True)


def make_video_scheduler() -> EulerDiscreteScheduler:
    """Return the image starter's noise schedule for an Euler sampler: v-prediction, zero terminal SNR."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        timestep_type="discrete",
    )


def start_frame_unet(unet: UNet2DConditionModel, base: Mapping[str, Tensor]) -> None:
    """Copy the image starter's UNet weights into the frame UNet where they share names; the reference's channels start at zero."""
    for name, value in unet.state_dict().items():
        if name in base:
            source = base[name]
            if name == "conv_in.weight":
                value.zero_()[:, : source.shape[1]] = source
            else:
                value.copy_(source.reshape(value.shape))


def start_video_unet(unet: UNetSpatioTemporalConditionModel, frames: UNet2DConditionModel) -> None:
    """Give the video UNet a frame UNet's weights and make every temporal layer the identity.

    The new UNet then computes for each frame what the frame UNet does, and training adds the time.
    """
    weights = unet.state_dict()
    for name, value in frames.state_dict().items():
        weights[re.sub(r"(resnets\.\d+)\.", r"\1.spatial_res_block.", name)].copy_(value)
    last = r"(temporal_res_block\.conv2|time_pos_embed\.linear_2|add_embedding\.linear_2)"
    last += r"|temporal_transformer_blocks\.0\.(ff_in\.net\.2|ff\.net\.2|attn\d\.to_out\.0)"
    for name, value in weights.items():
        if re.search(rf"({last})\.(weight|bias)$", name):
            value.zero_()


def make_video_vae(base: AutoencoderKL) -> tuple[AutoencoderKLTemporalDecoder, dict[str, Tensor]]:
    """Return an autoencoder with a decoder over time, begun from the image starter's; each frame starts on its own.

    Its normalisations have 32 groups. One channel a group would take the mean of every channel, and with it a picture's
    colour, so it is twice as wide as the image starter's where that one has 32 channels. Blocks that widen there have no
    convolution next to them then; the layer before does what it did, its outputs turned.

    Args:
        base: The image starter's autoencoder.

    Returns:
        The autoencoder, which needs `refit` before it is any good, and the matrices by which the outputs of two of its
        layers are turned, by their names in encoder or decoder.
    """
    config = base.config
    widths = (2 * config.block_out_channels[0], *config.block_out_channels[1:])
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=widths,
        layers_per_block=config.layers_per_block,
        down_block_types=config.down_block_types,
        latent_channels=config.latent_channels,
        sample_size=CLIP_SIZE,
        scaling_factor=config.scaling_factor,
        force_upcast=False,
    )
    own, weights = dict(base.state_dict()), vae.state_dict()
    # There is no convolution before the temporal decoder: its first one takes it in.
    before, first = base.post_quant_conv, own["decoder.conv_in.weight"]
    own["decoder.conv_in.bias"] = own["decoder.conv_in.bias"] + torch.einsum("oihw,i->o", first, before.bias.detach())
    own["decoder.conv_in.weight"] = torch.einsum("oihw,ij->ojhw", first, before.weight.detach()[..., 0, 0])
    down = own["encoder.down_blocks.1.resnets.0.conv_shortcut.weight"][..., 0, 0]
    up = own["decoder.up_blocks.3.resnets.0.conv_shortcut.weight"][..., 0, 0]
    rest = torch.linalg.svd(up).Vh[len(up) :]  # channels that the convolution of the last block does not use
    turned = {"down_blocks.0.downsamplers.0.conv": down, "up_blocks.2.upsamplers.0.conv": torch.cat([up, rest])}
    for name, matrix in turned.items():
        half = "encoder" if name.startswith("down") else "decoder"
        for kind in ("weight", "bias"):
            own[f"{half}.{name}.{kind}"] = torch.einsum("ck,k...->c...", matrix, own[f"{half}.{name}.{kind}"])
    for name, value in weights.items():
        source = own.get(name, own.get(name.replace("spatial_res_block.", "")))
        if source is not None:
            if value.dim() > 1 and value.shape[1] > source.shape[1]:
                value[: source.shape[0], source.shape[1] :] = 0  # new channels do not disturb the old ones
            value[tuple(slice(size) for size in source.shape)] = source[tuple(slice(size) for size in value.shape)]
        elif name.endswith(("temporal_res_block.conv2.weight", "temporal_res_block.conv2.bias", "time_conv_out.bias")):
            value.zero_()
    weights["decoder.time_conv_out.weight"].zero_()[:, :, 1, 0, 0] = torch.eye(3)
    return vae, turned
