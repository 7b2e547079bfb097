"""A reference picture in recipes: small random IP-Adapter files beside a control, and what is left without them."""

import shutil

import numpy as np
import pytest
from ip_adapter_files import save_ip_adapter
from PIL import Image
from safetensors.torch import save_file
from tiny_models import TEXT_WIDTH as SMALL
from tiny_models import make_unet, sdxl_components
from tiny_studio import TEXT_WIDTH, picture

from controlnext import StableDiffusionXLControlNeXtPipeline
from controlnext.engine.reference import ReferenceLoadError, take_reference
from controlnext.models.references import ReferenceFile, ReferenceFileError, ReferenceFolders, text_width
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.png import read_inputs, read_png
from controlnext.recipes.recipe import RecipeError

FILE = "ip-adapter.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, models):
    """A folder with an IP-Adapter for the tiny base, and one for another."""
    from diffusers import UNet2DConditionModel

    root = tmp_path_factory.mktemp("ip")
    save_ip_adapter(root / "own", UNet2DConditionModel.from_pretrained(models / "base" / "unet"), TEXT_WIDTH)
    save_ip_adapter(root / "other", make_unet(), SMALL)
    (root / "other" / "models" / FILE).rename(root / "other" / "models" / "small.safetensors")
    return root


@pytest.fixture
def references(studio, folder):
    """The studio with that folder."""
    studio.references = ReferenceFolders([folder])
    if studio._engine is not None:
        studio._engine.references = studio.references
    return studio


def draw(studio, reference=None, **values):
    recipe = studio.catalogue.resolve("starter", adapter="canny", prompt="x", seed=5, num_inference_steps=2, **values)
    return studio.generate(recipe, Inputs((picture(3),), reference=reference))


def test_a_reference_is_in_the_recipe_and_without_it_pixels_are_as_before(references):
    plain = draw(references)
    looks = Image.new("RGB", (900, 600), (0, 90, 200))
    made = draw(references, looks, ip_adapter=FILE)
    assert not np.array_equal(made.images[0], plain.images[0])
    saved, inputs = read_png(made.files[0]), read_inputs(made.files[0])
    assert (saved.ip_adapter, inputs.reference.size) == (FILE, (512, 341))
    assert {"ip_adapter", "image_encoder"} <= saved.weights.keys()
    assert np.array_equal(references.generate(saved, inputs).images[0], made.images[0])
    weak = draw(references, looks, ip_adapter=FILE, ip_adapter_scale=0.1)
    away = [np.abs(np.asarray(one.images[0]).astype(int) - plain.images[0]).mean() for one in (weak, made)]
    assert 0 < away[0] < away[1]
    assert np.array_equal(draw(references).images[0], plain.images[0])  # taken out again, bit for bit
    assert "ip_adapter" not in read_png(plain.files[0]).to_json()


def test_files_are_offered_to_the_model_that_they_fit(references, folder, tmp_path):
    preset = references.catalogue.preset("starter")
    assert text_width(preset) == TEXT_WIDTH
    assert list(references.references.files(preset)) == [FILE]
    assert references.references.first(preset) == FILE
    for name, said in (("small.safetensors", str(SMALL)), ("nonesuch.safetensors", "nonesuch")):
        with pytest.raises(ReferenceFileError, match=said):
            draw(references, picture(), ip_adapter=name)
    shutil.copytree(folder / "own", tmp_path / "own", ignore=lambda *_: ["image_encoder"])
    alone = ReferenceFolders([tmp_path])
    assert alone.files(preset) == {}
    with pytest.raises(ReferenceFileError, match="image_encoder"):
        alone.find(FILE, preset)
    with pytest.raises(ReferenceFileError):
        alone.first(preset)


def test_a_reference_and_its_file_go_together(references):
    with pytest.raises(RecipeError):
        draw(references, picture())
    with pytest.raises(RecipeError, match=FILE):
        draw(references, ip_adapter=FILE)
    with pytest.raises(RecipeError, match="3"):
        draw(references, picture(), ip_adapter=FILE, ip_adapter_scale=3)


def test_a_damaged_file_is_refused_and_the_pipeline_stays_clean(tmp_path):
    pipeline = StableDiffusionXLControlNeXtPipeline(**sdxl_components())
    pipeline.set_progress_bar_config(disable=True)
    save_ip_adapter(tmp_path, pipeline.unet, 2 * SMALL)
    path, encoder = tmp_path / "models" / FILE, tmp_path / "models" / "image_encoder"
    processors = {name: type(one) for name, one in pipeline.unet.attn_processors.items()}
    take_reference(pipeline, ReferenceFile(path, encoder, 2 * SMALL), 0.5)
    assert {name: type(one) for name, one in pipeline.unet.attn_processors.items()} != processors
    take_reference(pipeline, None, 0.5)
    save_file({"ip_adapter.1.to_k_ip.weight": picture_tensor()}, path)
    with pytest.raises(ReferenceLoadError, match=FILE):
        take_reference(pipeline, ReferenceFile(path, encoder, 2 * SMALL), 0.5)
    assert {name: type(one) for name, one in pipeline.unet.attn_processors.items()} == processors
    assert pipeline.image_encoder is None


def picture_tensor():
    import torch

    return torch.zeros(4, 2 * SMALL)
