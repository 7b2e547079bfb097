"""The page for everyone: axe-core's rules in both themes, the keyboard alone, phones, and less motion."""

from __future__ import annotations

from importlib.resources import files

import pytest
from browser_folds import TOURED, open_fold
from test_browser import CONDITION, RESULT, generate, upload
from ui_fakes import KINDS

pytestmark = pytest.mark.browser

TABS = ("Image", "Video", "Results", "Train", "What works here")
PHONE = {"width": 375, "height": 800}
THEMES = ("light", "dark")

FOUND = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 160)} ${(node.any[0] || node.all[0] || node.none[0]).message}`));
}"""
ONE_GROUP = "() => new Set([...document.querySelectorAll('#cnx-annotator input')].map(one => one.name)).size === 1"
FOCUS = "() => (document.activeElement.closest('[id^=cnx]') || document.activeElement).id"


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    pytest.importorskip("axe_playwright_python", reason="the package axe-playwright-python is not installed")
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def opened(chromium, served, studio):
    """Opens the page: `opened(theme, **options of the browser)`."""
    contexts = []

    def open_page(theme: str = "light", *, toured: bool = True, **options):
        context = chromium.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        contexts.append(context)
        if toured:
            context.add_init_script(TOURED)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.goto(f"{served[0].rstrip('/')}/?__theme={theme}")
        page.wait_for_selector("#cnx-generate")
        return page

    yield open_page
    for context in contexts:
        context.close()


def violations(page, axe: str) -> list[str]:
    page.wait_for_timeout(400)  # colours change over 0.12 s, and names are added a little after what they name
    page.evaluate(axe)
    return page.evaluate(FOUND)


def open_tab(page, name: str) -> None:
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.is_visible():  # on a phone the last ones are in a menu
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text=name).click()
    else:
        tab.click()


@pytest.mark.parametrize("viewport", [{"width": 1440, "height": 900}, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("theme", THEMES)
def test_no_tab_breaks_a_serious_rule(opened, axe, theme, viewport):
    page = opened(theme, viewport=viewport)
    found = {}
    for name in TABS:
        open_tab(page, name)
        found[name] = violations(page, axe)
    assert found == {name: [] for name in TABS}


@pytest.mark.parametrize("theme", THEMES)
def test_no_state_of_the_image_tab_breaks_a_serious_rule(opened, axe, picture, theme):
    page, found = opened(theme), {}
    upload(page, picture)
    page.wait_for_selector(CONDITION)
    open_fold(page, "#cnx-more", "#cnx-negative textarea")
    open_fold(page, "#cnx-loras", "#cnx-lora-1 input")
    page.click("#cnx-add-control")
    page.wait_for_selector("#cnx-control-kind-2 input")
    open_fold(page, "#cnx-sweep", "#cnx-sweep-values textarea, #cnx-sweep-values input")
    open_fold(page, "#cnx-best", "#cnx-best-start")
    found["all folds open"] = violations(page, axe)
    generate(page)
    page.wait_for_selector(RESULT)
    found["a result"] = violations(page, axe)
    page.keyboard.press("Escape")
    page.click("button[data-open=cnx-keys]")
    found["the keys"] = violations(page, axe)
    assert found == {"all folds open": [], "a result": [], "the keys": []}


def test_a_rule_that_is_broken_is_found(opened, axe):
    page = opened()
    page.evaluate(
        "() => { const p = document.createElement('p'); p.textContent = 'pale'; p.style = 'color:#ddd;background:#fff'; document.querySelector('main').append(p); }"
    )
    assert any(line.startswith("color-contrast") and "pale" in line for line in violations(page, axe))


def test_a_phone_shows_nothing_beyond_its_edge(opened):
    page = opened(viewport=PHONE)
    for name in TABS:
        open_tab(page, name)
        page.wait_for_timeout(300)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"], name
    title, chip = (page.locator(place).bounding_box() for place in (".cnx-brand h1", ".cnx-chip"))
    assert title["x"] + title["width"] <= chip["x"]


def test_less_motion_is_respected(opened):
    page = opened(reduced_motion="reduce")
    seconds = "() => getComputedStyle(document.querySelector('#cnx-generate')).transitionDuration"
    assert float(page.evaluate(seconds).removesuffix("s")) < 0.001
    assert float(opened().evaluate(seconds).split(",")[0].removesuffix("s")) > 0.05


def test_the_keyboard_alone_makes_a_picture(opened, picture):
    page = opened()
    upload(page, picture)  # the file dialog is the browser's own
    page.wait_for_selector(CONDITION)
    before = page.get_attribute(CONDITION, "src")
    page.focus("#cnx-annotator input:checked")
    for label in ("Depth", "Edges"):
        page.wait_for_function(ONE_GROUP)  # Gradio renames the buttons one by one; arrows stay within a name
        page.keyboard.press("ArrowRight")
        page.wait_for_selector(f"#cnx-annotator .selected:has-text('{label}')")
    page.wait_for_function("([place, old]) => document.querySelector(place)?.src !== old", arg=[CONDITION, before])
    assert page.locator("#cnx-annotator input:checked").get_attribute("value") == KINDS[2]
    page.focus("#cnx-prompt textarea")
    page.keyboard.type("a person in a red shirt")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS) == "cnx-generate"
    page.keyboard.press("Enter")
    page.wait_for_selector(RESULT)


def test_keys_generate_stop_and_list_themselves(opened, studio):
    page = opened()
    studio.step_seconds, made = 0.5, len(studio.recipes)
    page.focus("#cnx-prompt textarea")
    page.keyboard.type("a red ball?")  # a question mark in a field is a question mark
    assert not page.locator("#cnx-keys").is_visible()
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#cnx-generate:has-text('Generating')")
    page.wait_for_selector("#cnx-stop:not([disabled])")
    page.keyboard.press("Escape")
    page.wait_for_selector("#cnx-progress:has-text('Stopped')")
    assert len(studio.recipes) == made
    studio.step_seconds = 0.01
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(RESULT)
    assert studio.recipes[-1].prompt == "a red ball?"
    page.locator("h1").click()
    page.keyboard.press("?")
    page.wait_for_selector("#cnx-keys[open]")
    assert page.locator("#cnx-keys").get_by_text("Ctrl + Enter").is_visible()
    page.keyboard.press("Escape")
    page.wait_for_selector("#cnx-keys", state="hidden")


def test_arrows_step_through_the_pictures(opened, studio):
    page = opened()
    page.fill("#cnx-count input[type=number]", "3")
    page.press("#cnx-count input[type=number]", "Tab")
    page.focus("#cnx-prompt textarea")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("() => document.querySelectorAll('#cnx-gallery .grid-container button').length === 3")
    page.locator("h1").click()
    at = "() => [...document.querySelectorAll('#cnx-gallery .thumbnails button')].findIndex(one => one.classList.contains('selected'))"
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        page.wait_for_timeout(300)
        seen.append(page.evaluate(at))
    assert seen == [0, 1, 2, 0, 2]


def test_the_tour_has_four_steps_and_is_skipped_for_good(opened):
    page = opened(toured=False)
    dialog = page.locator("#cnx-tour")
    dialog.wait_for()
    titles = []
    for _ in range(4):
        titles.append(dialog.locator("h2:visible").inner_text())
        dialog.locator("[data-next]").click()
    assert [title[-6:] for title in titles] == [f"{number} of 4" for number in range(1, 5)]
    assert not dialog.is_visible()
    page.reload()
    page.wait_for_selector("#cnx-generate")
    page.wait_for_timeout(500)
    assert not dialog.is_visible()
    page.click("button[data-open=cnx-keys]")
    page.click("[data-tour]")
    dialog.locator("[data-close]").click()
    assert not dialog.is_visible()
