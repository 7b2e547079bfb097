import subprocess
import weakref
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from video_clips import grey_frames, make, numbers, save_pictures

from controlnext.video import Cut, VideoError, open_clip, plan_cut, read_frames, write_video
from controlnext.video.ffmpeg import PICTURES_OUT, FfmpegProcess, binary, read_picture, source


def frames_of(path, **cut):
    clip = open_clip(path)
    with read_frames(clip, plan_cut(clip, Cut(**cut))) as frames:
        return list(frames)


@pytest.mark.parametrize("name", ["tone.mp4", "turned.mov", "silent.webm", "loop.gif"])
def test_every_kind_of_file_gives_its_frames_upright(clips, name):
    frames = frames_of(clips / name)
    assert len(frames) == 10
    assert {frame.shape for frame in frames} == {(64, 48, 3) if name == "turned.mov" else (48, 64, 3)}
    upright = frames_of(clips / "tone.mp4")[0].astype(int)
    turned = np.rot90(frames[0].astype(int), -1) if name == "turned.mov" else frames[0].astype(int)
    assert np.abs(turned - upright).mean() < 12  # as far as codecs differ


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ({}, list(range(20))),
        ({"start": 0.5}, list(range(5, 20))),
        ({"start": 0.5, "end": 1.0}, [5, 6, 7, 8, 9]),
        ({"stride": 4}, [0, 4, 8, 12, 16]),
        ({"fps": 5}, list(range(0, 20, 2))),
        ({"start": 0.4, "fps": 5, "stride": 2}, [4, 8, 12, 16]),
        ({"max_frames": 3}, [0, 1, 2]),
        ({"fps": 20, "end": 0.2}, [0, 0, 1, 1]),
        ({"start": 0.74, "end": 1.16}, [7, 8, 9, 10, 11]),
        ({"start": 1.9}, [19]),
        ({"start": 1.2, "end": 1.21}, [12]),
    ],
)
def test_a_cut_takes_exactly_these_frames(clips, cut, expected):
    clip = open_clip(clips / "grey.mp4")
    plan = plan_cut(clip, Cut(**cut))
    with read_frames(clip, plan) as frames:
        assert numbers(frames) == pytest.approx(expected, abs=1 if "fps" in cut else 0)
        assert frames.count == len(expected) == plan.frames


@pytest.fixture
def webp(tmp_path):
    """Twenty grey frames at 10 a second as an animated WebP, which ffmpeg cannot seek in."""
    if b"webp_anim" not in subprocess.run([binary(), "-hide_banner", "-demuxers"], capture_output=True).stdout:
        pytest.skip("this build of ffmpeg reads no animated WebP")
    first, *others = (Image.fromarray(frame) for frame in grey_frames(20))
    first.save(tmp_path / "grey.webp", save_all=True, append_images=others, duration=100, lossless=True)
    return tmp_path / "grey.webp"


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ({}, list(range(20))),
        ({"start": 0.5, "end": 1.0}, [5, 6, 7, 8, 9]),
        ({"start": 0.4, "fps": 5, "stride": 2}, [4, 8, 12, 16]),
        ({"start": 1.9}, [19]),
    ],
)
def test_an_animated_webp_is_a_clip(webp, cut, expected):
    clip = open_clip(webp)
    assert (clip.frames, clip.fps, clip.seconds, clip.pictures) == (20, pytest.approx(10), pytest.approx(2), ())
    assert numbers(frames_of(webp, **cut)) == pytest.approx(expected, abs=1 if "fps" in cut else 0)


def test_a_still_webp_is_a_picture(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "one.webp")
    assert len(open_clip(tmp_path / "one.webp").pictures) == len(frames_of(tmp_path / "one.webp")) == 1


@pytest.mark.parametrize("fps", [0, 2, 8, 30])
def test_one_frame_is_a_clip_at_any_tempo(clips, fps):
    assert len(frames_of(clips / "one.mp4", fps=fps)) in (1, 3)  # a tenth of a second is three frames at 30


def test_a_variable_rate_becomes_a_constant_one(clips, tmp_path):
    times = "setpts='if(lt(N,5),N*0.1,0.5+(N-5)*0.3)/TB'"
    path = make(tmp_path / "varied.webm", "-i", clips / "silent.webm", "-vf", times, "-fps_mode", "passthrough", "-an")
    frames = frames_of(path, fps=10)
    assert len(frames) == pytest.approx(18, abs=1)  # the last frame is at 1.7 s
    repeated = [np.array_equal(one, other) for one, other in pairwise(frames[6:16])]
    assert sum(repeated) == 6


def test_pictures_are_cut_alike(tmp_path):
    folder = save_pictures(tmp_path / "walk", [f"{index}.png" for index in range(12)])
    assert numbers(frames_of(folder, fps=10, start=0.2, end=0.9, stride=3)) == [2, 5, 8]
    clip = open_clip(folder)
    assert plan_cut(clip, Cut(fps=10, stride=3)).fps == pytest.approx(10 / 3)


def test_pictures_of_another_shape_are_padded_to_the_first(tmp_path):
    folder = save_pictures(tmp_path / "walk", ["1.png", "2.png"])
    save_pictures(folder, ["skipped.txt.png", "3.png"], size=(48, 48))
    frames = frames_of(folder)
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert frames[2][:, :8].max() == 0
    assert frames[2][24, 32].max() == 12


def test_frames_are_shrunk_to_the_longer_side(clips):
    assert {frame.shape for frame in frames_of(clips / "tone.mp4", max_side=32)} == {(24, 32, 3)}


def test_no_more_than_two_frames_are_alive(clips):
    alive, most = [], 0
    clip = open_clip(clips / "grey.mp4")
    with read_frames(clip) as frames:
        for frame in frames:
            alive.append(weakref.ref(frame))
            most = max(most, sum(one() is not None for one in alive))
    assert len(alive) == 20
    assert most <= 2


def test_leaving_early_ends_the_decoder(clips):
    frames = read_frames(open_clip(clips / "tone.mp4"))
    with frames:
        next(frames)
        process = frames._made.gi_frame.f_locals["process"]._running
        assert process.poll() is None or process.poll() == 0
    assert process.poll() is not None
    assert list(frames) == []


def test_a_damaged_middle_keeps_the_tempo_and_is_said(clips, tmp_path):
    content = bytearray((clips / "tone.mp4").read_bytes())
    start = content.index(b"mdat") + 4
    middle = slice(start + 2500, start + 3300)
    content[middle] = np.random.default_rng(1).bytes(800)
    (tmp_path / "bad.mp4").write_bytes(content)
    clip = open_clip(tmp_path / "bad.mp4")
    with read_frames(clip) as frames:
        assert len(list(frames)) == 10
        assert "damaged in places" in frames.note


def test_a_cut_behind_the_end_is_refused(clips):
    with pytest.raises(VideoError, match=r"starts at 5 s, but “tone.mp4” ends at 1.0"):
        frames_of(clips / "tone.mp4", start=5)


def test_ten_bits_of_a_phone_become_eight(clips, tmp_path):
    deep = make(tmp_path / "deep.mp4", "-i", clips / "grey.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p10le")
    assert numbers(frames_of(deep)) == list(range(20))


def test_frames_left_unread_do_not_block(clips):
    with FfmpegProcess([*source(clips / "tone.mp4"), "-vf", "scale=640:480", *PICTURES_OUT]) as process:
        assert read_picture(process.stdout).shape == (480, 640, 3)
        assert process.wait() == 0  # nine frames of 900 KB are more than a pipe holds


def test_the_start_of_an_uneven_rate_is_exact(tmp_path):
    write_video(tmp_path / "ntsc.mp4", grey_frames(20), 30000 / 1001)
    for first in (1, 2, 7, 13):
        assert numbers(frames_of(tmp_path / "ntsc.mp4", start=first * 1001 / 30000)) == list(range(first, 20))


@pytest.mark.parametrize("name", ["grey.gif", "grey.avi", "grey.mov", "grey.webm"])
def test_a_start_is_exact_in_every_kind_of_file(clips, name):
    assert numbers(frames_of(clips / name, start=0.7, end=1.2)) == [7, 8, 9, 10, 11]
    assert numbers(frames_of(clips / name, start=1, fps=5)) == pytest.approx([10, 12, 14, 16, 18], abs=0)
