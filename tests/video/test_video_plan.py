from pathlib import Path

import pytest

from controlnext.video import Bounds, Clip, Cut, VideoError, plan_cut

HUGE = Clip(Path("long.mp4"), "long.mp4", 3840, 2160, 60.0, 600.0, 36_000)
SMALL = Clip(Path("short.mp4"), "short.mp4", 640, 480, 25.0, 4.0, 100)


def test_ten_minutes_of_4k_are_bounded_and_said():
    plan = plan_cut(HUGE)
    assert plan.frames == 1800
    assert plan.fps == 30
    assert plan.width * plan.height <= 1280 * 720
    assert plan.width / plan.height == pytest.approx(16 / 9, rel=0.01)
    assert plan.note == (
        "Of “long.mp4” (10:00 min, 3840×2160 at 60 frames a second) 1,800 frames of 1280×720 at 30 a second are used, "
        "the 1:00 min from 0.0 s; move the start to use another part."
    )


def test_a_small_clip_is_used_whole_and_nothing_is_said():
    plan = plan_cut(SMALL)
    assert (plan.frames, plan.fps, plan.width, plan.height, plan.note) == (100, 25, 640, 480, "")
    assert plan.pixels == 100 * 640 * 480


def test_what_was_asked_for_is_not_remarked_upon():
    assert plan_cut(HUGE, Cut(fps=15, end=10, max_side=512)).note == ""
    assert plan_cut(SMALL, Cut(max_frames=10)).note == ""


def test_bounds_can_be_raised():
    plan = plan_cut(HUGE, bounds=Bounds(frames=100_000, fps=60, pixels=3840 * 2160))
    assert (plan.frames, plan.width, plan.note) == (36_000, 3840, "")


def test_the_stride_slows_the_tempo_exactly():
    clip = Clip(Path("c.mp4"), "c.mp4", 64, 48, 30000 / 1001, 2.0, 60)
    plan = plan_cut(clip, Cut(stride=2))
    assert plan.fps == pytest.approx(15000 / 1001)
    assert plan.frames == 30


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"start": -1}, "The start must be a number between 0"),
        ({"start": 3, "end": 2}, "would end at 2 s, before it starts at 3 s"),
        ({"fps": float("nan")}, "NaN"),
        ({"stride": 0}, "The stride must be a whole number"),
    ],
)
def test_a_wrong_cut_is_refused(values, said):
    with pytest.raises(VideoError, match=said):
        Cut(**values)
