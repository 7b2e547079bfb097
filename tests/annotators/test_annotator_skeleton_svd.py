import colorsys
import math

import cv2
import numpy as np
import pytest

from annotators import AnnotatorError, draw_pose
from annotators.poses.people import People, Person
from annotators.poses.skeleton import HAND_LIMBS, LIMBS, draw_skeleton
from annotators.poses.skeleton_svd import draw_svd_skeleton

HEIGHT, WIDTH = 160, 96


@pytest.fixture
def person():
    """A figure of odd places, with points of every confidence."""
    rng = np.random.default_rng(3)
    body = np.array(
        [
            *((48, 25), (48, 45), (34, 45), (24, 70), (20, 95), (62, 45), (73, 68), (85, 50), (39, 95), (37, 122)),
            *((35, 150), (57, 95), (60, 122), (65, 152), (44, 20), (52, 20), (39, 23), (57, 23)),
        ],
        float,
    )
    hand = np.array([20, 95]) + rng.uniform(-9, 9, (21, 2))
    face = np.array([48, 24]) + rng.uniform(-8, 8, (68, 2))

    def whole(places, low):
        return np.column_stack([places + rng.uniform(0, 1, places.shape), rng.uniform(low, 1, len(places))])

    return Person(whole(body, 0.2), left_hand=whole(hand, 0.05), face=whole(face, 0.05))


def plainly_drawn(person, height, width):
    """The released drawing as it is described: everything on a canvas of 2160, in blue, green, red, and made smaller."""
    scale = 2160 / min(height, width)
    canvas = np.zeros((int(height * scale), int(width * scale), 3), np.uint8)
    size = np.array([canvas.shape[1], canvas.shape[0]])
    rainbow = [(255, 85 * k, 0) for k in range(3)] + [(255, 255, 0), (170, 255, 0), (85, 255, 0)]
    rainbow += [(0, 255, 85 * k) for k in range(4)] + [(0, 170, 255), (0, 85, 255), (0, 0, 255)]
    rainbow += [(85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)]

    def placed(points):
        return points[:, :2] / (width, height) * size, points[:, 2]

    places, sure = placed(person.body)
    for (a, b), colour in zip(LIMBS, rainbow, strict=False):
        if min(sure[a], sure[b]) >= 0.3:
            (x0, y0), (x1, y1) = places[a], places[b]
            axes = (int(math.hypot(x0 - x1, y0 - y1) / 2), 4)
            angle = int(math.degrees(math.atan2(y0 - y1, x0 - x1)))
            polygon = cv2.ellipse2Poly((int((x0 + x1) / 2), int((y0 + y1) / 2)), axes, angle, 0, 360, 1)
            cv2.fillConvexPoly(canvas, polygon, [int(value * sure[a] * sure[b]) for value in colour])
    canvas = (canvas * 0.6).astype(np.uint8)
    for (x, y), confidence, colour in zip(places, sure, rainbow, strict=True):
        if confidence > 0.3:
            cv2.circle(canvas, (int(x), int(y)), 4, [int(value * confidence) for value in colour], -1)
    places, sure = placed(person.left_hand)
    for index, (a, b) in enumerate(HAND_LIMBS):
        hue = np.array(colorsys.hsv_to_rgb(index / 20, 1, 1)) * int(sure[a] * sure[b] * 255)
        cv2.line(canvas, places[a].astype(int).tolist(), places[b].astype(int).tolist(), hue.tolist(), 2)
    for (x, y), confidence in zip(places, sure, strict=True):
        cv2.circle(canvas, (int(x), int(y)), 4, (0, 0, int(confidence * 255)), -1)
    for (x, y), confidence in zip(*placed(person.face), strict=True):
        cv2.circle(canvas, (int(x), int(y)), 3, [int(confidence * 255)] * 3, -1)
    return cv2.cvtColor(cv2.resize(canvas, (width, height)), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (1024, 576), (360, 640)])
def test_it_is_the_plain_drawing_at_2160_brought_to_size(person, size):
    height, width = size
    person = People((person,), HEIGHT, WIDTH).scaled(height, width).persons[0]
    drawn = draw_svd_skeleton([person.body], height, width, hands=[person.left_hand], faces=[person.face])
    expected = plainly_drawn(person, height, width)
    assert drawn.shape == (height, width, 3)
    assert drawn.dtype == np.uint8
    assert expected.any()
    assert np.array_equal(drawn, expected)


def test_lines_are_a_quarter_as_wide_as_the_classic_ones_and_red_is_blue(person):
    body = person.body.copy()
    body[:, 2] = (np.arange(18) == 1) | (np.arange(18) == 2)  # neck and right shoulder: the red limb alone
    body[:, :2] *= 6
    thin, wide = (draw(np.array([body]), 960, 576) for draw in (draw_svd_skeleton, draw_skeleton))
    column = round(body[1:3, 0].mean())
    widths = [np.count_nonzero(drawn[:, column].max(axis=1) > 60) for drawn in (thin, wide)]
    assert widths[0] <= 3
    assert widths[1] >= 3 * widths[0]
    assert thin[:, column].argmax(axis=1).max() == 2  # blue
    assert not thin[:, column, 0].any()
    assert not wide[:, column, 2].any()


def test_brightness_is_the_confidence_and_faint_hands_and_faces_stay(person):
    def brightest(confidence, **parts):
        parts = {name: [np.column_stack([p[:, :2], np.full(len(p), confidence)])] for name, p in parts.items()}
        return draw_svd_skeleton(parts.pop("people", []), 2160, 2160, **parts).max()

    spread = np.column_stack([np.linspace(100, 2000, 21), np.linspace(100, 2000, 21)])
    assert brightest(1.0, hands=spread) == brightest(1.0, faces=spread) == 255
    assert brightest(0.5, people=spread[:18]) == 127
    assert brightest(0.2, people=spread[:18]) == 0
    assert brightest(0.2, hands=spread) == brightest(0.2, faces=spread) == 51
    assert brightest(0.0, hands=spread) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e12, -1e12])
def test_impossible_places_are_left_out(person, bad):
    broken, missing = person.body.copy(), person.body.copy()
    broken[4, 0], missing[4, 2] = bad, 0
    assert np.array_equal(draw_svd_skeleton([broken], HEIGHT, WIDTH), draw_svd_skeleton([missing], HEIGHT, WIDTH))


def test_a_point_that_was_not_read_covers_nothing(person):
    hand = person.left_hand.copy()
    hand[:, 2] = 0
    alone = draw_svd_skeleton([person.body], HEIGHT, WIDTH)
    assert np.array_equal(draw_svd_skeleton([person.body], HEIGHT, WIDTH, hands=[hand]), alone)


def test_wrong_shapes_raise(person):
    with pytest.raises(ValueError, match=r"\(18, 3\)"):
        draw_svd_skeleton([person.body[:5]], 64, 64)
    with pytest.raises(ValueError, match="1x1"):
        draw_svd_skeleton([], 0, 64)


def test_poses_as_data_are_drawn_in_either_way(person):
    data = People((person,), HEIGHT, WIDTH).to_data()
    given = [np.round(part, 3) for part in (person.body, person.left_hand, person.face)]
    svd = draw_svd_skeleton([given[0]], HEIGHT, WIDTH, hands=[given[1]], faces=[given[2]])
    assert np.array_equal(np.asarray(draw_pose(data, drawing="svd").image), svd)
    assert not np.array_equal(np.asarray(draw_pose(data).image), svd)
    with pytest.raises(AnnotatorError, match="classic, svd"):
        draw_pose(data, drawing="thick")
