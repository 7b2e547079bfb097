"""Uploads have the pixels that a browser shows: each file is decoded by Chromium and by `load_picture`."""

import base64
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "annotators"))

from picture_files import shown_by_browsers

from annotators import load_picture

pytestmark = pytest.mark.browser

FILES = shown_by_browsers()
MOST = 2.0  # mean absolute difference of 255

DECODE = """async url => {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext('2d');
    context.fillStyle = '#fff';
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0);
    return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
}"""


@pytest.fixture(scope="module")
def page(chromium):
    page = chromium.new_page()
    yield page
    page.close()


@pytest.mark.parametrize("name", FILES)
def test_a_picture_has_the_pixels_that_a_browser_shows(page, name):
    kind, data = FILES[name]
    ours = np.asarray(load_picture(data)).astype(int)
    shown = page.evaluate(DECODE, f"data:{kind};base64,{base64.b64encode(data).decode()}")
    theirs = np.array(shown).reshape(*ours.shape[:2], 4)[..., :3]
    difference = float(np.abs(ours - theirs).mean())
    sys.stdout.write(f"{name}: {difference:.2f}\n")
    assert difference <= MOST
