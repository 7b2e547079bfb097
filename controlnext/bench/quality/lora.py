"""`python -m controlnext bench lora`: whether control holds under each style LoRA, and what the conflict meter says.

The same held-out scenes are drawn under one adapter with the same seeds, once without a LoRA and once with each, and read
back by the starter's own annotator. That annotator learned from plain renders and may misread a style, so one column reads
the renders themselves after the style's own repainting: control cannot be measured beyond that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from controlnext.assets import STARTER
from controlnext.bench.command import BenchError, bench_parser, log_progress, publish
from controlnext.bench.quality.scenes import SHOWN, draw, held_out_scenes, judge_all, load_pipeline, renders
from controlnext.bench.tables import NOTHING, markdown, number
from controlnext.loras.conflicts import Conflicts
from controlnext.loras.library import LoraLibrary, load_loras
from controlnext.recipes.kinds import KINDS
from controlnext.starter.train.dataset import SceneSample
from controlnext.starter.world.conditions import CONDITIONS, condition
from controlnext.starter.world.sheets import save_sheet
from controlnext.starter.world.styles import STYLES, restyle


def colour_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean CIELAB distance (CIE76) of pictures (..., H, W, 3) uint8; about 2 is just visible, 100 black to white."""
    labs = [
        cv2.cvtColor(rgb.reshape(-1, 1, 3).astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
        for rgb in (first, second)
    ]
    return float(np.linalg.norm(labs[0] - labs[1], axis=1).mean())


def measure(
    assets: Path, adapter: str, samples: Sequence[SceneSample], *,
    gamma: float = 1.0, only: Sequence[str] = (), sheets: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
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
    pictures, pipeline, conflicts = renders(samples), load_pipeline(assets, adapter), Conflicts()
    plain = draw(pipeline, adapter, gamma, samples, "no LoRA")
    rows, shown = [], [[condition(adapter, sample.picture) for sample in samples[:SHOWN]], plain[:SHOWN]]
    for name in only or found:
        info = found[name]
        load_loras(pipeline, [(info, info.weight)])
        styled = draw(pipeline, adapter, gamma, samples, name)
        conflict = conflicts.measure(info.path, assets / "adapters" / adapter, assets / "base", weight=info.weight)
        row = {
            "lora": name,
            "weight": info.weight,
            "adherence": judge_all(samples, styled)[adapter],
            "distance": colour_distance(styled, plain),
            "conflict": conflict.row(),
        }
        if name in STYLES:
            repainted = np.stack([restyle(name, rgb) for rgb in pictures])
            row["repainted"] = judge_all(samples, repainted)[adapter]
            row["repainted_distance"] = colour_distance(repainted, pictures)
        rows.append(row)
        shown.append(styled[:SHOWN])
    if sheets:
        save_sheet(sheets / f"lora-{adapter}.png", shown)
    return {
        "adapter": adapter,
        "measure": KINDS[adapter].score,
        "gamma": gamma,
        "scenes": len(samples),
        "without": judge_all(samples, plain)[adapter],
        "renders": judge_all(samples, pictures)[adapter],
        "rows": rows,
    }


def table(results: Mapping[str, Any]) -> str:
    """Format the results as a Markdown table."""
    columns = [
        "LoRA", "weight", results["measure"], "of the repainted renders", "colour distance to no LoRA (repainting asks for)",
        "conflict", "norm ratio", "cosine", "adapter's layers touched",
    ]  # fmt: skip
    return markdown(
        columns,
        [["none", None, number(results["without"]), number(results["renders"]), *[None] * 5], *map(_cells, results["rows"])],
        title=f"{results['adapter']}, {results['measure']}, {results['scenes']} held-out scenes, gamma {results['gamma']:g}",
    )  # fmt: skip


def _cells(row: Mapping[str, Any]) -> list[str]:
    conflict, repainted = row["conflict"], row.get("repainted")
    known = conflict["word"] not in ("none", "unknown")
    figures = (
        (f"{conflict['ratio']:.2f}", f"{conflict['cosine']:+.2f}", f"{conflict['share']:.0%}")
        if known
        else [NOTHING] * 3
    )
    asked = "" if repainted is None else f" ({row['repainted_distance']:.1f})"
    return [
        row["lora"], f"{row['weight']:g}", number(row["adherence"]), number(repainted), f"{row['distance']:.1f}{asked}",
        conflict["word"], *figures,
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit status."""
    parser = bench_parser("lora", __doc__, scenes=32, gamma=1.0, assets=STARTER, sheets=None)
    parser.add_argument("--adapter", choices=CONDITIONS, default="pose", help="kind of control")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="these LoRAs instead of all")
    options = parser.parse_args(arguments)
    log_progress()
    samples = held_out_scenes(options.scenes)
    results = measure(
        options.assets, options.adapter, samples, gamma=options.gamma, only=options.only, sheets=options.sheets
    )
    return publish(options, results, table(results))
