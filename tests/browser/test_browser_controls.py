"""A second control, a strength over time and a painted start picture, in the real page and back from the saved picture."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from browser_folds import open_fold
from test_browser import CONDITION, upload

pytestmark = pytest.mark.browser

EDITOR = "#cnx-start"


def wait_for_start(page) -> None:
    """Wait until the open start picture can be drawn on: it has its canvas then, and drops a picture before."""
    page.wait_for_selector(f"{EDITOR} .zoom-number")


def start_from(page, picture: Path) -> None:
    """Give the editor a picture; its brush is taken up when the picture lies on the canvas."""
    page.set_input_files(f"{EDITOR} input[type=file]", picture)
    page.wait_for_selector(f"{EDITOR} button.highlight[aria-label=Brush]")


def paint(page) -> None:
    """Draw a stroke through the middle of the start picture."""
    canvas = page.locator(f"{EDITOR} canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 30, y - 20)
    page.mouse.down()
    page.mouse.move(x + 30, y + 10, steps=6)
    page.mouse.up()


def generate_and_wait(page, studio, prompt: str) -> None:
    """Press Generate and wait for the run's recipe, not for the button: a short run changes it for less than a look."""
    page.fill("#cnx-prompt textarea", prompt)
    before = len(studio.recipes)
    page.click("#cnx-generate")
    until = time.monotonic() + 60
    while len(studio.recipes) == before and time.monotonic() < until:
        page.wait_for_timeout(100)
    assert len(studio.recipes) == before + 1
    page.wait_for_selector("#cnx-generate:has-text('Generate'):not([disabled])")
    page.wait_for_selector("#cnx-summary:has-text('follows')")


def test_second_control_and_painted_picture_are_run_saved_and_restored(page, picture, studio):
    page.set_default_timeout(60_000)  # the editor draws in software here, which takes long on a busy machine
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    page.click("#cnx-add-control")
    page.wait_for_selector("#cnx-control-condition-2 img")
    page.click("#cnx-start-fold button >> nth=0")
    wait_for_start(page)
    start_from(page, picture)
    paint(page)
    open_fold(page, "#cnx-more", "#cnx-gamma-curve input")
    page.fill("#cnx-gamma-curve input", "cosine 1 to 0.2")
    page.press("#cnx-gamma-curve input", "Enter")
    page.wait_for_selector("#cnx-curve:has-text('0.2 at the last')")
    generate_and_wait(page, studio, "remember both")
    recipe, inputs = studio.recipes[-1], studio.inputs[-1]
    assert [control.condition_kind for control in recipe.all_controls] == ["pose", "depth"]
    assert (recipe.gamma_curve, recipe.strength) == ("cosine 1 to 0.2", 0.75)
    assert inputs.init_image is not None
    assert 0.001 < np.asarray(inputs.mask).mean() / 255 < 0.5
    assert "depth 95 %" in page.inner_text("#cnx-summary")
    saved = max(studio.output_dir.glob("*.png"), key=lambda path: path.stat().st_mtime)

    page.reload()
    page.wait_for_selector("#cnx-generate")
    upload(page, saved)
    page.wait_for_function("document.querySelector('#cnx-prompt textarea').value === 'remember both'")
    page.wait_for_selector("#cnx-control-condition-2 img")
    wait_for_start(page)  # what is restored is shown: its fold is open
    page.wait_for_selector(f"{EDITOR} .empty", state="detached")
    generate_and_wait(page, studio, "remember both")
    again = studio.recipes[-1]
    names = ("condition_sha256", "init_sha256", "mask_sha256", "strength", "gamma_curve", "seed")
    assert [getattr(again, name) for name in names] == [getattr(recipe, name) for name in names]
    assert again.controls[0].condition_sha256 == recipe.controls[0].condition_sha256
