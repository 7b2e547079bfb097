"""Patterns of surfaces and grounds: what multiplies or replaces a colour, by place in metres."""

import torch
from torch import Tensor


def noise(x: Tensor, y: Tensor, z: Tensor | float = 0.0) -> Tensor:
    """Return a smooth pattern without a visible period, in [-1, 1]; about one bump a unit."""
    a = torch.sin(5.1 * x + 2.3 * torch.sin(3.7 * y + 1.3 * z) + 1.9 * z)
    b = torch.sin(4.3 * y + 2.1 * torch.sin(4.9 * x - 1.1 * z) - 2.3 * z)
    return a * b


def _fade(scale: Tensor | float, pixel: Tensor) -> Tensor:
    """How much of a pattern with `scale` repeats a metre is left where a pixel covers `pixel` metres: none below Nyquist."""
    return (1.6 - 3.2 * scale * pixel).clamp(0, 1)


def pattern_share(name: str, at: list[Tensor], scale: Tensor, pixel: Tensor) -> tuple[Tensor | None, Tensor]:
    """Return how much of the second colour there is (or None) and what the colour is multiplied by.

    Args:
        name: One of `PATTERNS`.
        at: x, y, z in metres on the solid, (N,) each.
        scale: Repeats a metre, (N,).
        pixel: Size of a pixel in metres, (N,).
    """
    x, y, z = at
    one = torch.ones_like(x)
    soft = (scale * pixel * 1.2).clamp(0.02, 0.5)
    step = lambda v: (0.5 + v / soft).clamp(0, 1)  # noqa: E731
    if name == "stripes":
        return step((y * scale - torch.floor(y * scale) - 0.5).abs() - 0.25), one
    if name == "pinstripes":
        return step((x * scale - torch.floor(x * scale) - 0.5).abs() - 0.38), one
    if name == "dots":
        u, v = x * scale, y * scale
        u = u + 0.5 * torch.remainder(torch.floor(v), 2)
        r = ((u - torch.floor(u) - 0.5) ** 2 + (v - torch.floor(v) - 0.5) ** 2).sqrt()
        return step(0.27 - r), one
    if name == "checks":
        u, v = torch.sin(x * scale * 3.1416), torch.sin(y * scale * 3.1416)
        return (step(0.5 * u) + step(0.5 * v)) / 2, one
    if name == "hair":
        angle = torch.atan2(x, z + 1e-5)
        lines = torch.sin(angle * 46 + 9 * y / 0.1) + 0.6 * torch.sin(angle * 97 - 5 * y / 0.1)
        return None, 1 + 0.17 * lines * _fade(scale * 1.3, pixel) + 0.10 * torch.sin(angle * 13)
    if name == "knit":
        return None, 1 + 0.10 * torch.sin(y * scale * 6.28) * torch.sin(torch.atan2(x, z + 1e-5) * 40) * _fade(
            scale, pixel
        )
    if name == "planks":
        edge = (x * scale - torch.floor(x * scale) - 0.5).abs()
        return None, 1 - 0.35 * step(edge - 0.45) + 0.08 * noise(torch.floor(x * scale) * 3.3, y * 3)
    if name == "bricks":
        v = y * scale
        u = x * scale * 0.5 + 0.5 * torch.remainder(torch.floor(v), 2)
        line = torch.maximum((v - torch.floor(v) - 0.5).abs(), (u - torch.floor(u) - 0.5).abs())
        return None, 1 - 0.28 * step(line - 0.44)
    if name == "windows":
        u, v = (x + z) * scale, y * scale
        u, v = (u - torch.floor(u) - 0.5).abs(), (v - torch.floor(v) - 0.5).abs()
        return step(0.26 - torch.maximum(u, v)), 1 - 0.15 * step(0.30 - torch.maximum(u, v))
    if name in ("foliage", "fur"):
        bump = noise(x * scale * 0.35, y * scale * 0.35, z * scale * 0.35) + 0.7 * noise(
            z * scale, x * scale, y * scale
        ) * _fade(scale, pixel)
        return None, 1 + (0.24 if name == "foliage" else 0.12) * bump
    if name == "books":
        row, column = torch.floor(y * 3.2 + 0.5), torch.floor(x * 18 + 3 * torch.sin(torch.floor(y * 3.2 + 0.5)))
        shade = 0.5 + 0.5 * torch.sin(column * 12.9 + row * 78.2)
        board = step((y * 3.2 + 0.5 - row - 0.5).abs() - 0.42)
        return (1 - board) * shade, 1 + (1 - board) * 0.9 * torch.sin(column * 4.1 + row)
    if name == "picture":
        return step(0.2 * noise(x * 4, y * 5) * (scale > 0)), 1 + 0.2 * (y * 2) * (scale <= 0)
    return None, one


def ground_shade(kind: str, x: Tensor, z: Tensor, pixel: Tensor) -> Tensor:
    """Return what multiplies the ground's colour at world places x, z in metres, (N,)."""
    slow = 1 + 0.10 * noise(x * 0.35, z * 0.35)
    if kind == "grass":
        return slow + 0.13 * noise(x * 6, z * 5) * _fade(6, pixel) + 0.12 * noise(x * 19, z * 13) * _fade(19, pixel)
    if kind in ("sand", "snow"):
        return slow + 0.05 * noise(x * 3, z * 2) + 0.05 * noise(x * 25, z * 21) * _fade(25, pixel) * (kind == "sand")
    if kind == "planks":
        u = x * 5.5
        cell = torch.floor(u)
        v = z * 0.8 + 0.37 * torch.sin(cell * 5.3)
        line = torch.maximum((u - cell - 0.5).abs() - 0.47, ((v - torch.floor(v) - 0.5).abs() - 0.49) * 3)
        return (
            1
            + 0.13 * torch.sin(cell * 12.7 + torch.floor(v) * 4.1)
            - 0.35 * (0.5 + line / 0.02).clamp(0, 1) * _fade(5.5, pixel)
        )
    if kind == "tiles":
        u, v = x * 2.2, z * 2.2
        line = torch.maximum((u - torch.floor(u) - 0.5).abs(), (v - torch.floor(v) - 0.5).abs()) - 0.475
        return (
            1
            + 0.05 * torch.sin(torch.floor(u) * 9.1 + torch.floor(v) * 5.7)
            - 0.3 * (0.5 + line / 0.02).clamp(0, 1) * _fade(4, pixel)
        )
    if kind == "road":
        return slow + 0.06 * noise(x * 23, z * 27) * _fade(25, pixel)
    return torch.ones_like(x)
