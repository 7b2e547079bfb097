import numpy as np
import pytest

from controlnext.adherence.score import pose_pck
from controlnext.video.key_poses import key_poses

RNG = np.random.default_rng(4)


def figure(seed):
    """One of several poses with joints far from each other."""
    places = np.random.default_rng(seed).uniform(0, 100, (18, 2))
    return np.concatenate([places, np.ones((18, 1))], axis=1)


def clip(poses, hold=6, between=4):
    """Poses that are held for some frames, with movement in between."""
    frames = []
    for index, pose in enumerate(poses):
        frames += [pose] * hold
        if index + 1 < len(poses):
            frames += [pose + (poses[index + 1] - pose) * (step + 1) / (between + 1) for step in range(between)]
    return np.array(frames)


@pytest.mark.parametrize("scale", [1, 3])
def test_the_poses_that_a_clip_holds_are_found_in_their_order(scale):
    poses = [figure(seed) for seed in range(5)]
    points = clip(poses) * (scale, scale, 1)
    points[..., :2] += RNG.normal(0, 0.3 * scale, points[..., :2].shape)
    points[..., 0] += np.linspace(0, 200, len(points))[:, None]  # walks through the picture
    frames = key_poses(points, 5)
    assert frames == sorted(frames)
    assert [frame // 10 for frame in frames] == [0, 1, 2, 3, 4]
    for frame, pose in zip(frames, poses, strict=True):
        found = points[frame].copy()
        found[:, :2] += (pose[:, :2] * scale).mean(axis=0) - found[:, :2].mean(axis=0)
        assert pose_pck([pose * (scale, scale, 1)], [found]) >= 0.95


def test_a_clip_that_holds_still_has_one_key_pose():
    assert len(key_poses(np.repeat(figure(0)[None], 20, axis=0), 6)) == 1


def test_no_more_are_given_than_asked_for():
    assert len(key_poses(clip([figure(seed) for seed in range(6)]), 3)) == 3


def test_frames_without_a_person_are_never_chosen():
    points = clip([figure(0), figure(1)])
    points[:6, :, 2] = 0
    points[8] = np.nan
    assert all(frame not in (*range(6), 8) for frame in key_poses(points, 4))
    assert key_poses(np.zeros((5, 18, 3)), 4) == []
    assert key_poses(np.zeros((0, 18, 3)), 4) == []
