"""Results saved by earlier releases are read as they were written."""

from pathlib import Path

from controlnext.recipes.png import read_inputs, read_png
from controlnext.recipes.recipe import LoraUse

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
