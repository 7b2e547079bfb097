"""The jointed figure of the starter's world: an action becomes joints, joints become coloured round cones."""

import math
from typing import NamedTuple

import numpy as np

ACTIONS = (
    "standing",
    "waving",
    "walking",
    "running",
    "dancing",
    "cheering",
    "pointing",
    "kicking",
    "jumping",
    "gesturing",
)
MATERIALS = (
    "sky",
    "ground",
    "face",
    "limb",
    "hair",
    "shirt",
    "trousers",
    "shoes",
    "hat",
    "eye",
    "pupil",
    "mouth",
    "leaf",
    "trunk",
    "house",
    "roof",
    "ball",
    "crate",
)
MATERIAL = {name: index for index, name in enumerate(MATERIALS)}
# Number of random offsets that `joints` adds to the angles of an action (five a limb).
JITTERS = 20


class Cone(NamedTuple):
    """A round cone: two spheres (centres in metres, radii in metres) and the surface between them."""

    start: np.ndarray
    end: np.ndarray
    start_radius: float
    end_radius: float
    material: int


class Body(NamedTuple):
    """Joint positions in metres, (3,) each, and the rotations of hips and chest, (3, 3)."""

    points: dict[str, np.ndarray]
    hips: np.ndarray
    chest: np.ndarray


def rotation(axis: str, angle: float) -> np.ndarray:
    """Return the (3, 3) rotation by `angle` radians about one coordinate axis."""
    c, s = math.cos(angle), math.sin(angle)
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == "y":
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


class _Angles(NamedTuple):
    """Angles in radians: arms (swing, raise, elbow, elbow plane), legs (swing, raise, knee), trunk, bob in metres."""

    right_arm: tuple[float, ...] = (0.05, 0.15, 0.2, 0.0)
    left_arm: tuple[float, ...] = (0.05, 0.15, 0.2, 0.0)
    right_leg: tuple[float, ...] = (0.0, 0.05, 0.05)
    left_leg: tuple[float, ...] = (0.0, 0.05, 0.05)
    lean: float = 0.0
    twist: float = 0.0
    lift: float = 0.0


# The elbow bends forward at plane 0 and sideways, away from the body, at plane pi / 2.
_SIDEWAYS = math.pi / 2


def _angles(
    action: str, phase: float, jitter: np.ndarray
) -> _Angles:  # one branch for each action reads best in one place
    s, c = math.sin(phase), math.cos(phase)
    if action == "waving":
        return _Angles(right_arm=(0, 2.45 + 0.12 * s, 0.55 + 0.55 * s, _SIDEWAYS))
    if action == "walking":
        return _Angles(
            (0.65 * s, 0.12, 0.35, 0),
            (-0.65 * s, 0.12, 0.35, 0),
            (-0.55 * s, 0.03, 0.25 + 0.3 * max(0, c)),
            (0.55 * s, 0.03, 0.25 + 0.3 * max(0, -c)),
        )
    if action == "running":
        return _Angles(
            (1.0 * s, 0.15, 1.6, 0),
            (-1.0 * s, 0.15, 1.6, 0),
            (-0.85 * s + 0.15, 0.03, 0.6 + 0.8 * max(0, c)),
            (0.85 * s + 0.15, 0.03, 0.6 + 0.8 * max(0, -c)),
            lean=0.2,
            lift=0.03,
        )
    if action == "dancing":
        return _Angles(
            (0.3 * c, 1.5 + 0.9 * s, 0.6, _SIDEWAYS),
            (0.3 * s, 1.5 - 0.9 * s, 0.6, _SIDEWAYS),
            (0.2 * s, 0.25 + 0.15 * s, 0.3),
            (-0.2 * s, 0.25 - 0.15 * s, 0.3),
            twist=0.25 * s,
        )
    if action == "cheering":
        return _Angles(
            (0.1, 2.65 + 0.2 * s, 0.25, _SIDEWAYS),
            (0.1, 2.65 - 0.2 * s, 0.25, _SIDEWAYS),
            (0, 0.18, 0.05),
            (0, 0.18, 0.05),
        )
    if action == "pointing":
        return _Angles(right_arm=(0.15, 1.45 + 0.15 * s, 0.05, _SIDEWAYS), left_arm=(0.1, 0.55, 1.7, 0))
    if action == "kicking":
        return _Angles(
            (-0.4 * s, 0.9, 0.3, 0),
            (0.5 * s, 0.9, 0.3, 0),
            (0.75 + 0.45 * s, 0.1, max(0.0, 0.25 - 0.2 * s)),
            (-0.08, 0.06, 0.12),
            lean=-0.12,
        )
    if action == "jumping":
        return _Angles(
            (0.2, 2.1 + 0.4 * s, 0.3, _SIDEWAYS),
            (0.2, 2.1 + 0.4 * c, 0.3, _SIDEWAYS),
            (0.5 + 0.3 * s, 0.3, 1.0 + 0.3 * c),
            (0.5 - 0.3 * s, 0.3, 1.0 - 0.3 * c),
            lift=0.22 + 0.08 * s,
        )
    if action == "gesturing":
        # Arms anywhere a person can put them: these teach the pose adapter poses that no other action has.
        u = np.clip(0.5 + jitter[12:20] / 3.2, 0.0, 1.0)
        arms = [(-0.4 + 1.7 * u[i], 2.5 * u[i + 1], 2.1 * u[i + 2], _SIDEWAYS * u[i + 3]) for i in (0, 4)]
        return _Angles(arms[0], arms[1])
    return _Angles(right_arm=(0.05 + 0.1 * s, 0.15, 0.2, 0), left_arm=(0.05 - 0.1 * s, 0.15, 0.2, 0))


def _limb(origin: np.ndarray, base: np.ndarray, side: int, angles: tuple[float, ...], lengths: tuple[float, float]):  # noqa: ANN202
    swing, lift, bend = angles[:3]
    upper = base @ rotation("x", -swing) @ rotation("z", side * lift)
    middle = origin + lengths[0] * (upper @ np.array([0, -1.0, 0]))
    if len(angles) == 4:
        lower = upper @ rotation("y", side * angles[3]) @ rotation("x", -bend)
    else:
        lower = upper @ rotation("x", bend)
    return middle, middle + lengths[1] * (lower @ np.array([0, -1.0, 0]))


def joints(action: str, phase: float, jitter: np.ndarray) -> Body:
    """Place the joints of a figure 1.8 m tall that stands at the origin and looks along +z.

    Args:
        action: One of `ACTIONS`.
        phase: Where in its cycle the action is, radians.
        jitter: (JITTERS,) offsets, about -2 to 2, that make every figure's pose its own.

    Returns:
        The body in its own frame: +y up, the figure's right hand at -x.
    """
    angles = _angles(action, phase, jitter)
    arms = [
        tuple(a + 0.12 * j for a, j in zip(arm[:3], jitter[i : i + 3], strict=True)) + arm[3:]
        for arm, i in ((angles.right_arm, 0), (angles.left_arm, 3))
    ]
    legs = [
        (leg[0] + 0.06 * jitter[i], leg[1] + 0.06 * jitter[i + 1], max(0.0, leg[2] + 0.06 * jitter[i + 2]))
        for leg, i in ((angles.right_leg, 6), (angles.left_leg, 9))
    ]
    pelvis = np.array([0, 0.93, 0.0])
    chest = rotation("x", angles.lean) @ rotation("y", angles.twist)
    points = {"pelvis": pelvis, "neck": pelvis + chest @ np.array([0, 0.50, 0])}
    points["head"] = points["neck"] + chest @ np.array([0, 0.21, 0.015])
    for name, side, arm, leg in (("right", -1, arms[0], legs[0]), ("left", 1, arms[1], legs[1])):
        shoulder = points["neck"] + chest @ np.array([side * 0.185, -0.05, 0])
        hip = pelvis + np.array([side * 0.10, -0.03, 0])
        elbow, wrist = _limb(shoulder, chest, side, arm, (0.27, 0.25))
        knee, ankle = _limb(hip, np.eye(3), side, leg, (0.42, 0.40))
        points |= {f"{name}_shoulder": shoulder, f"{name}_elbow": elbow, f"{name}_wrist": wrist}
        points |= {f"{name}_hip": hip, f"{name}_knee": knee, f"{name}_ankle": ankle}
    soles = min(points["right_ankle"][1], points["left_ankle"][1]) - 0.085
    lift = np.array([0, angles.lift - soles, 0])
    return Body({name: point + lift for name, point in points.items()}, np.eye(3), chest)


def place(body: Body, yaw: float, position: np.ndarray) -> Body:
    """Turn a body by `yaw` radians about the vertical and move it to `position` (3,), metres."""
    turn = rotation("y", yaw)
    points = {name: turn @ point + position for name, point in body.points.items()}
    return Body(points, turn @ body.hips, turn @ body.chest)


def face_points(body: Body) -> dict[str, np.ndarray]:
    """Return nose, eyes and ears of a body in metres, (3,) each: the face part of OpenPose's 18 keypoints."""
    head, turn = body.points["head"], body.chest
    offsets = {
        "nose": (0, 0.025, 0.112),
        "right_eye": (-0.04, 0.055, 0.095),
        "left_eye": (0.04, 0.055, 0.095),
        "right_ear": (-0.105, 0.035, 0.0),
        "left_ear": (0.105, 0.035, 0.0),
    }
    return {name: head + turn @ np.array(offset) for name, offset in offsets.items()}


def _head(body: Body, long_hair: bool, hat: bool) -> list[Cone]:
    head, turn, m = body.points["head"], body.chest, MATERIAL
    at = lambda x, y, z: head + turn @ np.array([x, y, z])  # noqa: E731
    ball = lambda x, y, z, r, material: Cone(at(x, y, z), at(x, y + 0.001, z), r, r, m[material])  # noqa: E731
    cones = [
        Cone(at(0, -0.005, 0.004), at(0, 0.07, 0), 0.092, 0.108, m["face"]),
        Cone(at(0, 0.075, -0.035), at(0, 0.10, -0.01), 0.115, 0.105, m["hair"]),
        Cone(at(0, 0.03, 0.098), at(0, 0.012, 0.110), 0.010, 0.016, m["face"]),
        Cone(at(-0.026, -0.042, 0.083), at(0.026, -0.042, 0.083), 0.009, 0.009, m["mouth"]),
    ]
    for side in (-1, 1):
        cones += [
            ball(side * 0.04, 0.05, 0.083, 0.023, "eye"),
            ball(side * 0.039, 0.05, 0.095, 0.015, "pupil"),
            Cone(at(side * 0.022, 0.083, 0.094), at(side * 0.058, 0.083, 0.082), 0.007, 0.006, m["hair"]),
            ball(side * 0.103, 0.035, 0.0, 0.024, "face"),
        ]
    if long_hair:
        for side in (-1, 0, 1):
            top, end = at(side * 0.07, 0.06, -0.055), at(side * 0.085, -0.17, -0.06)
            cones.append(Cone(top, end, 0.065, 0.045, m["hair"]))
    if hat:
        cones += [
            Cone(at(0, 0.115, -0.012), at(0, 0.165, -0.015), 0.122, 0.10, m["hat"]),
            Cone(at(-0.06, 0.115, 0.10), at(0.06, 0.115, 0.10), 0.028, 0.028, m["hat"]),
        ]
    return cones


def _hand(wrist: np.ndarray, elbow: np.ndarray, chest: np.ndarray) -> list[Cone]:
    along = (wrist - elbow) / np.linalg.norm(wrist - elbow)
    across = np.cross(along, chest[:, 0])
    across /= max(np.linalg.norm(across), 1e-6)
    limb = MATERIAL["limb"]
    return [
        Cone(wrist + 0.015 * along, wrist + 0.065 * along, 0.040, 0.038, limb),
        Cone(wrist + 0.065 * along, wrist + 0.135 * along, 0.033, 0.020, limb),
        Cone(wrist + 0.035 * along, wrist + 0.075 * along + 0.05 * across, 0.020, 0.014, limb),
    ]


def cones(body: Body, *, long_hair: bool = False, hat: bool = False) -> list[Cone]:
    """Dress a body: the round cones of its head, clothes, limbs, hands and shoes, in metres."""
    p, chest, m = body.points, body.chest, MATERIAL
    parts = _head(body, long_hair, hat)
    neck = p["neck"]
    parts += [
        Cone(neck - chest @ [0, 0.04, 0], neck + chest @ [0, 0.10, 0], 0.055, 0.05, m["face"]),
        Cone(p["right_shoulder"], p["left_shoulder"], 0.075, 0.075, m["shirt"]),
        Cone(neck - chest @ [0, 0.09, -0.01], p["pelvis"] + chest @ [0, 0.10, 0.005], 0.115, 0.108, m["shirt"]),
        Cone(p["right_hip"] + [0.025, 0.10, 0], p["left_hip"] + [-0.025, 0.10, 0], 0.104, 0.104, m["shirt"]),
        Cone(p["right_hip"], p["left_hip"], 0.10, 0.10, m["trousers"]),
    ]
    for name, side in (("right", -1), ("left", 1)):
        shoulder, elbow, wrist = p[f"{name}_shoulder"], p[f"{name}_elbow"], p[f"{name}_wrist"]
        hip, knee, ankle = p[f"{name}_hip"], p[f"{name}_knee"], p[f"{name}_ankle"]
        flank = shoulder + chest @ [-side * 0.095, -0.045, 0]
        toes = ankle + body.hips @ [0, -0.045, 0.12]
        parts += [
            Cone(flank, hip + np.array([-side * 0.025, 0.10, 0]), 0.110, 0.104, m["shirt"]),
            Cone(shoulder, elbow, 0.066, 0.055, m["shirt"]),
            Cone(elbow, wrist, 0.048, 0.038, m["limb"]),
            *_hand(wrist, elbow, chest),
            Cone(hip, knee, 0.092, 0.068, m["trousers"]),
            Cone(knee, ankle, 0.066, 0.052, m["trousers"]),
            Cone(ankle + np.array([0, -0.035, 0]), toes, 0.055, 0.045, m["shoes"]),
        ]
    return parts
