import numpy as np
import pytest

from annotators.poses.skeleton import draw_skeleton
from controlnext.adherence.skeletons import joints_in_drawing
from controlnext.starter.scenes.conditions import CONDITIONS, condition_of, read_people, worn
from controlnext.starter.scenes.palette import PARTS_COLOURS
from controlnext.starter.scenes.shot import sample_shot
from controlnext.starter.scenes.view import render


@pytest.fixture(scope="module")
def view():
    shot = next(
        s for s in (sample_shot(n, (192, 160)) for n in range(200)) if s.framing == "whole" and len(s.people) == 2
    )
    return render(shot)


@pytest.mark.parametrize("kind", CONDITIONS)
def test_a_condition_has_the_size_of_its_picture_and_its_seed(kind, view):
    exact = condition_of(kind, view)
    assert exact.shape == view.rgb.shape
    assert exact.dtype == np.uint8
    first, second = (condition_of(kind, view, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == view.rgb.shape
    varied = [condition_of(kind, view, np.random.default_rng(seed)) for seed in range(6)]
    assert any((v != exact).any() for v in varied)


def test_exact_conditions_say_what_the_world_knows(view):
    np.testing.assert_array_equal(condition_of("pose", view), draw_skeleton(list(view.people), *view.rgb.shape[:2]))
    np.testing.assert_array_equal(condition_of("segmentation", view), PARTS_COLOURS[view.parts])
    np.testing.assert_allclose(condition_of("depth", view)[..., 0] / 255, view.depth, atol=0.003)
    normals = condition_of("normal", view).astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(np.linalg.norm(normals, axis=2), 1, atol=0.02)


def test_readers_lose_joints_sides_and_legs(view):
    rng, lost, legless, shift = np.random.default_rng(0), 0, 0, []
    asked = [p for p in view.people if (p[:, 2] > 0).sum() >= 4]
    for _ in range(300):
        for person, truth in zip(read_people(view.people, rng), asked, strict=False):
            lost += ((person[:, 2] == 0) & (truth[:, 2] > 0)).any()
            legless += (person[[9, 10, 12, 13], 2] == 0).all()
            both = (person[:, 2] > 0) & (truth[:, 2] > 0)
            shift.append(np.abs(person[both, :2] - truth[both, :2]).mean())
    assert 0.5 < lost / 600 < 0.99
    assert 0.15 < legless / 600 < 0.5
    assert 0 < np.mean(shift) < 0.02 * view.rgb.shape[0]


def test_varied_skeletons_still_hold_the_people(view):
    found = [len(joints_in_drawing(condition_of("pose", view, np.random.default_rng(seed)))) for seed in range(12)]
    assert np.median(found) == 2


def test_pictures_get_worn_but_stay_pictures(view):
    spread = []
    for seed in range(12):
        picture = worn(view.rgb, np.random.default_rng(seed))
        assert picture.shape == view.rgb.shape
        assert picture.dtype == np.uint8
        spread.append(np.abs(picture.astype(int) - view.rgb).mean())
    assert 0.5 < np.mean(spread) < 25


def test_thresholds_of_edges_vary_widely(view):
    shares = [(condition_of("canny", view, np.random.default_rng(seed))[..., 0] > 0).mean() for seed in range(24)]
    assert max(shares) > 3 * min(shares)
