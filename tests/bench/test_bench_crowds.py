"""The bench of people in composed photographs: where they stand, and when one counts as found."""

import numpy as np
import pytest

from controlnext.bench.quality.crowds import SIZE, CutOut, PeopleFound, compose, matched, table


def block():
    """A red block of 40x100 pixels with joints along its middle."""
    alpha = np.zeros((120, 60), np.float32)
    alpha[10:110, 10:50] = 1
    joints = np.stack([np.full(18, 30.0), np.linspace(12, 108, 18), np.ones(18)], axis=1)
    return CutOut.of(np.full((120, 60, 3), (250, 0, 0), np.uint8), alpha, joints)


@pytest.mark.parametrize(("count", "share"), [(1, 2), (3, 4), (10, 8)])
def test_people_stand_where_their_joints_are_said_to_be(count, share):
    pytest.importorskip("skimage")
    picture, truth = compose([block()], count, share, 0)
    assert picture.size == SIZE
    assert len(truth) == count
    for joints in truth:
        assert np.ptp(joints[:, 1]) == pytest.approx(0.96 * (SIZE[1] // share), abs=2)
        for x, y, _ in joints[2:-2].astype(int):
            assert picture.getpixel((int(x), int(y))) == (250, 0, 0)


def test_each_find_counts_for_one_person():
    person = block().joints
    other = person + np.array([300.0, 0.0, 0.0])
    assert matched([person, other], [person + np.array([5.0, 5.0, 0.0])], 100) == 1
    assert matched([person, other], [other, person], 100) == 2
    assert matched([person], [person + np.array([40.0, 0.0, 0.0])], 100) == 0
    assert matched([person], [], 100) == 0
    half = person.copy()
    half[10:] += 500
    assert matched([person], [half], 100) == 1


def test_the_table_has_a_row_for_every_size():
    assert "| drawn | 10 | 1/8 | 9 of 10 | 1 | 2.50 |" in table([PeopleFound("drawn", 10, 8, 10, 9, 1, 2.5)])
