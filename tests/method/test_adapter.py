import json

import pytest
import torch
from test_weights import assert_same, copy_of, make_delta
from tiny_models import Counter, make_case, make_module, make_unet

from controlnext import VARIANTS, ControlNeXtAdapter, ControlNeXtModel
from controlnext.method.adapter import AdapterError
from controlnext.method.gamma import ControlSizeError
from controlnext.method.injection import InjectionError, attached_injections
from controlnext.method.variants import VariantError
from controlnext.method.weights import WeightsError, write_tensors


@pytest.fixture
def case():
    return make_case("sdxl", batch=2, conditions=1)


@pytest.fixture
def adapter(case):
    return ControlNeXtAdapter(
        case.module, make_delta(case.unet), kind="delta", annotator="canny", gamma=0.6, base="tiny"
    )


def test_attach_applies_weights_and_control_and_takes_both_back(case, adapter):
    before, bare = copy_of(case.unet), case.run()
    with adapter.attach(case.unet, case.condition, gamma=0.5, alpha=0.1) as attachment:
        assert attachment.attached
        assert not torch.allclose(case.run(), bare, atol=1e-2)
    assert not attachment.attached
    assert_same(case.unet, before)
    assert torch.equal(case.run(), bare)


def test_verbs_do_the_same_as_the_context_manager(case, adapter):
    before = copy_of(case.unet)
    attachment = adapter.attach(case.unet, case.condition)
    attachment.detach()
    adapter.attach(case.unet, case.condition)
    adapter.detach()
    adapter.detach()
    assert_same(case.unet, before)
    assert attached_injections(case.unet) == []


def test_an_exception_inside_detaches(case, adapter):
    before = copy_of(case.unet)
    with pytest.raises(ZeroDivisionError), adapter.attach(case.unet, case.condition):
        raise ZeroDivisionError
    assert_same(case.unet, before)


def test_alpha_may_change_while_attached(case, adapter):
    with adapter.attach(case.unet, case.condition, alpha=0.3) as attachment:
        low = case.run()
        attachment.alpha = 0.9
        assert attachment.alpha == 0.9
        assert not torch.allclose(case.run(), low, atol=1e-3)
        attachment.alpha = 0.3
        assert torch.equal(case.run(), low)
        with pytest.raises(WeightsError):
            attachment.alpha = 2
        assert attachment.alpha == 0.3


def test_a_run_again_with_the_same_condition_computes_no_control(case, adapter):
    counter = Counter(case.module)
    for _ in range(2):
        with adapter.attach(case.unet, case.condition.clone(), gamma=0.4):
            for timestep in (900, 500):
                case.run(timestep)
    assert counter.count == 2


def test_attaching_twice_raises_and_keeps_the_first(case, adapter):
    other = ControlNeXtAdapter(case.module)
    with adapter.attach(case.unet, case.condition):
        expected = case.run()
        with pytest.raises(InjectionError, match="already"):
            other.attach(case.unet, case.condition)
        assert torch.equal(case.run(), expected)


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"alpha": 3}, WeightsError), ({"gamma": float("inf")}, ControlSizeError), ({"unet_weights": 1}, WeightsError)],
)
def test_a_failed_attach_leaves_no_trace(case, adapter, changes, error):
    before = copy_of(case.unet)
    if changes.pop("unet_weights", None):
        adapter.unet_weights = {**adapter.unet_weights, "none.such": torch.zeros(1)}
    with pytest.raises(error):
        adapter.attach(case.unet, case.condition, **changes)
    assert attached_injections(case.unet) == []
    assert_same(case.unet, before)


def test_one_adapter_may_steer_two_unets(case, adapter):
    second = make_unet()
    with adapter.attach(case.unet, case.condition), adapter.attach(second, case.condition):
        assert torch.equal(case.run(), case.run(unet=second))


def test_weights_need_their_kind_and_modules_their_variant(case):
    with pytest.raises(WeightsError, match="kind="):
        ControlNeXtAdapter(case.module, make_delta(case.unet))
    with pytest.raises(AdapterError, match="variant="):
        ControlNeXtAdapter(torch.nn.Identity())
    with pytest.raises(VariantError):
        ControlNeXtAdapter(case.module, variant="sd9")
    assert ControlNeXtAdapter(torch.nn.Identity(), variant="sdxl").variant is VARIANTS["sdxl"]


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_save_and_load(case, adapter, tmp_path, dtype):
    adapter.save_pretrained(tmp_path / "adapter", dtype=dtype, metadata={"steps": "100"})
    assert sorted(file.name for file in (tmp_path / "adapter").iterdir()) == [
        "config.json",
        "controlnet.safetensors",
        "unet.safetensors",
    ]
    loaded = ControlNeXtAdapter.from_pretrained(tmp_path / "adapter")
    assert (loaded.variant.name, loaded.kind, loaded.gamma, loaded.annotator, loaded.base) == (
        "sdxl",
        "delta",
        0.6,
        "canny",
        "tiny",
    )
    assert loaded.module.dtype == torch.float32
    assert not loaded.module.training
    for key, tensor in adapter.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[key], tensor.to(dtype or tensor.dtype).float())
    for key, tensor in adapter.unet_weights.items():
        assert torch.equal(loaded.unet_weights[key], tensor.to(dtype or tensor.dtype))
    assert json.loads((tmp_path / "adapter/config.json").read_text())["steps"] == "100"
    if dtype is None:
        with adapter.attach(case.unet, case.condition):
            expected = case.run()
        with loaded.attach(case.unet, case.condition):
            assert torch.equal(case.run(), expected)
    assert (
        ControlNeXtAdapter.from_pretrained(tmp_path / "adapter", dtype=torch.bfloat16).module.dtype == torch.bfloat16
    )


@pytest.mark.parametrize("variant", ["sd15", "svd-v1", "starter"])
def test_released_folders_that_tell_their_variant(tmp_path, variant):
    module = ControlNeXtModel.from_variant(variant)
    write_tensors(tmp_path / "controlnet.safetensors", module.state_dict(), {})
    for place in (tmp_path, tmp_path / "controlnet.safetensors"):
        assert ControlNeXtAdapter.from_pretrained(place).variant.name == variant


def test_released_folders_that_need_words(tmp_path, unet):
    torch.save(ControlNeXtModel.from_variant("sdxl").state_dict(), tmp_path / "controlnet.bin")
    write_tensors(tmp_path / "unet.safetensors", make_delta(unet), {})
    with pytest.raises(AdapterError, match="sd15-train, sdxl, svd-v2 alike"):
        ControlNeXtAdapter.from_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"unet\.safetensors does not say"):
        ControlNeXtAdapter.from_pretrained(tmp_path, variant="sdxl")
    with pytest.raises(WeightsError, match="missing keys"):
        ControlNeXtAdapter.from_pretrained(tmp_path, variant="sd15", kind="delta")
    adapter = ControlNeXtAdapter.from_pretrained(tmp_path, variant="svd-v2", kind="subset", stem_padding=1)
    assert (adapter.kind, adapter.gamma, adapter.module.config.stem_padding) == ("subset", 1.0, 1)
    assert adapter.unet_weights.keys() == make_delta(unet).keys()


def test_unet_files_in_the_original_layout_are_renamed(tmp_path, unet):
    write_tensors(tmp_path / "controlnet.safetensors", ControlNeXtModel.from_variant("sd15").state_dict(), {})
    name = "transformer_blocks.0.attn2.to_out.0.bias"
    tensors = {f"input_blocks.1.1.{name}": torch.ones(16), f"middle_block.1.{name}": torch.zeros(32)}
    write_tensors(tmp_path / "unet.safetensors", tensors, {"kind": "delta"})
    weights = ControlNeXtAdapter.from_pretrained(tmp_path).unet_weights
    assert weights.keys() == {f"down_blocks.0.attentions.0.{name}", f"mid_block.attentions.0.{name}"}
    assert weights.keys() <= dict(unet.named_parameters()).keys()


def test_subfolders(tmp_path, adapter):
    adapter.save_pretrained(tmp_path / "ControlAny" / "canny")
    assert ControlNeXtAdapter.from_pretrained(tmp_path, subfolder="ControlAny/canny").annotator == "canny"


def test_places_where_nothing_is(tmp_path):
    with pytest.raises(AdapterError, match="no control file"):
        ControlNeXtAdapter.from_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="no adapter folder"):
        ControlNeXtAdapter.from_pretrained(tmp_path / "none")
    with pytest.raises(AdapterError, match="neither a local folder nor"):
        ControlNeXtAdapter.from_pretrained("someone/something")


def test_a_local_folder_wins_over_the_hub(tmp_path, monkeypatch, adapter):
    monkeypatch.chdir(tmp_path)
    adapter.save_pretrained("owner/name")
    assert ControlNeXtAdapter.from_pretrained("owner/name").annotator == "canny"


@pytest.mark.parametrize(
    ("content", "error"), [("{", "not valid JSON"), ('{"variant": "sdxl", "gamma": "strong"}', "no number")]
)
def test_damaged_configurations_are_named(tmp_path, content, error):
    write_tensors(tmp_path / "controlnet.safetensors", ControlNeXtModel.from_variant("sdxl").state_dict(), {})
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(AdapterError, match=error):
        ControlNeXtAdapter.from_pretrained(tmp_path)


def test_the_module_keeps_its_dtype(case):
    module = make_module("sdxl", 16).to(torch.bfloat16)
    with ControlNeXtAdapter(module).attach(case.unet, case.condition):
        assert case.run().dtype == torch.float32
    assert module.dtype == torch.bfloat16
