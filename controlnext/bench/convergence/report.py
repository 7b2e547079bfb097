"""The report of the convergence bench: Markdown, JSON and plots of its finished runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from controlnext.bench.convergence.curves import mean_curve, summarise, table
from controlnext.bench.machine import machine_facts, machine_line
from controlnext.recipes.kinds import KINDS

NAME = "convergence"
_NOTES = (
    "Best is the highest mean adherence of any way at any point. Between two points the curve is interpolated. Sudden: a run "
    "took no longer from a tenth of its rise to 60 % of it than to the tenth. Seconds are processor seconds of training on "
    "one thread, without the measuring. ± is the standard deviation over seeds."
)

Run = Mapping[str, Any]


def write_report(
    out: Path, runs: Sequence[Run], tuning: Sequence[Run], rates: Sequence[float], base: str = "UNet"
) -> tuple[str, dict[str, Any]]:
    """Write `convergence.md`, `convergence.json` and one PNG a condition.

    Args:
        out: folder.
        runs: full runs, grouped by condition.
        tuning: short runs that chose the learning rates; may be empty.
        rates: the candidates.
        base: which network of the starter the ways control.

    Returns:
        The Markdown, and the figures as plain data.
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
        f"The starter's {base}; {settings['steps']} steps of {settings['batch']} of {scenery['pictures']} pictures, "
        f"{len({run['seed'] for run in runs})} seeds; adherence on {scenery['scenes']} held-out scenes drawn in "
        f"{scenery['drawing_steps']} steps. All ways share pictures, order, noise, loss, AdamW, warm-up of "
        f"{settings['warm_up']} steps and clipping. {_tuned(tuning, rates)}",
        "",
    ]
    for condition in conditions:
        of_it = [row for row in rows if row.condition == condition]
        picture = f"{NAME}-{condition}.png"
        plot(condition, [run for run in runs if run["condition"] == condition], out / picture)
        lines += [f"## {condition}: {KINDS[condition].score}", "", f"![learning curves of {condition}]({picture})", ""]
        lines += [table(of_it), _start(runs, condition), ""]
    lines += [_NOTES, ""]
    text = "\n".join(lines)
    values = {"facts": facts, "rows": [asdict(row) for row in rows], "runs": list(runs), "tuning": list(tuning)}
    (out / f"{NAME}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    (out / f"{NAME}.md").write_text(text, encoding="utf-8")
    return text, values


def _tuned(tuning: Sequence[Run], rates: Sequence[float]) -> str:
    if not tuning:
        return f"One learning rate for all ({rates[0]:g}), not tuned."
    steps = [run["settings"]["budget"]["steps"] for run in tuning]
    candidates = ", ".join(f"{rate:g}" for rate in rates)
    late = list(dict.fromkeys(run["title"] for run, taken in zip(tuning, steps, strict=True) if taken > steps[0]))
    longer = f" Full runs decided for ways that had not begun to follow by then: {', '.join(late)}." if late else ""
    return (
        f"The learning rate of each way is the best of {candidates} by mean adherence over the conditions after {steps[0]} steps, "
        f"one seed: the same small budget for each.{longer}"
    )


def _start(runs: Sequence[Run], condition: str) -> str:
    """Return the adherence of the base alone in words: a ControlNet of zero convolutions starts there."""
    first = next((run for run in runs if (run["condition"], run["way"]) == (condition, "controlnet")), None)
    if first is None or first["points"][0]["step"]:
        return ""
    return f"The base without control: {first['points'][0]['adherence']:.3f}."


def plot(condition: str, runs: Sequence[Run], file: Path) -> None:
    """Write the curves of a condition as a PNG: adherence and held-out loss against steps and seconds.

    A line is the mean over seeds, its band goes from the smallest to the largest value; a missing value leaves a gap.
    """
    from matplotlib.figure import Figure

    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run["title"], []).append(run)
    figure = Figure(figsize=(9.2, 7.6), layout="constrained")
    panels = figure.subplots(2, 2)
    for row, (key, title) in zip(
        panels, (("adherence", KINDS[condition].score), ("loss", "held-out loss")), strict=True
    ):
        for panel, axis in zip(row, ("steps", "seconds"), strict=True):
            for name, group in groups.items():
                steps, mean, low, high = mean_curve(group, key)
                places = steps if axis == "steps" else mean_curve(group, "seconds")[1]
                (line,) = panel.plot(places, mean, marker=".", label=name)
                panel.fill_between(places, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
            panel.set(title=f"{condition}: {title}", xlabel=axis)
            panel.grid(alpha=0.3)
    figure.legend(handles=panels[0, 0].get_lines(), loc="outside lower left")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)
