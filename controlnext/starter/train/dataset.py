"""Shards of rendered scenes with their latents: made once, read by every training of the starter."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from controlnext.starter.world.captions import caption
from controlnext.starter.world.world import (
    PARTS,
    Look,
    Picture,
    Stage,
    cast_scene,
    depth_of,
    mirrored,
    paint,
    parts_of,
    people_of,
    sample_look,
    sample_stage,
)

# Scenes below this seed are held out: no training ever sees them.
FIRST_TRAINING_SEED = 1_000_000
LOOKS_PER_STAGE = 2
STAGES_PER_SHARD = 64
_THINGS = tuple(PARTS.index(name) for name in ("tree", "house", "ball", "crate"))


@dataclass(frozen=True)
class SceneSample:
    """One scene to learn from: its picture, its 4 x 32 x 32 latent in model units, and its caption."""

    picture: Picture
    latent: np.ndarray | None
    stage: Stage
    look: Look
    object_seen: bool

    def caption(self, rng: np.random.Generator | None = None) -> str:
        """Describe the scene, in varying words if `rng` is given."""
        return caption(self.stage, self.look, object_seen=self.object_seen, rng=rng)


def object_seen(parts: np.ndarray) -> bool:
    """Tell whether at least 0.4 % of a picture's (S, S) parts are its object."""
    return bool(np.isin(parts, _THINGS).mean() > 0.004)


def make_samples(seed: int, looks: int = LOOKS_PER_STAGE, close: float = 0.0) -> list[SceneSample]:
    """Render one stage in several looks, each mirrored half of the time; no latents. `close` as for `sample_stage`."""
    rng = np.random.default_rng(seed)
    stage, samples = sample_stage(rng, close), []
    geometry = cast_scene(stage)
    parts, depth, people = parts_of(geometry), depth_of(geometry), people_of(stage)
    for _ in range(looks):
        look = sample_look(rng)
        picture = Picture(paint(geometry, look, stage.hills), parts, depth, people)
        if rng.random() < 0.5:
            picture = mirrored(picture)
        samples.append(SceneSample(picture, None, stage, look, object_seen(parts)))
    return samples


def to_tensor(rgb: np.ndarray) -> Tensor:
    """Turn (B, H, W, 3) uint8 into (B, 3, H, W) float32 in [-1, 1], channels last."""
    return (torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(
        memory_format=torch.channels_last
    )


@torch.no_grad()
def encode(vae: AutoencoderKL, rgb: np.ndarray) -> np.ndarray:
    """Encode (B, 256, 256, 3) uint8 pictures to (B, 4, 32, 32) float16 latents times the scaling factor.

    A bfloat16 autoencoder is exact enough where it is quicker: its rounding is far below a latent's noise.
    """
    mean = vae.encode(to_tensor(rgb).to(vae.dtype)).latent_dist.mean.float()
    return (mean * vae.config.scaling_factor).numpy().astype(np.float16)


def write_shard(path: Path, seeds: range, close: float = 0.0) -> int:
    """Render the stages of `seeds` and write them to the folder `path` atomically; return how many pictures."""
    samples = [sample for seed in seeds for sample in make_samples(seed, close=close)]
    told = [{"stage": asdict(s.stage), "look": asdict(s.look), "object_seen": s.object_seen} for s in samples]
    arrays = {
        "rgb": np.stack([s.picture.rgb for s in samples]),
        "parts": np.stack([s.picture.parts for s in samples]),
        "depth": np.stack([(s.picture.depth * 255 + 0.5).astype(np.uint8) for s in samples]),
        "people": np.stack([s.picture.people[0] for s in samples]),
    }
    folder = path.with_suffix(".part")
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "told.json").write_text(json.dumps(told))
    folder.rename(path)
    return len(samples)


def encode_shard(path: Path, vae: AutoencoderKL) -> None:
    """Add the latents of its pictures to a shard, if they are not there yet."""
    target = path / "latents.npy"
    if not target.exists():
        rgb = np.load(path / "rgb.npy", mmap_mode="r")
        latents = [encode(vae, np.array(rgb[i : i + 8])) for i in range(0, len(rgb), 8)]
        part = path / "latents.part.npy"
        np.save(part, np.concatenate(latents))
        part.rename(target)


class Shards:
    """All shards of a folder as one sequence of samples, memory-mapped; `refresh` picks up newly written ones."""

    def __init__(self, folder: Path, *, latents: bool = True) -> None:
        """Open the shards of `folder`; with `latents` only those already encoded."""
        self.folder, self.latents = folder, latents
        self._names: list[str] = []
        self._arrays: list[dict[str, np.ndarray]] = []
        self._told: list[tuple[Stage, Look, bool]] = []
        self._where: list[tuple[int, int]] = []
        self.refresh()

    def refresh(self) -> None:
        """Add shards written since the last refresh."""
        for path in sorted(self.folder.glob("shard-*")):
            if path.suffix == ".part" or path.name in self._names:
                continue
            if self.latents and not (path / "latents.npy").exists():
                continue
            self._names.append(path.name)
            arrays = {k: np.load(path / f"{k}.npy", mmap_mode="r") for k in ("rgb", "parts", "depth", "people")}
            # Latents are read at every step, so they live in memory; the rest stays on disk.
            if self.latents:
                arrays["latents"] = np.load(path / "latents.npy")
            self._where += [(len(self._arrays), i) for i in range(len(arrays["rgb"]))]
            self._arrays.append(arrays)
            for row in json.loads((path / "told.json").read_text()):
                stage = Stage(**{k: tuple(v) if isinstance(v, list) else v for k, v in row["stage"].items()})
                self._told.append((stage, Look(**row["look"]), row["object_seen"]))

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._where)

    def backs(self) -> np.ndarray:
        """Return the indices of pictures whose figure is seen from behind."""
        return np.array([i for i, (stage, _, _) in enumerate(self._told) if abs(stage.yaw) > np.pi / 2])

    def __getitem__(self, index: int) -> SceneSample:
        """Return one sample."""
        shard, row = self._where[index]
        arrays = self._arrays[shard]
        picture = Picture(
            arrays["rgb"][row],
            arrays["parts"][row],
            arrays["depth"][row].astype(np.float32) / 255,
            (np.array(arrays["people"][row]),),
        )
        latent = arrays["latents"][row] if self.latents else None
        return SceneSample(picture, latent, *self._told[index])
