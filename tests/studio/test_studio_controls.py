"""The studio with several controls, a strength over time, a start picture and a mask; tiny random models."""

import numpy as np
import pytest
from PIL import Image
from tiny_studio import Annotators, count_forwards, picture, pixels, same

from controlnext.errors import ControlNeXtError
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.png import read_facts, read_inputs, read_png


def recipe_of(studio, *further, **values):
    given = {"prompt": "x", "seed": 3, "gamma": 1.0, **values}
    return studio.catalogue.resolve("starter", "canny", controls=list(further), **given)


def two(first=0, second=1):
    return Inputs((picture(first), picture(second)))


def masked(size=64):
    mask = Image.new("L", (size, size))
    mask.paste(255, (16, 16, 48, 48))
    return mask


def test_defaults_of_a_further_control_are_its_adapters(studio):
    recipe = recipe_of(studio, {"annotator": "pose"}, {"annotator": "depth", "gamma": 0.2, "control_end": 0.5})
    assert [(control.annotator, control.gamma) for control in recipe.controls] == [("pose", 0.5), ("depth", 0.2)]
    assert recipe.controls[1].control_end == 0.5
    assert recipe.num_inference_steps == 4  # the first control's row says nothing else


def test_each_of_two_controls_matters_and_one_alone_is_todays_result(studio):
    depth = {"annotator": "depth", "gamma": 1.0}
    both = pixels(studio.generate(recipe_of(studio, depth), two()))
    assert not same(pixels(studio.generate(recipe_of(studio, depth), two(0, 2))), both)
    assert not same(pixels(studio.generate(recipe_of(studio, depth), two(2, 1))), both)
    assert not same(pixels(studio.generate(recipe_of(studio, depth | {"gamma": 0.3}), two())), both)
    alone = pixels(studio.generate(recipe_of(studio), picture(0)))
    assert not same(alone, both)
    # the depth adapter has no UNet weights, so at gamma 0 nothing of it is left
    assert same(pixels(studio.generate(recipe_of(studio, depth | {"gamma": 0.0}), two())), alone)
    assert same(pixels(studio.generate(recipe_of(studio), picture(0))), alone)


def test_a_result_of_everything_restores_itself(studio):
    studio._annotators = Annotators()
    recipe = recipe_of(
        studio,
        {"annotator": "depth", "gamma": 0.7, "gamma_curve": "cosine 1 to 0"},
        gamma_curve="0:1, 0.5:0.3",
        strength=0.8,
        num_inference_steps=5,
    )
    given = Inputs((picture(0), picture(1, (96, 48))), picture(2, (128, 128)), masked(128))
    made = studio.generate(recipe, given)
    path = made.files[0]
    assert read_png(path) == made.recipe
    assert set(made.recipe.weights) == {"base", "adapter", "adapter:depth"}
    assert list(made.adherences) == ["canny", "depth"]
    assert made.adherences["canny"] == made.adherence
    assert read_facts(path)["adherences"] == {kind: round(scores[0], 4) for kind, scores in made.adherences.items()}
    again = studio.generate(read_png(path), read_inputs(path))
    assert same(pixels(again), pixels(made))
    assert again.notes == ()
    assert again.recipe == made.recipe
    other = studio.generate(read_png(path), Inputs((picture(0), picture(5)), picture(6), masked()))
    assert [note.split(",")[0] for note in other.notes] == [
        f"The recipe was made with another {what}" for what in ("depth condition", "start picture", "mask")
    ]


def test_the_controls_of_all_adapters_are_kept_for_the_next_run(studio, monkeypatch):
    calls = count_forwards(monkeypatch)
    recipe = recipe_of(studio, {"annotator": "depth"}, num_inference_steps=3, num_images=2)
    studio.generate(recipe, two(60, 61))
    assert len(calls) == 2 * 3
    studio.generate(recipe.replace(seed=9), two(60, 61))
    assert len(calls) == 2 * 3
    studio.generate(recipe, two(60, 62))
    assert len(calls) == 3 * 3


def test_a_curve_is_constant_where_it_says_so_and_matters_otherwise(studio):
    constant = pixels(studio.generate(recipe_of(studio), picture()))
    assert same(pixels(studio.generate(recipe_of(studio, gamma_curve="1"), picture())), constant)
    assert same(pixels(studio.generate(recipe_of(studio, gamma=2.0, gamma_curve="0.5"), picture())), constant)
    assert not same(pixels(studio.generate(recipe_of(studio, gamma_curve="linear 1 to 0"), picture())), constant)


def test_a_start_picture_shortens_the_run_and_shows_through(studio, monkeypatch):
    calls, seen = count_forwards(monkeypatch), []
    recipe = recipe_of(studio, strength=0.5, num_inference_steps=6, num_images=2)
    inputs = Inputs((picture(40),), picture(2, (100, 50)))
    half = studio.generate(recipe, inputs, on_progress=seen.append)
    assert len(calls) == 3
    assert [progress.step for progress in seen if progress.stage == "Drawing"] == [0, 1, 2, 3]
    assert {progress.total for progress in seen if progress.stage == "Drawing"} == {3}
    windowed = studio.generate(recipe.replace(control_end=0.4), inputs)  # of three steps, the first alone
    assert not same(pixels(windowed), pixels(half))
    assert not same(pixels(studio.generate(recipe, Inputs((picture(40),), picture(3)))), pixels(half))
    assert half.recipe.init_sha256
    words = studio.catalogue.resolve("starter", prompt="x", seed=3)
    assert studio.generate(words, Inputs((), picture(2))).recipe.strength == 0.75


def test_what_a_mask_leaves_black_stays_to_the_pixel(studio):
    recipe = recipe_of(studio, strength=1.0)
    made = pixels(studio.generate(recipe, Inputs((picture(),), picture(2), masked())))[0]
    kept = np.asarray(masked()) == 0
    assert np.array_equal(made[kept], np.asarray(picture(2))[kept])
    assert not np.array_equal(made, np.asarray(picture(2)))
    other = pixels(studio.generate(recipe.replace(seed=9), Inputs((picture(),), picture(2), masked())))[0]
    assert not np.array_equal(other[~kept], made[~kept])


@pytest.mark.parametrize(
    ("values", "given", "says"),
    [
        (
            {"controls": [{"annotator": "pose"}]},
            Inputs((picture(),)),
            "canny and pose control, but 1 condition picture was",
        ),
        ({}, Inputs((picture(), picture())), "2 condition pictures were given for 1 control"),
        ({"controls": [{"annotator": "segmentation"}]}, two(), "has no adapter for 'segmentation'"),
        ({"controls": "pose"}, two(), "Additional controls are a list of objects"),
        ({"strength": 0.5}, picture(), "starts from a picture .* but none was given"),
        ({}, Inputs((picture(),), None, masked()), "A mask needs the picture"),
        ({}, Inputs((picture(),), picture(), Image.new("L", (64, 64))), "The mask marks nothing"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(studio, values, given, says):
    with pytest.raises(ControlNeXtError, match=says):
        studio.generate(studio.catalogue.resolve("starter", "canny", prompt="x", seed=1, **values), given)


def test_a_cropped_pose_takes_its_people_along():
    from types import SimpleNamespace

    from controlnext.adherence.measure import fitted

    picture = Image.new("RGB", (64, 32))
    annotation = SimpleNamespace(image=picture, data={"people": [[[16.0, 8.0, 1.0], [40.0, 16.0, 0.5]]]}, note="")
    asked = fitted(annotation, "pose", (64, 64), crop=True)
    assert asked.image.size == (64, 64)
    assert asked.data["people"][0].tolist() == [[0.0, 16.0, 1.0], [48.0, 32.0, 0.5]]
