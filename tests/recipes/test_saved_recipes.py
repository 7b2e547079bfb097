"""Results saved by earlier releases are read as they were written."""

from pathlib import Path

from controlnext.animation.reference import read_reference
from controlnext.recipes.png import read_inputs, read_png
from controlnext.recipes.recipe import LoraUse
from controlnext.recipes.video_recipe import read_video_recipe

SAVED = Path(__file__).parent / "saved"


def test_a_picture_saved_by_0_2_0_gives_its_recipe_and_condition():
    recipe = read_png(SAVED / "picture-0.2.0.png")
    assert recipe is not None
    assert (recipe.version, recipe.model, recipe.annotator, recipe.seed, recipe.gamma) == (
        1,
        "starter",
        "canny",
        7,
        0.8,
    )
    assert recipe.annotator_settings == {"low": 80, "high": 160}
    assert recipe.loras == (LoraUse(name="ink", weight=0.5),)
    assert recipe.digest() == "e3bef1a7ba89aca9d2908f2f7b8705639a06950747c389f1b8710b47c5d19296"
    (condition,) = read_inputs(SAVED / "picture-0.2.0.png").conditions
    assert (condition.size, condition.getpixel((3, 3))) == ((64, 64), (9, 9, 9))


def test_a_video_saved_by_0_1_0_gives_its_recipe_and_reference():
    saved = SAVED / "video-0.1.0.mp4"
    recipe = read_video_recipe(saved)
    assert recipe is not None
    assert (recipe.model, recipe.seed, recipe.gamma, recipe.fps, recipe.max_frames) == ("starter-video", 11, 0.9, 8, 4)
    assert (recipe.window, recipe.overlap, recipe.weights) == (8, 2, {"base": "cd" * 32})
    assert recipe.digest() == "adb19d70e0eaedc67fc69cc6cdc38098e12f34203a77e06904cb686fc256bd68"
    reference = read_reference(saved)
    assert reference is not None
    assert (reference.size, reference.getpixel((3, 3))) == ((64, 64), (200, 30, 40))
