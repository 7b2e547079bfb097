"""The starter's world: a figure, an object, ground, sky and light, with exact depth, parts, pose and a caption.

`sample_scene` draws a scene from a seed, `cast_scene` finds its geometry, `paint` gives it colours; `render` does it all.
Painting one geometry in several looks makes many pictures in little time.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

import numpy as np

from annotators.starter.net import PARTS
from controlnext.starter.world.figure import (
    ACTIONS,
    JITTERS,
    MATERIAL,
    MATERIALS,
    Body,
    Cone,
    cones,
    face_points,
    joints,
    place,
)
from controlnext.starter.world.raycast import FOCAL_LENGTH, Box, Camera, Geometry, cast, make_box

SIZE = 256
SUPERSAMPLING = 2

SHIRTS = MappingProxyType(
    {
        "red": (0.80, 0.10, 0.10),
        "blue": (0.10, 0.22, 0.80),
        "green": (0.10, 0.55, 0.16),
        "yellow": (0.95, 0.78, 0.10),
        "purple": (0.45, 0.12, 0.62),
        "orange": (0.95, 0.42, 0.06),
        "white": (0.92, 0.92, 0.92),
        "black": (0.06, 0.06, 0.07),
    }
)
TROUSERS = MappingProxyType(
    {
        "red": (0.62, 0.09, 0.10),
        "blue": (0.08, 0.16, 0.55),
        "green": (0.10, 0.36, 0.14),
        "brown": (0.35, 0.20, 0.10),
        "white": (0.85, 0.85, 0.85),
        "black": (0.06, 0.06, 0.07),
    }
)
HAIR = MappingProxyType(
    {"black": (0.04, 0.03, 0.03), "brown": (0.28, 0.14, 0.06), "blond": (0.85, 0.65, 0.25), "red": (0.60, 0.18, 0.05)}
)
SKIN = ((0.95, 0.72, 0.56), (0.80, 0.55, 0.38), (0.52, 0.33, 0.22), (0.36, 0.22, 0.15))
GROUNDS = MappingProxyType(
    {"grass": (0.25, 0.50, 0.13), "sand": (0.83, 0.69, 0.42), "snow": (0.88, 0.91, 0.96), "road": (0.33, 0.33, 0.36)}
)
OBJECTS = ("tree", "pine", "house", "ball", "crate", "nothing")
OBJECT_COLOURS = ("red", "blue", "green", "yellow", "orange", "purple")
# What each part that the segmentation tells apart (`PARTS`) is made of, where the names differ.
_PART_OF = {"eye": "face", "pupil": "face", "mouth": "face", "leaf": "tree", "trunk": "tree", "roof": "house"}
PART_OF_MATERIAL = np.array([PARTS.index(_PART_OF.get(name, name)) for name in MATERIALS], np.uint8)


@dataclass(frozen=True)
class Sky:
    """A time of day: linear RGB of zenith, horizon, sunlight and ambient light."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    sun: tuple[float, float, float]
    ambient: tuple[float, float, float]


SKIES = MappingProxyType(
    {
        "day": Sky((0.16, 0.40, 0.88), (0.66, 0.84, 0.99), (1.25, 1.18, 1.05), (0.42, 0.50, 0.60)),
        "sunset": Sky((0.42, 0.20, 0.28), (1.0, 0.50, 0.16), (1.35, 0.80, 0.46), (0.42, 0.36, 0.38)),
        "night": Sky((0.015, 0.025, 0.10), (0.07, 0.11, 0.27), (0.46, 0.54, 0.76), (0.18, 0.20, 0.29)),
        "dawn": Sky((0.56, 0.52, 0.80), (1.0, 0.76, 0.82), (1.1, 0.92, 0.88), (0.45, 0.42, 0.50)),
    }
)


@dataclass(frozen=True)
class Stage:
    """Everything of a scene but colours. Lengths in metres, angles in radians; `jitter` has `JITTERS` offsets.

    `offset` moves the figure from the origin, which the camera and the object keep.
    """

    action: str
    phase: float
    jitter: tuple[float, ...]
    yaw: float
    long_hair: bool
    hat: bool
    object: str
    object_place: tuple[float, float]
    object_yaw: float
    half_height: float
    target_height: float
    target_shift: float
    camera_height: float
    camera_side: float
    sun_azimuth: float
    sun_elevation: float
    hills: float
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Look:
    """The colours of a scene by their names in the palettes of this module; `skin` is an index into `SKIN`."""

    shirt: str
    trousers: str
    hair: str
    skin: int
    hat: str
    ground: str
    sky: str
    object: str


@dataclass(frozen=True)
class Picture:
    """A rendered scene.

    `rgb` (S, S, 3) uint8; `parts` (S, S) uint8 indices into `PARTS`; `depth` (S, S) float32 in [0, 1], 1 = nearest;
    `people` one (18, 3) array of x, y in pixels and confidence in OpenPose's order.
    """

    rgb: np.ndarray
    parts: np.ndarray
    depth: np.ndarray
    people: tuple[np.ndarray, ...]


# Framing: proportion, half the height of what is seen at the figure (metres), height looked at, largest sideways shift.
_FRAMINGS = (
    (0.14, (1.45, 1.90), (0.85, 1.05), 0.66),
    (0.42, (1.02, 1.40), (0.88, 1.02), 0.55),
    (0.20, (0.70, 0.92), (1.05, 1.25), 0.42),
    (0.24, (0.42, 0.64), (1.22, 1.42), 0.32),
)


_CLOSE = (
    (0.5, (0.20, 0.32), (1.46, 1.62), 0.30),
    (0.5, (0.30, 0.46), (1.32, 1.50), 0.32),
)
"""Framings of heads and of busts, which photographs of people have most and the others lack."""


def sample_look(rng: np.random.Generator) -> Look:
    """Draw colours, each equally likely."""
    pick = lambda names: str(rng.choice(list(names)))  # noqa: E731
    return Look(
        pick(SHIRTS), pick(TROUSERS), pick(HAIR), int(rng.integers(4)), pick(OBJECT_COLOURS), pick(GROUNDS), pick(SKIES), pick(OBJECT_COLOURS)
    )  # fmt: skip


def sample_stage(rng: np.random.Generator, close: float = 0.0) -> Stage:
    """Draw a pose, an object, a camera (full figure to half body, anywhere in the picture) and a light.

    Args:
        rng: draws everything.
        close: share of heads and busts, in [0, 1]; 0 draws what it drew before there were any.
    """
    near = close > 0 and rng.random() < close
    framings = _CLOSE if near else _FRAMINGS
    framing = framings[rng.choice(len(framings), p=[f[0] for f in framings])]
    half_height = rng.uniform(*framing[1])
    shift = rng.uniform(-1, 1) * framing[3] * half_height
    side = 1 if shift > 0 else -1
    back = rng.random() < 0.07
    return Stage(
        action=str(rng.choice(ACTIONS, p=[0.09] * 8 + [0.08, 0.20])),
        phase=rng.uniform(0, 2 * math.pi),
        jitter=tuple(rng.normal(size=JITTERS).clip(-2, 2)),
        yaw=rng.uniform(-0.5, 0.5) + math.pi if back else float(np.clip(rng.normal() * 0.55, -1.4, 1.4)),
        long_hair=bool(rng.random() < 0.35),
        hat=bool(rng.random() < 0.2),
        object=str(rng.choice(OBJECTS)),
        object_place=(side * rng.uniform(0.75, 1.15), rng.uniform(-1.0, -0.1)),
        object_yaw=rng.uniform(-0.6, 0.6),
        half_height=half_height,
        target_height=rng.uniform(*framing[2]),
        target_shift=shift,
        camera_height=rng.uniform(1.35, 1.75) if near else rng.uniform(1.0, 1.65),
        camera_side=rng.uniform(-0.4, 0.4) * (0.5 if near else 1.0),
        sun_azimuth=rng.uniform(-1.3, 1.3),
        sun_elevation=rng.uniform(0.45, 1.05),
        hills=rng.uniform(0, 100),
    )


def sample_scene(seed: int) -> tuple[Stage, Look]:
    """Draw the scene of a seed: the same seed always gives the same scene."""
    rng = np.random.default_rng(seed)
    return sample_stage(rng), sample_look(rng)


def body_of(stage: Stage) -> Body:
    """Return the figure's joints in the world, in metres."""
    return place(joints(stage.action, stage.phase, np.array(stage.jitter)), stage.yaw, np.array(stage.offset))


def _solids(stage: Stage) -> tuple[list[Cone], Box | None]:
    body = body_of(stage)
    parts, box = cones(body, long_hair=stage.long_hair, hat=stage.hat), None
    x, z = stage.object_place
    spot = lambda y, dx=0.0, dz=0.0: np.array([x + dx, y, z + dz])  # noqa: E731
    add = lambda a, b, ra, rb, name: parts.append(Cone(a, b, ra, rb, MATERIAL[name]))  # noqa: E731
    if stage.object == "tree":
        add(spot(0), spot(0.9), 0.09, 0.07, "trunk")
        for dx, y, r in ((0, 1.35, 0.36), (-0.22, 1.1, 0.26), (0.22, 1.12, 0.27)):
            add(spot(y, dx, 0.05), spot(y + 0.001, dx, 0.05), r, r, "leaf")
    elif stage.object == "pine":
        add(spot(0), spot(0.4), 0.08, 0.07, "trunk")
        for y, r, h in ((0.45, 0.36, 0.55), (0.85, 0.29, 0.48), (1.2, 0.21, 0.42)):
            add(spot(y), spot(y + h), r, 0.02, "leaf")
    elif stage.object == "ball":
        add(spot(0.3), spot(0.301), 0.3, 0.3, "ball")
    elif stage.object == "crate":
        box = make_box(spot(0.33), (0.33, 0.33, 0.33), stage.object_yaw, MATERIAL["crate"])
    elif stage.object == "house":
        centre = spot(0.55, math.copysign(0.5, x), -1.6)
        box = make_box(centre, (0.75, 0.55, 0.8), stage.object_yaw, MATERIAL["house"], roof=0.55)
    return parts, box


def camera_of(stage: Stage) -> Camera:
    """Return the camera of a stage."""
    distance = stage.half_height * FOCAL_LENGTH
    target = np.array([stage.target_shift, stage.target_height, 0.0])
    return Camera(np.array([stage.target_shift + stage.camera_side, stage.camera_height, distance]), target)


def people_of(stage: Stage, size: int = SIZE) -> tuple[np.ndarray, ...]:
    """Return the figure's (18, 3) keypoints: x, y in pixels, confidence 0 outside the picture or behind the head."""
    body = body_of(stage)
    p, face, camera = body.points, face_points(body), camera_of(stage)
    sides = [f"{s}_{n}" for s in ("right", "left") for n in ("shoulder", "elbow", "wrist")]
    legs = [f"{s}_{n}" for s in ("right", "left") for n in ("hip", "knee", "ankle")]
    points = [face["nose"], p["neck"], *(p[n] for n in sides + legs)]
    points += [face[n] for n in ("right_eye", "left_eye", "right_ear", "left_ear")]
    projected = camera.project(np.array(points), size)
    seen = ((projected[:, :2] >= 0) & (projected[:, :2] < size)).all(1)
    # A point of the face is seen when the head's surface there is turned to the camera.
    for index, name in ((0, "nose"), (14, "right_eye"), (15, "left_eye"), (16, "right_ear"), (17, "left_ear")):
        outward = face[name] - (p["head"] + body.chest @ np.array([0, 0.03, 0]))
        towards = camera.eye - face[name]
        # Both ears of a face looking straight at the camera are seen, though their surface points aside.
        least = -0.35 if "ear" in name else 0.0
        seen[index] &= outward @ towards > least * np.linalg.norm(outward) * np.linalg.norm(towards)
    return (np.concatenate([projected[:, :2], seen[:, None]], axis=1).astype(np.float32),)


def cast_scene(stage: Stage, size: int = SIZE) -> Geometry:
    """Cast a stage at `SUPERSAMPLING` times `size` pixels a side."""
    parts, box = _solids(stage)
    elevation, azimuth = stage.sun_elevation, stage.sun_azimuth
    sun = np.array(
        [math.sin(azimuth) * math.cos(elevation), math.sin(elevation), math.cos(azimuth) * math.cos(elevation)]
    )
    return cast(parts, box, camera_of(stage), sun, size * SUPERSAMPLING)


@cache
def _fixed_colours() -> dict[str, tuple[float, float, float]]:
    return {
        "shoes": (0.10, 0.08, 0.08),
        "eye": (0.90, 0.90, 0.90),
        "pupil": (0.03, 0.03, 0.04),
        "mouth": (0.50, 0.12, 0.12),
        "leaf": (0.12, 0.40, 0.12),
        "trunk": (0.32, 0.19, 0.10),
        "roof": (0.45, 0.16, 0.12),
    }


def _albedo(look: Look) -> np.ndarray:
    skin = SKIN[look.skin]
    own = {"sky": (0, 0, 0), "ground": GROUNDS[look.ground], "face": skin, "limb": skin, "hair": HAIR[look.hair]}
    own |= {"shirt": SHIRTS[look.shirt], "trousers": TROUSERS[look.trousers], "hat": SHIRTS[look.hat]}
    own |= dict.fromkeys(("house", "ball", "crate"), SHIRTS[look.object]) | _fixed_colours()
    return np.array([own[name] for name in MATERIALS], np.float32)


def paint(geometry: Geometry, look: Look, hills: float) -> np.ndarray:
    """Colour a geometry.

    Args:
        geometry: What `cast_scene` returned, (N, N) arrays.
        look: Names of the colours.
        hills: Where the range of hills begins, any number.

    Returns:
        (N / SUPERSAMPLING, N / SUPERSAMPLING, 3) uint8 RGB.
    """
    sky = SKIES[look.sky]
    zenith, horizon, sunlight, ambient = (
        np.array(c, np.float32) for c in (sky.zenith, sky.horizon, sky.sun, sky.ambient)
    )
    ground = np.array(GROUNDS[look.ground], np.float32)
    albedo = _albedo(look)[geometry.material] * geometry.texture[..., None]
    light = geometry.sun[..., None] * sunlight + geometry.ambient[..., None] * (1.1 * ambient)
    light += geometry.bounce[..., None] * (ground * ambient)
    rgb = albedo * light + geometry.rim[..., None] * (0.18 * horizon)
    hill_colour = 0.55 * horizon + 0.36 * ground * ambient
    rgb += geometry.fog[..., None] * (0.5 * horizon + 0.5 * hill_colour - rgb)
    rows = np.nonzero((geometry.material == MATERIAL["sky"]).any(1))[0]
    if len(rows):
        top = slice(0, rows[-1] + 1)
        rays = geometry.rays[top]
        rising = np.maximum(rays[..., 1], 0)[..., None]
        heaven = horizon + (zenith - horizon) * (1 - np.exp(-rising * 3.2))
        azimuth = np.arctan2(rays[..., 0], -rays[..., 2])
        ridge = 0.045 + 0.03 * np.sin(azimuth * 4 + hills) + 0.018 * np.sin(azimuth * 9 + hills * 1.7)
        hill = np.clip((ridge - rays[..., 1]) * 160, 0, 1)[..., None]
        heaven += (hill_colour - heaven) * hill
        is_sky = (geometry.material[top] == MATERIAL["sky"])[..., None]
        rgb[top] = np.where(is_sky, heaven, rgb[top])
    size = len(rgb) // SUPERSAMPLING
    rgb = rgb / (1 + 0.18 * rgb) * 1.08
    rgb = np.clip(rgb, 0, 1) ** np.float32(1 / 1.9)
    rgb = rgb.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 3).mean((1, 3))
    return (rgb * 255 + 0.5).astype(np.uint8)


def parts_of(geometry: Geometry) -> np.ndarray:
    """Return the (S, S) uint8 part indices of a geometry."""
    return PART_OF_MATERIAL[geometry.material[::SUPERSAMPLING, ::SUPERSAMPLING]]


def depth_of(geometry: Geometry) -> np.ndarray:
    """Return (S, S) float32 inverse depth, scaled so that the nearest point is 1 and the sky 0."""
    depth = geometry.depth[::SUPERSAMPLING, ::SUPERSAMPLING]
    inverse = np.where(depth < 200, 1 / np.maximum(depth, 0.2), 0)
    return (inverse / inverse.max()).astype(np.float32)


def render(stage: Stage, look: Look, size: int = SIZE) -> Picture:
    """Render a scene with its exact parts, depth and keypoints."""
    geometry = cast_scene(stage, size)
    return Picture(paint(geometry, look, stage.hills), parts_of(geometry), depth_of(geometry), people_of(stage, size))


def mirrored(picture: Picture) -> Picture:
    """Return the mirror image of a picture, its keypoints' left and right exchanged with it."""
    swap = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16]
    size = picture.rgb.shape[1]
    people = tuple(np.stack([size - p[:, 0], p[:, 1], p[:, 2]], axis=1)[swap] for p in picture.people)
    flip = lambda array: np.ascontiguousarray(array[:, ::-1])  # noqa: E731
    return replace(picture, rgb=flip(picture.rgb), parts=flip(picture.parts), depth=flip(picture.depth), people=people)
