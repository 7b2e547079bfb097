"""The train tab as a person uses it: pictures, conditions, a training that is started, stopped and resumed, its model."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser_folds import TOURED, open_fold
from PIL import Image, ImageDraw
from train_fakes import FakeLaunch

pytestmark = pytest.mark.browser

NEVER = 20_000
"""Steps of a training that is stopped before it ends."""


@pytest.fixture(scope="module")
def launch():
    return FakeLaunch(step_seconds=0.02, every=25)


@pytest.fixture(scope="module")
def served(tmp_path_factory, launch):
    """A page whose trainings need no model."""
    from ui_fakes import FakeStudio

    from controlnext.training.runs.trainings import Trainings
    from controlnext.ui import build_ui, launch_options

    folder = tmp_path_factory.mktemp("outputs")
    studio = FakeStudio(folder)
    trainings = Trainings(folder / "training", launch=launch, processes=1)
    page = build_ui(studio, trainings=trainings, local=True)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield url, studio
    trainings.close()
    page.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    """Nine uploads: eight pictures, one of them broken, and a caption."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(7):
        picture = Image.new("RGB", (96, 80), (20, 30 * number, 90))
        ImageDraw.Draw(picture).ellipse((20, 10, 50 + 5 * number, 60), fill=(230, 220, 20))
        picture.save(folder / f"{number}.png")
    (folder / "0.txt").write_text("a yellow disc")
    (folder / "broken.png").write_text("no picture")
    return sorted(folder.iterdir())


def open_tab(page) -> None:
    page.set_default_timeout(180_000)
    page.click("button[role=tab]:has-text('Train')")
    page.wait_for_selector("#cnx-train-begin")


@pytest.fixture
def tab(page):
    """The page with the train tab open."""
    open_tab(page)
    return page


def place(page) -> float:
    return page.evaluate("() => Number(document.querySelector('#cnx-train-place input[type=number]')?.value ?? 0)")


def wait_for_place(page, least: float) -> None:
    page.wait_for_function(
        "least => Number(document.querySelector('#cnx-train-place input[type=number]')?.value ?? 0) >= least",
        arg=least,
    )


def test_pictures_become_a_training_and_the_training_a_model(tab, studio, photos, chromium, served):
    tab.set_input_files("#cnx-train-files input[type=file]", photos)
    tab.wait_for_selector("#cnx-train-looked:has-text('7 pictures can be used')")
    tab.wait_for_selector("#cnx-train-samples figure:has-text('a yellow disc')")
    assert tab.locator("#cnx-train-samples figure").count() == 7
    assert "broken.png" in tab.inner_text("#cnx-train-looked")

    open_fold(tab, "#cnx-train-more", "#cnx-train-steps input")
    tab.fill("#cnx-train-steps input", str(NEVER))
    tab.fill("#cnx-train-name input, #cnx-train-name textarea", "discs")
    assert tab.input_value("#cnx-train-steps input") == str(NEVER)
    tab.click("#cnx-train-begin")
    tab.wait_for_selector("#cnx-train-progress:has-text('step')")
    tab.wait_for_selector("#cnx-train-facts:has-text('module 1,000')")
    tab.wait_for_selector("#cnx-train-curves svg polyline >> nth=1", state="attached")
    tab.wait_for_selector("#cnx-train-drawn img >> nth=3")
    wait_for_place(tab, 3)  # the slider follows the newest pictures

    tab.fill("#cnx-train-place input[type=number]", "1")
    tab.press("#cnx-train-place input[type=number]", "Tab")
    tab.wait_for_selector("#cnx-train-drawn:has-text('After step 25')")
    tab.wait_for_timeout(2500)
    assert place(tab) == 1  # and stays where a person has put it

    other = chromium.new_page()  # a second page follows the same training
    other.add_init_script(TOURED)
    other.set_default_timeout(180_000)
    other.goto(served[0])
    open_tab(other)
    other.wait_for_selector("#cnx-train-begin:has-text('Training')")
    other.wait_for_selector("#cnx-train-drawn img >> nth=3")
    wait_for_place(other, place(other) + 1)
    other.click("#cnx-train-stop")
    for page in (other, tab):
        page.wait_for_selector("#cnx-train-begin:has-text('Start')")
        page.wait_for_selector("#cnx-train-progress:has-text('Stopped after step')")
    other.close()

    tab.click("#cnx-train-resume")
    tab.wait_for_selector("#cnx-train-progress:has-text('Learning')")
    before = tab.inner_text("#cnx-train-progress")
    tab.wait_for_function("before => document.querySelector('#cnx-train-progress')?.innerText !== before", arg=before)
    tab.click("#cnx-train-stop")
    tab.wait_for_selector("#cnx-train-progress:has-text('Stopped after step')")

    with tab.expect_download() as report:
        tab.click("#cnx-train-report")
    assert report.value.suggested_filename == "report.html"
    with tab.expect_download() as adapter:
        tab.click("#cnx-train-adapter")
    assert adapter.value.suggested_filename == "discs.zip"

    tab.click("#cnx-train-use")
    tab.wait_for_selector("#cnx-generate", state="visible")
    tab.wait_for_function("() => document.querySelector('#cnx-model input')?.value === 'discs'")
    assert tab.is_checked("#cnx-annotator label:has-text('Edges') input")
    assert studio.catalogue.trained == {"discs": ["canny"]}
    before = len(studio.recipes)
    tab.fill("#cnx-prompt textarea", "a disc")
    tab.click("#cnx-generate")
    tab.wait_for_selector("#cnx-summary:has-text('seed')")
    assert (studio.recipes[before].model, len(studio.recipes)) == ("discs", before + 1)


def test_reloaded_page_shows_the_last_training_and_a_phone_needs_no_sideways_scrolling(tab):
    tab.wait_for_selector("#cnx-train-progress:has-text('Stopped after step')")
    tab.wait_for_selector("#cnx-train-curves svg polyline", state="attached")
    assert tab.input_value("#cnx-train-run input") == "discs"
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.wait_for_timeout(300)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_nothing_to_learn_from_is_one_sentence_and_the_page_goes_on(tab, photos):
    tab.click("#cnx-train-begin")
    tab.wait_for_selector(".toast-body:has-text('There are no pictures to learn from yet')")
    tab.wait_for_selector("#cnx-train-begin:has-text('Start'):not([disabled])")
    tab.fill("#cnx-train-folder input, #cnx-train-folder textarea", str(photos[0].parent))
    tab.press("#cnx-train-folder input, #cnx-train-folder textarea", "Tab")
    tab.wait_for_selector("#cnx-train-looked:has-text('7 pictures can be used')")


def test_earlier_trainings_are_shown_by_their_names(tab, photos, launch):
    launch.step_seconds = 0.0
    tab.wait_for_function("() => document.querySelector('#cnx-train-run input')?.value === 'discs'")
    tab.fill("#cnx-train-folder input, #cnx-train-folder textarea", str(photos[0].parent))
    tab.fill("#cnx-train-name input, #cnx-train-name textarea", "second")
    open_fold(tab, "#cnx-train-more", "#cnx-train-steps input")
    tab.fill("#cnx-train-steps input", "10")
    tab.press("#cnx-train-steps input", "Tab")
    assert tab.input_value("#cnx-train-steps input") == "10"
    tab.click("#cnx-train-begin")
    tab.wait_for_selector("#cnx-train-progress:has-text('Done after 10 steps')")
    assert tab.input_value("#cnx-train-run input") == "second"
    tab.click("#cnx-train-run input")
    tab.click("ul[role=listbox] li:has-text('discs')")
    tab.wait_for_selector("#cnx-train-progress:has-text('Stopped after step')")
    assert place(tab) >= 3

    tab.click("button[role=tab]:has-text('Image')")  # opened again, it is as it was left
    with tab.expect_response(lambda answer: "/gradio_api/" in answer.url and answer.request.method == "POST"):
        tab.click("button[role=tab]:has-text('Train')")
    tab.wait_for_timeout(300)
    assert tab.input_value("#cnx-train-run input") == "discs"
    assert "Stopped after step" in tab.inner_text("#cnx-train-progress")
    tab.click("#cnx-train-run input")
    tab.wait_for_selector("ul[role=listbox] li:has-text('second')")
