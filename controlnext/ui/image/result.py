"""Summary of finished pictures, as HTML for the page and JSON for the API."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from controlnext.ui.shared import badge_html, note_html

if TYPE_CHECKING:
    from controlnext.studio.studio import Result


def facts(result: Result) -> dict[str, Any]:
    """Return the recipe as JSON values, and with it what was measured.

    Returns:
        All fields of the recipe, `seeds` (one a picture), `adherence` (one a picture, 0 to 1 or null), `adherence_name`,
        `adherences` (the same by kind of control), `seconds`, `stopped`, `notes` (sentences) and `files` (names inside the output folder).
    """
    return {
        **result.recipe.model_dump(mode="json"),
        "seeds": list(result.seeds),
        "adherence": [None if score is None else round(float(score), 4) for score in result.adherence],
        "adherence_name": result.adherence_name,
        "adherences": {
            kind: [None if score is None else round(float(score), 4) for score in scores]
            for kind, scores in result.adherences.items()
        },
        "seconds": round(result.seconds, 2),
        "stopped": result.stopped,
        "notes": list(result.notes),
        "files": [path.name for path in result.files],
    }


def summary_html(result: Result) -> str:
    """Return the badges of the pictures, and a line on time and place."""
    others = list(result.adherences.items())[1:]
    badges = "".join(
        badge_html(number, seed, score, result.adherence_name, {kind: scores[number - 1] for kind, scores in others})
        for number, (seed, score) in enumerate(zip(result.seeds, result.adherence, strict=True), start=1)
    )
    made = len(result.images)
    pictures = "1 picture" if made == 1 else f"{made} pictures"
    stopped = ", then stopped" if result.stopped else ""
    notes = note_html(" ".join(result.notes), "warn")
    where = escape(result.files[0].parent.name) if result.files else ""
    return (
        f"<div class='cnx-badges'>{badges}</div>"
        f"<p class='cnx-summary'>{pictures} in {result.seconds:.1f} s{stopped}, saved in {where}/ with the recipe inside</p>{notes}"
    )
