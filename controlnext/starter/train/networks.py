"""The starter's networks as rows of real diffusers and transformers configurations."""

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from controlnext.starter.world.captions import MAX_TOKENS

TEXT_WIDTH = 128
LATENT_SIZE = 32


def make_vae() -> AutoencoderKL:
    """Return the untrained autoencoder: 256 px RGB to 4 x 32 x 32 latents."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 96, 128),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=256,
    )


def make_unet() -> UNet2DConditionModel:
    """Return the untrained UNet; no attention at its top resolution."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(2, 4, 4),
        norm_num_groups=16,
    )


def make_text_encoder(vocabulary_size: int, end_token: int, start_token: int) -> CLIPTextModel:
    """Return the untrained text encoder for a vocabulary of `vocabulary_size` tokens."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=start_token,
            eos_token_id=end_token,
            pad_token_id=end_token,
        )
    )


def make_scheduler() -> DDIMScheduler:
    """Return the noise schedule: v-prediction and zero terminal SNR, so that a sky can be as dark or as bright as the prompt says."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=True,
    )
