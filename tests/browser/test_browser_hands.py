"""Around the pose editor, in the real page: the doctor of uploads, what a result followed, and a recording."""

from __future__ import annotations

import json
import time

import pytest
from test_browser_pose import LEFT_WRIST, LIVE, SAVED, drag, middle, opened, opened_on_a_phone, unit

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
    begun = time.monotonic()
    drag(page, LEFT_WRIST, -10, -30)
    took = time.monotonic() - begun
    page.wait_for_selector("#cnx-pose-animate:has-text('poses'):enabled")
    times = page.evaluate("window.cnxMoments.map(moment => moment[0])")
    assert len(times) > 2
    assert times[-1] - times[1] <= took  # the tempo of the drag itself, however busy the machine is
    page.click("#cnx-pose-animate")
    page.wait_for_selector("#cnx-animate")
    page.wait_for_function("() => document.querySelector('#cnx-clip video')?.readyState >= 2")
    page.wait_for_selector("#cnx-notes:has-text('frames')")


NUMBERS = """() => {
  const holder = document.querySelector('#cnx-live-picture');
  const number = () => Number(holder.querySelector('img').dataset.number);
  window.numbers = [number()];
  new MutationObserver(() => { if (number() !== window.numbers.at(-1)) window.numbers.push(number()); })
    .observe(holder, { subtree: true, childList: true, attributes: true });
}"""
"""Notes the numbers of the pictures in the order in which they are shown; they are given in the order of drawing."""


def test_sixty_changes_end_on_the_last_one_and_none_is_shown_late(page, studio):
    opened(page)
    page.check("#cnx-live input")
    page.wait_for_selector(LIVE)
    page.wait_for_selector("#cnx-summary:has-text('follows')")
    page.evaluate(NUMBERS)
    studio.live.clear()
    studio.step_seconds = 0.02
    page.focus(f"#cnx-pose-editor [data-joint='{LEFT_WRIST}']")
    for key in ("ArrowUp", "ArrowLeft") * 15:
        page.keyboard.press(key)
    (x, y), scale = middle(page, LEFT_WRIST), unit(page)
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 31):
        page.mouse.move(x - step * scale, y - step * scale)
    page.mouse.up()
    text = page.evaluate(SAVED)
    for _ in range(600):
        if studio.live and studio.live[-1].pose == text:
            break
        page.wait_for_timeout(100)
    assert studio.live[-1].pose == text
    count = len(studio.live)
    assert 2 <= count < 60  # those between were dropped
    page.wait_for_function(
        "last => window.numbers.at(-1) === last", arg=page.evaluate("() => window.numbers[0]") + count
    )
    numbers = page.evaluate("() => window.numbers")
    assert numbers == sorted(set(numbers))

    # What an event from before the drag shows after it
    shown = page.get_attribute(LIVE, "src")
    page.evaluate(f"""() => {{
      document.querySelector('{LIVE}').outerHTML = `<img data-number="${{window.numbers[0]}}" src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">`;
    }}""")
    page.wait_for_function(
        "number => Number(document.querySelector('#cnx-live-picture img').dataset.number) === number", arg=numbers[-1]
    )
    assert page.get_attribute(LIVE, "src") == shown


def test_on_a_phone_the_live_picture_and_its_switch_are_next_to_the_editor(chromium, served, studio):
    page = opened_on_a_phone(chromium, served[0], 375, 812)
    page.tap("#cnx-pose-editor .pe-live")
    page.wait_for_selector("#cnx-pose-editor .pe-seen")
    assert page.is_checked("#cnx-live input")
    boxes = [page.locator(f"#cnx-pose-editor {name}").bounding_box() for name in (".pe-seen", "svg")]
    assert boxes[1]["y"] + boxes[1]["height"] - boxes[0]["y"] < 812  # both are seen at once
    before = page.get_attribute("#cnx-pose-editor .pe-seen", "src")
    page.evaluate("() => document.querySelector('#cnx-pose-editor [data-do=copy]').click()")
    page.wait_for_function("src => document.querySelector('#cnx-pose-editor .pe-seen').src !== src", arg=before)
    assert page.get_attribute("#cnx-pose-editor .pe-seen", "src") == page.get_attribute(LIVE, "src")
    page.tap("#cnx-pose-editor .pe-live")
    page.wait_for_selector("#cnx-pose-editor .pe-seen", state="hidden")
    page.wait_for_selector(LIVE, state="hidden")
    page.context.close()
