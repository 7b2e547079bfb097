"""Recorded poses as a sequence: the tempo of drags, eased moves between key poses, the character's own pose first."""

import numpy as np
import pytest

from controlnext.video.ffmpeg import VideoError
from controlnext.video.poses import POINTS, Poses
from controlnext.video.recording import FPS, HOLD, MOVE, ease, pose_sequence


def pose(x, people=1):
    made = np.zeros((people, POINTS, 3))
    made[:, :18] = (x, 50, 1)
    return made


def places(poses):
    return np.array([frame[0, 4, 0] for frame in poses.frames])


def test_a_drag_keeps_its_tempo():
    made = pose_sequence([(10 + index / 10, pose(10 * index)) for index in range(11)], 100, 200)
    x = places(made)
    moving = x[round(HOLD * FPS) : round((HOLD + 1) * FPS) + 1]
    assert np.allclose(np.diff(moving), 100 / FPS, atol=1e-6)
    assert (x[0], x[-1]) == (0, 100)


def test_a_pause_becomes_a_hold_and_an_eased_move_however_long_it_was():
    first, second = (places(pose_sequence([(0, pose(0)), (pause, pose(90))], 100, 200)) for pause in (1, 60))
    assert np.array_equal(first, second)
    steps = np.diff(first)
    assert (steps >= 0).all()
    assert steps.max() > 2 * steps[steps > 0][0]
    assert len(first) == round((3 * HOLD + MOVE) * FPS) + 1


def test_it_begins_in_the_own_pose_of_the_character():
    own = pose(70)[0]
    made = pose_sequence([(5, pose(10))], 100, 200, own)
    assert np.array_equal(made.frames[0][0], own)
    assert places(made)[-1] == 10
    assert Poses.from_json(made.to_json()).frames[3].shape == (1, POINTS, 3)


def test_people_who_are_not_there_all_the_time_are_left_out_and_hidden_joints_do_not_wander():
    first, second = pose(0, 2), pose(90)
    second[0, 4] = 0
    made = pose_sequence([(0, first), (1, second)], 100, 200)
    assert {len(frame) for frame in made.frames} == {1}
    shown = [frame[0, 4] for frame in made.frames]
    assert {tuple(point) for point in shown} == {(0.0, 50.0, 1.0), (0.0, 0.0, 0.0)}


@pytest.mark.parametrize("moments", [[], [(0, pose(1))], [(0, pose(1)[:0]), (1, pose(1))]])
def test_what_does_not_move_is_no_recording(moments):
    with pytest.raises(VideoError):
        pose_sequence(moments, 100, 200)


def test_easing_is_slow_at_both_ends():
    assert [ease(part) for part in (-1, 0, 0.5, 1, 2)] == [0, 0, 0.5, 1, 1]
    assert ease(0.1) < 0.05
