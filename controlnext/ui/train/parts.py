"""HTML of the train tab: pictures with their conditions, progress, curves and validation pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from controlnext.ui.shared import bar_html, duration_text, note_html, waiting_html
from controlnext.ui.train.pictures import LEAST, Looked, Pair

if TYPE_CHECKING:
    from controlnext.training.data.rows import BadRow
    from controlnext.training.runs.event_reader import EventReader
    from controlnext.training.runs.trainings import TrainingStatus

NAMED = 60
"""Pictures that cannot be used are named up to so many."""

SIZE = (320, 150)
"""Width and height of a curve in pixels, about; it grows with the page."""

POINTS = 120
"""Points of the training's loss, which jumps from step to step: neighbours are averaged to so many."""

ENDED: Mapping[str, str] = {
    "new": "This training has not begun; Resume begins it.",
    "stopped": "Stopped after step {step}. Resume continues exactly there.",
    "done": "Done after {step} steps. Resume continues for the time limit again.",
    "failed": "It failed after step {step}: {error}. Resume continues from its last checkpoint.",
    "killed": "{error}. Resume continues from its last checkpoint.",
}
"""State of a training that is not running."""


def samples_html(pairs: Sequence[Pair]) -> str:
    """Return the first pictures, each next to its condition."""
    from controlnext.training.runs.report import embedded

    shown = "".join(
        f"<figure><div><img src='{embedded(pair.picture)}' alt='picture'><img src='{embedded(pair.condition)}' alt='condition'></div>"
        f"<figcaption title='{escape(pair.text, quote=True)}'>{escape(pair.text or pair.name)}</figcaption></figure>"
        for pair in pairs
    )
    return f"<div class='cnx-samples'>{shown}</div>" if shown else ""


def looked_html(looked: Looked, left_out: Sequence[BadRow], *, final: bool) -> str:
    """Return what was found out about the pictures: how many can be used, and which cannot, and why."""
    bad = [*left_out, *looked.bad]
    if not final:
        return note_html(f"Making the conditions … {len(looked.pairs)} so far", "quiet")
    if looked.usable < LEAST:
        word = "None" if not looked.usable else f"Only {looked.usable}"
        text = (
            f"{word} of the pictures can be used, and at least {LEAST} are needed; a hundred or more teach far better."
        )
        return note_html(text, "warn") + bad_html(bad)
    text = f"{looked.usable:,} pictures can be used."
    if looked.heads:
        text += f" {looked.heads:,} of them are opened fully only when the training begins."
    return note_html(text, "good") + note_html(looked.note, "warn") + bad_html(bad)


def bad_html(rows: Sequence[BadRow], what: str = "cannot be used") -> str:
    """Return the rows that were left out with the reasons; empty where there are none."""
    if not rows:
        return ""
    lines = "".join(f"<li><b>{escape(row.name)}</b> {escape(row.reason)}</li>" for row in rows[:NAMED])
    more = f"<li>and {len(rows) - NAMED} more</li>" if len(rows) > NAMED else ""
    return f"<details class='cnx-bad' open><summary>{len(rows)} {what}</summary><ul>{lines}{more}</ul></details>"


def status_html(standing: TrainingStatus) -> str:
    """Return where a training stands: a bar while it is at work, else a sentence."""
    facts, step = standing.facts, standing.step
    if not standing.alive:
        text = ENDED.get(standing.state, ENDED["new"]).format(step=f"{step:,}", error=standing.error.removesuffix("."))
        return note_html(text, "warn" if standing.error else "info")
    if standing.state == "starting":
        return waiting_html("Starting")
    if standing.state == "preparing":
        total = facts.get("total") or 0
        if not total:
            return waiting_html("Loading the base model")
        return bar_html(f"{escape(str(facts['stage']))} {facts['done']:,} of {total:,}", "", facts["done"] / total)
    if standing.state not in ("training", "validating"):
        return waiting_html("Ending")
    elapsed, left = float(facts.get("elapsed") or 0.0), facts.get("seconds_left")
    loss = "" if facts.get("loss") is None else f" · loss {facts['loss']:.4f}"
    words = "Drawing and measuring after step" if standing.state == "validating" else "Learning · step"
    part = step / facts["steps"] if facts.get("steps") else 0.0
    if left is not None and elapsed + left > 0:
        part = max(part, elapsed / (elapsed + left))
    right = "" if left is None else f"about {duration_text(left)} left"
    return bar_html(f"{words} {step:,}{loss}", right, min(1.0, part))


def facts_html(follow: EventReader) -> str:
    """Return what learns and from how many pictures, warnings, and the rows that were skipped."""
    from controlnext.training.data.rows import BadRow

    if not follow.trainable:
        return ""
    rows = f"Learning from {follow.rows:,} pictures: " if follow.rows else ""
    skipped = [BadRow(name, reason) for name, reason in follow.skipped.items()]
    warnings = "".join(note_html(text, "warn") for text in follow.notes)
    return note_html(f"{rows}{follow.trainable}.") + warnings + bad_html(skipped, "skipped")


def curves_html(follow: EventReader) -> str:
    """Return the curves so far: how well the fixed pictures follow, and the losses."""
    from controlnext.training.runs.report import HELD_OUT, LEARNED, LEARNED_TOO, curve, thinned

    validations = follow.validations
    measure = next((one["measure"] for one in validations if one.get("measure")), "adherence")

    def line(name: str) -> list[tuple[float, float]]:
        return [(one["step"], one[name]) for one in validations if one.get(name) is not None]

    losses = [(step, loss) for step, loss in follow.losses if math.isfinite(loss)]
    loss = {
        "learning": thinned(losses, POINTS),
        "held out": line(HELD_OUT),
        "fixed pictures, learned from too": line(LEARNED),
        "without control": line("loss_without_control"),
    }
    drawn = curve(f"Adherence: {measure}", {measure: line("adherence")}, SIZE), curve("Loss", loss, SIZE)
    if not any(drawn):
        return ""
    note = note_html(LEARNED_TOO, "quiet") if loss["fixed pictures, learned from too"] else ""
    return f"<div class='cnx-curves'>{''.join(drawn)}</div>{note}"


def frames_html(follow: EventReader, place: int) -> str:
    """Return the fixed pictures of one validation, below what was asked for.

    Args:
        follow: the training.
        place: number of the validation, from 1.
    """
    from controlnext.training.runs.report import embedded

    if not follow.validations or not follow.asked:
        return ""
    one = follow.validations[min(max(1, place), len(follow.validations)) - 1]
    score = "" if one.get("adherence") is None else f" · follows {100 * one['adherence']:.0f} %"
    folder = follow.run.validation
    scores = [*(one.get("scores") or []), *[None] * len(follow.asked)]
    drawn = folder / f"step-{one['step']:08d}"
    columns = "".join(
        _column(embedded(folder / "asked" / f"{index}.png"), embedded(drawn / f"{index}.png"), row, scores[index])
        for index, row in enumerate(follow.asked)
    )
    return f"<p class='cnx-note'><b>After step {one['step']:,}</b>{score}</p><div class='cnx-drawn'>{columns}</div>"


def _column(asked: str, drawn: str, row: Mapping[str, str], score: float | None) -> str:
    text = escape(row["prompt"] or row["name"], quote=True)
    follows = "" if score is None else f"{100 * score:.0f} % · "
    return (
        f"<figure><img src='{asked}' alt='asked'><img src='{drawn}' alt='drawn'>"
        f"<figcaption title='{text}'>{follows}{text}</figcaption></figure>"
    )
