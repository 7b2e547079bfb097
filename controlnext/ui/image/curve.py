"""Plot of the control strength over the steps."""

from __future__ import annotations

from html import escape

from controlnext.method.gamma import GammaError, parse_gamma
from controlnext.ui.shared import note_html

WIDTH, HEIGHT, EDGE = 200, 44, 4
SAMPLES = 60


def curve_svg(text: str, gamma: float, start: float = 0.0, end: float = 1.0) -> str:
    """Draw gamma over the steps of a run.

    Args:
        text: a curve, as `controlnext.method.gamma` reads it; empty is constant.
        gamma: what multiplies it.
        start: fraction of the steps from which the control acts.
        end: fraction up to which it acts; outside of both the strength is 0.

    Returns:
        HTML with the drawing, or with the sentence that says what is wrong with the text.
    """
    try:
        curve = parse_gamma(text or "1")
    except GammaError as error:
        return note_html(str(error), "warn")
    places = [index / SAMPLES for index in range(SAMPLES + 1)]
    values = [gamma * curve.at(place) if start <= place <= end else 0.0 for place in places]
    top = max(1.0, *values)
    points = " ".join(f"{_x(place):.1f},{_y(value / top):.1f}" for place, value in zip(places, values, strict=True))
    first, last = gamma * curve.at(0.0), gamma * curve.at(1.0)
    label = f"{first:.2g} at the first step, {last:.2g} at the last, at most {max(values):.2g}"
    return (
        f"<figure class='cnx-curve'><svg viewBox='0 0 {WIDTH} {HEIGHT}' preserveAspectRatio='none' role='img' aria-label='{escape(label, quote=True)}'>"
        f"<polygon points='{_x(0)},{_y(0)} {points} {_x(1)},{_y(0)}'/><polyline points='{points}'/></svg>"
        f"<figcaption>{escape(label)}</figcaption></figure>"
    )


def _x(place: float) -> float:
    return EDGE + place * (WIDTH - 2 * EDGE)


def _y(part: float) -> float:
    return HEIGHT - EDGE - part * (HEIGHT - 2 * EDGE)
