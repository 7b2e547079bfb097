import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from controlnext.engine.preview import CleanEstimate, LatentPreview, colour_charts

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


class LinearVae:
    """An autoencoder whose latents are a linear code of the colour, so that the fit must be exact."""

    device, dtype = torch.device("cpu"), torch.float32

    class config:
        scaling_factor, shift_factor = 0.18215, None

    code = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))

    def encode(self, pictures):
        small = torch.nn.functional.adaptive_avg_pool2d(pictures, 16)
        latents = torch.einsum("kc,bchw->bkhw", self.code, small) + 0.3
        distribution = type("D", (), {"mode": lambda _: latents})
        return type("E", (), {"latent_dist": distribution()})


def test_preview_recovers_the_colours_of_a_linear_code():
    vae = LinearVae()
    preview = LatentPreview.fit(vae)
    picture = colour_charts()[5:6]
    latents = vae.encode(picture * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    drawn = np.asarray(preview.draw(latents, 16, 16), dtype=float) / 255
    expected = torch.nn.functional.adaptive_avg_pool2d(picture, 16)[0].movedim(0, -1).numpy()
    assert np.abs(drawn - expected).max() < 0.01


def test_preview_of_a_real_autoencoder_shows_the_batch_side_by_side():
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        norm_num_groups=2,
    )
    preview = LatentPreview.fit(vae)
    assert preview.matrix.shape == (5, 3)
    assert torch.equal(preview.matrix, LatentPreview.fit(vae).matrix)
    assert preview.draw(torch.randn(1, 4, 6, 8), 64, 48).size == (64, 48)
    assert preview.draw(torch.randn(7, 4, 6, 8), 64, 48).size == (256, 48)
    assert preview.draw(torch.full((1, 4, 6, 8), torch.nan), 64, 48) is None


def states(scheduler, clean, steps=10):
    """Run a scheduler against the perfect denoiser of one clean picture; yield the estimate after each step."""
    scheduler.set_timesteps(steps)
    latents = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    estimate = CleanEstimate(scheduler)
    for index, time in enumerate(scheduler.timesteps):
        if scheduler.init_noise_sigma == 1:
            alpha = scheduler.alphas_cumprod[time]
            noise = (latents - alpha**0.5 * clean) / (1 - alpha) ** 0.5
        else:
            noise = (latents - clean) / scheduler.sigmas[index]
        scheduler.scale_model_input(latents, time)
        latents = scheduler.step(noise, time, latents).prev_sample
        yield estimate(index, latents), latents


@pytest.mark.parametrize(
    ("scheduler", "tolerance"),
    [
        (DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **BETAS), 1e-3),
        (EulerDiscreteScheduler(**BETAS), 1e-3),
        (UniPCMultistepScheduler(**BETAS), 0.05),
        (DPMSolverMultistepScheduler(**BETAS), 0.05),
    ],
)
def test_estimate_sees_the_clean_picture_from_the_second_step_on(scheduler, tolerance):
    clean = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    for index, (estimate, latents) in enumerate(states(scheduler, clean)):
        if 0 < index < 9:
            assert (estimate - clean).abs().max() < tolerance, index
            assert (latents - clean).abs().max() > tolerance
    assert (estimate - clean).abs().max() < 0.3


def test_estimate_stays_of_unit_size_with_fresh_noise():
    clean = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    for estimate, _ in states(EulerAncestralDiscreteScheduler(**BETAS), clean):
        assert 0.3 < estimate.std() < 3
