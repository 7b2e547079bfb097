"""Key poses of a clip on the video tab, sent to the pose editor of the image tab."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from laid_out import laid_out
from tab_values import PAGE, refused
from test_ui_video import filled, fitted

from controlnext.recipes.pose import check_pose
from controlnext.ui.image.tab import build_image_tab
from controlnext.ui.video.key_pose_events import KeyPoseEvents, NoClipError


@pytest.fixture
def keys(video, studio):
    with laid_out(), gr.Tabs() as tabs:
        image = build_image_tab(studio)
        return KeyPoseEvents(video.tab.keys, video.fit, image, tabs)


def test_key_poses_are_shown_saved_and_sent_to_the_editor(video, keys, clips):
    with refused(NoClipError):
        keys.make(6, PAGE)
    fitted(video, filled(video, clips))
    made = keys.make(3, PAGE)
    area, image = keys.area, keys.image
    pictures, poses = made[area.sheet]["value"], made[area.poses]
    assert 1 <= len(pictures) == len(poses) <= 3
    assert [check_pose(pose) for pose in poses] == poses
    times = [row["time"] for row in json.loads(Path(made[area.save]["value"]).read_text())]
    assert times == sorted(times)
    sent = keys.send(poses, SimpleNamespace(index=0))
    assert (sent[image.pose.editor], sent[image.annotator]) == (poses[0], "pose")
    assert sent[keys.tabs].selected == "image"
    with refused(NoClipError):
        keys.send([], SimpleNamespace(index=0))
    assert keys.clear()[area.poses] == []
