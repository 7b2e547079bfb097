import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler

from controlnext.training.config import TrainingError
from controlnext.training.losses import ContinuousProcess, DiscreteProcess, Noised, weighted_error

SHARES = torch.tensor([0.0, 0.25, 0.6, 0.999])


def draws():
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(4, 4, 6, 5, generator=generator) for _ in range(2))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_noise_and_target_equal_the_schedulers_own(kind):
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", prediction_type=kind)
    latents, noise = draws()
    noised = DiscreteProcess(scheduler).noised(latents, noise, SHARES)
    assert noised.timestep.tolist() == [0, 250, 600, 999]
    torch.testing.assert_close(noised.sample, scheduler.add_noise(latents, noise, noised.timestep))
    expected = {
        "epsilon": noise,
        "sample": latents,
        "v_prediction": scheduler.get_velocity(latents, noise, noised.timestep),
    }
    torch.testing.assert_close(noised.target, expected[kind])
    assert noised.weight.tolist() == [1.0] * 4


def test_late_timesteps_have_the_density_2t():
    process = DiscreteProcess(DDIMScheduler(), late=True)
    shares = torch.linspace(0, 1, 10_001)[:-1]
    timesteps = process.noised(torch.zeros(10_000, 1), torch.zeros(10_000, 1), shares).timestep.float()
    assert timesteps.mean() == pytest.approx(1000 * 2 / 3, abs=2)
    assert (timesteps < 500).float().mean() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(("kind", "more"), [("epsilon", 0), ("v_prediction", 1)])
def test_min_snr_weights_as_its_paper(kind, more):
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", prediction_type=kind)
    latents, noise = draws()
    noised = DiscreteProcess(scheduler, min_snr=5.0).noised(latents, noise, SHARES)
    alphas = scheduler.alphas_cumprod[noised.timestep].double()
    snr = alphas / (1 - alphas)
    torch.testing.assert_close(noised.weight.double(), snr.clamp(max=5.0) / (snr + more), rtol=1e-4, atol=1e-6)


def test_zero_terminal_snr_stays_finite():
    scheduler = DDIMScheduler(
        rescale_betas_zero_snr=True, beta_schedule="scaled_linear", prediction_type="v_prediction"
    )
    latents, noise = draws()
    noised = DiscreteProcess(scheduler, min_snr=5.0).noised(latents, noise, torch.full((4,), 0.9999))
    assert noised.timestep.tolist() == [999] * 4
    assert all(torch.isfinite(value).all() for value in (noised.sample, noised.target, noised.weight))


def test_unknown_prediction_is_refused():
    scheduler = EulerDiscreteScheduler(prediction_type="flow")
    with pytest.raises(TrainingError, match="predicts 'flow'"):
        DiscreteProcess(scheduler)


def test_continuous_error_is_the_weighted_error_of_the_denoised_latents():
    latents, noise = draws()
    process = ContinuousProcess()
    noised = process.noised(latents, noise, SHARES)
    predicted = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3)).double()
    sigma = torch.exp(4 * noised.timestep.double()).view(-1, 1, 1, 1)
    noisy = latents + sigma * noise
    denoised = noisy / (sigma**2 + 1) - sigma / (sigma**2 + 1).sqrt() * predicted
    expected = ((1 + sigma**2) / sigma**2 * (denoised - latents) ** 2).mean()
    # Rows of tiny and of huge sigma lose digits in float32.
    assert weighted_error(predicted, noised).item() == pytest.approx(expected.item(), rel=2e-3)
    torch.testing.assert_close(noised.sample.double(), noisy / (sigma**2 + 1).sqrt(), rtol=1e-5, atol=1e-5)


def test_sigmas_span_the_authors_range_and_fall():
    sigma = ContinuousProcess().sigmas(torch.linspace(0, 1, 101))
    assert sigma[0].item() == pytest.approx(700, rel=1e-3)
    assert sigma[-1].item() == pytest.approx(0.002, rel=1e-2)
    assert (np.diff(sigma.numpy()) < 0).all()


def test_weighted_error_weighs_samples_and_cells():
    target = torch.zeros(2, 4, 2, 2)
    predicted = torch.ones(2, 4, 2, 2)
    noised = Noised(target, torch.zeros(2), target, torch.tensor([1.0, 3.0]))
    assert weighted_error(predicted, noised).item() == pytest.approx(2.0)
    cells = torch.zeros(2, 1, 2, 2)
    cells[:, :, 0, 0] = 4
    assert weighted_error(predicted, noised, cells).item() == pytest.approx(2.0)
    cells[1] = 0
    assert weighted_error(predicted, noised, cells).item() == pytest.approx(0.5)
