"""Analytic ray casting of round cones and boxes with soft shadows: everything of a picture but its colours.

A `Geometry` holds per-pixel materials, depth and light terms, so that one cast can be painted in many colours (`paint`).
Formulas for the round cone and its soft shadow follow Inigo Quilez, "Intersectors" (iquilezles.org/articles/intersectors).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from controlnext.starter.world.figure import MATERIAL, Cone

# Half the picture is this many times nearer than it is high: a lens of about 32 degrees.
FOCAL_LENGTH = 3.5
_FAR = np.float32(1e4)


class Box(NamedTuple):
    """A convex solid of up to seven planes: normals (n, 3), offsets (n,), materials (n,), corners (k, 3), metres."""

    normals: np.ndarray
    offsets: np.ndarray
    materials: np.ndarray
    corners: np.ndarray


class Camera(NamedTuple):
    """A camera at `eye` looking at `target`, both (3,) in metres, +y up."""

    eye: np.ndarray
    target: np.ndarray

    def axes(self) -> np.ndarray:
        """Return right, up and forward as the rows of a (3, 3) matrix."""
        forward = (self.target - self.eye) / np.linalg.norm(self.target - self.eye)
        right = np.cross(forward, [0, 1.0, 0])
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(right, forward), forward])

    def project(self, points: np.ndarray, size: int) -> np.ndarray:
        """Project (n, 3) points in metres to (n, 3): x and y in pixels of a `size` picture, depth in metres."""
        local = (np.asarray(points) - self.eye) @ self.axes().T
        depth = np.maximum(local[:, 2], 0.05)
        x = (local[:, 0] / depth * FOCAL_LENGTH + 1) / 2 * size
        y = (1 - local[:, 1] / depth * FOCAL_LENGTH) / 2 * size
        return np.stack([x, y, local[:, 2]], axis=1)


@dataclass(frozen=True)
class Geometry:
    """What `cast` found for every pixel of a supersampled square, each array (N, N) unless stated.

    `material` uint8; `depth` metres along the view; `sun` 0..1 is Lambert times shadow; `ambient`, `bounce` and `rim`
    0..1 are light from the sky, from the ground and along silhouettes; `fog` 0..1; `rays` (N, N, 3) unit vectors;
    `texture` multiplies the ground's colour.
    """

    material: np.ndarray
    depth: np.ndarray
    sun: np.ndarray
    ambient: np.ndarray
    bounce: np.ndarray
    rim: np.ndarray
    fog: np.ndarray
    rays: np.ndarray
    texture: np.ndarray


def make_box(
    centre: np.ndarray, half: tuple[float, float, float], yaw: float, material: int, roof: float = 0.0
) -> Box:
    """Build a box with half sizes `half` in metres, turned by `yaw` radians, with a gable `roof` metres high if > 0."""
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    walls = [
        ((1, 0, 0), half[0]),
        ((-1, 0, 0), half[0]),
        ((0, 0, 1), half[2]),
        ((0, 0, -1), half[2]),
        ((0, -1, 0), half[1]),
    ]
    planes = [(np.array(n, float), d, material) for n, d in walls]
    if roof > 0:
        slope = np.hypot(roof, half[0])
        planes += [
            (np.array([side * roof / slope, half[0] / slope, 0]), (half[1] + roof) * half[0] / slope, MATERIAL["roof"])
            for side in (1, -1)
        ]
    else:
        planes.append((np.array([0, 1.0, 0]), half[1], material))
    normals = np.array([turn @ n for n, _, _ in planes])
    offsets = np.array([d for _, d, _ in planes]) + normals @ centre
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = signs * half + np.array([0, roof, 0]) * (signs[:, 1:2] > 0)
    return Box(normals, offsets, np.array([m for _, _, m in planes]), corners @ turn.T + centre)


def _cone_hit(cone: Cone, eye: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Return the distance in metres at which (..., 3) unit rays from `eye` meet the cone, `_FAR` where they miss."""
    ra, rb = cone.start_radius, cone.end_radius
    ba, oa, ob = cone.end - cone.start, eye - cone.start, eye - cone.end
    rr = ra - rb
    m0, m1, m5, m7 = ba @ ba, ba @ oa, oa @ oa, ob @ ob
    d2 = m0 - rr * rr
    m2, m3 = rays @ ba.astype(np.float32), rays @ oa.astype(np.float32)
    m6 = m3 - m2
    k2 = d2 - m2 * m2
    k1 = d2 * m3 - m1 * m2 + m2 * (rr * ra)
    k0 = d2 * m5 - m1 * m1 + m1 * rr * ra * 2 - m0 * ra * ra
    h = k1 * k1 - k0 * k2
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (-np.sqrt(np.maximum(h, 0)) - k1) / k2
        y = m1 - ra * rr + t * m2
    t = np.where((h >= 0) & (y > 0) & (y < d2), t, _FAR)
    for m, square in ((m3, m5 - ra * ra), (m6, m7 - rb * rb)):
        h = m * m - square
        t = np.minimum(t, np.where(h > 0, -m - np.sqrt(np.maximum(h, 0)), _FAR))
    return np.where(t > 0.05, t, _FAR)


def _box_hit(box: Box, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return entry and exit distances in metres and the index of the plane entered, for (..., 3) rays."""
    near, far = np.full(rays.shape[:-1], -_FAR), np.full(rays.shape[:-1], _FAR)
    face = np.zeros(rays.shape[:-1], np.int64)
    for index, (normal, offset) in enumerate(zip(box.normals.astype(np.float32), box.offsets, strict=True)):
        along = rays @ normal
        t = (offset - origin @ normal) / np.where(np.abs(along) < 1e-6, 1e-6, along)
        enters = (along < 0) & (t > near)
        near, face = np.where(enters, t, near), np.where(enters, index, face)
        far = np.where((along >= 0) & (t < far), t, far)
    return near, far, face


def _window(points: np.ndarray, radius: float, camera: Camera, size: int) -> tuple[slice, slice]:
    """Return rows and columns of the pixels that spheres of `radius` metres around (n, 3) `points` can cover."""
    local = (points - camera.eye) @ camera.axes().T
    depth = np.maximum(local[:, 2], 0.3)
    reach = radius / np.maximum(depth - radius, 0.2) * FOCAL_LENGTH * 1.1
    x, y = local[:, 0] / depth * FOCAL_LENGTH, local[:, 1] / depth * FOCAL_LENGTH
    columns = [((x - reach).min() + 1) / 2 * size - 2, ((x + reach).max() + 1) / 2 * size + 2]
    rows = [(1 - (y + reach).max()) / 2 * size - 2, (1 - (y - reach).min()) / 2 * size + 2]
    bound = lambda pair: slice(*(int(np.clip(v, 0, size)) for v in pair))  # noqa: E731
    return bound(rows), bound(columns)


def _light(
    points: np.ndarray, normals: np.ndarray, sun: np.ndarray, cones: list[Cone], box: Box | None
) -> tuple[np.ndarray, ...]:
    """Return shadow and openness (both 0..1) of surface points (n, 3) under a sun in direction (3,)."""
    origin = points + 0.012 * normals
    shadow, openness = np.ones(len(points), np.float32), np.ones(len(points), np.float32)
    sun = sun.astype(np.float32)
    for cone in cones:
        if cone.material in (MATERIAL["eye"], MATERIAL["pupil"], MATERIAL["mouth"]):
            continue
        ba = (cone.end - cone.start).astype(np.float32)
        shrink = np.float32(cone.start_radius - cone.end_radius)
        oa = origin - cone.start.astype(np.float32)
        along_sun, along_axis = oa @ sun, oa @ ba
        m0, db = ba @ ba, ba @ sun
        ty = np.clip((along_axis - along_sun * db) / max(m0 - db * db, 1e-6), 0, 1)
        th = np.maximum(ty * db - along_sun, 1e-3)
        gap = oa + th[:, None] * sun - ty[:, None] * ba
        distance = np.sqrt(np.einsum("ni,ni->n", gap, gap)) - (cone.start_radius - ty * shrink)
        s = np.clip(6 * distance / th + 0.5, 0, 1)
        shadow = np.minimum(shadow, s * s * (3 - 2 * s))
        q = np.clip(along_axis / m0, 0, 1)
        gap = oa - q[:, None] * ba
        d2 = np.einsum("ni,ni->n", gap, gap)
        facing = -np.einsum("ni,ni->n", gap, normals) / np.sqrt(np.maximum(d2, 1e-6))
        near = np.minimum((cone.start_radius - q * shrink) ** 2 / np.maximum(d2, 1e-4), 1)
        openness *= 1 - 0.75 * np.maximum(facing, 0) * near
    if box is not None:
        enter, leave = np.full(len(points), -_FAR), np.full(len(points), _FAR)
        for normal, offset in zip(box.normals.astype(np.float32), box.offsets, strict=True):
            along = float(sun @ normal)
            t = (offset - origin @ normal) / (along if abs(along) > 1e-6 else 1e-6)
            if along < 0:
                enter = np.maximum(enter, t)
            else:
                leave = np.minimum(leave, t)
        shadow = np.where((enter < leave) & (leave > 0.02) & (enter > -0.2), 0, shadow)
    return shadow.astype(np.float32), openness


def cast(cones: list[Cone], box: Box | None, camera: Camera, sun: np.ndarray, size: int) -> Geometry:
    """Cast one ray for each pixel of a `size` x `size` picture.

    Args:
        cones: Solids of the scene.
        box: One more solid with flat faces, or None.
        camera: Where the picture is taken from.
        sun: (3,) unit vector towards the light.
        size: Pixels along each side; even, because shadows are computed at half of it.

    Returns:
        Materials, depth and light of every pixel.
    """
    right, up, forward = camera.axes().astype(np.float32)
    u = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1)[None, :, None]
    v = -((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1)[:, None, None]
    rays = u * right + v * up + np.float32(FOCAL_LENGTH) * forward
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    falling = rays[..., 1] < -1e-4
    distance = np.where(falling, -camera.eye[1] / np.minimum(rays[..., 1], -1e-4), _FAR).astype(np.float32)
    material = np.where(falling, MATERIAL["ground"], MATERIAL["sky"]).astype(np.uint8)
    owner = np.full((size, size), -1, np.int16)
    normals = np.zeros((size, size, 3), np.float32)
    normals[..., 1] = 1
    for index, cone in enumerate(cones):
        window = _window(np.stack([cone.start, cone.end]), max(cone.start_radius, cone.end_radius), camera, size)
        hit = _cone_hit(cone, camera.eye, rays[window])
        nearer = hit < distance[window]
        distance[window] = np.where(nearer, hit, distance[window])
        owner[window] = np.where(nearer, index, owner[window])
        material[window] = np.where(nearer, cone.material, material[window])
    if box is not None:
        window = _window(box.corners, 0.05, camera, size)
        enter, leave, face = _box_hit(box, camera.eye, rays[window])
        nearer = (enter < leave) & (enter > 0.05) & (enter < distance[window])
        distance[window] = np.where(nearer, enter, distance[window])
        owner[window] = np.where(nearer, -1, owner[window])
        material[window] = np.where(nearer, box.materials[face], material[window])
        normals[window] = np.where(nearer[..., None], box.normals[face], normals[window])
    solid = owner >= 0
    starts = np.array([c.start for c in cones], np.float32)
    axes = np.array([c.end - c.start for c in cones], np.float32)
    mine = owner[solid]
    point = camera.eye.astype(np.float32) + distance[solid][:, None] * rays[solid]
    from_start, axis = point - starts[mine], axes[mine]
    h = np.clip(np.einsum("ni,ni->n", from_start, axis) / np.einsum("ni,ni->n", axis, axis), 0, 1)
    n = from_start - h[:, None] * axis
    normals[solid] = n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-6)
    # Shadows are soft: half the resolution is enough, at a quarter of the cost.
    half = np.zeros((size, size), bool)
    half[::2, ::2] = True
    lit = half & (distance < 12)
    points = camera.eye.astype(np.float32) + distance[lit][:, None] * rays[lit]
    shadow, openness = np.ones((size, size), np.float32), np.ones((size, size), np.float32)
    shadow[lit], openness[lit] = _light(points, normals[lit], sun, cones, box)
    shadow, openness = (np.repeat(np.repeat(a[::2, ::2], 2, 0), 2, 1) for a in (shadow, openness))
    ground = material == MATERIAL["ground"]
    x = camera.eye[0] + distance * rays[..., 0]
    z = camera.eye[2] + distance * rays[..., 2]
    texture = 1 + 0.06 * np.sin(x * 3.1 + 1.7 * np.sin(z * 2.3)) * np.sin(z * 2.7 + 1.3 * np.sin(x * 1.9))
    rim = np.clip(1 + np.einsum("hwi,hwi->hw", normals, rays), 0, 1) ** 3 * ~ground * openness
    return Geometry(
        material=material,
        depth=(distance * (rays @ forward)).astype(np.float32),
        sun=np.maximum(normals @ sun.astype(np.float32), 0) * shadow,
        ambient=(0.55 + 0.45 * normals[..., 1]) * openness,
        bounce=0.35 * (1 - normals[..., 1]) * openness,
        rim=rim.astype(np.float32),
        fog=1 - np.exp(-np.maximum(np.minimum(distance, 200) - 5, 0) * 0.035),
        rays=rays,
        texture=np.where(ground, texture, 1).astype(np.float32),
    )
