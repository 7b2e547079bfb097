import numpy as np
import pytest

from controlnext.bench.quality.best_of import compare, interval, table


def test_the_gain_is_measured_scene_by_scene():
    figures = compare(np.array([[0.2, 0.4], [0.6, 1.0]]))
    assert figures["single"]["mean"] == pytest.approx(0.55)
    assert figures["best"]["mean"] == pytest.approx(0.7)
    assert figures["gain"]["mean"] == pytest.approx(0.15)
    assert figures["gain"]["interval"] == pytest.approx((0.1, 0.2))
    assert "0.150 (0.100 to 0.200)" in table({"pose": figures}, 2)


def test_the_interval_covers_the_mean_and_shrinks_with_more_scenes():
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.2)
    assert interval(values[:25])[1] - interval(values[:25])[0] > 2 * (high - low)
