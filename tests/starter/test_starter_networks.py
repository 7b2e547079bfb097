import torch

from controlnext.starter.train.base import Diffusion
from controlnext.starter.train.networks import make_scheduler


def test_schedule_ends_in_pure_noise():
    assert make_scheduler().alphas_cumprod[-1] < 1e-6


def test_targets_are_what_the_scheduler_inverts():
    torch.manual_seed(0)
    latents = torch.randn(5, 4, 8, 8)
    diffusion = Diffusion()
    noisy, t, target = diffusion.noised(latents)
    a, b = diffusion.signal[t].view(-1, 1, 1, 1), diffusion.noise[t].view(-1, 1, 1, 1)
    torch.testing.assert_close(a * noisy - b * target, latents, rtol=1e-4, atol=1e-4)
