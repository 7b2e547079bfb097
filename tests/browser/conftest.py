"""The real page in headless Chromium, over a fake studio with real timing; skipped where there is no Chromium."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from browser_folds import TOURED
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "ui"))

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
DESKTOP = {"width": 1440, "height": 900}
KEPT = "cookies,indexeddb,local_storage"
"""What a page keeps of its visitor."""


VALUES = """() => [...document.querySelectorAll('[id^=cnx] input, [id^=cnx] textarea')]
    .filter(part => part.offsetParent && part.value && part.value !== 'on')
    .map(part => `${part.closest('[id^=cnx]').id}=${part.value}`).join(' ')"""
"""What stands in the fields that can be seen."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Add what the page showed to the report of a test that failed: a page is seldom the same twice."""
    outcome = yield
    report = outcome.get_result()
    page = next((value for value in item.funcargs.values() if hasattr(value, "inner_text")), None)
    if call.when == "call" and report.failed and page is not None:
        with suppress(Exception):  # the page may be what has failed
            report.sections.append(("the page", f"{page.inner_text('body')}\n{page.evaluate(VALUES)}"))


@pytest.fixture(scope="session")
def playwright() -> Iterator:
    package = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    with package.sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def installed(playwright) -> dict:
    """How the browser of this machine is started."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine; install the system's package chromium")
    return {"executable_path": path, "args": ARGUMENTS}


@pytest.fixture(scope="session")
def chromium(playwright, installed) -> Iterator:
    """A browser whose every page is that of somebody who was never here."""
    browser = playwright.chromium.launch(**installed)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def known(playwright, installed, tmp_path_factory) -> Iterator:
    """A browser that keeps what it loaded, scripts as they were compiled too: a third of the time that a page takes to open."""
    folder = tmp_path_factory.mktemp("browser")
    context = playwright.chromium.launch_persistent_context(folder, viewport=DESKTOP, **installed)
    yield context
    context.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[tuple[str, object]]:
    """Address of a page over a fake studio, and that studio."""
    from ui_fakes import FakeStudio

    from controlnext.ui import build_ui, launch_options

    studio = FakeStudio(tmp_path_factory.mktemp("outputs"))
    page = build_ui(studio)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield url, studio
    page.close()


@pytest.fixture
def studio(served):
    """The studio behind the page, at its usual speed."""
    studio = served[1]
    studio.step_seconds = 0.01
    return studio


@pytest.fixture
def requests() -> list[str]:
    """Addresses the page asked for."""
    return []


@pytest.fixture
def page(known, served, studio, requests):
    """An open page of the size of a laptop's screen, of somebody of whom the browser keeps nothing but the page's files."""
    tab = known.new_page()
    known.new_cdp_session(tab).send(
        "Storage.clearDataForOrigin", {"origin": served[0].rstrip("/"), "storageTypes": KEPT}
    )
    tab.add_init_script(TOURED)
    tab.set_default_timeout(60_000)
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(served[0])
    tab.wait_for_selector("#cnx-generate")
    yield tab
    tab.close()


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    noise = np.random.default_rng(0).integers(0, 60, (192, 256, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    ImageDraw.Draw(image).ellipse((80, 40, 180, 160), fill=(220, 60, 40))
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    image.save(path)
    return path
