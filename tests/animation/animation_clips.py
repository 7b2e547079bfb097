"""Clips of drawn skeletons, which need no pose model to be read."""

import numpy as np
from video_clips import make
from video_figures import drawn, person

from controlnext.video import write_video

FPS = 6


def pose_clip(path, frames=6, sound=False, people=lambda index: [person(40 + 3 * index, 40, 70, 0.05 * (index % 3))]):
    """Write pose frames of 96 x 128 pixels; `people` says who is in each."""
    silent = path.with_name(f"silent-{path.name}")
    write_video(silent, [drawn(people(index), 128, 96) for index in range(frames)], FPS)
    if not sound:
        return silent.rename(path)
    tone = ("-f", "lavfi", "-i", "sine=440:sample_rate=8000")
    return make(path, "-i", silent, *tone, "-c:v", "copy", "-c:a", "aac", "-t", frames / FPS)


def noise_clip(path, frames=3):
    """Write a clip that shows nobody at all."""
    rng = np.random.default_rng(0)
    write_video(path, [rng.integers(0, 60, (96, 96, 3), dtype=np.uint8) for _ in range(frames)], FPS)
    return path
