import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from controlnext.recipes.pictures import picture_digest
from controlnext.recipes.png import read_condition, read_facts, read_png, write_png
from controlnext.recipes.recipe import Recipe, RecipeError


def noise(width=40, height=24, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_png_carries_recipe_condition_and_facts(tmp_path):
    condition = noise(seed=1)
    recipe = Recipe(prompt="Grüße 🧍", annotator="canny", condition_sha256=picture_digest(condition))
    image = noise()
    path = tmp_path / "result.png"
    write_png(path, image, recipe, condition, {"adherence": 0.875})
    assert read_png(path) == recipe
    assert np.array_equal(np.asarray(read_condition(path)), np.asarray(condition))
    assert read_facts(path) == {"adherence": 0.875}
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(image))
    assert read_png(path.read_bytes()) == recipe


def test_png_with_a_large_condition_is_read_back():
    condition = noise(1024, 1024)
    buffer = io.BytesIO()
    write_png(buffer, noise(), Recipe(), condition)
    assert read_condition(buffer.getvalue()).size == (1024, 1024)


def test_other_files_carry_no_recipe(tmp_path):
    plain = tmp_path / "plain.png"
    noise().save(plain)
    jpeg = tmp_path / "photo.jpg"
    noise().save(jpeg)
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    for path in (plain, jpeg, text, tmp_path / "missing.png"):
        assert read_png(path) is None
        assert read_condition(path) is None
        assert read_facts(path) == {}


def test_png_with_a_broken_recipe_is_a_sentence():
    info = PngImagePlugin.PngInfo()
    info.add_itxt("controlnext", '{"version": 1, "gamma": 99}')
    buffer = io.BytesIO()
    noise().save(buffer, format="PNG", pnginfo=info)
    with pytest.raises(RecipeError, match="gamma"):
        read_png(buffer.getvalue())


def test_condition_that_was_exchanged_is_refused():
    buffer = io.BytesIO()
    write_png(buffer, noise(), Recipe(condition_sha256=picture_digest(noise(seed=1))), noise(seed=2))
    with pytest.raises(RecipeError, match="not the one"):
        read_condition(buffer.getvalue())


def test_truncated_png_does_not_crash():
    buffer = io.BytesIO()
    write_png(buffer, noise(), Recipe(), noise(seed=1))
    for end in (10, 60, 300, len(buffer.getvalue()) - 20):
        read_png(buffer.getvalue()[:end])
