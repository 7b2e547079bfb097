import math

import numpy as np
import pytest

from controlnext.method.gamma import EXAMPLES, MOST_POINTS, GammaCurve, GammaError, parse_gamma


@pytest.mark.parametrize(
    ("text", "fractions", "values"),
    [
        ("0.7", [0, 0.3, 1], [0.7, 0.7, 0.7]),
        (" linear 1 to 0 ", [0, 0.25, 0.5, 1], [1, 0.75, 0.5, 0]),
        ("LINEAR .5 to 2e0", [0, 0.5, 1], [0.5, 1.25, 2]),
        ("cosine 1 to 0", [0, 0.25, 0.5, 0.75, 1], [1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4, 0]),
        ("0:1, 0.5:0.3", [0, 0.25, 0.5, 0.9, 1], [1, 0.65, 0.3, 0.3, 0.3]),
        ("0.2 : 1,0.4:0", [0, 0.2, 0.3, 0.4, 1], [1, 1, 0.5, 0, 0]),
    ],
)
def test_curves_have_the_values_worked_out_by_hand(text, fractions, values):
    curve = parse_gamma(text)
    assert [curve.at(fraction) for fraction in fractions] == pytest.approx(values, abs=1e-12)


def test_points_are_numpys_linear_interpolation():
    random = np.random.default_rng(0)
    fractions, values = np.sort(random.random(7)), 4 * random.random(7)
    curve = GammaCurve(tuple(zip(fractions.tolist(), values.tolist(), strict=True)))
    for place in random.random(50):
        assert curve.at(place) == pytest.approx(np.interp(place, fractions, values), abs=1e-12)


@pytest.mark.parametrize("text", [*EXAMPLES, "0.7", "linear 0.25 to 2", "0:0, 0.1:1, 1:0.5", "0.5:1, 1:0"])
def test_a_curve_is_read_back_from_its_text(text):
    assert parse_gamma(text).format() == text
    assert parse_gamma(parse_gamma(text).format()) == parse_gamma(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no gamma curve: write a number"),
        ("strong", "is no gamma curve"),
        ("nan", "is no gamma curve"),
        ("0:1, half:0", "is no gamma curve"),
        ("0:1,", "is no gamma curve"),
        ("sine 1 to 0", "is no gamma curve"),
        ("x" * 500, "..."),
        ("0:1, 1.5:0", "from 0 to 1, but one is 1.5"),
        ("0:5", "from 0 to 4, but one is 5"),
        ("linear 1 to -1", "but one is -1"),
        ("0:1, 0:0", "0 follows 0"),
        ("0.5:1, 0.2:0", "0.2 follows 0.5"),
        (", ".join(f"{i / 100}:1" for i in range(MOST_POINTS + 1)), "1 to 32 points, not 33"),
    ],
)
def test_what_is_no_curve_is_a_sentence(text, says):
    with pytest.raises(GammaError) as caught:
        parse_gamma(text)
    assert says in str(caught.value)
    assert str(caught.value).endswith((".", "."))
    assert len(str(caught.value)) < 260


def test_steps_run_from_the_first_point_to_the_last():
    curve = parse_gamma("linear 1 to 0")
    assert [curve.at_step(index, 5) for index in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert curve.at_step(0, 1) == 1
    assert [curve.scaled(0.5).at_step(index, 3) for index in range(3)] == [0.5, 0.25, 0]
    assert curve.peak == 1
