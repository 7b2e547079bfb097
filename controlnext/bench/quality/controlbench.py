"""`python -m controlnext controlbench --model NAME --data FOLDER`: how well a model follows its conditions, by published metrics.

The protocol is that of ControlNet++ (arXiv 2404.07987): 512 pixels, four pictures a condition, guidance 7.5, 20 steps; exact edges, SSIM
of lines, RMSE of depth from 0 to 255, mean IoU, and OKS and PCK of poses. Beside it stand this project's tolerant metrics, the floor (the
same pictures without control) and the ceiling (the originals through the autoencoder, annotated again). Intervals are percentiles of
a bootstrap over conditions. FOLDER holds pictures as a training reads them, with captions and with conditions or without.

With `--controlnet` or `--t2i-adapter`, a network of diffusers steers the model's base instead of its adapters. `--transformer` measures a
base of Stable Diffusion 3's class, which the page does not run. With `--video`, FOLDER holds clips.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import annotators
from controlnext.adherence.measure import Asked, fitted
from controlnext.bench.command import BenchError, bench_parser, log_progress, publish, whole
from controlnext.bench.quality.best_of import interval
from controlnext.bench.quality.control_metrics import METRICS, ClassCounts, Metric
from controlnext.bench.quality.control_reading import Read, reader_of
from controlnext.bench.quality.control_report import ShownPicture, write_report
from controlnext.bench.tables import markdown
from controlnext.training.config import DataConfig
from controlnext.training.data.rows import Row, read_rows

if TYPE_CHECKING:
    from controlnext.bench.quality.control_models import MeasuredModel

logger = logging.getLogger(__name__)
SIZE, PICTURES, GUIDANCE, STEPS = 512, 4, 7.5, 20
"""Of the published protocol."""
ROWS = {"controlled": "controlled", "floor": "floor, without control", "ceiling": "ceiling, originals again"}
_DRAWS = 2000  # of the bootstrap of what is counted over the whole data set


@dataclass
class KindScores:
    """What was measured of one kind of condition.

    Attributes:
        values: row -> metric -> one mean a condition; NaN where it asks for nothing.
        classes: row -> counts of classes; empty for all kinds but segmentation.
        shown: conditions for the report.
        skipped: names of pictures of which there was no condition.
    """

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    classes: dict[str, ClassCounts] = field(default_factory=dict)
    shown: list[ShownPicture] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bar:
    """A mean with its interval of 95 %."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Format for tables."""
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def opened(source: Path | Callable[[], Image.Image]) -> Image.Image:
    """Open a row's picture."""
    return annotators.load_picture(source) if isinstance(source, Path) else source().convert("RGB")


def asked_for(kind: str, row: Row, size: tuple[int, int], read: Read) -> tuple[Image.Image, Asked] | None:
    """Return a row's picture and condition in the size to be drawn; None where its picture shows nothing of the kind."""
    from PIL import ImageOps

    picture = ImageOps.fit(opened(row.picture), size, Image.Resampling.LANCZOS)
    if row.condition is not None:
        return picture, fitted(opened(row.condition), kind, size)
    found = read(kind, picture)
    if kind == "pose" and not (found.data or {}).get("people"):
        return None
    return picture, fitted(found, kind, size)


def score_kind(model: MeasuredModel, kind: str, rows: Sequence[Row], pictures: int, read: Read) -> KindScores:
    """Draw and measure all rows of one kind.

    Args:
        model: that draws.
        kind: of condition, a key of `METRICS`.
        rows: of the data.
        pictures: drawn for each condition.
        read: annotates.

    Raises:
        BenchError: no row has a condition of the kind.
    """
    metrics, scores = METRICS[kind], KindScores()
    scores.values = {row: {metric.name: [] for metric in metrics} for row in ROWS}
    if kind == "segmentation":
        scores.classes = {row: ClassCounts() for row in ROWS}
    for number, row in enumerate(rows):
        given = asked_for(kind, row, model.size, read)
        if given is None:
            scores.skipped.append(row.name)
            continue
        original, asked = given
        seeds = range(1000 * number, 1000 * number + pictures)
        drawn = {
            "controlled": model.draw(kind, row.text, asked, seeds),
            "floor": model.draw(kind, row.text, asked, seeds, controlled=False),
            "ceiling": [model.through(original)],
        }
        for name, made in drawn.items():
            found = [read(kind, picture) for picture in made]
            for metric in metrics:
                values = np.array([metric.measure(asked, one) for one in found], np.float64)
                scores.values[name][metric.name].append(float(values.mean()))
            if scores.classes:
                scores.classes[name].add([(asked, one) for one in found])
        labels = [("original", original), ("condition", asked.image)]
        labels += [(f"seed {seed}", picture) for seed, picture in zip(seeds, drawn["controlled"], strict=True)]
        scores.shown.append(ShownPicture(kind, row.text, scores.values["controlled"][metrics[0].name][-1], labels))
        logger.info("%s: %d of %d, %s %.3f", kind, number + 1, len(rows), metrics[0].name, scores.shown[-1].score)
    if not scores.shown:
        raise BenchError(f"None of the {len(rows)} pictures has a condition of the kind {kind}: give other pictures.")
    scores.shown.sort(key=lambda one: -one.score if metrics[0].falls else one.score)
    return scores


def bars(scores: KindScores, metrics: Sequence[Metric]) -> dict[str, dict[str, Bar]]:
    """Return metric -> row -> mean and interval; what is counted over the data set comes last."""
    made: dict[str, dict[str, Bar]] = {}
    for metric in metrics:
        made[metric.name] = {}
        for row, values in scores.values.items():
            known = np.array([value for value in values[metric.name] if np.isfinite(value)])
            if len(known):
                made[metric.name][row] = Bar(float(known.mean()), *interval(known))
    if scores.classes:
        count = len(scores.shown)
        draws = np.random.default_rng(0).integers(0, count, (_DRAWS, count))
        made["mean IoU"] = {
            row: Bar(counts.value(), *map(float, np.nanpercentile([counts.value(one) for one in draws], (2.5, 97.5))))
            for row, counts in scores.classes.items()
        }
    return made


def table_rows(results: dict[str, dict[str, dict[str, Bar]]]) -> list[list[str]]:
    """Return the table's headings and rows."""
    rows = [["kind", "metric", *ROWS.values()]]
    for kind, figures in results.items():
        falls = {metric.name for metric in METRICS[kind] if metric.falls}
        own = {metric.name for metric in METRICS[kind] if not metric.published}
        for metric, of_rows in figures.items():
            note = ", less is better" if metric in falls else " (tolerant)" if metric in own else ""
            rows.append([kind, metric + note, *(str(of_rows[row]) if row in of_rows else "–" for row in ROWS)])
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, measure and report; return 0."""
    parser = bench_parser("controlbench", __doc__)
    parser.prog = "python -m controlnext controlbench"
    parser.add_argument("--model", default="starter", help="preset")
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures, with metadata.jsonl or without")
    parser.add_argument(
        "--kinds", nargs="+", choices=METRICS, help="conditions (default: those the model has adapters for)"
    )
    parser.add_argument("--limit", type=whole(), help="pictures, the first ones")
    parser.add_argument("--pictures", type=whole(), default=PICTURES, help="drawn for each condition")
    parser.add_argument("--size", type=whole(64, 8), default=SIZE, help="side in pixels")
    parser.add_argument("--steps", type=whole(), default=STEPS, help="denoising steps")
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help="guidance scale")
    parser.add_argument("--gamma", type=float, help="control strength (default: the adapter's own)")
    parser.add_argument("--own", action="store_true", help="the model's own size, steps and guidance instead")
    parser.add_argument("--caption", default="", help="of pictures that have none")
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--controlnet", type=Path, help="a ControlNet of diffusers on the model's base; needs one of --kinds"
    )
    other.add_argument("--t2i-adapter", type=Path, help="a T2I-Adapter of diffusers on it; needs one of --kinds")
    other.add_argument(
        "--transformer", type=Path, nargs=2, metavar=("BASE", "ADAPTER"),
        help="a pipeline of Stable Diffusion 3's class and an adapter for it instead; needs one of --kinds",
    )  # fmt: skip
    other.add_argument("--video", action="store_true", help="FOLDER holds clips: PCK of each frame, limbs and flicker")
    parser.add_argument("--out", type=Path, default=Path("runs/controlbench"), help="folder of the report")
    options = parser.parse_args(arguments)
    log_progress()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.video:
        from controlnext.bench.quality.control_video import run_clips

        return run_clips(options)
    rows, _ = read_rows(DataConfig(folder=options.data, limit=options.limit, caption=options.caption))
    model = load_model(options)
    kinds = options.kinds or [kind for kind in model.kinds if kind in METRICS]
    known = set(annotators.ANNOTATORS)
    if missing := [kind for kind in kinds if kind not in known]:
        raise BenchError(f"There is no annotator for {missing[0]} here, so nothing can be compared; leave it out.")
    read = reader_of(model.backend)
    scores = {kind: score_kind(model, kind, rows, options.pictures, read) for kind in kinds}
    results = {kind: bars(one, METRICS[kind]) for kind, one in scores.items()}
    return finish(options, model.title, facts_of(options, model, len(rows)), results, scores)


def facts_of(options: Namespace, model: MeasuredModel, count: int) -> str:
    """Say in a sentence how it was drawn."""
    how = (
        "the model's own steps and guidance"
        if options.own
        else f"{options.steps} steps, guidance {options.guidance:g}"
    )
    strength = "" if options.gamma is None else f", gamma {options.gamma:g}"
    size = f"{model.size[0]} x {model.size[1]}"
    return f"{count} pictures of {options.data.name}, {options.pictures} drawn for each, {size}, {how}{strength}."


def load_model(options: Namespace) -> MeasuredModel:
    """Load what is to be measured.

    Raises:
        ControlNeXtError: it is not there, or does not go together.
    """
    from controlnext.bench.quality.control_models import DiffusersModel, PageModel

    values = {} if options.own else {"num_inference_steps": options.steps, "guidance_scale": options.guidance}
    if options.gamma is not None:
        values["gamma"] = options.gamma
    size = None if options.own else options.size
    net = options.controlnet or options.t2i_adapter
    if net is None and options.transformer is None:
        return PageModel(options.model, values, size)
    if not options.kinds or len(options.kinds) != 1:
        raise BenchError("A network of diffusers or an adapter reads one kind of condition: name it by --kinds.")
    if options.transformer is not None:
        from controlnext.bench.quality.control_transformer import TransformerModel

        return TransformerModel(*options.transformer, options.kinds[0], values, size)
    return DiffusersModel(
        options.model, net, adapter=options.t2i_adapter is not None, kind=options.kinds[0], values=values, size=size
    )


def finish(
    options: Namespace,
    title: str,
    facts: str,
    results: dict[str, dict[str, dict[str, Bar]]],
    scores: dict[str, KindScores],
) -> int:
    """Write the report and print the table."""
    rows = table_rows(results)
    shown = [one for kind in scores.values() for one in kind.shown]
    write_report(options.out / "report.html", f"ControlBench: {title}", facts, rows, shown)
    figures = {
        "model": title,
        "facts": facts,
        "skipped": {kind: one.skipped for kind, one in scores.items()},
        "results": {
            kind: {metric: {row: vars(bar) for row, bar in of.items()} for metric, of in metrics.items()}
            for kind, metrics in results.items()
        },
    }
    notes = [f"{facts} Report: {options.out / 'report.html'}."]
    return publish(options, figures, markdown(rows[0], rows[1:], title=title, notes=notes))
