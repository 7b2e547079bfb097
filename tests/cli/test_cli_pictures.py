"""Further controls, a strength over time, start pictures and masks on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from controlnext.cli.pictures import ExtraControl, gamma_values
from controlnext.recipes.png import read_inputs, read_png


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("depth", ExtraControl("depth")),
        ("depth:0.4", ExtraControl("depth", "0.4")),
        ("depth=other.png", ExtraControl("depth", "", Path("other.png"))),
        ("depth:0:1, 0.5:0.3=a=b.png", ExtraControl("depth", "0:1, 0.5:0.3", Path("a=b.png"))),
    ],
)
def test_a_further_control_has_a_gamma_and_a_picture_where_they_are_named(text, parsed):
    assert ExtraControl.parse(text) == parsed


def test_gamma_is_a_number_or_a_curve_that_stands_alone():
    assert gamma_values("0.7") == {"gamma": 0.7, "gamma_curve": ""}
    assert gamma_values("linear 1 to 0") == {"gamma": 1.0, "gamma_curve": "linear 1 to 0"}
    assert ExtraControl("depth", "0.4").values() == {"annotator": "depth", "gamma": 0.4, "gamma_curve": ""}
    assert ExtraControl("depth").values() == {"annotator": "depth"}


def test_a_kind_of_a_training_of_ones_own_takes_the_picture_as_its_map(place, models, run):
    own = (
        (models / "starter.yaml")
        .read_text()
        .replace("  canny: {path: canny}", "  scribble: {path: canny}\n  canny: {path: canny}")
    )
    (models / "mine.yaml").write_text(own)
    made = []
    try:
        for given in (["--annotator", "scribble"], ["--adapter", "scribble"]):
            status, out, err = run(
                "generate", "--model", "mine", "--image", "photo.png", *given, "--prompt", "x", "--seed", 4, "--json"
            )
            assert status == 0, err
            made.append(json.loads(out))
        status, _, err = run("generate", "--image", "photo.png", "--annotator", "scribble")
    finally:
        (models / "mine.yaml").unlink()
    assert all((one["recipe"]["annotator"], one["recipe"]["adapter"]) == ("none", "scribble") for one in made)
    kept = read_inputs(made[0]["files"][0]).conditions[0]
    assert np.array_equal(np.asarray(kept)[0, 0], [0, 0, 0])
    assert np.asarray(kept).max() == 255
    assert status == 2
    assert "'scribble'" in err


def test_generate_with_everything_and_again_from_its_result(place, run):
    array = np.zeros((96, 96), np.uint8)
    array[20:60, 20:60] = 255
    Image.fromarray(array).save("mask.png")
    status, out, err = run(
        "generate", "--image", "photo.png", "--annotator", "canny", "--prompt", "x", "--seed", 4,
        "--gamma", "0:1, 0.5:0.3", "--control", "depth:0.5", "--init-image", "photo.png", "--mask", "mask.png",
        "--strength", "0.5", "--set", "low=50", "--json",
    )  # fmt: skip
    assert status == 0, err
    first = json.loads(out)
    path = first["files"][0]
    recipe, inputs = read_png(path), read_inputs(path)
    assert (recipe.gamma, recipe.gamma_curve, recipe.strength) == (1.0, "0:1, 0.5:0.3", 0.5)
    assert [(control.annotator, control.gamma) for control in recipe.controls] == [("depth", 0.5)]
    assert len(inputs.conditions) == 2
    assert inputs.mask.getbbox() == (13, 13, 40, 40)
    assert list(first["adherences"]) == ["canny", "depth"]
    status, out, err = run("generate", "--recipe", path, "--json")
    assert status == 0, err
    again = json.loads(out)
    assert again["recipe"] == first["recipe"]
    assert np.array_equal(np.asarray(Image.open(again["files"][0])), np.asarray(Image.open(path)))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--image", "photo.png", "--annotator", "canny", "--control", "canny"], "asked for twice"),
        (["--image", "photo.png", "--annotator", "canny", "--control", "pose=missing.png"], "missing.png"),
        (["--image", "photo.png", "--gamma", "up and down"], "no gamma curve"),
        (["--image", "photo.png", "--annotator", "canny", "--strength", "0.5"], "starts from a picture"),
        (["--image", "photo.png", "--annotator", "canny", "--mask", "photo.png"], "A mask needs the picture"),
        (["--image", "photo.png", "--annotator", "canny", "--init-image", "missing.png"], "missing.png"),
    ],
)
def test_what_goes_wrong_is_one_sentence(place, run, arguments, says):
    status, out, err = run("generate", *arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
