"""A run of the convergence bench on a tiny base: the same trial gives the same curve, and leaves the base alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import TEXT_WIDTH, make_unet

from controlnext.bench.command import BenchError
from controlnext.bench.convergence import trials
from controlnext.bench.convergence.trials import Budget, Scenery, Scenes, Trial, TrialSetup
from controlnext.bench.convergence.ways import WAYS
from controlnext.starter.train.dataset import SceneSample, make_samples
from controlnext.starter.train.networks import make_scheduler
from controlnext.training.losses import DiscreteProcess

SHAPE = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}
BUDGET = Budget(steps=4, batch=2, warm_up=2, scenery=Scenery(4, 1, 2), points=(0, 0.5, 1))


def encode_text(captions):
    lengths = torch.tensor([len(caption) for caption in captions], dtype=torch.float32)
    return {"encoder_hidden_states": (lengths / 100).view(-1, 1, 1).expand(-1, 3, TEXT_WIDTH)}


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    found = [sample for seed in (5, 6) for sample in make_samples(seed, 2)]
    return [replace(sample, latent=rng.normal(size=(4, 32, 32)).astype(np.float16)) for sample in found]


@pytest.fixture
def setup(samples, monkeypatch):
    made = TrialSetup.__new__(TrialSetup)
    made.kind, made.scenery, made.unet = "pose", BUDGET.scenery, make_unet(**SHAPE).requires_grad_(False)
    made.process = DiscreteProcess(make_scheduler(), late=True)
    made.data = Scenes(samples, "pose", encode_text)
    made.measured = []

    def measure(method):
        made.measured.append(
            sum(value.abs().sum().item() for group in method.groups() for value in group.parameters.values())
        )
        return {"adherence": 0.5, "loss": 0.1}

    made.measure = measure
    return made


def trial(way="recommended", seed=0, rate=1e-3, budget=BUDGET):
    return Trial(WAYS[way], "pose", seed, rate, budget)


@pytest.mark.parametrize("way", ["recommended", "controlnet"])
def test_the_same_trial_gives_the_same_curve_and_another_seed_another(setup, way):
    before = {name: value.clone() for name, value in setup.unet.state_dict().items()}
    first, again, other = (setup.run(trial(way, seed)) for seed in (0, 0, 1))
    assert first["losses"] == again["losses"] != other["losses"]
    assert [point["step"] for point in first["points"]] == [0, 2, 4]
    assert len(first["losses"]) == 4
    assert len(set(setup.measured[:3])) == 3  # it learned between the points
    assert first["diverged"] is None
    seconds = [point["seconds"] for point in first["points"]]
    assert seconds == sorted(seconds)
    assert seconds[0] == 0 < seconds[-1]
    assert all(torch.equal(value, before[name]) for name, value in setup.unet.state_dict().items())
    assert not setup.unet._forward_pre_hooks


def test_ways_see_the_same_pictures_noise_and_dropping(setup, monkeypatch):
    seen = {}

    def loss(method, batch):
        seen.setdefault(method.name, []).append(batch)
        return TrialSetup.loss(setup, method, batch)

    setup.loss = loss
    setup.run(trial("recommended"))
    setup.run(trial("controlnet"))
    for ours, theirs in zip(seen["controlnext"], seen["controlnet"], strict=True):
        for field in ("latents", "noise", "share", "keep", "condition"):
            assert torch.equal(getattr(ours, field), getattr(theirs, field)), field


def test_a_run_that_diverges_says_so_and_follows_nothing_from_then_on(setup):
    losses = iter([1.0, 1.0, float("nan")])
    setup.loss = lambda method, batch: next(iter(method.groups()[0].parameters.values())).sum() * 0 + next(losses)
    result = setup.run(trial())
    assert result["diverged"] == 2
    assert result["losses"] == [1.0, 1.0]
    assert [point["adherence"] for point in result["points"]] == [0.5, 0.5, 0.0]
    assert result["points"][-1]["loss"] is None


def test_trials_that_differ_in_anything_have_names_of_their_own():
    base = trial()
    others = [trial("add"), trial(seed=1), trial(rate=2e-3), trial(budget=replace(BUDGET, batch=4))]
    others.append(replace(base, way=replace(base.way, gamma=0.5)))
    names = {one.name for one in (base, *others)}
    assert len(names) == 6
    assert replace(base, way=replace(base.way, title="another")).name == base.name


def test_scenes_are_samples_with_their_own_captions_and_weights(samples):
    scenes = Scenes(samples, "canny", encode_text)
    row = scenes.sample(1, torch.Generator())
    assert row.condition.shape == (3, 256, 256)
    assert set(row.condition.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(row.latents, torch.from_numpy(samples[1].latent).float())
    assert row.weight.mean() == pytest.approx(1, abs=1e-4)
    assert scenes.empty["encoder_hidden_states"].abs().sum() == 0
    assert len(scenes) == 4


def test_data_of_another_autoencoder_or_too_little_is_a_sentence(samples, tmp_path, monkeypatch):
    class Shards(list):
        def __init__(self, folder):
            super().__init__(samples)

    monkeypatch.setattr(trials, "Shards", Shards)
    other = [replace(sample, latent=sample.latent + 1) for sample in samples]
    monkeypatch.setattr(trials, "with_latents", lambda vae, rows: [other[samples.index(row)] for row in rows])
    monkeypatch.setattr(SceneSample, "__eq__", lambda self, other: self is other)
    with pytest.raises(BenchError, match="not those of this starter's autoencoder"):
        trials._choose(tmp_path, 4, None)
    with pytest.raises(BenchError, match="4 encoded pictures of 100"):
        trials._choose(tmp_path, 100, None)
    monkeypatch.setattr(trials, "with_latents", lambda vae, rows: rows)
    assert len(trials._choose(tmp_path, 3, None)) == 3
