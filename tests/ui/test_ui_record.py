"""Recording in the pose editor: poses are kept while it is on, and become a clip of the video tab."""

import json
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from laid_out import laid_out
from PIL import Image

import annotators
from controlnext.animation.clip_reader import ClipReader
from controlnext.errors import ControlNeXtError
from controlnext.ui.image.events import ImageEvents
from controlnext.ui.image.tab import build_image_tab
from controlnext.ui.pose_editor.poses import standing_pose
from controlnext.ui.pose_editor.record import RecordEvents, named
from controlnext.ui.video.fit import FitEvents
from controlnext.ui.video.restore import VideoRestore
from controlnext.ui.video.tab import build_video_tab
from controlnext.video.poses import Poses

WRIST = 4


@pytest.fixture
def events(studio):
    studio.annotators = annotators
    studio.animator.clip_reader = ClipReader(annotators)
    with laid_out(), gr.Tabs() as tabs:
        image, video = build_image_tab(studio), build_video_tab(studio)
        return RecordEvents(
            ImageEvents(image, studio, None), FitEvents(video, studio, VideoRestore(video, studio, {})), tabs
        )


def moved(by):
    pose = json.loads(standing_pose(annotators, 256, 256))
    pose["people"][0]["pose_keypoints_2d"][3 * WRIST + 1] -= by
    return json.dumps(pose)


def test_the_editor_is_told_to_record_and_the_button_counts(events):
    editor, button = events.switch(True)
    assert (editor["recording"], button["interactive"]) == (True, False)
    assert events.count(True, 1)["interactive"] is False
    assert events.count(True, 12) == named(12)
    assert events.count(False, 12) == gr.skip()
    assert events.switch(False)[0]["recording"] is False


@pytest.mark.parametrize(
    "moments",
    [[3], [["now", "{}"]], [[1.0, moved(0), 2]], [[True, moved(0)]], [[1.0, "no pose"]], [[0, moved(0)], {}]],
)
def test_what_is_no_recording_is_refused_with_a_sentence(events, moments):
    with pytest.raises(ControlNeXtError):
        events.sequence(moments, None)


def test_the_clip_holds_the_poses_and_is_shown_as_skeletons(events):
    shown, restored, character, tabs = events.hand_over([[0.0, moved(0)], [5.0, moved(60)]], None, None, False)
    assert (restored, character, tabs.selected) == ("", gr.skip(), "video")
    clip = events.fit.players.clip_of(shown)
    poses = Poses.from_json(Path(clip).read_bytes())
    wrist = [frame[0, WRIST, 1] for frame in poses.frames]
    assert round(wrist[0] - wrist[-1]) == 60
    assert events.fit.studio.animator.clip_reader.open(shown).frames == len(poses)


def test_it_begins_in_the_pose_of_the_character(events, tmp_path):
    character = tmp_path / "character.png"
    Image.fromarray(np.full((128, 96, 3), 90, np.uint8)).save(character)
    figure = np.zeros((128, 3))
    figure[:18] = (48, 64, 1)
    events.fit.studio.animator.clip_reader.figure = lambda picture: figure
    poses = events.sequence([[0.0, moved(0)]], str(character))
    assert np.allclose(poses.frames[0][0, :18], (128, 128, 1))  # the middle of the canvas
    assert poses.frames[0][0, 18:].any() == np.False_
    assert not np.allclose(poses.frames[-1][0, :18], (128, 128, 1))


def test_too_little_is_refused_with_a_sentence(events):
    with pytest.raises(gr.Error):
        events.hand_over([], None, None, False)
