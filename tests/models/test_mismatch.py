import json

import pytest
import torch
from safetensors.torch import save_file

from controlnext import ControlNeXtModel
from controlnext.models.mismatch import (
    MismatchError,
    adapter_families,
    base_family,
    check_adapter,
    check_base,
    read_shapes,
)
from controlnext.models.presets import load_preset

TO_OUT = "down_blocks.1.attentions.0.transformer_blocks.{}.attn2.to_out.0.weight"


def make_preset(tmp_path, variant):
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"title: Mine\nvariant: {variant}\nbase: {{path: base, licence: none}}\n"
        "sizes: {width: 64, height: 64, minimum: 64, maximum: 128}\nadapters: {canny: {path: canny}}\n"
    )
    return load_preset(path)


def make_base(tmp_path, **config):
    (tmp_path / "base" / "unet").mkdir(parents=True)
    (tmp_path / "base" / "unet" / "config.json").write_text(json.dumps(config))
    return tmp_path / "base"


def make_adapter(tmp_path, variant, *unet_keys):
    folder = tmp_path / "canny"
    folder.mkdir()
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in ControlNeXtModel.from_variant(variant).state_dict().items()}
    save_file(
        {key: torch.zeros(shape, dtype=torch.float8_e4m3fn) for key, shape in shapes.items()},
        folder / "controlnet.safetensors",
    )
    if unet_keys:
        save_file({key: torch.zeros(1) for key in unet_keys}, folder / "unet.safetensors")
    return folder


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"cross_attention_dim": 768}, "sd15"),
        ({"cross_attention_dim": 1024}, "sd21"),
        ({"cross_attention_dim": 2048}, "sdxl"),
        ({"cross_attention_dim": 1024, "_class_name": "UNetSpatioTemporalConditionModel"}, "svd"),
        ({"cross_attention_dim": 128, "_class_name": "UNetSpatioTemporalConditionModel"}, "starter-video"),
        ({"cross_attention_dim": 32, "_class_name": "UNetSpatioTemporalConditionModel"}, ""),
        ({"cross_attention_dim": 16}, ""),
        ({"cross_attention_dim": [768, 768]}, ""),
    ],
)
def test_a_folder_tells_its_family(tmp_path, config, family):
    assert base_family(make_base(tmp_path, **config)) == family


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        ({"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (2, 768)}, "sd15"),
        ({"model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (2, 2048)}, "sdxl"),
        ({"model.diffusion_model.input_blocks.1.1.time_stack.0.attn2.to_k.weight": (2, 1024)}, "svd"),
        ({"double_blocks.0.img_attn.qkv.weight": (2, 2)}, "transformer"),
        ({"anything": (1,)}, ""),
    ],
)
def test_a_checkpoint_tells_its_family_by_its_header(tmp_path, shapes, family):
    path = tmp_path / "one.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    assert base_family(path) == family


def test_headers_of_damaged_files_say_nothing(tmp_path):
    path = tmp_path / "bad.safetensors"
    for content in (b"", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0notjson!", b"\x02\0\0\0\0\0\0\0[]"):
        path.write_bytes(content)
        assert read_shapes(path) == {}


@pytest.mark.parametrize(
    ("variant", "keys", "families"),
    [
        ("sd15", [], {"sd15"}),
        ("sdxl", [], {"sd15", "sdxl", "svd"}),  # the files of three variants are alike
        ("sdxl", [TO_OUT.format(0), TO_OUT.format(1)], {"sdxl"}),
        ("sd15-train", [TO_OUT.format(0)], {"sd15"}),
        ("svd-v2", ["down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn2.to_out.0.weight",
                    TO_OUT.format(0)], {"svd"}),
        ("svd-v1", [], {"svd"}),
        ("starter-video", ["down_blocks.1.attentions.0.temporal_transformer_blocks.0.attn2.to_out.0.weight"],
         {"starter-video"}),
        ("starter", [TO_OUT.format(0)], {"starter"}),
    ],
)  # fmt: skip
def test_an_adapter_tells_which_families_it_may_be_for(tmp_path, variant, keys, families):
    assert adapter_families(make_adapter(tmp_path, variant, *keys)) == families


def test_an_adapter_of_another_family_is_refused_by_both_names(tmp_path):
    preset = make_preset(tmp_path, "sd15")
    folder = make_adapter(tmp_path, "sdxl", TO_OUT.format(1))
    with pytest.raises(
        MismatchError, match=r"made for Stable Diffusion XL, but the base of Mine is Stable Diffusion 1\.5"
    ):
        check_adapter(preset, "canny", folder)
    check_adapter(make_preset(tmp_path, "sdxl"), "canny", folder)


def test_a_base_of_another_family_is_refused_by_both_names(tmp_path):
    folder = make_base(tmp_path, cross_attention_dim=768)
    with pytest.raises(MismatchError, match=r"described as Stable Diffusion XL, but .* holds Stable Diffusion 1\.5"):
        check_base(make_preset(tmp_path, "sdxl"), folder)
    check_base(make_preset(tmp_path, "sd15-train"), folder)


def test_the_studio_refuses_before_anything_is_loaded(tmp_path, monkeypatch):
    from PIL import Image

    from controlnext.engine.engine import Engine
    from controlnext.studio.studio import Studio

    make_preset(tmp_path, "sd15")
    base = make_base(tmp_path, cross_attention_dim=768)
    (base / "model_index.json").write_text("{}")
    make_adapter(tmp_path, "sdxl", TO_OUT.format(1))
    monkeypatch.setattr(Engine, "load", lambda *args: pytest.fail("it was loaded"))
    studio = Studio(output_dir=tmp_path / "out", presets_dir=tmp_path, device="cpu")
    with pytest.raises(MismatchError):
        studio.generate(studio.catalogue.resolve("mine", "canny", seed=1), Image.new("RGB", (64, 64)))
