"""The example pictures of the page, drawn by the world: `python -m controlnext.starter examples`."""

from pathlib import Path

from PIL import Image

from controlnext.starter.world import render, sample_scene

EXAMPLES = Path(__file__).resolve().parents[2] / "assets" / "examples"
# Held-out scenes with clear poses, by the name of their file.
SCENES = {"arms-out": 8, "running": 7, "portrait-arms-up": 10, "portrait-hat": 14, "at-the-tree": 20, "cheering": 22}
SIZE = 512


def write_examples(folder: Path = EXAMPLES) -> None:
    """Write one PNG of 512 x 512 pixels for each row of `SCENES`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in SCENES.items():
        Image.fromarray(render(*sample_scene(seed), SIZE).rgb).save(folder / f"{name}.png", optimize=True)
