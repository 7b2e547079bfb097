"""Solids of a scene as one table: balls, round cones and boxes, each with an affine frame, cuts and a surface."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from controlnext.starter.scenes.palette import PART, Rgb

BALL, CONE, BOX = 0, 1, 2

PATTERNS = (
    "plain",
    "stripes",
    "pinstripes",
    "dots",
    "checks",
    "hair",
    "knit",
    "planks",
    "bricks",
    "windows",
    "foliage",
    "fur",
    "face",
    "print",
    "books",
    "picture",
)
"""Patterns of a surface, drawn in the solid's own coordinates."""


class Surface(NamedTuple):
    """What a solid is covered with.

    `part` a name of `PARTS`; `colour` and `second` linear RGB; `pattern` a name of `PATTERNS` and `scale` its repeats a metre;
    `gloss` in [0, 1]; `person` the index of the face that is painted on it, or -1.
    """

    part: str
    colour: Rgb
    second: Rgb = (1.0, 1.0, 1.0)
    pattern: str = "plain"
    scale: float = 20.0
    gloss: float = 0.1
    person: int = -1


class SolidCut(NamedTuple):
    """What is left out of a solid, in its own coordinates in metres.

    Kept is what lies at `normal . p >= offset`, less an opening towards +z: the ellipse around (`open_x`, `open_y`) with half
    axes `open_a` and `open_b` where z > `open_z`. `open_a` 0 opens nothing.
    """

    normal: tuple[float, float, float] = (0.0, 0.0, 0.0)
    offset: float = -1.0
    open_a: float = 0.0
    open_b: float = 1.0
    open_x: float = 0.0
    open_y: float = 0.0
    open_z: float = 0.0


WHOLE = SolidCut()


def frame_along(axis: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Return rotation rows (x, y, z) with y along `axis` (3,) and z as near to `front` (3,) as that allows."""
    y = axis / max(float(np.linalg.norm(axis)), 1e-9)
    z = front - (front @ y) * y
    if z @ z < 1e-6:
        z = np.array([0.3, 0.2, 0.9]) - np.array([0.3, 0.2, 0.9]) @ y * y
    z = z / np.linalg.norm(z)
    return np.stack([np.cross(y, z), y, z])


class _Form(NamedTuple):
    """The columns of a row that say its shape; see `Solids`."""

    length: float
    radii: tuple[float, float]
    size: tuple[float, float, float]
    cut: SolidCut
    shades: bool


@dataclass
class Solids:
    """The solids of a scene; a row each.

    A row's frame takes world points to the solid's own: `local = matrix @ (point - origin)`, in which the solid is a ball of
    `radii[0]`, a round cone from (0, 0, 0) with `radii[0]` to (0, `length`, 0) with `radii[1]`, or the cube [-1, 1]^3. `size`
    times local is metres. `group` says whose it is: the index of a person or thing, -1 for the place; solids are added to `current`.
    """

    kind: list[int] = field(default_factory=list)
    matrix: list[np.ndarray] = field(default_factory=list)
    origin: list[np.ndarray] = field(default_factory=list)
    length: list[float] = field(default_factory=list)
    radii: list[tuple[float, float]] = field(default_factory=list)
    size: list[tuple[float, float, float]] = field(default_factory=list)
    cut: list[SolidCut] = field(default_factory=list)
    surface: list[Surface] = field(default_factory=list)
    shades: list[bool] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    current: int = -1

    def __len__(self) -> int:
        """Return the number of solids."""
        return len(self.kind)

    def _add(self, kind: int, matrix: np.ndarray, origin: np.ndarray, surface: Surface, form: _Form) -> None:
        self.kind.append(kind)
        self.matrix.append(matrix)
        self.origin.append(np.asarray(origin, float))
        self.length.append(form.length)
        self.radii.append(form.radii)
        self.size.append(form.size)
        self.cut.append(form.cut)
        self.surface.append(surface)
        self.shades.append(form.shades)
        self.group.append(self.current)

    def ball(
        self,
        centre: np.ndarray,
        radii: tuple[float, float, float],
        surface: Surface,
        *,
        turn: np.ndarray | None = None,
        cut: SolidCut = WHOLE,
        shades: bool = False,
    ) -> None:
        """Add an ellipsoid: `radii` in metres along the columns of `turn` (3, 3); `shades` lets it throw a shadow."""
        rx, ry, rz = radii
        rows = np.eye(3) if turn is None else turn.T
        matrix = rows * np.array([1.0, rx / ry, rx / rz])[:, None]
        self._add(BALL, matrix, centre, surface, _Form(0.0, (rx, rx), (1.0, ry / rx, rz / rx), cut, shades))

    def cone(
        self,
        start: np.ndarray,
        end: np.ndarray,
        radii: tuple[float, float],
        surface: Surface,
        *,
        flat: float = 1.0,
        front: np.ndarray | None = None,
        cut: SolidCut = WHOLE,
        shades: bool = True,
    ) -> None:
        """Add a round cone; `flat` squeezes it along `front` (3,), which also turns its pattern."""
        axis = np.asarray(end, float) - start
        length = float(np.linalg.norm(axis))
        least = abs(radii[0] - radii[1]) * 1.02 + 1e-4
        if length < least:  # one ball would hold the other
            radius = max(radii)
            turn = None if front is None else frame_along(np.array([0, 1.0, 0]), np.asarray(front, float)).T
            self.ball(start, (radius, radius, radius * flat), surface, turn=turn, cut=cut, shades=shades)
            return
        rows = frame_along(axis, np.array([0.0, 0, 1.0]) if front is None else np.asarray(front, float))
        matrix = rows * np.array([1.0, 1.0, 1.0 / flat])[:, None]
        self._add(CONE, matrix, start, surface, _Form(length, radii, (1.0, 1.0, flat), cut, shades))

    def box(
        self, centre: np.ndarray, half: tuple[float, float, float], surface: Surface, *, turn: np.ndarray | None = None
    ) -> None:
        """Add a box with half sizes `half` in metres along the columns of `turn` (3, 3)."""
        rows = np.eye(3) if turn is None else turn.T
        self._add(BOX, rows / np.array(half)[:, None], centre, surface, _Form(0.0, (1.0, 1.0), half, WHOLE, False))

    def corners(self) -> np.ndarray:
        """Return the corners (n, 8, 3) of each solid's bounding box in the world, metres."""
        signs = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        radii, length = np.array(self.radii), np.array(self.length)
        most = np.where(np.array(self.kind) == BOX, 1.0, radii.max(1))
        low = np.stack([-most, -np.where(np.array(self.kind) == CONE, radii[:, 0], most), -most], 1)
        high = np.stack([most, length + np.where(np.array(self.kind) == CONE, radii[:, 1], most), most], 1)
        local = low[:, None] + signs * (high - low)[:, None]
        return np.einsum("nij,nkj->nki", np.linalg.inv(np.array(self.matrix)), local) + np.array(self.origin)[:, None]

    def parts(self) -> np.ndarray:
        """Return the part index of each solid, (n,) uint8."""
        return np.array([PART[s.part] for s in self.surface], np.uint8)
