"""Shards of rendered clips with their latents: made once, read by every training of the video starter."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from diffusers import AutoencoderKL

from controlnext.starter.train.dataset import encode
from controlnext.starter.world.motion import render_clip, sample_motion
from controlnext.starter.world.world import Look, mirrored, sample_look

FRAMES = 24
CLIPS_PER_SHARD = 8
LOOKS_PER_CLIP = 2
CELL = 8  # pixels along each side of a latent cell


class SceneClip(NamedTuple):
    """One clip of F frames of S x S pixels.

    `rgb` (F, S, S, 3) uint8; `latents` (F, 4, S/8, S/8) in model units; `figure` (F, S/8, S/8) uint8, the share of each
    cell that shows the figure times 255; `people` (F, 18, 3) x, y in pixels and confidence; `look` its colours;
    `hat` whether it wears one.
    """

    rgb: np.ndarray
    latents: np.ndarray
    figure: np.ndarray
    people: np.ndarray
    look: Look
    hat: bool


def _figure_shares(parts: np.ndarray) -> np.ndarray:
    mask = ((parts >= 2) & (parts <= 8)).astype(np.float32)
    cells = mask.reshape(len(mask) // CELL, CELL, -1, CELL).mean((1, 3))
    return (cells * 255 + 0.5).astype(np.uint8)


def write_clips(path: Path, seeds: range, vae: AutoencoderKL) -> None:
    """Render and encode the clips of `seeds` into the folder `path`, which appears whole or not at all."""
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in ("rgb", "latents", "figure", "people")}
    told = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 2])
        stages = sample_motion(rng, FRAMES)
        looks = [sample_look(rng) for _ in range(LOOKS_PER_CLIP)]
        for look, pictures in zip(looks, render_clip(stages, looks), strict=True):
            clip = [mirrored(p) for p in pictures] if rng.random() < 0.5 else pictures
            rgb = np.stack([p.rgb for p in clip])
            arrays["rgb"].append(rgb)
            arrays["latents"].append(np.concatenate([encode(vae, rgb[i : i + 8]) for i in range(0, FRAMES, 8)]))
            arrays["figure"].append(np.stack([_figure_shares(p.parts) for p in clip]))
            arrays["people"].append(np.stack([p.people[0] for p in clip]))
            told.append({"look": asdict(look), "hat": stages[0].hat})
    folder = path.with_suffix(".part")
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in arrays.items():
        np.save(folder / f"{name}.npy", np.stack(rows))
    (folder / "told.json").write_text(json.dumps(told))
    folder.rename(path)


class Clips:
    """All clips of a folder as one sequence; latents live in memory, pictures stay on disk."""

    def __init__(self, folder: Path) -> None:
        """Open the shards of `folder`."""
        self.folder = folder
        self._names: list[str] = []
        self._clips: list[SceneClip] = []
        self.refresh()

    def refresh(self) -> None:
        """Add shards written since the last refresh."""
        for path in sorted(self.folder.glob("clips-?????")):
            if path.name in self._names:
                continue
            self._names.append(path.name)
            rgb = np.load(path / "rgb.npy", mmap_mode="r")
            rest = [np.load(path / f"{name}.npy") for name in ("latents", "figure", "people")]
            told = json.loads((path / "told.json").read_text())
            self._clips += [
                SceneClip(*arrays, Look(**row["look"]), row["hat"])
                for *arrays, row in zip(rgb, *rest, told, strict=True)
            ]

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._clips)

    def __getitem__(self, index: int) -> SceneClip:
        """Return one clip."""
        return self._clips[index]
