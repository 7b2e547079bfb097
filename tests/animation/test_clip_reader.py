import errno
import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
from animation_clips import FPS, noise_clip, pose_clip
from PIL import Image
from video_figures import person

import annotators
from annotators.base import Backend, Drawing
from annotators.poses.skeleton_svd import draw_svd_skeleton
from annotators.weights import fetch
from controlnext.animation import Choice, ClipReader
from controlnext.animation.choice import MOST_PEOPLE
from controlnext.assets import EXAMPLES
from controlnext.progress import Cancelled
from controlnext.video import VideoError, write_video
from controlnext.video.alignment import FitError
from controlnext.video.poses import Poses
from controlnext.video.tracks import TrackError


@pytest.fixture(scope="module")
def clip_reader():
    return ClipReader(annotators)


class Counting:
    """The annotators, counting how many pictures their readers were asked about."""

    draw_pose = staticmethod(annotators.draw_pose)

    def __init__(self):
        self.read = 0

    def PoseReader(self, backend="auto", **settings):
        def reader(frame):
            self.read += 1
            return {"people": [person(30, 30, 50)[:18].tolist()]}

        reader.key = f"counting:{backend}"
        return reader


def test_control_frames_lie_on_the_figure_of_the_reference(clip_reader, reference, dance):
    driving = clip_reader.drive(reference, dance, size=(128, 128))
    frames = list(driving.frames())
    assert len(frames) == len(driving) == 6
    assert frames[0].shape == (128, 128, 3)
    assert driving.fps == FPS
    own = driving.figure[:18]
    neck = np.median(driving.track.points[:, 1, :2], axis=0)
    assert np.hypot(*(neck - own[1, :2])) < 0.15 * 128


def test_without_fit_the_poses_stay_where_the_clip_has_them(clip_reader, reference, dance):
    driving = clip_reader.drive(reference, dance, Choice(fit=False, smooth=False), (96, 128))
    np.testing.assert_allclose(driving.track.points[0, 1, :2], (40, 40), atol=1)
    wide = clip_reader.drive(reference, dance, Choice(fit=False, smooth=False), (192, 128))
    np.testing.assert_allclose(wide.track.points[0, 1, :2], (40 + 48, 40), atol=1)  # padded, never stretched


def test_a_reference_that_is_cropped_by_more_than_a_little_is_told_so(clip_reader, reference, dance):
    def said(size, size_of_video):
        driving = clip_reader.drive(reference.resize(size), dance, Choice(fit=False), size_of_video)
        return [sentence for sentence in driving.sentences if "cut off" in sentence]

    (wide,) = said((160, 90), (64, 96))
    assert "62% of the reference's width is cut off, left and right alike" in wide
    assert "64x96" in wide
    (tall,) = said((90, 160), (96, 96))
    assert "44% of the reference's height is cut off, top and bottom alike" in tall
    assert said((96, 128), (64, 96)) == said((128, 128), (64, 64)) == []


def test_without_a_reference_the_size_is_the_clips(clip_reader, dance):
    assert clip_reader.drive(None, dance).size == (96, 128)


def test_a_part_of_the_clip_at_another_tempo(clip_reader, dance):
    choice = Choice(start=1 / 3, end=1.0, fps=3)
    use = clip_reader.use(dance, choice)
    driving = clip_reader.drive(None, dance, choice)
    assert (use.frames, len(driving), driving.fps) == (2, 2, 3)
    assert use.seconds == pytest.approx(2 / 3)
    assert "2 frames at 3 a second" in use.sentence


def test_choices_after_reading_read_nothing_again(reference, dance, tmp_path):
    tools = Counting()
    clip_reader = ClipReader(tools)
    choice = Choice(reader="mediapipe")
    clip_reader.drive(reference, dance, choice, (64, 64))
    read = tools.read
    assert read == 6 + 1  # the frames and the reference
    for changed in (
        Choice(reader="mediapipe", smooth=False),
        Choice(reader="mediapipe", limbs=True),
        Choice(reader="mediapipe", follow=True),
        Choice(reader="mediapipe", fit=False),
    ):
        clip_reader.drive(reference, dance, changed, (64, 64))
    clip_reader.drive(reference, dance, choice, (128, 96))
    assert tools.read == read
    assert clip_reader.drive(reference, dance, choice, (64, 64)) is clip_reader.drive(
        reference, dance, choice, (64, 64)
    )


def test_a_clip_that_was_replaced_is_read_again(tmp_path):
    clip_reader = ClipReader(annotators)
    path = pose_clip(tmp_path / "clip.mp4", frames=2)
    assert len(clip_reader.drive(None, path)) == 2
    path.unlink()
    pose_clip(path, frames=3)
    assert len(clip_reader.drive(None, path)) == 3


def test_the_overlay_shows_both_figures_over_the_dimmed_reference(clip_reader, reference, dance):
    driving = clip_reader.drive(reference, dance, size=(128, 128))
    overlay = np.asarray(driving.overlay(0)).astype(int)
    assert overlay.shape == (128, 128, 3)
    dimmed = np.asarray(driving.reference).astype(int) * 45 // 100
    assert (np.abs(overlay - dimmed).max(axis=2) > 60).any()
    assert not np.array_equal(overlay, np.asarray(driving.overlay(3)).astype(int))
    x, y = driving.figure[1, :2].astype(int)
    assert overlay[y, x].min() > 60  # the reference's own neck, white
    alone = replace(driving, track=replace(driving.track, points=np.zeros_like(driving.track.points))).overlay(0)
    drawn = np.abs(np.asarray(alone).astype(int) - dimmed).max(axis=2) > 60
    colour = np.ptp(np.asarray(alone)[drawn].astype(int), axis=1)
    assert (colour < 60).mean() > 0.9  # none in it: the clip's is told apart


def test_how_sure_every_point_is_reaches_the_drawing(reference, dance):
    class Doubting(Counting):
        def PoseReader(self, backend="auto", **settings):
            def reader(frame):
                body = person(30, 30, 50)[:18]
                body[4, 2] = 0.55
                hand = np.column_stack([np.full((21, 2), 40.0) + np.arange(21)[:, None], np.full(21, 0.2)])
                return {"people": [body.tolist()], "hands": [[hand.tolist(), None]]}

            reader.key = "doubting"
            return reader

    driving = ClipReader(Doubting()).drive(reference, dance, Choice(reader="dwpose"), (128, 128))
    shown = driving.poses.frames[3][0]
    assert shown[4, 2] == pytest.approx(0.55)
    assert shown[18:39, 2] == pytest.approx(np.full(21, 0.2))
    faint = np.asarray(driving.control(3, "svd").image).astype(int)
    without = replace(driving, track=replace(driving.track, points=driving.track.points * (shown[:, 2:] > 0.3)))
    assert np.abs(faint - np.asarray(without.control(3, "svd").image)).max() > 10  # the hand is there, if dimly
    assert np.array_equal(driving.frame(3), without.frame(3))  # and is none of the classic drawing


def test_saved_poses_are_read_by_nobody(reference, dance, tmp_path):
    read = ClipReader(annotators).drive(None, dance, Choice(smooth=False))
    file = tmp_path / "dance.json"
    file.write_text(read.poses.to_json())
    tools = Counting()
    clip_reader = ClipReader(tools)
    given = clip_reader.drive(None, file, Choice(smooth=False))
    assert tools.read == 0
    assert given.size == read.size == (96, 128)
    np.testing.assert_allclose(given.track.points, read.track.points, atol=1e-3)
    slower = clip_reader.drive(None, file, Choice(smooth=False, start=2 / FPS, fps=FPS / 2))
    np.testing.assert_allclose(slower.track.points, given.track.points[2::2], atol=1e-3)
    assert given.plan.note == slower.plan.note == ""
    assert not clip_reader.still(file, Choice(), 1).any()


def test_saved_poses_are_made_calm_once(clip_reader, dance, tmp_path):
    for name, calm in (("calm", True), ("raw", False)):
        (tmp_path / f"{name}.json").write_text(clip_reader.drive(None, dance, Choice(smooth=calm)).poses.to_json())
    once = clip_reader.drive(None, dance).track.points
    for name in ("calm", "raw"):
        again = clip_reader.drive(None, tmp_path / f"{name}.json")
        np.testing.assert_allclose(again.track.points, once, atol=0.01)
        (tmp_path / "third.json").write_text(again.poses.to_json())
        np.testing.assert_allclose(clip_reader.drive(None, tmp_path / "third.json").track.points, once, atol=0.01)


def test_saved_hands_are_drawn_only_where_hands_are_wanted(tmp_path):
    one = np.concatenate([person(40, 40, 70)[:18], np.zeros((110, 3))])
    one[18:39] = np.column_stack([np.full((21, 2), 60.0) + np.arange(21)[:, None], np.full(21, 0.9)])
    (tmp_path / "hands.json").write_text(Poses((one[None],) * 3, 128, 96, 8.0).to_json())
    clip_reader = ClipReader(annotators)
    for hands in (False, True):
        shown = clip_reader.drive(None, tmp_path / "hands.json", Choice(hands=hands)).poses.frames[1][0]
        assert shown[18:39, 2].any() == hands
        assert shown[:18, 2].any()


def test_pose_frames_say_that_hands_and_faces_in_them_are_not_read(clip_reader, dance, tmp_path):
    def said(clip, **choice):
        sentences = clip_reader.drive(None, clip, Choice(**choice)).sentences
        return sum("hands and faces are not" in sentence for sentence in sentences)

    assert (said(dance), said(dance, hands=True), said(dance, face=True)) == (0, 1, 1)
    (tmp_path / "dance.json").write_text(clip_reader.drive(None, dance).poses.to_json())
    assert said(tmp_path / "dance.json", hands=True) == 0


def test_what_was_read_can_be_handed_to_another_process(clip_reader, reference, dance):
    driving = clip_reader.drive(reference, dance, size=(128, 128))
    there = pickle.loads(pickle.dumps(driving))
    assert np.array_equal(there.frame(2), driving.frame(2))
    assert there.overlay(2).tobytes() == driving.overlay(2).tobytes()
    assert (there.clip, there.plan, there.sentences) == (driving.clip, driving.plan, driving.sentences)


def test_who_is_missing_and_when_is_said(clip_reader, tmp_path):
    clip = pose_clip(tmp_path / "gap.mp4", 24, people=lambda index: [] if index >= 15 else [person(45, 40, 70)])
    driving = clip_reader.drive(None, clip)
    assert driving.absent.sum() == 9
    assert any("9 of 24 frames (from 2.5 s)" in sentence for sentence in driving.sentences)
    assert not driving.frame(20).any()


def test_a_short_gap_is_filled_and_said(clip_reader, tmp_path):
    clip = pose_clip(tmp_path / "blink.mp4", 8, people=lambda index: [] if index == 4 else [person(45, 40, 70)])
    driving = clip_reader.drive(None, clip)
    assert driving.guessed.tolist() == [index == 4 for index in range(8)]
    assert driving.confidence[4] == 0
    assert driving.frame(4).any()
    assert any("filled in" in sentence for sentence in driving.sentences)


def test_one_of_several_people_is_chosen(clip_reader, tmp_path):
    two = lambda index: [person(30, 30, 80), person(70, 60, 40)]  # noqa: E731
    clip = pose_clip(tmp_path / "two.mp4", 4, people=two)
    first, second = (clip_reader.drive(None, clip, Choice(person=number, smooth=False)) for number in (0, 1))
    assert abs(first.track.points[0, 1, 0] - 30) < 3
    assert abs(second.track.points[0, 1, 0] - 70) < 3
    assert [("2 people" in s, "person 2 is" in s) for s in second.sentences if "people" in s] == [(True, True)]
    with pytest.raises(TrackError, match=r"2 people.*person 3"):
        clip_reader.drive(None, clip, Choice(person=2))


def test_as_many_people_are_found_as_may_be_chosen(tmp_path, monkeypatch):
    def read(rgb, settings):
        return [person(10 + 12 * number, 40, 60)[:18] for number in range(MOST_PEOPLE)][: settings["people"]]

    def draw(reading, settings):
        return Drawing(None, {"people": reading})

    crowd = Backend("crowd", "Crowd", read, draw, reads=("people",))
    monkeypatch.setitem(vars(annotators.ANNOTATORS["pose"]), "backends", (crowd,))
    driving = ClipReader(annotators).drive(None, noise_clip(tmp_path / "crowd.mp4"), Choice(reader="crowd"))
    assert len(driving.tracks) == MOST_PEOPLE


def test_nobody_in_the_clip_is_one_sentence(clip_reader, reference, tmp_path):
    with pytest.raises(TrackError, match=r"Nobody was found in this part of the clip.*another part of it\.$"):
        clip_reader.drive(reference, noise_clip(tmp_path / "noise.mp4"), size=(64, 64))


def test_thin_pose_frames_are_refused_with_what_to_give_instead(clip_reader, reference, tmp_path):
    frames = [draw_svd_skeleton([person(160 + 2 * index, 40, 260)[:18]], 320, 320) for index in range(4)]
    write_video(tmp_path / "thin.mp4", frames, FPS)
    with pytest.raises(TrackError, match=r"in thin lines, their joints cannot be read: .*or its poses as JSON"):
        clip_reader.drive(reference, tmp_path / "thin.mp4")


def test_nobody_in_the_reference_is_one_sentence_and_fit_off_goes_on(clip_reader, dance):
    empty = Image.new("RGB", (96, 96), (90, 120, 160))
    with pytest.raises(FitError, match="Nobody was found in the reference"):
        clip_reader.drive(empty, dance, size=(64, 64))
    driving = clip_reader.drive(empty, dance, Choice(fit=False), (64, 64))
    assert any("Nobody was found in the reference" in sentence for sentence in driving.sentences)


def test_a_cut_that_makes_no_sense_is_one_sentence(clip_reader, dance):
    with pytest.raises(VideoError, match="before it starts"):
        clip_reader.use(dance, Choice(start=2, end=1))
    with pytest.raises(VideoError, match="choose an earlier start"):
        clip_reader.use(dance, Choice(start=60))


def test_a_folder_that_may_not_be_read_is_one_sentence(clip_reader, tmp_path, monkeypatch):
    def locked(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", locked)
    with pytest.raises(VideoError, match=r"cannot be opened \(Permission denied\)"):
        clip_reader.open(tmp_path)


def test_stop_ends_reading(dance, tmp_path):
    clip_reader, cancel = ClipReader(annotators), threading.Event()
    with pytest.raises(Cancelled):
        clip_reader.drive(None, dance, on_progress=lambda progress: cancel.set(), cancel=cancel)
    assert len(clip_reader.drive(None, dance)) == 6


def test_a_still_is_the_frame_of_that_number(clip_reader, dance):
    whole = [clip_reader.still(dance, Choice(fps=3), index) for index in (0, 2)]
    assert whole[0].shape == (128, 96, 3)
    assert not np.array_equal(*whole)
    driving = clip_reader.drive(None, dance, Choice(fps=3, smooth=False))
    x, y = driving.track.points[2, 1, :2].round().astype(int)
    assert whole[1][y, x].max() > 150  # the neck's dot is where the pose says


@pytest.mark.weights
def test_the_bundled_examples_show_one_person():
    if fetch.missing():
        pytest.skip("run `python -m annotators fetch` first")
    for name in ("gestures", "dance"):
        clip = EXAMPLES / f"video/{name}.mp4"
        assert len(ClipReader(annotators).tracks(clip, Choice(end=1.5, reader="mediapipe"))) == 1
