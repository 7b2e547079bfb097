import json

import pytest
from tiny_studio import save_adapter, save_base, save_lora

from controlnext.starter.train.pack import pack


@pytest.fixture
def packed(tmp_path):
    runs, assets = tmp_path / "runs", tmp_path / "assets"
    save_base(runs / "base" / "pipeline")
    save_adapter(runs / "adapters" / "canny" / "adapter", 1)
    for folder, name in (("reader", "model"), ("loras", "ink"), ("few-steps", "few-steps")):
        (runs / folder).mkdir()
        save_lora(runs / folder / f"{name}.safetensors", 1)
    pack(runs, assets)
    return assets


def test_every_part_is_packed_for_every_machine_and_everybody(packed, tmp_path):
    files = {path.relative_to(packed).as_posix(): path for path in packed.rglob("*") if path.is_file()}
    wanted = {
        "base/model_index.json",
        "base/unet/diffusion_pytorch_model.safetensors",
        "adapters/canny/controlnet.safetensors",
        "adapters/canny/unet.safetensors",
        "annotator/model.safetensors",
        "loras/ink.safetensors",
        "few-steps/few-steps.safetensors",
    }
    assert wanted <= files.keys()
    configs = [json.loads(path.read_text()) for name, path in files.items() if name.endswith("config.json")]
    assert not [config for config in configs if "_name_or_path" in config or config.get("dtype") == "float16"]
    plain = tmp_path / "plain"
    plain.touch()
    assert {path.stat().st_mode for path in files.values()} == {plain.stat().st_mode}
