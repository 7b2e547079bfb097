"""What the browser keeps: the last settings, presets of one's own; and results and maps as a whole."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import yaml
from browser_folds import open_fold
from test_browser import CONDITION, set_number, upload, wait_for_gamma

from controlnext.recipes.png import read_png

pytestmark = pytest.mark.browser

SETTLED = "() => window.cnxSettled === true"


def reload(page) -> None:
    page.reload()
    page.wait_for_selector("#cnx-generate")
    page.wait_for_function(SETTLED)


def test_the_last_settings_are_there_after_a_reload(page):
    page.wait_for_function(SETTLED)
    page.fill("#cnx-prompt textarea", "kept words")
    page.locator("#cnx-annotator label", has_text="Edges").click()
    wait_for_gamma(page, "0.8")
    set_number(page, "#cnx-gamma", 0.45)
    set_number(page, "#cnx-steps", 7)
    page.wait_for_timeout(500)
    reload(page)
    wait_for_gamma(page, "0.45")
    assert page.input_value("#cnx-prompt textarea") == "kept words"
    assert page.input_value("#cnx-steps input[type=number]") == "7"
    assert page.locator("#cnx-annotator .selected").inner_text() == "Edges"
    assert page.locator("#cnx-resolution").is_visible()


def test_a_preset_of_ones_own_is_kept_used_saved_and_read(page, tmp_path):
    page.wait_for_function(SETTLED)
    page.fill("#cnx-prompt textarea", "the look")
    open_fold(page, "#cnx-own", "#cnx-own-name input")
    page.fill("#cnx-own-name input", "My look")
    page.click("#cnx-own-keep")
    page.wait_for_selector("#cnx-own-message:has-text('Kept in this browser')")
    with page.expect_download() as saved:
        page.click("#cnx-own-save")
    text = Path(saved.value.path()).read_text(encoding="utf-8")
    assert yaml.safe_load(text)["prompt"] == "the look"
    page.fill("#cnx-prompt textarea", "something else")
    reload(page)
    open_fold(page, "#cnx-own", "#cnx-own-chosen input")
    page.click("#cnx-own-chosen input")
    page.get_by_role("option", name="My look").click()
    page.click("#cnx-own-use")
    page.wait_for_selector("#cnx-own-message:has-text('is in the page')")
    assert page.input_value("#cnx-prompt textarea") == "the look"
    file = tmp_path / "other.yaml"
    file.write_text("prompt: from a file", encoding="utf-8")
    with page.expect_file_chooser() as chooser:
        page.click("#cnx-own-read")
    chooser.value.set_files(file)
    page.wait_for_selector("#cnx-own-message:has-text('Read, and kept')")
    page.click("#cnx-own-use")
    page.wait_for_function("() => document.querySelector('#cnx-prompt textarea').value === 'from a file'")


@pytest.mark.parametrize("slowdown", [1, 5])
def test_a_click_on_the_contact_sheet_uses_a_map(page, picture, slowdown):
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    processor = page.context.new_cdp_session(page)
    processor.send("Emulation.setCPUThrottlingRate", {"rate": slowdown})
    page.click("#cnx-all-maps")
    page.wait_for_function("() => document.querySelectorAll('#cnx-sheet .thumbnail-item').length === 4")
    page.locator("#cnx-sheet .thumbnail-item").nth(2).click()
    page.wait_for_selector("#cnx-annotator .selected:has-text('Edges')")
    wait_for_gamma(page, "0.8")


def test_all_pictures_are_saved_as_one_file(page):
    page.fill("#cnx-count input[type=number]", "3")
    page.press("#cnx-count input[type=number]", "Tab")
    page.click("#cnx-generate")
    page.wait_for_selector("#cnx-save-all")
    with page.expect_download() as saved:
        page.click("#cnx-save-all")
    with zipfile.ZipFile(saved.value.path()) as archive:
        names = archive.namelist()
        assert len(names) == 3
        with archive.open(names[2]) as first:
            assert read_png(first).num_images == 1
