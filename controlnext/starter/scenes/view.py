"""Rendering: a shot becomes a view, a picture with its exact parts, depth and points."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from annotators.poses.skeleton import KEYPOINTS
from controlnext.starter.scenes.cast import FAR, Seen, cast_windows, look_at
from controlnext.starter.scenes.dress import add_person
from controlnext.starter.scenes.joints import Joints
from controlnext.starter.scenes.paint import (
    DAYLIGHTS,
    GROUNDS,
    INDOORS,
    WATER,
    Daylight,
    Rays,
    capsules_of,
    occlusion,
    part_map,
    shade_solids,
    shadow,
    sky,
    wall_colour,
)
from controlnext.starter.scenes.palette import FIGURE_PARTS
from controlnext.starter.scenes.patterns import ground_shade, noise
from controlnext.starter.scenes.shot import Shot
from controlnext.starter.scenes.solids import Solids, Surface
from controlnext.starter.scenes.things import add_room, add_street, add_thing

SUPERSAMPLING = 2
SHORE = -3.0
"""z in metres beyond which a beach is water."""


@dataclass(frozen=True)
class View:
    """A rendered shot.

    `rgb` (H, W, 3) uint8; `parts` (H, W) uint8 indices into `PARTS`; `depth` (H, W) float32 inverse depth in [0, 1], 1 = nearest;
    `people` (n, 18, 3), `hands` (n, 2, 21, 3) and `faces` (n, 68, 3): x, y in pixels and confidence, 0 where out of the picture,
    0.5 where hidden and 1 where seen (a face's points: 0 where it is turned away). `owner` (H, W) int8 is the index of the
    person or thing, -1 the place.
    """

    rgb: np.ndarray
    parts: np.ndarray
    depth: np.ndarray
    people: np.ndarray
    hands: np.ndarray
    faces: np.ndarray
    owner: np.ndarray


class _Hits(NamedTuple):
    """What the rays hit, (H, W) each: depth in metres, the solid or -1, whether it is ground, whether it is water."""

    depth: Tensor
    owner: Tensor
    ground: Tensor
    water: Tensor


def build(shot: Shot, joints: tuple[Joints, ...]) -> Solids:
    """Build the solids of a shot; people first, then things, then the place."""
    solids = Solids()
    for index, (who, skeleton) in enumerate(zip(shot.people, joints, strict=True)):
        solids.current = index
        add_person(solids, who, skeleton, index)
    for number, item in enumerate(shot.items):
        solids.current = len(shot.people) + number
        add_thing(solids, item.name, item.colour, item.x, item.z, item.yaw, item.scale)
    solids.current = -1
    if shot.place == "room":
        add_room(solids, shot.wall, shot.back, shot.side, shot.hung)
    elif shot.place == "studio":
        solids.box(np.array([0, 4, -shot.back - 0.1]), (30, 6, 0.1), Surface("wall", wall_colour(shot), gloss=0.0))
    elif shot.place == "street":
        add_street(solids, np.random.default_rng([shot.seed, 5]), 4.0)
    return solids


def _placed(points: np.ndarray, shot: Shot, depth: np.ndarray, slack: float) -> np.ndarray:
    """Project points (n, 3) to x, y and confidence: 0 outside, 0.5 behind something by more than `slack` metres, 1 seen."""
    height, width = shot.size
    at = shot.lens.project(points, height, width)
    inside = (at[:, 0] >= 0) & (at[:, 0] < width) & (at[:, 1] >= 0) & (at[:, 1] < height) & (at[:, 2] > 0.05)
    column, row = np.clip(at[:, 0], 0, width - 1).astype(int), np.clip(at[:, 1], 0, height - 1).astype(int)
    hidden = depth[row, column] < at[:, 2] - slack
    return np.stack([at[:, 0], at[:, 1], inside * np.where(hidden, 0.5, 1.0)], 1).astype(np.float32)


def _points(shot: Shot, joints: tuple[Joints, ...], depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    people, hands, faces = [], [], []
    eye = np.array(shot.lens.eye)
    for who, j in zip(shot.people, joints, strict=True):
        k = who.shape.height
        body = _placed(j.body(), shot, depth, 0.17 * k)
        front = j.turns["head"][:, 2]
        for name in ("nose", "right_eye", "left_eye", "right_ear", "left_ear"):
            index = KEYPOINTS.index(name)
            outward = j.points[name] - (j.points["head"] + 0.02 * j.turns["head"][:, 1])
            towards = eye - j.points[name]
            least = -0.35 if "ear" in name else -0.05
            if outward @ towards < least * np.linalg.norm(outward) * np.linalg.norm(towards):
                body[index, 2] = 0
        people.append(body)
        hands.append(np.stack([_placed(hand, shot, depth, 0.05 * k) for hand in j.hands]))
        face = _placed(j.face, shot, depth, 0.04)
        towards = eye - j.points["head"]
        if front @ towards < 0.25 * np.linalg.norm(towards):
            face[:, 2] = 0
        faces.append(face)
    return np.stack(people), np.stack(hands), np.stack(faces)


def _weathered(rgb: np.ndarray, shot: Shot, depth: np.ndarray, day: Daylight) -> np.ndarray:
    """Add rain or snowflakes to a picture (H, W, 3) float32, linear."""
    rng = np.random.default_rng([shot.seed, 8])
    height, width = rgb.shape[:2]
    grown = shot.grown
    if shot.weather == "rain":
        layer = np.zeros((height, width), np.float32)
        for _ in range(int(rng.integers(90, 240))):
            x, y, length = rng.uniform(0, width), rng.uniform(-10, height), rng.uniform(6, 16) * grown
            cv2.line(
                layer,
                (int(x), int(y)),
                (int(x - 0.15 * length), int(y + length)),
                float(rng.uniform(0.1, 0.35)),
                1,
                cv2.LINE_AA,
            )
        return rgb + layer[..., None] * np.array(day.horizon, np.float32)
    if shot.weather == "snowfall":
        layer = np.zeros((height, width), np.float32)
        for _ in range(int(rng.integers(60, 160))):
            place = (int(rng.uniform(0, width) * 16), int(rng.uniform(0, height) * 16))
            cv2.circle(
                layer,
                place,
                int(rng.uniform(0.6, 2.2) * grown * 16),
                float(rng.uniform(0.4, 0.95)),
                -1,
                cv2.LINE_AA,
                4,
            )
        return rgb + layer[..., None] * (np.array([0.8, 0.83, 0.9], np.float32) * (day.ambient[0] + 0.5) - rgb).clip(0)
    return rgb


def _ground_colour(shot: Shot, x: Tensor, z: Tensor, pixel: Tensor, water: Tensor) -> list[Tensor]:
    kind = shot.ground
    base = wall_colour(shot) if shot.place == "studio" else GROUNDS[kind]
    shade = ground_shade(kind, x, z, pixel)
    colour = [shade * c for c in base]
    if shot.place == "street":  # a pavement on this side of the kerb
        near = ((z + 1.3) / 0.05).clamp(0, 1)
        line = 1 - 0.18 * ((x * 1.4 - torch.floor(x * 1.4) - 0.5).abs() > 0.485).float()
        colour = [c + (0.36 * line - c) * near for c in colour]
    if shot.place == "beach":
        wave = 1 + 0.18 * noise(x * 1.1, z * 3.1)
        foam = (1 - (z - SHORE + 0.2 * torch.sin(2.1 * x) + 0.35).abs() / 0.14).clamp(0, 1) * water.float()
        colour = [torch.where(water, w * wave, c) for c, w in zip(colour, WATER, strict=True)]
        colour = [c + (0.8 - c) * foam for c in colour]
    return colour


def render(shot: Shot) -> View:
    """Render a shot."""
    joints = shot.joints()
    solids = build(shot, joints)
    ss, (height, width) = SUPERSAMPLING, shot.size
    h, w = height * ss, width * ss
    seen = look_at(solids, shot.lens, h, w)
    gx, gy = shot.lens.rays(h, w)
    rays = Rays(gx, gy, shot.lens.axes(), np.array(shot.lens.eye), shot.lens.focal * h / 2)
    with torch.inference_mode():
        depth, owner = cast_windows(seen, np.array(solids.size), gx, gy)
        ground, water, depth = ground_of(shot, rays, depth)
        owner = torch.where(ground, -1, owner)
        rgb = _lit(shot, solids, seen, rays, _Hits(depth, owner, ground, water), joints)
        small = slice(None, None, ss)
        parts = part_map(owner[small, small], solids.parts(), ground[small, small], water[small, small])
        group = torch.tensor([*solids.group, -1], dtype=torch.int8)[owner[small, small]]
    shallow = depth[small, small].numpy()
    inverse = np.where(shallow < 200, 1 / np.maximum(shallow, 0.1), 0).astype(np.float32)
    return View(
        rgb, parts.numpy(), inverse / max(float(inverse.max()), 1e-6), *_points(shot, joints, shallow), group.numpy()
    )


def ground_of(shot: Shot, rays: Rays, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where the ground and where water is seen (H, W) bool, and the depth with them."""
    x, y = rays.x.expand(depth.shape), rays.y[:, None].expand(depth.shape)
    fall = rays.world(1, x, y)
    t = torch.where(fall < -1e-4, -float(rays.eye[1]) / fall, FAR).clamp_max(FAR)
    ground = (t < depth) & (t < 300)
    depth = torch.where(ground, t, depth)
    water = torch.zeros_like(ground)
    if shot.place == "beach":
        px = rays.eye[0] + t * rays.world(0, x, y)
        pz = rays.eye[2] + t * rays.world(2, x, y)
        water = ground & (pz < SHORE - 0.2 * torch.sin(2.1 * px))
    return ground, water, depth


def _lit(
    shot: Shot,
    solids: Solids,
    seen: Seen,
    rays: Rays,
    hits: _Hits,
    joints: tuple[Joints, ...],
) -> np.ndarray:
    """Return the picture (H / 2, W / 2, 3) uint8 of what is seen."""
    depth, owner, ground, water = hits
    day = (INDOORS if shot.indoors else DAYLIGHTS)[shot.time]
    cosine = np.cos(shot.light.elevation)
    sun = np.array(
        [np.sin(shot.light.azimuth) * cosine, np.sin(shot.light.elevation), np.cos(shot.light.azimuth) * cosine]
    )
    overcast = shot.weather in ("rain", "snowfall", "fog")
    sunlight = [s * (0.35 if overcast else 1.0) for s in day.sun]
    ambient = [a * (1.25 if overcast else 1.0) for a in day.ambient]
    h, w = depth.shape
    image = [torch.zeros(h * w) for _ in range(3)]
    flat, flat_owner = depth.reshape(-1), owner.reshape(-1)
    gx, gy = rays.grid()
    covered = ground | (owner >= 0)
    # Shadows and occlusion are soft: half the resolution is enough.
    half = depth[::2, ::2]
    hx, hy = gx.view(h, w)[::2, ::2].reshape(-1), gy.view(h, w)[::2, ::2].reshape(-1)
    ht = half.reshape(-1).clamp_max(60)
    point = [rays.eye[k].item() + ht * rays.world(k, hx, hy) for k in range(3)]
    lit = shadow(point, sun, capsules_of(shot, joints, solids)).view(half.shape)
    open_ = occlusion(half, max(3, h // 80 * 2 + 1))
    grow = lambda v: v.repeat_interleave(2, 0).repeat_interleave(2, 1).reshape(-1)  # noqa: E731
    lit, open_ = grow(lit), grow(open_)
    light = (rays.axes @ sun).tolist()
    up = rays.axes[:, 1].tolist()
    bounce = [
        0.30 * g * (a + 0.5 * s)
        for g, a, s in zip(
            GROUNDS[shot.ground] if not shot.indoors else (0.5, 0.47, 0.43), ambient, sunlight, strict=True
        )
    ]
    where = (flat_owner >= 0).nonzero()[:, 0]
    if len(where):
        units = [j.unit for j in joints]
        albedo, n, gloss = shade_solids(shot, solids, seen, rays, where, flat_owner[where], flat[where], units)
        x, y = gx[where], gy[where]
        facing = n[0] * light[0] + n[1] * light[1] + n[2] * light[2]
        soft = ((facing + 0.25) / 1.25).clamp_min(0) * lit[where]
        rising = n[0] * up[0] + n[1] * up[1] + n[2] * up[2]
        norm = (x * x + y * y + 1).sqrt()
        view = -(n[0] * x + n[1] * y + n[2]) / norm
        rim = (1 - view).clamp(0, 1) ** 3 * 0.22 * (1 - gloss * 0.3)
        mirror = 2 * facing
        shine = (
            (mirror * n[0] - light[0]) * -x + (mirror * n[1] - light[1]) * -y + (mirror * n[2] - light[2]) * -1
        ) / norm
        shine = gloss * 0.55 * shine.clamp(0, 1) ** 18 * lit[where]
        hemi, under = (0.55 + 0.45 * rising) * open_[where], (0.5 - 0.5 * rising) * open_[where]
        for k in range(3):
            value = albedo[k] * (soft * sunlight[k] + 1.05 * hemi * ambient[k] + under * bounce[k])
            image[k][where] = value + shine * sunlight[k] + rim * day.horizon[k] * open_[where] * 0.6
    where = ground.reshape(-1).nonzero()[:, 0]
    if len(where):
        x, y, t = gx[where], gy[where], flat[where]
        px, pz = rays.eye[0].item() + t * rays.world(0, x, y), rays.eye[2].item() + t * rays.world(2, x, y)
        colour = _ground_colour(shot, px, pz, t / rays.scale, water.reshape(-1)[where])
        strength = max(float(sun[1]), 0.0) * lit[where]
        for k in range(3):
            image[k][where] = colour[k] * (strength * sunlight[k] + ambient[k] * open_[where])
    where = (~covered).reshape(-1).nonzero()[:, 0]
    if len(where):
        x, y = gx[where], gy[where]
        heaven = sky(shot, day, rays.world(0, x, y), rays.world(1, x, y), rays.world(2, x, y))
        for k in range(3):
            image[k][where] = heaven[k]
    if not shot.indoors:
        thickness = 0.18 if shot.weather == "fog" else 0.022
        haze = 1 - torch.exp(-(flat.clamp_max(80) - (1.0 if shot.weather == "fog" else 5)).clamp_min(0) * thickness)
        if shot.weather != "fog":
            haze = haze * covered.reshape(-1)
        for k in range(3):
            image[k] += haze * (0.95 * day.horizon[k] - image[k])
    picture = torch.stack(image).view(3, h // 2, 2, w // 2, 2).mean((2, 4)).permute(1, 2, 0).numpy()
    return _developed(picture, shot, owner[::2, ::2].numpy(), solids, depth[::2, ::2].numpy(), day)


def _developed(
    picture: np.ndarray, shot: Shot, owner: np.ndarray, solids: Solids, depth: np.ndarray, day: Daylight
) -> np.ndarray:
    """Blur the background where the lens does, add weather, and turn linear light (H, W, 3) into uint8 RGB."""
    if shot.light.blur:
        blur = shot.light.blur * shot.grown
        group = np.array([*solids.group, -1])[owner]
        sharp = ((group >= 0) & (group < len(shot.people))).astype(np.float32)
        sharp = cv2.GaussianBlur(sharp, (0, 0), 0.7)[..., None]
        weight = cv2.GaussianBlur(1 - sharp[..., 0], (0, 0), blur)[..., None]
        soft = cv2.GaussianBlur(picture * (1 - sharp), (0, 0), blur) / np.maximum(weight, 1e-3)
        picture = picture * sharp + soft * (1 - sharp)
    picture = _weathered(picture, shot, depth, day)
    gain = {"night": 1.35}.get(shot.time, 1.0) * shot.light.exposure
    tint = np.array([1 + shot.light.warmth, 1.0, 1 - shot.light.warmth], np.float32)
    picture = picture * (gain * tint)
    picture = picture / (1 + 0.22 * picture) * 1.1
    return (np.clip(picture, 0, 1) ** np.float32(1 / 2.1) * 255 + 0.5).astype(np.uint8)


def mirrored(view: View) -> View:
    """Return the mirror image of a view, left and right of its points exchanged with it."""
    swap = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16]
    face = [
        *range(16, -1, -1),
        *range(26, 16, -1),
        27,
        28,
        29,
        30,
        35,
        34,
        33,
        32,
        31,
        45,
        44,
        43,
        42,
        47,
        46,
        39,
        38,
        37,
        36,
        41,
        40,
    ]
    face += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    width = view.rgb.shape[1]

    def turned(points: np.ndarray) -> np.ndarray:
        points = points.copy()
        points[..., 0] = width - points[..., 0]
        return points

    flip = lambda a: np.ascontiguousarray(a[:, ::-1])  # noqa: E731
    return View(
        flip(view.rgb),
        flip(view.parts),
        flip(view.depth),
        turned(view.people)[:, swap],
        turned(view.hands)[:, ::-1].copy(),
        turned(view.faces)[:, face],
        flip(view.owner),
    )


def figure_mask(view: View) -> np.ndarray:
    """Return where people are, (H, W) bool."""
    return np.isin(view.parts, FIGURE_PARTS)
