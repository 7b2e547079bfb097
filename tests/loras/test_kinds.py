"""Each kind of LoRA, built by PEFT or worked out by convolutions, against what the reader makes of its file."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import save_file
from tiny_models import sd_components
from torch import nn

from controlnext.loras.conflicts import Conflicts
from controlnext.loras.file import inspect_lora
from controlnext.loras.layers import LayerName, LoraFileError, read_layers
from controlnext.loras.library import LoraError, load_loras

RANK, ALPHA = 3, 2.0


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(12, 20)
        self.conv = nn.Conv2d(8, 12, 3)
        self.one = nn.Conv2d(8, 12, 1)


CONFIGS = {
    "LoHa": LoHaConfig(r=RANK, alpha=ALPHA, target_modules=["lin", "conv", "one"], init_weights=False),
    "LoHa, Tucker": LoHaConfig(
        r=RANK, alpha=ALPHA, target_modules=["conv"], use_effective_conv2d=True, init_weights=False
    ),
    "LoKr": LoKrConfig(r=2, alpha=ALPHA, target_modules=["lin", "conv", "one"], init_weights=False),
    "LoKr, both": LoKrConfig(
        r=1, alpha=ALPHA, target_modules=["lin", "conv"], decompose_both=True, init_weights=False, decompose_factor=4
    ),
    "LoKr, Tucker": LoKrConfig(
        r=1, alpha=ALPHA, target_modules=["conv"], use_effective_conv2d=True, init_weights=False, decompose_factor=4
    ),
    "LoRA": LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["lin", "conv", "one"], init_lora_weights=False),
    "DoRA": LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=["lin", "conv", "one"], init_lora_weights=False, use_dora=True
    ),
}


def file_of(model, config, path):
    """Write what PEFT holds with the keys of LyCORIS, and LoRAs with PEFT's own."""
    tensors = {}
    for key, value in model.state_dict().items():
        if not any(mark in key for mark in ("hada_", "lokr_", "lora_")):
            continue
        key = key.removeprefix("base_model.model.").replace(".default", "")
        if "lora_" in key:
            tensors[f"unet.{key}"] = value
        else:
            layer, part = key.split(".", 1)
            tensors[f"lora_unet_{layer}.{part}"] = value
            tensors[f"lora_unet_{layer}.alpha"] = torch.tensor(ALPHA)
    if isinstance(config, LoraConfig):
        for layer in config.target_modules:
            tensors[f"unet.{layer}.alpha"] = torch.tensor(ALPHA)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_kind_changes_weights_as_peft_merges_them(kind, tmp_path):
    torch.manual_seed(1)
    net, config = Net(), CONFIGS[kind]
    before = {name: module.weight.detach().clone() for name, module in net.named_children()}
    model = get_peft_model(net, config)
    for name, parameter in model.named_parameters():
        if "magnitude" in name:
            parameter.data *= 1 + 0.2 * torch.rand_like(parameter)
        elif parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    path = file_of(model, config, tmp_path / "x.safetensors")
    info = inspect_lora(path)
    assert (info.problem, info.style) == ("", "peft" if isinstance(config, LoraConfig) else "lycoris")
    merged = model.merge_and_unload()
    layers = list(read_layers(path, base=lambda name: before[name.flat]))
    assert {layer.name.flat for layer in layers} == set(config.target_modules)
    for layer in layers:
        wanted = getattr(merged, layer.name.flat).weight - before[layer.name.flat]
        made = layer.scale * (layer.up.flatten(1) @ layer.down.flatten(1)).reshape(wanted.shape)
        assert wanted.abs().max() > 1e-2
        assert (made - wanted).abs().max() < 1e-5, layer.name.flat


def test_a_locon_with_a_middle_is_three_convolutions_in_a_row(tmp_path):
    torch.manual_seed(2)
    down, mid, up = torch.randn(3, 8, 1, 1), torch.randn(3, 3, 3, 3), torch.randn(12, 3, 1, 1)
    path = tmp_path / "cp.safetensors"
    stem = "diffusion_model.input_blocks.0.0"
    save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_mid.weight": mid, f"{stem}.lora_up.weight": up}, path)
    (layer,) = read_layers(path)
    assert layer.name == LayerName("unet", "conv_in")
    picture = torch.randn(1, 8, 6, 6)
    conv = torch.nn.functional.conv2d
    weight = (layer.up.flatten(1) @ layer.down.flatten(1)).reshape(12, 8, 3, 3) * layer.scale
    torch.testing.assert_close(conv(picture, weight), conv(conv(conv(picture, down), mid), up), rtol=1e-4, atol=1e-4)


def test_magnitudes_of_inputs_are_told_from_those_of_outputs(tmp_path):
    torch.manual_seed(3)
    base, down, up = torch.randn(6, 4), torch.randn(2, 4), torch.randn(6, 2)
    moved = base + up @ down
    path = tmp_path / "x.safetensors"
    for magnitude, wanted in (
        (torch.rand(1, 4), lambda size: size * moved / moved.norm(dim=0, keepdim=True)),
        (torch.rand(6, 1), lambda size: size * moved / moved.norm(dim=1, keepdim=True)),
    ):
        save_file({"unet.x.lora_A.weight": down, "unet.x.lora_B.weight": up, "unet.x.dora_scale": magnitude}, path)
        (layer,) = read_layers(path, base=lambda name: base)
        torch.testing.assert_close(layer.up @ layer.down, wanted(magnitude) - base, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lora_unet_x.alpha": torch.tensor(float("nan"))}, "alpha of nan"),
        ({"lora_unet_x.alpha": torch.ones(2)}, "2 numbers"),
        ({"lora_unet_x.lora_up.weight": torch.ones(5, 3)}, "2x4, 5x3"),
        ({"lora_unet_x.dora_scale": torch.ones(3)}, "3 magnitudes"),
    ],
)
def test_a_broken_layer_is_one_sentence_with_its_name(tmp_path, changes, says):
    tensors = {"lora_unet_x.lora_down.weight": torch.ones(2, 4), "lora_unet_x.lora_up.weight": torch.ones(5, 2)}
    path = tmp_path / "broken.safetensors"
    save_file(tensors | changes, path)
    with pytest.raises(LoraFileError, match=rf"layer x .*{says}"):
        list(read_layers(path, base=lambda name: torch.ones(5, 4)))


def test_the_conflict_of_a_dora_says_why_it_is_unknown(tmp_path):
    key = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0"
    path, adapter = tmp_path / "dora.safetensors", tmp_path / "adapter"
    adapter.mkdir()
    save_file({f"{key}.weight": torch.ones(4, 4)}, adapter / "unet.safetensors", {"kind": "delta"})
    save_file(
        {f"unet.{key}.lora_A.weight": torch.ones(1, 4), f"unet.{key}.lora_B.weight": torch.ones(4, 1),
         f"unet.{key}.dora_scale": torch.ones(4, 1)}, path,
    )  # fmt: skip
    conflict = Conflicts().measure(path, adapter)
    assert conflict.word in ("unknown", "none")


def test_all_kinds_act_on_a_pipeline_with_weights_and_leave_no_trace(tmp_path):
    pipeline = StableDiffusionPipeline(**sd_components())
    unet = pipeline.unet
    torch.manual_seed(4)
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q"
    base = unet.get_submodule(layer).weight.detach().clone()
    out, into = base.shape
    stem = "lora_unet_" + layer.replace(".", "_")
    plain = {f"{stem}.lora_down.weight": torch.randn(2, into), f"{stem}.lora_up.weight": torch.randn(out, 2)}
    files = {
        "loha": {f"{stem}.hada_w{n}_{x}": torch.randn(*((out, 2) if x == "a" else (2, into))) for n in (1, 2) for x in "ab"},
        "lokr": {f"{stem}.lokr_w1": torch.randn(2, 2), f"{stem}.lokr_w2": torch.randn(out // 2, into // 2)},
        "dora": {**plain, f"{stem}.dora_scale": torch.rand(out, 1)},
    }  # fmt: skip
    moved = base + plain[f"{stem}.lora_up.weight"] @ plain[f"{stem}.lora_down.weight"]
    h = {key.rsplit("_", 2)[1] + key[-1]: value for key, value in files["loha"].items()}
    changes = {
        "loha": (h["w1a"] @ h["w1b"]) * (h["w2a"] @ h["w2b"]),
        "lokr": torch.kron(*files["lokr"].values()),
        "dora": files["dora"][f"{stem}.dora_scale"] * moved / moved.norm(dim=1, keepdim=True) - base,
    }
    infos = []
    for name, tensors in files.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        infos.append(inspect_lora(tmp_path / f"{name}.safetensors"))
    state = {key: value.clone() for key, value in unet.state_dict().items()}
    x = torch.randn(3, into)
    weights = (0.5, -0.7, 1.3)
    load_loras(pipeline, list(zip(infos, weights, strict=True)))
    with torch.no_grad():
        made = unet.get_submodule(layer)(x)
        wanted = x @ (base + sum(w * changes[info.name] for info, w in zip(infos, weights, strict=True))).T
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4)
    load_loras(pipeline, [])
    after = unet.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[key], state[key]) for key in state)


def test_a_layer_of_another_size_is_named(tmp_path):
    pipeline = StableDiffusionPipeline(**sd_components())
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q"
    save_file(
        {f"unet.{layer}.lora_A.weight": torch.ones(2, 5), f"unet.{layer}.lora_B.weight": torch.ones(7, 2)},
        tmp_path / "other.safetensors",
    )
    with pytest.raises(LoraError, match=r"attn2\.to_q changes a weight of 7x5"):
        load_loras(pipeline, [(inspect_lora(tmp_path / "other.safetensors"), 1.0)])
    assert not any(pipeline.get_list_adapters().values())
