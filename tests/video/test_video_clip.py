import shutil

import pytest
from PIL import Image
from video_clips import make, save_pictures

from controlnext.video import VideoError, open_clip, read_frames


@pytest.mark.parametrize(
    ("name", "size", "frames", "sound"),
    [
        ("tone.mp4", (64, 48), 10, True),
        ("turned.mov", (48, 64), 10, True),
        ("silent.webm", (64, 48), 10, False),
        ("loop.gif", (64, 48), 10, False),
        ("one.mp4", (64, 48), 1, False),
    ],
)
def test_open_clip_says_what_a_file_holds(clips, name, size, frames, sound):
    clip = open_clip(clips / name)
    assert (clip.width, clip.height) == size
    assert clip.frames == frames
    assert clip.fps == pytest.approx(10)
    assert clip.seconds == pytest.approx(frames / 10, abs=0.05)
    assert clip.has_sound is sound
    assert clip.rotation == (90 if name == "turned.mov" else 0)


def test_open_clip_makes_pixels_square(clips, tmp_path):
    wide = make(tmp_path / "wide.mp4", "-i", clips / "tone.mp4", "-vf", "setsar=2", "-frames:v", 2, "-an")
    clip = open_clip(wide)
    assert (clip.width, clip.height) == (128, 48)


def test_open_clip_counts_where_the_header_is_silent(clips, tmp_path):
    with (tmp_path / "live.webm").open("wb") as file:
        import subprocess

        from controlnext.video.ffmpeg import binary

        command = [binary(), "-v", "error", "-i", str(clips / "silent.webm"), "-c", "copy", "-live", "1", "-f", "webm"]
        subprocess.run([*command, "pipe:1"], check=True, stdout=file, stdin=subprocess.DEVNULL)
    clip = open_clip(tmp_path / "live.webm")
    assert clip.frames == 10
    assert clip.fps == pytest.approx(10, rel=0.12)


def test_pictures_come_in_natural_order(tmp_path):
    folder = save_pictures(tmp_path / "walk", ["f10.png", "f2.png", "F1.png", "notes.bmp"])
    (folder / "readme.txt").write_text("not a picture")
    clip = open_clip(folder)
    assert [picture.name for picture in clip.pictures] == ["F1.png", "f2.png", "f10.png", "notes.bmp"]
    assert (clip.frames, clip.width, clip.height) == (4, 64, 48)
    assert open_clip(list(clip.pictures)[::-1]).pictures == clip.pictures


def test_pictures_of_equal_names_come_one_folder_after_the_other(tmp_path):
    (two, ten) = (save_pictures(tmp_path / name, ["f1.png", "f10.png", "f2.png"]) for name in ("take2", "take10"))
    clip = open_clip([*ten.iterdir(), *two.iterdir()])
    assert clip.pictures == tuple(place / f"{name}.png" for place in (two, ten) for name in ("f1", "f2", "f10"))


def test_a_folder_of_folders_names_those_that_are_clips(tmp_path):
    for name in ("take10", "take2"):
        save_pictures(tmp_path / "walk" / name, ["f1.png"])
    (tmp_path / "walk" / "notes").mkdir()
    with pytest.raises(VideoError, match=r"“walk” holds no pictures itself.* choose one of “take2”, “take10”"):
        open_clip(tmp_path / "walk")


def test_a_single_picture_is_a_clip_of_one_frame(tmp_path):
    save_pictures(tmp_path, ["only.png"])
    with read_frames(open_clip(tmp_path / "only.png")) as frames:
        assert len(list(frames)) == 1


def test_transparent_pose_frames_lie_on_black(tmp_path):
    Image.new("RGBA", (64, 48), (200, 200, 200, 0)).save(tmp_path / "pose.png")
    with read_frames(open_clip(tmp_path)) as frames:
        assert next(frames).max() == 0


def _zeros(path):
    path.write_bytes(b"")


def _noise(path):
    path.write_bytes(bytes(range(256)) * 20)


def _playlist(path):
    path.write_text("ffconcat version 1.0\nfile 'tone.mp4'\n")


def _without_end(path):
    content = (path.parent / "tone.mp4").read_bytes()
    path.write_bytes(content[: len(content) // 3])


def _cover(path):
    cover = Image.new("RGB", (32, 32))
    cover.save(path.with_suffix(".jpg"))
    inputs = ("-i", path.parent / "sound.m4a", "-i", path.with_suffix(".jpg"), "-map", 0, "-map", 1)
    make(path, *inputs, "-c", "copy", "-disposition:v:0", "attached_pic", "-f", "mp4")


def _no_frames(path):
    make(path, "-i", path.parent / "tone.mp4", "-c", "copy", "-movflags", "+faststart")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])  # an index of frames, and none of them


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_zeros, "empty file"),
        (_noise, "damaged or its end is missing"),
        (_playlist, "not a clip this program can read"),
        (_without_end, "its end is missing"),
        (_cover, "sound but no moving picture"),
        (_no_frames, "not one frame of it can be decoded"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(clips, tmp_path, damage, said):
    for name in ("tone.mp4", "sound.m4a"):
        shutil.copy(clips / name, tmp_path / name)
    damage(tmp_path / "bad.mp4")
    with pytest.raises(VideoError, match=said) as caught:
        open_clip(tmp_path / "bad.mp4")
    assert "bad.mp4" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sound_alone_and_missing_files_are_refused(clips, tmp_path):
    with pytest.raises(VideoError, match="sound but no moving picture"):
        open_clip(clips / "sound.m4a")
    with pytest.raises(VideoError, match="There is no file “gone"):
        open_clip(tmp_path / "gone.mp4")
    with pytest.raises(VideoError, match="holds no pictures"):
        open_clip(tmp_path)
    with pytest.raises(VideoError, match="no clip yet"):
        open_clip([])


def test_a_frame_too_large_to_decode_is_refused(clips, monkeypatch):
    monkeypatch.setattr("controlnext.video.ffmpeg._DECODE", ("-max_pixels", "100"))
    with pytest.raises(VideoError, match="larger than this program decodes"):
        open_clip(clips / "tone.mp4")
