import numpy as np
import oracle
import PIL.Image
import pytest
import torch
from tiny_models import VIDEO_WIDTH, make_case

from controlnext.method.control_images import ControlImageError
from controlnext.method.gamma import ControlSizeError
from controlnext.method.injection import attach
from controlnext.method.windows import (
    CONTROLS_AT_ONCE,
    FrameConditions,
    FrameControls,
    Guidance,
    WindowError,
    Windows,
    plan_windows,
)

VIDEO_VARIANTS = ("svd-v1", "svd-v2", "starter-video")
GAMMA = 0.8


def starts(frames, window, overlap):
    return [frames.start for frames in plan_windows(frames, window, overlap)]


@pytest.mark.parametrize(
    ("frames", "window", "overlap", "expected"),
    [
        (14, 14, 4, [0]),
        (15, 14, 4, [0, 1]),
        (24, 14, 4, [0, 10]),
        (25, 14, 4, [0, 10, 11]),
        (6, 4, 0, [0, 2]),
        (8, 4, 0, [0, 4]),
        (6, 4, 3, [0, 1, 2]),
        (3, 14, 4, [0]),
        (1, 1, 0, [0]),
        (3, 1, 0, [0, 1, 2]),
    ],
)
def test_windows_of_a_video(frames, window, overlap, expected):
    assert starts(frames, window, overlap) == expected


def test_every_frame_is_in_a_window_that_uses_it():
    for frames in range(1, 30):
        for window in range(1, 9):
            for overlap in range(window):
                plan = plan_windows(frames, window, overlap)
                assert {len(part) for part in plan} == {min(window, frames)}
                used = {index for number, part in enumerate(plan) for index in part[number > 0 and overlap > 0 :]}
                assert used == set(range(frames))
                if frames > max(window, overlap):  # below, the authors' loop gives shorter windows, or none
                    assert starts(frames, window, overlap) == oracle.window_starts(frames, window, overlap)


@pytest.mark.parametrize(("frames", "window", "overlap"), [(5, 0, 0), (5, 3, 3), (5, 3, -1), (0, 3, 1)])
def test_windows_that_cannot_be_are_refused(frames, window, overlap):
    with pytest.raises(WindowError):
        plan_windows(frames, window, overlap)


def video_case(variant="svd-v2", frames=7, batch=2):
    return make_case(variant, batch=batch, conditions=1, frames=frames)


def pictures(case):
    """The case's condition as one picture a frame."""
    return list(case.condition[0])


def conditions(case, windows):
    return FrameConditions(pictures(case), *case.condition.shape[-2:], windows)


def test_windows_as_long_as_the_video_change_nothing(video_unet):
    case = video_case()
    bare = case.run()
    for window in (7, 8, None):
        windows = Windows(case.unet, window, 0)
        assert torch.equal(case.run(unet=windows), bare)
        assert windows.current is None
    assert windows.config is case.unet.config


def test_windows_are_averaged_where_they_overlap_but_for_first_frames():
    case, told = video_case(), []
    merged = case.run(unet=Windows(case.unet, 4, 2, on_window=lambda *counts: told.append(counts)))
    parts = [case.run(sample=case.sample[:, start : start + 4]) for start in (0, 2, 3)]
    expected = torch.stack(
        [
            parts[0][:, 0],
            parts[0][:, 1],
            parts[0][:, 2],  # the first frame of the second window is left out, and so is that of the third
            (parts[0][:, 3] + parts[1][:, 1]) / 2,
            (parts[1][:, 2] + parts[2][:, 1]) / 2,
            (parts[1][:, 3] + parts[2][:, 2]) / 2,
            parts[2][:, 3],
        ],
        dim=1,
    )
    torch.testing.assert_close(merged, expected, rtol=1e-6, atol=1e-6)  # another order of adding
    assert told == [(0, 1, 3), (0, 2, 3), (0, 3, 3)]


def test_without_overlap_nothing_is_left_out():
    case = video_case(frames=6)
    merged = case.run(unet=Windows(case.unet, 3, 0))
    parts = [case.run(sample=case.sample[:, start : start + 3]) for start in (0, 3)]
    assert torch.equal(merged, torch.cat(parts, dim=1))


def test_a_tuple_is_returned_where_it_is_asked_for():
    case = video_case(frames=5)
    windows = Windows(case.unet, 3, 1)
    with torch.no_grad():
        (merged,) = windows(case.sample, 11, **case.others, return_dict=False)
    assert torch.equal(merged, case.run(unet=Windows(case.unet, 3, 1)))
    assert merged.dtype == case.sample.dtype


def test_guidance_runs_over_each_window_and_only_once():
    case = video_case(frames=5)
    merged = case.run(unet=Windows(case.unet, 3, 1, guidance=Guidance(1.0, 3.0)))
    first, last = merged.chunk(2)
    assert torch.equal(first, last)  # so that guidance by any scale leaves it as it is
    without, condition = case.run(sample=case.sample[:, :3]).chunk(2)
    scale = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1, 1)
    guided = without + scale * (condition - without)
    torch.testing.assert_close(first[:, :3], guided[:, :3], rtol=1e-5, atol=1e-6)


def test_stopping_between_windows_leaves_no_trace():
    case = video_case(frames=5)

    def stop(step, done, count):
        raise KeyboardInterrupt

    windows = Windows(case.unet, 3, 1, on_window=stop)
    with pytest.raises(KeyboardInterrupt):
        case.run(unet=windows)
    assert windows.current is None


class Watched:
    """Counts the pictures that a control module sees, and how many at once."""

    def __init__(self, module):
        self.sizes, self.condition = [], []
        module.register_forward_pre_hook(self._note)

    def _note(self, _, args):
        self.sizes.append(args[0].shape[1])
        self.condition.append(args[0])


@pytest.mark.parametrize("variant", VIDEO_VARIANTS)
def test_control_in_windows_is_computed_once_a_frame_and_equals_recomputing(variant):
    case = video_case(variant)
    leads = variant == "svd-v2"
    outputs = []
    with attach(case.unet, case.module, variant) as injection:
        for start in (0, 2, 3):
            frames = [0 if leads and start else start, *range(start + 1, start + 4)]
            injection.set(case.condition[:, frames], GAMMA)
            outputs.append(case.run(sample=case.sample[:, start : start + 4]))
        watched, windows = Watched(case.module), Windows(case.unet, 4, 2)
        injection.set(conditions(case, windows), GAMMA)
        recorded = []
        case.unet.register_forward_hook(lambda _, args, output: recorded.append(output[0]))
        case.run(unet=windows)
    for part, expected in zip(recorded, outputs, strict=True):
        torch.testing.assert_close(
            part, expected, rtol=1e-4, atol=1e-5
        )  # controls of other batch sizes round otherwise
    assert sum(watched.sizes) == 7
    assert max(watched.sizes) <= CONTROLS_AT_ONCE
    seen = torch.cat(watched.condition, dim=1)
    assert torch.equal(seen, case.condition)


def test_windows_without_overlap_keep_their_own_first_control():
    case = video_case("svd-v2", frames=6)
    with attach(case.unet, case.module, "svd-v2") as injection:
        windows = Windows(case.unet, 3, 0)
        injection.set(conditions(case, windows), GAMMA)
        merged = case.run(unet=windows)
        injection.set(case.condition[:, 3:], GAMMA)
        own = case.run(sample=case.sample[:, 3:])
    torch.testing.assert_close(merged[:, 3:], own, rtol=1e-4, atol=1e-5)


def test_the_windows_of_a_step_count_as_one_forward():
    case, asked = video_case(), []

    def gamma(index):
        asked.append(index)
        return 1.0

    with attach(case.unet, case.module, "svd-v2") as injection:
        windows = Windows(case.unet, 4, 2)
        injection.set(conditions(case, windows), gamma, active=lambda index: index != 1)
        watched = Watched(case.module)
        first = case.run(unet=windows)
        uncontrolled = case.run(unet=windows)
        again = case.run(7, unet=windows)
        assert injection._forwards == 3
    assert asked == [0] * 3 + [2] * 3
    assert sum(watched.sizes) == 2 * 7  # each timestep anew, none where the control is off
    assert torch.equal(uncontrolled, case.run(unet=Windows(case.unet, 4, 2)))
    assert not torch.allclose(first, uncontrolled, atol=1e-3)
    assert not torch.allclose(first, again, atol=1e-3)


def test_frames_that_do_not_fit_the_windows_are_refused():
    case = video_case(frames=7)
    with attach(case.unet, case.module, "svd-v2") as injection:
        windows = Windows(case.unet, 4, 2)
        injection.set(conditions(case, windows))
        with pytest.raises(ControlSizeError, match="video needs"):
            case.run(sample=case.sample[:, :5])  # outside of the windows it is all or nothing
        with pytest.raises(ControlSizeError, match="one timestep"):
            case.run(torch.tensor([1, 2]), unet=windows)


def test_conditions_are_fetched_when_they_are_needed():
    class Drawn:
        fetched = ()

        def __len__(self):
            return 90

        def __getitem__(self, index):
            self.fetched += (index,)
            return PIL.Image.new("RGB", (20, 16), (index, 0, 0))

    frames = Drawn()
    lazy = FrameConditions(frames, 8, 10, Windows(None, 4, 2))
    assert lazy.shape == (1, 90, 3, 8, 10)
    assert lazy.ndim == 5
    assert frames.fetched == ()
    taken = lazy.take([5, 2])
    assert frames.fetched == (5, 2)
    assert taken.shape == (1, 2, 3, 8, 10)
    assert taken[0, :, 0, 0, 0].tolist() == pytest.approx([5 / 255, 2 / 255])


def test_a_frame_is_one_picture():
    lazy = FrameConditions([np.zeros((2, 8, 8, 3), np.uint8), "frame.png"], 8, 8, Windows(None, None))
    with pytest.raises(ControlImageError, match="one control image, not 2"):
        lazy.take([0])
    with pytest.raises(ControlImageError, match="not str"):
        lazy.take([1])


def test_held_controls_are_those_of_the_window_at_work():
    held, computed = FrameControls(), []

    def compute(frames):
        computed.extend(frames)
        return torch.tensor([[float(index)] for index in frames])

    for window in plan_windows(40, 6, 2):
        assert held.get("now", window, compute).flatten().tolist() == list(window)
        assert len(held) == 6
    assert computed == list(range(40))
    held.get("later", range(6), compute)
    assert computed[40:] == list(range(6))


def test_held_controls_take_no_more_memory_than_they_need():
    held = FrameControls()
    rows = held.get("now", [0, 1], lambda frames: torch.zeros(len(frames), VIDEO_WIDTH))
    assert rows.shape == (2, VIDEO_WIDTH)
    assert all(row.untyped_storage().nbytes() == 4 * VIDEO_WIDTH for row in held._rows.values())
