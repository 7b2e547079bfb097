"""The video tab as a person uses it: example, fit, scrubber, a video that really plays, and back from the saved file."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import numpy as np
import pytest
from video_fakes import write_clips

from controlnext.hashes import weights_digest
from controlnext.recipes.areas import area_picture

pytestmark = pytest.mark.browser

OVERLAY = "#cnx-overlay img"
VIDEO = "#cnx-video video"
EDITOR = "#cnx-video-area-paint"


@pytest.fixture
def tab(page):
    """The page with the video tab open."""
    page.set_default_timeout(180_000)  # clips are decoded and encoded, which takes long on a busy machine
    page.click("button[role=tab]:has-text('Video')")
    page.wait_for_selector("#cnx-animate")
    return page


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder)
    return folder


@pytest.fixture
def animator(studio):
    studio.animator.frame_seconds = 0.02
    return studio.animator


def upload(page, clips, clip: str = "one") -> None:
    page.set_input_files("#cnx-reference input[type=file]", clips / "red.png")
    page.wait_for_selector("#cnx-reference img")
    page.set_input_files("#cnx-clip input[type=file]", clips / f"{clip}.mp4")


def animate(page, animator) -> None:
    before = len(animator.recipes)
    page.click("#cnx-animate")
    until = time.monotonic() + 180
    while len(animator.recipes) == before and time.monotonic() < until:
        page.wait_for_timeout(100)
    page.wait_for_selector("#cnx-video-summary:has-text('follows')")
    page.wait_for_selector("#cnx-animate:has-text('Animate'):not([disabled])")


def number(page, where: str) -> float:
    return float(page.input_value(f"{where} input[type=number]"))


def wait_for_new_overlay(page, before: str) -> None:
    """Another picture of the fit is shown; between two of them there may be none for a moment."""
    page.wait_for_function(
        f"before => (image => image && image.src !== before)(document.querySelector('{OVERLAY}'))", arg=before
    )


def assert_plays(page) -> None:
    """The element has frames to show, its time goes on, and nothing failed."""
    page.wait_for_function(f"() => document.querySelector('{VIDEO}')?.readyState >= 2")
    page.evaluate(f"() => document.querySelector('{VIDEO}').play()")
    before = page.evaluate(f"() => document.querySelector('{VIDEO}').currentTime")
    page.wait_for_function(
        f"before => (video => video && video.currentTime !== before)(document.querySelector('{VIDEO}'))", arg=before
    )
    assert page.evaluate(f"() => document.querySelector('{VIDEO}').error") is None


def test_example_is_fitted_scrubbed_and_animated_into_a_video_that_plays(tab, animator, requests):
    tab.click("#cnx-video-examples button >> nth=0")
    tab.wait_for_selector("#cnx-sure svg polygon")
    tab.wait_for_selector("#cnx-strip img >> nth=7")
    assert "42 frames" in tab.inner_text("#cnx-notes")
    first = tab.get_attribute(OVERLAY, "src")
    tab.wait_for_selector("#cnx-frame-number input[type=range][max='41']:enabled")
    tab.fill("#cnx-frame-number input[type=number]", "20")
    tab.press("#cnx-frame-number input[type=number]", "Tab")
    wait_for_new_overlay(tab, first)
    assert number(tab, "#cnx-frame-number") == 20
    assert animator.recipes == []  # until here there was no model

    tab.click("#cnx-animate")
    tab.wait_for_selector("#cnx-video-preview img")
    tab.wait_for_selector("#cnx-video-progress:has-text('left')")
    tab.wait_for_selector("#cnx-video-summary:has-text('follows')")
    assert_plays(tab)
    alone = tab.evaluate(f"() => document.querySelector('{VIDEO}').videoWidth")
    tab.click("#cnx-view label:has-text('Side by side')")
    tab.wait_for_function(f"alone => document.querySelector('{VIDEO}')?.videoWidth > 2 * alone", arg=alone)
    assert_plays(tab)
    hosts = {urlsplit(url).hostname for url in requests if not url.startswith(("data:", "blob:"))}
    assert hosts <= {"127.0.0.1", "localhost"}


def test_saved_video_dropped_as_the_clip_restores_everything(tab, clips, animator, tmp_path):
    upload(tab, clips)
    tab.wait_for_selector("#cnx-sure svg polygon")
    tab.fill("#cnx-video-gamma input[type=number]", "0.45")
    tab.press("#cnx-video-gamma input[type=number]", "Tab")
    tab.fill("#cnx-clip-end input[type=number]", "0.6")
    tab.press("#cnx-clip-end input[type=number]", "Tab")
    tab.wait_for_selector("#cnx-notes:has-text('6 frames')")
    tab.check("#cnx-switches label:has-text('own limbs') input")
    animate(tab, animator)
    recipe = animator.recipes[-1]
    assert (recipe.gamma, recipe.end, recipe.limbs) == (0.45, 0.6, True)
    with tab.expect_download() as download:
        tab.click("#cnx-save-video")
    saved = tmp_path / "saved.mp4"
    download.value.save_as(saved)

    tab.reload()
    tab.click("button[role=tab]:has-text('Video')")
    tab.set_input_files("#cnx-clip input[type=file]", saved)
    tab.wait_for_selector("#cnx-notes:has-text('6 frames')")
    tab.wait_for_selector("#cnx-reference img")
    assert (number(tab, "#cnx-video-gamma"), number(tab, "#cnx-clip-end")) == (0.45, 0.6)
    assert not tab.is_checked("#cnx-video-new-seed input")
    animate(tab, animator)
    assert animator.recipes[-1] == recipe


DROP = """([bytes, name]) => {
  const list = new DataTransfer();
  list.items.add(new File([new Uint8Array(bytes)], name, { type: "image/gif" }));
  const zone = document.querySelector("#cnx-clip input[type=file]").parentElement;
  zone.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: list }));
}"""


def test_gif_is_taken_dropped_or_chosen_and_drives_the_video(tab, clips, animator):
    tab.set_input_files("#cnx-reference input[type=file]", clips / "red.png")
    tab.wait_for_selector("#cnx-reference img")
    tab.evaluate(DROP, [list((clips / "one.gif").read_bytes()), "one.gif"])
    tab.wait_for_selector("#cnx-sure svg polygon")
    tab.wait_for_function("() => document.querySelector('#cnx-clip video')?.readyState >= 2")
    assert tab.locator(".toast-body").count() == 0
    animate(tab, animator)
    assert animator.recipes[-1].clip_sha256 == weights_digest(clips / "one.gif")
    tab.click("#cnx-clip .icon-button-wrapper button[aria-label='Clear']")
    with tab.expect_file_chooser() as chooser:
        tab.click("#cnx-clip .upload-container")
    assert ".gif" in tab.get_attribute("#cnx-clip input[type=file]", "accept")
    chooser.value.set_files(clips / "one.gif")
    tab.wait_for_function("() => document.querySelector('#cnx-clip video')?.readyState >= 2")


def test_person_is_chosen_by_its_picture(tab, clips, animator):
    upload(tab, clips, "two")
    tab.wait_for_selector("#cnx-people button >> nth=1")
    first = tab.get_attribute(OVERLAY, "src")
    tab.click("#cnx-people button >> nth=1")
    wait_for_new_overlay(tab, first)
    assert tab.is_checked("#cnx-person label:has-text('2') input")
    animate(tab, animator)
    assert animator.recipes[-1].person == 1


@pytest.mark.parametrize(
    ("name", "sentence"), [("nobody", "Nobody was found"), ("sound", "sound"), ("text", "damaged")]
)
def test_bad_clip_shows_one_sentence_and_the_page_goes_on(tab, clips, animator, name, sentence):
    upload(tab, clips, name)
    tab.wait_for_selector(f"#cnx-notes:has-text('{sentence}')")
    tab.click("#cnx-clip .icon-button-wrapper button[aria-label='Clear']")
    tab.set_input_files("#cnx-clip input[type=file]", clips / "one.mp4")
    tab.wait_for_selector("#cnx-sure svg polygon")


def test_stop_really_stops(tab, clips, animator):
    animator.frame_seconds = 0.5
    upload(tab, clips)
    tab.wait_for_selector("#cnx-sure svg polygon")
    made = len(animator.recipes)
    tab.click("#cnx-animate")
    tab.wait_for_selector("#cnx-video-preview img")
    tab.click("#cnx-video-stop")
    tab.wait_for_selector("#cnx-animate:has-text('Animate'):not([disabled])")
    assert "Stopped" in tab.inner_text("#cnx-video-progress")
    assert len(animator.recipes) == made


def test_keyboard_reaches_everything_and_a_phone_needs_no_sideways_scrolling(tab, clips):
    upload(tab, clips)
    tab.wait_for_selector("#cnx-sure svg polygon")
    first = tab.get_attribute(OVERLAY, "src")
    tab.focus("#cnx-frame-number input[type=range]")
    tab.keyboard.press("ArrowRight")
    wait_for_new_overlay(tab, first)
    reached = set()
    tab.focus("#cnx-clip-start input[type=range]")
    for _ in range(60):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("() => document.activeElement.closest('[id^=cnx-]')?.id"))
    assert {"cnx-clip-end", "cnx-switches", "cnx-frame-number", "cnx-video-gamma", "cnx-animate"} <= reached
    box = tab.locator("#cnx-animate").bounding_box()
    assert box["y"] + box["height"] < 500
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.wait_for_timeout(200)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    widths = [tab.locator(".cnx-columns > *").nth(index).bounding_box() for index in range(3, 6)]
    assert np.ptp([box["width"] for box in widths]) < 2


EDITED = """async () => {
  const made = URL.createObjectURL;
  let blob = null;
  URL.createObjectURL = given => { blob = given; return made.call(URL, given); };
  document.querySelector('#cnx-edit-editor [data-do=save]').click();
  URL.createObjectURL = made;
  return await blob.text();
}"""
"""What "Save JSON" saves."""


def test_the_pose_of_one_frame_is_edited_and_drives_the_video(tab, clips, animator):
    upload(tab, clips)
    tab.wait_for_selector("#cnx-sure svg polygon")
    tab.fill("#cnx-frame-number input[type=number]", "4")
    tab.press("#cnx-frame-number input[type=number]", "Tab")
    tab.wait_for_selector("#cnx-edit-open:enabled")
    tab.click("#cnx-edit-open")
    tab.wait_for_selector("#cnx-edit-title:has-text('Frame 4') img")
    tab.wait_for_selector("#cnx-edit-editor image[href^='data:image/jpeg']")
    tab.locator("#cnx-edit-editor [data-joint='7']").scroll_into_view_if_needed()
    box = tab.locator("#cnx-edit-editor [data-joint='7']").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x - 20, y - 40, steps=4)
    tab.mouse.up()
    pose = tab.evaluate(EDITED)
    tab.click("#cnx-edit-keep")
    tab.wait_for_selector("#cnx-notes:has-text('Edited poses: 0.40 s')")
    assert tab.is_visible(OVERLAY)
    assert tab.is_hidden("#cnx-edit")
    animate(tab, animator)
    (edit,) = animator.recipes[-1].edits
    assert (edit.pose, edit.time) == (pose, 0.4)


def test_an_area_is_painted_over_the_fit_and_drives_the_video(tab, clips, animator):
    upload(tab, clips)
    tab.wait_for_selector("#cnx-sure svg polygon")
    tab.click("#cnx-video-area button >> nth=0")
    tab.wait_for_selector(f"{EDITOR} .zoom-number")
    tab.wait_for_selector(f"{EDITOR} .empty", state="detached")
    tab.wait_for_selector(f"{EDITOR} button.highlight[aria-label=Brush]")
    canvas = tab.locator(f"{EDITOR} canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    tab.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    tab.mouse.up()
    tab.check("#cnx-video-area-where label:has-text('Inside') input")
    animate(tab, animator)
    area = np.asarray(area_picture(animator.recipes[-1].area))
    assert area.max() > 128 > 0.3 * 255 > area.mean() > 0
