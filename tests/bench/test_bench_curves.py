"""What is told of learning curves, and how they are drawn."""

import numpy as np
import pytest
from PIL import Image

from controlnext.bench.convergence import curves
from controlnext.bench.convergence.report import plot


def points(*adherence, steps=None):
    steps = steps or [10 * i for i in range(len(adherence))]
    return [{"step": step, "seconds": step / 2, "adherence": value, "loss": 1 - value} for step, value in zip(steps, adherence, strict=True)]  # fmt: skip


def run(way, *adherence, condition="pose", seed=0, diverged=None):
    facts = {"condition": condition, "way": way, "title": way.title(), "seed": seed, "rate": 1e-3}
    return {**facts, "trained": 1_500_000, "points": points(*adherence), "diverged": diverged}


@pytest.mark.parametrize(
    ("curve", "level", "steps"),
    [((0.2, 0.4, 0.8), 0.3, 5), ((0.2, 0.4, 0.8), 0.4, 10), ((0.2, 0.4, 0.8), 0.2, 0), ((0.2, 0.8, 0.1, 0.9), 0.5, 5), ((0.1, 0.2, 0.3), 0.9, None)],
)  # fmt: skip
def test_a_level_is_first_reached_between_two_points(curve, level, steps):
    found = curves.reached(points(*curve), level)
    assert found == (None if steps is None else pytest.approx(steps))
    if steps:
        assert curves.reached(points(*curve), level, "seconds") == pytest.approx(steps / 2)


@pytest.mark.parametrize(
    ("curve", "sudden"),
    [
        ((0.1, 0.1, 0.1, 0.1, 0.8, 0.9, 0.9), True),
        ((0.1, 0.11, 0.12, 0.7, 0.9, 0.9, 0.9), True),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), False),
        ((0.1, 0.5, 0.7, 0.8, 0.85, 0.87, 0.88), False),
        ((0.3, 0.3, 0.2, 0.1), False),
    ],
)
def test_sudden_is_what_lies_still_and_then_jumps(curve, sudden):
    assert curves.is_sudden(points(*curve)) is sudden


def test_runs_are_summed_up_against_the_best_of_their_condition():
    runs = [
        run("controlnet", 0.1, 0.1, 0.1, 0.8, 0.9),
        run("controlnet", 0.1, 0.1, 0.1, 0.6, 0.7, seed=1),
        run("slow", 0.1, 0.2, 0.3, 0.4, 0.5),
        run("controlnet", 0.0, 0.2, 0.2, 0.2, 0.2, condition="canny"),
    ]
    first, slow, other = curves.summarise(runs)
    assert (first.way, first.runs, first.adherence) == ("controlnet", 2, pytest.approx(0.8))
    assert first.spread == pytest.approx(np.std([0.9, 0.7], ddof=1))
    assert first.half == pytest.approx(np.mean([20 + 10 * 0.3 / 0.7, 20 + 10 * 0.3 / 0.5]))  # half of the best, 0.8
    assert first.reached == (2, 1)  # only one comes to 0.72
    assert first.sudden == 2
    assert (slow.half, slow.nearly, slow.reached) == (pytest.approx(30), None, (1, 0))
    assert slow.spread is None
    assert (other.condition, other.half) == ("canny", pytest.approx(5))
    text = curves.table([first, slow])
    assert "| Controlnet | 1.50 | 0.001 | 0.100 | 0.800 ± 0.141 |" in text
    assert f"| 30 | {30 / first.half:.2f} | not reached |" in text  # half of the best, and that beside ControlNet's
    assert "(1 of 2)" in text
    assert "not reached" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_a_run_that_diverged_is_counted_and_has_no_loss():
    bad = run("add", 0.1, 0.5, 0.0, diverged=12)
    bad["points"][-1]["loss"] = None
    (row,) = curves.summarise([bad])
    assert (row.diverged, row.loss, row.adherence) == (1, None, 0)
    assert "Add (1 diverged)" in curves.table([row])


def test_curves_are_drawn_as_lines_with_gaps_where_values_are_missing(tmp_path):
    whole, broken = run("controlnet", *[0.5] * 6), run("add", *[0.1] * 6)
    for point in broken["points"][1:5]:
        point["loss"] = None
    plot("pose", [whole, broken], tmp_path / "deep" / "p.png")
    image = np.asarray(Image.open(tmp_path / "deep" / "p.png").convert("RGB")).astype(int)
    blue, orange = (31, 119, 180), (255, 127, 14)  # matplotlib's first two colours
    count = lambda part, colour: int((np.abs(part - np.array(colour)).sum(-1) < 60).sum())  # noqa: E731
    top, bottom = image[: len(image) * 2 // 5], image[len(image) * 9 // 20 : len(image) * 9 // 10]
    assert min(count(top, blue), count(top, orange)) > 300  # both lines, in two panels
    assert 0 < count(bottom, orange) < count(bottom, blue) / 4  # no line between the first loss and the last
