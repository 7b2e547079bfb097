import logging
import pickle

import pytest
import torch
from peft import LoraConfig
from tiny_models import make_unet

from controlnext.method.weights import UNetPatch, WeightsError, read_tensors, unet_parameters, write_tensors

KEYS = (
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0.weight",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0.bias",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.weight",
    "conv_in.weight",
)


def copy_of(unet):
    return {key: value.detach().clone() for key, value in unet_parameters(unet).items()}


def make_delta(unet, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    parameters = unet_parameters(unet)
    return {key: torch.randn(parameters[key].shape, generator=generator).to(dtype) for key in KEYS}


def assert_same(unet, values):
    parameters = unet_parameters(unet)
    assert parameters.keys() == values.keys()
    assert [key for key, value in values.items() if not torch.equal(parameters[key], value)] == []


def add_lora(unet, name="style"):
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_out.0", "to_q"], init_lora_weights=False), adapter_name=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("alpha", [1.0, 0.35, 1.5])
def test_a_delta_is_added_and_taken_back_bit_for_bit(unet, alpha, dtype):
    unet.to(dtype)
    before, delta = copy_of(unet), make_delta(unet, torch.float16)
    patch = UNetPatch(unet, delta, "delta", alpha)
    expected = before | {key: (before[key].float() + alpha * delta[key].float()).to(dtype) for key in KEYS}
    assert_same(unet, expected)
    patch.restore()
    patch.restore()
    assert_same(unet, before)


def test_a_subset_replaces_and_goes_back_bit_for_bit(unet):
    before, values = copy_of(unet), make_delta(unet)
    patch = UNetPatch(unet, values, "subset")
    assert_same(unet, before | values)
    patch.set_alpha(0.5)
    torch.testing.assert_close(unet_parameters(unet)[KEYS[0]], (before[KEYS[0]] + values[KEYS[0]]) / 2)
    patch.set_alpha(1.0)
    assert_same(unet, before | values)
    patch.restore()
    assert_same(unet, before)


def test_delta_equals_replacement_on_the_same_checkpoint():
    # Values on a coarse grid, so that value = base + (value - base) holds exactly.
    unets = [make_unet(), make_unet()]
    for unet in unets:
        with torch.no_grad():
            for parameter in unet.parameters():
                parameter.copy_((parameter * 64).round() / 64)
    before = copy_of(unets[0])
    values = {key: (tensor * 64).round() / 64 for key, tensor in make_delta(unets[0]).items()}
    UNetPatch(unets[0], values, "subset")
    UNetPatch(unets[1], {key: values[key] - before[key] for key in KEYS}, "delta")
    assert_same(unets[0], copy_of(unets[1]))


def test_alpha_changes_count_from_the_original(unet):
    before, delta = copy_of(unet), make_delta(unet)
    patch = UNetPatch(unet, delta, "delta", 0.0)
    assert_same(unet, before)
    for alpha in (0.3, 1.5, 0.1, 0.7):
        patch.set_alpha(alpha)
    assert_same(unet, before | {key: before[key] + 0.7 * delta[key] for key in KEYS})
    patch.set_alpha(0)
    assert_same(unet, before)


@pytest.mark.parametrize("order", ["lora first", "patch first", "lora leaves first", "lora comes and goes"])
def test_loras_and_patches_in_any_order(unet, order):
    before, delta = copy_of(unet), make_delta(unet)
    patched = before | {key: before[key] + delta[key] for key in KEYS}
    if order == "lora first":
        add_lora(unet)
        patch = UNetPatch(unet, delta, "delta")
    else:
        patch = UNetPatch(unet, delta, "delta")
        add_lora(unet)
    assert any(".base_layer." in name for name, _ in unet.named_parameters())
    assert_same(unet, patched)
    if order == "lora comes and goes":
        unet.delete_adapters("style")
        add_lora(unet, "another")
    if order == "lora leaves first":
        unet.unload_lora()
    patch.restore()
    assert_same(unet, before)


def test_a_lora_adds_to_the_delta(unet):
    sample, states = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 16)
    delta, runs = make_delta(unet), []
    for lora_first in (True, False):
        one = make_unet()
        torch.manual_seed(7)
        patch = None if lora_first else UNetPatch(one, delta, "delta", 0.01)
        add_lora(one)
        patch = patch or UNetPatch(one, delta, "delta", 0.01)
        with torch.no_grad():
            runs.append(one(sample, 3, states).sample)
    assert torch.equal(*runs)


def test_a_lora_fused_meanwhile_is_kept(unet, caplog):
    add_lora(unet)
    before, delta = copy_of(unet), make_delta(unet)
    patch = UNetPatch(unet, delta, "delta")
    unet.fuse_lora()
    with caplog.at_level(logging.WARNING):
        patch.restore()
    assert "kept" in caplog.text
    fused = copy_of(unet)
    assert not torch.allclose(fused[KEYS[0]], before[KEYS[0]])
    unet.unfuse_lora()
    for key, value in before.items():
        torch.testing.assert_close(
            unet_parameters(unet)[key], value, rtol=1e-4, atol=1e-5
        )  # adding and subtracting rounds
    assert torch.equal(unet_parameters(unet)["conv_in.weight"], before["conv_in.weight"])


def test_the_unet_may_change_its_dtype_meanwhile(unet):
    before = copy_of(unet)
    patch = UNetPatch(unet, make_delta(unet), "delta")
    unet.half()
    patch.restore()
    assert_same(unet, {key: value.half() for key, value in before.items()})


def test_parameters_stay_the_same_objects(unet):
    parameters = dict(unet.named_parameters())
    patch = UNetPatch(unet, make_delta(unet), "delta")
    patch.restore()
    assert all(parameters[name] is parameter for name, parameter in unet.named_parameters())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in parameters.values())


def test_unknown_keys_and_wrong_shapes_are_named_and_change_nothing(unet):
    before, delta = copy_of(unet), make_delta(unet)
    unknown = {f"down_blocks.{i}.nothing": torch.zeros(1) for i in range(7, 12)}
    with pytest.raises(WeightsError, match=r"5 unknown keys \(down_blocks.7.nothing, .*, \.\.\.\)"):
        UNetPatch(unet, delta | unknown, "delta")
    with pytest.raises(WeightsError, match=r"1 wrong shapes \(conv_in.weight \(3,\) instead of \(16, 4, 3, 3\)\)"):
        UNetPatch(unet, delta | {"conv_in.weight": torch.zeros(3)}, "delta")
    with pytest.raises(WeightsError, match="no tensors"):
        UNetPatch(unet, {}, "delta")
    assert_same(unet, before)


@pytest.mark.parametrize("alpha", [-0.1, 1.6, float("nan"), "1", None])
def test_alpha_out_of_range_is_refused(unet, alpha):
    with pytest.raises(WeightsError, match=r"0 to 1\.5"):
        UNetPatch(unet, make_delta(unet), "delta", alpha)


@pytest.mark.parametrize("kind", [None, "difference"])
def test_the_kind_is_never_guessed(unet, kind):
    with pytest.raises(WeightsError, match='kind="delta" or kind="subset"'):
        UNetPatch(unet, make_delta(unet), kind)


def test_offloaded_weights_are_refused(unet):
    delta = make_delta(unet)
    with pytest.raises(WeightsError, match="enable_sequential_cpu_offload"):
        UNetPatch(unet.to("meta"), delta, "delta")


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin", "w.pt", "w.pth"])
def test_files_are_read(tmp_path, name):
    tensors = {"a": torch.rand(2), "b": torch.tensor(1.0, dtype=torch.float16)}
    path = tmp_path / name
    if path.suffix == ".safetensors":
        write_tensors(path, tensors, {"kind": "delta"})
    else:
        torch.save(tensors, path)
    read, metadata = read_tensors(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[key], tensors[key]) and read[key].dtype == tensors[key].dtype for key in tensors)
    assert metadata.get("kind") == ("delta" if path.suffix == ".safetensors" else None)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    path, plain = tmp_path / "w.safetensors", tmp_path / "plain"
    (tmp_path / "w.safetensors.partial").touch(0o600)  # what a process left that died
    plain.touch()
    write_tensors(path, {"a": torch.rand(2)}, {})
    assert path.stat().st_mode == plain.stat().st_mode


class Trap:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.safetensors", b"not a header"),
        ("w.safetensors", b""),
        ("w.bin", b"not a pickle"),
        ("w.pt", b""),
        ("w.bin", pickle.dumps(Trap(), protocol=2)),
        ("w.png", b""),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path, capsys, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_tensors(path)
    assert "code ran" not in capsys.readouterr().out


def test_files_that_hold_more_than_tensors_or_are_missing_are_refused(tmp_path):
    torch.save({"state": {"a": torch.rand(1)}}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="more than named tensors"):
        read_tensors(tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="no weight file"):
        read_tensors(tmp_path / "none.safetensors")
