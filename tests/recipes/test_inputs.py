"""The pictures a recipe is run with: carried by a PNG, fitted, and refused where they do not go together."""

import io
import json

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from controlnext.recipes.inputs import CONDITION_CHUNK, PEOPLE_KEY, InputError, Inputs, KnownCondition, fitted_start
from controlnext.recipes.pictures import picture_digest
from controlnext.recipes.png import read_condition, read_inputs, read_png, write_png
from controlnext.recipes.recipe import MAX_CONTROLS, ControlUse, Recipe, RecipeError

# What the first release wrote, to the byte: one control, every field.
FIRST_RELEASE = (
    '{"version": 1, "model": "starter", "prompt": "p", "negative_prompt": "", "seed": 7, "num_images": 1, "width": 256, '
    '"height": 256, "num_inference_steps": 20, "guidance_scale": 3.0, "gamma": 0.5, "alpha": 1.0, "control_start": 0.0, '
    '"control_end": 0.8, "scheduler": null, "loras": [], "annotator": "canny", "adapter": "", "annotator_settings": '
    '{"low": 80}, "condition_sha256": "", "weights": {"base": "ab"}}'
)


def noise(seed=0, width=40, height=24, mode="RGB"):
    array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(array).convert(mode)


def mask(width=40, height=24):
    array = np.zeros((height, width), np.uint8)
    array[5:12, 8:20] = 255
    return Image.fromarray(array)


def same(one, other):
    return one.mode == other.mode and np.array_equal(np.asarray(one), np.asarray(other))


FULL = {
    "annotator": "pose",
    "gamma": 0.8,
    "gamma_curve": "0:1, 0.5:0.3",
    "controls": (
        ControlUse(annotator="depth", gamma=0.4, alpha=0.5, control_start=0.1, control_end=0.6),
        ControlUse(adapter="canny", gamma_curve="linear 1 to 0"),
    ),
    "strength": 0.6,
}


def test_a_recipe_of_the_first_release_is_read_and_written_to_the_byte():
    recipe = Recipe.from_json(FIRST_RELEASE)
    assert recipe.to_json(indent=None) == FIRST_RELEASE
    assert recipe.replace(gamma=0.5).to_json(indent=None) == FIRST_RELEASE
    assert [control.condition_kind for control in recipe.all_controls] == ["canny"]
    assert recipe.all_controls[0].annotator_settings == {"low": 80}
    assert recipe.steps_to_run == 20
    # SHA-256 of the first release's canonical JSON of this recipe
    canonical = json.dumps(json.loads(FIRST_RELEASE), sort_keys=True, separators=(",", ":"))
    import hashlib

    assert recipe.digest() == hashlib.sha256(canonical.encode()).hexdigest()


def test_later_fields_are_written_where_they_say_something_and_come_back():
    recipe = Recipe(**FULL)
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.digest() == recipe.digest() != recipe.replace(gamma_curve="").digest()
    assert "mask_sha256" not in recipe.to_json()
    assert [control.condition_kind for control in again.all_controls] == ["pose", "depth", "canny"]
    assert again.all_controls[1].control_end == 0.6
    assert again.steps_to_run == 12


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"controls": [{"annotator": "depth"}]}, "There are additional controls but no first one"),
        ({"annotator": "pose", "controls": [{"annotator": "pose"}]}, "The control 'pose' is asked for twice"),
        ({"annotator": "pose", "controls": [{}]}, "additional control needs a kind"),
        ({"annotator": "pose", "controls": [{"annotator": "depth", "gama": 1}]}, "gama"),
        ({"annotator": "pose", "controls": [{"annotator": "depth", "gamma": 9}]}, "gamma) must be a number between 0"),
        ({"annotator": "pose", "controls": [{"annotator": "depth", "control_end": 0}]}, "so it would never act"),
        ({"annotator": "pose", "controls": [{"annotator": str(n)} for n in range(MAX_CONTROLS)]}, "too many at once"),
        ({"gamma_curve": "up and down"}, "is no gamma curve"),
        ({"gamma": 3, "gamma_curve": "linear 0 to 2"}, "Gamma 3 times the curve's highest value is more than 4"),
        ({"strength": 1.5}, "Strength must be a number between 0 and 1"),
        ({"strength": 0.04}, "Strength 0.04 of 20 steps"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(values, says):
    with pytest.raises(RecipeError) as caught:
        Recipe(**values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_png_carries_every_picture(tmp_path):
    inputs = Inputs((noise(1), noise(2), noise(3)), noise(4), mask())
    recipe = Recipe(**FULL).with_digests(inputs)
    assert recipe.controls[1].condition_sha256 == picture_digest(noise(3))
    write_png(tmp_path / "a.png", noise(), recipe, inputs)
    assert read_png(tmp_path / "a.png") == recipe
    found = read_inputs(tmp_path / "a.png")
    assert all(same(one, other) for one, other in zip(found.conditions, inputs.conditions, strict=True))
    assert same(found.init_image, inputs.init_image)
    assert same(found.mask, inputs.mask)
    assert same(read_condition(tmp_path / "a.png"), noise(1))


def test_a_png_carries_the_joints_that_its_drawing_cannot_show():
    person = np.column_stack([np.linspace(1, 30, 18), np.linspace(2, 20, 18), np.linspace(0.3, 1, 18)])
    person[16] = person[14]  # a profile: one eye upon the other
    buffer = io.BytesIO()
    write_png(buffer, noise(), Recipe(annotator="pose"), Inputs((KnownCondition(noise(1), {"people": [person]}),)))
    (found,) = read_inputs(buffer.getvalue()).conditions
    assert same(found.image, noise(1))
    assert np.allclose(found.data["people"], [person], atol=1e-4)


@pytest.mark.parametrize("text", ["", "[", "[[1, 2]]", '[[["a", 1, 1]]]', "[[[NaN, 1, 1]]]", "7", "[]", "[" * 9999])
def test_joints_that_are_none_leave_the_drawing(text):
    condition, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text(PEOPLE_KEY, text)
    noise(1).save(condition, format="PNG", pnginfo=info)
    (found,) = Inputs.unpack([(CONDITION_CHUNK, condition.getvalue())]).conditions
    assert same(found, noise(1))


def test_one_condition_is_carried_as_the_first_release_did():
    both = []
    for given in (noise(1), Inputs((noise(1),))):
        buffer = io.BytesIO()
        write_png(buffer, noise(), Recipe(annotator="pose"), given)
        both.append(buffer.getvalue())
    assert both[0] == both[1]
    assert both[0].count(CONDITION_CHUNK) == 1
    assert read_inputs(both[0]).init_image is None


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("condition", {"conditions": (noise(1), noise(9), noise(3))}),
        ("start picture", {"init_image": noise(9)}),
        ("mask", {"mask": Image.new("L", (40, 24), 255)}),
    ],
)
def test_a_picture_that_was_exchanged_is_refused(what, changed):
    inputs = Inputs((noise(1), noise(2), noise(3)), noise(4), mask())
    recipe, buffer = Recipe(**FULL).with_digests(inputs), io.BytesIO()
    write_png(buffer, noise(), recipe, Inputs(**{**vars(inputs), **changed}))
    with pytest.raises(RecipeError, match=f"The {what} inside this picture is not the one"):
        read_inputs(buffer.getvalue())


def test_a_start_picture_is_fitted_whole_and_its_mask_with_it():
    init, fitted_mask = fitted_start(Inputs((), noise(4, 40, 20), mask(40, 20)), (80, 80))
    assert (init.size, init.mode, fitted_mask.size, fitted_mask.mode) == ((80, 80), "RGB", (80, 80), "L")
    array = np.asarray(fitted_mask)
    assert set(np.unique(array)) == {0, 255}
    assert (array[20 + 10 : 20 + 24, 16:40] == 255).all()  # twice as large, 20 px from the top
    assert (array == 255).sum() == 14 * 24
    again = fitted_start(Inputs((), init, fitted_mask), (80, 80))
    assert same(again[0], init)
    assert same(again[1], fitted_mask)
    assert fitted_start(Inputs(), (80, 80)) == (None, None)


def test_a_start_picture_and_its_mask_are_cropped_alike():
    picture = noise(4, 40, 20)
    init, cropped = fitted_start(Inputs((), picture, mask(40, 20)), (20, 20), crop=True)
    assert same(init, picture.crop((10, 0, 30, 20)))
    assert same(cropped, mask(40, 20).crop((10, 0, 30, 20)))


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (Inputs((), None, mask()), "A mask needs the picture it belongs to"),
        (Inputs((), noise(), mask(24, 24)), "The mask has 24x24 pixels and the start picture 40x24"),
        (Inputs((), noise(), Image.new("L", (40, 24), 90)), "The mask marks nothing"),
    ],
)
def test_masks_that_make_no_sense_are_a_sentence(inputs, says):
    with pytest.raises(InputError, match=says):
        fitted_start(inputs, (64, 64))
