"""Difficult clips in the video tab, decoded and read for real: pose frames, which their own reader reads without a model."""

from __future__ import annotations

import sys
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from tab_values import PAGE
from test_ui_video import data_of

import annotators
from controlnext.animation import ClipReader
from controlnext.video import open_clip, write_video

sys.path.append(str(Path(__file__).parent.parent / "video"))

from video_clips import make
from video_figures import drawn, person

WIDTH, HEIGHT, FPS = 160, 120, 10
CHARACTER = Path(__file__).parents[2] / "assets" / "examples" / "arms-out.png"


@pytest.fixture
def page(studio, video):
    """The tab over what reads clips in the app."""
    studio.animator.clip_reader = video.restore.players._clip_reader = ClipReader(annotators)
    return video


def write(path: Path, people, frames: int = 10, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """Write pose frames; `people` says who is in each."""
    write_video(path, [drawn(people(index), *size) for index in range(frames)], FPS)
    return path


def walker(index: int):
    return [person(60 + 2 * index, 40, 70, 0.05 * (index % 3))]


@pytest.fixture(scope="module")
def walk(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("walk") / "walk.mp4", walker)


def opened(page, clip: Path, **values) -> dict:
    """Values of the page after a clip was dropped."""
    data = data_of(page, clip=str(clip), reference=str(CHARACTER), **values)
    for updates in page.fit.open_clip(data):
        data |= {
            part: update.get("value", data.get(part)) if isinstance(update, dict) else update
            for part, update in updates.items()
        }
    return data


def shown(page, clip: Path, **values) -> tuple[dict, str]:
    """Last updates of the fit, and its notes."""
    data = opened(page, clip)
    data |= {getattr(page.tab, name): value for name, value in values.items()}
    *_, last = page.fit.show(data, PAGE)
    return last, last[page.tab.notes]


def refused(steps) -> tuple[str, dict]:
    """The sentence that ends some steps, and what was shown last."""
    updates: list[dict] = []
    with pytest.raises(gr.Error) as caught:
        updates.extend(steps)  # those before the error stay
    assert "its console says why" not in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message, {part: value for update in updates for part, value in update.items()}


def test_clip_of_no_frames_is_refused(page, walk, tmp_path):
    make(tmp_path / "none.mp4", "-i", walk, "-c", "copy", "-movflags", "+faststart")
    whole = (tmp_path / "none.mp4").read_bytes()
    (tmp_path / "none.mp4").write_bytes(whole[: whole.index(b"mdat") + 4])
    said, updates = refused(page.fit.open_clip(data_of(page, clip=str(tmp_path / "none.mp4"))))
    assert "not one frame of it can be decoded" in said
    assert (updates[page.tab.opened], said in updates[page.tab.notes]) == ("", True)


def test_clip_of_one_frame_is_a_still(page, tmp_path):
    last, notes = shown(page, write(tmp_path / "one.mp4", walker, 1))
    assert "one frame only" in notes
    assert last[page.tab.frame]["interactive"] is False


def test_clip_with_a_corrupt_middle_goes_on_and_says_so(page, walk, tmp_path):
    content = bytearray(walk.read_bytes())
    start, length = content.index(b"mdat") + 4, content.index(b"mdat")
    length = int.from_bytes(content[length - 4 : length], "big")
    middle = slice(start + length * 5 // 10, start + length * 8 // 10)
    content[middle] = np.random.default_rng(1).bytes(middle.stop - middle.start)
    (tmp_path / "bad.mp4").write_bytes(content)
    data = opened(page, tmp_path / "bad.mp4")
    assert data[page.tab.strip].count("<img") == 8
    *_, last = page.fit.show(data, PAGE)
    notes = last[page.tab.notes]
    assert "damaged in places" in notes
    assert last[page.tab.frame]["maximum"] >= 8  # of the last one nothing may be left
    assert last[page.tab.overlay].size == (512, 512)


def test_nobody_in_the_character_is_said_and_without_fit_it_goes_on(page, walk, tmp_path):
    Image.new("RGB", (96, 96), (90, 120, 160)).save(tmp_path / "sky.png")
    data = opened(page, walk) | {page.tab.reference: str(tmp_path / "sky.png")}
    said, updates = refused(page.fit.show(data, PAGE))
    assert "Nobody was found in the reference picture" in said
    assert said in updates[page.tab.notes]
    *_, last = page.fit.show(data | {page.tab.fit: False}, PAGE)
    assert "the poses stay where the clip has them" in last[page.tab.notes]


def test_nobody_in_the_clip_is_said(page, tmp_path):
    rng = np.random.default_rng(0)
    write_video(tmp_path / "noise.mp4", [rng.integers(0, 60, (96, 96, 3), dtype=np.uint8) for _ in range(2)], FPS)
    said, updates = refused(page.fit.show(opened(page, tmp_path / "noise.mp4"), PAGE))
    assert "Nobody was found in this part of the clip" in said
    assert updates[page.tab.overlay] is None


def test_clip_of_4k_is_read_smaller_and_slower_and_says_so(page, walk, tmp_path):
    size = (
        "-vf",
        "scale=3840:2160:flags=neighbor,fps=60",
        "-frames:v",
        8,
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
    )
    make(tmp_path / "large.mp4", "-i", walk, *size)
    clip = open_clip(tmp_path / "large.mp4")
    assert (clip.width, clip.height, clip.fps) == (3840, 2160, 60)
    data = opened(page, tmp_path / "large.mp4")
    assert data[page.tab.fps] == 12
    reading, *_, last = page.fit.show(data | {page.tab.fps: 0}, PAGE)
    assert "read at 1280×720 in about" in reading[page.tab.notes]
    megabytes = int(reading[page.tab.notes].split("in about ")[1].split()[0])
    assert megabytes < 20
    assert "4 frames of 1280×720 at 30 a second are used" in last[page.tab.notes]


def test_person_who_leaves_and_returns_is_followed_and_the_gap_is_said(page, tmp_path):
    away = range(8, 20)
    clip = write(tmp_path / "away.mp4", lambda index: [] if index in away else [person(60, 40, 70)], 28)
    last, notes = shown(page, clip)
    assert last[page.tab.people]["visible"] is False  # it is one person
    assert "not there in 12 of 28 frames (from 0.8 s)" in notes
    assert "class='absent' x='28.57' width='42.86'" in last[page.tab.sure]


def test_two_who_cross_keep_their_numbers(page, tmp_path):
    def crossing(index):
        return [person(60 + 12 * index, 80, 120, 0.03), person(260 - 12 * index, 84, 112, -0.03)]

    clip = write(tmp_path / "cross.mp4", crossing, 18, (240, 320))
    ways = []
    for number in (0, 1):
        shown(page, clip, person=number, fit=False, smooth=False)
        necks = page.fit.shown.get(PAGE.session_hash).track.points[:, 1, 0]
        ways.append(np.sign(necks[-1] - necks[0]))
        assert (np.sign(np.diff(necks)) == ways[-1]).mean() > 0.8  # on and on in one direction
    assert sorted(ways) == [-1, 1]
