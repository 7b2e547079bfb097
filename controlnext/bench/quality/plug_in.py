"""`python -m controlnext bench plug-in`: adapters on bases that they were not trained on.

The starter's adapters, trained on its plain base, run on changed ones: the base under each style LoRA at full weight, and
the base fine-tuned in all its weights on repainted scenes (`fine_tune.py`; made once and kept). The same held-out scenes are
drawn on each with the same seeds, read back, and judged by adherence and by the colours that the prompt asks for. The names
of colours are learned from renders repainted in the style. A style that takes colours away also takes them from its own
repainted renders; their reading stands in brackets as the ceiling.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from controlnext.assets import STARTER
from controlnext.bench.command import BenchError, bench_parser, prepare_worker, publish, whole
from controlnext.bench.quality.scenes import (
    COLOURED,
    SHOWN,
    Colours,
    draw,
    held_out_scenes,
    judge_all,
    load_pipeline,
    unseen_scenes,
)
from controlnext.bench.tables import markdown
from controlnext.loras.library import LoraInfo, LoraLibrary, load_loras
from controlnext.recipes.kinds import KINDS
from controlnext.starter.train.dataset import SceneSample
from controlnext.starter.world.conditions import CONDITIONS, condition
from controlnext.starter.world.sheets import save_sheet
from controlnext.starter.world.styles import STYLES, restyle

if TYPE_CHECKING:
    from controlnext import StableDiffusionControlNeXtPipeline

RUNS_DATA = Path("runs/data")
"""Where `python -m controlnext.starter render` and `encode` leave their shards."""

Repaint = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ChangedBase:
    """A base to draw on.

    Attributes:
        name: short name.
        changed: how it was made from the plain base, for people.
        repaint: what the change means for a picture; None = nothing.
        lora: a style on the plain base, at full weight.
        unet: or the folder of another UNet.
    """

    name: str
    changed: str
    repaint: Repaint | None = None
    lora: LoraInfo | None = None
    unet: Path | None = None


def list_bases(assets: Path, only: Sequence[str], unet: Path | None, changed: str) -> list[ChangedBase]:
    """Return the plain base, the plain base under each style LoRA, and the fine-tuned one if there is one.

    Raises:
        BenchError: there is no such base.
    """
    from controlnext.bench.quality.fine_tune import film

    bases = [ChangedBase("plain", "the base that the adapters were trained on")]
    for name, info in LoraLibrary([assets / "loras"]).scan().items():
        if not info.problem and name in STYLES:
            bases.append(ChangedBase(name, "style LoRA at weight 1", lambda rgb, name=name: restyle(name, rgb), info))
    if unet is not None:
        bases.append(ChangedBase("film", changed, film, unet=unet))
    if missing := [name for name in only if name not in {base.name for base in bases}]:
        raise BenchError(f"There is no base {missing[0]!r}; choose among {', '.join(base.name for base in bases)}.")
    return [base for base in bases if not only or base.name in only or base.name == "plain"]


def pipeline_on(assets: Path, adapter: str, base: ChangedBase) -> StableDiffusionControlNeXtPipeline:
    """Load the starter with one adapter and change its base; the adapter stays as it was trained."""
    pipeline = load_pipeline(assets, adapter)
    if base.unet is not None:
        from diffusers import UNet2DConditionModel

        # The adapter is unloaded and loaded again, so that its differences are added to the changed weights.
        name, injection = next(iter(pipeline.controlnexts.items()))
        loaded = injection.adapter
        pipeline.unload_controlnext()
        other = UNet2DConditionModel.from_pretrained(base.unet, dtype=pipeline.unet.dtype)
        pipeline.unet.load_state_dict(other.state_dict())
        pipeline.load_controlnext(loaded, name)
    if base.lora is not None:
        load_loras(pipeline, [(base.lora, 1.0)])
    return pipeline


def measure(
    assets: Path, adapters: Sequence[str], bases: Sequence[ChangedBase], samples: Sequence[SceneSample],
    reference: Sequence[SceneSample], sheets: Path | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Measure every adapter on every base.

    Args:
        assets: folder of the starter.
        adapters: kinds of condition.
        bases: the plain one first.
        samples: held-out scenes.
        reference: other scenes, from which colours are learned.
        sheets: folder for a contact sheet an adapter: conditions, then one row a base.

    Returns:
        A row an adapter and base: `adapter`, `base`, `changed`, `adherence`, colour shares, and under `renders` the same of
        the repainted renders.
    """
    from controlnext.bench.quality.fine_tune import repainted

    rows, shown = [], {name: [[condition(name, s.picture) for s in samples[:SHOWN]]] for name in adapters}
    for base in bases:
        paint = base.repaint or (lambda rgb: rgb)
        colours = Colours.learn(repainted(reference, paint))
        renders = judge_all(samples, np.stack([paint(np.array(s.picture.rgb)) for s in samples]), colours)
        for adapter in adapters:
            pictures = draw(pipeline_on(assets, adapter, base), adapter, 1.0, samples, f"{adapter} on {base.name}")
            rows.append(
                {"adapter": adapter, "base": base.name, "changed": base.changed}
                | _chosen(judge_all(samples, pictures, colours), adapter)
                | {"renders": _chosen(renders, adapter)}
            )
            shown[adapter].append(pictures[:SHOWN])
    if sheets:
        for adapter, lines in shown.items():
            save_sheet(sheets / f"plug-in-{adapter}.png", lines)
    return sorted(rows, key=lambda row: list(adapters).index(row["adapter"]))


def _chosen(figures: Mapping[str, float], adapter: str) -> dict[str, float]:
    return {"adherence": figures[adapter], **{part: figures[part] for part in COLOURED if part in figures}}


def table(rows: Sequence[Mapping[str, Any]], scenes: int) -> str:
    """Format the rows as Markdown, one table an adapter."""
    parts = []
    for adapter in dict.fromkeys(row["adapter"] for row in rows):
        of_it = [row for row in rows if row["adapter"] == adapter]
        plain = of_it[0]["adherence"]
        cells = [
            [row["base"], row["changed"], _cell(row, "adherence"), f"{row['adherence'] / plain:.0%}" if plain else None,
             *(_cell(row, part) for part in COLOURED)]
            for row in of_it
        ]  # fmt: skip
        columns = [
            "base",
            "changed by",
            KINDS[adapter].score,
            "of the plain base's",
            *(f"{part} colour" for part in COLOURED),
        ]
        title = f"{adapter}, {scenes} held-out scenes; in brackets the repainted renders themselves"
        parts.append(markdown(columns, cells, title=title))
    return "\n".join(parts)


def _cell(row: Mapping[str, Any], name: str) -> str | None:
    return f"{row[name]:.3f} ({row['renders'][name]:.3f})" if name in row and name in row["renders"] else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the tables; return the exit status."""
    parser = bench_parser("plug-in", __doc__, scenes=24, assets=STARTER)
    parser.add_argument(
        "--adapters", nargs="+", choices=CONDITIONS, default=["pose", "canny"], help="kinds of control"
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="BASE", help="these bases and the plain one")
    parser.add_argument("--reference", type=whole(), default=60, help="scenes to learn colours from, six looks each")
    parser.add_argument(
        "--fine-tune-steps", type=whole(0), default=200, help="of the fine-tuned base; 0 leaves it out"
    )
    parser.add_argument(
        "--data", type=Path, help=f"shards to fine-tune on (default: {RUNS_DATA} if it exists, else rendered)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/plug-in"), help="folder of the fine-tuned base and contact sheets"
    )
    options = parser.parse_args(arguments)
    prepare_worker()
    unet, changed = None, ""
    if options.fine_tune_steps and (not options.only or "film" in options.only):
        unet, changed = _fine_tuned(options)
    bases = list_bases(options.assets, options.only, unet, changed)
    samples, reference = held_out_scenes(options.scenes), unseen_scenes(options.reference)
    rows = measure(options.assets, options.adapters, bases, samples, reference, options.out / "sheets")
    return publish(options, {"scenes": options.scenes, "rows": rows}, table(rows, options.scenes))


def _fine_tuned(options: argparse.Namespace) -> tuple[Path, str]:
    """Return the fine-tuned UNet's folder and how it was made, in words."""
    from controlnext.bench.convergence.trials import prepare_data
    from controlnext.bench.quality.fine_tune import FineTune, fine_tune

    plan = FineTune(steps=options.fine_tune_steps)
    data = options.data or (RUNS_DATA if RUNS_DATA.is_dir() else options.out / "data")
    if options.data is None and data != RUNS_DATA:
        prepare_data(data, plan.pictures, options.assets)
    folder = fine_tune(options.assets, data, options.out, plan)
    return folder, f"{plan.steps} steps of {plan.batch} on all UNet weights, {plan.pictures} repainted scenes"
