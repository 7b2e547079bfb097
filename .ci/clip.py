"""Record the README's clip of live drawing from the real page in headless Chromium: `python .ci/clip.py`.

A picture is dropped, its skeleton appears, Live is switched on, and a wrist is dragged up by pointer events. Each step of the drag waits
for its live picture, so that the clip shows every one of them; its frames have a tempo of their own, not that of this machine.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from controlnext.assets import EXAMPLES  # noqa: E402 - the checkout's own
from controlnext.bench.cost.live import CHROMIUM, PICTURE  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Page

CLIP = ROOT / "assets" / "ui" / "live.gif"
SIZE = (880, 550)
VIEW = {"width": 1180, "height": 738}
COLOURS = 224
STEPS = 16
SEED = 7
PROMPT = "a person in a red shirt and blue trousers on green grass"
WRIST, SHOULDER = 4, 2
TURN = (-0.75, 1.4)
"""Where the wrist is at the end of the drag: left and up of the shoulder on the screen, in lengths from shoulder to wrist."""

POINTER = """() => {
  const arrow = document.createElement('div');
  arrow.innerHTML = '<svg width="26" height="26" viewBox="0 0 26 26"><path d="M3 2v18l5-4 3 7 3.4-1.5-3-6.8H18z" fill="#111" stroke="#fff" stroke-width="1.6"/></svg>';
  arrow.style.cssText = 'position:fixed;left:640px;top:420px;z-index:99999;pointer-events:none;line-height:0';
  document.body.append(arrow);
  const follow = event => { arrow.style.left = `${event.clientX - 3}px`; arrow.style.top = `${event.clientY - 2}px`; };
  addEventListener('pointermove', follow, true);
}"""
"""Draws the pointer, which pictures of a headless page leave out."""

NUMBER = f"() => Number(document.querySelector('{PICTURE}')?.dataset.number ?? -1)"


class Recorder:
    """Frames of a page, and how long each is shown."""

    def __init__(self, page: Page) -> None:
        """Start without frames."""
        self.page = page
        self.frames: list[Image.Image] = []
        self.milliseconds: list[int] = []

    def keep(self, milliseconds: int) -> None:
        """Take a picture of the page that is shown for so long."""
        shot = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        self.frames.append(shot.resize(SIZE, Image.Resampling.LANCZOS))
        self.milliseconds.append(milliseconds)

    def save(self, path: Path) -> None:
        """Write a GIF with one table of colours, in which equal pixels of two frames stay equal."""
        columns = 4
        sheet = Image.new("RGB", (SIZE[0] * columns, SIZE[1] * -(-len(self.frames) // columns)))
        for index, frame in enumerate(self.frames):
            sheet.paste(frame, (SIZE[0] * (index % columns), SIZE[1] * (index // columns)))
        table = sheet.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        first, *others = [frame.quantize(palette=table, dither=Image.Dither.NONE) for frame in self.frames]
        first.save(path, save_all=True, append_images=others, duration=self.milliseconds, loop=0, optimize=False)


def record(page: Page, url: str) -> Recorder:
    """Do what the clip shows."""
    page.add_init_script("localStorage.setItem('controlnext-toured', 'yes')")
    page.goto(url)
    page.wait_for_selector("#cnx-generate")
    page.wait_for_selector(".cnx-chip:has-text('ready')")
    page.fill("#cnx-seed input", str(SEED))
    page.uncheck("#cnx-new-seed input")
    page.fill("#cnx-prompt textarea", PROMPT)
    page.evaluate("() => document.activeElement.blur()")
    page.evaluate(POINTER)
    clip = Recorder(page)
    page.mouse.move(120, 330)
    clip.keep(900)
    page.set_input_files("#cnx-picture input[type=file]", EXAMPLES / "arms-out.png")
    page.wait_for_selector("#cnx-condition img")
    page.wait_for_function("() => document.querySelector('#cnx-condition img').complete")
    page.wait_for_timeout(1000)
    clip.keep(1400)
    click(page, "#cnx-pose-open", clip)
    page.wait_for_selector(f"#cnx-pose-editor [data-joint='{WRIST}']")
    page.wait_for_timeout(500)
    clip.keep(900)
    click(page, "#cnx-live input", clip)
    page.wait_for_selector(PICTURE)
    page.wait_for_selector("#cnx-summary:has-text('follows')")
    page.wait_for_timeout(500)
    clip.keep(1200)
    drag(page, clip)
    return clip


def click(page: Page, what: str, clip: Recorder) -> None:
    """Go to a part of the page, take a picture, and click."""
    x, y = middle(page, what)
    page.mouse.move(x, y, steps=4)
    clip.keep(350)
    page.mouse.click(x, y)


def middle(page: Page, what: str) -> tuple[float, float]:
    """Return the middle of a part of the page on the screen."""
    box = page.locator(what).bounding_box()
    if box is None:
        raise SystemExit(f"The page shows no {what}.")
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Page, clip: Recorder) -> None:
    """Drag the wrist up around its shoulder, and wait for the picture of each step."""
    x, y = middle(page, f"#cnx-pose-editor [data-joint='{WRIST}']")
    left, top = middle(page, f"#cnx-pose-editor [data-joint='{SHOULDER}']")
    length = ((x - left) ** 2 + (y - top) ** 2) ** 0.5
    goal = left + TURN[0] * length, top - TURN[1] * length
    score = page.inner_text("#cnx-summary")
    page.mouse.move(x, y, steps=4)
    clip.keep(300)
    page.mouse.down()
    for step in range(1, STEPS + 1):
        part = step / STEPS
        out = 0.5 * length * 4 * part * (1 - part)  # around, as a hand goes
        before = page.evaluate(NUMBER)
        page.mouse.move(x + part * (goal[0] - x) - out, y + part * (goal[1] - y))
        page.wait_for_function(f"before => ({NUMBER})() > before", arg=before)
        page.wait_for_timeout(150)
        clip.keep(160)
    page.mouse.up()
    page.wait_for_function(
        "before => document.querySelector('#cnx-summary').innerText !== before", arg=score, timeout=30_000
    )
    page.wait_for_timeout(800)
    clip.keep(2600)


def served(work: Callable[[str], None]) -> None:
    """Start the page over the bundled models in a scratch folder, and do work with its address."""
    from controlnext.cli import app
    from controlnext.ui import build_ui, launch_options
    from controlnext.ui.image import live

    live.SLOW_SECONDS = float("inf")  # a busy machine draws during the drag too: the clip waits for each picture
    with tempfile.TemporaryDirectory(prefix="controlnext-clip-") as folder:
        studio = app.make_studio(app.options(["--output-dir", folder]))
        studio.warm_up()
        page = build_ui(studio)
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
        try:
            work(url)
        finally:
            page.close()


def main() -> None:
    """Record and write the clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=CLIP, help="the GIF to write")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        raise SystemExit("This needs Chromium: install the system's package chromium.")

    def work(url: str) -> None:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport=VIEW, locale="en-GB", color_scheme="light")
            page.set_default_timeout(600_000)
            clip = record(page, url)
            browser.close()
        clip.save(options.out)
        sys.stdout.write(
            f"{options.out}: {len(clip.frames)} frames, {sum(clip.milliseconds) / 1000:.1f} s, "
            f"{options.out.stat().st_size / 1e6:.2f} MB\n"
        )

    served(work)


if __name__ == "__main__":
    main()
