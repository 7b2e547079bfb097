"""Sweep, best of, repair, project and key poses in the real page."""

import re

import pytest
from browser_folds import TOURED, open_fold
from playwright.sync_api import expect
from test_browser import CONDITION, RESULT, generate, upload

pytestmark = pytest.mark.browser

PATIENCE = 60_000
"""Milliseconds that a busy machine is waited for."""

CELLS = "#cnx-sweep-grid .grid-container button"


def start_with(page, picture):
    upload(page, picture)
    page.wait_for_selector(CONDITION)


def test_a_sweep_fills_the_grid_and_its_choice_goes_into_the_page(page, picture, tmp_path):
    start_with(page, picture)
    open_fold(page, "#cnx-sweep", "#cnx-sweep-values textarea, #cnx-sweep-values input")
    page.fill("#cnx-sweep-values textarea, #cnx-sweep-values input", "0, 0.5, 1.5")
    page.click("#cnx-sweep-start")
    expect(page.locator(CELLS)).to_have_count(3, timeout=PATIENCE)
    expect(page.locator("#cnx-sweep-plot img")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#cnx-sweep-grid")).to_contain_text("1.5: 95 %", timeout=PATIENCE)
    page.locator(CELLS).nth(2).click()
    expect(page.locator("#cnx-sweep-use")).to_have_text("Use gamma 1.5", timeout=PATIENCE)
    page.click("#cnx-sweep-use")
    expect(page.get_by_label("number input for Control strength (gamma)")).to_have_value("1.5", timeout=PATIENCE)
    expect(page.locator("#cnx-new-seed input")).not_to_be_checked()
    with page.expect_download() as saved:
        page.click("#cnx-sweep-csv")
    saved.value.save_as(tmp_path / "sweep.csv")
    assert (tmp_path / "sweep.csv").read_text().splitlines()[3].startswith("1.5,done,0.95")


CUT = """place => [...document.querySelectorAll(`${place} .caption-label`)]
    .filter(one => one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight + 1).map(one => one.textContent)"""


def test_a_sweep_is_in_the_strip_and_on_the_wall_after_a_reload_for_who_made_it(page, picture, chromium, served):
    start_with(page, picture)
    page.fill("#cnx-seed input", "1234567890")
    page.fill("#cnx-prompt textarea", "a sweep that is kept")
    open_fold(page, "#cnx-sweep", "#cnx-sweep-values textarea, #cnx-sweep-values input")
    page.fill("#cnx-sweep-values textarea, #cnx-sweep-values input", "0, 0.25, 0.75, 1.25, 1.5")
    page.click("#cnx-sweep-axis-2 input")
    page.get_by_role("option", name="Seed").click()
    values = page.locator("#cnx-sweep-values-2 textarea, #cnx-sweep-values-2 input")
    expect(values).to_have_value(re.compile("1234567890, 1234567891"), timeout=PATIENCE)
    values.fill("1234567890, 1234567891")
    page.click("#cnx-sweep-start")
    expect(page.locator("#cnx-sweep-plot img")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(CELLS)).to_have_count(10, timeout=PATIENCE)
    for width in (1280, 375):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(CUT, "#cnx-sweep-grid") == []
        assert page.evaluate(CUT, "#cnx-latest") == []
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.reload()
    tiles = page.locator("#cnx-latest button")
    expect(tiles.first).to_contain_text("sweep", timeout=PATIENCE)
    stranger = chromium.new_page()
    stranger.add_init_script(TOURED)
    stranger.goto(served[0])
    stranger.wait_for_selector("#cnx-generate")
    tiles.first.click()
    expect(page.locator("#cnx-board-plot img")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#cnx-board-about")).to_contain_text("a sweep that is kept", timeout=PATIENCE)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 375
    page.get_by_role("button", name="Restore its settings").click()
    expect(page.locator(CELLS)).to_have_count(10, timeout=PATIENCE)
    expect(page.locator("#cnx-sweep-use")).to_have_text("Use gamma 0, seed 1234567890", timeout=PATIENCE)
    expect(page.locator("#cnx-prompt textarea")).to_have_value("a sweep that is kept", timeout=PATIENCE)
    stranger.get_by_role("tab", name="Results", exact=True).click()
    expect(stranger.locator("#cnx-board-found")).to_contain_text("what it made itself", timeout=PATIENCE)
    assert not stranger.locator("#cnx-latest-area").is_visible()
    stranger.close()
    page.get_by_role("tab", name="Results", exact=True).click()
    page.click("#cnx-board-delete")
    page.click("#cnx-board-sure")
    expect(page.locator("#cnx-board-found")).to_contain_text("Nothing here", timeout=PATIENCE)
    expect(page.locator("#cnx-latest-area")).to_be_hidden(timeout=PATIENCE)


def test_a_sweep_stops_and_goes_on_and_auto_gamma_sets_the_slider(page, picture, studio):
    start_with(page, picture)
    page.fill("#cnx-prompt textarea", "a recipe of its own")
    open_fold(page, "#cnx-sweep", "#cnx-sweep-values textarea, #cnx-sweep-values input")
    page.fill("#cnx-sweep-values textarea, #cnx-sweep-values input", "0.1, 0.2, 0.3")
    studio.step_seconds = 0.06
    page.click("#cnx-sweep-start")
    expect(page.locator("#cnx-sweep-progress")).to_contain_text("Picture 2 of", timeout=PATIENCE)
    page.click("#cnx-sweep-stop")
    expect(page.locator("#cnx-sweep-note")).to_contain_text("press Sweep again", timeout=PATIENCE)
    studio.step_seconds = 0.0
    page.click("#cnx-sweep-start")
    expect(page.locator(CELLS)).to_have_count(3, timeout=PATIENCE)
    page.click("#cnx-sweep-auto")
    expect(page.locator("#cnx-sweep-note")).to_contain_text("gamma", timeout=PATIENCE)


def test_best_of_project_and_verify(page, picture, tmp_path):
    start_with(page, picture)
    open_fold(page, "#cnx-best", "#cnx-best-start")
    page.fill("#cnx-prompt textarea", "a blue hat")
    page.click("#cnx-best-start")
    page.wait_for_selector(RESULT)
    expect(page.locator("#cnx-summary .cnx-badge")).to_have_count(4, timeout=PATIENCE)
    page.get_by_role("tab", name="Results", exact=True).click()
    wall = page.locator("#cnx-board-wall .grid-container button")
    expect(wall).to_have_count(4, timeout=PATIENCE)
    page.click("#cnx-board-pack")
    with page.expect_download() as saved:
        page.click("#cnx-board-project")
    saved.value.save_as(tmp_path / "project.zip")
    wall.first.click()
    page.click("#cnx-board-delete")
    page.click("#cnx-board-sure")
    expect(wall).to_have_count(3, timeout=PATIENCE)
    page.set_input_files(
        "#cnx-board-unpack input[type=file], input[type=file][accept*='.zip']", tmp_path / "project.zip"
    )
    expect(page.locator("#cnx-board-message")).to_contain_text("4 results restored", timeout=PATIENCE)
    expect(wall).to_have_count(4, timeout=PATIENCE)
    wall.first.click()
    page.click("#cnx-board-verify")
    expect(page.locator("#cnx-board-verified")).to_contain_text(re.compile("every pixel|difference"), timeout=PATIENCE)


def test_repair_answers_in_the_page(page, picture):
    start_with(page, picture)
    page.click("#cnx-annotator label:has-text('Edges')")
    generate(page)
    page.wait_for_selector(RESULT)
    open_fold(page, "#cnx-best", "#cnx-repair")
    page.click("#cnx-repair")
    expect(page.locator("#cnx-summary, #cnx-progress").filter(has_text="%").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#cnx-generate")).to_be_enabled(timeout=PATIENCE)


def test_a_key_pose_of_a_clip_opens_in_the_editor(page, tmp_path):
    from video_fakes import write_clips

    write_clips(tmp_path)
    page.set_default_timeout(180_000)  # clips are decoded, which takes long on a busy machine
    page.click("button[role=tab]:has-text('Video')")
    page.set_input_files("#cnx-reference input[type=file]", tmp_path / "red.png")
    page.wait_for_selector("#cnx-reference img")
    page.set_input_files("#cnx-clip input[type=file]", tmp_path / "one.mp4")
    page.wait_for_selector("#cnx-legend:has-text('fitted to it')")
    open_fold(page, "#cnx-key-poses", "#cnx-key-make")
    page.click("#cnx-key-make")
    page.locator("#cnx-key-sheet .grid-container button").first.click()
    expect(page.locator("#cnx-pose-editor svg").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#cnx-generate")).to_be_visible(timeout=PATIENCE)


def test_the_page_speaks_german_where_the_browser_does(chromium, served):
    page = chromium.new_page(locale="de-DE")
    page.add_init_script(TOURED)
    page.goto(served[0])
    expect(page.locator("#cnx-generate")).to_have_text("Erzeugen", timeout=PATIENCE)
    expect(page.locator("#cnx-prompt")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_role("tab", name="Ergebnisse")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#cnx-gamma")).to_contain_text("Stärke der Steuerung", timeout=PATIENCE)
    expect(page.locator("#cnx-size input")).to_have_value("Form des Bildes", timeout=PATIENCE)
    page.click("#cnx-pose-open")
    wrist = page.locator("#cnx-pose-editor [data-joint='4']")
    expect(wrist).to_have_attribute("aria-label", "Rechtes Handgelenk von Figur 1", timeout=PATIENCE)
    wrist.evaluate("wrist => wrist.setAttribute('aria-label', 'right wrist of figure 1, hidden')")
    expect(wrist).to_have_attribute("aria-label", "Rechtes Handgelenk von Figur 1, verborgen", timeout=PATIENCE)
    page.close()
