"""The painted part of a face: eyes, brows, mouth, cheeks, beard and glasses on the head's front."""

import math

import torch
from torch import Tensor

from controlnext.starter.scenes.character import Character
from controlnext.starter.scenes.palette import EYES, HAIR

# The head's solid starts below and in front of the head's middle and leans back by this angle.
_ORIGIN_Y, _ORIGIN_Z = -0.066, 0.014
_LEAN = math.atan2(0.018, 0.094)

# expression: brows' slope and lift, openness of the eyes, bend of the mouth, its opening, its half width.
_FACES = {
    "smiling": (0.10, 0.002, 0.95, 8.0, 0.0, 0.037),
    "neutral": (0.0, 0.0, 1.0, 0.6, 0.0, 0.024),
    "laughing": (0.12, 0.006, 0.62, 7.0, 0.019, 0.036),
    "sad": (0.38, 0.003, 0.85, -8.5, 0.0, 0.028),
    "surprised": (0.10, 0.015, 1.30, 0.0, 0.020, 0.014),
    "angry": (-0.45, -0.005, 0.85, -3.0, 0.0, 0.024),
}


def _over(colour: list[Tensor], paint: tuple[float, ...] | list, share: Tensor) -> list[Tensor]:
    return [c + (p - c) * share for c, p in zip(colour, paint, strict=True)]


def _inside(distance: Tensor, soft: Tensor) -> Tensor:
    """Turn a signed distance (negative inside) into a share in [0, 1] over `soft` metres."""
    return (0.5 - distance / soft).clamp(0, 1)


def _line(x: Tensor, y: Tensor, a: tuple[float, float], b: tuple[float, float], radius: float) -> Tensor:
    """Signed distance to a thick line."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    px, py = x - a[0], y - a[1]
    h = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return ((px - h * dx) ** 2 + (py - h * dy) ** 2).sqrt() - radius


def paint_face(who: Character, unit: float, local: list[Tensor], colour: list[Tensor], pixel: Tensor) -> list[Tensor]:
    """Paint a face.

    Args:
        who: Whose it is.
        unit: Size of the head relative to an adult's.
        local: x, y, z in metres in the frame of the head's solid, (N,) each.
        colour: Linear RGB of the skin, (N,) each.
        pixel: Size of a pixel there in metres, (N,).

    Returns:
        Linear RGB, (N,) each.
    """
    c, s = math.cos(_LEAN), math.sin(_LEAN)
    x = local[0] / unit
    ly, lz = local[1] / unit, local[2] / unit
    y, z = _ORIGIN_Y + c * ly + s * lz, _ORIGIN_Z - s * ly + c * lz
    soft = (pixel / unit).clamp_min(0.0004) * 1.2
    front = (z > 0.012).float()
    slope, lift, openness, bend, gap, half = _FACES[who.expression]
    hair, iris = HAIR[who.hair], EYES[who.eyes]
    dark = tuple(0.6 * v for v in hair)
    # cheeks and the shade below the brows
    for side in (-1, 1):
        blush = torch.exp(-(((x - side * 0.052) / 0.020) ** 2 + ((y + 0.026) / 0.016) ** 2)) * front
        colour = [v * (1 + blush * k) for v, k in zip(colour, (0.10, -0.16, -0.14), strict=True)]
        socket = torch.exp(-(((x - side * 0.036) / 0.024) ** 2 + ((y - 0.018) / 0.016) ** 2)) * front
        colour = [v * (1 - 0.13 * socket) for v in colour]
    if who.beard:
        colour = _beard(who, x, y, z, colour, hair, soft)
    colour = _mouth(who, x, y, front, colour, (bend, gap, half), soft)
    ey = 0.014
    for side in (-1, 1):
        ex = x - side * 0.036
        rx, ry = 0.0190, 0.0118 * openness
        dy = y - ey
        white = _inside((((ex / rx) ** 2 + (dy / ry) ** 2).sqrt() - 1) * ry, soft) * front
        gx, gy = who.gaze[0] * 0.011, who.gaze[1] * 0.006
        r = ((ex - gx) ** 2 + (dy - gy) ** 2).sqrt()
        eye = [torch.full_like(x, v) for v in (0.70, 0.70, 0.71)]
        eye = _over(eye, iris, _inside(r - 0.0112, soft))
        eye = _over(eye, (0.01, 0.01, 0.012), _inside(r - 0.0058, soft))
        glint = ((ex - gx - 0.0035) ** 2 + (dy - gy - 0.0042) ** 2).sqrt()
        eye = _over(eye, (1.0, 1.0, 1.0), _inside(glint - 0.0022, soft))
        lid = ((dy - 0.30 * ry) / (0.7 * ry)).clamp(0, 1)
        eye = [v * (1 - 0.45 * lid) for v in eye]
        colour = [v + (e - v) * white for v, e in zip(colour, eye, strict=True)]
        lash = 0.0017 if who.kind in ("man", "boy") else 0.0027
        arc = (((ex / (rx * 1.03)) ** 2 + ((dy - 0.001) / (ry * 1.06)) ** 2).sqrt() - 1).abs() * ry - lash
        colour = _over(colour, (0.03, 0.02, 0.02), _inside(arc, soft) * (dy > 0.002).float() * front)
        inner, outer = (side * 0.018, 0.041 + lift - slope * -0.012), (side * 0.055, 0.041 + lift - slope * 0.020)
        brow = _line(
            x, y - 0.006 * (1 - ((ex) / 0.022) ** 2).clamp(0, 1), inner, outer, 0.0044 if who.kind == "man" else 0.0030
        )
        colour = _over(colour, dark, 0.92 * _inside(brow, soft) * front)
        if who.glasses:
            ring = (((ex / 0.030) ** 2 + ((dy + 0.001) / 0.024) ** 2).sqrt() - 1) * 0.026
            if who.glasses == "sunglasses":
                colour = _over(colour, (0.015, 0.015, 0.02), _inside(ring, soft) * front)
                colour = _over(
                    colour,
                    (0.25, 0.27, 0.30),
                    0.5 * _inside(_line(ex, dy, (-0.012, 0.004), (-0.004, 0.012), 0.003), soft) * front,
                )
            colour = _over(colour, (0.015, 0.015, 0.02), _inside(ring.abs() - 0.0024, soft) * front)
    if who.glasses:
        colour = _over(
            colour, (0.015, 0.015, 0.02), _inside(_line(x, y, (-0.008, 0.018), (0.008, 0.018), 0.0022), soft) * front
        )
    return colour


def _mouth(
    who: Character,
    x: Tensor,
    y: Tensor,
    front: Tensor,
    colour: list[Tensor],
    form: tuple[float, float, float],
    soft: Tensor,
) -> list[Tensor]:
    bend, gap, half = form
    my = y + 0.061 - bend * x * x + 0.0008 * bend
    red = 0.55 if who.kind in ("woman", "girl") else 0.30
    lips = [v * (1 - red) + red * p for v, p in zip(colour, (0.50, 0.08, 0.09), strict=True)]
    across = _inside(x.abs() - half, soft * 2)
    if gap > 0:
        rx, ry = half, gap
        inside = ((x / rx) ** 2 + (my / ry) ** 2).sqrt() - 1
        outer = ((x / (rx + 0.005)) ** 2 + (my / (ry + 0.005)) ** 2).sqrt() - 1
        colour = [v + (p - v) * _inside(outer * ry, soft) * front for v, p in zip(colour, lips, strict=True)]
        colour = _over(colour, (0.10, 0.02, 0.02), _inside(inside * ry, soft) * front)
        teeth = _inside(inside * ry + 0.001, soft) * _inside(0.25 * ry - my, soft)
        return _over(colour, (0.85, 0.84, 0.80), teeth * front)
    thick = 0.0074 if who.kind in ("woman", "girl") else 0.0058
    share = _inside(my.abs() - thick * (1 - (x / half) ** 2).clamp(0, 1).sqrt(), soft) * across * front
    colour = [v + (p - v) * share for v, p in zip(colour, lips, strict=True)]
    return _over(colour, (0.14, 0.035, 0.03), 0.85 * _inside(my.abs() - 0.0016, soft) * across * front)


def _beard(
    who: Character, x: Tensor, y: Tensor, z: Tensor, colour: list[Tensor], hair: tuple[float, ...], soft: Tensor
) -> list[Tensor]:
    moustache = _inside(
        ((x / 0.032) ** 2 + ((y + 0.046 + 3.0 * x * x) / 0.0085) ** 2).sqrt().sub(1) * 0.0085, soft * 2
    )
    if who.beard == "moustache":
        return _over(colour, hair, 0.95 * moustache * (z > 0).float())
    cheek = -0.034 - 0.004 * (x / 0.03) ** 2 + 1.05 * (x.abs() - 0.042).clamp_min(0)
    chin = _inside(y - cheek, soft * 4) * _inside(-z - 0.02, soft * 6)
    bare = _inside(((x / 0.026) ** 2 + ((y + 0.062) / 0.013) ** 2).sqrt().sub(1) * 0.013, soft * 2)
    share = torch.maximum(chin * (1 - bare), moustache * (z > 0).float())
    return _over(colour, hair, (0.35 if who.beard == "stubble" else 0.95) * share)
