"""`python -m controlnext bench starter`: does the bundled model follow its control and its prompt?

Pictures are generated for held-out scenes (seeds that no training saw), read back by the starter's own annotator and
compared with what the world knows exactly. The same reading of the renders themselves is the ceiling of each number.
"""

import argparse
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from annotators.canny import find_edges
from annotators.starter.colours import MIN_PIXELS, ColourNames
from annotators.starter.net import PARTS, Reading, bundled, read_batch
from controlnext.adherence.score import depth_rank_correlation, edge_f1
from controlnext.assets import STARTER
from controlnext.starter.train.dataset import FIRST_TRAINING_SEED, Sample, make_samples
from controlnext.starter.world.colours import learn_colours
from controlnext.starter.world.conditions import CONDITIONS, condition
from controlnext.starter.world.sheets import save_sheet

logger = logging.getLogger(__name__)
STEPS, GUIDANCE, BATCH = 20, 3.0, 8


@dataclass
class Tally:
    """Sums from which one column of the table is made."""

    joints_right: int = 0
    joints: int = 0
    intersections: np.ndarray = field(default_factory=lambda: np.zeros(len(PARTS)))
    unions: np.ndarray = field(default_factory=lambda: np.zeros(len(PARTS)))
    asked: np.ndarray = field(default_factory=lambda: np.zeros(len(PARTS)))
    ranks: list[float] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)
    colours: dict[str, list[bool]] = field(default_factory=lambda: {"shirt": [], "trousers": [], "sky": []})

    def figures(self) -> dict[str, float]:
        """Return the measures: PCK@0.1, mean IoU over parts that occur, mean rank correlation, mean F1, colour shares."""
        occurring = self.asked > 0
        values = {
            "pose": self.joints_right / max(self.joints, 1),
            "segmentation": float((self.intersections / np.maximum(self.unions, 1))[occurring].mean()),
            "depth": float(np.mean(self.ranks)),
            "canny": float(np.mean(self.edges)),
        }
        return values | {name: float(np.mean(right)) for name, right in self.colours.items() if right}


class Colours(ColourNames):
    """Colour names learned from renders apart from the held-out ones."""

    def __init__(self, scenes: int = 120) -> None:
        """Render `scenes` scenes from beyond the training seeds and average the colour of each part under each sky."""
        seeds = range(2 * FIRST_TRAINING_SEED, 2 * FIRST_TRAINING_SEED + scenes)
        super().__init__(*learn_colours(sample for seed in seeds for sample in make_samples(seed, 6)))

    def right(self, rgb: np.ndarray, parts: np.ndarray, part: str, name: str, sky: str) -> bool | None:
        """Tell whether a part has the colour `name`; None where too little of it is seen."""
        found = self.name(rgb, parts, part, sky)
        return None if found is None else found == name


def judge(tally: Tally, sample: Sample, rgb: np.ndarray, reading: Reading, colours: Colours | None) -> None:
    """Add one picture (256, 256, 3) and what was read in it to a tally; without `colours` the prompt is left aside."""
    truth = sample.picture
    figure = np.isin(truth.parts, range(2, 9)).any(1).nonzero()[0]
    asked = truth.people[0]
    visible = asked[:, 2] > 0.3
    if len(figure) and visible.any():
        found = reading.people[0] if reading.people else np.full_like(asked, 1e6)
        distance = np.linalg.norm(found[visible, :2] - asked[visible, :2], axis=1)
        tally.joints_right += int((distance <= 0.1 * (figure[-1] - figure[0] + 1)).sum())
        tally.joints += int(visible.sum())
    for part in range(len(PARTS)):
        a, b = truth.parts == part, reading.parts == part
        tally.asked[part] += a.sum()
        tally.intersections[part] += (a & b).sum()
        tally.unions[part] += (a | b).sum()
    tally.ranks.append(depth_rank_correlation(truth.depth, reading.depth))
    edges = find_edges(np.ascontiguousarray(rgb)).map > 0
    tally.edges.append(edge_f1(condition("canny", truth)[..., 0] > 0, edges, 2.0))
    if colours is None:
        return
    for part, name in (("shirt", sample.look.shirt), ("trousers", sample.look.trousers), ("sky", sample.look.sky)):
        if (truth.parts == PARTS.index(part)).sum() >= MIN_PIXELS:
            right = colours.right(rgb, reading.parts, part, name, sample.look.sky)
            tally.colours[part].append(bool(right))


def batches(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """Cut scenes into what is drawn at once."""
    for start in range(0, len(samples), BATCH):
        yield samples[start : start + BATCH]


def generate(pipeline, name: str, gamma: float, samples: Sequence[Sample], first: int) -> np.ndarray:  # noqa: ANN001 - importing its class here would load torch
    """Draw one picture for each scene under its condition; seeds count from `first`. Returns (B, 256, 256, 3) uint8."""
    import torch
    from PIL import Image

    with torch.inference_mode():
        result = pipeline(
            [sample.caption() for sample in samples],
            control_image=[Image.fromarray(condition(name, sample.picture)) for sample in samples],
            gamma=gamma,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(first + i) for i in range(len(samples))],
            output_type="np",
        )
    return (result.images * 255 + 0.5).astype(np.uint8)


def run_control(
    assets: Path, name: str, gamma: float, samples: Sequence[Sample], colours: Colours, sheet: Path | None
) -> Tally:
    """Generate one picture for each scene under one control, read and judge it."""
    pipeline = load_pipeline(assets, name)
    tally, rows = Tally(), []
    for index, batch in enumerate(batches(samples)):
        pictures = generate(pipeline, name, gamma, batch, index * BATCH)
        for sample, rgb, reading in zip(batch, pictures, read_batch(bundled(), pictures), strict=True):
            judge(tally, sample, rgb, reading, colours)
        if index < 3:
            rows += [[condition(name, s.picture) for s in batch], pictures]
        logger.info("%s gamma %g: %d of %d", name, gamma, index * BATCH + len(batch), len(samples))
    if sheet:
        save_sheet(sheet / f"{name}-{gamma:g}.png", rows)
    return tally


def load_pipeline(assets: Path, name: str):  # noqa: ANN201 - importing the class here would load torch
    """Load the starter's pipeline with one adapter, float32."""
    import torch

    from controlnext import ControlNeXtAdapter, StableDiffusionControlNeXtPipeline

    pipeline = StableDiffusionControlNeXtPipeline.from_pretrained(
        assets / "base", dtype=torch.float32, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_controlnext(ControlNeXtAdapter.from_pretrained(assets / "adapters" / name, variant="starter"))
    return pipeline


def seconds_a_picture(assets: Path, sample: Sample, repeats: int = 3) -> float:
    """Return the median seconds of one controlled picture, the first (which warms up) left out."""
    pipeline, times = load_pipeline(assets, "pose"), []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        generate(pipeline, "pose", 1.0, [sample], 0)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]))


def render_ceiling(samples: Sequence[Sample], colours: Colours) -> Tally:
    """Judge the renders themselves: what is lost by reading alone."""
    tally = Tally()
    for batch in batches(samples):
        pictures = np.stack([s.picture.rgb for s in batch])
        for sample, rgb, reading in zip(batch, pictures, read_batch(bundled(), pictures), strict=True):
            judge(tally, sample, rgb, reading, colours)
    return tally


def table(results: dict) -> str:
    """Format results as a Markdown table."""
    ceiling, seconds = results["renders"], results["seconds"]
    lines = ["| measure | bar | controlled | gamma 0 | renders themselves |", "|---|---|---|---|---|"]

    def row(label: str, bar: str, measure: str, run: str) -> str:
        on, off = (results["runs"].get(f"{run} {gamma}", {}).get(measure) for gamma in ("1", "0"))
        show = lambda value: "" if value is None else f"{value:.3f}"  # noqa: E731
        return f"| {label} | {bar} | {show(on)} | {show(off)} | {show(ceiling[measure])} |"

    lines += [
        row("pose: PCK@0.1 of figure height", ">= 0.90 and >= 3x gamma 0", "pose", "pose"),
        row("segmentation: mean IoU over parts that occur", ">= 0.70", "segmentation", "segmentation"),
        row("depth: Spearman rank correlation", ">= 0.90", "depth", "depth"),
        row("canny: F1, 2 px tolerance", ">= 0.60 and >= 2x gamma 0", "canny", "canny"),
        *(
            row(f"prompt, under pose: {part} colour as written", ">= 0.90", part, "pose")
            for part in ("shirt", "trousers", "sky")
        ),
        f"| seconds a picture, {STEPS} steps, {results['threads']} threads | <= 8 | {seconds:.2f} | | |",
    ]
    return "\n".join(lines)


def _one_thread() -> None:
    """Prepare a worker: several processes of one thread are quicker than one of several."""
    import torch

    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m controlnext bench starter", description=__doc__)
    parser.add_argument("--scenes", type=int, default=200, help="held-out scenes")
    parser.add_argument("--only", choices=CONDITIONS, nargs="*", default=list(CONDITIONS))
    parser.add_argument("--assets", type=Path, default=STARTER, help="folder of the starter")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, one thread each")
    parser.add_argument("--sheets", type=Path, help="also write contact sheets to this folder")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    import torch

    samples = [make_samples(seed, 1)[0] for seed in range(options.scenes)]
    colours = Colours()
    # Only the bars that compare with gamma 0 need pictures at gamma 0.
    tasks = [(name, gamma) for name in options.only for gamma in ((1.0, 0.0) if name in ("pose", "canny") else (1.0,))]
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), _one_thread) as pool:
        started = [
            pool.submit(run_control, options.assets, name, gamma, samples, colours, options.sheets)
            for name, gamma in tasks
        ]
        runs = {f"{name} {gamma:g}": run.result().figures() for (name, gamma), run in zip(tasks, started, strict=True)}
    results = {
        "scenes": options.scenes,
        "runs": runs,
        "renders": render_ceiling(samples, colours).figures(),
        "seconds": seconds_a_picture(options.assets, samples[0]),
        "threads": torch.get_num_threads(),
    }
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))  # noqa: T201 - the table is what the command is for
    return 0
