import json
import threading

import numpy as np
import pytest
from video_clips import make
from video_figures import drawn, person, poses

from annotators import draw_pose
from annotators.poses.skeleton_svd import draw_svd_skeleton
from controlnext.progress import Cancelled
from controlnext.video import (
    Cut,
    PoseCache,
    Poses,
    VideoError,
    open_clip,
    plan_cut,
    read_pose_frame,
    read_poses,
    write_video,
)
from controlnext.video.extract import is_pose_frame, is_thin_pose_frame
from controlnext.video.poses import FACE, LEFT_HAND, people_array


class CountingReader:
    """Sees one person, and counts how often it was asked."""

    def __init__(self, key="one"):
        self.key = key
        self.calls = 0

    def __call__(self, rgb):
        self.calls += 1
        return {"people": [person(30, 20, 40)[:18].tolist()]}


def test_poses_survive_json():
    one = person(50.12, 30, 60)
    one[LEFT_HAND] = np.arange(63).reshape(21, 3) / 63
    one[FACE, 2] = 0.5
    made = poses([[one, person(150, 30, 50)], [], [one]], fps=29.97)
    back = Poses.from_json(made.to_json())
    assert (back.height, back.width, back.fps, len(back)) == (100, 200, 29.97, 3)
    assert [len(people) for people in back.frames] == [2, 0, 1]
    for given, got in zip(made.frames, back.frames, strict=True):
        np.testing.assert_allclose(got, given, atol=5e-4)  # three decimals


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not a pose sequence of this program"),
        ('{"format": "controlnext-poses", "version": 2}', "not a pose sequence of this program"),
        ('{"format": "controlnext-poses", "version": 1, "frames": []}', "damaged"),
        (
            '{"format": "controlnext-poses", "version": 1, "frames": [{"people": [{"pose_keypoints_2d": [1, 2]}]}]}',
            "damaged",
        ),
    ],
)
def test_what_is_no_pose_sequence_is_refused(text, said):
    with pytest.raises(VideoError, match=said):
        Poses.from_json(text)


def test_not_a_number_in_a_pose_sequence_is_refused():
    record = json.loads(poses([[person(50, 30, 60)]]).to_json())
    record["frames"][0]["people"][0]["pose_keypoints_2d"][0] = float("nan")
    with pytest.raises(VideoError, match="finite"):
        Poses.from_json(json.dumps(record))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"width": 16000, "height": 16000}, "16000×16000"),  # a frame of it would take 768 MB
        ({"height": float("inf")}, "damaged"),
        ({"fps": 10**400}, "damaged"),
    ],
)
def test_sizes_and_tempos_beyond_measure_are_refused(changed, said):
    record = json.loads(poses([[person(50, 30, 60)]]).to_json()) | changed
    with pytest.raises(VideoError, match=said):
        Poses.from_json(json.dumps(record))


def test_a_frame_is_data_that_can_be_drawn():
    drawing = draw_pose(poses([[person(30, 20, 40)]], height=64, width=64).data(0)).image
    np.testing.assert_array_equal(np.asarray(drawing), drawn([person(30, 20, 40)]))


def test_a_face_with_pupils_and_points_that_are_not_numbers_are_understood():
    body = person(30, 20, 40)[:18]
    body[3] = np.nan
    people = people_array({"people": [body], "hands": [(None, np.ones((21, 3)))], "faces": [np.ones((70, 3))]})
    assert people.shape == (1, 128, 3)
    assert people[0, 3].tolist() == [0, 0, 0]
    assert people[0, FACE].min() == 1
    assert people[0, LEFT_HAND].max() == 0


def test_reading_tells_its_progress_and_reads_nothing_twice(clips):
    clip = open_clip(clips / "tone.mp4")
    reader, cache, told = CountingReader(), PoseCache(), []
    first = read_poses(clip, plan_cut(clip, Cut(end=0.5)), reader, cache=cache, on_progress=told.append)
    assert [(progress.step, progress.total) for progress in told] == [(index, 5) for index in range(1, 6)]
    assert told[0].counted == "frame 1 of 5"
    assert (reader.calls, len(first), first.fps) == (5, 5, 10)
    assert read_poses(clip, plan_cut(clip, Cut(end=0.5)), reader, cache=cache) is first
    wider = read_poses(clip, plan_cut(clip, Cut(end=0.8)), reader, cache=cache)
    assert (reader.calls, len(wider)) == (8, 8)  # three new frames
    later = read_poses(clip, plan_cut(clip, Cut(start=0.3, end=0.6)), reader, cache=cache)
    assert (reader.calls, later.start) == (8, 0.3)
    read_poses(clip, plan_cut(clip, Cut(end=0.5)), other := CountingReader("other settings"), cache=cache)
    assert other.calls == 5


def test_the_cache_goes_by_content_not_by_name(clips, tmp_path):
    import shutil

    shutil.copy(clips / "tone.mp4", tmp_path / "renamed.mp4")
    reader, cache = CountingReader(), PoseCache()
    for path in (clips / "tone.mp4", tmp_path / "renamed.mp4"):
        clip = open_clip(path)
        read_poses(clip, plan_cut(clip), reader, cache=cache)
    assert reader.calls == 10


def test_the_cache_forgets_the_oldest():
    cache = PoseCache(clips=2)
    for key in ("a", "b", "a", "c"):
        cache.clips.keep(key, key)
    assert [cache.clips.get(key) for key in "abc"] == ["a", None, "c"]


def test_a_stopped_reading_loses_nothing(clips):
    clip = open_clip(clips / "tone.mp4")
    reader, cache, cancel = CountingReader(), PoseCache(), threading.Event()

    def stop_at_four(progress):
        if progress.step == 4:
            cancel.set()

    with pytest.raises(Cancelled):
        read_poses(clip, plan_cut(clip), reader, cache=cache, on_progress=stop_at_four, cancel=cancel)
    assert reader.calls == 4
    read_poses(clip, plan_cut(clip), reader, cache=cache)
    assert reader.calls == 10


def test_pose_frames_are_read_from_their_drawing(tmp_path):
    people = [[person(70 + step, 50, 150)] for step in range(4)]
    write_video(tmp_path / "poses.mp4", [drawn(one, 256, 160) for one in people], 8)
    clip = open_clip(tmp_path / "poses.mp4")
    found = read_poses(clip, plan_cut(clip), read_pose_frame)
    assert [len(one) for one in found.frames] == [1] * 4
    for given, got in zip(people, found.frames, strict=True):
        both = got[0, :14, 2] > 0
        assert both.sum() >= 12  # joints of the head lie too close together at this size
        assert np.abs(got[0, :14][both, :2] - given[0][:14][both, :2]).max() < 2.5


def test_a_damaged_clip_is_said_with_the_poses(clips, tmp_path):
    short = make(tmp_path / "short.mp4", "-i", clips / "tone.mp4", "-c", "copy", "-an", "-movflags", "+faststart")
    data = short.read_bytes()
    short.write_bytes(data[: len(data) - 800])
    clip = open_clip(short)
    found = read_poses(clip, plan_cut(clip), CountingReader())
    assert 1 <= len(found) <= 10
    assert "damaged" in found.note


def test_drawings_are_told_from_photographs():
    assert is_pose_frame(drawn([person(70, 50, 150)], 256, 160))
    assert not is_pose_frame(np.zeros((64, 64, 3), np.uint8))
    assert not is_pose_frame(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))


def test_thin_lines_of_the_svd_adapters_are_told_from_the_rest():
    thin = draw_svd_skeleton([person(288, 80, 800)[:18]], 1024, 576)
    assert is_thin_pose_frame(thin)
    assert not is_pose_frame(thin)
    assert not is_thin_pose_frame(np.zeros((64, 64, 3), np.uint8))
    assert not is_thin_pose_frame(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
