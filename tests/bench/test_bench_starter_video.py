"""The measures of `bench starter-video`, on renders whose answers are known."""

import numpy as np
import pytest

from controlnext.bench.quality import starter_video as bench
from controlnext.bench.quality.scenes import Colours

FRAMES = 3


@pytest.fixture(scope="module")
def colours():
    return Colours.load()


@pytest.fixture(scope="module")
def task():
    return bench.make_task(1, FRAMES)


def frames_of(task):
    return np.stack([picture.rgb for picture in task.truth])


def test_the_reference_is_the_same_figure_at_another_moment(task):
    assert len(task.poses) == FRAMES
    assert task.reference.size == task.poses[0].size
    assert all(not np.array_equal(np.array(task.reference), picture.rgb) for picture in task.truth)


@pytest.mark.weights
def test_renders_are_right_and_other_clips_are_wrong(task, colours):
    right = bench.judge(task, frames_of(task), colours).figures()
    assert right["pose"] > 0.85
    assert right["shirt"] == right["trousers"] == right["hair"] == 1
    assert right["flicker"] < 0.01
    other = bench.judge(task, frames_of(bench.make_task(3, FRAMES)), colours).figures()
    assert other["pose"] < 0.6
    assert min(other["shirt"], other["trousers"], other["hair"]) < 0.5


@pytest.mark.weights
def test_noise_flickers(task, colours):
    rng = np.random.default_rng(0)
    noisy = np.clip(frames_of(task) + rng.normal(0, 20, frames_of(task).shape), 0, 255).astype(np.uint8)
    calm = bench.judge(task, frames_of(task), colours).figures()["flicker"]
    assert bench.judge(task, noisy, colours).figures()["flicker"] > 5 * calm


def test_the_table_shows_each_method_and_measure():
    run = {"pose": 0.9, "shirt": 1.0, "trousers": 1.0, "hair": 0.5, "flicker": 0.0123, "seconds": 30.0}
    lines = bench.table({"runs": {"video": run, "renders": dict(run, pose=0.95)}, "threads": 1}).splitlines()
    assert "video starter" in lines[0]
    assert lines[2].endswith("| 0.900 | 0.950 |")
    assert lines[-2].endswith("| 1.23 | 1.23 |")
    assert lines[-1].endswith("| 30 | 30 |")
