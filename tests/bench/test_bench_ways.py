"""The ways of control that ControlNeXt is compared with: each joins the UNet as it says, learns, and leaves no trace."""

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import TEXT_WIDTH, make_unet

from controlnext.bench.convergence.ways import WAYS, WEIGHTS_FILE, Way, build, variant_at
from controlnext.training.config import TrainingError
from controlnext.training.methods import call_unet

SHAPE = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}
BATCH = 2


@pytest.fixture
def base():
    return make_unet(**SHAPE)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(5)
    noisy = torch.randn(BATCH, 4, 16, 16, generator=generator)
    states = {"encoder_hidden_states": torch.randn(BATCH, 5, TEXT_WIDTH, generator=generator)}
    condition = torch.rand(BATCH, 3, 128, 128, generator=generator)
    return noisy, torch.tensor([700, 300]), states, condition


def made(name, base):
    torch.manual_seed(1)
    way = WAYS[name] if isinstance(name, str) else name
    return build(way, base, 1e-3)


def no_zeros(method):
    """As if what starts at zero had learned something."""
    for parameter in (method.network if hasattr(method, "network") else method.module).parameters():
        if not parameter.any():
            parameter.add_(0.1)


@pytest.mark.parametrize("name", WAYS)
def test_all_that_should_learn_gets_a_gradient_and_the_rest_stays_frozen(name, base, inputs):
    method = made(name, base)
    learns = {id(value) for group in method.groups() for value in group.parameters.values()}
    assert {id(value) for value in method.parameters() if value.requires_grad} == learns
    predicted = method(*inputs, torch.tensor([1.0, 1.0]))
    assert predicted.shape == inputs[0].shape
    predicted.pow(2).mean().backward()
    without = [key for group in method.groups() for key, value in group.parameters.items() if value.grad is None]
    assert not without


@pytest.mark.parametrize("name", WAYS)
def test_a_picture_without_control_is_the_bases_own_and_the_other_is_not(name, base, inputs):
    noisy, timestep, states, _ = inputs
    with torch.no_grad():
        bare = call_unet(base, noisy, timestep, states)
        method = made(Way("zero", "", join="add", last=1.0) if name == "zero" else name, base)
        no_zeros(method)
        predicted = method(*inputs, torch.tensor([0.0, 1.0]))
    if name == "controlnet" or name.startswith("t2i"):
        assert torch.equal(bare, call_unet(make_unet(**SHAPE), noisy, timestep, states))
    assert torch.allclose(predicted[0], bare[0], atol=1e-6)
    assert (predicted[1] - bare[1]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("name", "same"), [("zero", True), ("controlnet", True), ("add", False), ("recommended", False)]
)
def test_zero_convolutions_start_as_the_base_alone_and_the_others_do_not(name, same, base, inputs):
    noisy, timestep, states, _ = inputs
    with torch.no_grad():
        bare = call_unet(base, noisy, timestep, states)
        predicted = made(name, base)(*inputs, torch.ones(BATCH))
    assert torch.allclose(predicted, bare, atol=1e-6) is same


@pytest.mark.parametrize("name", ["released", "add", "paper", "controlnet", "t2i-adapter"])
def test_guidance_controls_the_conditional_half_alone(name, base, inputs):
    noisy, _, states, condition = inputs
    with torch.no_grad():
        bare = call_unet(base, noisy, 500, states)
        method = made(name, base)
        no_zeros(method)
        alone = method(noisy, torch.tensor([500, 500]), states, condition, torch.ones(BATCH))
        steering = method.steering if hasattr(method, "steering") else method.injection
        steering.set(condition, 1.0)
        twice = {key: torch.cat([value, value]) for key, value in states.items()}
        halves = call_unet(base, torch.cat([noisy, noisy]), torch.tensor(500), twice)
    assert torch.allclose(halves[:BATCH], bare, atol=1e-5)
    assert torch.allclose(halves[BATCH:], alone, atol=1e-5)


def test_plain_addition_adds_the_modules_output_and_nothing_else(base, inputs):
    noisy, timestep, states, condition = inputs
    seen = []
    method = made("add", base)
    base.down_blocks[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        call_unet(base, noisy, timestep, states)
        method(*inputs, torch.tensor([1.0, 0.5]))
        control = method.module(condition, timestep)
    assert torch.allclose(seen[1] - seen[0], control * torch.tensor([1.0, 0.5]).view(-1, 1, 1, 1), atol=1e-5)


def test_the_printed_formula_standardises_by_the_hidden_states_and_shifts_nothing_back(base, inputs):
    noisy, timestep, states, condition = inputs
    seen = []
    method = made("paper", base)
    base.down_blocks[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        method.module.scale.fill_(0.7)
        call_unet(base, noisy, timestep, states)
        method(*inputs, torch.tensor([1.0, 0.5]))
        control = method.module(condition, timestep)
    for index, gamma in enumerate((1.0, 0.5)):
        h, c = seen[0][index].double().numpy(), control[index].double().numpy()
        expected = gamma * 0.7 * (c - h.mean()) / (h.var() + 1e-5) ** 0.5
        assert abs((seen[1] - seen[0])[index].numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["add", "paper", "controlnet", "t2i-adapter"])
def test_detached_hooks_leave_the_stock_unet(name, base, inputs):
    noisy, timestep, states, _ = inputs
    bare = call_unet(base, noisy, timestep, states)
    method = made(name, base)
    method(*inputs, torch.ones(BATCH))
    (method.steering if hasattr(method, "steering") else method.injection).detach()
    assert torch.equal(call_unet(base, noisy, timestep, states), bare)
    assert not base._forward_pre_hooks
    assert not base.down_blocks[0]._forward_pre_hooks


@pytest.mark.parametrize("point", ["down_blocks.1", "mid_block", "up_blocks.0"])
def test_a_control_may_enter_elsewhere(point, base, inputs):
    method = build(Way("there", "", subset=".*to_out.*", ratio=0.1, injection_point=point), base, 1e-3)
    assert method(*inputs, torch.ones(BATCH)).isfinite().all()
    with pytest.raises(TrainingError, match=r"choose one of down_blocks\.0"):
        variant_at("down_blocks.9", base)


def test_what_was_learned_is_written_and_is_no_adapter(base, tmp_path):
    method = made("add", base)
    method.save(tmp_path / "made", {"condition": "pose"}, torch.float16)
    written = load_file(tmp_path / "made" / WEIGHTS_FILE)
    assert written.keys() == {key for group in method.groups() for key in group.parameters}
    assert [file.name for file in (tmp_path / "made").iterdir()] == [WEIGHTS_FILE]
