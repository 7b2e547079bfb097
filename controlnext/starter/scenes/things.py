"""Places and things: rooms, streets, trees, vehicles, furniture and animals as solids."""

import math
from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from controlnext.starter.scenes.joints import turn_about
from controlnext.starter.scenes.palette import CLOTHES, WALLS, Rgb
from controlnext.starter.scenes.solids import SolidCut, Solids, Surface

_LEAF = Surface("tree", (0.07, 0.24, 0.05), pattern="foliage", scale=9.0, gloss=0.0)
_TRUNK = Surface("tree", (0.16, 0.085, 0.04), pattern="planks", scale=7.0, gloss=0.0)
_DARK: Rgb = (0.03, 0.03, 0.035)


class _Spot:
    """A place on the ground with a turn, from which a thing is built in its own metres."""

    def __init__(self, solids: Solids, x: float, z: float, yaw: float, scale: float = 1.0) -> None:
        self.solids, self.turn, self.scale = solids, turn_about("y", yaw), scale
        self.origin = np.array([x, 0.0, z])

    def at(self, x: float, y: float, z: float) -> np.ndarray:
        return self.origin + self.scale * (self.turn @ np.array([x, y, z]))

    def ball(
        self,
        x: float,
        y: float,
        z: float,
        radii: tuple[float, float, float],
        surface: Surface,
        *,
        shades: bool = False,
        cut: SolidCut | None = None,
    ) -> None:
        self.solids.ball(
            self.at(x, y, z),
            tuple(r * self.scale for r in radii),
            surface,
            turn=self.turn,
            shades=shades,
            cut=cut or SolidCut(),
        )

    def cone(
        self,
        a: tuple[float, float, float],
        b: tuple[float, float, float],
        radii: tuple[float, float],
        surface: Surface,
        *,
        flat: float = 1.0,
        shades: bool = True,
    ) -> None:
        self.solids.cone(
            self.at(*a),
            self.at(*b),
            (radii[0] * self.scale, radii[1] * self.scale),
            surface,
            flat=flat,
            front=self.turn[:, 2],
            shades=shades,
        )

    def box(self, x: float, y: float, z: float, half: tuple[float, float, float], surface: Surface) -> None:
        self.solids.box(self.at(x, y, z), tuple(h * self.scale for h in half), surface, turn=self.turn)


def _tree(s: _Spot, _: Surface) -> None:
    s.cone((0, 0, 0), (0, 1.6, 0), (0.16, 0.11), _TRUNK)
    for x, y, z, r in (
        (0, 2.7, 0, 0.85),
        (-0.6, 2.2, 0.1, 0.62),
        (0.62, 2.25, -0.05, 0.64),
        (0.1, 2.2, 0.5, 0.55),
        (0, 3.3, -0.1, 0.55),
    ):
        s.ball(x, y, z, (r, r * 0.9, r), _LEAF, shades=True)


def _pine(s: _Spot, _: Surface) -> None:
    s.cone((0, 0, 0), (0, 0.7, 0), (0.12, 0.11), _TRUNK)
    for y, r, h in ((0.8, 0.75, 1.1), (1.6, 0.58, 1.0), (2.35, 0.40, 0.9)):
        s.cone((0, y, 0), (0, y + h, 0), (r, 0.03), _LEAF._replace(colour=(0.04, 0.16, 0.06)))


def _palm(s: _Spot, _: Surface) -> None:
    s.cone((0, 0, 0), (0.35, 2.6, 0), (0.13, 0.09), _TRUNK)
    for n in range(7):
        a = 2 * math.pi * n / 7
        s.cone(
            (0.35, 2.65, 0),
            (0.35 + 1.0 * math.cos(a), 2.35 + 0.25 * math.sin(3 * n), 1.0 * math.sin(a)),
            (0.13, 0.03),
            _LEAF,
            flat=0.3,
        )


def _bush(s: _Spot, _: Surface) -> None:
    for x, r in ((-0.35, 0.38), (0.1, 0.5), (0.5, 0.36)):
        s.ball(x, r * 0.7, 0, (r, r * 0.9, r), _LEAF)


def _flowers(s: _Spot, paint: Surface) -> None:
    for n in range(9):
        x, z = 0.5 * math.sin(2.4 * n) * math.sqrt(n / 9), 0.5 * math.cos(2.4 * n) * math.sqrt(n / 9)
        h = 0.28 + 0.08 * math.sin(5 * n)
        s.cone((x, 0, z), (x, h, z), (0.012, 0.01), _LEAF, shades=False)
        s.ball(x, h + 0.04, z, (0.065, 0.05, 0.065), paint._replace(part="tree"))


def _house(s: _Spot, paint: Surface) -> None:
    wall = paint._replace(part="house", pattern="windows", scale=0.9, second=_DARK)
    s.box(0, 1.3, 0, (2.0, 1.3, 1.6), wall)
    roof = Surface("house", (0.32, 0.09, 0.06), pattern="bricks", scale=3.0)
    for side in (-1, 1):
        turn = s.turn @ turn_about("z", -side * 0.62)
        s.solids.box(s.at(side * 1.05, 3.1, 0), (1.45 * s.scale, 0.10 * s.scale, 1.8 * s.scale), roof, turn=turn)
    s.box(0.0, 0.75, 1.6, (0.4, 0.75, 0.05), paint._replace(part="house", colour=(0.20, 0.10, 0.05), pattern="plain"))


def _ball(s: _Spot, paint: Surface) -> None:
    s.ball(
        0,
        0.22,
        0,
        (0.22, 0.22, 0.22),
        paint._replace(part="thing", pattern="stripes", scale=4.0, gloss=0.4),
        shades=True,
    )


def _crate(s: _Spot, paint: Surface) -> None:
    s.box(0, 0.3, 0, (0.3, 0.3, 0.3), paint._replace(part="thing", pattern="planks", scale=8.0))


def _wheels(s: _Spot, places: tuple[tuple[float, float], ...], radius: float, width: float = 0.09) -> None:
    for x, z in places:
        s.ball(x, radius, z, (radius, radius, width), Surface("vehicle", (0.02, 0.02, 0.02), gloss=0.1))
        s.ball(
            x,
            radius,
            z + math.copysign(0.02, z),
            (radius * 0.5, radius * 0.5, width),
            Surface("vehicle", (0.45, 0.45, 0.47), gloss=0.5),
        )


def _car(s: _Spot, paint: Surface) -> None:
    body = paint._replace(part="vehicle", gloss=0.7, pattern="plain")
    glass = body._replace(colour=(0.06, 0.09, 0.12), gloss=0.9)
    s.cone((-1.7, 0.58, 0), (1.7, 0.58, 0), (0.34, 0.34), body, flat=2.2)
    s.cone((-0.75, 1.02, 0), (0.6, 1.02, 0), (0.36, 0.34), glass, flat=1.8)
    s.cone((-0.7, 1.24, 0), (0.5, 1.24, 0), (0.14, 0.14), body, flat=3.6)
    for z in (-0.5, 0.5):
        s.ball(2.0, 0.62, z, (0.05, 0.09, 0.12), body._replace(colour=(0.9, 0.88, 0.7), gloss=1.0))
    _wheels(s, ((-1.1, 0.74), (1.1, 0.74), (-1.1, -0.74), (1.1, -0.74)), 0.32)


def _bus(s: _Spot, paint: Surface) -> None:
    s.box(
        0,
        1.55,
        0,
        (3.2, 1.2, 1.1),
        paint._replace(part="vehicle", pattern="windows", scale=1.1, second=(0.05, 0.08, 0.10), gloss=0.4),
    )
    _wheels(s, ((-2.1, 1.08), (2.1, 1.08)), 0.42, 0.14)


def _bicycle(s: _Spot, paint: Surface) -> None:
    frame = paint._replace(part="vehicle", gloss=0.5, pattern="plain")
    tyre = Surface("vehicle", (0.02, 0.02, 0.02))
    for x in (-0.52, 0.52):
        for n in range(14):
            a, b = 2 * math.pi * n / 14, 2 * math.pi * (n + 1) / 14
            s.cone(
                (x + 0.33 * math.cos(a), 0.35 + 0.33 * math.sin(a), 0),
                (x + 0.33 * math.cos(b), 0.35 + 0.33 * math.sin(b), 0),
                (0.022, 0.022),
                tyre,
                shades=False,
            )
    for a, b in (
        ((-0.52, 0.35, 0), (-0.15, 0.8, 0)),
        ((-0.15, 0.8, 0), (0.36, 0.78, 0)),
        ((0.52, 0.35, 0), (0.33, 0.98, 0)),
        ((-0.05, 0.33, 0), (0.36, 0.78, 0)),
        ((-0.05, 0.33, 0), (-0.17, 0.92, 0)),
        ((-0.52, 0.35, 0), (-0.05, 0.33, 0)),
    ):
        s.cone(a, b, (0.022, 0.022), frame, shades=False)
    s.ball(-0.18, 0.95, 0, (0.14, 0.04, 0.07), tyre)
    s.cone((0.33, 0.99, -0.22), (0.33, 0.99, 0.22), (0.018, 0.018), tyre, shades=False)


def _boat(s: _Spot, paint: Surface) -> None:
    hull = paint._replace(part="vehicle", pattern="plain", gloss=0.3)
    s.ball(0, 0.25, 0, (1.5, 0.5, 0.55), hull, cut=SolidCut((0, -1, 0), -0.12))
    s.cone((0.1, 0.3, 0), (0.1, 2.4, 0), (0.05, 0.04), _TRUNK)
    s.cone((0.15, 0.7, 0.05), (0.15, 2.3, 0.05), (0.75, 0.05), Surface("vehicle", (0.85, 0.84, 0.80)), flat=0.05)


def _chair(s: _Spot, paint: Surface) -> None:
    wood = paint._replace(part="furniture", pattern="plain")
    s.box(0, 0.43, 0.02, (0.23, 0.03, 0.23), wood)
    s.box(0, 0.78, -0.22, (0.23, 0.32, 0.025), wood)
    for x in (-0.2, 0.2):
        for z in (-0.2, 0.22):
            s.cone((x, 0.02, z), (x, 0.42, z), (0.022, 0.024), wood, shades=False)


def _sofa(s: _Spot, paint: Surface) -> None:
    cloth = paint._replace(part="furniture", pattern="plain", gloss=0.02)
    s.box(0, 0.25, 0, (0.85, 0.18, 0.38), cloth)
    s.cone((-0.8, 0.66, -0.34), (0.8, 0.66, -0.34), (0.24, 0.24), cloth, flat=0.6)
    for side in (-1, 1):
        s.cone((side * 0.92, 0.42, -0.35), (side * 0.92, 0.42, 0.32), (0.16, 0.16), cloth)
        s.ball(side * 0.4, 0.46, 0.05, (0.38, 0.09, 0.34), cloth)


def _table(s: _Spot, paint: Surface) -> None:
    wood = Surface("furniture", (0.36, 0.20, 0.09), (0.26, 0.13, 0.05), "planks", 6.0, 0.3)
    s.box(0, 0.74, 0, (0.65, 0.03, 0.4), wood)
    for x in (-0.56, 0.56):
        for z in (-0.32, 0.32):
            s.cone((x, 0.02, z), (x, 0.72, z), (0.03, 0.035), wood, shades=False)
    s.cone((0.2, 0.82, 0), (0.2, 0.95, 0), (0.07, 0.09), paint._replace(part="thing"))


def _lamp(s: _Spot, paint: Surface) -> None:
    s.cone((0, 0.02, 0), (0, 1.4, 0), (0.03, 0.02), Surface("furniture", (0.1, 0.1, 0.1), gloss=0.6))
    s.ball(0, 0.02, 0, (0.18, 0.03, 0.18), Surface("furniture", (0.1, 0.1, 0.1)))
    s.cone((0, 1.4, 0), (0, 1.65, 0), (0.24, 0.12), paint._replace(part="furniture"), shades=False)


def _plant(s: _Spot, paint: Surface) -> None:
    s.cone((0, 0.1, 0), (0, 0.3, 0), (0.15, 0.2), paint._replace(part="thing", pattern="plain"))
    for n in range(8):
        a = 2 * math.pi * n / 8
        s.cone(
            (0, 0.4, 0),
            (0.38 * math.cos(a), 0.95 + 0.15 * math.sin(2.7 * n), 0.38 * math.sin(a)),
            (0.03, 0.09),
            _LEAF,
            flat=0.3,
            shades=False,
        )


def _bookshelf(s: _Spot, _: Surface) -> None:
    s.box(0, 0.95, 0, (0.6, 0.95, 0.16), Surface("furniture", (0.30, 0.16, 0.07), (0.2, 0.1, 0.05), "books", 1.0))


def _four_legs(s: _Spot, fur: Surface, size: tuple[float, float, float], legs: float) -> None:
    length, height, girth = size
    s.cone((-length / 2, height, 0), (length / 2, height * 1.03, 0), (girth * 0.92, girth), fur)
    for x in (-length / 2, length / 2):
        for z in (-girth * 0.55, girth * 0.55):
            s.cone((x, height - girth * 0.5, z), (x + 0.01, 0.035, z), (legs * 1.3, legs * 0.8), fur, shades=False)
            s.ball(x + 0.03, 0.03, z, (legs * 1.2, 0.03, legs), fur)


def _snout(s: _Spot, fur: Surface, at: tuple[float, float], size: float) -> None:
    x, y = at
    black = Surface("animal", _DARK, gloss=0.8)
    s.ball(x + size * 1.75, y + size * 0.05, 0, (size * 0.28, size * 0.22, size * 0.26), black)
    for z in (-1, 1):
        s.ball(x + size * 0.78, y + size * 0.42, z * size * 0.48, (size * 0.17,) * 3, black)


def _dog(s: _Spot, paint: Surface) -> None:
    fur = paint._replace(part="animal", pattern="fur", scale=30.0)
    _four_legs(s, fur, (0.48, 0.42, 0.14), 0.045)
    s.cone((0.22, 0.46, 0), (0.36, 0.66, 0), (0.11, 0.10), fur)
    s.ball(0.40, 0.70, 0, (0.14, 0.13, 0.13), fur)
    s.cone(
        (0.46, 0.66, 0),
        (0.60, 0.64, 0),
        (0.08, 0.055),
        fur._replace(colour=tuple(min(1, c * 1.5 + 0.05) for c in fur.colour)),
    )
    _snout(s, fur, (0.40, 0.68), 0.14)
    for z in (-1, 1):
        s.cone(
            (0.36, 0.80, z * 0.09),
            (0.33, 0.62, z * 0.16),
            (0.035, 0.055),
            fur._replace(colour=tuple(0.6 * c for c in fur.colour)),
            flat=0.6,
        )
    s.cone((-0.26, 0.50, 0), (-0.46, 0.72, 0), (0.05, 0.025), fur)


def _cat(s: _Spot, paint: Surface) -> None:
    fur = paint._replace(part="animal", pattern="fur", scale=40.0)
    _four_legs(s, fur, (0.30, 0.26, 0.095), 0.03)
    s.cone((0.14, 0.28, 0), (0.22, 0.38, 0), (0.075, 0.07), fur)
    s.ball(0.24, 0.42, 0, (0.095, 0.092, 0.10), fur)
    _snout(s, fur, (0.20, 0.41), 0.075)
    for z in (-1, 1):
        s.cone((0.23, 0.48, z * 0.055), (0.23, 0.56, z * 0.068), (0.032, 0.006), fur)
    s.cone((-0.16, 0.30, 0), (-0.30, 0.46, 0.04), (0.032, 0.03), fur)
    s.cone((-0.30, 0.46, 0.04), (-0.26, 0.62, 0.06), (0.03, 0.02), fur)


def _bird(s: _Spot, paint: Surface) -> None:
    feather = paint._replace(part="animal", pattern="plain")
    s.ball(0, 0.17, 0, (0.14, 0.09, 0.085), feather)
    s.ball(0.12, 0.26, 0, (0.065, 0.065, 0.062), feather)
    s.cone((0.17, 0.26, 0), (0.235, 0.25, 0), (0.022, 0.003), Surface("animal", CLOTHES["orange"]))
    s.cone((-0.10, 0.18, 0), (-0.26, 0.20, 0), (0.05, 0.02), feather, flat=0.5)
    for z in (-1, 1):
        s.ball(0.155, 0.28, z * 0.045, (0.013,) * 3, Surface("animal", _DARK, gloss=0.8))
        s.ball(
            -0.02, 0.18, z * 0.08, (0.11, 0.06, 0.02), feather._replace(colour=tuple(0.55 * c for c in feather.colour))
        )
        s.cone(
            (0.0, 0.1, z * 0.03),
            (0.01, 0.0, z * 0.03),
            (0.01, 0.01),
            Surface("animal", CLOTHES["orange"]),
            shades=False,
        )


def _bench(s: _Spot, _: Surface) -> None:
    wood = Surface("furniture", (0.34, 0.19, 0.08), (0.24, 0.12, 0.05), "planks", 9.0)
    s.box(0, 0.44, 0, (0.8, 0.03, 0.22), wood)
    s.box(0, 0.80, -0.2, (0.8, 0.16, 0.03), wood)
    for x in (-0.65, 0.65):
        s.box(x, 0.21, 0, (0.04, 0.21, 0.2), Surface("furniture", (0.06, 0.06, 0.06)))


THINGS: MappingProxyType[str, Callable[[_Spot, Surface], None]] = MappingProxyType(
    {
        "tree": _tree, "pine": _pine, "palm": _palm, "bush": _bush, "flowers": _flowers, "house": _house, "ball": _ball, "crate": _crate,
        "car": _car, "bus": _bus, "bicycle": _bicycle, "boat": _boat, "chair": _chair, "sofa": _sofa, "table": _table, "lamp": _lamp,
        "plant": _plant, "bookshelf": _bookshelf, "dog": _dog, "cat": _cat, "bird": _bird, "bench": _bench,
    }
)  # fmt: skip
"""Name -> what builds it on a spot in a given paint."""

FURS: MappingProxyType[str, Rgb] = MappingProxyType(
    {
        "brown": (0.26, 0.13, 0.05),
        "black": (0.03, 0.03, 0.03),
        "white": (0.78, 0.76, 0.72),
        "grey": (0.30, 0.30, 0.31),
        "orange": (0.62, 0.26, 0.06),
    }
)
"""Linear RGB of animals by name."""


def add_thing(solids: Solids, name: str, colour: str, x: float, z: float, yaw: float, scale: float = 1.0) -> None:
    """Add a thing of `THINGS` in a colour of `CLOTHES` (animals: of `FURS`) at a spot on the ground, metres and radians."""
    rgb = (FURS if name in ("dog", "cat") else CLOTHES)[colour]
    THINGS[name](_Spot(solids, x, z, yaw, scale), Surface("thing", rgb, (0.8, 0.8, 0.78), gloss=0.15))


def add_room(solids: Solids, wall: str, depth: float, side: float, picture: str) -> None:
    """Add a back wall `depth` metres behind the origin and a side wall `side` metres away; `picture` hangs on the back wall."""
    back = Surface("wall", WALLS[wall], gloss=0.0)
    solids.box(np.array([0, 2.5, -depth - 0.1]), (12, 2.6, 0.1), back)
    solids.box(np.array([side, 2.5, 0]), (0.1, 2.6, 12), back._replace(colour=tuple(0.86 * c for c in WALLS[wall])))
    solids.box(np.array([0, 0.06, -depth + 0.01]), (12, 0.07, 0.02), back._replace(colour=(0.7, 0.69, 0.67)))
    x = -math.copysign(0.9, side)
    if picture == "window":
        solids.box(np.array([x, 1.6, -depth]), (0.62, 0.75, 0.03), back._replace(colour=(0.75, 0.74, 0.72)))
        solids.box(
            np.array([x, 1.6, -depth + 0.03]),
            (0.54, 0.67, 0.02),
            Surface("wall", (0.55, 0.78, 1.0), pattern="picture", scale=0.0),
        )
        solids.box(np.array([x, 1.6, -depth + 0.05]), (0.025, 0.67, 0.02), back._replace(colour=(0.75, 0.74, 0.72)))
    elif picture:
        solids.box(np.array([x, 1.65, -depth]), (0.42, 0.32, 0.03), Surface("wall", (0.08, 0.05, 0.03), gloss=0.3))
        solids.box(
            np.array([x, 1.65, -depth + 0.02]),
            (0.37, 0.27, 0.02),
            Surface("wall", CLOTHES[picture], CLOTHES["beige"], "picture", 1.0),
        )


def add_street(solids: Solids, rng: np.random.Generator, depth: float) -> None:
    """Add a row of buildings `depth` metres behind the origin."""
    x = -9.0 + rng.uniform(-1, 1)
    while x < 9:
        half, height = rng.uniform(1.2, 2.2), rng.uniform(1.8, 4.5)
        wall = WALLS[list(WALLS)[int(rng.integers(len(WALLS)))]]
        brick = Surface("house", wall, (0.05, 0.07, 0.10), "windows", rng.uniform(0.6, 0.9), 0.1)
        solids.box(np.array([x + half, height, -depth - 2]), (half, height, 2 + rng.uniform(-0.4, 0.4)), brick)
        x += 2 * half + 0.02
