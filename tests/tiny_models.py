"""Small random models of the real diffusers and transformers classes."""

from dataclasses import dataclass, replace

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from controlnext import VARIANTS, ControlNeXtModel

TEXT_WIDTH = 16
VIDEO_WIDTH = 32


def make_unet(**changes) -> UNet2DConditionModel:
    torch.manual_seed(0)
    config = {
        "sample_size": 8,
        "block_out_channels": (16, 32, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**config, **changes}).eval()


def make_video_unet() -> UNetSpatioTemporalConditionModel:
    torch.manual_seed(0)
    return UNetSpatioTemporalConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=VIDEO_WIDTH,
        num_attention_heads=2,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    ).eval()


def make_module(variant: str, out_channels: int) -> ControlNeXtModel:
    """A module with a variant's structure at a few channels, its norms and scale moved off their neutral start."""
    layout = VARIANTS[variant].layout
    torch.manual_seed(1)
    module = ControlNeXtModel.from_variant(
        variant,
        time_proj_dim=8,
        time_embed_dim=16,
        stem_channels=(4, 4, 8) if layout.stem_channels else (),
        stage_channels=(8, 16, 16)[: len(layout.stage_channels)],
        out_channels=out_channels,
    )
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.add_(0.2 * torch.randn_like(parameter))
        if layout.learned_scale:
            module.scale.fill_(0.7)
    return module.eval()


class Counter:
    """Counts the forwards of a module."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.count = 0
        module.register_forward_hook(self._add)

    def _add(self, *_) -> None:
        self.count += 1


@dataclass(frozen=True)
class Case:
    """One variant on a tiny UNet that fits it, with inputs for a guided batch of two conditions."""

    variant: str
    unet: torch.nn.Module
    module: ControlNeXtModel
    condition: torch.Tensor
    sample: torch.Tensor
    others: dict

    def run(self, timestep=11, unet=None, **changes) -> torch.Tensor:
        case = replace(self, **changes)
        unet = case.unet if unet is None else unet
        with torch.no_grad():
            return unet(case.sample, timestep, **case.others).sample


CHANNELS = {"sd15": 32, "sd15-train": 16, "sdxl": 16, "svd-v1": 64, "svd-v2": 32, "starter": 16, "starter-video": 32}


def make_case(variant: str, batch: int = 4, conditions: int = 2, frames: int = 3) -> Case:
    module = make_module(variant, CHANNELS[variant])
    generator = torch.Generator().manual_seed(2)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    if variant.startswith("svd") or variant.endswith("video"):
        condition = torch.rand(conditions, frames, 3, 96, 80, generator=generator)
        others = {"encoder_hidden_states": random(batch, 1, VIDEO_WIDTH), "added_time_ids": random(batch, 3)}
        return Case(variant, make_video_unet(), module, condition, random(batch, frames, 8, 8, 12), others)
    condition = torch.rand(conditions, 3, 64, 96, generator=generator)
    others = {"encoder_hidden_states": random(batch, 5, TEXT_WIDTH)}
    return Case(variant, make_unet(), module, condition, random(batch, 4, 8, 12), others)


def make_tokenizer() -> CLIPTokenizer:
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=8, pad_token="<|endoftext|>")


def make_text_encoder(width: int = TEXT_WIDTH, kind: type = CLIPTextModel) -> CLIPTextModel:
    torch.manual_seed(3)
    config = CLIPTextConfig(
        vocab_size=190,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return kind(config).eval()


def _vae_config() -> dict:
    return {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "block_out_channels": (8,) * 4,
        "layers_per_block": 1,
        "latent_channels": 4,
        "sample_size": 64,
    }


def make_small_vae() -> AutoencoderKL:
    """An autoencoder of the usual layout, an eighth of a picture's size, that encodes in no time."""
    return AutoencoderKL(up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4, **_vae_config()).eval()


def sd_components() -> dict:
    """Components of a Stable Diffusion 1.5 pipeline that makes 64 x 64 pictures."""
    torch.manual_seed(4)
    return {
        "vae": make_small_vae(),
        "text_encoder": make_text_encoder(),
        "tokenizer": make_tokenizer(),
        "unet": make_unet(),
        "scheduler": DDIMScheduler(clip_sample=False, beta_schedule="scaled_linear"),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def sdxl_components() -> dict:
    """Components of a Stable Diffusion XL pipeline that makes 64 x 64 pictures."""
    components = sd_components()
    for name in ("safety_checker", "requires_safety_checker"):
        del components[name]
    unet = make_unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * TEXT_WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + TEXT_WIDTH,
    )
    return components | {
        "unet": unet,
        "text_encoder_2": make_text_encoder(kind=CLIPTextModelWithProjection),
        "tokenizer_2": make_tokenizer(),
    }


def svd_components() -> dict:
    """Components of a Stable Video Diffusion pipeline that makes 64 x 64 frames."""
    torch.manual_seed(5)
    vision = CLIPVisionConfig(
        hidden_size=VIDEO_WIDTH,
        projection_dim=VIDEO_WIDTH,
        intermediate_size=VIDEO_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=224,
        patch_size=32,
    )
    return {
        "vae": AutoencoderKLTemporalDecoder(**{**_vae_config(), "block_out_channels": (32,) * 4}).eval(),
        "image_encoder": CLIPVisionModelWithProjection(vision).eval(),
        "unet": make_video_unet(),
        "scheduler": EulerDiscreteScheduler(use_karras_sigmas=True, prediction_type="v_prediction"),
        "feature_extractor": CLIPImageProcessor(crop_size=224, size=224),
    }
