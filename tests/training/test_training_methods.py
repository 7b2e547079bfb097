import json

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors import safe_open
from tiny_models import CHANNELS, make_case, make_module, make_unet, sd_components
from training_parts import PATTERN, tiny_method

from controlnext import ControlNeXtAdapter
from controlnext.method.injection import attach
from controlnext.method.weights import WeightsError
from controlnext.training.config import TrainingError
from controlnext.training.methods import DrawRequest, call_unet

KEY = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0.weight"
FACTS = {"annotator": "canny", "gamma": "0.35", "base": "tiny", "steps": "7"}


def inputs(batch=2):
    generator = torch.Generator().manual_seed(0)
    return {
        "noisy": torch.randn(batch, 4, 8, 8, generator=generator),
        "timestep": torch.tensor([5, 700])[:batch],
        "states": {"encoder_hidden_states": torch.randn(batch, 5, 16, generator=generator)},
        "condition": torch.rand(batch, 3, 64, 64, generator=generator),
        "keep": torch.ones(batch),
    }


def nudge(method, by=0.05):
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for group in method.groups():
            for parameter in group.parameters.values():
                parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return method


def predicted(method):
    with torch.no_grad():
        return method(**inputs())


def test_prediction_is_the_injections():
    method = tiny_method(gamma=0.7)
    unet, module, given = make_unet(), make_module("starter", CHANNELS["starter"]), inputs()
    with attach(unet, module, "starter", given["condition"], 0.7), torch.no_grad():
        expected = unet(given["noisy"], given["timestep"], given["states"]["encoder_hidden_states"]).sample
    torch.testing.assert_close(predicted(method), expected, rtol=0, atol=0)


def test_a_sample_without_control_is_the_bare_unets():
    method, given = tiny_method(), inputs()
    given["keep"] = torch.tensor([1.0, 0.0])
    with torch.no_grad():
        mixed = method(**given)
        bare = make_unet()(given["noisy"], given["timestep"], given["states"]["encoder_hidden_states"]).sample
    assert not torch.allclose(mixed[0], bare[0], atol=1e-3)
    torch.testing.assert_close(mixed[1], bare[1], rtol=0, atol=1e-6)


def test_every_weight_has_a_gradient_even_where_no_sample_has_control():
    method, given = tiny_method(), inputs()
    given["keep"] = torch.zeros(2)
    method(**given).square().mean().backward()
    for group in method.groups():
        assert all(
            parameter.grad is not None and parameter.grad.isfinite().all() for parameter in group.parameters.values()
        )


def test_gradient_checkpointing_saves_memory_and_changes_no_gradient():
    found = []
    for often in (1, 2):
        method, runs = tiny_method(), []
        method.unet.down_blocks[1].resnets[0].register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        if often == 2:
            method.unet.enable_gradient_checkpointing()
        method.train()
        method(**inputs()).square().mean().backward()
        assert len(runs) == often  # once more in the backward pass, in place of what would have been kept
        found.append({name: p.grad for group in method.groups() for name, p in group.parameters.items()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7)


def test_groups_have_their_rates_and_nothing_else_learns():
    method = tiny_method(rates=(1e-4, 1e-5))
    assert {group.name: group.rate for group in method.groups()} == {"module": 1e-4, "subset": 1e-5}
    learning = {id(p) for group in method.groups() for p in group.parameters.values()}
    assert {id(p) for p in method.parameters() if p.requires_grad} == learning
    assert all(p.dtype == torch.float32 for group in method.groups() for p in group.parameters.values())
    assert method.describe().startswith("module ")


def test_trained_weights_become_float32_in_a_half_precision_unet():
    method = tiny_method()
    unet = make_unet().to(torch.bfloat16)
    method = type(method)(unet, "starter", module=make_module("starter", 16), pattern=PATTERN)
    assert unet.get_parameter(KEY).dtype == torch.float32
    assert unet.conv_in.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["delta", "subset"])
def test_saved_adapter_does_on_the_base_what_was_trained(tmp_path, kind):
    method = nudge(tiny_method(kind=kind, gamma=0.35))
    expected = predicted(method)
    method.save(tmp_path / "adapter", FACTS, torch.float32)
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == [
        "config.json", "controlnet.safetensors", "unet.safetensors",
    ]  # fmt: skip
    adapter = ControlNeXtAdapter.from_pretrained(tmp_path / "adapter")
    assert (adapter.kind, adapter.variant.name, adapter.gamma) == (kind, "starter", 0.35)
    assert (adapter.annotator, adapter.base) == ("canny", "tiny")
    unet, given = make_unet(), inputs()
    with adapter.attach(unet, given["condition"], adapter.gamma), torch.no_grad():
        result = unet(given["noisy"], given["timestep"], given["states"]["encoder_hidden_states"]).sample
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_metadata_says_how_it_was_made(tmp_path):
    nudge(tiny_method()).save(tmp_path, FACTS, torch.float16)
    with safe_open(tmp_path / "unet.safetensors", "pt") as file:
        metadata = file.metadata()
        assert file.get_tensor(KEY).dtype == torch.float16
    assert {**metadata, "kind": "delta", "variant": "starter", **FACTS} == metadata
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == "7"


def test_saving_again_replaces_the_adapter_and_leaves_nothing_behind(tmp_path):
    method = nudge(tiny_method())
    method.save(tmp_path / "adapter", FACTS, torch.float16)
    before = (tmp_path / "adapter" / "unet.safetensors").read_bytes()
    nudge(method).save(tmp_path / "adapter", FACTS, torch.float16)
    assert (tmp_path / "adapter" / "unet.safetensors").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_starting_from_an_adapter_goes_on_where_it_was(tmp_path):
    first = nudge(tiny_method())
    expected = predicted(first)
    first.save(tmp_path, FACTS, torch.float32)
    second = tiny_method(start=tmp_path)
    torch.testing.assert_close(predicted(second), expected, rtol=1e-4, atol=1e-5)
    # Its differences are those to the base model, not to where it began.
    weights = second.unet_weights()
    for name, value in first.unet_weights().items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-6)


def test_starting_with_a_narrower_subset_is_refused(tmp_path):
    nudge(tiny_method()).save(tmp_path, FACTS, torch.float32)
    with pytest.raises(TrainingError, match=r"changes .* more UNet weights that trainable\.subset does not name"):
        tiny_method(start=tmp_path, pattern=r".*attn1.*to_out.*")


def test_starting_from_another_module_is_refused(tmp_path):
    ControlNeXtAdapter(make_module("sdxl", 32), variant="starter").save_pretrained(tmp_path)
    with pytest.raises(WeightsError):
        tiny_method(start=tmp_path)


def test_lora_is_saved_as_what_it_changes(tmp_path):
    method = nudge(tiny_method(lora=(2, r".*attn[12]\.to_out\.0")))
    assert [group.name for group in method.groups()] == ["module", "LoRA"]
    expected = predicted(method)
    method.save(tmp_path, FACTS, torch.float32)
    adapter = ControlNeXtAdapter.from_pretrained(tmp_path)
    assert adapter.kind == "delta"
    assert all(key.endswith(".to_out.0.weight") for key in adapter.unet_weights)
    unet, given = make_unet(), inputs()
    with adapter.attach(unet, given["condition"]), torch.no_grad():
        result = unet(given["noisy"], given["timestep"], given["states"]["encoder_hidden_states"]).sample
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_module_alone_saves_no_unet_weights(tmp_path):
    method = tiny_method(pattern="")
    assert [group.name for group in method.groups()] == ["module"]
    method.save(tmp_path, FACTS, torch.float16)
    assert not (tmp_path / "unet.safetensors").exists()
    assert ControlNeXtAdapter.from_pretrained(tmp_path).unet_weights is None


def test_pictures_follow_the_strength_of_the_training_and_leave_no_control_behind():
    components = sd_components()
    components["scheduler"] = DDIMScheduler(clip_sample=False, beta_schedule="scaled_linear", steps_offset=1)
    pipeline = StableDiffusionPipeline(**components)
    pipeline.set_progress_bar_config(disable=True)
    method = type(tiny_method())(pipeline.unet, "starter", module=make_module("starter", 16), gamma=0.5)
    condition = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def draw(**changes):
        request = DrawRequest(
            ["a"], condition, [3], steps=2, guidance_scale=2.0, options={"output_type": "np"}, **changes
        )
        return torch.from_numpy(method.pictures(pipeline, request)[0])

    drawn = draw()
    assert torch.equal(draw(), drawn)
    assert not torch.allclose(draw(gamma=0.0), drawn, atol=1e-3)
    method.gamma = 1.0
    torch.testing.assert_close(draw(gamma=0.5), drawn)
    assert method.injection.source.condition is None


@pytest.mark.parametrize("variant", ["sdxl", "svd-v2"])
def test_other_families_take_their_states_by_name(variant):
    case = make_case(variant, batch=2)
    if variant == "sdxl":
        states = {"encoder_hidden_states": case.others["encoder_hidden_states"]}
        noisy = case.sample
    else:
        noisy, still = case.sample[:, :, :4], torch.randn(2, 4, 8, 12)
        states = {**case.others, "image_latents": still}
        case.sample[:, :, 4:] = still.unsqueeze(1)
    with torch.no_grad():
        given = call_unet(case.unet, noisy, torch.tensor([11, 11]), states)
    torch.testing.assert_close(given, case.run(), rtol=1e-5, atol=1e-5)
