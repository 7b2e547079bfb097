"""`python -m controlnext bench lora`: does control hold when a style LoRA is on, and what did the conflict meter say?

The same held-out scenes are drawn under one adapter with the same seeds, once without any LoRA and once with each, and read
back by the starter's own annotator. That annotator learned from plain renders and may misread a style, so the last column
reads the renders themselves after the style's own repainting: what control cannot be measured beyond.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from annotators.starter.net import bundled, read_batch
from controlnext.assets import STARTER
from controlnext.bench.quality.starter import BATCH, Tally, batches, generate, judge, load_pipeline
from controlnext.errors import ControlNeXtError
from controlnext.loras.conflicts import Conflicts
from controlnext.loras.library import LoraLibrary, load_loras
from controlnext.starter.train.dataset import Sample, make_samples
from controlnext.starter.world.conditions import CONDITIONS, condition
from controlnext.starter.world.sheets import save_sheet
from controlnext.starter.world.styles import STYLES, restyle

logger = logging.getLogger(__name__)
SHOWN = 8
"""Scenes on a contact sheet."""

MEASURES = {
    "pose": "PCK@0.1", "segmentation": "mean IoU", "depth": "rank correlation", "canny": "edge F1",
}  # fmt: skip
"""Kind of condition -> how its adherence is measured, as in `bench starter`."""


class BenchError(ControlNeXtError, RuntimeError):
    """What was to be measured is not there."""


def colour_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean CIELAB distance (CIE76) between pictures (..., H, W, 3) uint8; about 2 is just visible, 100 is black to white."""
    labs = [
        cv2.cvtColor(rgb.reshape(-1, 1, 3).astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
        for rgb in (first, second)
    ]
    return float(np.linalg.norm(labs[0] - labs[1], axis=1).mean())


def adherence(adapter: str, samples: Sequence[Sample], pictures: np.ndarray) -> float:
    """Read pictures (B, 256, 256, 3) back and return how well they follow their scenes, in [0, 1]; see `MEASURES`."""
    tally = Tally()
    for start, batch in zip(range(0, len(samples), BATCH), batches(samples), strict=True):
        drawn = pictures[start : start + len(batch)]
        for sample, rgb, reading in zip(batch, drawn, read_batch(bundled(), drawn), strict=True):
            judge(tally, sample, rgb, reading, None)
    return tally.figures()[adapter]


def draw(pipeline: Any, adapter: str, gamma: float, samples: Sequence[Sample], label: str) -> np.ndarray:  # noqa: ANN401 - importing its class here would load torch
    """Draw one picture for each scene with what is on the pipeline; the same seeds each time."""
    drawn = []
    for index, batch in enumerate(batches(samples)):
        drawn.append(generate(pipeline, adapter, gamma, batch, index * BATCH))
        logger.info("%s: %d of %d", label, index * BATCH + len(batch), len(samples))
    return np.concatenate(drawn)


def measure(
    assets: Path,
    adapter: str,
    samples: Sequence[Sample],
    *,
    gamma: float = 1.0,
    only: Sequence[str] = (),
    sheets: Path | None = None,
) -> dict[str, Any]:
    """Measure every LoRA of a starter folder, or those named, each alone at its own weight.

    Args:
        assets: folder with `base`, `adapters` and `loras`.
        adapter: kind of condition.
        samples: held-out scenes.
        gamma: control strength.
        only: names of LoRAs; empty takes all.
        sheets: folder for a contact sheet: conditions, no LoRA, then one row a LoRA.

    Returns:
        Plain data: what was measured, and a row for each LoRA.

    Raises:
        BenchError: there are no LoRAs, or none of that name.
    """
    found = {name: info for name, info in LoraLibrary([assets / "loras"]).scan().items() if not info.problem}
    if missing := [name for name in only if name not in found] or ([] if found else ["any LoRA"]):
        raise BenchError(
            f"{assets / 'loras'} does not hold {', '.join(missing)}; train it with controlnext.starter style."
        )
    renders = np.stack([sample.picture.rgb for sample in samples])
    pipeline, conflicts = load_pipeline(assets, adapter), Conflicts()
    plain = draw(pipeline, adapter, gamma, samples, "no LoRA")
    rows, lines = [], [[condition(adapter, sample.picture) for sample in samples[:SHOWN]], plain[:SHOWN]]
    without = adherence(adapter, samples, plain)
    for name in only or found:
        info = found[name]
        load_loras(pipeline, [(info, info.weight)])
        styled = draw(pipeline, adapter, gamma, samples, name)
        conflict = conflicts.measure(info.path, assets / "adapters" / adapter, assets / "base", weight=info.weight)
        row = {
            "lora": name,
            "weight": info.weight,
            "adherence": adherence(adapter, samples, styled),
            "distance": colour_distance(styled, plain),
            "conflict": conflict.row(),
        }
        if name in STYLES:
            repainted = np.stack([restyle(name, rgb) for rgb in renders])
            row["repainted"] = adherence(adapter, samples, repainted)
            row["repainted_distance"] = colour_distance(repainted, renders)
        rows.append(row)
        lines.append(styled[:SHOWN])
    if sheets:
        save_sheet(sheets / f"lora-{adapter}.png", lines)
    return {
        "adapter": adapter,
        "measure": MEASURES[adapter],
        "gamma": gamma,
        "scenes": len(samples),
        "without": without,
        "renders": adherence(adapter, samples, renders),
        "rows": rows,
    }


def table(results: dict[str, Any]) -> str:
    """Format results as a Markdown table."""
    lines = [
        f"{results['adapter']}, {results['measure']}, {results['scenes']} held-out scenes, gamma {results['gamma']:g}",
        "",
        f"| LoRA | weight | {results['measure']} | of the repainted renders | colour distance to no LoRA (repainting asks for) | "
        "conflict | norm ratio | cosine | adapter's layers touched |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| none | | {results['without']:.3f} | {results['renders']:.3f} | | | | | |",
    ]
    for row in results["rows"]:
        conflict, repainted = row["conflict"], row.get("repainted")
        told = conflict["word"] not in ("none", "unknown")
        numbers = f"{conflict['ratio']:.2f} | {conflict['cosine']:+.2f} | {conflict['share']:.0%}" if told else " | | "
        asked = "" if repainted is None else f" ({row['repainted_distance']:.1f})"
        lines.append(
            f"| {row['lora']} | {row['weight']:g} | {row['adherence']:.3f} | "
            f"{'' if repainted is None else f'{repainted:.3f}'} | {row['distance']:.1f}{asked} | {conflict['word']} | {numbers} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m controlnext bench lora",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenes", type=int, default=32, help="held-out scenes (default: 32)")
    parser.add_argument("--adapter", choices=CONDITIONS, default="pose", help="kind of control (default: pose)")
    parser.add_argument("--gamma", type=float, default=1.0, help="control strength (default: 1)")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="these LoRAs instead of all")
    parser.add_argument("--assets", type=Path, default=STARTER, help="folder of the starter")
    parser.add_argument("--sheets", type=Path, help="also write a contact sheet to this folder")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if options.scenes < 1:
        parser.error("--scenes must be 1 or more")
    samples = [make_samples(seed, 1)[0] for seed in range(options.scenes)]
    results = measure(
        options.assets, options.adapter, samples, gamma=options.gamma, only=options.only, sheets=options.sheets
    )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))  # noqa: T201 - the table is what the command is for
    return 0
