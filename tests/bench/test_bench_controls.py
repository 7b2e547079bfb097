"""The bench of several controls: what it asks of the pipeline, and its table."""

from types import SimpleNamespace

import numpy as np
import pytest

from controlnext.bench.quality import several_controls as controls
from controlnext.bench.quality.scenes import draw, judge_all, renders
from controlnext.starter.train.dataset import make_samples
from controlnext.starter.world.conditions import condition


class Pipeline:
    """Draws the scenes as they are, whatever it is asked, and remembers what that was."""

    def __init__(self, samples):
        self.samples, self.calls = samples, []
        self.controlnexts = {"pose": None, "depth": None}

    def __call__(self, prompts, control_image, **options):
        self.calls.append((prompts, control_image, options))
        return SimpleNamespace(images=np.stack([sample.picture.rgb for sample in self.samples]) / 255)


@pytest.fixture(scope="module")
def samples():
    return [make_samples(seed, 1)[0] for seed in range(2)]


def test_each_run_asks_for_its_own_controls_and_perfect_pictures_reach_the_ceiling(samples):
    pipeline = Pipeline(samples)
    figures = judge_all(samples, draw(pipeline, ["depth"], 0.8, samples))
    draw(pipeline, ["pose", "depth"], 0.8, samples)
    (prompts, alone, options), (_, both, _) = pipeline.calls
    assert prompts == [sample.caption() for sample in samples]
    assert options["gamma"] == 0.8
    assert alone[0] is None
    assert np.array_equal(np.asarray(alone[1][1]), condition("depth", samples[1].picture))
    assert np.array_equal(np.asarray(both[0][0]), condition("pose", samples[0].picture))
    assert figures == judge_all(samples, renders(samples))


def test_table_puts_what_was_not_asked_for_in_brackets():
    runs = {
        "pose": {"pose": 0.8, "depth": 0.4},
        "depth": {"pose": 0.3, "depth": 0.9},
        "together": {"pose": 0.7, "depth": 0.85},
    }
    assert controls.table(runs, ["pose", "depth"]).splitlines() == [
        "| control | pose: PCK@0.1 | depth: depth rank correlation |",
        "|---|---:|---:|",
        "| pose | 0.800 | (0.400) |",
        "| depth | (0.300) | 0.900 |",
        "| together | 0.700 | 0.850 |",
    ]
