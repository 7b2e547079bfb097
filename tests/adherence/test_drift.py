import numpy as np
import pytest
from PIL import Image
from tiny_studio import Annotation

from annotators.poses.skeleton import draw_skeleton
from controlnext.adherence.drift import drift_map, drifted_regions


def grey(array):
    return Annotation(Image.fromarray(np.asarray(array, np.uint8)).convert("RGB"))


def square(left, top=20, side=24, size=96):
    picture = np.zeros((size, size), np.uint8)
    picture[top : top + side, left : left + side] = 255
    return picture


def outline(left):
    filled = square(left)
    filled[21:43, left + 1 : left + 23] = 0
    return filled


@pytest.mark.parametrize("kind", ["canny", "depth", "segmentation"])
def test_what_is_as_asked_has_not_drifted(kind):
    assert not drift_map(kind, grey(outline(20)), grey(outline(20))).any()


def test_edges_drift_where_one_map_has_a_line_and_the_other_none():
    drift = drift_map("canny", grey(outline(10)), grey(outline(60)))
    assert drift[20:44, 10].all()
    assert drift[20:44, 60].all()
    assert not drift[70:].any()
    assert not drift_map("canny", grey(outline(10)), grey(outline(11))).any()  # within the tolerance of the score


def test_regions_and_depth_drift_where_the_maps_differ():
    for kind in ("depth", "segmentation"):
        drift = drift_map(kind, grey(square(10)), grey(square(60)))
        assert drift[22:42, 12:32].all()
        assert drift[22:42, 62:82].all()
        assert not drift[60:].any()


def test_a_wrong_joint_marks_where_it_was_asked_for_and_where_it_is():
    person = np.zeros((18, 3))
    for joint in range(18):
        person[joint] = (60 + 8 * (joint % 3), 20 + 5 * joint, 1)
    moved = person.copy()
    moved[4, :2] = (110, 100)
    drawn = [Annotation(Image.fromarray(draw_skeleton([one], 128, 128)), {"people": [one]}) for one in (person, moved)]
    drift = drift_map("pose", *drawn)
    assert drift[int(person[4, 1]), int(person[4, 0])]
    assert drift[100, 110]
    assert not drift[20:24, 60:64].any()
    assert not drift_map("pose", drawn[0], drawn[0]).any()
    nobody = Annotation(Image.new("RGB", (128, 128)), {"people": []})
    assert drift_map("pose", drawn[0], nobody)[int(person[0, 1]), int(person[0, 0])]


def test_an_unknown_kind_has_drifted_nowhere():
    assert not drift_map("normal", grey(square(10)), grey(square(60))).any()


def test_regions_are_apart_grown_and_the_largest_comes_first():
    drift = (square(10, side=10) + square(60, side=20)).astype(bool)
    large, small = drifted_regions(drift)
    assert large[25, 65]
    assert small[25, 12]
    assert large.sum() > 400
    assert not (large & small).any()
    assert drifted_regions(np.eye(96, dtype=bool) & square(50, 50, 2).astype(bool)) == []
    assert len(drifted_regions(drift, 1)) == 1
