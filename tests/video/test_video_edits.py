"""Edited poses of single frames in a track: exact at their frame, eased around it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from video_figures import person

from annotators.poses.people import people_to_json
from controlnext.recipes.recipe import RecipeError
from controlnext.recipes.video_recipe import PoseEdit, VideoRecipe
from controlnext.video.edits import frame_of, with_edits
from controlnext.video.poses import person_of_pose
from controlnext.video.tracks import Track

WRIST = 4


def pose(move: float = 0.0, canvas=(200, 100), hide=()) -> str:
    """A person whose wrist is `move` higher than that of the track, drawn on a canvas (width, height)."""
    body = person(60, 30, 50)[:18]
    body[WRIST, 1] -= move
    body[list(hide), 2] = 0
    body *= (canvas[0] / 200, canvas[1] / 100, 1)
    return people_to_json({"people": [body.tolist()], "width": canvas[0], "height": canvas[1]})


@pytest.fixture
def track():
    points = np.stack([person(60, 30, 50)] * 11)
    return Track(points, 100, 200, 10.0, 2.0, np.full(11, 0.6))


def moved(track, edits) -> np.ndarray:
    """How much higher the wrist is in each frame."""
    return track.points[:, WRIST, 1] - with_edits(track, edits).points[:, WRIST, 1]


def test_an_edit_is_exact_at_its_frame_and_eased_around_it(track):
    found = moved(track, [PoseEdit(time=2.5, pose=pose(20), ease=0.4)])
    assert found == pytest.approx(
        [0, 0, *(20 * (0.5 + 0.5 * np.cos(np.pi * d / 4)) for d in (3, 2, 1, 0, 1, 2, 3)), 0, 0]
    )
    assert np.count_nonzero(moved(track, [PoseEdit(time=2.5, pose=pose(20))])) == 1


def test_an_edit_stays_exact_beside_another(track):
    edits = [PoseEdit(time=2.4, pose=pose(20), ease=2), PoseEdit(time=2.6, pose=pose(-10), ease=2)]
    found = moved(track, edits)
    assert (found[4], found[6]) == pytest.approx((20, -10))
    assert found[5] == pytest.approx(5)  # half of each
    assert found[0] > 0 > found[-1]


def test_a_pose_of_another_canvas_is_scaled_and_hides_joints(track):
    made = with_edits(track, [PoseEdit(time=2.0, pose=pose(20, canvas=(400, 400), hide=[7]), ease=1)])
    assert made.points[0] == pytest.approx(person_of_pose(pose(20, hide=[7]), 100, 200), abs=1e-3)
    assert made.points[0, 7, 2] == 0
    assert made.points[1, 7, 2] > 0  # only the frame itself hides it
    assert made.confidence.tolist() == [1.0, *[0.6] * 10]


def test_a_frame_without_the_person_gets_one(track):
    points = track.points.copy()
    points[3] = 0
    made = with_edits(replace(track, points=points), [PoseEdit(time=2.3, pose=pose(), ease=1)])
    assert made.shown[3]
    assert made.points[4] == pytest.approx(points[4])


def test_edits_outside_of_the_part_are_left_out_and_the_later_of_two_counts(track):
    assert [frame_of(track, PoseEdit(time=time, pose=pose())) for time in (1.9, 2.04, 3.0, 3.1)] == [None, 0, 10, None]
    assert with_edits(track, [PoseEdit(time=9, pose=pose(20))]) is track
    assert moved(track, [PoseEdit(time=2.5, pose=pose(20)), PoseEdit(time=2.5, pose=pose(5))])[5] == pytest.approx(5)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"time": -1, "pose": pose()}, "-1"),
        ({"time": 1, "pose": pose(), "ease": 3}, "3"),
        ({"time": 1, "pose": "[]"}, "people"),
        ({"time": 1, "pose": people_to_json({"people": [person(60, 30, 50)[:18].tolist()] * 2, "width": 200, "height": 100})}, "2"),
    ],
)  # fmt: skip
def test_a_recipe_refuses_edits_that_are_none(row, said):
    with pytest.raises(RecipeError, match=said):
        VideoRecipe(edits=[row])


def test_a_recipe_carries_its_edits_and_is_written_as_before_without_any():
    recipe = VideoRecipe(edits=[{"time": 1.5, "pose": pose(), "ease": 0.25}])
    assert VideoRecipe.from_json(recipe.to_json()) == recipe
    assert "edits" not in VideoRecipe().to_json()
    assert VideoRecipe(edits=[]).digest() == VideoRecipe().digest() != recipe.digest()
