import oracle
import pytest
import torch
from tiny_models import make_module

from controlnext import VARIANTS, ControlNeXtModel
from controlnext.method.model import ConditionError
from controlnext.method.variants import VariantError


def convolution(key, out, width, kernel):
    return {f"{key}.weight": (out, width, kernel, kernel), f"{key}.bias": (out,)}


def linear(key, out, width):
    return {f"{key}.weight": (out, width), f"{key}.bias": (out,)}


def norm(key, width):
    return {f"{key}.weight": (width,), f"{key}.bias": (width,)}


def stage(index, width, out):
    key = f"down_res.{index}"
    keys = {
        **norm(f"{key}.norm1", width),
        **convolution(f"{key}.conv1", out, width, 3),
        **linear(f"{key}.time_emb_proj", out, 256),
        **norm(f"{key}.norm2", out),
        **convolution(f"{key}.conv2", out, out, 3),
        **convolution(f"down_sample.{index}.conv", out, out, 3),
    }
    return keys | (convolution(f"{key}.conv_shortcut", out, width, 1) if width != out else {})


TIME = {**linear("time_embedding.linear_1", 256, 128), **linear("time_embedding.linear_2", 256, 256)}
STEM = {
    **convolution("embedding.0", 64, 3, 3),
    **norm("embedding.1", 64),
    **convolution("embedding.3", 64, 64, 3),
    **norm("embedding.4", 64),
    **convolution("embedding.6", 128, 64, 3),
    **norm("embedding.7", 128),
}
PLAIN_TAIL = {**convolution("mid_convs.0.0", 256, 256, 3), **convolution("mid_convs.0.2", 256, 256, 3)}
TAIL = {
    **convolution("mid_convs.0.0", 256, 256, 3),
    **norm("mid_convs.0.2", 256),
    **convolution("mid_convs.0.3", 256, 256, 3),
    **norm("mid_convs.0.4", 256),
}
LIGHT = TIME | STEM | stage(0, 128, 128) | stage(1, 128, 256) | TAIL | convolution("mid_convs.1", 320, 256, 1)
WIDE = convolution("mid_convs.1", 1280, 256, 1) | {"scale": ()}
RELEASED = {
    "sd15": TIME | stage(0, 3, 128) | stage(1, 128, 256) | stage(2, 256, 256) | PLAIN_TAIL | WIDE,
    "sd15-train": LIGHT,
    "sdxl": LIGHT,
    "svd-v1": TIME | STEM | stage(0, 128, 128) | stage(1, 128, 256) | stage(2, 256, 256) | TAIL | WIDE,
    "svd-v2": LIGHT,
}
COUNTS = {
    "sd15": 5_352_327,
    "sd15-train": 3_526_400,
    "sdxl": 3_526_400,
    "svd-v1": 5_610_177,
    "svd-v2": 3_526_400,
    "starter": 220_848,
}


@pytest.mark.parametrize("variant", RELEASED)
def test_keys_and_shapes_equal_the_released_files(variant):
    state = ControlNeXtModel.from_variant(variant).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == RELEASED[variant]


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts(variant):
    count = sum(parameter.numel() for parameter in ControlNeXtModel.from_variant(variant).parameters())
    assert count == COUNTS[variant] == VARIANTS[variant].parameters


@pytest.mark.parametrize("timestep", [0, 741, -1.3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_output_equals_the_functional_oracle(variant, timestep):
    module = make_module(variant, 24)
    condition = torch.rand(1, 3, 88, 72)
    expected = oracle.control_module(
        module.state_dict(), condition, timestep, variant, padding=0 if variant.startswith("svd") else 1
    )
    with torch.no_grad():
        torch.testing.assert_close(module(condition, timestep), expected, rtol=1e-4, atol=1e-5)  # two float32 paths


@pytest.mark.parametrize(
    ("variant", "changes", "size"),
    [
        ("sd15", {}, (72, 128)),
        ("sd15-train", {}, (72, 128)),
        ("sdxl", {}, (72, 128)),
        ("svd-v1", {}, (18, 32)),
        ("svd-v2", {}, (71, 127)),
        ("svd-v2", {"stem_padding": 1}, (72, 128)),
    ],
)
def test_output_size_at_576_by_1024(variant, changes, size):
    with torch.device("meta"):
        module = ControlNeXtModel.from_variant(variant, **changes)
        control = module(torch.empty(1, 3, 576, 1024), 3)
    assert control.shape == (1, VARIANTS[variant].layout.out_channels, *size)


def test_the_stem_padding_of_svd_v2_is_a_switch():
    inference, training = (
        ControlNeXtModel.from_variant("svd-v2"),
        ControlNeXtModel.from_variant("svd-v2", stem_padding=1),
    )
    training.load_state_dict(inference.state_dict())
    condition = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert inference(condition, 1).shape[-1] == 3
        expected = oracle.control_module(training.state_dict(), condition, 1, "svd-v2", padding=1)
        torch.testing.assert_close(training(condition, 1), expected, rtol=1e-4, atol=1e-5)


def test_timesteps_may_be_numbers_or_tensors():
    module = make_module("sdxl", 8)
    condition = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = module(condition, 7)
        for timestep in (7.0, torch.tensor(7), torch.tensor([7.0]), torch.tensor([7, 7])):
            assert torch.equal(module(condition, timestep), expected)
        apart = module(condition, torch.tensor([7, 500]))
    assert torch.equal(apart[0], expected[0])
    assert not torch.allclose(apart[1], expected[1])


def stock_forward(module, condition, timestep):
    """The module as diffusers' own resnet blocks run it, without a stop before the timestep."""
    batch, frames = len(condition), condition.shape[1] if condition.ndim == 5 else 1
    sample = module.embedding(condition.to(module.dtype).reshape(batch * frames, *condition.shape[-3:]))
    times = torch.as_tensor(timestep, dtype=torch.float32).reshape(-1).expand(batch)
    embedding = module.time_embedding(module.time_proj(times).to(sample.dtype)).repeat_interleave(frames, dim=0)
    for resnet, downsample in zip(module.down_res, module.down_sample, strict=True):
        sample = downsample(resnet(sample, embedding))
    mixed = module.mid_convs[0](sample)
    return module.mid_convs[1](mixed + sample if module.config.tail_residual else mixed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_prepared_condition_changes_no_bit(variant, dtype):
    module = make_module(variant, 24).to(dtype)
    shape = (2, 3, 3, 72, 56) if variant.startswith("svd") else (2, 3, 40, 56)
    condition = torch.rand(shape)
    with torch.no_grad():
        prepared = module.prepare(condition)
        assert prepared.nbytes == prepared.sample.nbytes + prepared.hidden.nbytes > 0
        for timestep in (0, 741, -1.3, torch.tensor([3, 500])):
            control = module(condition, timestep, prepared)
            assert control.dtype == dtype
            assert torch.equal(control, module(condition, timestep))
            assert torch.equal(control, stock_forward(module, condition, timestep))


def test_a_compiled_module_takes_a_prepared_condition():
    module = make_module("sdxl", 8)
    condition = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = module(condition, 7)
        module.compile(backend="eager")  # the graph is captured, the kernels are the same
        assert torch.equal(module(condition, 7, module.prepare(condition)), expected)
        assert torch.equal(module(condition, 7), expected)


def test_gradients_reach_the_layers_before_the_timestep():
    module = make_module("starter", 8).train()
    module(torch.rand(1, 3, 16, 16), 7).mean().backward()
    assert module.down_res[0].conv1.weight.grad.abs().sum() > 0
    assert module.embedding[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_modules_with_a_stem_are_worth_preparing(variant):
    assert make_module(variant, 8).worth_preparing == (variant != "sd15")


def test_a_condition_prepared_for_other_pictures_is_refused():
    module = make_module("sdxl", 8)
    with torch.no_grad(), pytest.raises(ConditionError, match="2 pictures were given, but 1 prepared"):
        module(torch.rand(2, 3, 8, 8), 1, module.prepare(torch.rand(1, 3, 8, 8)))


def test_video_is_its_frames_in_order():
    module = make_module("svd-v2", 8)
    video = torch.rand(2, 3, 3, 40, 40)
    with torch.no_grad():
        together = module(video, torch.tensor([7, 90]))
        apart = torch.cat([module(video[0], 7), module(video[1], 90)])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-6)  # convolutions at another batch size


def test_low_precision_follows_the_module():
    module = make_module("starter", 8).to(torch.bfloat16)
    with torch.no_grad():
        assert module(torch.rand(1, 3, 32, 32), 7).dtype == torch.bfloat16


@pytest.mark.parametrize("variant", VARIANTS)
def test_save_and_load(variant, tmp_path):
    module = make_module(variant, 24)
    module.save_pretrained(tmp_path)
    loaded = ControlNeXtModel.from_pretrained(tmp_path)
    assert dict(loaded.config)["variant_name"] == variant
    for key, tensor in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)
    condition = torch.rand(1, 3, 72, 72)
    with torch.no_grad():  # another alignment in memory may choose another convolution kernel
        torch.testing.assert_close(loaded(condition, 5), module(condition, 5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), (1, 8, 8, 3)])
def test_a_condition_of_another_shape_is_refused(shape):
    with pytest.raises(ConditionError, match="batch, 3, height, width"):
        make_module("sdxl", 8)(torch.rand(shape), 1)


def test_timesteps_that_do_not_match_are_refused():
    with pytest.raises(ConditionError, match="2 conditions need 1 or 2 timesteps, not 3"):
        make_module("sdxl", 8)(torch.rand(2, 3, 8, 8), torch.arange(3))


def test_unknown_layout_fields_are_refused():
    with pytest.raises(VariantError, match="padding"):
        ControlNeXtModel.from_variant("sdxl", padding=1)
