import numpy as np
import pytest
from video_figures import person, poses

from controlnext.video import fill_gaps, find_tracks, follow, smooth
from controlnext.video.poses import BODY, visible

FPS = 30.0


def track_of(frames, fps=FPS):
    return find_tracks(poses(frames, fps))[0]


def test_a_short_gap_is_filled_on_the_straight_way():
    frames = [[person(50 + step, 30, 60)] for step in range(10)]
    frames[4] = frames[5] = []
    filled = fill_gaps(track_of(frames))
    assert filled.points[:, 1, 0] == pytest.approx([50 + step for step in range(10)])
    assert visible(filled.points[4:6, BODY]).all()
    assert filled.confidence[4:6].tolist() == [0, 0]


def test_a_single_joint_is_filled_too():
    frames = [[person(50 + step, 30, 60)] for step in range(5)]
    frames[2][0][4] = 0
    wrist = fill_gaps(track_of(frames)).points[:, 4, 0]
    assert np.diff(wrist) == pytest.approx([1] * 4)


def test_long_gaps_and_ends_stay_open():
    frames = [[], *[[person(50, 30, 60)]] * 3, *[[]] * 20, *[[person(50, 30, 60)]] * 3, []]
    assert fill_gaps(track_of(frames)).shown.sum() == 6
    assert fill_gaps(track_of(frames), longest=1.0).shown.sum() == 26


def test_jitter_of_one_who_rests_is_taken_out():
    generator = np.random.default_rng(0)
    frames = [[person(50, 30, 60)] for _ in range(60)]
    for people in frames:
        people[0][BODY, :2] += generator.normal(0, 0.5, (18, 2))
    raw = track_of(frames)
    steady = smooth(raw)
    before, after = (np.diff(track.points[:, BODY, :2], axis=0).std() for track in (raw, steady))
    assert after < before / 3
    np.testing.assert_array_equal(steady.points[..., 2], raw.points[..., 2])


def test_a_quick_move_is_neither_late_nor_rounded_off():
    """An arm thrown up in a third of a second: half way at the same frame, and all the way up."""
    frames = [[person(50, 30, 60)] for _ in range(60)]
    way = np.clip((np.arange(60) - 25) / 10, 0, 1)
    for part, people in zip(way, frames, strict=True):
        people[0][4, 1] -= 40 * part
    raw = track_of(frames)
    wrist, wanted = smooth(raw).points[:, 4, 1], raw.points[:, 4, 1]
    assert np.abs(wrist - wanted).max() < 4  # of 40
    assert abs(wrist[30] - wanted[30]) < 0.5
    assert wrist[50] == pytest.approx(wanted[50], abs=0.1)


def test_nothing_is_dragged_over_a_gap():
    frames = [[person(50, 30, 60)]] * 10 + [[]] * 3 + [[person(58, 30, 60)]] * 10
    necks = smooth(track_of(frames)).points[:, 1, 0]
    assert necks[[9, 13]] == pytest.approx([50, 58])
    assert necks[11] == 0


def test_size_of_the_picture_does_not_matter():
    generator = np.random.default_rng(1)
    noise = generator.normal(0, 1, (20, 18, 2))
    small, large = ([[person(50 * k, 30 * k, 60 * k)] for _ in range(20)] for k in (1, 10))
    for k, frames in ((1, small), (10, large)):
        for people, shift in zip(frames, noise, strict=True):
            people[0][BODY, :2] += k * shift
    one = smooth(find_tracks(poses(small, FPS))[0]).points[:, BODY, :2]
    ten = smooth(find_tracks(poses(large, FPS, 1000, 2000))[0]).points[:, BODY, :2]
    np.testing.assert_allclose(ten, 10 * one, rtol=1e-9)


def test_one_frame_and_nobody_are_left_alone():
    alone = track_of([[person(50, 30, 60)]])
    np.testing.assert_array_equal(smooth(alone).points, alone.points)


def test_a_camera_that_follows_takes_the_way_and_leaves_the_steps():
    steps = 4 * np.sin(np.arange(90) * 2 * np.pi / 10)  # three sways a second
    frames = [[person(30 + 1.5 * index + steps[index], 30 - index % 7, 60)] for index in range(90)]
    frames[40] = []
    track = track_of(frames)
    kept = follow(track)
    middle = kept.points[20:70, 1, 0][kept.shown[20:70]]
    assert np.ptp(middle) == pytest.approx(8, abs=2)  # of 134 with the way
    np.testing.assert_array_equal(kept.points[..., 1:], track.points[..., 1:])
    assert not kept.points[40].any()
