"""Held-out scenes of the starter: drawn under control, read back by the starter's own annotator and judged."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from annotators.canny import find_edges
from annotators.starter.colours import MIN_PIXELS, ColourNames
from annotators.starter.net import PARTS, SceneReading, bundled, read_batch
from controlnext.adherence.score import depth_rank_correlation, edge_f1
from controlnext.starter.train.dataset import FIRST_TRAINING_SEED, SceneSample, make_samples
from controlnext.starter.world.colours import learn_colours
from controlnext.starter.world.conditions import condition

if TYPE_CHECKING:
    from controlnext import StableDiffusionControlNeXtPipeline

logger = logging.getLogger(__name__)
STEPS, GUIDANCE, BATCH = 20, 3.0, 8
COLOURED = ("shirt", "trousers", "sky")
"""What a prompt gives a colour."""
SHOWN = 8
"""Scenes on a contact sheet."""
UNSEEN_SEED = 2 * FIRST_TRAINING_SEED
"""First seed of scenes that are neither held out nor trained on."""


@dataclass
class SceneTally:
    """Sums over judged pictures."""

    joints_right: int = 0
    joints: int = 0
    intersections: np.ndarray = field(default_factory=lambda: np.zeros(len(PARTS)))
    unions: np.ndarray = field(default_factory=lambda: np.zeros(len(PARTS)))
    asked: np.ndarray = field(default_factory=lambda: np.zeros(len(PARTS)))
    ranks: list[float] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)
    colours: dict[str, list[bool]] = field(default_factory=lambda: {part: [] for part in COLOURED})

    def figures(self) -> dict[str, float]:
        """Return PCK@0.1, mean IoU over parts that occur, mean rank correlation, mean F1, shares of right colours."""
        occurring = self.asked > 0
        values = {
            "pose": self.joints_right / max(self.joints, 1),
            "segmentation": float((self.intersections / np.maximum(self.unions, 1))[occurring].mean()),
            "depth": float(np.mean(self.ranks)),
            "canny": float(np.mean(self.edges)),
        }
        return values | {name: float(np.mean(right)) for name, right in self.colours.items() if right}


class Colours(ColourNames):
    """Colour names learned from renders."""

    @classmethod
    def learn(cls, samples: Sequence[SceneSample] | None = None, scenes: int = 120) -> Colours:
        """Average the colour of each part under each sky.

        Args:
            samples: renders; None renders unseen scenes, six looks each.
            scenes: how many of those.
        """
        return cls(*learn_colours(unseen_scenes(scenes) if samples is None else samples))

    def right(self, rgb: np.ndarray, parts: np.ndarray, part: str, name: str, sky: str) -> bool | None:
        """Return whether a part has the colour `name`; None where too little of it is seen."""
        found = self.name(rgb, parts, part, sky)
        return None if found is None else found == name


def held_out_scenes(count: int) -> list[SceneSample]:
    """Render the first scenes that no training has seen."""
    return [make_samples(seed, 1)[0] for seed in range(count)]


def unseen_scenes(count: int, looks: int = 6) -> list[SceneSample]:
    """Render scenes that are neither held out nor trained on, in several looks each."""
    return [sample for seed in range(UNSEEN_SEED, UNSEEN_SEED + count) for sample in make_samples(seed, looks)]


def joints_right(asked: np.ndarray, found: Sequence[np.ndarray], figure: np.ndarray) -> tuple[int, int]:
    """Count joints within a tenth of the figure's height.

    Args:
        asked: (18, 3) joints of the scene: x, y in pixels, confidence.
        found: people read in the picture; the first counts.
        figure: (H, W) bool, where the scene shows the figure.

    Returns:
        Joints that are right, and joints that were asked for.
    """
    rows, visible = figure.any(1).nonzero()[0], asked[:, 2] > 0.3
    if not len(rows) or not visible.any():
        return 0, 0
    first = found[0] if found else np.full_like(asked, 1e6)
    distance = np.linalg.norm(first[visible, :2] - asked[visible, :2], axis=1)
    return int((distance <= 0.1 * (rows[-1] - rows[0] + 1)).sum()), int(visible.sum())


def figure_mask(parts: np.ndarray) -> np.ndarray:
    """Return where a parts map (H, W) shows the figure."""
    return (parts >= 2) & (parts <= 8)


def judge(
    tally: SceneTally, sample: SceneSample, rgb: np.ndarray, reading: SceneReading, colours: Colours | None
) -> None:
    """Add one picture (256, 256, 3) and its reading to a tally; without `colours` the prompt is not judged."""
    truth = sample.picture
    right, joints = joints_right(truth.people[0], reading.people, figure_mask(truth.parts))
    tally.joints_right += right
    tally.joints += joints
    for part in range(len(PARTS)):
        a, b = truth.parts == part, reading.parts == part
        tally.asked[part] += a.sum()
        tally.intersections[part] += (a & b).sum()
        tally.unions[part] += (a | b).sum()
    tally.ranks.append(depth_rank_correlation(truth.depth, reading.depth))
    edges = find_edges(np.ascontiguousarray(rgb)).map > 0
    tally.edges.append(edge_f1(condition("canny", truth)[..., 0] > 0, edges, 2.0))
    for part in COLOURED if colours is not None else ():
        if (truth.parts == PARTS.index(part)).sum() >= MIN_PIXELS:
            right = colours.right(rgb, reading.parts, part, getattr(sample.look, part), sample.look.sky)
            tally.colours[part].append(bool(right))


def judge_all(
    samples: Sequence[SceneSample], pictures: np.ndarray, colours: Colours | None = None
) -> dict[str, float]:
    """Read pictures (B, 256, 256, 3) back and judge each by its scene; see `SceneTally.figures`."""
    tally = SceneTally()
    for start, batch in batches(samples):
        drawn = pictures[start : start + len(batch)]
        for sample, rgb, reading in zip(batch, drawn, read_batch(bundled(), drawn), strict=True):
            judge(tally, sample, rgb, reading, colours)
    return tally.figures()


def renders(samples: Sequence[SceneSample]) -> np.ndarray:
    """Return the scenes' own pictures (B, 256, 256, 3): judged, they show what reading alone loses."""
    return np.stack([sample.picture.rgb for sample in samples])


def batches(samples: Sequence[SceneSample]) -> Iterator[tuple[int, Sequence[SceneSample]]]:
    """Yield the scenes that are drawn together, each with the number of its first."""
    for start in range(0, len(samples), BATCH):
        yield start, samples[start : start + BATCH]


def draw(
    pipeline: StableDiffusionControlNeXtPipeline, names: str | Sequence[str], gamma: float,
    samples: Sequence[SceneSample], label: str = "", steps: int = STEPS, guidance: float = GUIDANCE,
) -> np.ndarray:  # fmt: skip
    """Draw one picture a scene; the seed of a picture is the number of its scene.

    Args:
        pipeline: with adapters loaded by the names of their conditions.
        names: those that act; the others are off.
        gamma: control strength.
        samples: scenes.
        label: for the log; empty logs nothing.
        steps: denoising steps.
        guidance: weight of the prompt.

    Returns:
        Pictures (B, 256, 256, 3) uint8.
    """
    import torch

    acting, drawn = [names] if isinstance(names, str) else names, []
    for start, batch in batches(samples):
        images = [
            [Image.fromarray(condition(name, sample.picture)) for sample in batch] if name in acting else None
            for name in pipeline.controlnexts
        ]
        with torch.inference_mode():
            result = pipeline(
                [sample.caption() for sample in batch],
                control_image=images if len(images) > 1 else images[0],
                gamma=gamma,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator().manual_seed(start + number) for number in range(len(batch))],
                output_type="np",
            )
        drawn.append((result.images * 255 + 0.5).astype(np.uint8))
        if label:
            logger.info("%s: %d of %d", label, start + len(batch), len(samples))
    return np.concatenate(drawn)


def own_side(assets: Path) -> int:
    """Return the width and height in pixels that the base in a starter's folder learned to draw."""
    return 8 * json.loads((assets / "base" / "unet" / "config.json").read_text())["sample_size"]


def load_pipeline(assets: Path, *names: str) -> StableDiffusionControlNeXtPipeline:
    """Load the starter's pipeline with the adapters of some conditions, float32."""
    import torch

    from controlnext import ControlNeXtAdapter, StableDiffusionControlNeXtPipeline

    pipeline = StableDiffusionControlNeXtPipeline.from_pretrained(
        assets / "base", dtype=torch.float32, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    for name in names:
        adapter = ControlNeXtAdapter.from_pretrained(assets / "adapters" / name, variant="starter")
        pipeline.load_controlnext(adapter, name)
    return pipeline
