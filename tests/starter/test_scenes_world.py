from dataclasses import replace

import numpy as np
import pytest
import torch

from annotators.poses.skeleton import KEYPOINTS
from controlnext.starter.scenes import joints as bones
from controlnext.starter.scenes.cast import FAR, Lens, cast_windows, look_at
from controlnext.starter.scenes.character import BOTTOMS, HAIR_STYLES, HATS, HELD, TOPS
from controlnext.starter.scenes.paint import Rays
from controlnext.starter.scenes.palette import CLOTHES, FIGURE_PARTS, PART, PARTS, PARTS_COLOURS
from controlnext.starter.scenes.shot import FRAMINGS, SIZES, sample_shot
from controlnext.starter.scenes.solids import SolidCut, Solids, Surface
from controlnext.starter.scenes.things import FURS, THINGS, add_thing
from controlnext.starter.scenes.view import SUPERSAMPLING, build, ground_of, mirrored, render

COUNT = 10
GREY = Surface("thing", (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def views():
    return [(shot, render(shot)) for shot in (sample_shot(seed, (128, 128)) for seed in range(COUNT))]


def cast_one(solids, lens, size=96):
    seen = look_at(solids, lens, size, size)
    return cast_windows(seen, np.array(solids.size), *lens.rays(size, size))


def test_the_same_seed_gives_the_same_view():
    first, second = (render(sample_shot(4, (64, 64))) for _ in range(2))
    for name in ("rgb", "parts", "depth", "people", "hands", "faces", "owner"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_different_seeds_give_different_people():
    assert len({sample_shot(seed).people[0].posture.phase for seed in range(50)}) == 50


def test_framings_come_as_often_as_people_photograph():
    drawn = [sample_shot(seed) for seed in range(800)]
    for name, share in FRAMINGS.items():
        assert np.mean([s.framing == name for s in drawn]) == pytest.approx(share, abs=0.05)
    assert {s.size for s in drawn} == set(SIZES)
    assert 0.15 < np.mean([len(s.people) > 1 for s in drawn]) < 0.25


@pytest.mark.parametrize(
    ("framing", "least", "most"),
    [("head", 0.30, 1.3), ("bust", 0.14, 0.62), ("half", 0.09, 0.36), ("whole", 0.03, 0.22)],
)
def test_a_framing_shows_heads_of_its_size(framing, least, most):
    heights = []
    for seed in range(400):
        shot = sample_shot(seed, (256, 256))
        if shot.framing == framing and len(shot.people) == 1:
            face = shot.lens.project(shot.joints()[0].face, 256, 256)
            heights.append(1.7 * np.ptp(face[:, 1]) / 256)  # the points reach from brows to chin
    assert np.quantile(heights, 0.05) > least
    assert np.quantile(heights, 0.95) < most


def test_a_ball_is_where_projection_says():
    lens = Lens((0.0, 1.0, 5.0), (0.0, 1.0, 0.0), 3.5)
    centre, radius = np.array([0.4, 1.3, 0.0]), 0.3
    solids = Solids()
    solids.ball(centre, (radius,) * 3, GREY)
    depth, owner = cast_one(solids, lens)
    rows, columns = np.nonzero(owner.numpy() == 0)
    x, y, z = lens.project(centre[None], 96, 96)[0]
    assert abs(columns.mean() + 0.5 - x) < 1
    assert abs(rows.mean() + 0.5 - y) < 1
    assert float(depth.min()) == pytest.approx(z - radius, abs=0.01)
    expected = radius * lens.focal / np.sqrt(z**2 - radius**2) * 48
    assert abs((np.ptp(columns) + 1) / 2 - expected) < 1


def test_a_cone_has_the_distance_of_its_nearest_sphere():
    """Sphere tracing the distance field of the same round cone must arrive at the same depth."""
    lens = Lens((0.3, 1.2, 4.0), (0.0, 1.0, 0.0), 3.0)
    a, b, ra, rb = np.array([-0.3, 0.7, 0.1]), np.array([0.35, 1.4, -0.2]), 0.22, 0.09
    solids = Solids()
    solids.cone(a, b, (ra, rb), GREY)
    depth, owner = cast_one(solids, lens, 48)
    x, y = (v.numpy() for v in lens.rays(48, 48))
    axes, eye = lens.axes(), np.array(lens.eye)
    steps = np.linspace(0, 1, 4000)
    spheres, radii = a + steps[:, None] * (b - a), ra + steps * (rb - ra)
    for row, column in ((24, 24), (20, 28), (30, 18), (15, 30), (26, 22)):
        ray = np.array([x[column], y[row], 1.0]) @ axes
        length, t = np.linalg.norm(ray), 0.0
        for _ in range(200):
            t += (np.linalg.norm(eye + t * ray - spheres, axis=1) - radii).min() / length
            if t > 10:
                break
        assert (owner[row, column] == 0) == (t < 10)
        if t < 10:
            assert float(depth[row, column]) == pytest.approx(t, abs=2e-3)


def test_a_box_and_the_ground_are_where_geometry_says():
    lens = Lens((0.0, 1.0, 4.0), (0.0, 1.0, 0.0), 3.0)
    solids = Solids()
    solids.box(np.array([0.0, 1.0, 0.0]), (0.5, 0.5, 0.5), GREY)
    depth, owner = cast_one(solids, lens, 64)
    assert float(depth[32, 32]) == pytest.approx(3.5, abs=1e-3)
    half = 0.5 * 3.0 / 3.5 * 32
    assert (owner[32] == 0).sum() == pytest.approx(2 * half, abs=2)
    assert depth[0, 0] == FAR


def test_a_cut_leaves_out_what_it_says():
    lens = Lens((0.0, 0.0, 4.0), (0.0, 0.0, 0.0), 3.0)
    solids = Solids()
    solids.ball(np.zeros(3), (0.5, 0.5, 0.5), GREY, cut=SolidCut((0, 1, 0), 0.0))
    rows = np.nonzero((cast_one(solids, lens)[1] == 0).any(1).numpy())[0]
    assert rows.max() <= 48
    solids = Solids()
    solids.ball(np.zeros(3), (0.5, 0.5, 0.5), GREY, cut=SolidCut(open_a=0.2, open_b=0.2))
    owner = cast_one(solids, lens)[1]
    assert owner[48, 48] == -1
    assert owner[48, 48 - 13] == 0


def test_joints_are_where_readers_find_them(views):
    """A reader's neck is halfway between its shoulders, and its ears are on the head, not at the tips of drawn ears."""
    for shot, _ in views:
        for person, skeleton in zip(shot.people, shot.joints(), strict=True):
            drawn, read = skeleton.points, dict(zip(KEYPOINTS, skeleton.body(), strict=True))
            np.testing.assert_allclose(read["neck"], (read["right_shoulder"] + read["left_shoulder"]) / 2)
            for at, width in ((drawn, 0.208), (read, 0.134)):
                assert np.linalg.norm(at["right_ear"] - at["left_ear"]) == pytest.approx(width * skeleton.unit)
            for name in ("right_shoulder", "left_shoulder", "right_ankle", "left_ankle"):
                assert 0 < np.linalg.norm(read[name] - drawn[name]) < 0.04 * person.shape.height


def test_seen_joints_lie_on_their_person(views):
    right = total = 0
    for _, view in views:
        for index, person in enumerate(view.people):
            for x, y, seen in person:
                if seen == 1:
                    total += 1
                    right += view.owner[int(y), int(x)] == index
    assert total > 50
    assert right >= 0.97 * total


def test_seen_joints_lie_on_their_part(views):
    wanted = {"nose": {"face"}, "right_eye": {"face", "hair", "glasses"}, "left_eye": {"face", "hair", "glasses"}}
    wanted |= {f"{s}_shoulder": {"shirt", "coat", "limb", "hair"} for s in ("right", "left")}
    wanted |= {f"{s}_wrist": {"limb", "shirt", "coat"} for s in ("right", "left")}
    wanted |= {f"{s}_ankle": {"limb", "shoes", "trousers"} for s in ("right", "left")}
    right = total = 0
    for shot, view in views:
        for index, person in enumerate(view.people):
            for name, parts in wanted.items():
                x, y, seen = person[KEYPOINTS.index(name)]
                if seen == 1 and view.owner[int(y), int(x)] == index and shot.people[index].held == "nothing":
                    total += 1
                    right += PARTS[view.parts[int(y), int(x)]] in parts
    assert total > 20
    assert right >= 0.93 * total


def test_depth_at_a_seen_joint_is_just_before_it(views):
    gaps = []
    for shot, view in views:
        scale = None
        for person, skeleton in zip(view.people, shot.joints(), strict=True):
            at = shot.lens.project(skeleton.body(), *shot.size)
            for (x, y, seen), (_, _, z) in zip(person, at, strict=True):
                near = float(view.depth[int(y), int(x)]) if seen == 1 else 0.0
                if near > 0:
                    scale = scale or _nearest(shot, view)
                    gaps.append(z - scale / near)
    assert np.quantile(gaps, 0.05) > -0.05
    assert np.quantile(gaps, 0.95) < 0.20


def _nearest(shot, view):
    """Depth in metres of the nearest point: what 1 means in a depth map."""
    h, w = (SUPERSAMPLING * v for v in shot.size)
    solids = build(shot, shot.joints())
    x, y = shot.lens.rays(h, w)
    depth, _ = cast_windows(look_at(solids, shot.lens, h, w), np.array(solids.size), x, y)
    rays = Rays(x, y, shot.lens.axes(), np.array(shot.lens.eye), shot.lens.focal * h / 2)
    return float(ground_of(shot, rays, depth)[2][::2, ::2].min())


def test_points_outside_have_no_confidence(views):
    for shot, view in views:
        for points in (*view.people, *view.faces, *view.hands.reshape(-1, 21, 3)):
            outside = ((points[:, :2] < 0) | (points[:, :2] >= np.array(shot.size[::-1]))).any(1)
            assert (points[outside, 2] == 0).all()


def test_hands_hang_on_wrists_and_faces_on_heads(views):
    for shot, view in views:
        for who, skeleton, hands, face in zip(shot.people, shot.joints(), view.hands, view.faces, strict=True):
            for side, name in enumerate(("right", "left")):
                np.testing.assert_allclose(skeleton.hands[side][0], skeleton.points[f"{name}_wrist"], atol=1e-9)
                reach = np.linalg.norm(skeleton.hands[side] - skeleton.hands[side][0], axis=1).max()
                assert reach < 0.24 * max(who.shape.height, skeleton.unit)
            assert hands.shape == (2, 21, 3)
            assert face.shape == (68, 3)
            assert np.linalg.norm(skeleton.face - skeleton.points["head"], axis=1).max() < 0.16 * skeleton.unit


def test_depth_is_normalised_and_the_sky_is_farthest(views):
    for _, view in views:
        assert view.depth.max() == pytest.approx(1.0)
        assert view.depth.min() >= 0
        assert (view.depth[view.parts == PART["sky"]] < 0.02).all()


def test_people_are_people_and_nobody_else_is(views):
    for shot, view in views:
        people = (view.owner >= 0) & (view.owner < len(shot.people))
        figure = np.isin(view.parts, FIGURE_PARTS)
        assert not (figure & ~people).any()
        held = people & ~figure
        assert not held.any() or any(p.held != "nothing" for p in shot.people)


def test_clothes_have_the_colour_of_their_name():
    for seed, name, channel in ((1, "red", 0), (1, "green", 1), (1, "blue", 2)):
        shot = next(
            s
            for s in (sample_shot(n, (96, 96)) for n in range(seed, 99))
            if s.framing == "half" and s.time == "day" and s.weather == "clear"
        )
        who = replace(shot.people[0], top="sweater", top_colour=name, top_pattern="plain", hair_style="short")
        view = render(replace(shot, people=(who, *shot.people[1:])))
        mask = (view.parts == PART["shirt"]) & (view.owner == 0)
        assert mask.sum() > 50
        assert np.median(view.rgb[mask], axis=0).argmax() == channel


def test_mirrored_twice_is_the_same(views):
    view = views[0][1]
    twice = mirrored(mirrored(view))
    np.testing.assert_array_equal(twice.rgb, view.rgb)
    for name in ("people", "hands", "faces"):
        np.testing.assert_allclose(getattr(twice, name), getattr(view, name), atol=1e-4)
    once = mirrored(view)
    assert once.people[0, 2, 0] == pytest.approx(128 - view.people[0, 5, 0], abs=1e-4)
    assert once.hands[0, 0, 4, 0] == pytest.approx(128 - view.hands[0, 1, 4, 0], abs=1e-4)
    # A person's right eye is left of the left one in a picture from the front, mirrored or not.
    assert once.faces[0, 36:42, 0].mean() == pytest.approx(128 - view.faces[0, 42:48, 0].mean(), abs=1e-3)


@pytest.mark.parametrize("action", bones.ACTIONS)
def test_every_action_keeps_limb_lengths(action):
    shape = bones.Proportions()
    posture = bones.Posture(action, 1.0, tuple(np.linspace(-2, 2, bones.JITTERS)), (0.1, 0.1, 0.1), (0.1, 0.9))
    points = bones.place_joints(posture, shape, 0.4, np.zeros(3)).points
    for side in ("right", "left"):
        assert np.linalg.norm(points[f"{side}_elbow"] - points[f"{side}_shoulder"]) == pytest.approx(0.27)
        assert np.linalg.norm(points[f"{side}_ankle"] - points[f"{side}_knee"]) == pytest.approx(0.40)
    assert min(points["right_ankle"][1], points["left_ankle"][1]) > 0.05


@pytest.mark.parametrize(
    ("field", "names"),
    [("top", TOPS), ("bottom", BOTTOMS), ("hair_style", HAIR_STYLES), ("hat", HATS), ("held", HELD)],
)
def test_every_garment_can_be_drawn_and_changes_the_picture(field, names):
    shot = replace(sample_shot(5, (64, 64)), items=())
    pictures = [render(replace(shot, people=(replace(shot.people[0], **{field: name}),))).rgb for name in names]
    assert all(p.shape == (64, 64, 3) for p in pictures)
    if field in ("top", "hair_style", "hat"):
        assert any((pictures[0] != p).any() for p in pictures[1:])


@pytest.mark.parametrize("name", THINGS)
def test_every_thing_stands_on_the_ground(name):
    solids = Solids()
    add_thing(solids, name, next(iter(FURS if name in ("dog", "cat") else CLOTHES)), 0.0, 0.0, 0.3)
    lowest = solids.corners()[..., 1].min()
    assert -0.35 < lowest < 0.35


def test_parts_have_colours_of_their_own():
    assert len(PARTS) == len(PARTS_COLOURS) == len({tuple(c) for c in PARTS_COLOURS.tolist()})


def test_rendering_keeps_no_tensors(views):
    import gc

    del views
    render(sample_shot(1, (64, 64)))
    gc.collect()
    before = sum(isinstance(o, torch.Tensor) for o in gc.get_objects())
    for seed in range(2, 5):
        render(sample_shot(seed, (64, 64)))
    gc.collect()
    assert sum(isinstance(o, torch.Tensor) for o in gc.get_objects()) <= before + 2
