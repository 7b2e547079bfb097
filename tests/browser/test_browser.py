"""What a person does with the page, done by a headless browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser_folds import TOURED
from playwright.sync_api import TimeoutError as Late

from controlnext.recipes.png import read_png
from controlnext.ui.examples import example_pictures

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
CONDITION = "#cnx-condition img"
RESULT = "#cnx-gallery img"


def upload(page, path: Path) -> None:
    page.set_input_files("#cnx-picture input[type=file]", path)


def source_of(page, selector: str) -> str:
    return page.get_attribute(selector, "src")


def set_number(page, selector: str, value: float) -> None:
    page.fill(f"{selector} input[type=number]", str(value))
    page.press(f"{selector} input[type=number]", "Tab")


def wait_for_change(page, selector: str, before: str) -> None:
    page.wait_for_function(
        "([selector, before]) => { const e = document.querySelector(selector); return e && e.src && e.src !== before; }",
        arg=[selector, before],
    )


def wait_for_gamma(page, value: str) -> None:
    page.wait_for_function(
        "value => document.querySelector('#cnx-gamma input[type=number]').value === value", arg=value
    )


def generate(page, prompt: str = "a person in a red shirt") -> None:
    page.fill("#cnx-prompt textarea", prompt)
    page.click("#cnx-generate")
    with suppress(Late):  # a run may be over before a busy machine shows that it began
        page.wait_for_selector("#cnx-generate:has-text('Generating')", timeout=5000)
    page.wait_for_selector("#cnx-generate:has-text('Generate'):not([disabled])")


def test_upload_shows_the_condition_and_a_slider_changes_it(page, picture):
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    pose = source_of(page, CONDITION)
    page.click("#cnx-annotator label:has-text('Edges')")
    wait_for_change(page, CONDITION, pose)
    edges = source_of(page, CONDITION)
    slider = page.get_by_label("number input for Weak edges from")
    slider.fill("8")
    slider.press("Tab")
    wait_for_change(page, CONDITION, edges)
    assert "256" in page.inner_text("#cnx-served")


def test_generate_shows_steps_then_saved_pictures_with_their_adherence(page, picture, studio):
    studio.step_seconds = 0.05
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    page.fill("#cnx-prompt textarea", "a person in a red shirt")
    page.click("#cnx-generate")
    page.wait_for_selector("#cnx-preview img")
    page.wait_for_selector("#cnx-progress:has-text('step')")
    assert "left" in page.inner_text("#cnx-progress")
    page.wait_for_selector(RESULT)
    assert "follows 95" in page.inner_text("#cnx-summary")
    assert studio.recipes[-1].prompt == "a person in a red shirt"
    assert (studio.output_dir / sorted(path.name for path in studio.output_dir.glob("*.png"))[-1]).is_file()
    assert page.input_value("#cnx-seed input") == str(studio.recipes[-1].seed)


def test_the_page_passes_no_loading_status_on_at_each_message(page):
    page.wait_for_function("() => window.cnxQuickStatus")


def test_save_picture_downloads_the_png_with_its_recipe(page, picture, studio):
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    generate(page, "kept")
    with page.expect_download() as download:
        page.click("#cnx-save")
    assert read_png(download.value.path()).prompt == "kept"


def test_live_condition_is_not_held_up_by_a_run(page, picture, studio):
    studio.step_seconds = 0.5
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    before = source_of(page, CONDITION)
    page.click("#cnx-generate")
    page.wait_for_selector("#cnx-preview img")
    page.click("#cnx-annotator label:has-text('Edges')")
    wait_for_change(page, CONDITION, before)
    assert page.is_visible("#cnx-stop:not([disabled])")
    page.click("#cnx-stop")
    page.wait_for_selector("#cnx-generate:not([disabled])")


def test_stop_really_stops(page, picture, studio):
    studio.step_seconds = 0.5
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    made, steps = len(studio.recipes), studio.steps
    page.click("#cnx-generate")
    page.wait_for_selector("#cnx-preview img")
    page.click("#cnx-stop")
    page.wait_for_selector("#cnx-generate:has-text('Generate'):not([disabled])")
    after = studio.steps
    time.sleep(0.3)
    assert studio.steps == after < steps + 20
    assert len(studio.recipes) == made
    assert "Stopped" in page.inner_text("#cnx-progress")


def test_closing_the_page_stops_its_run(chromium, served, studio):
    studio.step_seconds = 0.5
    tab = chromium.new_page()
    tab.add_init_script(TOURED)
    tab.goto(served[0])
    tab.click("#cnx-generate")
    tab.wait_for_selector("#cnx-preview img")
    steps = studio.steps
    tab.close()
    time.sleep(1.0)
    assert studio.steps < steps + 15
    assert studio.lock.acquire(timeout=3)
    studio.lock.release()


@pytest.mark.parametrize("way", ["#cnx-picture", "#cnx-restore"])
def test_dropping_a_saved_picture_restores_everything(page, picture, studio, way):
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    page.click("#cnx-annotator label:has-text('Depth')")
    wait_for_gamma(page, "0.9")
    set_number(page, "#cnx-gamma", 0.45)
    set_number(page, "#cnx-steps", 6)
    generate(page, "remember me")
    recipe = studio.recipes[-1]
    assert recipe.gamma == 0.45
    saved = max(studio.output_dir.glob("*.png"), key=lambda path: path.stat().st_mtime)

    # As in another browser, where nothing is kept. Before the page's own script runs: what is still being kept is late.
    page.add_init_script("localStorage.removeItem('controlnext-image')")
    page.reload()
    page.wait_for_selector("#cnx-generate")
    assert page.input_value("#cnx-prompt textarea") == ""
    page.set_input_files(
        f"{way} input[type=file]" if way == "#cnx-picture" else "input[type=file][accept*='.png']", saved
    )
    page.wait_for_function("document.querySelector('#cnx-prompt textarea').value === 'remember me'")
    page.wait_for_selector(CONDITION)
    page.wait_for_selector("#cnx-annotator label.selected:has-text('Depth')")
    assert page.input_value("#cnx-gamma input[type=number]") == "0.45"
    assert page.input_value("#cnx-steps input[type=number]") == "6"
    assert page.input_value("#cnx-seed input") == str(recipe.seed)
    assert page.is_checked("#cnx-ready input")
    assert not page.is_checked("#cnx-new-seed input")

    page.wait_for_selector("#cnx-served:has-text('as given')")
    page.click("#cnx-generate")
    page.wait_for_selector("#cnx-summary:has-text('follows')")
    again = studio.recipes[-1]
    assert (again.seed, again.condition_sha256, again.condition_kind) == (
        recipe.seed,
        recipe.condition_sha256,
        "depth",
    )


def test_bad_upload_shows_one_sentence_and_the_page_goes_on(page, picture, tmp_path):
    fake = tmp_path / "text.png"
    fake.write_text("this is no picture", encoding="utf-8")
    upload(page, fake)
    page.wait_for_selector("[data-testid=toast-body]:has-text('not a picture')")
    assert "not a picture" in page.inner_text("#cnx-served")
    page.click("#cnx-picture button[aria-label='Remove Image']")
    upload(page, picture)
    page.wait_for_selector(CONDITION)


def test_bad_number_shows_the_same_sentence_and_keeps_the_pictures(page, picture, studio):
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    generate(page)
    before = source_of(page, RESULT)
    page.uncheck("#cnx-new-seed input")
    page.fill("#cnx-seed input", "-7")
    page.press("#cnx-seed input", "Tab")
    page.click("#cnx-generate")
    page.wait_for_selector("[data-testid=toast-body]:has-text('seed')")
    page.wait_for_selector("#cnx-generate:has-text('Generate'):not([disabled])")
    assert source_of(page, RESULT) == before


def test_dice_rolls_a_seed_and_keeps_it(page, studio):
    before = page.input_value("#cnx-seed input")
    page.click("#cnx-dice")
    page.wait_for_function("before => document.querySelector('#cnx-seed input').value !== before", arg=before)
    rolled = page.input_value("#cnx-seed input")
    assert not page.is_checked("#cnx-new-seed input")
    generate(page)
    assert str(studio.recipes[-1].seed) == rolled


def test_annotator_change_resets_gamma_to_its_default(page):
    set_number(page, "#cnx-gamma", 1.7)
    page.click("#cnx-annotator label:has-text('Edges')")
    wait_for_gamma(page, "0.8")
    assert "0.8" in page.inner_text("#cnx-gamma")


def test_layout_generate_is_in_sight_on_a_laptop_and_a_phone_needs_no_sideways_scrolling(page):
    box = page.locator("#cnx-generate").bounding_box()
    assert box["y"] + box["height"] < 500
    columns = [page.locator(".cnx-columns > *").nth(index).bounding_box() for index in range(3)]
    assert len({column["y"] for column in columns}) == 1
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_example_is_taken_with_a_click(page):
    if not example_pictures():
        pytest.skip("assets/examples is empty")
    page.click("#cnx-examples button >> nth=0")
    page.wait_for_selector(CONDITION)
    assert page.is_visible("#cnx-picture img")


def test_status_tab_says_what_works_and_why_not(page):
    page.click("button[role=tab]:has-text('What works here')")
    page.wait_for_selector("#cnx-status:has-text('SDXL')")
    assert "Its base model is not downloaded." in page.inner_text("#cnx-status")


def test_page_asks_nothing_of_other_machines(page, picture, requests):
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    generate(page)
    page.click("button[role=tab]:has-text('What works here')")
    page.wait_for_selector("#cnx-status:has-text('SDXL')")
    hosts = {urlsplit(url).hostname for url in requests if not url.startswith(("data:", "blob:"))}
    assert hosts <= {"127.0.0.1", "localhost"}
    assert len(requests) > 20


def test_app_starts_and_shows_its_page(chromium, tmp_path):
    """The whole of `python app.py`; `bench startup` measures how long it takes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), "--output-dir", str(tmp_path / "out")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        for line in app.stdout:
            if "Running on local URL" in line:
                break
        tab = chromium.new_page(viewport={"width": 1440, "height": 900})
        tab.add_init_script(TOURED)
        tab.goto(f"http://127.0.0.1:{port}")
        tab.wait_for_selector("#cnx-generate")
        tab.close()
    finally:
        app.terminate()
        app.wait(60)
