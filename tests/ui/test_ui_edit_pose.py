"""The pose editor of the video tab: one frame's pose is kept, drives the video, and comes back from the saved file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tab_values import PAGE, refused
from test_ui_video import filled, fitted

from controlnext.recipes.recipe import RecipeError
from controlnext.ui.video.edit_pose_events import NoFrameError, PoseEditEvents

WRIST = 7


@pytest.fixture
def edits(video):
    return PoseEditEvents(video.tab.edit, video.fit)


def values(video, data: dict, **given) -> dict:
    area = video.tab.edit
    parts = {part: part.value for part in (area.editor, area.ease, area.time, area.edits)}
    return parts | data | {getattr(area, name): value for name, value in given.items()}


def raised(pose: str, pixels: float) -> str:
    record = json.loads(pose)
    record["people"][0]["pose_keypoints_2d"][3 * WRIST + 1] -= pixels
    return json.dumps(record)


def wrists(video, data: dict) -> np.ndarray:
    fitted(video, data)
    return video.fit.shown.get("page").track.points[:, WRIST, 1]


def test_a_kept_pose_drives_the_video_and_comes_back_from_it(video, edits, clips):
    data, area = filled(video, clips), video.tab.edit
    before = wrists(video, data)
    opened = edits.open(values(video, data | {video.tab.frame: 4}), PAGE)
    pose = opened[area.editor]["value"]
    assert opened[area.time] == pytest.approx(0.4)
    assert opened[area.editor]["photo"].startswith("data:image/jpeg")
    assert "Frame 4, at 0.40 s" in opened[area.title]
    kept = edits.keep(values(video, data, editor=raised(pose, 30), ease=0.2, time=0.4), PAGE)
    data |= {area.edits: kept[area.edits]}
    found = before - wrists(video, data)
    assert found[4] == pytest.approx(30, abs=0.01)
    assert found[3] == pytest.approx(found[5]) == pytest.approx(15, abs=0.01)
    assert found[[2, 6]] == pytest.approx(0)
    assert "Edited poses: 0.40 s." in fitted(video, data)[video.tab.notes]

    made = list(video.events.run(data, PAGE))[-1]
    updates = video.restore.asked(made[video.tab.files]["file"])
    assert updates[area.edits] == kept[area.edits]
    again = edits.open(values(video, data | {video.tab.frame: 4}), PAGE)
    assert again[area.ease] == 0.2
    assert json.loads(again[area.editor]["value"])["people"][0]["pose_keypoints_2d"][3 * WRIST + 1] == pytest.approx(
        json.loads(pose)["people"][0]["pose_keypoints_2d"][3 * WRIST + 1] - 30, abs=0.01
    )


def test_a_frame_takes_the_clips_own_pose_again_and_another_clip_has_no_edits(video, edits, clips):
    data, area = filled(video, clips), video.tab.edit
    fitted(video, data)
    pose = edits.open(values(video, data), PAGE)[area.editor]["value"]
    rows = edits.keep(values(video, data, editor=pose, time=0.1), PAGE)[area.edits]
    rows = edits.keep(values(video, data, editor=pose, time=0.5, edits=rows), PAGE)[area.edits]
    rows = edits.keep(values(video, data, editor=raised(pose, 9), time=0.5, edits=rows), PAGE)[area.edits]
    assert [row["time"] for row in rows] == [0.1, 0.5]  # the later of two for one frame
    assert rows[1]["pose"] == raised(pose, 9)
    left = edits.take_back(values(video, data, time=0.5, edits=rows), PAGE)[area.edits]
    assert left == rows[:1]
    assert next(video.fit.open_clip(data | {area.edits: rows}))[area.edits] == []


def test_what_cannot_be_edited_is_said(video, edits, clips):
    data = filled(video, clips)
    with refused(NoFrameError):
        edits.open(values(video, data), PAGE)
    fitted(video, data)
    record = json.loads(edits.open(values(video, data), PAGE)[video.tab.edit.editor]["value"])
    record["people"] *= 2
    with refused(RecipeError, "2"):
        edits.keep(values(video, data, editor=json.dumps(record)), PAGE)
