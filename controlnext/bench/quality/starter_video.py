"""`python -m controlnext bench starter-video`: how well the bundled video model moves its reference along the poses of a clip.

Videos are made for held-out clips (seeds that no training has seen): the reference is the figure at another moment, the
control its poses. Frames are read back by the starter's own annotator. The video model is compared with the image starter,
which draws frame by frame from the same noise with the reference's colours in the prompt, and with the renders themselves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from annotators.poses.skeleton import draw_skeleton
from annotators.starter.colours import ColourNames, describe_figure
from annotators.starter.net import bundled, read_batch
from controlnext.assets import STARTER
from controlnext.bench.command import bench_parser, default_jobs, prepare_worker, publish, whole
from controlnext.bench.quality.scenes import GUIDANCE, STEPS, Colours, figure_mask, joints_right, load_pipeline
from controlnext.bench.tables import markdown
from controlnext.method.families import FAMILIES
from controlnext.models.presets import load_presets
from controlnext.starter.world.motion import FPS, render_clip, sample_clip
from controlnext.starter.world.sheets import save_sheet
from controlnext.starter.world.world import Look, Picture

logger = logging.getLogger(__name__)
FRAMES, LATER = 24, 30  # frames of a video; the reference is this many frames after its first
KEPT = ("shirt", "trousers", "hair")

Draw = Callable[["ClipTask"], np.ndarray]
"""Makes the (F, S, S, 3) uint8 frames of a task."""


@dataclass(frozen=True)
class ClipTask:
    """A held-out clip: what is asked for, and what it would look like."""

    seed: int
    reference: Image.Image
    truth: list[Picture]
    look: Look

    @property
    def poses(self) -> list[Image.Image]:
        """The control frames."""
        return [Image.fromarray(draw_skeleton(p.people, *p.rgb.shape[:2])) for p in self.truth]


def make_task(seed: int, frames: int = FRAMES) -> ClipTask:
    """Render the held-out clip of a seed."""
    stages, look = sample_clip(seed, LATER)
    pictures = render_clip((*stages[:frames], stages[-1]), [look])[0]
    return ClipTask(seed, Image.fromarray(pictures[-1].rgb), pictures[:-1], look)


@dataclass
class ClipTally:
    """Sums over judged clips."""

    joints_right: int = 0
    joints: int = 0
    colours: dict[str, list[bool]] = field(default_factory=lambda: {part: [] for part in KEPT})
    flicker: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, other: ClipTally) -> None:
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


def judge(task: ClipTask, frames: np.ndarray, colours: Colours) -> ClipTally:
    """Read (F, S, S, 3) uint8 frames and compare them with the task."""
    tally = ClipTally()
    readings = [r for i in range(0, len(frames), 8) for r in read_batch(bundled(), frames[i : i + 8])]
    masks = [figure_mask(picture.parts) for picture in task.truth]
    for rgb, reading, truth, mask in zip(frames, readings, task.truth, masks, strict=True):
        right, joints = joints_right(truth.people[0], reading.people, mask)
        tally.joints_right += right
        tally.joints += joints
        for part in KEPT:
            # A part that the render itself hardly shows, such as trousers below the picture, cannot be kept.
            if ColourNames.colour(truth.rgb, truth.parts, part) is not None:
                kept = colours.right(rgb, reading.parts, part, getattr(task.look, part), task.look.sky)
                tally.colours[part].append(bool(kept))
    for before, after, was, is_ in zip(frames, frames[1:], masks, masks[1:], strict=False):
        change = np.abs(after.astype(np.float32) - before).mean(-1) / 255
        tally.flicker.append(float(change[~(was | is_)].mean()))
    return tally


def video_starter(assets: Path, steps: int | None) -> Draw:
    """Load the video starter; it takes its usual steps, or so many."""
    import torch

    from controlnext import ControlNeXtAdapter, StableVideoDiffusionControlNeXtPipeline

    pipeline = StableVideoDiffusionControlNeXtPipeline.from_pretrained(assets / "video" / "base", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_controlnext(ControlNeXtAdapter.from_pretrained(assets / "video" / "adapters" / "pose"))
    defaults, windows = load_presets()[0]["starter-video"].defaults, FAMILIES["starter-video"].video_defaults

    def run(task: ClipTask) -> np.ndarray:
        frames = pipeline.stream(
            task.reference,
            control_image=task.poses,
            fps=FPS,
            window=windows["window"],
            overlap=windows["overlap"],
            shared_noise=windows["shared_noise"],
            num_inference_steps=steps or defaults.num_inference_steps,
            min_guidance_scale=defaults.guidance_scale,
            max_guidance_scale=defaults.guidance_scale,
            generator=torch.Generator().manual_seed(task.seed),
        )
        return np.stack([np.array(frame) for frame in frames])

    return run


def image_starter(assets: Path, _: int | None) -> Draw:
    """Load the image starter, which draws frames one by one from the same noise and words."""
    import torch

    pipeline = load_pipeline(assets, "pose")

    def run(task: ClipTask) -> np.ndarray:
        words, frames = describe_figure(task.reference), []
        for pose in task.poses:
            with torch.inference_mode():
                frames += pipeline(
                    words,
                    control_image=pose,
                    num_inference_steps=STEPS,
                    guidance_scale=GUIDANCE,
                    generator=torch.Generator().manual_seed(task.seed),
                ).images
        return np.stack([np.array(frame) for frame in frames])

    return run


def render_frames(assets: Path, _: int | None) -> Draw:
    """Return the renders themselves."""
    return lambda task: np.stack([picture.rgb for picture in task.truth])


METHODS: dict[str, tuple[str, Callable[[Path, int | None], Draw]]] = {
    "video": ("video starter", video_starter),
    "frames": ("image starter, frame by frame", image_starter),
    "renders": ("renders themselves", render_frames),
}
"""Name -> title and loader of what is compared."""


def run_method(
    assets: Path, method: str, seeds: Sequence[int], sheets: Path | None, steps: int | None = None
) -> ClipTally:
    """Make and judge the clips of some seeds."""
    draw, colours, tally = METHODS[method][1](assets, steps), Colours.learn(), ClipTally()
    for index, seed in enumerate(seeds):
        task = make_task(seed)
        started = time.perf_counter()
        frames = draw(task)
        if method != "renders" and index:  # the first also warms up
            tally.seconds.append(time.perf_counter() - started)
        tally.add(judge(task, frames, colours))
        if sheets and index < 4:
            shown = range(0, FRAMES, 3)
            rows = [[task.reference, *(p[i] for i in shown)] for p in (task.poses, list(frames))]
            save_sheet(sheets / f"{method}-{seed}.png", [*rows, [task.reference, *(task.truth[i].rgb for i in shown)]])
        logger.info("%s: %d of %d", method, index + 1, len(seeds))
    return tally


def table(results: Mapping[str, Any]) -> str:
    """Format the results as a Markdown table."""
    runs = results["runs"]
    measures = [
        ("pose: PCK@0.1 of figure height, over frames", ">= 0.85", "pose", "{:.3f}"),
        *((f"{part} colour of the reference kept, share of frames", ">= 0.95", part, "{:.3f}") for part in KEPT),
        ("background change between frames, % of white", "below frame by frame", "flicker", "{:.2%}"),
        (f"seconds for {FRAMES} frames, {results['threads']} thread a process", "<= 120", "seconds", "{:.0f}"),
    ]
    rows = [
        [label, bar, *(form.format(run[key]).rstrip("%") if key in run else None for run in runs.values())]
        for label, bar, key, form in measures
    ]
    return markdown(["measure", "bar", *(METHODS[name][0] for name in runs)], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit status."""
    parser = bench_parser("starter-video", __doc__, assets=STARTER, jobs=default_jobs(), sheets=None)
    parser.add_argument("--clips", type=whole(), default=40, help="held-out clips")
    parser.add_argument(
        "--steps", type=whole(), help="denoising steps of the video starter, instead of its usual ones"
    )
    parser.add_argument("--only", choices=METHODS, nargs="*", default=list(METHODS), help="these instead of all")
    options = parser.parse_args(arguments)
    prepare_worker()
    jobs = min(options.jobs, options.clips)
    runs = {}
    with ProcessPoolExecutor(jobs, get_context("spawn"), prepare_worker) as pool:
        for method in options.only:
            started = [
                pool.submit(
                    run_method, options.assets, method, range(job, options.clips, jobs), options.sheets, options.steps
                )
                for job in range(jobs)
            ]
            tally = ClipTally()
            for run in started:
                tally.add(run.result())
            runs[method] = tally.figures()
    results = {"clips": options.clips, "frames": FRAMES, "runs": runs, "threads": 1}
    return publish(options, results, table(results))
