import pytest

from controlnext.animation import VideoRecipe, read_video_recipe
from controlnext.animation.choice import Choice, choice_of
from controlnext.recipes.png import RECIPE_KEY
from controlnext.recipes.recipe import RecipeError
from controlnext.video import write_video


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"fps": 500}, r"frames a second must be a number between 0 and 120, but it is 500"),
        ({"seed": -1}, "The seed must be a whole number"),
        ({"width": 63}, "multiple of 8"),
        ({"gamma": float("nan")}, "NaN"),
        ({"start": 3, "end": 2}, "before it starts"),
        ({"window": 4, "overlap": 4}, "cannot share 4"),
        ({"person": 1.5}, "The person must be a whole number"),
        ({"fit": "perhaps"}, "'fit'"),
        ({"prompt": "x" * 3000}, "3,000 characters"),
        ({"scheduler": "magic"}, "no scheduler 'magic'"),
        ({"control_start": 1.0, "control_end": 0.5}, "would never act"),
        ({"gamma_curve": "zigzag"}, "zigzag"),
        ({"reader": ""}, "named by a short word"),
        ({"drawing": "thick"}, "'drawing'"),
        ({"limp": True}, "unknown field 'limp'"),
        ({"version": 9}, "version 9"),
    ],
)
def test_a_wrong_value_is_one_sentence(values, said):
    with pytest.raises(RecipeError, match=said) as caught:
        VideoRecipe(**values)
    assert "\n" not in str(caught.value)


def test_json_and_back():
    recipe = VideoRecipe(
        model="svd-v2", prompt="猫", seed=2**40, fps=12.5, fit=False, limbs=True, weights={"base": "a"}
    )
    assert VideoRecipe.from_json(recipe.to_json()) == recipe
    assert recipe.replace(seed=1).digest() != recipe.digest()


def test_what_is_chosen_of_the_clip_and_what_an_image_model_draws():
    recipe = VideoRecipe(start=1, end=2, person=1, limbs=True, gamma=0.5, num_inference_steps=7, scheduler="unipc")
    assert choice_of(recipe) == Choice(start=1.0, end=2.0, person=1, limbs=True)
    picture = recipe.picture("a cat")
    assert (picture.prompt, picture.num_images, picture.condition_kind) == ("a cat", 1, "pose")
    assert (picture.gamma, picture.num_inference_steps, picture.scheduler) == (0.5, 7, "unipc")


def test_a_video_of_another_program_carries_none_and_a_damaged_recipe_is_one_sentence(tmp_path):
    import numpy as np

    frames = [np.zeros((16, 16, 3), np.uint8)]
    write_video(tmp_path / "plain.mp4", frames, 8)
    assert read_video_recipe(tmp_path / "plain.mp4") is None
    for number, record in enumerate(([1], {"fps": "fast"}, {"model": ""})):
        write_video(tmp_path / f"{number}.mp4", frames, 8, contents={RECIPE_KEY: record})
        with pytest.raises(RecipeError):
            read_video_recipe(tmp_path / f"{number}.mp4")
