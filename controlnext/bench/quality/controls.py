"""`python -m controlnext bench controls`: do two controls at once follow both conditions?

Pictures of held-out scenes are drawn under each control alone and under all together, each read back and judged by every
control's own measure, as in `bench starter`. What a control does to a measure it was not asked for stands there too: it is
what the other control has to add to.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from annotators.starter.net import bundled, read_batch
from controlnext.assets import STARTER
from controlnext.bench.quality.starter import BATCH, GUIDANCE, STEPS, Tally, batches, judge
from controlnext.starter.train.dataset import Sample, make_samples
from controlnext.starter.world.conditions import CONDITIONS, condition

logger = logging.getLogger(__name__)

MEASURES = {
    "pose": "PCK@0.1",
    "depth": "rank correlation",
    "canny": "edge F1",
    "segmentation": "mean IoU",
}
TOGETHER = "together"
RENDERS = "the renders themselves"


def run_controls(pipeline, names: Sequence[str], gamma: float, samples: Sequence[Sample]) -> dict[str, float]:  # noqa: ANN001 - importing its class here would load torch
    """Draw one picture for each scene under some of the loaded controls, and judge them by all measures.

    Args:
        pipeline: with adapters loaded by the names of their conditions.
        names: those that act; the others are off.
        gamma: strength of each.
        samples: scenes.

    Returns:
        Measure by kind of condition.
    """
    import torch
    from PIL import Image

    tally = Tally()
    for index, batch in enumerate(batches(samples)):
        images = [
            [Image.fromarray(condition(name, sample.picture)) for sample in batch] if name in names else None
            for name in pipeline.controlnexts
        ]
        with torch.inference_mode():
            result = pipeline(
                [sample.caption() for sample in batch],
                control_image=images if len(images) > 1 else images[0],
                gamma=gamma,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=[torch.Generator().manual_seed(index * BATCH + number) for number in range(len(batch))],
                output_type="np",
            )
        _read(tally, batch, (result.images * 255 + 0.5).astype(np.uint8))
        logger.info("%s: %d of %d", " and ".join(names), index * BATCH + len(batch), len(samples))
    return tally.figures()


def renders(samples: Sequence[Sample]) -> dict[str, float]:
    """Judge the renders: what is lost by reading alone."""
    tally = Tally()
    for batch in batches(samples):
        _read(tally, batch, np.stack([sample.picture.rgb for sample in batch]))
    return tally.figures()


def _read(tally: Tally, batch: Sequence[Sample], pictures: np.ndarray) -> None:
    for sample, rgb, reading in zip(batch, pictures, read_batch(bundled(), pictures), strict=True):
        judge(tally, sample, rgb, reading, None)


def load(assets: Path, names: Sequence[str]):  # noqa: ANN201 - importing the class here would load torch
    """Load the starter's pipeline with several adapters, float32."""
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


def table(runs: dict[str, dict[str, float]], names: Sequence[str]) -> str:
    """Format the measures of each run as a Markdown table; a measure nobody asked for is in brackets."""
    heads = [f"{name}: {MEASURES[name]}" for name in names]
    lines = [f"| control | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for run, figures in runs.items():
        asked = (run,) if run in names else names
        cells = [f"{figures[name]:.3f}" if name in asked else f"({figures[name]:.3f})" for name in names]
        lines.append(f"| {run} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m controlnext bench controls", description=__doc__)
    parser.add_argument("--scenes", type=int, default=32, help="held-out scenes")
    parser.add_argument("--controls", choices=CONDITIONS, nargs="+", default=["pose", "depth"], help="two or three")
    parser.add_argument("--gamma", type=float, default=1.0, help="strength of each control")
    parser.add_argument("--assets", type=Path, default=STARTER, help="folder of the starter")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(argv)
    names = list(dict.fromkeys(options.controls))
    if not 2 <= len(names) <= 3 or options.scenes < 1:
        parser.error("give two or three different controls, and at least one scene")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")

    samples = [make_samples(seed, 1)[0] for seed in range(options.scenes)]
    pipeline = load(options.assets, names)
    runs = {name: run_controls(pipeline, [name], options.gamma, samples) for name in names}
    runs[TOGETHER] = run_controls(pipeline, names, options.gamma, samples)
    runs[RENDERS] = renders(samples)
    if options.json:
        figures = {run: {name: values[name] for name in names} for run, values in runs.items()}
        facts = {"scenes": options.scenes, "gamma": options.gamma, "steps": STEPS, "runs": figures}
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(table(runs, names))  # noqa: T201 - the table is what the command is for
    return 0
