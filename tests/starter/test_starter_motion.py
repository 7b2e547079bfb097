import numpy as np
import pytest

from controlnext.starter.world.motion import KINDS, render_clip, sample_clip, sample_motion
from controlnext.starter.world.world import people_of


def test_a_seed_is_one_clip_and_its_frames_differ_in_the_figure_alone():
    stages, look = sample_clip(5, 6)
    again, same_look = sample_clip(5, 6)
    assert stages == again
    assert look == same_look
    still = {(s.half_height, s.object, s.object_place, s.hills, s.sun_azimuth, s.long_hair) for s in stages}
    assert len(still) == 1
    points = np.stack([people_of(stage, 192)[0] for stage in stages])
    assert np.abs(np.diff(points[..., :2], axis=0)).max() > 1


def test_motion_is_smooth():
    rng = np.random.default_rng(3)
    for _ in range(12):
        stages = sample_motion(rng, 12)
        points = np.stack([people_of(stage, 192)[0][:, :2] for stage in stages])
        steps = np.linalg.norm(np.diff(points, axis=0), axis=-1)
        assert steps.max() < 60  # of 192 pixels in a twelfth of a second
        assert np.median(steps) < 15


def test_every_kind_of_motion_comes():
    rng = np.random.default_rng(0)
    actions = {sample_motion(rng, 1)[0].action for _ in range(150)}
    assert actions == {kind.action for kind in KINDS.values()}


@pytest.mark.parametrize("size", [64, 96])
def test_the_background_of_a_clip_stands_still(size):
    stages, look = sample_clip(8, 24)
    first, last = render_clip((stages[0], stages[-1]), [look], size)[0]
    assert first.rgb.shape == (size, size, 3)
    sky = (first.parts == 0) & (last.parts == 0)
    assert sky.sum() > 100
    assert np.abs(first.rgb[sky].astype(int) - last.rgb[sky]).mean() < 1.0
    figure = (first.parts >= 2) & (first.parts <= 8)
    assert np.abs(first.rgb[figure].astype(int) - last.rgb[figure]).mean() > 5
