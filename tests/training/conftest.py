"""A tiny base model on the disk, and a folder of pictures to learn from."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent.parent / "video"))


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A diffusers folder of random weights; its pictures are 64 x 64."""
    from tiny_studio import save_base

    folder = tmp_path_factory.mktemp("models") / "base"
    save_base(folder)
    return folder


@pytest.fixture
def photos(tmp_path):
    """Ten pictures of squares, eight with captions of their own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(10):
        pixels = np.full((80, 64 + 8 * (number % 3), 3), random.integers(0, 120, 3), np.uint8)
        pixels[10 : 30 + 3 * number, 12:44] = random.integers(140, 255, 3)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        if number < 8:
            (folder / f"{number}.txt").write_text(f"square {number}")
    return folder


@pytest.fixture
def scribbles(photos):
    """The same with conditions drawn for them, of a kind no annotator makes."""
    lines = []
    for number in range(10):
        with Image.open(photos / f"{number}.png") as image:
            width, height = image.size
        Image.new("RGB", (width // 2, height // 2), (0, 20 * number, 255)).save(photos / f"c{number}.png")
        lines.append({"file_name": f"{number}.png", "text": "square", "conditioning_image": f"c{number}.png"})
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return photos
