import subprocess

import numpy as np
import pytest
from video_clips import grey_frames, make, numbers

from controlnext.recipes.mp4 import read_contents
from controlnext.video import (
    Cut,
    Sound,
    VideoError,
    VideoWriter,
    beside,
    open_clip,
    plan_cut,
    read_frames,
    write_video,
)
from controlnext.video.ffmpeg import binary


def header(path):
    return subprocess.run(
        [binary(), "-hide_banner", "-i", str(path)], capture_output=True, text=True, check=False
    ).stderr


def sound_of(path):
    """Samples of a file's sound, 8000 a second."""
    command = [binary(), "-v", "error", "-i", str(path), "-f", "s16le", "-ac", "1", "-ar", "8000", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.int16)


def boxes(path):
    content, names, at = path.read_bytes(), [], 0
    while at < len(content):
        names.append(content[at + 4 : at + 8])
        at += int.from_bytes(content[at : at + 4])
    return names


def test_a_video_plays_everywhere_and_keeps_count_and_tempo(tmp_path):
    path = tmp_path / "made.mp4"
    assert write_video(path, grey_frames(7), 30000 / 1001) == ""
    said = header(path)
    assert "h264" in said
    assert "yuv420p(tv, bt709" in said
    assert "29.97 fps" in said
    assert boxes(path).index(b"moov") < boxes(path).index(b"mdat")  # starts to play before all has come
    with read_frames(open_clip(path)) as frames:
        assert numbers(frames) == list(range(7))


@pytest.mark.parametrize(("size", "stored"), [((50, 70), (50, 70)), ((301, 201), (302, 202)), ((2, 2), (2, 2))])
def test_no_size_is_rounded_but_odd_ones_to_even(tmp_path, size, stored):
    height, width = size
    frames = [np.random.default_rng(0).integers(100, 110, (height, width, 3), np.uint8)] * 2
    write_video(tmp_path / "made.mp4", frames, 10)
    clip = open_clip(tmp_path / "made.mp4")
    assert (clip.height, clip.width) == stored


def test_colours_come_back(tmp_path):
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:, :32], frame[:, 32:] = (200, 60, 40), (30, 90, 220)
    write_video(tmp_path / "made.mp4", [frame] * 3, 10)
    with read_frames(open_clip(tmp_path / "made.mp4")) as frames:
        back = next(frames).astype(int)
    assert np.abs(back[:, :28] - (200, 60, 40)).max() <= 6  # 4:2:0 and 219 levels
    assert np.abs(back[:, 36:] - (30, 90, 220)).max() <= 6


def test_sound_is_cut_like_the_frames(clips, tmp_path):
    high = make(
        tmp_path / "steps.mp4",
        *("-i", clips / "tone.mp4", "-c:v", "copy", "-af", "volume='if(between(t,0.4,0.6),1,0)':eval=frame"),
    )
    clip = open_clip(high)
    plan = plan_cut(clip, Cut(start=0.4, end=0.8))
    with read_frames(clip, plan) as frames:
        assert write_video(tmp_path / "cut.mp4", frames, plan.fps, sound=Sound(clip, plan.cut.start)) == ""
    made = sound_of(tmp_path / "cut.mp4").astype(float)
    assert len(made) / 8000 == pytest.approx(0.4, abs=0.15)  # an AAC packet is 0.128 s at this rate
    assert np.abs(made[400:1200]).mean() > 10 * np.abs(made[2400:3000]).mean()  # loud for 0.2 s, then silent


def test_sound_that_cannot_be_decoded_costs_the_sound_alone(clips, tmp_path):
    clip = open_clip(clips / "tone.mp4")
    broken = Sound(open_clip(clips / "tone.mp4"), 0.0)
    object.__setattr__(broken.clip, "path", clips / "silent.webm")
    note = write_video(tmp_path / "made.mp4", grey_frames(3), clip.fps, sound=broken)
    assert note == "The sound of “tone.mp4” could not be decoded, so the video is silent."
    assert open_clip(tmp_path / "made.mp4").frames == 3


@pytest.mark.parametrize(
    "contents", [{"controlnext": {"prompt": "a = b; #1 \\ “é” 🕺\nnew", "n": [1, 2.5, None]}}, {"long": "x" * 300_000}]
)
def test_contents_come_back(tmp_path, contents):
    write_video(tmp_path / "made.mp4", grey_frames(2), 10, contents=contents)
    assert read_contents(tmp_path / "made.mp4") == contents


def test_files_without_contents_give_none(clips, tmp_path):
    write_video(tmp_path / "made.mp4", grey_frames(2), 10)
    for path in (tmp_path / "made.mp4", clips / "silent.webm", clips / "tone.mp4", tmp_path / "gone.mp4"):
        assert read_contents(path) == {}


def test_an_unfinished_video_leaves_nothing_behind(tmp_path):
    (tmp_path / "made.mp4").write_bytes(b"the old one")
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(tmp_path / "made.mp4", 10) as writer:  # noqa: PT012
        writer.write(grey_frames(1)[0])
        raise RuntimeError("stop")
    with pytest.raises(VideoError, match="of one size"):
        write_video(tmp_path / "made.mp4", [*grey_frames(1), *grey_frames(1, 20, 20)], 10)
    with pytest.raises(VideoError, match="no frames to write"):
        write_video(tmp_path / "made.mp4", [], 10)
    assert [path.name for path in tmp_path.iterdir()] == ["made.mp4"]
    assert (tmp_path / "made.mp4").read_bytes() == b"the old one"


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VideoError, match=r"“made.mp4” could not be written: the system says"):
        write_video(tmp_path / "file" / "made.mp4", grey_frames(2), 10)


def test_side_by_side_keeps_shapes():
    left, right = grey_frames(1, 48, 64)[0], grey_frames(2, 24, 20)[1]
    both = beside(left, right)
    assert both.shape == (48, 64 + 40, 3)
    assert (both[:, :64].max(), both[:, 64:].min()) == (0, 12)
