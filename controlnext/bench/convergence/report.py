"""The report of the convergence bench: Markdown, JSON and plots of the runs that are there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from controlnext.bench.convergence.curves import mean_curve, summarise, table
from controlnext.bench.convergence.plots import Line, Panel, draw
from controlnext.bench.machine import machine_facts, machine_line
from controlnext.recipes.kinds import KINDS

NAME = "convergence"
_NOTES = (
    "Best is the highest mean adherence of any way at any point. Between two points the curve is taken as straight. Sudden: "
    "from a tenth of its rise to more than half of it a run took no longer than to the tenth. Seconds are processor seconds "
    "of training on one thread, measuring left out. ± is the standard deviation over seeds."
)

Run = Mapping[str, Any]


def write_report(out: Path, runs: Sequence[Run], tuning: Sequence[Run], rates: Sequence[float]) -> str:
    """Write `convergence.md`, `convergence.json` and one PNG a condition.

    Args:
        out: folder.
        runs: full runs, those of one condition together.
        tuning: short runs by which learning rates were chosen; may be empty.
        rates: that were to choose from.

    Returns:
        The Markdown.
    """
    rows = summarise(runs)
    conditions = list(dict.fromkeys(row.condition for row in rows))
    facts = machine_facts()
    settings = runs[0]["settings"]["budget"]
    scenery = settings["scenery"]
    lines = [
        "# How soon each way of control follows",
        "",
        machine_line(facts),
        "",
        f"Starter base; {settings['steps']} steps of {settings['batch']} of {scenery['pictures']} pictures, "
        f"{len({run['seed'] for run in runs})} seeds; adherence on {scenery['scenes']} held-out scenes drawn in "
        f"{scenery['drawing_steps']} steps. All ways share pictures, order, noise, loss, AdamW, warm-up of "
        f"{settings['warm_up']} steps and clipping. {_tuned(tuning, rates)}",
        "",
    ]
    for condition in conditions:
        of_it = [row for row in rows if row.condition == condition]
        picture = f"{NAME}-{condition}.png"
        draw(_panels(condition, [run for run in runs if run["condition"] == condition]), out / picture)
        lines += [f"## {condition}: {KINDS[condition].score}", "", f"![learning curves of {condition}]({picture})", ""]
        lines += [table(of_it), _start(runs, condition), ""]
    lines += [_NOTES, ""]
    text = "\n".join(lines)
    values = {"facts": facts, "rows": [asdict(row) for row in rows], "runs": list(runs), "tuning": list(tuning)}
    (out / f"{NAME}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    (out / f"{NAME}.md").write_text(text, encoding="utf-8")
    return text


def _tuned(tuning: Sequence[Run], rates: Sequence[float]) -> str:
    if not tuning:
        return f"One learning rate for all ({rates[0]:g}), not tuned."
    steps = [run["settings"]["budget"]["steps"] for run in tuning]
    told = ", ".join(f"{rate:g}" for rate in rates)
    late = list(dict.fromkeys(run["title"] for run, taken in zip(tuning, steps, strict=True) if taken > steps[0]))
    longer = f" Full runs decided where a way had not begun to follow by then: {', '.join(late)}." if late else ""
    return (
        f"The learning rate of each way is the best of {told} by mean adherence over the conditions after {steps[0]} steps, "
        f"one seed: the same small budget for each.{longer}"
    )


def _start(runs: Sequence[Run], condition: str) -> str:
    """Say where the base alone stands, which is what a ControlNet of zero convolutions begins as."""
    first = next((run for run in runs if (run["condition"], run["way"]) == (condition, "controlnet")), None)
    if first is None or first["points"][0]["step"]:
        return ""
    return f"The base without control: {first['points'][0]['adherence']:.3f}."


def _panels(condition: str, runs: Sequence[Run]) -> list[Panel]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run["way"], []).append(run)
    lines: dict[tuple[str, str], list[Line]] = {}
    for group in groups.values():
        steps, seconds = mean_curve(group, "seconds")[:2]
        for key in ("adherence", "loss"):
            values = mean_curve(group, key)[1:]
            for axis, places in (("steps", steps), ("seconds", seconds)):
                lines.setdefault((key, axis), []).append(Line(group[0]["title"], places, *values))
    titles = {"adherence": f"{condition}: {KINDS[condition].score}", "loss": f"{condition}: held-out loss"}
    return [Panel(titles[key], axis, drawn) for (key, axis), drawn in lines.items()]
