"""A second control, a strength over time and a painted start picture, in the real page and back from the saved picture."""

from __future__ import annotations

import numpy as np
import pytest
from test_browser import CONDITION, upload

pytestmark = pytest.mark.browser


def paint(page) -> None:
    """Draw a stroke through the middle of the start picture."""
    canvas = page.locator("#cnx-start canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 30, y - 20)
    page.mouse.down()
    page.mouse.move(x + 30, y + 10, steps=6)
    page.mouse.up()
    page.wait_for_timeout(1000)


def generate_again(page, studio, prompt: str) -> None:
    """Press Generate until a run begins: while the editor still hands over its layers, a press may be lost."""
    page.fill("#cnx-prompt textarea", prompt)
    begun = len(studio.recipes)
    for _ in range(4):
        page.click("#cnx-generate")
        for _ in range(40):
            page.wait_for_timeout(200)
            if len(studio.recipes) > begun:
                page.wait_for_selector("#cnx-generate:has-text('Generate'):not([disabled])")
                return
    raise AssertionError("Generate was pressed four times and nothing began.")


def test_second_control_and_painted_picture_are_run_saved_and_restored(page, picture, studio):
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    page.click("#cnx-add-control")
    page.wait_for_selector("#cnx-control-condition-2 img")
    page.click("#cnx-start-fold button >> nth=0")
    page.wait_for_selector("#cnx-start canvas")
    page.click("#cnx-more button >> nth=0")
    page.fill("#cnx-gamma-curve input", "cosine 1 to 0.2")
    page.press("#cnx-gamma-curve input", "Enter")
    page.wait_for_selector("#cnx-curve:has-text('0.2 at the last')")
    # The editor says nowhere that it is ready to take a picture, nor that it has drawn it; a busy machine needs its time.
    for seconds in (3, 6, 12):
        page.wait_for_timeout(1000 * seconds)
        page.set_input_files("#cnx-start input[type=file]", picture)
        page.wait_for_timeout(1000 * seconds)
        paint(page)
        generate_again(page, studio, "remember both")
        if studio.inputs[-1].mask is not None:
            break
    recipe, inputs = studio.recipes[-1], studio.inputs[-1]
    assert [control.condition_kind for control in recipe.all_controls] == ["pose", "depth"]
    assert (recipe.gamma_curve, recipe.strength) == ("cosine 1 to 0.2", 0.75)
    assert inputs.init_image is not None
    assert 0.001 < np.asarray(inputs.mask).mean() / 255 < 0.5
    assert "depth 95 %" in page.inner_text("#cnx-summary")
    saved = max(studio.output_dir.iterdir(), key=lambda path: path.stat().st_mtime)

    page.reload()
    page.wait_for_selector("#cnx-generate")
    upload(page, saved)
    page.wait_for_function("document.querySelector('#cnx-prompt textarea').value === 'remember both'")
    page.wait_for_selector("#cnx-control-condition-2 img")
    page.click("#cnx-start-fold button >> nth=0")
    page.wait_for_selector("#cnx-start canvas")
    page.wait_for_timeout(4000)
    generate_again(page, studio, "remember both")
    again = studio.recipes[-1]
    names = ("condition_sha256", "init_sha256", "mask_sha256", "strength", "gamma_curve", "seed")
    assert [getattr(again, name) for name in names] == [getattr(recipe, name) for name in names]
    assert again.controls[0].condition_sha256 == recipe.controls[0].condition_sha256
