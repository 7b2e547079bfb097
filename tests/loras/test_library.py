"""The library through the studio: files that are added, and the styles that come with the project."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from tiny_studio import save_lora

from controlnext.errors import ControlNeXtError
from controlnext.loras.layers import LayerName, flattened, layers_of
from controlnext.studio.studio import Studio

STARTER = Path(__file__).parents[2] / "assets" / "starter"


def test_an_added_lora_is_listed_at_once_and_never_hides_another(models, tmp_path):
    studio = Studio(output_dir=tmp_path / "out", presets_dir=models, lora_dirs=[tmp_path / "mine"])
    save_lora(tmp_path / "one.safetensors", 11)
    before = {row["name"] for row in studio.catalogue.loras()}
    assert studio.catalogue.add_lora("starter", tmp_path / "one.safetensors") == "one 2"  # the model has another `one`
    assert {row["name"] for row in studio.catalogue.loras()} == before | {"one 2"}
    assert studio.catalogue.resolve("starter", "canny", loras=["one 2"]).loras[0].name == "one 2"
    assert studio.catalogue.conflict("starter", "canny", "one 2").word in ("low", "some", "high")
    assert sorted(file.name for file in (tmp_path / "mine").iterdir()) == ["one 2.safetensors"]


def test_a_lora_of_another_family_is_refused_for_this_model(models, tmp_path):
    studio = Studio(output_dir=tmp_path / "out", presets_dir=models, lora_dirs=[tmp_path / "mine"])
    source = models / "loras" / "other base.safetensors"
    with pytest.raises(
        ControlNeXtError, match=r"'new\.safetensors' was not added\. It was made for a sdxl base model"
    ):
        studio.catalogue.add_lora("starter", source, "new.safetensors")
    assert not (tmp_path / "mine").exists()
    nowhere = Studio(output_dir=tmp_path / "out", presets_dir=models)
    with pytest.raises(ControlNeXtError, match="no folder for your LoRAs"):
        nowhere.catalogue.add_lora("starter", models / "loras" / "one.safetensors")


INDEX = STARTER / "base" / "unet" / "diffusion_pytorch_model.safetensors.index.json"


@pytest.mark.skipif(not INDEX.is_file(), reason="the starter model's weights (assets/starter) are not here")
def test_every_tensor_of_the_bundled_styles_belongs_to_a_layer_of_the_starter():
    weights = json.loads(INDEX.read_text(encoding="utf-8"))["weight_map"]
    names = {LayerName("unet", flattened(key.removesuffix(".weight"))) for key in weights}
    files = sorted((STARTER / "loras").glob("*.safetensors"))
    assert files
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            keys = list(tensors.keys())
        layers = layers_of(keys)
        assert 2 * len(layers) == len(keys)
        assert set(layers) <= names
