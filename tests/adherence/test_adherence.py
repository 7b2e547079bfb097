from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from annotators.poses.skeleton import draw_skeleton
from controlnext.adherence.score import depth_rank_correlation, edge_f1, mean_iou, pose_pck, score
from controlnext.adherence.skeletons import joints_in_drawing


@dataclass
class Annotation:
    image: Image.Image
    data: dict | None = None


ARMS = [(128, 40), (128, 70), (105, 72), (95, 110), (90, 150), (151, 72), (161, 110), (166, 150)]
LEGS = [(115, 150), (112, 195), (110, 240), (141, 150), (144, 195), (146, 240)]
FACE = [(122, 34), (134, 34), (115, 38), (141, 38)]


def person(shift=(0, 0), scale=1.0):
    points = np.array([*ARMS, *LEGS, *FACE], dtype=float)
    return np.concatenate([points * scale + shift, np.ones((18, 1))], axis=1)


def slow_f1(a, b, tolerance):
    def share(of, near):
        there = np.argwhere(near)
        return np.mean([np.sqrt(((there - point) ** 2).sum(1)).min() <= tolerance for point in np.argwhere(of)])

    precision, recall = share(b, a), share(a, b)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2, 3])
def test_edge_f1_equals_brute_force(tolerance):
    random = np.random.default_rng(3)
    for density in (0.02, 0.2):
        a, b = random.random((2, 21, 34)) < density
        assert edge_f1(a, b, tolerance) == pytest.approx(slow_f1(a, b, tolerance), abs=1e-12)


def test_edge_f1_by_hand():
    a = np.zeros((10, 10), bool)
    b = a.copy()
    assert edge_f1(a, b) == 1.0
    a[2] = True
    assert edge_f1(a, b) == 0.0
    assert edge_f1(b, a) == 0.0
    b[4] = True  # two rows away: within 2, not within 1
    assert edge_f1(a, b, 2) == 1.0
    assert edge_f1(a, b, 1) == 0.0
    b[9] = True  # half of what was found is wrong: precision 1/2, recall 1
    assert edge_f1(a, b, 2) == pytest.approx(2 / 3)


def slow_spearman(a, b):
    def ranks(values):
        return [
            sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2
            for value in values
        ]

    return np.corrcoef(ranks(a), ranks(b))[0, 1]


def test_depth_rank_correlation_equals_brute_force_with_ties():
    random = np.random.default_rng(5)
    for levels in (4, 1000):
        a, b = random.integers(0, levels, (2, 9, 11)).astype(float)
        expected = slow_spearman(a.ravel().tolist(), b.ravel().tolist())
        assert depth_rank_correlation(a, b) == pytest.approx(expected, abs=1e-12)


def test_depth_rank_correlation_by_hand():
    a = np.arange(12.0).reshape(3, 4)
    assert depth_rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert depth_rank_correlation(a, -(a**3)) == pytest.approx(-1)
    assert depth_rank_correlation(a, np.ones_like(a)) == 0.0
    b = a.copy()
    b[0] = [9, 8, 7, 6]
    assert depth_rank_correlation(a, b, valid=np.arange(3)[:, None].repeat(4, 1) > 0) == pytest.approx(1)
    b[0] = np.nan
    assert depth_rank_correlation(a, b) == pytest.approx(1)
    assert np.isnan(depth_rank_correlation(a, np.full_like(a, np.nan)))


def test_pose_pck_by_hand():
    asked = person()  # figure height: ankles 240 - eyes 34 = 206, so 20.6 px are allowed
    assert pose_pck([asked], [asked]) == 1.0
    assert pose_pck([asked], [person(shift=(20, 0))]) == 1.0
    assert pose_pck([asked], [person(shift=(21, 0))]) == 0.0
    assert pose_pck([asked], [person(shift=(21, 0))], height=256) == 1.0
    some = asked.copy()
    some[:9, 0] += 100
    assert pose_pck([asked], [some]) == 0.5
    assert pose_pck([asked], []) == 0.0
    assert np.isnan(pose_pck([], [asked]))


def test_pose_pck_counts_only_what_was_asked_and_shown():
    asked, found = person(), person()
    asked[10:, 2] = 0.1
    assert pose_pck([asked], [found]) == 1.0
    found[:5, 2] = 0.0
    assert pose_pck([asked], [found]) == 0.5
    asked[:, 2] = 0.0
    assert np.isnan(pose_pck([asked], [found]))


def test_pose_pck_pairs_people_whatever_their_order():
    left, right = person(shift=(-60, 0)), person(shift=(60, 0))
    assert pose_pck([left, right], [right, left]) == 1.0
    assert pose_pck([left, right], [right]) == 0.5
    assert pose_pck([left], [right, left]) == 1.0


def test_mean_iou_equals_brute_force():
    random = np.random.default_rng(7)
    a, b = random.integers(0, 6, (2, 13, 17))
    a[a == 5] = 0  # class 5 only in the result
    expected = np.mean([((a == k) & (b == k)).sum() / ((a == k) | (b == k)).sum() for k in np.unique(a)])
    assert mean_iou(a, b) == pytest.approx(expected, abs=1e-12)


def test_mean_iou_by_hand():
    a = np.array([[0, 0, 1, 1]])
    assert mean_iou(a, a) == 1.0
    assert mean_iou(a, np.array([[0, 1, 1, 1]])) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert mean_iou(a, np.array([[7, 7, 7, -1]])) == 0.0
    assert np.isnan(mean_iou(np.zeros((0, 4), int), np.zeros((0, 4), int)))


@pytest.mark.parametrize("measure", [edge_f1, depth_rank_correlation, mean_iou])
def test_measures_refuse_maps_of_two_shapes(measure):
    with pytest.raises(ValueError, match=r"\(4, 4\) with \(4, 5\)"):
        measure(np.zeros((4, 4)), np.zeros((4, 5)))


@pytest.mark.parametrize("size", [128, 256, 512])
def test_joints_are_read_back_from_the_drawing(size):
    asked = person(scale=size / 256)
    asked[3, 2] = 0.0
    (found,) = joints_in_drawing(draw_skeleton([asked], size, size))
    assert found[3, 2] == 0
    shown = asked[:, 2] > 0.3
    assert (found[shown, 2] == 1).all()
    assert np.abs(found[shown, :2] - asked[shown, :2]).max() < 1.5


def test_two_people_are_read_back_from_the_drawing():
    people = [person(shift=(-60, 0)), person(shift=(60, 8))]
    assert pose_pck(people, joints_in_drawing(draw_skeleton(people, 256, 256)), alpha=0.01) == 1.0


def test_a_photo_is_no_drawing():
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    assert joints_in_drawing(noise) == []
    assert joints_in_drawing(np.zeros((9, 9, 3), np.uint8)) == []


def test_score_of_each_kind():
    random = np.random.default_rng(1)
    edges = np.repeat((random.random((64, 64, 1)) < 0.05) * np.uint8(255), 3, axis=2)
    depth = np.repeat(random.integers(0, 256, (64, 64, 1), dtype=np.uint8), 3, axis=2)
    parts = np.array([(0, 0, 0), (200, 0, 0), (0, 90, 0)], np.uint8)[random.integers(0, 3, (64, 64))]
    for kind, array in (("canny", edges), ("depth", depth), ("segmentation", parts)):
        same = Annotation(Image.fromarray(array))
        assert score(kind, same, same) == pytest.approx(1.0)
        assert score(kind, same, Annotation(Image.fromarray(np.zeros_like(array)))) < 0.5
    inverted = Annotation(Image.fromarray(255 - depth))
    assert score("depth", Annotation(Image.fromarray(depth)), inverted) == 0.0


def test_score_of_a_pose_with_and_without_data():
    asked = person()
    drawing = Image.fromarray(draw_skeleton([asked], 256, 256))
    result = Annotation(drawing.resize((512, 512)), {"people": [person(scale=2.0).tolist()]})
    assert score("pose", Annotation(drawing), result) == 1.0
    assert score("pose", Annotation(drawing, {"people": [asked]}), result) == 1.0
    assert score("pose", Annotation(drawing), Annotation(drawing, {"people": []})) == 0.0


def test_score_is_none_where_nothing_can_be_measured():
    black = Annotation(Image.new("RGB", (64, 64)))
    assert score("pose", black, black) is None
    assert score("scribble", black, black) is None
