"""`python -m controlnext bench live`: how soon the page shows a new picture while a joint is dragged.

Starts the app on a free port, opens its page in headless Chromium, switches Live on, and drags a wrist with real pointer
events. A picture counts when the page has loaded it. `changes` sends more changes than can be drawn and looks whether the
last picture is the one of the last change. `--parts` opens no page: it measures what a live picture's time goes into.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.assets import EXAMPLES, IMPORT_ROOT
from controlnext.bench.command import BenchError, bench_parser, publish, whole
from controlnext.bench.cost.startup import free_port
from controlnext.bench.tables import markdown

if TYPE_CHECKING:
    from playwright.sync_api import Page

WRIST = 4
BARS = {"bfloat16": (0.20, 0.35, 8.0), "float32": (0.30, 0.50, 5.0)}
"""By precision: median and 95th percentile of seconds from pointer-up to the picture, pictures a second during a drag."""

QUIET = 3.0
"""Seconds without a new picture after which nothing waits to be drawn; longer than any live picture takes."""

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PICTURE = "#cnx-live-picture img"

WATCH = """() => {
  window.shown = [];
  const area = document.querySelector('#cnx-live-picture');
  let last = '';
  const note = () => { const image = area.querySelector('img'); if (!image || image.src === last) return; last = image.src; image.decode().then(() => window.shown.push(performance.now())).catch(() => {}); };
  new MutationObserver(note).observe(area, { subtree: true, attributes: true, childList: true, attributeFilter: ['src'] });
  addEventListener('pointerup', () => { window.lifted = performance.now(); }, true);
}"""
"""Notes when each new picture is decoded, and when the pointer was lifted, in milliseconds of the page."""


CLICKS, CLICK_BAR = 7, 0.35

WATCH_FULL = """() => {
  const first = () => document.querySelector('#cnx-gallery img'), old = first()?.src;
  window.full = 0;
  const watcher = new MutationObserver(() => {
    const image = first();
    if (!image || image.src === old) return;
    watcher.disconnect();
    image.decode().then(() => { window.full = performance.now(); }).catch(() => {});
  });
  watcher.observe(document.body, { subtree: true, attributes: true, childList: true, attributeFilter: ['src'] });
  document.querySelector('#cnx-generate').addEventListener('click', () => { window.clicked = performance.now(); }, { capture: true, once: true });
}"""
"""Notes when Generate was clicked, and when the first picture of the gallery is another one and decoded."""


@dataclass(frozen=True)
class LiveFigure:
    """One measured value; times in seconds, `bar` None where none is set."""

    what: str
    value: float
    bar: float | None
    passed: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 if every bar is met, else 1."""
    parser = bench_parser("live", __doc__)
    parser.add_argument("--drags", type=whole(3), default=12, help="drags to measure, after a first one")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the long drag")
    parser.add_argument("--changes", type=whole(), default=60, help="changes to send in half as many seconds")
    parser.add_argument("--timeout", type=float, default=300.0, help="give up after so many seconds")
    parser.add_argument(
        "--parts", action="store_true", help="measure the parts of a live picture instead, without a page"
    )
    parser.add_argument("--scenes", type=whole(0), default=16, help="held-out scenes to judge with --parts")
    options = parser.parse_args(arguments)
    if options.parts:
        from controlnext.bench.cost.live_parts import parts

        return parts(options)
    figures = measure(options)
    rows = [
        (row.what, f"{row.value:.2f}", "" if row.bar is None else f"{row.bar:g}", "yes" if row.passed else "no")
        for row in figures
    ]
    text = markdown(["live", "measured", "bar", "met"], rows)
    return publish(options, [asdict(row) for row in figures], text, passed=all(row.passed for row in figures))


def measure(options: argparse.Namespace) -> list[LiveFigure]:
    """Start app and browser, measure, and end both.

    Raises:
        BenchError: there is no browser, or the app did not answer in time.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise BenchError("This bench drives a browser: pip install playwright.") from error
    browser_path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if browser_path is None:
        raise BenchError("This bench needs Chromium: install the system's package chromium.")
    with tempfile.TemporaryDirectory(prefix="controlnext-live-") as folder:
        port = free_port()
        with (Path(folder) / "app.log").open("wb") as log:
            command = [sys.executable, "-m", "controlnext", "app", "--host", "127.0.0.1", "--port", str(port)]
            paths = os.pathsep.join(filter(None, [str(IMPORT_ROOT), os.environ.get("PYTHONPATH", "")]))
            environment = os.environ | {"PYTHONPATH": paths}
            app = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}/"
            _wait_for(url, time.monotonic() + options.timeout, app)
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
                page = browser.new_page(viewport={"width": 1440, "height": 1100})
                page.set_default_timeout(1000 * options.timeout)
                figures = _figures(page, url, options)
                browser.close()
            return figures
        finally:
            app.terminate()
            with suppress(subprocess.TimeoutExpired):
                app.wait(10)
            app.kill()


def open_live(page: Page, url: str) -> None:
    """Open the page, take an example, open the editor, and switch Live on."""
    page.add_init_script("localStorage.setItem('controlnext-toured', 'yes')")
    page.goto(url)
    page.wait_for_selector("#cnx-generate")
    page.set_input_files("#cnx-picture input[type=file]", EXAMPLES / "arms-out.png")
    page.wait_for_selector("#cnx-condition img")
    page.fill("#cnx-prompt textarea", "a person in a red shirt and blue trousers on green grass")
    page.click("#cnx-pose-open")
    page.wait_for_selector(f"#cnx-pose-editor [data-joint='{WRIST}']")
    page.check("#cnx-live input")
    page.wait_for_selector(PICTURE)
    page.evaluate("() => document.querySelector('#cnx-pose-editor svg').scrollIntoView({block: 'center'})")


def wrist(page: Page) -> tuple[float, float]:
    """Return where the right wrist is on the screen."""
    box = page.locator(f"#cnx-pose-editor [data-joint='{WRIST}']").bounding_box()
    if box is None:
        raise BenchError("The pose editor shows no wrist.")
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def _figures(page: Page, url: str, options: argparse.Namespace) -> list[LiveFigure]:
    open_live(page, url)
    page.evaluate(WATCH)
    _drag(page, 10, -20)
    lifts = [_lift(page, index) for index in range(options.drags)]
    rate = _rate(page, options.seconds)
    precision = "bfloat16" if "bfloat16" in page.inner_text("#cnx-progress") else "float32"
    median_bar, late_bar, rate_bar = BARS[precision]
    median, late = statistics.median(lifts), sorted(lifts)[min(len(lifts) - 1, round(0.95 * len(lifts)))]
    last = _last_wins(page, options.changes)
    click = statistics.median(_click(page) for _ in range(CLICKS))
    return [
        LiveFigure(f"pointer-up to new picture, median, {precision}", median, median_bar, median <= median_bar),
        LiveFigure(f"pointer-up to new picture, 95th percentile, {precision}", late, late_bar, late <= late_bar),
        LiveFigure(f"pictures a second during a drag of {options.seconds:g} s", rate, rate_bar, rate >= rate_bar),
        LiveFigure(f"{options.changes} changes: the last one is shown last", float(last), 1.0, last),
        LiveFigure("click on Generate to the full picture, median", click, CLICK_BAR, click <= CLICK_BAR),
    ]


def _drag(page: Page, dx: float, dy: float) -> None:
    x, y = wrist(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up()


def _settled(page: Page) -> None:
    """Wait until no new picture came for `QUIET` seconds."""
    count, since = -1, time.monotonic()
    while time.monotonic() - since < QUIET:
        now = page.evaluate("() => window.shown.length")
        if now != count:
            count, since = now, time.monotonic()
        page.wait_for_timeout(50)


def _lift(page: Page, index: int) -> float:
    """Seconds from the pointer's lift to the picture of what was set."""
    _settled(page)
    before = page.evaluate("() => window.shown.length")
    _drag(page, 6 if index % 2 else -6, 14 if index % 2 else -14)
    page.wait_for_function("before => window.shown.length > before", arg=before)
    _settled(page)
    return page.evaluate("before => (window.shown.at(-1) - window.lifted) / 1000", before)


def _rate(page: Page, seconds: float) -> float:
    """Pictures a second while the pointer moves without a pause."""
    _settled(page)
    x, y = wrist(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate("() => { window.shown = []; }")
    begun, step = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        step += 1
        page.mouse.move(x + 20 * (step % 40 - 20) / 20, y - abs(step % 60 - 30))
        page.wait_for_timeout(16)
    count, took = page.evaluate("() => window.shown.length"), time.monotonic() - begun
    page.mouse.up()
    return count / took


def _last_wins(page: Page, changes: int) -> bool:
    """Whether the picture at rest after many changes is the one of the last: sending it again changes nothing."""
    _settled(page)
    for index in range(changes):
        _drag(page, 5 if index % 2 else -5, 4 if index % 3 else -8)
        page.wait_for_timeout(500 if index % 10 == 9 else 300)
    _settled(page)
    at_rest = page.get_attribute(PICTURE, "src")
    page.fill("#cnx-gamma input[type=number]", "0.5")
    page.press("#cnx-gamma input[type=number]", "Tab")
    page.wait_for_function("src => document.querySelector('#cnx-live-picture img').src !== src", arg=at_rest)
    _settled(page)
    page.fill("#cnx-gamma input[type=number]", "1")
    page.press("#cnx-gamma input[type=number]", "Tab")
    _settled(page)
    return page.get_attribute(PICTURE, "src") == at_rest


def _click(page: Page) -> float:
    """Seconds from a click on Generate to the full picture."""
    page.uncheck("#cnx-live input")
    page.evaluate(WATCH_FULL)
    page.click("#cnx-generate")
    page.wait_for_function("() => window.full", timeout=60_000)
    page.wait_for_timeout(1000 * QUIET)
    return page.evaluate("() => (window.full - window.clicked) / 1000")


def _wait_for(url: str, deadline: float, app: subprocess.Popen[bytes]) -> None:
    while time.monotonic() < deadline:
        if app.poll() is not None:
            raise BenchError(f"The app ended with status {app.returncode} before the page answered.")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # the app we just started, on this machine
                answer.read()
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise BenchError("The page did not answer in time.")
