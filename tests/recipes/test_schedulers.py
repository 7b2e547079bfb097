"""Every sampler on the noise schedule that is hardest on samplers: v-prediction with zero terminal SNR, as the starter's."""

import json
import shutil

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from controlnext.assets import PRESETS
from controlnext.engine.preview import CleanEstimate
from controlnext.recipes.schedulers import SCHEDULERS
from controlnext.studio.studio import Studio

STARTER = PRESETS.parent / "assets" / "starter" / "base" / "scheduler" / "scheduler_config.json"


@pytest.fixture(scope="module")
def studio(models):
    shutil.copy(STARTER, models / "base" / "scheduler" / "scheduler_config.json")
    return Studio(output_dir=models / "out", presets_dir=models, device="cpu", threads=1)


def test_the_starter_has_zero_terminal_snr():
    config = json.loads(STARTER.read_text())
    assert config["prediction_type"] == "v_prediction"
    assert config["rescale_betas_zero_snr"]


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 4])
def test_every_sampler_makes_finite_pictures(studio, name, steps):
    recipe = studio.catalogue.resolve(
        "starter", "canny", prompt="x", seed=1, num_inference_steps=steps, scheduler=name
    )
    previews = []
    condition = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    result = studio.generate(recipe, condition, on_progress=lambda p: previews.append(p.preview) if p.step else None)
    assert len(previews) == steps
    assert np.asarray(result.images[0]).std() > 0
    scheduler = studio._engine.pipeline.scheduler
    assert type(scheduler).__name__ == SCHEDULERS[name].kind
    assert {key: scheduler.config[key] for key in SCHEDULERS[name].overrides} == SCHEDULERS[name].overrides
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.rescale_betas_zero_snr


def test_samplers_differ(studio):
    made = {}
    for name in (None, *SCHEDULERS):
        recipe = studio.catalogue.resolve("starter", prompt="x", seed=1, num_inference_steps=6, scheduler=name)
        made[name] = np.asarray(studio.generate(recipe, None).images[0])
    own = made.pop(None)  # of this base: DDIM with trailing steps
    assert np.array_equal(own, made.pop("ddim_trailing"))
    assert np.array_equal(own, made["ddim"])
    names = list(made)
    assert not any(np.array_equal(made[a], made[b]) for i, a in enumerate(names) for b in names[:i])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_sampler_finds_the_picture_of_a_perfect_denoiser(name):
    """With the true velocity as its prediction a sampler arrives at the clean picture; so does the preview on the way."""
    row = SCHEDULERS[name]
    scheduler = getattr(diffusers, row.kind).from_config(json.loads(STARTER.read_text()), **row.overrides)
    steps = 20
    scheduler.set_timesteps(steps)
    clean = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(clean.shape, generator=generator) * scheduler.init_noise_sigma
    estimate = CleanEstimate(scheduler)
    for index, time in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, time)
        alpha, sigma = amounts(scheduler, index)
        noise = (scaled - alpha * clean) / max(sigma, 1e-6)
        options = {"generator": generator} if row.fresh_noise or "Euler" in row.kind else {}
        latents = scheduler.step(alpha * noise - sigma * clean, time, latents, **options).prev_sample
        looked = estimate(index, latents)
        assert torch.isfinite(looked).all()
    assert (latents - clean).abs().max() < 0.05
    assert (looked - clean).abs().max() < 0.1


def amounts(scheduler, index):
    """How much picture and noise a sampler's scaled latents hold before a step."""
    if hasattr(scheduler, "sigmas"):
        sigma = float(scheduler.sigmas[index])
        return 1 / (sigma**2 + 1) ** 0.5, sigma / (sigma**2 + 1) ** 0.5
    alpha = float(scheduler.alphas_cumprod[scheduler.timesteps[index]])
    return alpha**0.5, (1 - alpha) ** 0.5
