"""`python -m controlnext bench plug-in`: do adapters work on bases they were not trained on, as they are?

The starter's adapters, trained on its plain base, are put on changed ones: the base under each style LoRA at full weight, and
the base fine-tuned in all its weights on repainted scenes (`fine_tune.py`; made once and kept). The same held-out scenes with
the same seeds are drawn on each, read back, and judged by adherence and by the colours that the prompt asks for. Colours are
named by what they look like in the style: they are learned from renders repainted in it. A style that takes colours away takes
them from its own repainted renders too, whose reading stands in brackets: it is what cannot be had beyond.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annotators.starter.colours import ColourNames
from annotators.starter.net import bundled, read_batch
from controlnext.assets import STARTER
from controlnext.bench.quality.lora import MEASURES, SHOWN, BenchError, draw
from controlnext.bench.quality.starter import BATCH, Colours, Tally, batches, judge, load_pipeline
from controlnext.loras.library import LoraInfo, LoraLibrary, load_loras
from controlnext.starter.train.dataset import FIRST_TRAINING_SEED, Sample, make_samples
from controlnext.starter.world.colours import learn_colours
from controlnext.starter.world.conditions import CONDITIONS, condition
from controlnext.starter.world.sheets import save_sheet
from controlnext.starter.world.styles import STYLES, restyle

logger = logging.getLogger(__name__)
COLOURED = ("shirt", "trousers", "sky")
_LOOKS = 6
_RUNS_DATA = Path("runs/data")

Repaint = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Base:
    """A base to draw on.

    Attributes:
        name: short name.
        changed: how it came from the plain base, for people.
        repaint: what the change means for a picture; None = nothing.
        lora: a style on the plain base, at full weight.
        unet: or the folder of another UNet.
    """

    name: str
    changed: str
    repaint: Repaint | None = None
    lora: LoraInfo | None = None
    unet: Path | None = None


class LearnedColours(Colours):
    """Colour names learned from given scenes."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        """Average the colours of scenes."""
        ColourNames.__init__(self, *learn_colours(samples))


def list_bases(assets: Path, only: Sequence[str], unet: Path | None, changed: str) -> list[Base]:
    """Return the plain base, it under each style LoRA, and the fine-tuned one if there is one.

    Raises:
        BenchError: there is no such base.
    """
    from controlnext.bench.quality.fine_tune import film

    bases = [Base("plain", "the base that the adapters were trained on")]
    for name, info in LoraLibrary([assets / "loras"]).scan().items():
        if not info.problem and name in STYLES:
            bases.append(Base(name, "style LoRA at weight 1", lambda rgb, name=name: restyle(name, rgb), info))
    if unet is not None:
        bases.append(Base("film", changed, film, unet=unet))
    if missing := [name for name in only if name not in {base.name for base in bases}]:
        raise BenchError(f"There is no base {missing[0]!r}; choose among {', '.join(base.name for base in bases)}.")
    return [base for base in bases if not only or base.name in only or base.name == "plain"]


def pipeline_on(assets: Path, adapter: str, base: Base) -> Any:  # noqa: ANN401 - importing its class here would load torch
    """Load the starter with one adapter, changed as a base says; the adapter stays as it was trained."""
    pipeline = load_pipeline(assets, adapter)
    if base.unet is not None:
        from diffusers import UNet2DConditionModel

        # The adapter is taken off and put on again, so that its differences add to the changed weights.
        plugged = next(iter(pipeline.controlnexts.values())).adapter
        pipeline.unload_controlnext()
        other = UNet2DConditionModel.from_pretrained(base.unet, dtype=pipeline.unet.dtype)
        pipeline.unet.load_state_dict(other.state_dict())
        pipeline.load_controlnext(plugged)
    if base.lora is not None:
        load_loras(pipeline, [(base.lora, 1.0)])
    return pipeline


def judged(samples: Sequence[Sample], pictures: np.ndarray, colours: Colours) -> dict[str, float]:
    """Read pictures (B, 256, 256, 3) back and judge them by all measures."""
    tally = Tally()
    for start, batch in zip(range(0, len(samples), BATCH), batches(samples), strict=True):
        drawn = pictures[start : start + len(batch)]
        for sample, rgb, reading in zip(batch, drawn, read_batch(bundled(), drawn), strict=True):
            judge(tally, sample, rgb, reading, colours)
    return tally.figures()


def measure(
    assets: Path, adapters: Sequence[str], bases: Sequence[Base], samples: Sequence[Sample], reference: Sequence[Sample],
    sheets: Path | None = None,
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
        the renders repainted.
    """
    rows, lines = [], {name: [[condition(name, s.picture) for s in samples[:SHOWN]]] for name in adapters}
    for base in bases:
        paint = base.repaint or (lambda rgb: rgb)
        colours = LearnedColours(_painted(reference, paint))
        renders = judged(samples, np.stack([paint(np.array(s.picture.rgb)) for s in samples]), colours)
        for adapter in adapters:
            pictures = draw(pipeline_on(assets, adapter, base), adapter, 1.0, samples, f"{adapter} on {base.name}")
            found = judged(samples, pictures, colours)
            rows.append(
                {"adapter": adapter, "base": base.name, "changed": base.changed}
                | _chosen(found, adapter)
                | {"renders": _chosen(renders, adapter)}
            )
            lines[adapter].append(pictures[:SHOWN])
    if sheets:
        for adapter, shown in lines.items():
            save_sheet(sheets / f"plug-in-{adapter}.png", shown)
    return sorted(rows, key=lambda row: list(adapters).index(row["adapter"]))


def _chosen(figures: Mapping[str, float], adapter: str) -> dict[str, float]:
    return {"adherence": figures[adapter], **{part: figures[part] for part in COLOURED if part in figures}}


def _painted(samples: Sequence[Sample], paint: Repaint) -> list[Sample]:
    from controlnext.bench.quality.fine_tune import repainted

    return repainted(samples, paint)


def table(rows: Sequence[Mapping[str, Any]], scenes: int) -> str:
    """Return the rows as Markdown, one table an adapter."""
    parts = []
    for adapter in dict.fromkeys(row["adapter"] for row in rows):
        lines = [
            f"{adapter}, {scenes} held-out scenes; in brackets the repainted renders themselves",
            "",
            f"| base | changed by | {MEASURES[adapter]} | of the plain base's | "
            + " | ".join(f"{part} colour" for part in COLOURED)
            + " |",
            "|---|---|---:|---:|" + "---:|" * len(COLOURED),
        ]
        of_it = [row for row in rows if row["adapter"] == adapter]
        plain = of_it[0]["adherence"]
        for row in of_it:
            cells = [_cell(row, "adherence"), f"{row['adherence'] / plain:.0%}" if plain else ""]
            cells += [_cell(row, part) for part in COLOURED]
            lines.append(f"| {row['base']} | {row['changed']} | {' | '.join(cells)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _cell(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:.3f} ({row['renders'][name]:.3f})" if name in row and name in row["renders"] else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the tables; returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m controlnext bench plug-in",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--adapters", nargs="+", choices=CONDITIONS, default=["pose", "canny"])
    parser.add_argument("--only", nargs="*", default=[], metavar="BASE", help="these bases beside the plain one")
    parser.add_argument("--scenes", type=int, default=24, help="held-out scenes (default: 24)")
    parser.add_argument(
        "--reference", type=int, default=60, help="scenes to learn colours from, six looks each (default: 60)"
    )
    parser.add_argument(
        "--fine-tune-steps", type=int, default=200, help="of the fine-tuned base; 0 leaves it out (default: 200)"
    )
    parser.add_argument(
        "--data", type=Path, help=f"shards to fine-tune on (default: {_RUNS_DATA} if it is there, else rendered)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/plug-in"), help="folder of the fine-tuned base and contact sheets"
    )
    parser.add_argument("--assets", type=Path, default=STARTER, help="folder of the starter")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.scenes < 1 or options.reference < 1 or options.fine_tune_steps < 0:
        parser.error("--scenes and --reference are 1 or more, --fine-tune-steps 0 or more")
    from controlnext.bench.convergence.run import prepare_process

    prepare_process()
    unet, changed = None, ""
    if options.fine_tune_steps and (not options.only or "film" in options.only):
        unet, changed = _fine_tuned(options)
    bases = list_bases(options.assets, options.only, unet, changed)
    samples = [make_samples(seed, 1)[0] for seed in range(options.scenes)]
    first = 2 * FIRST_TRAINING_SEED  # beyond the training's, as in `bench starter`
    reference = [sample for seed in range(first, first + options.reference) for sample in make_samples(seed, _LOOKS)]
    rows = measure(options.assets, options.adapters, bases, samples, reference, options.out / "sheets")
    if options.json:
        options.json.write_text(
            json.dumps({"scenes": options.scenes, "rows": rows}, indent=2) + "\n", encoding="utf-8"
        )
    sys.stdout.write(table(rows, options.scenes))
    return 0


def _fine_tuned(options: argparse.Namespace) -> tuple[Path, str]:
    """Return the fine-tuned UNet's folder and how it was made, in words."""
    from controlnext.bench.convergence.trials import prepare_data
    from controlnext.bench.quality.fine_tune import FineTune, fine_tune

    plan = FineTune(steps=options.fine_tune_steps)
    data = options.data or (_RUNS_DATA if _RUNS_DATA.is_dir() else options.out / "data")
    if options.data is None and data != _RUNS_DATA:
        prepare_data(data, plan.pictures, options.assets)
    folder = fine_tune(options.assets, data, options.out, plan)
    return folder, f"{plan.steps} steps of {plan.batch} on all UNet weights, {plan.pictures} repainted scenes"
