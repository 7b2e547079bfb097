"""The results tab in the real page: what was made is found, compared, restored and deleted."""

import pytest
from playwright.sync_api import expect
from test_browser import CONDITION, RESULT, generate, upload

pytestmark = pytest.mark.browser

expect.set_options(timeout=60_000)  # a busy machine is waited for


def results(page):
    page.get_by_role("tab", name="Results", exact=True).click()


def test_what_the_page_made_is_shown_compared_restored_and_deleted(page, picture):
    results(page)
    expect(page.locator("#cnx-board-found")).to_contain_text("what it made itself")
    page.get_by_role("tab", name="Image", exact=True).click()
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    for _ in range(2):
        generate(page, "a green hat")
        page.wait_for_selector(RESULT)
        expect(page.locator("#cnx-generate")).to_be_enabled()
    results(page)
    expect(page.locator("#cnx-board-found")).to_contain_text("2 results")
    wall = page.locator("#cnx-board-wall .grid-container button")
    expect(wall).to_have_count(2)
    cut = "() => getComputedStyle(document.querySelector('#cnx-board-wall .grid-wrap')).overflowY"
    assert page.evaluate(cut) == "visible"  # no row of the wall is cut off
    page.set_viewport_size({"width": 375, "height": 800})
    beyond = "() => Math.max(...[...document.querySelectorAll('#cnx-board-wall button')].map(one => one.getBoundingClientRect().right))"
    assert page.evaluate(beyond) <= 375
    assert wall.first.bounding_box()["width"] < 375 / 3
    page.set_viewport_size({"width": 1440, "height": 900})
    assert wall.first.bounding_box()["width"] < 1440 / 6  # few results are as small as many
    wall.first.click()
    expect(page.locator("#cnx-board-about")).to_contain_text("a green hat")
    page.check("#cnx-board-compare input")
    wall.nth(1).click()
    expect(page.locator("#cnx-board-table")).to_contain_text("seed")
    expect(page.locator("#cnx-board-slider img").first).to_be_visible()
    page.get_by_role("button", name="Restore its settings").click()
    expect(page.locator("#cnx-generate")).to_be_visible()
    expect(page.locator("#cnx-prompt textarea")).to_have_value("a green hat")
    results(page)
    page.click("#cnx-board-delete")
    page.click("#cnx-board-sure")
    expect(page.locator("#cnx-board-found")).to_contain_text("1 result")
    page.fill("#cnx-board-words input, #cnx-board-words textarea", "no such word")
    page.keyboard.press("Enter")
    expect(page.locator("#cnx-board-found")).to_contain_text("Nothing here")
