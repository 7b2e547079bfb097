"""Several controls on one UNet: what they add, in which order, and that they leave no trace."""

import gc
import itertools
import weakref

import numpy as np
import oracle
import PIL.Image
import pytest
import torch
from test_weights import KEYS, assert_same, copy_of, make_delta
from tiny_models import CHANNELS, Counter, make_case, make_module, make_unet, sd_components

from controlnext import (
    ControlNeXtAdapter,
    StableDiffusionControlNeXtImg2ImgPipeline,
    StableDiffusionControlNeXtPipeline,
)
from controlnext.method.cross_norm import add_control
from controlnext.method.gamma import ControlSizeError, GammaError, parse_gamma
from controlnext.method.injection import InjectionError, attach, attached_injections
from controlnext.method.pipelines import PipelineError
from controlnext.method.variants import VARIANTS
from controlnext.method.weights import UNetPatch


@pytest.fixture
def case():
    return make_case("sdxl", batch=2, conditions=1)


def another(variant, seed):
    """A module of a variant with weights of its own."""
    module = make_module(variant, CHANNELS[variant])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def control_of(module, condition, variant, timestep=11):
    return oracle.control_module(module.state_dict(), condition, timestep, variant).numpy().repeat(2, 0)


def test_controls_at_one_place_equal_numpy(case):
    modules, gammas = [another("sdxl", 5), another("starter", 6), another("sdxl", 7)], [0.8, 0.5, 1.3]
    variants = ["sdxl", "starter", "sdxl"]
    conditions = [case.condition, 1 - case.condition, case.condition.flip(-1)]
    rows = [
        (variant, control_of(module, condition, variant), gamma)
        for variant, module, condition, gamma in zip(variants, modules, conditions, gammas, strict=True)
    ]

    def add(hidden):
        return torch.from_numpy(oracle.inject_several(hidden.numpy().astype(np.float64), rows, uncond=1)).float()

    with torch.no_grad():
        expected = oracle.forked_unet(case.unet, case.sample, 11, **case.others, place="after conv_in", add=add)
    for variant, module, condition, gamma in zip(variants, modules, conditions, gammas, strict=True):
        attach(case.unet, module, variant, condition, gamma)
    # float32 through a whole UNet against float64 where the controls enter
    torch.testing.assert_close(case.run(), expected, rtol=1e-3, atol=1e-4)
    assert [injection.module for injection in attached_injections(case.unet)] == modules


def test_controls_at_two_places_equal_numpy(case):
    first, second = another("sdxl", 5), another("sd15-train", 6)

    def at(variant, module, gamma):
        control = control_of(module, case.condition, variant)
        return lambda x: torch.from_numpy(oracle.inject(variant, x.numpy(), control, np.full(len(x), gamma))).float()

    adds = {"after conv_in": at("sdxl", first, 0.8), "after down block 0": at("sd15-train", second, 0.6)}
    with torch.no_grad():
        expected = oracle.forked_unet(case.unet, case.sample, 11, **case.others, adds=adds)
    attach(case.unet, second, "sd15-train", case.condition, 0.6)  # the block's place decides, not who came first
    attach(case.unet, first, "sdxl", case.condition, 0.8)
    torch.testing.assert_close(case.run(), expected, rtol=1e-3, atol=1e-4)


def test_controls_are_added_in_the_order_of_attachment(case):
    modules, seen = [another("sdxl", 5), another("sdxl", 6)], []
    for module in modules:
        attach(case.unet, module, "sdxl", case.condition, 0.9)
    case.unet.down_blocks[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
    )
    case.run()
    with torch.no_grad():
        before = hidden = case.unet.conv_in(case.sample)
        for module in modules:
            control = module(case.condition, torch.tensor(11))
            hidden = add_control(hidden, control, torch.full((1, 1, 1, 1), 0.9), VARIANTS["sdxl"], before)
    assert torch.equal(seen[0], hidden)


def test_one_of_several_at_gamma_zero_leaves_the_others_to_the_bit(case):
    modules = [another("sdxl", seed) for seed in (5, 6, 7)]
    bare = case.run()
    with attach(case.unet, modules[1], "sdxl", case.condition, 0.7):
        alone = case.run()
    injections = [attach(case.unet, module, "sdxl", case.condition, 0.7) for module in modules]
    counters = [Counter(module) for module in modules]
    together = case.run()
    assert not torch.allclose(together, alone, atol=1e-3)
    for index in (0, 2):
        injections[index].set(case.condition, 0.0)
    assert torch.equal(case.run(), alone)
    injections[1].set(case.condition, 0)
    assert torch.equal(case.run(), bare)
    assert [counter.count for counter in counters] == [1, 2, 1]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_detaching_in_any_order_leaves_no_trace(order):
    case = make_case("sdxl", batch=2, conditions=1)
    hooks = {name: list(module._forward_pre_hooks) for name, module in case.unet.named_modules()}
    before, bare = copy_of(case.unet), case.run()
    adapters = [
        ControlNeXtAdapter(another("sdxl", seed), {KEYS[seed % 2]: make_delta(case.unet)[KEYS[seed % 2]]}, kind)
        for seed, kind in ((5, "delta"), (6, "subset"), (7, "delta"))
    ]
    attached = [adapter.attach(case.unet, case.condition, 0.7, alpha=0.3) for adapter in adapters]
    case.run()
    for index in order[:2]:
        attached[index].detach()
    left = case.run()
    attached[order[2]].detach()
    assert attached_injections(case.unet) == []
    assert_same(case.unet, before)
    assert torch.equal(case.run(), bare)
    assert {name: list(module._forward_pre_hooks) for name, module in case.unet.named_modules()} == hooks
    with adapters[order[2]].attach(case.unet, case.condition, 0.7, alpha=0.3):
        assert torch.equal(case.run(), left)


def test_the_same_module_twice_raises(case):
    with attach(case.unet, case.module, "sdxl"), pytest.raises(InjectionError, match="already"):
        attach(case.unet, case.module, "sdxl")


def test_gamma_may_be_a_function_of_the_forward(case):
    counter = Counter(case.module)
    with attach(case.unet, case.module, "sdxl", case.condition, lambda index: [0.4, 0.0, 1.2][index]):
        moving = [case.run() for _ in range(3)]
    assert counter.count == 2
    for gamma, run in zip((0.4, 0.0, 1.2), moving, strict=True):
        with attach(case.unet, case.module, "sdxl", case.condition, gamma):
            assert torch.equal(case.run(), run)
    with (
        attach(case.unet, case.module, "sdxl", case.condition, lambda index: float("nan")),
        pytest.raises(ControlSizeError, match="finite"),
    ):
        case.run()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_deltas_add_with_their_alphas(dtype):
    unet = make_unet().to(dtype)
    before, one = copy_of(unet), make_delta(unet)
    two = {key: -0.3 * one[key].flip(0) for key in KEYS[:2]}
    first, second = UNetPatch(unet, one, "delta", 0.5), UNetPatch(unet, two, "delta", 1.2)
    expected = dict(before)
    for key, delta in one.items():
        total = before[key].float() + 0.5 * delta
        expected[key] = (total + 1.2 * two[key] if key in two else total).to(dtype)
    assert_same(unet, expected)
    first.set_alpha(0.0)
    assert_same(unet, before | {key: (before[key].float() + 1.2 * two[key]).to(dtype) for key in two})
    first.set_alpha(0.5)
    assert_same(unet, expected)
    first.restore()
    second.restore()
    assert_same(unet, before)


def test_a_subset_joins_as_its_difference():
    unet = make_unet()
    before, delta = copy_of(unet), make_delta(unet)
    values = {key: delta[key] + 1 for key in KEYS}
    patches = [UNetPatch(unet, delta, "delta", 0.5), UNetPatch(unet, values, "subset", 1.0)]
    wanted = {key: (before[key] + 0.5 * delta[key]) + (values[key] - before[key]) for key in KEYS}
    assert_same(unet, before | wanted)
    patches[0].restore()
    assert_same(unet, before | values)
    patches[1].restore()
    assert_same(unet, before)


def test_a_unet_nobody_holds_is_let_go_of_with_its_patches():
    unet = make_unet()
    seen = weakref.ref(unet)
    patch = UNetPatch(unet, make_delta(unet), "delta")
    del unet, patch
    gc.collect()
    assert seen() is None


def drawing(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return PIL.Image.fromarray(pixels).resize((64, 64), PIL.Image.NEAREST)


@pytest.fixture
def pipe():
    made = StableDiffusionControlNeXtPipeline(**sd_components())
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def adapters(pipe):
    delta = make_delta(pipe.unet)
    return {
        "pose": ControlNeXtAdapter(another("starter", 5), {KEYS[0]: 0.1 * delta[KEYS[0]]}, "delta", gamma=0.7),
        "depth": ControlNeXtAdapter(another("starter", 6), {KEYS[0]: 0.2 * delta[KEYS[0]]}, "delta", gamma=0.4),
    }


@pytest.fixture
def loaded(pipe, adapters):
    for name, adapter in adapters.items():
        pipe.load_controlnext(adapter, name)
    return pipe


def run(pipe, steps=3, **kwargs):
    call = {"num_inference_steps": steps, "guidance_scale": 3.0, "output_type": "latent", **kwargs}
    return pipe("a", generator=torch.Generator().manual_seed(0), **call).images


def test_lists_go_to_the_adapters_in_the_order_of_loading(loaded, adapters):
    pictures = [drawing(1), drawing(2)]
    together = run(loaded, control_image=pictures, gamma=[0.9, 0.3], alpha=[0.5, 1.0], control_end=[1.0, 0.7])
    loaded.unload_controlnext("pose")
    assert list(loaded.controlnexts) == ["depth"]
    loaded.load_controlnext(adapters["pose"], "pose")
    swapped = run(loaded, control_image=pictures[::-1], gamma=[0.3, 0.9], alpha=[1.0, 0.5], control_end=[0.7, 1.0])
    torch.testing.assert_close(swapped, together, rtol=1e-3, atol=1e-4)  # the same sum in another order
    assert not torch.allclose(run(loaded, control_image=pictures, gamma=[0.9, 0.3]), together, atol=1e-2)


def test_one_picture_of_two_is_that_adapter_alone(loaded, adapters, pipe):
    alone = run(loaded, control_image=[None, drawing(2)])
    both = run(loaded, control_image=[drawing(1), drawing(2)])
    before = copy_of(sd_components()["unet"])
    stock = run(loaded)
    assert_same(loaded.unet, before)
    loaded.unload_controlnext()
    assert attached_injections(pipe.unet) == []
    pipe.load_controlnext(adapters["depth"])
    assert torch.equal(run(pipe, control_image=drawing(2)), alone)
    assert not torch.allclose(both, alone, atol=1e-2)
    pipe.unload_controlnext()
    assert torch.equal(run(pipe), stock)
    assert_same(pipe.unet, before)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"control_image": drawing()},
            r"2 adapters are loaded \(pose, depth\), so control_image is a list of 2, but one",
        ),
        ({"control_image": [drawing()] * 3}, "but 3 were given"),
        ({"control_image": [drawing()] * 2, "gamma": [1.0, 1.0, 1.0]}, "gamma is a list of 2, but 3"),
        ({"control_image": [None, None]}, "All control images are None"),
        ({"control_image": [drawing()] * 2, "control_start": [0.0, 0.9], "control_end": 0.5}, "control_start and"),
    ],
)
def test_lists_that_do_not_fit_are_refused_and_nothing_stays(loaded, values, says):
    expected = run(loaded, control_image=[drawing(1), drawing(2)])
    with pytest.raises(PipelineError, match=says):
        run(loaded, **values)
    assert torch.equal(run(loaded, control_image=[drawing(1), drawing(2)]), expected)


def test_a_name_is_taken_once(loaded, adapters):
    with pytest.raises(InjectionError, match="loaded as 'pose' already"):
        loaded.load_controlnext(ControlNeXtAdapter(another("starter", 8)), "pose")


def test_other_pipelines_share_the_adapters(loaded):
    other = StableDiffusionControlNeXtImg2ImgPipeline.from_pipe(loaded)
    other.set_progress_bar_config(disable=True)
    assert run(other, image=drawing(3), strength=0.7, control_image=[drawing(1), None]).isfinite().all()
    other.unload_controlnext()
    assert loaded.controlnexts == {}


def test_a_curve_sets_gamma_step_by_step(loaded, monkeypatch):
    seen = {}
    for name, attachment in loaded.controlnexts.items():
        strength = attachment.injection.source.strength
        monkeypatch.setattr(
            attachment.injection.source,
            "strength",
            lambda gamma, *rest, name=name, strength=strength: (
                seen.setdefault(name, []).append(round(float(gamma), 6)),
                strength(gamma, *rest),
            )[1],
        )
    run(loaded, steps=5, control_image=[drawing(1), drawing(2)], gamma=[parse_gamma("linear 1 to 0"), "0:1, 0.5:0.3"])
    assert seen == {"pose": [1.0, 0.75, 0.5, 0.25], "depth": [1.0, 0.65, 0.3, 0.3, 0.3]}
    with pytest.raises(GammaError, match="no gamma curve"):
        run(loaded, control_image=[drawing(1), drawing(2)], gamma="strong")


def test_a_constant_curve_is_the_number_bit_for_bit(loaded):
    pictures = [drawing(1), drawing(2)]
    assert torch.equal(
        run(loaded, control_image=pictures, gamma="0.8"), run(loaded, control_image=pictures, gamma=0.8)
    )
