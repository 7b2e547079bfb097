"""The report of a run, one HTML file with curves and pictures inside; and the facts in an adapter's metadata."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from controlnext.training.config import CLASSIC, TrainConfig
from controlnext.training.family_defaults import FAMILY_DEFAULTS
from controlnext.training.runs.run_folder import RunFolder

_MOST_STEPS = 30  # validations whose pictures are shown; of more, evenly spaced ones
_SIDE = 256  # pixels of a picture's longer side
_QUALITY = 82
_CURVE = (640, 220)  # width and height of a curve, in units of its drawing
_MARGIN = (48, 12, 12, 24)  # left, right, top, bottom
_POINTS = 400  # a curve of more points is averaged to so many
_COLOURS = ("#2563eb", "#d97706", "#059669")

HELD_OUT, LEARNED = "held_out_loss", "learned_loss"
"""Names of the loss of the fixed rows in events and adapters: where they are held out, and where they are also learned from."""
LEARNED_TOO = "With so few rows none are held out: the fixed ones are also learned from, and their figures say little about new ones."

Points = Sequence[tuple[float, float]]


def write_report(run: RunFolder, latest: Mapping[str, Any] | None = None) -> Path:
    """Write the report of a run.

    Args:
        run: its folder.
        latest: a validation that is not among the run's events yet.

    Returns:
        The file.
    """
    validations = [*run.events("validation"), *([dict(latest)] if latest else [])]
    partial = run.report.with_suffix(".partial")
    partial.write_text(_page(run, validations), encoding="utf-8")
    partial.replace(run.report)
    return run.report


def facts_of(
    config: TrainConfig, step: int, samples: int, seconds: float, figures: Mapping[str, float | None]
) -> dict[str, str]:
    """Return what an adapter's metadata says of its training.

    Args:
        config: filled in.
        step: steps done.
        samples: of a step, over all processes.
        seconds: of the whole training.
        figures: of the last validation by name; None is left out.
    """
    rank, drawing = config.trainable.lora_rank, config.data.drawing
    facts = {
        "annotator": config.condition,
        "gamma": f"{config.learning.gamma:g}",
        "base": config.base or FAMILY_DEFAULTS[config.family].preset,
        "steps": str(step),
        "minutes": f"{seconds / 60:.1f}",
        "samples": str(samples),
        "size": f"{config.data.width}x{config.data.height}",
        "trained": f"LoRA of rank {rank}" if rank else config.trainable.subset or "",
    }
    if drawing not in (None, CLASSIC):
        facts["drawing"] = drawing
    return facts | {name: f"{value:.4f}" for name, value in figures.items() if value is not None}


def curve(title: str, lines: Mapping[str, Points], size: tuple[int, int] = _CURVE) -> str:
    """Draw lines over the steps as SVG.

    Args:
        title: above it.
        lines: points (step, value) by name.
        size: width and height of the drawing, in its own units; it fills its container.

    Returns:
        The drawing; empty if there is nothing to draw.
    """
    lines = {name: thinned(points) for name, points in lines.items() if points}
    every = [point for points in lines.values() for point in points]
    if not every:
        return ""
    (width, height), (left, right, top, bottom) = size, _MARGIN
    last = max(step for step, _ in every) or 1
    low, high = min(value for _, value in every), max(value for _, value in every)
    low = min(low, 0.0) if low < 0.5 * high or low == high else low
    span = (high - low) or 1.0

    def place(step: float, value: float) -> str:
        x = left + (width - left - right) * step / last
        y = top + (height - top - bottom) * (1 - (value - low) / span)
        return f"{x:.1f},{y:.1f}"

    drawn = []
    for colour, points in zip(_COLOURS * 4, lines.values(), strict=False):
        path = " ".join(place(*point) for point in points)
        dots = "".join(
            f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'
            for x, y in (place(*point).split(",") for point in points)
        )
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        drawn.append(dots if len(points) <= _MOST_STEPS else "")
    marks = "".join(
        f'<text x="{left - 6}" y="{float(place(0, value).split(",")[1]) + 4}" text-anchor="end">{value:.3g}</text>'
        f'<line x1="{left}" x2="{width - right}" y1="{place(0, value).split(",")[1]}" y2="{place(0, value).split(",")[1]}"/>'
        for value in (low, low + span / 2, low + span)
    )
    keys = " ".join(
        f'<span style="color:{colour}">&#9632;</span> {html.escape(name)}'
        for colour, name in zip(_COLOURS * 4, lines, strict=False)
    )
    return (
        f"<figure><figcaption><b>{html.escape(title)}</b> {keys if len(lines) > 1 else ''}</figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">{marks}'
        f'<text x="{width - right}" y="{height - 6}" text-anchor="end">step {last:g}</text>{"".join(drawn)}</svg></figure>'
    )


def thinned(points: Points, most: int = _POINTS) -> Points:
    """Average neighbours until there are few enough points to draw."""
    size = -(-len(points) // most)
    if size <= 1:
        return points
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _page(run: RunFolder, validations: Sequence[Mapping[str, Any]]) -> str:
    losses = [(event["step"], event["loss"]) for event in run.events("step")]
    measure = next((str(event["measure"]) for event in validations if event.get("measure")), "adherence")
    curves = [
        curve("Adherence", {measure: _line(validations, "adherence")}),
        curve(
            "Loss of the fixed rows",
            {
                "held out, with control": _line(validations, HELD_OUT),
                "also learned from, with control": _line(validations, LEARNED),
                "without control": _line(validations, "loss_without_control"),
            },
        ),
        curve("Loss in training", {"loss": losses}),
    ]
    asked: list[Mapping[str, str]] = next((event["rows"] for event in run.events("asked")), [])
    steps = _chosen([event["step"] for event in validations])
    strips = [_strip(run, index, row, steps) for index, row in enumerate(asked)]
    facts = [event["text"] for event in run.events("trainable")][:1]
    facts += [LEARNED_TOO] if any(LEARNED in event for event in validations) else []
    skipped = [f"{event['name']}: {event['reason']}" for event in run.events("skipped")]
    config = run.config_file.read_text(encoding="utf-8") if run.config_file.exists() else ""
    return _TEMPLATE.format(
        title=html.escape(run.path.name),
        facts=html.escape(" ".join(facts)),
        curves="".join(curves),
        steps=json.dumps(steps),
        last=max(0, len(steps) - 1),
        strips="".join(strips),
        skipped=_details(f"{len(skipped)} rows skipped", "\n".join(skipped)) if skipped else "",
        config=_details("Settings", config),
    )


def _line(validations: Sequence[Mapping[str, Any]], name: str) -> Points:
    return [(event["step"], event[name]) for event in validations if event.get(name) is not None]


def _chosen(steps: Sequence[int]) -> list[int]:
    steps = sorted(set(steps))
    if len(steps) <= _MOST_STEPS:
        return steps
    return [steps[round(place * (len(steps) - 1) / (_MOST_STEPS - 1))] for place in range(_MOST_STEPS)]


def _strip(run: RunFolder, index: int, row: Mapping[str, str], steps: Sequence[int]) -> str:
    """Return a row of the table: the condition, what was drawn at each step, and the original picture."""
    drawn = [embedded(run.validation / f"step-{step:08d}" / f"{index}.png") for step in steps]
    asked = run.validation / "asked"
    return (
        f'<tr><td><img src="{embedded(asked / f"{index}.png")}" alt="condition"></td>'
        f'<td><img class="drawn" alt="result" data-steps=\'{json.dumps(drawn)}\'></td>'
        f'<td><img src="{embedded(asked / f"{index}-picture.png")}" alt="picture"></td>'
        f"<td>{html.escape(row['prompt'])}<br><small>{html.escape(row['name'])}</small></td></tr>"
    )


def embedded(source: Path | Image.Image) -> str:
    """Return a picture as the source of an <img>, data included; empty for a missing file."""
    try:
        with source if isinstance(source, Image.Image) else Image.open(source) as image:
            image = image.convert("RGB")
    except (OSError, SyntaxError):
        return ""
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _details(title: str, text: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"


_TEMPLATE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }}
figure {{ margin: 0 0 1.5rem; }} svg {{ width: 100%; height: auto; }}
svg text {{ font-size: 11px; fill: currentColor; opacity: .7; }} svg line {{ stroke: currentColor; opacity: .15; }}
.curves {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 1rem; }}
table {{ border-collapse: collapse; }} td {{ padding: .25rem; vertical-align: top; }}
img {{ width: 100%; max-width: 256px; min-width: 64px; image-rendering: auto; }} input {{ width: min(100%, 40rem); }}
pre {{ white-space: pre-wrap; }}
</style>
<h1>{title}</h1>
<p>{facts}</p>
<div class="curves">{curves}</div>
<p><label>Pictures after step <b id="at"></b><br><input id="slider" type="range" min="0" max="{last}" value="{last}"></label></p>
<table><tr><th>asked</th><th>drawn</th><th>picture</th><th></th></tr>{strips}</table>
{skipped}{config}
<script>
const steps = {steps}, slider = document.getElementById("slider");
const drawn = [...document.querySelectorAll(".drawn")].map(image => [image, JSON.parse(image.dataset.steps)]);
function show() {{
  const place = Number(slider.value);
  document.getElementById("at").textContent = steps.length ? steps[place] : "-";
  for (const [image, sources] of drawn) image.src = sources[place] || "";
}}
slider.addEventListener("input", show); show();
</script>
</html>
"""
