"""The ways of control on a transformer that `bench convergence --base dit` compares."""

import diffusers
import numpy as np
import pytest
import torch

from controlnext.bench.command import BenchError
from controlnext.bench.convergence.compare import choose_ways
from controlnext.bench.convergence.dit_trials import DitSetup
from controlnext.bench.convergence.dit_ways import DIT_WAYS, ConcatenatedMethod, build
from controlnext.bench.convergence.trials import Scenery
from controlnext.training.losses import FlowProcess, weighted_error
from controlnext.training.methods import call_unet

BATCH = 2


@pytest.fixture
def base():
    torch.manual_seed(0)
    model = diffusers.SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4, caption_projection_dim=32,
        joint_attention_dim=16, pooled_projection_dim=16, out_channels=4, pos_embed_max_size=8, qk_norm="rms_norm",
    )  # fmt: skip
    return model.eval()


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(5)
    noisy = torch.randn(BATCH, 4, 16, 16, generator=generator)
    states = {
        "encoder_hidden_states": torch.randn(BATCH, 5, 16, generator=generator),
        "pooled_projections": torch.randn(BATCH, 16, generator=generator),
    }
    condition = torch.rand(BATCH, 3, 128, 128, generator=generator)
    return noisy, torch.tensor([700.0, 300.0]), states, condition


def made(name, base):
    torch.manual_seed(1)
    return build(DIT_WAYS[name], base, 1e-3)


def no_zeros(method):
    """As if what starts at zero had learned something."""
    network = method.network if hasattr(method, "network") else method.module
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("name", DIT_WAYS)
def test_all_that_should_learn_gets_a_gradient_and_the_rest_stays_frozen(name, base, inputs):
    method = made(name, base)
    no_zeros(method)
    learns = {id(value) for group in method.groups() for value in group.parameters.values()}
    assert {id(value) for value in method.parameters() if value.requires_grad} == learns
    predicted = method(*inputs, torch.tensor([1.0, 1.0]))
    assert predicted.shape == inputs[0].shape
    predicted.pow(2).mean().backward()
    without = [key for group in method.groups() for key, value in group.parameters.items() if value.grad is None]
    # the last block gives no text back; the residuals of a ControlNet come from the picture's tokens alone
    assert [
        key for key in without if "1.attn.to_add_out" not in key and "context" not in key and "add" not in key
    ] == []


@pytest.mark.parametrize("name", DIT_WAYS)
def test_a_picture_without_control_is_the_bases_own_and_the_other_is_not(name, base, inputs):
    noisy, timestep, states, _ = inputs
    with torch.no_grad():
        bare = call_unet(base, noisy, timestep, states)
        method = made(name, base)
        no_zeros(method)
        predicted = method(*inputs, torch.tensor([0.0, 1.0]))
    if name != "concatenation":  # tokens of nothing are still attended to
        assert torch.allclose(predicted[0], bare[0], atol=1e-5)
    assert (predicted[1] - bare[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["tokens-and-channels", "add", "paper", "controlnet"])
def test_guidance_controls_the_conditional_half_alone(name, base, inputs):
    noisy, _, states, condition = inputs
    time = torch.full((BATCH,), 500.0)
    with torch.no_grad():
        bare = call_unet(base, noisy, time, states)
        method = made(name, base)
        no_zeros(method)
        alone = method(noisy, time, states, condition, torch.ones(BATCH))
        steering = method.steering if name == "controlnet" else method.injection
        steering.set(condition, 1.0)
        twice = {key: torch.cat([value, value]) for key, value in states.items()}
        halves = call_unet(base, torch.cat([noisy, noisy]), torch.cat([time, time]), twice)
        steering.detach()
        assert torch.equal(call_unet(base, noisy, time, states), bare)
    assert torch.allclose(halves[:BATCH], bare, atol=1e-5)
    assert torch.allclose(halves[BATCH:], alone, atol=1e-4)


def test_zero_convolutions_start_as_the_base_alone(base, inputs):
    noisy, timestep, states, _ = inputs
    with torch.no_grad():
        bare = call_unet(base, noisy, timestep, states)
        for name, same in (("zero", True), ("controlnet", True), ("add", False)):
            assert torch.allclose(made(name, base)(*inputs, torch.ones(BATCH)), bare, atol=1e-6) is same


def test_formulas_are_those_of_the_names(base, inputs):
    noisy, timestep, states, condition = inputs
    for name in ("add", "paper"):
        method, seen = made(name, base), []
        hook = base.transformer_blocks[0].register_forward_pre_hook(
            lambda _, args, kwargs, seen=seen: seen.append(kwargs["hidden_states"].numpy()), with_kwargs=True
        )
        with torch.no_grad():
            call_unet(base, noisy, timestep, states)
            method(*inputs, torch.tensor([1.0, 0.5]))
            control = method.module(condition, timestep).flatten(2).transpose(1, 2).numpy()
        hook.remove()
        method.injection.detach()
        for index, gamma in enumerate((1.0, 0.5)):
            h, c = seen[0][index], control[index]
            expected = c if name == "add" else (c - h.mean()) / np.sqrt(h.var() + 1e-5)
            assert np.abs(seen[1][index] - h - gamma * expected).max() < 1e-4


def test_concatenated_tokens_are_dropped_at_the_end(base, inputs):
    method = made("concatenation", base)
    assert isinstance(method, ConcatenatedMethod)
    lengths = []
    base.transformer_blocks[1].register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(kwargs["hidden_states"].shape[1]), with_kwargs=True
    )
    assert method(*inputs, torch.ones(BATCH)).shape == inputs[0].shape
    assert lengths == [128]  # 64 of the picture and as many of the condition


def test_flow_matching_follows_straight_lines():
    latents, noise = torch.randn(2, 3, 4, 8, 8)
    share = torch.tensor([0.1, 0.5, 0.9])
    for shift in (0.0, 1.0):
        made = FlowProcess(shift).noised(latents, noise, share)
        sigma = (made.timestep / 1000).view(-1, 1, 1, 1)
        assert sigma.flatten()[1].item() == pytest.approx(1 / (1 + np.exp(-shift)), abs=1e-6)
        assert (sigma.flatten().diff() > 0).all()
        assert torch.allclose(made.sample, (1 - sigma) * latents + sigma * noise, atol=1e-6)
        assert torch.allclose(made.sample - sigma * made.target, latents, atol=1e-5)
        assert weighted_error(made.target, made) == 0


def test_ways_are_chosen_from_the_table_of_the_base():
    assert [way.name for way in choose_ways([], [], "dit")] == list(DIT_WAYS)
    with pytest.raises(BenchError, match="no way 'lora'"):
        choose_ways(["lora"], [])


def test_a_missing_transformer_is_a_sentence(tmp_path):
    with pytest.raises(BenchError, match="--transformer"):
        DitSetup(tmp_path, tmp_path, tmp_path, "pose", Scenery(1, 1, 1))
