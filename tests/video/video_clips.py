"""Tiny clips made by ffmpeg's own test sources."""

import subprocess

import numpy as np
from PIL import Image

from controlnext.video.ffmpeg import binary

TESTSRC = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=10")
SINE = ("-f", "lavfi", "-i", "sine=440:sample_rate=8000")


def make(path, *arguments):
    command = [binary(), "-v", "error", "-y", *map(str, arguments), str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def grey_frames(count, height=48, width=64):
    """Frames that say their own number: frame i is grey of 12 * i."""
    return [np.full((height, width, 3), 12 * index, np.uint8) for index in range(count)]


def numbers(frames):
    """Which of `grey_frames` these are."""
    return [round(float(np.mean(frame)) / 12) for frame in frames]


def save_pictures(folder, names, size=(64, 48)):
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.new("RGB", size, (12 * index,) * 3).save(folder / name)
    return folder
