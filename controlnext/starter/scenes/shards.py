"""Shards: folders of rendered views with their shots, written once and read memory-mapped by every training."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controlnext.starter.scenes.captions import Sight, describe
from controlnext.starter.scenes.palette import PARTS
from controlnext.starter.scenes.shot import SIDE, SIZES, Shot, sample_shot
from controlnext.starter.scenes.view import View, mirrored, render

FIRST_TRAINING_SEED = 1_000_000
"""Shots below this seed are held out: no training ever sees them."""

VIEWS_PER_SHARD = 128
_CYCLE = (0, 1, 0, 2, 0, 3, 0, 4, 0, 0)  # sizes of consecutive shards: six in ten are square


@dataclass(frozen=True)
class Example:
    """A view to learn from, its shot, what is seen of it, and its latent (C, h, w) float16 if it was encoded."""

    view: View
    shot: Shot
    sight: Sight
    latent: np.ndarray | None = None

    def caption(self, rng: np.random.Generator | None = None) -> str:
        """Describe the view, in varying words if `rng` is given."""
        return describe(self.shot, self.sight, rng)


def sight_of(shot: Shot, view: View) -> Sight:
    """Measure what of a shot is seen: pixels of each part of each person, and of each thing."""
    people = []
    for index in range(len(shot.people)):
        counts = np.bincount(view.parts[view.owner == index], minlength=len(PARTS))
        people.append({PARTS[i]: int(n) for i, n in enumerate(counts) if n})
    items = [int((view.owner == len(shot.people) + n).sum()) for n in range(len(shot.items))]
    return Sight(tuple(people), tuple(items), view.rgb.shape[0] * view.rgb.shape[1])


def make_example(seed: int, size: tuple[int, int] | None = (SIDE, SIDE)) -> Example:
    """Render the shot of a seed, mirrored for every odd one."""
    shot = sample_shot(seed, size)
    view = render(shot)
    view = mirrored(view) if seed % 2 else view
    return Example(view, shot, sight_of(shot, view))


def _restored(kind: Any, value: Any) -> Any:  # noqa: ANN401 - any field of a shot
    """Build a value of a declared type from what JSON kept of it."""
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{f.name: _restored(hints[f.name], value[f.name]) for f in fields(kind)})
    if typing.get_origin(kind) in (tuple, types.GenericAlias) and isinstance(value, list):
        inner = typing.get_args(kind)
        return tuple(_restored(inner[0] if inner[-1] is Ellipsis else inner[i], v) for i, v in enumerate(value))
    return value


def restore_shot(data: dict[str, Any]) -> Shot:
    """Build a shot from the JSON object that a shard keeps of it."""
    return _restored(Shot, data)


def write_shard(folder: Path, index: int, count: int = VIEWS_PER_SHARD) -> bool:
    """Render shard `index` into `folder`, atomically; False where it was there already."""
    path = folder / f"shard-{index:05d}"
    if path.exists():
        return False
    size = SIZES[_CYCLE[index % len(_CYCLE)]]
    first = FIRST_TRAINING_SEED + index * VIEWS_PER_SHARD
    examples = [make_example(seed, size) for seed in range(first, first + count)]
    most = max(len(e.shot.people) for e in examples)

    def padded(arrays: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.concatenate([a, np.zeros((most - len(a), *a.shape[1:]), a.dtype)]) for a in arrays])

    arrays = {
        "rgb": np.stack([e.view.rgb for e in examples]),
        "parts": np.stack([e.view.parts for e in examples]),
        "depth": np.stack([(e.view.depth * 65535 + 0.5).astype(np.uint16) for e in examples]),
        "owner": np.stack([e.view.owner for e in examples]),
        "people": padded([e.view.people for e in examples]),
        "hands": padded([e.view.hands for e in examples]),
        "faces": padded([e.view.faces for e in examples]),
    }
    part = path.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(part / f"{name}.npy", array)
    rows = [{"shot": asdict(e.shot), "sight": asdict(e.sight)} for e in examples]
    (part / "shots.json").write_text(json.dumps(rows))
    part.rename(path)
    return True


class Archive:
    """All shards of a folder as one sequence of examples; `refresh` picks up newly written ones."""

    ARRAYS = ("rgb", "parts", "depth", "owner", "people", "hands", "faces")

    def __init__(self, folder: Path, *, latents: str = "") -> None:
        """Open the shards of `folder`; `latents` names the latents that must be there, e.g. `latents-16`."""
        self.folder, self.latents = folder, latents
        self._names: set[str] = set()
        self.shards: list[dict[str, np.ndarray]] = []
        self._rows: list[list[dict[str, Any]]] = []
        self._where: list[tuple[int, int]] = []
        self.by_size: dict[tuple[int, int], list[int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Add shards written since the last look."""
        for path in sorted(self.folder.glob("shard-?????")):
            if path.name in self._names or (self.latents and not (path / f"{self.latents}.npy").exists()):
                continue
            self._names.add(path.name)
            arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in self.ARRAYS}
            if self.latents:  # read at every step, so they live in memory
                arrays["latents"] = np.load(path / f"{self.latents}.npy")
            self._rows.append(json.loads((path / "shots.json").read_text()))
            first = len(self._where)
            self._where += [(len(self.shards), i) for i in range(len(arrays["rgb"]))]
            self.by_size.setdefault(arrays["rgb"].shape[1:3], []).extend(range(first, len(self._where)))
            self.shards.append(arrays)

    def __len__(self) -> int:
        """Return the number of views."""
        return len(self._where)

    def draw(self, rng: np.random.Generator, count: int) -> list[int]:
        """Draw the indices of `count` views of one size, sizes as often as there are views of them."""
        shares = np.array([len(v) for v in self.by_size.values()], float)
        of_size = list(self.by_size.values())[int(rng.choice(len(shares), p=shares / shares.sum()))]
        return [of_size[i] for i in rng.integers(0, len(of_size), count)]

    def array(self, name: str, index: int) -> np.ndarray:
        """Return one array of one view."""
        shard, row = self._where[index]
        return np.array(self.shards[shard][name][row])

    def __getitem__(self, index: int) -> Example:
        """Return one example."""
        shard, row = self._where[index]
        told = self._rows[shard][row]
        count = len(told["shot"]["people"])
        arrays = {name: np.array(self.shards[shard][name][row]) for name in self.ARRAYS}
        arrays["depth"] = arrays["depth"].astype(np.float32) / 65535
        for name in ("people", "hands", "faces"):
            arrays[name] = arrays[name][:count]
        sight = Sight(tuple(told["sight"]["people"]), tuple(told["sight"]["items"]), told["sight"]["pixels"])
        latent = self.shards[shard]["latents"][row] if self.latents else None
        return Example(View(**arrays), restore_shot(told["shot"]), sight, latent)
