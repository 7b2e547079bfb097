"""Clips that the page's player does not play: moving pictures, several pictures, pictures in a ZIP file."""

from __future__ import annotations

import errno
import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from tab_values import refused
from test_ui_video import data_of, filled, fitted

from controlnext.video import Bounds, open_clip
from controlnext.video.ffmpeg import VideoError


def test_gif_is_shown_as_what_players_play_and_read_as_it_is(video, clips):
    tab, gif = video.tab, str(clips / "one.gif")
    waiting, taken = video.fit.take([gif])
    assert waiting[tab.moving] is None
    player = open_clip(taken[tab.clip])
    assert (player.path.suffix, player.frames, player.width, player.height) == (".mp4", 10, 96, 64)
    opened = next(video.fit.open_clip(data_of(video, clip=taken[tab.clip])))
    assert (opened[tab.opened], opened[tab.end]["value"]) == (gif, pytest.approx(1.0))
    assert "10 of 10 frames" in fitted(video, filled(video, clips, opened=gif))[tab.sure]


def test_several_pictures_are_the_frames_of_a_clip(video, tmp_path):
    files = []
    for index in (10, 2, 1):  # in natural order
        (tmp_path / str(index)).mkdir()  # as uploads lie
        files.append(str(tmp_path / str(index) / f"f{index}.png"))
        Image.new("RGB", (64, 48), (index, 0, 0)).save(files[-1])
    *_, taken = video.fit.take(files)
    opened = next(video.fit.open_clip(data_of(video, clip=taken[video.tab.clip])))
    clip = open_clip(opened[video.tab.opened])
    assert [picture.name for picture in clip.pictures] == ["f1.png", "f2.png", "f10.png"]
    *_, alone = video.fit.take(files[:1])
    assert open_clip(alone[video.tab.clip]).frames == 1


def test_pictures_of_one_name_from_two_folders_are_all_kept_one_folder_after_the_other(video, tmp_path):
    files = []
    for number, name in enumerate(("f10", "f2", "f1", "f1", "F2", "f10", "f11")):
        (tmp_path / str(number)).mkdir()  # as uploads lie
        files.append(str(tmp_path / str(number) / f"{name}.png"))
        Image.new("RGB", (64, 48), (20 * number, 0, 0)).save(files[-1])
    *_, taken = video.fit.take(files)
    opened = next(video.fit.open_clip(data_of(video, clip=taken[video.tab.clip])))
    clip = open_clip(opened[video.tab.opened])
    reds = [Image.open(picture).getpixel((0, 0))[0] // 20 for picture in clip.pictures]
    assert reds == [2, 1, 0, 3, 4, 5, 6]


def zipped(path: Path, names, **options) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for index, name in enumerate(names):
            archive.writestr(name, options.get("content") or png(index))
    return str(path)


def png(index: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (20 * index, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def test_pictures_in_a_zip_file_are_the_frames_of_a_clip(video, tmp_path):
    names = ["walk/f10.png", "walk/f2.png", "../f3.png", "walk/.f4.png", "__MACOSX/f5.png", "notes.txt"]
    *_, taken = video.fit.take([zipped(tmp_path / "walk.zip", names)])
    opened = next(video.fit.open_clip(data_of(video, clip=taken[video.tab.clip])))
    clip = open_clip(opened[video.tab.opened])
    assert (clip.name, clip.frames) == ("walk", 2)
    assert [Image.open(picture).getpixel((0, 0))[0] for picture in clip.pictures] == [20, 0]  # 2 and 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk.zip"]


def test_folders_of_a_zip_file_follow_each_other(video, tmp_path):
    names = ["take10/f1.png", "take2/f10.png", "take10/f3.png", "take2/f2.png", "f9.png", "take2/more/f1.png"]
    *_, taken = video.fit.take([zipped(tmp_path / "walk.zip", names)])
    opened = next(video.fit.open_clip(data_of(video, clip=taken[video.tab.clip])))
    clip = open_clip(opened[video.tab.opened])
    assert [Image.open(picture).getpixel((0, 0))[0] // 20 for picture in clip.pictures] == [4, 3, 1, 5, 0, 2]


@pytest.mark.parametrize(
    ("names", "content", "named"),
    [
        ([], None, ["walk"]),
        (["a.png"], b"no picture", ["00000.png"]),
        ([f"{index}.png" for index in range(4)], None, ["walk.zip", 4, 3]),
    ],
)
def test_zip_file_that_is_no_clip_says_one_sentence(video, tmp_path, monkeypatch, names, content, named):
    monkeypatch.setattr("controlnext.ui.video.player.BOUNDS", Bounds(frames=3))
    with refused(VideoError, *named):
        list(video.fit.take([zipped(tmp_path / "walk.zip", names, content=content)]))


def test_zip_file_that_is_damaged_says_one_sentence(video, tmp_path):
    whole = Path(zipped(tmp_path / "walk.zip", ["a.png"])).read_bytes()
    (tmp_path / "walk.zip").write_bytes(whole[:60] + b"\0" * 20 + whole[80:])
    with refused(VideoError, "walk.zip"):
        list(video.fit.take([str(tmp_path / "walk.zip")]))


def test_a_full_disk_is_one_sentence(video, tmp_path, monkeypatch):
    packed = zipped(tmp_path / "walk.zip", ["a.png", "b.png"])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("controlnext.ui.video.player.shutil.copyfileobj", full)
    with refused(VideoError, "No space left on device"):
        list(video.fit.take([packed]))


def test_gif_that_is_none_says_one_sentence(video, tmp_path):
    (tmp_path / "bad.gif").write_bytes(b"GIF89a" + b"\0" * 40)
    updates = []
    with refused(VideoError, "bad.gif"):
        updates.extend(video.fit.take([str(tmp_path / "bad.gif")]))
    assert "bad.gif" in updates[-1][video.tab.notes]
