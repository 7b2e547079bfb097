import numpy as np
import pytest

from annotators.poses.skeleton import COLOURS, HAND_LIMBS, KEYPOINTS, LIMBS, draw_skeleton

FIGURE = np.array(
    [
        *((128, 50), (128, 80), (105, 80), (90, 115), (85, 150), (151, 80), (170, 112), (190, 85), (113, 150)),
        *((110, 190), (108, 230), (143, 150), (148, 190), (155, 232), (122, 44), (134, 44), (114, 48), (142, 48)),
    ],
    float,
)


def figure(confidence=1.0):
    return np.concatenate([FIGURE, np.full((18, 1), confidence)], axis=1)


def test_the_tables_fit_each_other():
    assert len(KEYPOINTS) == len(COLOURS) == 18
    assert len(LIMBS) == 17
    assert sorted({point for limb in LIMBS for point in limb}) == list(range(18))
    assert KEYPOINTS[2] == "right_shoulder"
    assert len(HAND_LIMBS) == 20


def test_joints_have_their_colours_and_limbs_are_dimmed():
    picture = draw_skeleton([figure()], 256, 256)
    for (x, y), colour in zip(FIGURE[[4, 7, 10, 13]].astype(int), [COLOURS[i] for i in (4, 7, 10, 13)], strict=True):
        assert np.abs(picture[y, x].astype(int) - colour).max() <= 8
    middle = ((FIGURE[3] + FIGURE[4]) / 2).round().astype(int)
    assert tuple(picture[middle[1], middle[0]]) == tuple(int(0.6 * v) for v in COLOURS[LIMBS.index((3, 4))])


def test_nobody_gives_black():
    assert not draw_skeleton([], 32, 48).any()
    assert draw_skeleton([], 32, 48).shape == (32, 48, 3)


def test_points_below_the_confidence_are_left_out_with_their_limbs():
    person = figure()
    person[4, 2] = 0.29
    picture = draw_skeleton([person], 256, 256)
    assert not picture[150, 85].any()
    assert not picture[133, 87].any()
    assert picture[115, 90].any()
    assert not draw_skeleton([figure(0.1)], 256, 256).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e12, -1e12])
def test_impossible_places_are_left_out(bad):
    person = figure()
    person[0, 0] = bad
    picture = draw_skeleton([person], 256, 256)
    assert picture[80, 128].any()
    assert not picture[50, 128].any()


def test_points_outside_draw_the_part_of_the_limb_inside():
    person = figure()
    person[4, :2] = (85, 300)
    assert draw_skeleton([person], 256, 256)[250, 85:88].any()


def test_a_drawing_grows_with_the_picture():
    small, large = draw_skeleton([figure()], 256, 256), draw_skeleton([figure() * [2, 2, 1]], 512, 512)
    assert large.mean() == pytest.approx(small.mean(), rel=0.2)  # antialiasing widens thin lines a little


def test_a_move_of_a_quarter_pixel_is_visible():
    moved = figure()
    moved[:, 0] += 0.25
    assert (draw_skeleton([figure()], 256, 256) != draw_skeleton([moved], 256, 256)).any()


def test_hands_and_faces_are_drawn():
    hand = np.stack([np.linspace(10, 60, 21), np.linspace(10, 60, 21), np.ones(21)], axis=1)
    face = np.stack([np.linspace(80, 120, 68), np.full(68, 100), np.ones(68)], axis=1)
    picture = draw_skeleton([], 128, 128, hands=[hand], faces=[face])
    assert (picture[100, 80:120] > 200).all(axis=1).any()
    assert picture[10:60, 10:60, 2].max() == 255


def test_wrong_shapes_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(18, 3\), not \(18, 2\)"):
        draw_skeleton([FIGURE], 64, 64)
    with pytest.raises(ValueError, match="1x1"):
        draw_skeleton([], 0, 64)


def test_the_same_people_give_the_same_pixels():
    first = draw_skeleton([figure()], 256, 256)
    assert np.array_equal(first, draw_skeleton([figure()], 256, 256))
