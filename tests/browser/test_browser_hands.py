"""Around the pose editor, in the real page: the doctor of uploads, what a result followed, and a recording."""

from __future__ import annotations

import json

import pytest
from test_browser_pose import LEFT_WRIST, drag, opened

import annotators
from controlnext.ui.pose_editor.poses import standing_pose

pytestmark = pytest.mark.browser


@pytest.fixture
def skeleton(tmp_path):
    path = tmp_path / "skeleton.png"
    pose = annotators.people_from_json(json.loads(standing_pose(annotators, 256, 256)))
    annotators.draw_pose(pose).image.save(path)
    return path


def test_a_dropped_skeleton_is_taken_as_ready_made_and_followed(page, skeleton, studio):
    page.set_default_timeout(60_000)
    page.set_input_files("#cnx-picture input[type=file]", skeleton)
    page.wait_for_selector("#cnx-doctor:has-text('skeleton')")
    page.click("#cnx-doctor-take")
    page.wait_for_selector("#cnx-doctor-take", state="hidden")
    page.wait_for_selector("#cnx-follow:disabled")  # nothing was made yet
    page.click("#cnx-generate")
    page.wait_for_selector("#cnx-follow:enabled")
    assert studio.recipes[-1].annotator == "none"
    page.click("#cnx-follow")
    page.wait_for_selector("#cnx-following-slider img")
    page.wait_for_selector("#cnx-following-table .cnx-numbers b")
    page.click("#cnx-follow")
    page.wait_for_selector("#cnx-following", state="hidden")


def test_a_recorded_drag_becomes_the_clip_of_the_video_tab(page):
    page.set_default_timeout(60_000)
    opened(page)
    page.check("#cnx-pose-record input")
    page.wait_for_selector("#cnx-pose-animate:disabled")
    drag(page, LEFT_WRIST, -10, -30)
    page.wait_for_selector("#cnx-pose-animate:has-text('poses'):enabled")
    page.click("#cnx-pose-animate")
    page.wait_for_selector("#cnx-animate")
    page.wait_for_function("() => document.querySelector('#cnx-clip video')?.readyState >= 2")
    page.wait_for_selector("#cnx-notes:has-text('frames')")
