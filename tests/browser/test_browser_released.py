"""Every released preset from the page to a picture or a video: chosen, downloaded from a hub on this machine, drawn, saved."""

from __future__ import annotations

import itertools
import re
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub.constants
import pytest
from browser_folds import TOURED
from released import released_hub

from controlnext.models import hub
from controlnext.models.hub import Repo
from controlnext.models.presets import load_presets
from controlnext.models.sources import CONTROL_FILES
from controlnext.recipes.png import read_png
from controlnext.recipes.video_recipe import read_video_recipe
from controlnext.video import open_clip, read_frames, write_video

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[2] / "assets" / "examples"
PRESETS = {name: row for name, row in load_presets()[0].items() if row.family in ("sd15", "sdxl", "svd")}


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A hub with a tiny stand-in for every repository that a preset names; nobody asks twice for a token."""
    return released_hub(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def app(held, tmp_path_factory):
    """Address of what `app.py` serves, and the folder of its results."""
    from controlnext.cli import app as command

    folder = tmp_path_factory.mktemp("app")
    with pytest.MonkeyPatch.context() as patched, held.serve() as address:
        patched.delenv("HF_HUB_OFFLINE", raising=False)
        patched.setenv("HF_TOKEN", held.token)
        patched.setenv("HF_HOME", str(folder / "hf"))
        patched.setenv("HF_ENDPOINT", address)
        patched.setenv("NO_PROXY", "127.0.0.1,localhost")
        patched.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        patched.setattr(hub, "NETWORK", hub.Network())
        chosen = command.options(["--device", "cpu", "--threads", "1", "--output-dir", str(folder / "outputs")])
        page, _ = command.launch(chosen, block=False)
        yield page.local_url, folder / "outputs"
        page.close()


@pytest.fixture(scope="module")
def page(chromium, app):
    """One page for all presets."""
    tab = chromium.new_page(viewport={"width": 1440, "height": 900})
    tab.add_init_script(TOURED)
    tab.set_default_timeout(180_000)  # six models are loaded, which takes long on a busy machine
    tab.goto(app[0])
    tab.wait_for_selector("#cnx-generate")
    yield tab
    tab.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The first frames of an example, which are quickly read."""
    with read_frames(open_clip(EXAMPLES / "video" / "dance.mp4")) as frames:
        two = list(itertools.islice(frames, 2))
    path = tmp_path_factory.mktemp("clip") / "two.mp4"
    write_video(path, two, 6)
    return path


def set_number(page, field: str, value: float) -> None:
    page.fill(f"{field} input[type=number]", str(value))
    page.press(f"{field} input[type=number]", "Tab")


def choose(page, preset, model: str, guidance: str) -> None:
    """Choose a model, and wait until the page has its defaults."""
    set_number(page, guidance, 1.1)  # no model's own
    page.click(f"{model} input")
    page.locator("[role=option]", has_text=re.compile(rf"^\W*{re.escape(preset.title)} \(download")).click()
    page.wait_for_function(
        "([field, value]) => Number(document.querySelector(`${field} input[type=number]`).value) === value",
        arg=[guidance, preset.defaults.guidance_scale],
    )


@contextmanager
def a_download_that_is_shown(page, held, preset, progress: str):
    """Let the control file wait until the page has said what is downloaded and how much of it."""
    row = next(iter(preset.adapters.values()))
    name = next(name for name in row.files if name in CONTROL_FILES)
    file = "/".join(filter(None, [Repo.parse(row.repo).folder, name]))
    held.held[file] = threading.Event()
    try:
        yield
        page.wait_for_selector(f"{progress}:has-text('Downloading {preset.title}')")
        assert re.search(r"\d+ \w+ of \d+ \w+", page.inner_text(progress))
    finally:
        held.held[file].set()


def made(page, app, held, preset, read, *, fields: str, button: str):
    """Choose a model, make something with it in one step, and return its recipe; `fields` is what their names begin with."""
    before = set(app[1].glob("*.*"))
    choose(page, preset, f"{fields}-model", f"{fields}-guidance")
    set_number(page, f"{fields}-steps", 1)
    with a_download_that_is_shown(page, held, preset, f"{fields}-progress"):
        page.click(button)
    return wait_for_recipe(page, app[1], before, read)


def wait_for_recipe(page, folder: Path, before: set[Path], read):
    """Wait until a result that was not there before is whole; return its recipe."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        if found := [recipe for path in set(folder.glob("*.*")) - before if (recipe := read(path)) is not None]:
            (recipe,) = found
            return recipe
        page.wait_for_timeout(100)
    pytest.fail("nothing was made")


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if not preset.video])
def test_a_released_model_goes_from_the_page_to_a_picture(page, app, held, name):
    preset = PRESETS[name]
    if not page.locator("#cnx-condition img").count():
        page.set_input_files("#cnx-picture input[type=file]", EXAMPLES / "arms-out.png")
    page.wait_for_selector("#cnx-condition img")
    recipe = made(page, app, held, preset, read_png, fields="#cnx", button="#cnx-generate")
    page.wait_for_selector(f"#cnx-summary:has-text('seed {recipe.seed}')")
    page.wait_for_selector("#cnx-generate:has-text('Generate'):not([disabled])")
    assert (recipe.model, recipe.num_inference_steps) == (name, 1)
    assert recipe.condition_kind in preset.adapters
    assert set(recipe.weights) == {"base", "adapter"}
    page.wait_for_function("() => document.querySelector('#cnx-gallery img')?.naturalWidth > 0")
    assert "1 picture in" in page.inner_text("#cnx-summary")


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.video])
def test_a_released_video_model_goes_from_the_page_to_a_video(page, app, held, clip, name):
    preset = PRESETS[name]
    if page.is_hidden("#cnx-animate"):
        page.click("button[role=tab]:has-text('Video')")
        page.set_input_files("#cnx-reference input[type=file]", EXAMPLES / "video" / "dance.png")
        page.wait_for_selector("#cnx-reference img")
        page.set_input_files("#cnx-clip input[type=file]", clip)
        page.wait_for_selector("#cnx-notes:has-text('2 frames')")
    recipe = made(page, app, held, preset, read_video_recipe, fields="#cnx-video", button="#cnx-animate")
    page.wait_for_function(
        "seed => Number(document.querySelector('#cnx-video-seed input').value) === seed", arg=recipe.seed
    )
    page.wait_for_selector("#cnx-animate:has-text('Animate'):not([disabled])")
    page.wait_for_function("() => document.querySelector('#cnx-video video')?.readyState >= 2")
    assert (recipe.model, recipe.num_inference_steps) == (name, 1)
    assert set(recipe.weights) == {"base", "adapter"}
