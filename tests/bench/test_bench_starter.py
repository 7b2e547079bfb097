import numpy as np
import pytest

from annotators.starter.net import PARTS, SceneReading
from controlnext.bench.quality.scenes import Colours, SceneTally, judge
from controlnext.bench.quality.starter import table
from controlnext.starter.train.dataset import make_samples


@pytest.fixture(scope="module")
def colours():
    return Colours.learn(scenes=16)


@pytest.fixture(scope="module")
def samples():
    return [make_samples(seed, 1)[0] for seed in range(4)]


def _perfect(sample):
    return SceneReading(sample.picture.parts, sample.picture.depth, list(sample.picture.people))


def test_a_perfect_reading_scores_one(samples, colours):
    tally = SceneTally()
    for sample in samples:
        judge(tally, sample, sample.picture.rgb, _perfect(sample), colours)
    figures = tally.figures()
    for name in ("pose", "segmentation", "depth", "canny"):
        assert figures[name] == pytest.approx(1)
    assert figures["sky"] == 1


def test_another_scenes_picture_scores_low(samples, colours):
    tally = SceneTally()
    for sample, other in zip(samples, samples[1:] + samples[:1], strict=True):
        judge(tally, sample, other.picture.rgb, _perfect(other), colours)
    figures = tally.figures()
    assert figures["pose"] < 0.5
    assert figures["canny"] < 0.4
    assert figures["segmentation"] < 0.5


def test_nobody_found_counts_as_all_joints_wrong(samples, colours):
    tally = SceneTally()
    empty = SceneReading(samples[0].picture.parts, samples[0].picture.depth, [])
    judge(tally, samples[0], samples[0].picture.rgb, empty, colours)
    assert tally.joints > 0
    assert tally.joints_right == 0


def test_a_repainted_shirt_is_noticed(samples, colours):
    sample = next(
        s for s in samples if s.look.shirt != "green" and (s.picture.parts == PARTS.index("shirt")).sum() > 500
    )
    rgb = sample.picture.rgb.copy()
    mask = sample.picture.parts == PARTS.index("shirt")
    assert colours.right(rgb, sample.picture.parts, "shirt", sample.look.shirt, sample.look.sky)
    rgb[mask] = (20, 160, 40)
    assert not colours.right(rgb, sample.picture.parts, "shirt", sample.look.shirt, sample.look.sky)


def test_table_names_every_measure_and_bar(samples, colours):
    tally = SceneTally()
    for sample in samples:
        judge(tally, sample, sample.picture.rgb, _perfect(sample), colours)
    figures = tally.figures()
    runs = {f"{name} {gamma}": figures for name in ("canny", "depth", "pose", "segmentation") for gamma in (0, 1)}
    text = table({"runs": runs, "renders": figures, "seconds": 1.234, "threads": 1})
    for word in ("pose", "segmentation", "depth", "canny", "shirt", "trousers", "sky", "1.23"):
        assert word in text
    assert np.all([line.count("|") == 6 for line in text.splitlines()])
