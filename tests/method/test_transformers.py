"""ControlNeXt on diffusers' transformers: tiny random ones of every class."""

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import save_file

from controlnext.method.adapter import AdapterError, ControlNeXtAdapter
from controlnext.method.gamma import ControlSizeError
from controlnext.method.injection import InjectionError, attach
from controlnext.method.model import ControlNeXtModel
from controlnext.method.tokens import add_to_tokens
from controlnext.method.variants import TRANSFORMERS, Tokens, get_variant

R = torch.randn
_SD3 = {
    "sample_size": 8, "patch_size": 2, "in_channels": 4, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 4,
    "caption_projection_dim": 32, "joint_attention_dim": 32, "pooled_projection_dim": 64, "out_channels": 4, "pos_embed_max_size": 8,
}  # fmt: skip


def _flux():
    model = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    return model, {
        "hidden_states": R(2, 16, 16), "encoder_hidden_states": R(2, 7, 32), "pooled_projections": R(2, 32),
        "timestep": torch.tensor([0.5, 0.5]), "img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(7, 3),
    }  # fmt: skip


def _flux2():
    model = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, timestep_guidance_channels=256, axes_dims_rope=[4, 4, 4, 4],
    )  # fmt: skip
    return model, {
        "hidden_states": R(1, 16, 16), "encoder_hidden_states": R(1, 7, 32), "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(16, 4), "txt_ids": torch.zeros(7, 4), "guidance": torch.tensor([1.0]),
    }  # fmt: skip


def _sd3():
    model = diffusers.SD3Transformer2DModel(**_SD3)
    return model, {
        "hidden_states": R(2, 4, 8, 8), "encoder_hidden_states": R(2, 7, 32), "pooled_projections": R(2, 64),
        "timestep": torch.tensor([500, 500]),
    }  # fmt: skip


def _wan():
    model = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=64,
        ffn_dim=32, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
    )  # fmt: skip
    return model, {
        "hidden_states": R(1, 4, 3, 8, 8),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": R(1, 7, 16),
    }


def _qwen():
    model = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    return model, {
        "hidden_states": R(1, 16, 16), "encoder_hidden_states": R(1, 7, 16), "timestep": torch.tensor([0.5]),
        "encoder_hidden_states_mask": torch.ones(1, 7, dtype=torch.long), "img_shapes": [[(1, 4, 4)]],
    }  # fmt: skip


def _z_image():
    model = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2,
        norm_eps=1e-5, qk_norm=True, cap_feat_dim=16, rope_theta=256.0, t_scale=1000.0, axes_dims=[8, 4, 4], axes_lens=[256, 32, 32],
    )  # fmt: skip
    return model, {"x": [R(16, 1, 8, 8)], "t": torch.tensor([0.5]), "cap_feats": [R(8, 16)]}


def _sana():
    model = diffusers.SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=8, sample_size=4,
    )  # fmt: skip
    return model, {
        "hidden_states": R(1, 4, 4, 4),
        "encoder_hidden_states": R(1, 7, 8),
        "timestep": torch.tensor([500]),
    }


def _pixart():
    model = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4, out_channels=8,
        cross_attention_dim=16, caption_channels=8, norm_type="ada_norm_single",
    )  # fmt: skip
    return model, {
        "hidden_states": R(1, 4, 8, 8), "encoder_hidden_states": R(1, 7, 8), "timestep": torch.tensor([500]),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }  # fmt: skip


MODELS = {
    "flux": (_flux, 32), "flux2": (_flux2, 32), "sd3": (_sd3, 32), "sd3-channels": (_sd3, 32), "sd3-latents": (_sd3, 4), "wan": (_wan, 24),
    "qwen-image": (_qwen, 32), "z-image": (_z_image, 32), "sana": (_sana, 16), "pixart": (_pixart, 16),
}  # fmt: skip


def condition_of(name, frames=3):
    side = 128 if name == "sana" else 64
    shape = (1, frames, 3, side, side) if name == "wan" else (1, 3, side, side)
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


def output(model, call):
    with torch.no_grad():
        made = model(**call, return_dict=False)[0]
    return torch.stack(list(made)) if isinstance(made, list | tuple) else made


@pytest.fixture(params=MODELS)
def case(request):
    """A tiny transformer, the call of one step, and an untrained control module of its width."""
    torch.manual_seed(0)
    make, width = MODELS[request.param]
    model, call = make()
    for parameter in model.parameters():
        if not parameter.detach().abs().sum():  # zero layers would hide everything
            torch.nn.init.normal_(parameter, std=0.05)
    small = {"stem_channels": (8, 8, 8), "time_proj_dim": 16, "time_embed_dim": 16, "out_channels": width}
    depth = len(TRANSFORMERS[request.param].layout.stage_channels)
    module = ControlNeXtModel.from_variant(
        request.param, **small, stage_channels=(8,) * depth, stage_groups=(4,) * depth
    )
    return request.param, model.eval(), call, module.eval()


def test_control_changes_the_output_and_leaves_no_trace(case):
    name, model, call, module = case
    bare = output(model, call)
    with attach(model, module, name, condition_of(name), 0.0):
        assert torch.equal(output(model, call), bare)
    with attach(model, module, name, condition_of(name), 1.0) as injection:
        changed = output(model, call)
        injection.set(condition_of(name), 0.5)
        weaker = output(model, call)
    assert torch.equal(output(model, call), bare)
    far, near = ((one - bare).norm() / bare.norm() for one in (changed, weaker))
    assert changed.isfinite().all()
    assert near > 1e-3
    assert far > near


def test_the_condition_and_its_place_matter(case):
    name, model, call, module = case
    first = condition_of(name)
    with attach(model, module, name, first) as injection:
        one = output(model, call)
        injection.set(first.flip(-1))
        assert not torch.allclose(one, output(model, call))
        injection.set(first.clone())
        assert torch.equal(one, output(model, call))


def test_a_whole_batch_or_one_condition_for_all():
    torch.manual_seed(0)
    model, call = _sd3()
    module = ControlNeXtModel.from_variant("sd3", out_channels=32)
    pair = torch.rand(2, 3, 64, 64)
    with attach(model, module, "sd3", pair) as injection:
        both = output(model, call)
        for index in range(2):
            injection.set(pair[index : index + 1])
            assert torch.allclose(output(model, call)[index], both[index], atol=1e-4)  # sums in another order


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_tokens_are_normalised_as_numpy_does(per_channel, per_frame, last):
    from dataclasses import replace

    rng = np.random.default_rng(0)
    batch, frames, rows, columns, width, others = 2, 3, 2, 4, 5, 7
    count = frames * rows * columns
    hidden, control = (
        rng.normal(2, 3, (batch, count + others, width)),
        rng.normal(size=(batch * frames, width, rows, columns)),
    )
    gamma = np.repeat([0.3, 0.8], frames)
    variant = replace(TRANSFORMERS["wan"], tokens=Tokens(last=last, per_channel=per_channel, per_frame=per_frame))
    made = add_to_tokens(
        torch.tensor(hidden), torch.tensor(control), torch.tensor(gamma).view(-1, 1, 1, 1), variant, (frames, rows, columns)
    )  # fmt: skip

    start = others if last else 0
    expected = hidden.copy()
    own = control.reshape(batch, frames, width, rows * columns).transpose(0, 1, 3, 2)
    states = hidden[:, start : start + count].reshape(batch, frames, rows * columns, width)
    axes = tuple(axis for axis, kept in ((1, per_frame), (2, False), (3, per_channel)) if not kept)
    moved = (own - own.mean(axes, keepdims=True)) / (own.std(axes, ddof=1, keepdims=True) + variant.eps)
    moved = moved * states.std(axes, ddof=1, keepdims=True) + states.mean(axes, keepdims=True)
    strength = np.array([0.3, 0.8]).reshape(batch, 1, 1, 1)
    expected[:, start : start + count] = (states + strength * moved).reshape(batch, count, width)
    assert np.allclose(made.numpy(), expected, atol=1e-12)


def test_gradients_reach_the_module_through_checkpointed_blocks():
    torch.manual_seed(0)
    grads = []
    model, call = _sd3()
    module = ControlNeXtModel.from_variant("sd3", out_channels=32)
    for checkpointing in (False, True):
        (model.enable_gradient_checkpointing if checkpointing else model.disable_gradient_checkpointing)()
        model.train()
        module.zero_grad()
        with attach(model, module, "sd3", condition_of("sd3")):
            model(**call, return_dict=False)[0].square().mean().backward()
        grads.append(module.mid_convs[1].weight.grad.clone())
    assert grads[0].abs().sum() > 0
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-7)


def test_a_variant_of_another_model_is_refused():
    model, _ = _pixart()
    module = ControlNeXtModel.from_variant("pixart", out_channels=16)
    with pytest.raises(InjectionError, match="sample and timestep"):
        attach(model, module, "sdxl")
    with pytest.raises(InjectionError, match="x and t"):
        attach(model, module, "z-image")
    assert get_variant("z-image").tokens == Tokens()


def test_a_condition_of_another_shape_is_refused():
    for name, wrong in (("sd3", torch.rand(1, 3, 64, 96)), ("wan", torch.rand(1, 2, 3, 64, 64))):
        make, width = MODELS[name]
        model, call = make()
        module = ControlNeXtModel.from_variant(name, out_channels=width)
        with attach(model, module, name, wrong), pytest.raises(ControlSizeError, match="does not fit latents"):
            output(model, call)


@pytest.mark.parametrize("first", ["lora", "control"])
def test_loras_join_in_and_leave_no_trace(first):
    torch.manual_seed(0)
    model, call = _sd3()
    module = ControlNeXtModel.from_variant("sd3", out_channels=32)
    bare = output(model, call)

    def add():
        torch.manual_seed(4)
        model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_out.0"], init_lora_weights=False), "style")

    if first == "lora":
        add()
    injection = attach(model, module, "sd3", condition_of("sd3"), 0.0)
    if first == "control":
        add()
    styled = output(model, call)
    injection.set(condition_of("sd3"), 1.0)
    assert not torch.allclose(output(model, call), styled, atol=1e-3)
    injection.set(condition_of("sd3"), 0.0)
    assert torch.equal(output(model, call), styled)
    assert not torch.allclose(styled, bare, atol=1e-4)
    model.unload_lora()
    assert torch.equal(output(model, call), bare)
    injection.detach()
    assert torch.equal(output(model, call), bare)


def test_an_adapter_brings_weights_of_the_transformer_and_takes_them_back():
    torch.manual_seed(0)
    model, call = _flux()
    bare = output(model, call)
    key = "transformer_blocks.0.attn.to_out.0.weight"
    delta = {key: torch.randn_like(model.get_parameter(key))}
    adapter = ControlNeXtAdapter(ControlNeXtModel.from_variant("flux", out_channels=32).eval(), delta, "delta")
    with adapter.attach(model, condition_of("flux"), 0.0):
        assert not torch.allclose(output(model, call), bare, atol=1e-4)
    assert torch.equal(output(model, call), bare)


@pytest.mark.parametrize("name", ["flux", "wan"])
def test_checkpointed_blocks_are_controlled_as_others(name):
    torch.manual_seed(0)
    make, width = MODELS[name]
    model, call = make()
    module = ControlNeXtModel.from_variant(name, out_channels=width)
    model.train()
    outputs = []
    for on in (False, True):
        (model.enable_gradient_checkpointing if on else model.disable_gradient_checkpointing)()
        module.zero_grad()
        with attach(model, module, name, condition_of(name)):
            made = model(**call, return_dict=False)[0]
            made.square().mean().backward()
        outputs.append((made.detach(), module.mid_convs[1].weight.grad.clone()))
    assert torch.allclose(outputs[0][0], outputs[1][0], atol=1e-6)
    assert torch.allclose(outputs[0][1], outputs[1][1], rtol=1e-4, atol=1e-7)
    assert outputs[0][1].abs().sum() > 0


def test_compiled_transformers_are_controlled():
    torch.manual_seed(0)
    model, call = _sd3()
    module = ControlNeXtModel.from_variant("sd3", out_channels=32).eval()
    bare = output(model, call)
    with attach(model, module, "sd3", condition_of("sd3")):
        expected = output(model, call)
    model.compile(backend="eager")  # the graph is captured, the kernels are the same
    assert torch.equal(output(model, call), bare)
    with attach(model, module, "sd3", condition_of("sd3")) as injection:
        assert torch.allclose(output(model, call), expected, atol=1e-6)
        injection.set(condition_of("sd3"), 0.0)
        assert torch.equal(output(model, call), bare)
    assert torch.equal(output(model, call), bare)


def test_equal_timesteps_share_one_control():
    torch.manual_seed(0)
    model, call = _sd3()
    module = ControlNeXtModel.from_variant("sd3", out_channels=32)
    seen = []
    module.register_forward_hook(lambda _, args, made: seen.append(len(made)))
    with attach(model, module, "sd3", condition_of("sd3")):
        output(model, call)
        output(model, {**call, "timestep": torch.tensor([500, 400])})
    assert seen == [1, 2]


def test_names_of_the_flux_module_of_euge_trainer_load(tmp_path):
    """Keys as its `ControlNetModel` has them; its scale is a plain number, and its time code starts from t in [0, 1000]."""
    names = {
        **{f"time_embedding.linear_{i}": size for i, size in ((1, (256, 128)), (2, (256, 256)))},
        **{f"embedding.{i}": size for i, size in ((0, (64, 3, 3, 3)), (3, (64, 64, 3, 3)), (6, (128, 64, 3, 3)))},
        **{f"embedding.{i}": (width,) for i, width in ((1, 64), (4, 64), (7, 128))},
        "mid_convs.0.0": (256, 256, 3, 3), "mid_convs.0.3": (256, 256, 3, 3), "mid_convs.0.2": (256,), "mid_convs.0.4": (256,),
        "mid_convs.1": (3072, 256, 1, 1),
    }  # fmt: skip
    for index, (before, after) in enumerate(((128, 128), (128, 256), (256, 256))):
        part = f"down_res.{index}"
        names |= {f"{part}.norm1": (before,), f"{part}.norm2": (after,), f"{part}.time_emb_proj": (after, 256)}
        names |= {f"{part}.conv1": (after, before, 3, 3), f"{part}.conv2": (after, after, 3, 3)}
        names |= {f"down_sample.{index}.conv": (after, after, 3, 3)}
        if before != after:
            names |= {f"{part}.conv_shortcut": (after, before, 1, 1)}
    tensors = {f"{name}.weight": R(*shape) for name, shape in names.items()}
    tensors |= {f"{name}.bias": R(shape[0]) for name, shape in names.items()}
    save_file(tensors, tmp_path / "controlnext.safetensors")
    with pytest.raises(AdapterError, match="flux, qwen-image"):
        ControlNeXtAdapter.from_pretrained(tmp_path)
    adapter = ControlNeXtAdapter.from_pretrained(tmp_path, variant="flux")
    assert adapter.variant is TRANSFORMERS["flux"]
    assert all(torch.equal(value, tensors[key]) for key, value in adapter.module.state_dict().items())
