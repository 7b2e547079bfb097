import numpy as np
import pytest

from annotators.canny import find_edges
from controlnext.adherence.score import edge_f1
from controlnext.bench.quality.lora import colour_distance
from controlnext.starter.train.dataset import make_samples
from controlnext.starter.world.styles import STYLES, restyle


@pytest.fixture(scope="module")
def renders():
    return [make_samples(seed, 1)[0].picture.rgb for seed in range(3)]


@pytest.mark.parametrize("name", STYLES)
def test_a_style_is_seen_at_a_glance_and_keeps_the_shapes(renders, name):
    for rgb in renders:
        before = rgb.copy()
        styled = restyle(name, rgb)
        assert (styled.shape, styled.dtype) == (rgb.shape, np.uint8)
        assert np.array_equal(rgb, before)
        assert colour_distance(styled, rgb) > 10  # 2 is just visible
        strong = {"low": 30, "high": 60}  # a dark style has weaker edges, in the same places
        edges = [find_edges(np.ascontiguousarray(each), **strong).map > 0 for each in (rgb, styled)]
        assert edge_f1(edges[0], edges[1], 2.0) > 0.5


def test_styles_differ_from_each_other(renders):
    painted = [restyle(name, renders[0]) for name in STYLES]
    distances = [colour_distance(one, two) for i, one in enumerate(painted) for two in painted[i + 1 :]]
    assert min(distances) > 10


def test_colour_distance_is_that_of_cielab():
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert colour_distance(black, white) == pytest.approx(100, abs=0.1)
    assert colour_distance(white, white) == 0
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert colour_distance(red, black) == pytest.approx(117.3, abs=0.5)  # (53.2, 80.1, 67.2)


def test_the_stage_knows_every_style():
    from controlnext.starter.__main__ import _parser

    text = " ".join(_parser().format_help().split())
    assert all(name in text for name in STYLES)
