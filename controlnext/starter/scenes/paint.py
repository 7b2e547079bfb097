"""Light and colour: turns what is seen in each pixel into a picture."""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from controlnext.starter.scenes.cast import Seen
from controlnext.starter.scenes.faces import paint_face
from controlnext.starter.scenes.joints import Joints
from controlnext.starter.scenes.palette import PART, WALLS, Rgb
from controlnext.starter.scenes.patterns import noise, pattern_share
from controlnext.starter.scenes.shot import Shot
from controlnext.starter.scenes.solids import BOX, CONE, PATTERNS, Solids

GROUNDS: MappingProxyType[str, Rgb] = MappingProxyType(
    {
        "grass": (0.13, 0.29, 0.055),
        "sand": (0.70, 0.53, 0.32),
        "snow": (0.80, 0.84, 0.90),
        "road": (0.17, 0.17, 0.18),
        "planks": (0.36, 0.21, 0.105),
        "tiles": (0.55, 0.53, 0.50),
        "plain": (0.42, 0.40, 0.38),
    }
)
"""Linear RGB of grounds by kind."""

WATER: Rgb = (0.05, 0.22, 0.32)


@dataclass(frozen=True)
class Daylight:
    """A time of day: linear RGB of zenith, horizon, sunlight and ambient light."""

    zenith: Rgb
    horizon: Rgb
    sun: Rgb
    ambient: Rgb


DAYLIGHTS = MappingProxyType(
    {
        "day": Daylight((0.14, 0.34, 0.78), (0.62, 0.80, 0.96), (1.25, 1.18, 1.06), (0.46, 0.53, 0.62)),
        "sunset": Daylight((0.30, 0.20, 0.38), (1.0, 0.50, 0.20), (1.35, 0.82, 0.50), (0.46, 0.38, 0.42)),
        "night": Daylight((0.008, 0.013, 0.045), (0.035, 0.055, 0.14), (0.34, 0.40, 0.58), (0.14, 0.16, 0.24)),
        "dawn": Daylight((0.48, 0.48, 0.74), (1.0, 0.76, 0.78), (1.05, 0.92, 0.90), (0.50, 0.47, 0.54)),
    }
)
INDOORS = MappingProxyType(
    {
        "day": Daylight((0, 0, 0), (0.5, 0.5, 0.5), (0.95, 0.92, 0.86), (0.60, 0.60, 0.62)),
        "sunset": Daylight((0, 0, 0), (0.5, 0.4, 0.3), (1.15, 0.78, 0.50), (0.52, 0.45, 0.42)),
        "night": Daylight((0, 0, 0), (0.1, 0.1, 0.1), (0.72, 0.55, 0.34), (0.24, 0.22, 0.22)),
        "dawn": Daylight((0, 0, 0), (0.5, 0.5, 0.5), (0.92, 0.86, 0.88), (0.56, 0.54, 0.58)),
    }
)


@dataclass(frozen=True)
class Rays:
    """The rays of a picture: X (W,), Y (H,) and the camera's axes; `scale` pixels a unit of X."""

    x: Tensor
    y: Tensor
    axes: np.ndarray
    eye: np.ndarray
    scale: float

    def grid(self) -> tuple[Tensor, Tensor]:
        """Return X and Y of all pixels, flat (H * W,)."""
        shape = (len(self.y), len(self.x))
        return self.x.expand(shape).reshape(-1), self.y[:, None].expand(shape).reshape(-1)

    def world(self, row: int, x: Tensor, y: Tensor) -> Tensor:
        """Return one coordinate (0 x, 1 y, 2 z) of the rays' directions in the world."""
        a = self.axes[:, row].tolist()
        return a[0] * x + a[1] * y + a[2]


def capsules_of(shot: Shot, joints: tuple[Joints, ...], solids: Solids) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Return what throws shadows: start, end and radius in the world, metres."""
    found = []
    for who, j in zip(shot.people, joints, strict=True):
        p, k = j.points, who.shape.height
        found += [
            (p["head"] - [0, 0.02, 0], p["head"] + [0, 0.03, 0], 0.115 * j.unit),
            (p["neck"], p["pelvis"], 0.15 * k),
        ]
        if shot.framing in ("head", "bust"):
            continue
        for side in ("right", "left"):
            found += [
                (p[f"{side}_shoulder"], p[f"{side}_elbow"], 0.05 * k),
                (p[f"{side}_elbow"], p[f"{side}_wrist"], 0.045 * k),
            ]
            found += [
                (p[f"{side}_hip"], p[f"{side}_knee"], 0.085 * k),
                (p[f"{side}_knee"], p[f"{side}_ankle"], 0.06 * k),
            ]
    for i, throws in enumerate(solids.shades):
        if throws and solids.group[i] >= len(shot.people) and len(found) < 40:
            a = solids.origin[i]
            b = a + np.linalg.inv(solids.matrix[i]) @ np.array([0, solids.length[i], 0])
            found.append((a, b, float(np.mean(solids.radii[i]))))
    return found


def shadow(points: list[Tensor], light: np.ndarray, capsules: list[tuple[np.ndarray, np.ndarray, float]]) -> Tensor:
    """Return how much of the sun reaches points (three (N,) tensors, world): soft shadows of capsules, in [0, 1].

    Source: Inigo Quilez, "Capsule - soft shadow" (iquilezles.org/articles/intersectors).
    """
    lit = torch.ones_like(points[0])
    lx, ly, lz = light.tolist()
    for a, b, radius in capsules:
        ba = b - a
        baba, dba = max(float(ba @ ba), 1e-6), float(ba @ light)
        ax, ay, az = a.tolist()
        ox, oy, oz = points[0] - ax, points[1] - ay, points[2] - az
        oad = ox * lx + oy * ly + oz * lz
        oaba = ox * ba[0].item() + oy * ba[1].item() + oz * ba[2].item()
        below = max(baba - dba * dba, 1e-6)
        along = ((dba * oaba - oad * baba) / below).clamp_min(1e-4)
        h = ((oaba - oad * dba) / below).clamp(0, 1)
        dx, dy, dz = (
            ox + along * lx - h * ba[0].item(),
            oy + along * ly - h * ba[1].item(),
            oz + along * lz - h * ba[2].item(),
        )
        distance = (dx * dx + dy * dy + dz * dz).sqrt() - radius
        # A point on the thing itself is not shaded by it: only what lies a radius further on counts.
        share = (0.5 + 3.0 * distance / along.clamp_min(0.1)).clamp(0, 1)
        share = torch.where(along < 1.15 * radius + 0.02, 1.0, share * share * (3 - 2 * share))
        lit = lit * share
    return lit


def _table(solids: Solids, seen: Seen) -> Tensor:
    """Return a column a solid: what shading needs of it, (31, n) float32."""
    s = solids.surface
    pattern = [PATTERNS.index(v.pattern) for v in s]
    columns = [
        seen.toward.reshape(-1, 9),
        seen.start,
        np.array(solids.size),
        np.array([v.colour for v in s]),
        np.array([v.second for v in s]),
        np.column_stack(
            [
                seen.kinds,
                seen.form[:, :3],
                pattern,
                [v.scale for v in s],
                [v.gloss for v in s],
                [v.person for v in s],
                solids.parts(),
            ]
        ),
    ]
    return torch.from_numpy(np.concatenate(columns, 1).T.astype(np.float32).copy())


def _normals(row: list[Tensor], kind: Tensor, local: list[Tensor]) -> list[Tensor]:
    """Return unit normals in camera space."""
    length, ra, rb = row[22], row[23], row[24]
    slope = torch.where(kind == CONE, (ra - rb) / length.clamp_min(1e-6), 0.0)
    radial = (local[0] * local[0] + local[2] * local[2]).sqrt()
    middle = (local[1] - radial * slope / (1 - slope * slope).clamp_min(1e-6).sqrt()).clamp_min(0)
    n = [local[0], local[1] - torch.minimum(middle, length), local[2]]
    box = kind == BOX
    if bool(box.any()):
        most = torch.maximum(torch.maximum(local[0].abs(), local[1].abs()), local[2].abs())
        n = [
            torch.where(box, torch.where(v.abs() >= most * 0.9999, v.sign(), 0.0), m)
            for v, m in zip(local, n, strict=True)
        ]
    camera = [row[k] * n[0] + row[3 + k] * n[1] + row[6 + k] * n[2] for k in range(3)]
    norm = (camera[0] ** 2 + camera[1] ** 2 + camera[2] ** 2).sqrt().clamp_min(1e-9)
    return [c / norm for c in camera]


def shade_solids(
    shot: Shot, solids: Solids, seen: Seen, rays: Rays, pixels: Tensor, owner: Tensor, t: Tensor, units: list[float]
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return albedo (three (N,)), normals in camera space (three (N,)) and gloss (N,) of the pixels that show solids."""
    gx, gy = rays.grid()
    x, y = gx[pixels], gy[pixels]
    columns = _table(solids, seen)[:, owner]
    row = list(columns)
    ray = [row[3 * k] * x + row[3 * k + 1] * y + row[3 * k + 2] for k in range(3)]
    local = [row[9 + k] + t * ray[k] for k in range(3)]
    normals = _normals(row, row[21], local)
    flip = torch.where(normals[0] * x + normals[1] * y + normals[2] > 0, -1.0, 1.0)
    normals = [n * flip for n in normals]
    at = [v * s for v, s in zip(local, row[12:15], strict=True)]
    albedo, pixel = row[15:18], t / rays.scale
    for number in torch.unique(row[25]).int().tolist():
        if number == 0:
            continue
        name, where = PATTERNS[number], (row[25] == number).nonzero()[:, 0]
        here = [v[where] for v in at]
        if name == "face":
            persons = row[28][where].int()
            for person in torch.unique(persons).tolist():
                mine = where[persons == person]
                painted = paint_face(
                    shot.people[person], units[person], [v[mine] for v in at], [a[mine] for a in albedo], pixel[mine]
                )
                albedo = [a.index_copy(0, mine, p) for a, p in zip(albedo, painted, strict=True)]
            continue
        mix, times = pattern_share(name, here, row[26][where], pixel[where])
        for k in range(3):
            colour = albedo[k][where]
            if mix is not None:
                colour = colour + (row[18 + k][where] - colour) * mix
            albedo[k] = albedo[k].index_copy(0, where, colour * times)
    return albedo, normals, row[27]


def sky(shot: Shot, day: Daylight, x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    """Return linear RGB of the sky in directions of the world, (N,) each."""
    norm = (x * x + y * y + z * z).sqrt()
    x, y, z = x / norm, y / norm, z / norm
    rising = y.clamp_min(0)
    fall = torch.exp(-rising * 3.4)
    colour = [zenith + (horizon - zenith) * fall for zenith, horizon in zip(day.zenith, day.horizon, strict=True)]
    phase = float(shot.seed % 97)
    if shot.weather != "clear":
        grey = 0.5 * (day.horizon[0] + day.horizon[2])
        u, v = x / (rising + 0.25) * 0.6 + phase, z / (rising + 0.25) * 0.6
        puffs = noise(u, v) + 0.5 * noise(2.3 * u, 2.1 * v) + 0.25 * noise(5.1 * u, 4.7 * v)
        share = ((puffs - 0.05) * 1.6).clamp(0, 1) * 0.85 if shot.weather == "clouds" else torch.full_like(x, 0.85)
        bright = 1.0 if shot.weather == "clouds" else 0.75 + 0.05 * puffs
        colour = [c + (grey * bright - c) * share for c in colour]
    if shot.time == "night" and shot.weather == "clear":
        stars = (noise(x * 60, y * 60, z * 60) * noise(y * 83, x * 71, z) - 0.93).clamp_min(0) * 9
        colour = [c + stars for c in colour]
    azimuth = torch.atan2(x, -z)
    if shot.place == "forest":
        top = 0.30 + 0.08 * torch.sin(azimuth * 17 + phase) + 0.05 * torch.sin(azimuth * 41 + phase)
        green, soft = (0.05, 0.13, 0.05), 40.0
    elif shot.place == "mountains":
        saw = lambda v: (v / 6.2832 - torch.floor(v / 6.2832) - 0.5).abs() * 2  # noqa: E731
        top = 0.08 + 0.20 * saw(azimuth * 4 + phase) + 0.10 * saw(azimuth * 9 + 2 * phase)
        green, soft = (0.22, 0.24, 0.30), 160.0
    elif shot.place in ("beach", "street"):
        return colour
    else:
        top = 0.05 + 0.03 * torch.sin(azimuth * 4 + phase) + 0.015 * torch.sin(azimuth * 9 + 1.7 * phase)
        green, soft = (0.5, 0.52, 0.58) if shot.place == "snow" else (0.12, 0.22, 0.10), 160.0
    hill = ((top - y) * soft).clamp(0, 1)
    haze = 0.45 if shot.place != "forest" else 0.15
    dim = [a + 0.5 * s for a, s in zip(day.ambient, day.sun, strict=True)]
    if shot.place == "mountains":  # snow on the peaks
        cap = ((y - 0.17) * 30).clamp(0, 1)
        green = [g + (0.8 - g) * cap for g in green]
    tint = [haze * h + (1 - haze) * g * d for h, g, d in zip(day.horizon, green, dim, strict=True)]
    return [c + (v - c) * hill for c, v in zip(colour, tint, strict=True)]


def occlusion(depth: Tensor, reach: int) -> Tensor:
    """Return how much nearer things take away of the light from the sky, (H, W) in [0.45, 1], by blurred nearness."""
    near = 1 / depth.clamp(0.1, 50.0)
    coarse = most = near[None, None, ::2, ::2]
    for size in ((2 * reach + 1, 1), (1, 2 * reach + 1)):
        most = functional.max_pool2d(most, size, 1, [v // 2 for v in size])
    for size in ((reach, 1), (1, reach)) * 2:
        pad = [size[1] // 2, size[1] // 2, size[0] // 2, size[0] // 2]
        coarse = functional.avg_pool2d(functional.pad(coarse, pad, mode="replicate"), size, 1)
    around, most = (v[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1) for v in (coarse, most))
    # What is far behind is not shaded: it would have a dark rim around the figure.
    touching = ((1.7 - most / near) / 0.4).clamp(0, 1)
    return 1 - 3.2 * touching * ((around - near) / near).clamp(0, 0.17)


def part_map(owner: Tensor, parts: np.ndarray, ground: Tensor, water: Tensor) -> Tensor:
    """Return part indices (H, W) uint8 from the solids' indices."""
    table = torch.from_numpy(np.append(parts, PART["sky"]).astype(np.uint8))
    found = table[owner]  # -1 is the last
    found = torch.where(ground, PART["ground"], found)
    return torch.where(water, PART["water"], found).to(torch.uint8)


def wall_colour(shot: Shot) -> Rgb:
    """Return the colour of a studio's floor and backdrop."""
    return WALLS[shot.wall]
