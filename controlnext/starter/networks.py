"""The starter's networks as rows of real diffusers and transformers configurations, and what makes them train on a CPU."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from controlnext.starter.captions import MAX_TOKENS

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
    """Return the noise schedule: v-prediction and zero terminal SNR, so that a sky can be as dark or bright as asked."""
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


def _total(x: Tensor) -> Tensor:
    """Sum (n, c, ...) over all but n and c, float32; a product with ones reads bfloat16 six times as fast as a sum."""
    if x.dtype != torch.bfloat16 or x.dim() != 4:
        return x.sum(tuple(range(2, x.dim())), dtype=torch.float32)
    cells = x.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.bmm(x.new_ones(1, 1, 1).expand(len(x), 1, cells.shape[1]), cells).squeeze(1).float()


class _GroupNormFunction(torch.autograd.Function):
    """Torch's group normalisation with a backward by sums: torch's own is slow on channels-last CPU tensors."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:  # noqa: ANN001
        n, c = x.shape[:2]
        y, mean, rstd = torch.native_group_norm(x, weight, bias, n, c, x[0, 0].numel(), groups, eps)
        ctx.save_for_backward(x, weight, mean.float(), rstd.float())
        ctx.groups = groups
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN001
        x, weight, mean, rstd = ctx.saved_tensors
        groups = ctx.groups
        n, c = x.shape[:2]
        count = x[0, 0].numel() * (c // groups)
        shape = (n, c) + (1,) * (x.dim() - 2)
        ds, db = _total(grad * x).view(n, groups, -1), _total(grad).view(n, groups, -1)
        w = weight.float().view(1, groups, -1)
        ds_group, db_group = (ds * w).sum(-1), (db * w).sum(-1)
        c2 = (db_group * mean - ds_group) * rstd**3 / count
        c3 = -c2 * mean - db_group * rstd / count
        spread = lambda t: t[..., None].expand(n, groups, c // groups).reshape(shape).to(x.dtype)  # noqa: E731
        dx = torch.addcmul(spread(c3), grad, (rstd[..., None] * w).reshape(shape).to(x.dtype))
        dx = torch.addcmul(dx, x, spread(c2))
        dw = ((ds - db * mean[..., None]) * rstd[..., None]).sum(0).reshape(-1)
        return dx, dw.to(weight.dtype), db.sum(0).reshape(-1).to(weight.dtype), None, None


class _QuickGroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return _GroupNormFunction.apply(x, self.weight, self.bias, self.num_groups, self.eps)


def quicken(model: nn.Module) -> nn.Module:
    """Swap in the CPU's quick group norm and the plain attention, whose backward is quicker in bfloat16; same results.

    Only for training on a CPU: the weights and their names stay as they are.
    """
    for module in model.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = _QuickGroupNorm
    if hasattr(model, "set_attn_processor"):
        model.set_attn_processor(AttnProcessor())
    return model.to(memory_format=torch.channels_last)
