from dataclasses import replace

import accelerate
import numpy as np
import oracle
import pytest
import torch
from tiny_models import Counter, make_case, make_module, make_unet

from controlnext import VARIANTS
from controlnext.method.cross_norm import add_control
from controlnext.method.gamma import ControlSizeError
from controlnext.method.injection import InjectionError, attach, attached_injections

GAMMA = 0.8


def expected_output(case, conditions, gammas, uncond, timestep=11):
    """Run the oracle: the functional control module, numpy for the control's way in, the UNet block by block."""
    state, padding = case.module.state_dict(), 0 if case.variant.startswith("svd") else 1
    frames = conditions.shape[1] if conditions.ndim == 5 else 1
    control = torch.cat(
        [
            oracle.control_module(state, picture[None], timestep, case.variant, padding)
            for picture in conditions.reshape(-1, *conditions.shape[-3:])
        ]
    )
    scale = case.module.scale.item() if VARIANTS[case.variant].layout.learned_scale else 1.0

    def add(hidden):
        gamma = np.repeat(np.asarray(gammas, float), frames)
        rows = oracle.inject(case.variant, hidden.numpy(), control.numpy(), gamma, scale, uncond * frames)
        return torch.from_numpy(rows).float()

    with torch.no_grad():
        return oracle.forked_unet(
            case.unet, case.sample, timestep, **case.others, place=oracle.PLACES[case.variant], add=add
        )


@pytest.mark.parametrize("variant", ["sdxl", "svd-v2"])
def test_the_hand_run_unet_is_the_stock_one(variant):
    case = make_case(variant)
    with torch.no_grad():
        assert torch.equal(oracle.forked_unet(case.unet, case.sample, 11, **case.others), case.run())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_guided_batch_equals_the_authors_fork(variant):
    case = make_case(variant, batch=4, conditions=2)
    doubled = torch.cat([case.condition, case.condition])
    with attach(case.unet, case.module, variant, case.condition, GAMMA):
        controlled = case.run()
    expected = expected_output(case, doubled, [GAMMA] * 4, uncond=2)
    # float32 through a whole UNet against float64 in the five lines
    torch.testing.assert_close(controlled, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(controlled, case.run(), atol=1e-2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_unguided_batch_is_controlled_throughout(variant):
    case = make_case(variant, batch=2, conditions=2)
    with attach(case.unet, case.module, variant, case.condition, GAMMA):
        controlled = case.run()
    expected = expected_output(case, case.condition, [GAMMA] * 2, uncond=0)
    torch.testing.assert_close(controlled, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("variant", ["sdxl", "svd-v1", "svd-v2"])
def test_gamma_per_picture_repeats_with_the_halves(variant):
    case = make_case(variant, batch=4, conditions=1)
    gammas = torch.tensor([0.3, 1.1])
    with attach(case.unet, case.module, variant) as injection:
        injection.set(case.condition, gammas, repeats=2)
        controlled = case.run()
    repeated = case.condition.expand(4, *case.condition.shape[1:])
    expected = expected_output(case, repeated, [0.3, 1.1, 0.3, 1.1], uncond=2)
    torch.testing.assert_close(controlled, expected, rtol=1e-3, atol=1e-4)


def test_the_unconditional_half_of_svd_v2_stays_bare():
    case = make_case("svd-v2", batch=2, conditions=1)
    bare = case.run()
    with attach(case.unet, case.module, "svd-v2", case.condition):
        controlled = case.run()
    assert torch.equal(controlled[0], bare[0])
    assert not torch.allclose(controlled[1], bare[1], atol=1e-3)


def test_conditions_shared_by_pictures_in_a_row():
    case = make_case("sdxl", batch=8, conditions=2)
    with attach(case.unet, case.module, "sdxl") as injection:
        injection.set(case.condition, GAMMA, repeats=2)
        controlled = case.run()
    order = case.condition[[0, 0, 1, 1, 0, 0, 1, 1]]
    torch.testing.assert_close(controlled, expected_output(case, order, [GAMMA] * 8, 0), rtol=1e-3, atol=1e-4)


def test_every_picture_at_a_time_of_its_own():
    case = make_case("sdxl", batch=2, conditions=1)
    times = torch.tensor([11, 900])
    with attach(case.unet, case.module, "sdxl", case.condition):
        together = case.run(times)
        apart = [
            case.run(time, sample=case.sample[i : i + 1], others={k: v[i : i + 1] for k, v in case.others.items()})
            for i, time in enumerate(times)
        ]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-5)  # another batch size


@pytest.mark.parametrize("variant", VARIANTS)
def test_gamma_zero_equals_the_bare_unet_and_computes_nothing(variant):
    case = make_case(variant)
    counter, bare = Counter(case.module), case.run()
    for gamma in (0, 0.0, [0.0, 0.0], torch.zeros(2), torch.tensor(0.0)):
        with attach(case.unet, case.module, variant, case.condition, gamma):
            assert torch.equal(case.run(), bare)
    assert counter.count == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_gamma_zero_for_one_picture_leaves_it_bit_for_bit(variant):
    case = make_case(variant, batch=2, conditions=1)
    bare = case.run()
    with attach(case.unet, case.module, variant) as injection:
        injection.set(case.condition, [0.0, 1.0], repeats=2)
        controlled = case.run()
    assert torch.equal(controlled[0], bare[0])
    assert not torch.allclose(controlled[1], bare[1], atol=1e-3)


def test_a_control_that_is_not_finite_stays_out_at_gamma_zero():
    hidden, control = torch.randn(2, 4, 3, 3), torch.full((2, 4, 3, 3), torch.nan)
    strength = torch.tensor([0.0, 1.0]).view(-1, 1, 1, 1)
    assert torch.equal(add_control(hidden, control, strength, VARIANTS["sdxl"])[0], hidden[0])


# How many skips, counted from conv_in, are stored before the control enters.
CLEAN_SKIPS = {"sdxl": 1, "starter": 1, "starter-video": 1, "sd15-train": 3, "svd-v2": 3, "sd15": 6, "svd-v1": 4}


@pytest.mark.parametrize("variant", VARIANTS)
def test_skips_stored_before_the_control_stay_clean(variant):
    case, runs = make_case(variant), []

    def watch(_, args, kwargs):
        runs[-1] = [*(skip.clone() for skip in kwargs["res_hidden_states_tuple"]), *runs[-1]]

    # The up blocks consume the skips from the last to the first; ours is the only hook that changes anything.
    with attach(case.unet, case.module, variant) as injection:
        for block in case.unet.up_blocks:
            block.register_forward_pre_hook(watch, with_kwargs=True)
        for condition in (None, case.condition):
            injection.set(condition)
            runs.append([])
            case.run()
    same = [torch.equal(bare, controlled) for bare, controlled in zip(*runs, strict=True)]
    assert same == [index < CLEAN_SKIPS[variant] for index in range(len(same))]


@pytest.mark.parametrize("variant", VARIANTS)
def test_detaching_leaves_no_trace(variant):
    case = make_case(variant)
    before = {name: dict(vars(module)) for name, module in case.unet.named_modules()}
    hooks = {name: list(module._forward_pre_hooks) for name, module in case.unet.named_modules()}
    bare = case.run()
    injection = attach(case.unet, case.module, variant, case.condition)
    assert attached_injections(case.unet) == [injection]
    case.run()
    injection.detach()
    injection.detach()
    assert attached_injections(case.unet) == []
    assert not injection.attached
    for name, module in case.unet.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert list(module._forward_pre_hooks) == hooks[name] == list(module._forward_pre_hooks_with_kwargs)
    assert torch.equal(case.run(), bare)


def test_attaching_twice_raises_and_keeps_the_first():
    case = make_case("sdxl")
    with attach(case.unet, case.module, "sdxl", case.condition) as first:
        with pytest.raises(InjectionError, match="already"):
            attach(case.unet, case.module, "sdxl", case.condition)
        assert attached_injections(case.unet) == [first]
    with attach(case.unet, case.module, "sdxl", case.condition):
        case.run()


def test_a_bad_condition_or_gamma_leaves_nothing_attached():
    case = make_case("sdxl")
    for condition, gamma in ((case.condition[0], 1.0), (case.condition, float("nan")), (case.condition, "strong")):
        with pytest.raises(ControlSizeError):
            attach(case.unet, case.module, "sdxl", condition, gamma)
        assert attached_injections(case.unet) == []


def test_the_condition_may_change_and_leave():
    case = make_case("sdxl", batch=2, conditions=1)
    bare = case.run()
    with attach(case.unet, case.module, "sdxl") as injection:
        assert torch.equal(case.run(), bare)
        injection.set(case.condition)
        one = case.run()
        injection.set(1 - case.condition)
        assert not torch.allclose(case.run(), one, atol=1e-3)
        injection.set(None)
        assert torch.equal(case.run(), bare)


def test_control_acts_only_in_the_forwards_it_is_active_in():
    case = make_case("sdxl")
    counter, bare = Counter(case.module), case.run()
    with attach(case.unet, case.module, "sdxl") as injection:
        injection.set(case.condition, active=lambda index: index == 1)
        assert [torch.equal(case.run(), bare) for _ in range(3)] == [True, False, True]
    assert counter.count == 1


def test_the_timestep_may_come_by_name():
    case = make_case("sdxl")
    with attach(case.unet, case.module, "sdxl", case.condition), torch.no_grad():
        by_name = case.unet(timestep=11, sample=case.sample, **case.others).sample
        assert torch.equal(by_name, case.run(11))


def test_a_batch_that_does_not_divide_names_both_sizes():
    case = make_case("sdxl", batch=4, conditions=3)
    with attach(case.unet, case.module, "sdxl", case.condition), pytest.raises(ControlSizeError, match=r"3 .* 4"):
        case.run()
    with (
        attach(case.unet, case.module, "sdxl", case.condition[:1], [1.0, 0.5, 0.2]),
        pytest.raises(ControlSizeError, match=r"3 .* 4"),
    ):
        case.run()
    case.run()


def test_frames_have_to_match():
    case = make_case("svd-v2")
    with (
        attach(case.unet, case.module, "svd-v2", case.condition[:, :2]),
        pytest.raises(ControlSizeError, match="video needs"),
    ):
        case.run()


def test_a_control_of_another_width_is_refused():
    case = make_case("sdxl")
    with (
        attach(case.unet, make_module("sdxl", 40), "sdxl", case.condition),
        pytest.raises(ControlSizeError, match=r"40 channels .* 16"),
    ):
        case.run()


def test_modules_that_are_no_fitting_unet_are_refused():
    case = make_case("sdxl")
    with pytest.raises(InjectionError, match="sample and timestep"):
        attach(case.module, case.module, "sdxl")
    unet = make_unet()
    del unet.up_blocks
    with pytest.raises(InjectionError, match=r"up_blocks\.0"):
        attach(unet, case.module, "sd15")


def test_the_block_alone_is_refused():
    case = make_case("sdxl")
    with attach(case.unet, case.module, "sdxl", case.condition), pytest.raises(InjectionError, match="outside"):
        case.unet.down_blocks[0](hidden_states=case.sample, temb=None)


def test_a_forward_that_failed_does_not_haunt_the_next():
    case = make_case("sdxl")
    with attach(case.unet, case.module, "sdxl", case.condition):
        expected = case.run()
        with pytest.raises(RuntimeError):
            case.run(sample=case.sample[:, :3])
        assert torch.equal(case.run(), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_module_and_unet(variant):
    case = make_case(variant)
    with attach(case.unet, case.module, variant, case.condition):
        case.unet(case.sample, 11, **case.others).sample.square().mean().backward()
    for parameter in (*case.module.parameters(), case.unet.conv_in.weight):
        assert parameter.grad.isfinite().all()
    assert case.module.mid_convs[1].weight.grad.abs().max() > 0
    assert not VARIANTS[variant].layout.learned_scale or case.module.scale.grad != 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_constant_control_is_harmless_in_low_precision(dtype):
    case = make_case("sdxl")
    with torch.no_grad():
        for parameter in case.module.mid_convs[1].parameters():
            parameter.fill_(0.25)
        case.module.mid_convs[1].weight.zero_()
    case.unet.to(dtype)
    others = {key: value.to(dtype) for key, value in case.others.items()}
    seen = []
    with attach(case.unet, case.module, "sdxl", case.condition):
        case.unet.down_blocks[0].register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
        )
        out = case.run(sample=case.sample.to(dtype), others=others)
    assert out.dtype == dtype
    assert out.isfinite().all()
    hidden = case.unet.conv_in(case.sample.to(dtype))
    mean = hidden.float().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(seen[0], hidden + mean.to(dtype), rtol=0, atol=torch.finfo(dtype).eps * 4)


def test_module_and_condition_follow_the_latents_device():
    case = make_case("sdxl")
    others = {key: value.to("meta") for key, value in case.others.items()}
    case.unet.to("meta")
    with attach(case.unet, case.module, "sdxl", case.condition, [0.5, 1.0]):
        assert case.run(sample=case.sample.to("meta"), others=others).is_meta
    assert case.module.device.type == "meta"


def test_offloading_hooks_may_come_before_or_after():
    case = make_case("sdxl")
    with attach(case.unet, case.module, "sdxl", case.condition):
        expected = case.run()
        _, hook = accelerate.cpu_offload_with_hook(case.unet, execution_device="cpu")
        assert torch.equal(case.run(), expected)
    with attach(case.unet, case.module, "sdxl", case.condition):
        assert torch.equal(case.run(), expected)
        hook.remove()
        assert torch.equal(case.run(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["wrapped", "in place", "whole graph"])
def test_compiled_unets_are_controlled(how):
    one_block = {"block_out_channels": (16,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    case = replace(
        make_case("sdxl", batch=2, conditions=1), unet=make_unet(**one_block, mid_block_type="UNetMidBlock2D")
    )
    expected = {0.0: case.run()}
    for gamma in (1.0, 0.4):
        with attach(case.unet, case.module, "sdxl", case.condition, gamma):
            expected[gamma] = case.run()
    if how == "in place":
        case.unet.compile(backend="aot_eager")
        compiled = case.unet
    else:
        compiled = torch.compile(case.unet, backend="aot_eager", fullgraph=how == "whole graph")
    counter = Counter(case.module)

    def check(gamma):
        torch.testing.assert_close(case.run(unet=compiled), expected[gamma], rtol=1e-4, atol=1e-5)  # fused arithmetic

    check(0.0)  # first without hooks, so that there is compiled code that does not know them
    for gamma in (1.0, 0.4):
        with attach(compiled, case.module, "sdxl", case.condition, gamma) as injection:
            check(gamma)
            injection.set(case.condition, 0.0)
            check(0.0)
            injection.set(case.condition, 1.0)
            check(1.0)
        check(0.0)
    assert counter.count == 4
