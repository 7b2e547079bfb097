from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_studio import picture

from controlnext.recipes.png import read_facts, read_inputs, read_png, write_png
from controlnext.studio.verify import VerifyError, verify


@pytest.fixture
def saved(studio):
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=5, num_inference_steps=2)
    return studio.generate(recipe, picture()).files[0]


def test_a_picture_of_this_machine_is_made_again_bit_for_bit_and_leaves_no_file(studio, saved):
    found = verify(saved, studio.generate)
    assert (found.largest, found.share, found.same) == (0, 0, True)
    assert list(studio.gallery.output_dir.iterdir()) == [saved]


def test_a_difference_is_measured_and_explained(studio, saved, tmp_path):
    pixels = np.asarray(Image.open(saved)).copy()
    pixels[0, 0] = pixels[0, 0].astype(int) ^ 128
    recipe, inputs = read_png(saved), read_inputs(saved)
    facts = {"made_with": {**read_facts(saved)["made_with"], "torch": "1.0", "device": "cuda", "batch": 4}}
    edited = tmp_path / "edited.png"
    write_png(
        edited, Image.fromarray(pixels), recipe.replace(weights={**recipe.weights, "base": "0" * 64}), inputs, facts
    )
    found = verify(edited, studio.generate)
    assert found.largest == 128
    assert found.share == pytest.approx(1 / 64**2)
    said = found.sentence()
    assert all(word in said for word in ("128", "base", "1.0", "cuda", "batch of 4"))
    write_png(edited, Image.fromarray(pixels), recipe, inputs, read_facts(saved))
    assert verify(edited, studio.generate).reasons == ()


def test_what_cannot_be_verified_is_refused(studio, saved, tmp_path):
    plain, live, resized = (tmp_path / name for name in ("plain.png", "live.png", "resized.png"))
    picture().save(plain)
    write_png(live, picture(), read_png(saved).replace(precision="float32"), read_inputs(saved))
    write_png(resized, picture(size=(32, 32)), read_png(saved), read_inputs(saved))
    for file in (plain, live, resized):
        with pytest.raises(VerifyError):
            verify(file, lambda recipe, inputs: replace(studio.generate(recipe, inputs)))
