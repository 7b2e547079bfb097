import pytest

from controlnext.studio.auto_gamma import MOST_RUNS, TOLERANCE, AutoGammaError, find_gamma


@pytest.mark.parametrize("target", [0.1, 0.35, 0.5, 0.62, 0.9])
def test_a_rising_curve_is_met_within_six_runs(target):
    found = find_gamma(lambda gamma: (min(1.0, gamma / 1.4), gamma), target)
    assert found.reached
    assert len(found.tries) <= MOST_RUNS
    assert abs(found.chosen.adherence - target) <= TOLERANCE
    assert found.chosen.made == found.chosen.gamma


def test_the_first_try_that_is_near_enough_ends_the_search():
    assert len(find_gamma(lambda gamma: (0.5, gamma), 0.51).tries) == 1


def test_what_cannot_be_reached_says_so_and_gives_the_nearest():
    found = find_gamma(lambda gamma: (0.4 * gamma / 2, None), 0.9)
    assert not found.reached
    assert len(found.tries) == MOST_RUNS
    assert found.chosen.gamma == max(one.gamma for one in found.tries)
    assert "0.90" in found.sentence()


def test_a_jump_is_not_taken_for_a_hit():
    found = find_gamma(lambda gamma: (0.1 if gamma < 0.7 else 0.9, None), 0.5)
    assert not found.reached
    assert "jumps" in found.sentence()


@pytest.mark.parametrize("target", [0, 1.1, -1, float("nan"), "much", True])
def test_a_target_that_is_no_adherence_is_refused(target):
    with pytest.raises(AutoGammaError):
        find_gamma(lambda gamma: (0.5, None), target)


def test_what_cannot_be_measured_ends_the_search():
    calls = []
    with pytest.raises(AutoGammaError):
        find_gamma(lambda gamma: (calls.append(gamma), (None, None))[1], 0.5)
    assert len(calls) == 1
