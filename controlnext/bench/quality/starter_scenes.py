"""`python -m controlnext bench starter-scenes`: does a starter follow held-out scenes of people, framed as in photographs?

Pictures are generated under the conditions of scenes that no training saw, with their captions. MediaPipe, which knows people and
drawings alike, reads the joints; the starter's own reader reads parts and depth. Framings and pictures of two people are measured
separately. The same reading of the renders is the ceiling, and that of what the autoencoder makes of them the ceiling of the model.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from annotators.canny import find_edges
from controlnext.adherence.score import depth_rank_correlation, edge_f1, pose_pck
from controlnext.assets import STARTER
from controlnext.bench.command import bench_parser, log_progress, prepare_worker, publish, whole
from controlnext.bench.quality.people import ENOUGH, PersonReader, count_heads, each_followed, same_colour, shown
from controlnext.bench.tables import markdown, number
from controlnext.starter.scenes.palette import PARTS
from controlnext.starter.scenes.shot import FRAMINGS

if TYPE_CHECKING:
    from pathlib import Path

    from controlnext.starter.scenes.shards import Example

logger = logging.getLogger(__name__)
STEPS, GUIDANCE, BATCH = 20, 3.0, 4
KINDS = ("pose", "canny", "depth", "segmentation")
COLOURED = ("hair", "shirt", "coat", "trousers")
"""Parts whose colour is compared with the render's."""

_BARS = {
    "pose": ">= 0.93",
    "pose, head": ">= 0.9",
    "pose, bust": ">= 0.9",
    "one head": ">= 0.99",
    "two followed": ">= 0.85",
    "canny": ">= 0.88",
    "depth": ">= 0.96",
    "segmentation": ">= 0.85",
    **{f"{part} colour": ">= 0.97" for part in COLOURED},
}
_FIDELITY = {"PSNR, dB": ">= 33", "PSNR of heads, dB": ">= 29"}
_MEASURES = {"canny": "canny, F1", "depth": "depth, rank correlation", "segmentation": "segmentation, mean IoU"}


@dataclass
class PeopleTally:
    """What was measured of some pictures: values by the name of a measure, and pixels of parts in both maps and in either."""

    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    overlap: np.ndarray = field(default_factory=lambda: np.zeros((3, len(PARTS))))

    def figures(self) -> dict[str, float]:
        """Return the mean of each measure; `segmentation` is the mean IoU over parts that occur."""
        found = {name: float(np.mean(values)) for name, values in self.values.items() if values}
        both, either, asked = self.overlap
        if asked.any():
            found["segmentation"] = float((both / np.maximum(either, 1))[asked > 0].mean())
        return found

    def compare_parts(self, truth: np.ndarray, found: np.ndarray) -> None:
        """Add two maps of parts (H, W)."""
        for part in range(len(PARTS)):
            a, b = truth == part, found == part
            self.overlap[:, part] += (a & b).sum(), (a | b).sum(), a.sum()


def judge_people(
    tally: PeopleTally, example: Example, rgb: np.ndarray, parts: np.ndarray, reader: PersonReader
) -> None:
    """Judge joints, heads and colours of one picture.

    Args:
        tally: gets the values.
        example: the scene that the picture was made for.
        rgb: (H, W, 3) uint8.
        parts: (H, W) parts that were read in it.
        reader: finds the people.
    """
    asked, found = shown(example.view.people), reader.people(rgb)
    if len(asked):
        value = pose_pck(list(asked), found)
        tally.values["pose"].append(value)
        tally.values[f"pose, {example.shot.framing}"].append(value)
    if len(example.shot.people) == 1 and example.sight.sees(0, "face", 0.004):
        tally.values["one head"].append(float(count_heads(parts, reader.names) == 1))
    if len(asked) == 2:
        tally.values["two followed"].append(float(each_followed(asked, found)))
    for name in COLOURED if len(example.shot.people) == 1 else ():
        truth = example.view.parts == PARTS.index(name)
        if name in reader.names and truth.sum() >= ENOUGH:
            right = same_colour(example.view.rgb, rgb, truth, parts == reader.names.index(name))
            tally.values[f"{name} colour"].append(float(bool(right)))


def judge(
    tally: PeopleTally, example: Example, rgb: np.ndarray, reader: PersonReader, kinds: Sequence[str] = KINDS
) -> None:
    """Add one picture (H, W, 3) uint8, made for an example under conditions of `kinds`, to a tally."""
    view, reading = example.view, reader.read(rgb)
    if "pose" in kinds:
        judge_people(tally, example, rgb, reading.parts, reader)
    if "canny" in kinds:
        edges = [find_edges(np.ascontiguousarray(picture)).map > 0 for picture in (view.rgb, rgb)]
        tally.values["canny"].append(edge_f1(*edges))
    if "depth" in kinds:
        tally.values["depth"].append(depth_rank_correlation(view.depth, reading.depth))
    if "segmentation" in kinds and reader.names == PARTS:
        tally.compare_parts(view.parts, reading.parts)


def batches(examples: Sequence[Example]) -> Iterator[tuple[int, Sequence[Example]]]:
    """Yield the scenes that are generated together, each time with the number of the first one."""
    for first in range(0, len(examples), BATCH):
        yield first, examples[first : first + BATCH]


def ceilings(
    assets: Path, examples: Sequence[Example], reader: PersonReader, kinds: Sequence[str]
) -> tuple[PeopleTally, PeopleTally]:
    """Judge renders, and what the autoencoder of the starter in `assets` makes of them."""
    import torch
    from diffusers import AutoencoderKL

    from controlnext.starter.remake.autoencoder import decibels, reconstruct

    vae = AutoencoderKL.from_pretrained(assets / "base" / "vae", dtype=torch.float32)
    renders, restored = PeopleTally(), PeopleTally()
    for example in examples:
        judge(renders, example, example.view.rgb, reader, kinds)
        rgb = reconstruct(vae, example.view.rgb)
        judge(restored, example, rgb, reader, kinds)
        for name, value in zip(_FIDELITY, decibels(example, rgb), strict=True):
            restored.values[name] += [] if value is None else [value]
    return renders, restored


def run(options: argparse.Namespace) -> dict[str, PeopleTally]:
    """Generate, read and judge; return the tallies of the pictures made, of those only encoded and decoded, and of the renders."""
    import torch
    from PIL import Image

    from controlnext.bench.quality.scenes import load_pipeline, own_side
    from controlnext.starter.scenes.conditions import condition_of
    from controlnext.starter.scenes.shards import make_example

    reader, rows, seconds = PersonReader.of(options.assets), [], []
    side = options.side or own_side(options.assets)
    examples = [make_example(seed, (side, side)) for seed in range(options.scenes)]
    made = PeopleTally()
    renders, restored = ceilings(options.assets, examples, reader, options.only)
    for kind in () if options.ceilings else options.only:
        pipeline = load_pipeline(options.assets, kind)
        for first, batch in batches(examples):
            conditions, started = [condition_of(kind, e.view) for e in batch], time.process_time()
            with torch.inference_mode():
                images = pipeline(
                    [e.caption() for e in batch],
                    control_image=[Image.fromarray(c) for c in conditions],
                    num_inference_steps=STEPS,
                    guidance_scale=GUIDANCE,
                    generator=[torch.Generator().manual_seed(first + i) for i in range(len(batch))],
                    output_type="np",
                ).images
            seconds.append((time.process_time() - started) / len(batch))
            pictures = (images * 255 + 0.5).astype(np.uint8)
            for example, rgb in zip(batch, pictures, strict=True):
                judge(made, example, rgb, reader, (kind,))
            rows += [conditions, pictures, [e.view.rgb for e in batch]] if first < 4 * BATCH else []
            logger.info("%s: %d of %d", kind, first + len(batch), len(examples))
    made.values["seconds"] = [float(np.median(seconds))] if seconds else []
    if options.sheets and rows:
        from controlnext.starter.world.sheets import save_sheet

        save_sheet(options.sheets / "scenes.png", rows)
    return {"made": made, "autoencoder": restored, "renders": renders}


def table(tallies: dict[str, PeopleTally]) -> str:
    """Format the means as Markdown."""
    names = ["pose", *(f"pose, {framing}" for framing in FRAMINGS), "one head", "two followed", *KINDS[1:]]
    names += [*(f"{name} colour" for name in COLOURED), *_FIDELITY]
    columns = [tally.figures() for tally in tallies.values()]
    counts = {name: len(values) for tally in tallies.values() for name, values in tally.values.items()}
    bars = _BARS | _FIDELITY
    rows = [
        (
            _MEASURES.get(name, name),
            bars.get(name, ""),
            *(number(column.get(name)) for column in columns),
            counts.get(name),
        )
        for name in names
    ]
    seconds = [number(column.get("seconds")) for column in columns]
    rows.append((f"CPU seconds a picture, {STEPS} steps", "", *seconds, None))
    return markdown(("measure", "bar", *tallies, "pictures"), rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    parser = bench_parser("starter-scenes", __doc__, scenes=200, assets=STARTER, sheets=None)
    parser.add_argument("--only", choices=KINDS, nargs="*", default=list(KINDS), help="these conditions")
    parser.add_argument(
        "--ceilings", action="store_true", help="generate nothing, read renders and the autoencoder's alone"
    )
    parser.add_argument(
        "--side", type=whole(), help="width and height of the pictures (default: what the base learned)"
    )
    options = parser.parse_args(argv)
    log_progress()
    prepare_worker()
    tallies = run(options)
    figures = {column: tally.figures() for column, tally in tallies.items()}
    return publish(options, {"scenes": options.scenes, **figures}, table(tallies))
