"""`python -m controlnext bench starter-video`: does the bundled video model move its reference along the poses?

Videos are generated for held-out clips (seeds that no training saw): the reference is the figure at another moment, the
control its poses. Frames are read back by the starter's own annotator. Beside the video model stand the image starter,
which draws frame by frame from the same noise with the reference's colours in the prompt, and the renders themselves.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from annotators.poses.skeleton import draw_skeleton
from annotators.starter.colours import describe_figure
from annotators.starter.net import bundled, read_batch
from controlnext.assets import STARTER
from controlnext.bench.quality.starter import GUIDANCE, STEPS, Colours, _one_thread, load_pipeline
from controlnext.method.families import FAMILIES
from controlnext.models.presets import load_presets
from controlnext.starter.world.motion import FPS, render_clip, sample_clip
from controlnext.starter.world.sheets import save_sheet
from controlnext.starter.world.world import Look, Picture

logger = logging.getLogger(__name__)
FRAMES, LATER = 24, 30  # frames of a video; the reference is this many frames after its first
KEPT = ("shirt", "trousers", "hair")
METHODS = ("video", "frames", "renders")
TITLES = {"video": "video starter", "frames": "image starter, frame by frame", "renders": "renders themselves"}


@dataclass(frozen=True)
class Task:
    """A held-out clip: what is asked for, and what it would look like."""

    seed: int
    reference: Image.Image
    truth: list[Picture]
    look: Look

    @property
    def poses(self) -> list[Image.Image]:
        """The control frames."""
        return [Image.fromarray(draw_skeleton(p.people, *p.rgb.shape[:2])) for p in self.truth]


def make_task(seed: int, frames: int = FRAMES) -> Task:
    """Render the held-out clip of a seed."""
    stages, look = sample_clip(seed, LATER)
    pictures = render_clip((*stages[:frames], stages[-1]), [look])[0]
    return Task(seed, Image.fromarray(pictures[-1].rgb), pictures[:-1], look)


@dataclass
class Tally:
    """Sums from which one column of the table is made."""

    joints_right: int = 0
    joints: int = 0
    colours: dict[str, list[bool]] = field(default_factory=lambda: {part: [] for part in KEPT})
    flicker: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add another tally's sums."""
        self.joints_right += other.joints_right
        self.joints += other.joints
        self.flicker += other.flicker
        self.seconds += other.seconds
        for part, right in other.colours.items():
            self.colours[part] += right

    def figures(self) -> dict[str, float]:
        """Return PCK@0.1, shares of frames with the reference's colours, mean background change, median seconds."""
        values = {"pose": self.joints_right / max(self.joints, 1), "flicker": float(np.mean(self.flicker))}
        values |= {part: float(np.mean(right)) for part, right in self.colours.items() if right}
        return values | ({"seconds": float(np.median(self.seconds))} if self.seconds else {})


def judge(task: Task, frames: np.ndarray, colours: Colours) -> Tally:
    """Read (F, S, S, 3) uint8 frames and compare them with what was asked."""
    tally = Tally()
    readings = [r for i in range(0, len(frames), 8) for r in read_batch(bundled(), frames[i : i + 8])]
    masks = [(p.parts >= 2) & (p.parts <= 8) for p in task.truth]
    for rgb, reading, truth, mask in zip(frames, readings, task.truth, masks, strict=True):
        rows, asked = mask.any(1).nonzero()[0], truth.people[0]
        visible = asked[:, 2] > 0.3
        if len(rows) and visible.any():
            found = reading.people[0] if reading.people else np.full_like(asked, 1e6)
            distance = np.linalg.norm(found[visible, :2] - asked[visible, :2], axis=1)
            tally.joints_right += int((distance <= 0.1 * (rows[-1] - rows[0] + 1)).sum())
            tally.joints += int(visible.sum())
        for part in KEPT:
            # What the render itself hardly shows, such as trousers below the picture, cannot be kept.
            if Colours.colour(truth.rgb, truth.parts, part) is not None:
                right = colours.right(rgb, reading.parts, part, getattr(task.look, part), task.look.sky)
                tally.colours[part].append(bool(right))
    for before, after, was, is_ in zip(frames, frames[1:], masks, masks[1:], strict=False):
        change = np.abs(after.astype(np.float32) - before).mean(-1) / 255
        tally.flicker.append(float(change[~(was | is_)].mean()))
    return tally


def video_road(assets: Path) -> Callable[[Task], np.ndarray]:
    """Load the video starter; return what makes a task's (F, S, S, 3) uint8 frames."""
    import torch

    from controlnext import ControlNeXtAdapter, StableVideoDiffusionControlNeXtPipeline

    pipeline = StableVideoDiffusionControlNeXtPipeline.from_pretrained(assets / "video" / "base", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_controlnext(ControlNeXtAdapter.from_pretrained(assets / "video" / "adapters" / "pose"))
    defaults, windows = load_presets()[0]["starter-video"].defaults, FAMILIES["starter-video"].video_defaults

    def run(task: Task) -> np.ndarray:
        frames = pipeline.stream(
            task.reference,
            control_image=task.poses,
            fps=FPS,
            window=windows["window"],
            overlap=windows["overlap"],
            shared_noise=windows["shared_noise"],
            num_inference_steps=defaults.num_inference_steps,
            min_guidance_scale=defaults.guidance_scale,
            max_guidance_scale=defaults.guidance_scale,
            generator=torch.Generator().manual_seed(task.seed),
        )
        return np.stack([np.array(frame) for frame in frames])

    return run


def frame_road(assets: Path) -> Callable[[Task], np.ndarray]:
    """Load the image starter; return what makes a task's frames one by one from the same noise and words."""
    import torch

    pipeline = load_pipeline(assets, "pose")

    def run(task: Task) -> np.ndarray:
        words, made = describe_figure(task.reference), []
        for pose in task.poses:
            with torch.inference_mode():
                made += pipeline(
                    words,
                    control_image=pose,
                    num_inference_steps=STEPS,
                    guidance_scale=GUIDANCE,
                    generator=torch.Generator().manual_seed(task.seed),
                ).images
        return np.stack([np.array(frame) for frame in made])

    return run


def run_method(assets: Path, method: str, seeds: Sequence[int], sheets: Path | None) -> dict[str, Any]:
    """Generate and judge the clips of some seeds; return the tally's fields."""
    roads: dict[str, Callable[[Path], Callable[[Task], np.ndarray]]] = {
        "video": video_road,
        "frames": frame_road,
        "renders": lambda assets: lambda task: np.stack([p.rgb for p in task.truth]),
    }
    road, colours, tally = roads[method](assets), Colours(), Tally()
    for index, seed in enumerate(seeds):
        task = make_task(seed)
        started = time.perf_counter()
        frames = road(task)
        if method != "renders" and index:  # the first also warms up
            tally.seconds.append(time.perf_counter() - started)
        tally.add(judge(task, frames, colours))
        if sheets and index < 4:
            shown = range(0, FRAMES, 3)
            rows = [[task.reference, *(p[i] for i in shown)] for p in (task.poses, list(frames))]
            save_sheet(sheets / f"{method}-{seed}.png", [*rows, [task.reference, *(task.truth[i].rgb for i in shown)]])
        logger.info("%s: %d of %d", method, index + 1, len(seeds))
    return vars(tally)


def table(results: dict[str, Any]) -> str:
    """Format results as a Markdown table."""
    runs = results["runs"]
    lines = ["| measure | bar | " + " | ".join(TITLES[m] for m in runs) + " |", "|---" * (2 + len(runs)) + "|"]
    rows = [
        ("pose: PCK@0.1 of figure height, over frames", ">= 0.85", "pose", "{:.3f}"),
        *((f"{part} colour of the reference kept, share of frames", ">= 0.95", part, "{:.3f}") for part in KEPT),
        ("background change between frames, % of white", "below frame by frame", "flicker", "{:.2%}"),
        (f"seconds for {FRAMES} frames, {results['threads']} thread a process", "<= 120", "seconds", "{:.0f}"),
    ]
    for label, bar, key, form in rows:
        cells = [form.format(run[key]).rstrip("%") if key in run else "" for run in runs.values()]
        lines.append(f"| {label} | {bar} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m controlnext bench starter-video", description=__doc__)
    parser.add_argument("--clips", type=int, default=40, help="held-out clips")
    parser.add_argument("--only", choices=METHODS, nargs="*", default=list(METHODS))
    parser.add_argument("--assets", type=Path, default=STARTER)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, one thread each")
    parser.add_argument("--sheets", type=Path, help="also write contact sheets to this folder")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    parts = [range(job, options.clips, options.jobs) for job in range(min(options.jobs, options.clips))]
    runs = {}
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), _one_thread) as pool:
        for method in options.only:
            started = [pool.submit(run_method, options.assets, method, seeds, options.sheets) for seeds in parts]
            tally = Tally()
            for run in started:
                tally.add(Tally(**run.result()))
            runs[method] = tally.figures()
    results = {"clips": options.clips, "frames": FRAMES, "runs": runs, "threads": 1}
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))  # noqa: T201 - the table is what the command is for
    return 0
