"""Edited poses: what is taken, what is refused, and how a recipe carries one."""

import json

import pytest

from controlnext.recipes.pose import MOST_CHARACTERS, MOST_PEOPLE, PoseError, check_pose, pose_size
from controlnext.recipes.recipe import Recipe, RecipeError


def pose(width=256, height=192, **changes) -> dict:
    body = [number for joint in range(18) for number in (10 + joint, 20 + joint, 1)]
    person = {"pose_keypoints_2d": body, "face_keypoints_2d": [], "hand_left_keypoints_2d": [], **changes}
    return {"version": 1.3, "people": [person], "canvas_width": width, "canvas_height": height}


def body(**places) -> list:
    numbers = pose()["people"][0]["pose_keypoints_2d"]
    for index, value in places.items():
        numbers[int(index[1:])] = value
    return numbers


def test_a_pose_is_taken_to_the_byte():
    text = json.dumps(pose(), indent=1)
    assert check_pose(text) is text
    assert pose_size(text) == (256, 192)


def test_hidden_points_may_lie_outside_and_hands_have_21_points():
    hand = [5.0, 5.0, 1.0] * 21
    check_pose(json.dumps(pose(pose_keypoints_2d=body(n0=-40, n2=0), hand_left_keypoints_2d=hand)))


@pytest.mark.parametrize(
    "wrong",
    [
        "", "no JSON", "[]", "{}", "[" * 5000, 5, None, " " * (MOST_CHARACTERS + 1),
        json.dumps(pose(width=8)), json.dumps(pose(width=True)), json.dumps(pose(width=256.5)), json.dumps(pose(height=5000)),
        json.dumps({**pose(), "people": []}), json.dumps({**pose(), "people": pose()["people"] * (MOST_PEOPLE + 1)}),
        json.dumps({**pose(), "people": ["someone"]}),
        json.dumps(pose(pose_keypoints_2d=[])), json.dumps(pose(pose_keypoints_2d=body()[:-3])),
        json.dumps(pose(pose_keypoints_2d=body(n3="7"))), json.dumps(pose(pose_keypoints_2d=body(n3=True))),
        json.dumps(pose(pose_keypoints_2d=body(n3=float("nan")))), json.dumps(pose(pose_keypoints_2d=body(n3=float("inf")))),
        json.dumps(pose(pose_keypoints_2d=body(n0=256))), json.dumps(pose(pose_keypoints_2d=body(n1=-1))),
        json.dumps(pose(pose_keypoints_2d=body(n2=1.5))), json.dumps(pose(pose_keypoints_2d=body(n0=1e9, n2=0))),
        json.dumps(pose(hand_left_keypoints_2d=[1, 1, 1] * 20)), json.dumps(pose(face_keypoints_2d=[1, 1])),
        json.dumps(pose(face_keypoints_2d=[1, 1, 1] * 71)),
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_one_sentence(wrong):
    with pytest.raises(PoseError) as said:
        check_pose(wrong)
    assert 20 < len(str(said.value)) < 300
    if wrong:
        with pytest.raises(RecipeError):
            Recipe(annotator="pose", pose=wrong)


def test_a_recipe_carries_a_pose_and_says_nothing_without_one():
    text = json.dumps(pose())
    recipe = Recipe(annotator="pose", pose=text)
    assert Recipe.from_json(recipe.to_json()).pose == text
    assert "pose" not in json.loads(Recipe(annotator="pose").to_json())
    assert Recipe(annotator="pose").digest() != recipe.digest()


def test_a_pose_needs_pose_control():
    for values in ({"annotator": "canny"}, {}):
        with pytest.raises(RecipeError, match="pose"):
            Recipe(pose=json.dumps(pose()), **values)
