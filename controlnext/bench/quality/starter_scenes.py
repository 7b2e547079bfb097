"""`python -m controlnext bench starter-scenes`: does a starter follow held-out scenes of people, framed as in photographs?

Pictures are generated under the pose of scenes that no training saw, with their captions. Joints are read by MediaPipe, which knows people
and drawings alike; parts by the starter's own reader; heads, half figures and pictures of two are counted apart. The same reading of
the renders is the ceiling.
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from annotators.canny import find_edges
from controlnext.adherence.score import edge_f1, pose_pck
from controlnext.assets import STARTER
from controlnext.bench.command import bench_parser, log_progress, prepare_worker, publish
from controlnext.bench.quality.people import ENOUGH, PersonReader, count_heads, each_followed, same_colour, shown
from controlnext.bench.tables import markdown
from controlnext.starter.scenes.palette import PARTS
from controlnext.starter.scenes.shot import FRAMINGS

if TYPE_CHECKING:
    from controlnext.starter.scenes.shards import Example

logger = logging.getLogger(__name__)
STEPS, GUIDANCE, BATCH = 20, 3.0, 4
Sums = dict[str, list[float]]
_BARS = {
    "pose": ">= 0.93",
    "pose, head": ">= 0.9",
    "pose, bust": ">= 0.9",
    "one head": ">= 0.99",
    "two followed": ">= 0.85",
    "hair colour": ">= 0.97",
    "shirt colour": ">= 0.97",
    "coat colour": ">= 0.97",
    "trousers colour": ">= 0.97",
    "canny": ">= 0.88",
}


def judge(sums: Sums, example: Example, rgb: np.ndarray, reader: PersonReader) -> None:
    """Add one picture (H, W, 3) uint8, made for an example, to the sums."""
    asked, found = shown(example.view.people), reader.people(rgb)
    if len(asked):
        value = pose_pck(list(asked), found)
        sums["pose"].append(value)
        sums[f"pose, {example.shot.framing}"].append(value)
    parts = reader.parts(rgb)
    if len(example.shot.people) == 1 and example.sight.sees(0, "face", 0.004):
        sums["one head"].append(float(count_heads(parts, reader.names) == 1))
    if len(asked) == 2:
        sums["two followed"].append(float(each_followed(asked, found)))
    for name in ("hair", "shirt", "coat", "trousers"):
        if name not in reader.names or len(example.shot.people) > 1:
            continue
        truth = example.view.parts == PARTS.index(name)
        right = same_colour(example.view.rgb, rgb, truth, parts == reader.names.index(name))
        if truth.sum() >= ENOUGH:
            sums[f"{name} colour"].append(float(bool(right)))


def run(options: argparse.Namespace) -> dict[str, Sums]:
    """Generate, read and judge; return the sums of the pictures made and of the renders."""
    import torch
    from PIL import Image

    from controlnext.bench.quality.starter import load_pipeline
    from controlnext.starter.scenes.conditions import condition_of
    from controlnext.starter.scenes.shards import make_example

    reader, rows = PersonReader.of(options.assets), []
    examples = [make_example(seed) for seed in range(options.scenes)]
    made, renders = defaultdict(list), defaultdict(list)
    for example in examples:
        judge(renders, example, example.view.rgb, reader)
    for kind in ("pose", "canny"):
        pipeline = load_pipeline(options.assets, kind)
        for first in range(0, len(examples), BATCH):
            batch = examples[first : first + BATCH]
            conditions = [condition_of(kind, e.view) for e in batch]
            with torch.inference_mode():
                images = pipeline(
                    [e.caption() for e in batch],
                    control_image=[Image.fromarray(c) for c in conditions],
                    num_inference_steps=STEPS,
                    guidance_scale=GUIDANCE,
                    generator=[torch.Generator().manual_seed(first + i) for i in range(len(batch))],
                    output_type="np",
                ).images
            pictures = (images * 255 + 0.5).astype(np.uint8)
            for example, asked, rgb in zip(batch, conditions, pictures, strict=True):
                if kind == "pose":
                    judge(made, example, rgb, reader)
                else:
                    edges = find_edges(np.ascontiguousarray(rgb)).map > 0
                    made["canny"].append(edge_f1(asked[..., 0] > 0, edges))
            rows += [conditions, pictures, [e.view.rgb for e in batch]] if first < 16 else []
            logger.info("%s: %d of %d", kind, first + len(batch), len(examples))
    if options.sheets:
        from controlnext.starter.world.sheets import save_sheet

        save_sheet(options.sheets / "scenes.png", rows)
    return {"made": made, "renders": renders}


def table(sums: dict[str, Sums]) -> str:
    """Format the means as Markdown."""
    names = ["pose", *(f"pose, {framing}" for framing in FRAMINGS), "one head", "two followed", "canny"]
    names += [f"{name} colour" for name in ("hair", "shirt", "coat", "trousers")]
    mean = lambda values: f"{np.mean(values):.3f}" if values else None  # noqa: E731
    rows = [
        (
            name,
            _BARS.get(name, ""),
            mean(sums["made"].get(name)),
            mean(sums["renders"].get(name)),
            len(sums["made"].get(name) or ()),
        )
        for name in names
    ]
    return markdown(("measure", "bar", "made", "renders", "pictures"), rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    parser = bench_parser("starter-scenes", __doc__, scenes=200, assets=STARTER, sheets=None)
    options = parser.parse_args(argv)
    log_progress()
    prepare_worker()
    sums = run(options)
    means = {column: {name: float(np.mean(v)) for name, v in values.items() if v} for column, values in sums.items()}
    return publish(options, {"scenes": options.scenes, **means}, table(sums))
