"""The examples of the page, drawn by the world: `python -m controlnext.starter examples`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from controlnext.assets import EXAMPLES
from controlnext.starter.world.motion import FPS, render_clip, sample_clip
from controlnext.starter.world.world import Look, render, sample_scene
from controlnext.video.writer import write_video

# Held-out scenes with clear poses, by the name of their file.
SCENES = {"arms-out": 8, "running": 7, "portrait-arms-up": 10, "portrait-hat": 14, "at-the-tree": 20, "cheering": 22}
SIZE = 512

# Held-out clips whose whole figure is seen, by the name of their file, and who dances in them.
CLIPS = {
    "dance": (46, Look("black", "green", "brown", 1, "orange", "sand", "day", "purple")),
    "gestures": (44, Look("green", "black", "blond", 0, "red", "snow", "dawn", "red")),
}
# Characters to be moved: another clip, one of its frames, and another figure. Each belongs to the clip of its name.
CHARACTERS = {
    "dance": (49, 16, Look("purple", "red", "blond", 2, "red", "road", "day", "yellow")),
    "gestures": (45, 24, Look("yellow", "brown", "black", 3, "blue", "grass", "day", "blue")),
}
CLIP_SECONDS = 3.5
CLIP_SIZE = 256
CHARACTER_SIZE = 384


def write_examples(folder: Path = EXAMPLES) -> None:
    """Write one PNG of 512 x 512 pixels for each row of `SCENES`, and the examples of the video tab below `video`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in SCENES.items():
        Image.fromarray(render(*sample_scene(seed), SIZE).rgb).save(folder / f"{name}.png", optimize=True)
    write_video_examples(folder / "video")


def write_video_examples(folder: Path) -> None:
    """Write the clips of `CLIPS` as MP4, and next to each the PNG of its character."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = round(CLIP_SECONDS * FPS)
    for name, (seed, look) in CLIPS.items():
        stages, _ = sample_clip(seed, frames)
        pictures = render_clip(stages, [look], CLIP_SIZE)[0]
        write_video(folder / f"{name}.mp4", (picture.rgb for picture in pictures), FPS)
    for name, (seed, frame, look) in CHARACTERS.items():
        stage = sample_clip(seed, frames)[0][frame]
        rgb = render(replace(stage, object="nothing"), look, CHARACTER_SIZE).rgb
        Image.fromarray(np.asarray(rgb)).save(folder / f"{name}.png", optimize=True)
