"""How far joints are from where they were asked for."""

import numpy as np

from controlnext.adherence.joints import LOST, joint_drift


def person(x=0.0, height=100.0) -> np.ndarray:
    body = np.zeros((18, 3))
    body[:, 0], body[:, 1], body[:, 2] = x, np.linspace(0, height, 18), 1
    return body


def test_distances_are_in_heights_of_the_asked_figure():
    found = person(height=50)
    found[:, 1] += 5
    asked = person(height=50)
    assert np.allclose(joint_drift([asked], [found]), 0.1)


def test_hidden_joints_count_for_nothing_and_lost_ones_for_a_whole_height():
    asked, found = person(), person()
    asked[3, 2] = 0.1
    found[4, 2] = 0
    (row,) = joint_drift([asked], [found])
    assert row[3] is None
    assert row[4] == LOST
    assert row[5] == 0


def test_each_person_is_compared_with_the_one_that_is_nearest():
    first, second = joint_drift([person(0), person(200)], [person(203), person(4)])
    assert np.allclose(first, 0.04)
    assert np.allclose(second, 0.03)


def test_who_is_there_goes_to_the_one_asked_for_in_that_place():
    first, second = joint_drift([person(0), person(200)], [person(203)])
    assert first == [LOST] * 18
    assert np.allclose(second, 0.03)


def test_a_person_who_is_not_there_is_lost():
    assert joint_drift([person()], []) == [[LOST] * 18]
    assert joint_drift([person(), person(50)], [person()])[1] == [LOST] * 18
    assert joint_drift([], [person()]) == []


def test_one_joint_has_no_height_to_divide_by():
    asked = np.zeros((18, 3))
    asked[0] = (10, 10, 1)
    assert joint_drift([asked], [asked])[0] == [0.0] + [None] * 17
