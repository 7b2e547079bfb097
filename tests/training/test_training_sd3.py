"""A whole training on a tiny random Stable Diffusion 3: report, adapter, preset, and a picture that the adapter steers."""

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from PIL import Image
from test_training_families import finished
from tiny_models import TEXT_WIDTH, make_text_encoder, make_tokenizer
from transformers import CLIPTextModelWithProjection

from controlnext import StableDiffusion3ControlNeXtPipeline
from controlnext.training.data.encoders import PictureEncoder


def save_sd3(folder):
    torch.manual_seed(0)
    width = 2 * TEXT_WIDTH
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=32, joint_attention_dim=width, pooled_projection_dim=width, out_channels=4, pos_embed_max_size=8,
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(4,) * 4,
        norm_num_groups=2, latent_channels=4, shift_factor=0.5, scaling_factor=2.0,
    )  # fmt: skip
    texts = [make_text_encoder(kind=CLIPTextModelWithProjection) for _ in range(2)]
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae, text_encoder=texts[0],
        tokenizer=make_tokenizer(), text_encoder_2=texts[1], tokenizer_2=make_tokenizer(), text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return pipeline


def test_sd3_learns_and_draws(tmp_path):
    pipeline = save_sd3(tmp_path / "base")
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    encoder = PictureEncoder(pipeline, torch.device("cpu"))
    mean = pipeline.vae.encode(torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1).latent_dist.mean
    assert torch.allclose(encoder.latents([picture]).float(), (mean - 0.5) * 2.0, atol=1e-2)
    states = encoder.states(["a", "b c"])
    assert {name: value.shape[-1] for name, value in states[1].items()} == {
        "encoder_hidden_states": 2 * TEXT_WIDTH, "pooled_projections": 2 * TEXT_WIDTH,
    }  # fmt: skip

    (tmp_path / "photos").mkdir()
    for number in range(6):
        pixels = np.full((64, 64, 3), 30, np.uint8)
        pixels[10:40, 10 : 40 + 2 * number] = 200
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    _, adapter = finished(
        tmp_path,
        family="sd3",
        condition="canny",
        data={"folder": str(tmp_path / "photos"), "width": 64, "height": 64},
        validation={"every": 2, "rows": 1, "steps": 2},
    )
    assert adapter.variant.name == "sd3"
    assert adapter.module.config.out_channels == 32
    assert all(".attn.to_out." in name for name in adapter.unet_weights)
    pipe = StableDiffusion3ControlNeXtPipeline.from_pretrained(
        tmp_path / "base", text_encoder_3=None, tokenizer_3=None
    )
    pipe.load_controlnext(adapter)
    options = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "np"}
    pair = [
        pipe("a", generator=torch.Generator().manual_seed(0), **options, **more).images
        for more in ({}, {"control_image": picture, "gamma": 1.0})
    ]
    assert not np.allclose(*pair)
