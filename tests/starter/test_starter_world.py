import numpy as np
import pytest

from controlnext.starter.world import figure, world
from controlnext.starter.world.raycast import Camera, cast

PARTS = world.PARTS


@pytest.fixture(scope="module")
def pictures():
    return [(world.sample_scene(seed), world.render(*world.sample_scene(seed), 128)) for seed in range(6)]


def test_same_seed_gives_same_picture():
    first, second = (world.render(*world.sample_scene(3), 64) for _ in range(2))
    np.testing.assert_array_equal(first.rgb, second.rgb)
    np.testing.assert_array_equal(first.parts, second.parts)


def test_different_seeds_give_different_scenes():
    assert len({world.sample_scene(seed)[0].phase for seed in range(50)}) == 50


def test_sphere_is_where_projection_says():
    camera = Camera(np.array([0.0, 1.0, 5.0]), np.array([0.0, 1.0, 0.0]))
    centre, radius = np.array([0.4, 1.3, 0.0]), 0.3
    ball = figure.Cone(centre, centre + np.array([0, 1e-3, 0]), radius, radius, figure.MATERIAL["ball"])
    geometry = cast([ball], None, camera, np.array([0.0, 1.0, 0.0]), 128)
    ys, xs = np.nonzero(geometry.material == figure.MATERIAL["ball"])
    x, y, depth = camera.project(centre[None], 128)[0]
    assert abs(xs.mean() + 0.5 - x) < 1
    assert abs(ys.mean() + 0.5 - y) < 1
    # The nearest point of a sphere is one radius before its centre.
    assert abs(geometry.depth[ys, xs].min() - (depth - radius)) < 0.01
    # Its silhouette is a disc of radius r f / sqrt(d^2 - r^2) in half pictures.
    expected = radius * world.FOCAL_LENGTH / np.sqrt(depth**2 - radius**2) * 64
    assert abs((np.ptp(xs) + 1) / 2 - expected) < 1


def test_depth_of_ground_follows_its_plane():
    camera = Camera(np.array([0.0, 1.0, 5.0]), np.array([0.0, 1.0, 0.0]))
    far = figure.Cone(np.array([0, 50.0, 0]), np.array([0, 50.1, 0]), 0.01, 0.01, 2)
    geometry = cast([far], None, camera, np.array([0.0, 1.0, 0.0]), 64)
    row = 63
    v = 1 - (row + 0.5) / 64 * 2
    assert geometry.depth[row, 10] == pytest.approx(-1.0 / (v / world.FOCAL_LENGTH), rel=1e-4)


def test_keypoints_lie_on_the_figure(pictures):
    on_figure = total = 0
    for _, picture in pictures:
        for x, y, seen in picture.people[0]:
            if seen:
                total += 1
                on_figure += 2 <= picture.parts[int(y), int(x)] <= 8
    # An object in front may hide a joint, nothing else.
    assert on_figure >= 0.9 * total


def test_unseen_keypoints_have_no_confidence(pictures):
    for _, picture in pictures:
        points = picture.people[0]
        outside = ((points[:, :2] < 0) | (points[:, :2] >= 128)).any(1)
        assert (points[outside, 2] == 0).all()


def test_depth_is_normalised_and_nearest_is_one(pictures):
    for _, picture in pictures:
        assert picture.depth.max() == 1
        assert picture.depth.min() >= 0
        assert (picture.depth[picture.parts == PARTS.index("sky")] < 0.02).all()


def test_shirt_colour_is_painted(pictures):
    for (_, look), picture in pictures:
        mask = picture.parts == PARTS.index("shirt")
        if look.shirt in ("red", "blue", "green") and look.sky == "day" and mask.sum() > 50:
            channel = ("red", "green", "blue").index(look.shirt)
            assert np.median(picture.rgb[mask], axis=0).argmax() == channel


def test_figures_stand_anywhere():
    centres = []
    for seed in range(60):
        points = world.people_of(world.sample_scene(seed)[0])[0]
        centres.append(points[1, 0] / world.SIZE)
    assert np.std(centres) > 0.12


def test_mirrored_swaps_sides(pictures):
    picture = pictures[0][1]
    twice = world.mirrored(world.mirrored(picture))
    np.testing.assert_array_equal(twice.rgb, picture.rgb)
    np.testing.assert_allclose(twice.people[0], picture.people[0], atol=1e-4)
    once = world.mirrored(picture).people[0]
    assert once[2, 0] == pytest.approx(128 - picture.people[0][5, 0])


@pytest.mark.parametrize("action", figure.ACTIONS)
def test_every_action_keeps_limb_lengths(action):
    body = figure.joints(action, 1.0, np.linspace(-2, 2, figure.JITTERS)).points
    for side in ("right", "left"):
        assert np.linalg.norm(body[f"{side}_elbow"] - body[f"{side}_shoulder"]) == pytest.approx(0.27)
        assert np.linalg.norm(body[f"{side}_ankle"] - body[f"{side}_knee"]) == pytest.approx(0.40)


def test_close_cameras_see_heads_and_busts():
    stages = [world.sample_stage(np.random.default_rng(seed), close=1.0) for seed in range(40)]
    assert all(0.2 <= stage.half_height <= 0.46 and 1.32 <= stage.target_height <= 1.62 for stage in stages)
    neck = 1  # in OpenPose's order
    assert np.mean([world.people_of(stage)[0][neck, 2] for stage in stages]) > 0.9
    assert sum(stage.half_height < 0.3 for stage in stages) > 10


def test_without_close_cameras_a_seed_gives_the_scene_it_always_gave():
    stage = world.sample_stage(np.random.default_rng(5))
    assert (stage.action, round(stage.half_height, 4), round(stage.camera_height, 4)) == ("standing", 0.5977, 1.1321)
