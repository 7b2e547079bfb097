"""The skeleton of a person: an action and proportions become 18 body joints, 21 points a hand and 68 points of the face."""

import math
from dataclasses import dataclass

import numpy as np

from annotators.poses.skeleton import KEYPOINTS

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
    "sitting",
    "posing",
    "thinking",
    "crossing arms",
)
"""What a person can do. `gesturing` puts the arms anywhere; `posing` puts the hands on the hips."""

JITTERS = 24
"""Number of random offsets of a pose."""

_SIDEWAYS = math.pi / 2


@dataclass(frozen=True)
class Proportions:
    """Sizes of a body relative to an adult of 1.75 m: the whole, the head, the width of shoulders and hips, the girth."""

    height: float = 1.0
    head: float = 1.12
    shoulders: float = 1.0
    hips: float = 1.0
    girth: float = 1.0


@dataclass(frozen=True)
class Posture:
    """How a person stands: action, phase of its cycle in radians, offsets, and the head's yaw, pitch and roll in radians."""

    action: str
    phase: float
    jitter: tuple[float, ...]
    head_turn: tuple[float, float, float]
    curls: tuple[float, float]


@dataclass(frozen=True)
class Joints:
    """A placed skeleton, in metres.

    `points` maps names of `KEYPOINTS`, `pelvis`, `head` (its middle) and `chest` to (3,) positions; `turns` maps `hips`,
    `chest`, `head`, `right_hand`, `left_hand` to (3, 3) rotations whose columns are right-to-left, up and front; `hands` (2, 21, 3)
    right then left; `face` (68, 3) in the iBUG order; `unit` is the size of the head and `height` that of the body relative to an adult's.
    """

    points: dict[str, np.ndarray]
    turns: dict[str, np.ndarray]
    hands: np.ndarray
    face: np.ndarray
    unit: float
    height: float

    def body(self) -> np.ndarray:
        """Return the 18 joints in OpenPose's order, (18, 3), where readers find them; see `_READ`."""
        found = dict(self.points)
        for name, (turn, offset) in _READ.items():
            scale = self.unit if turn == "head" else self.height
            found[name] = found[name] + scale * (self.turns[turn] @ np.array(offset))
        found["neck"] = (found["right_shoulder"] + found["left_shoulder"]) / 2
        return np.stack([found[name] for name in KEYPOINTS])


_READ = {
    "nose": ("head", (0, -0.002, -0.025)),
    "right_eye": ("head", (0.003, 0, -0.015)),
    "left_eye": ("head", (-0.003, 0, -0.015)),
    "right_ear": ("head", (0.037, -0.006, 0.033)),
    "left_ear": ("head", (-0.037, -0.006, 0.033)),
    "right_shoulder": ("chest", (0, 0.022, 0.008)),
    "left_shoulder": ("chest", (0, 0.022, 0.008)),
    "right_ankle": ("hips", (0.009, 0.028, 0)),
    "left_ankle": ("hips", (-0.009, 0.028, 0)),
}
"""Where MediaPipe finds joints of the renders, from where they are: turn and metres of an adult of 1.75 m.

The drawn heads are wide, and ears stick out. Skeletons of photographs come from readers, so training takes the readers'
joints. `controlnext.starter.remake.offsets` measures how far they are off; figures are in docs/starter.md. The neck is OpenPose's,
halfway between the shoulders.
"""


def turn_about(axis: str, angle: float) -> np.ndarray:
    """Return the (3, 3) rotation by `angle` radians about one coordinate axis."""
    c, s = math.cos(angle), math.sin(angle)
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == "y":
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@dataclass(frozen=True)
class _Bends:
    """Radians: arms (swing, raise, elbow, elbow plane), legs (swing, raise, knee), trunk; lift in metres."""

    right_arm: tuple[float, ...] = (0.05, 0.15, 0.2, 0.0)
    left_arm: tuple[float, ...] = (0.05, 0.15, 0.2, 0.0)
    right_leg: tuple[float, ...] = (0.0, 0.05, 0.05)
    left_leg: tuple[float, ...] = (0.0, 0.05, 0.05)
    lean: float = 0.0
    twist: float = 0.0
    lift: float = 0.0


def _arms(action: str, s: float, c: float, jitter: np.ndarray) -> _Bends | None:
    """Return the angles of the actions in which the legs stand."""
    side = _SIDEWAYS
    if action == "waving":
        return _Bends(right_arm=(0, 2.35 + 0.15 * s, 0.7 + 0.5 * s, side))
    if action == "cheering":
        return _Bends(
            (0.1, 2.65 + 0.2 * s, 0.25, side), (0.1, 2.65 - 0.2 * s, 0.25, side), (0, 0.18, 0.05), (0, 0.18, 0.05)
        )
    if action == "pointing":
        return _Bends(right_arm=(0.15, 1.45 + 0.25 * s, 0.05, side), left_arm=(0.1, 0.55, 1.7, 0))
    if action == "gesturing":
        u = np.clip(0.5 + jitter[12:20] / 3.2, 0.0, 1.0)
        arms = [(-0.4 + 1.7 * u[i], 2.5 * u[i + 1], 2.1 * u[i + 2], side * u[i + 3]) for i in (0, 4)]
        return _Bends(arms[0], arms[1])
    if action == "posing":
        return _Bends((-0.35, 0.62, 1.75, -0.55), (-0.35, 0.62, 1.75, -0.55), (0, 0.12, 0.05), (0, 0.12, 0.05))
    if action == "thinking":
        return _Bends((0.75, -0.05, 2.25, -0.35), (0.45, 0.05, 1.55, -0.95))
    if action == "crossing arms":
        return _Bends((0.42, 0.05, 1.55, -1.05), (0.36, 0.05, 1.50, -1.0))
    return None


def _angles(action: str, phase: float, jitter: np.ndarray) -> _Bends:
    s, c = math.sin(phase), math.cos(phase)
    standing = _arms(action, s, c, jitter)
    if standing:
        return standing
    if action in ("walking", "running"):
        k, bend, knee = (0.6, 0.35, 0.35) if action == "walking" else (1.0, 1.6, 0.9)
        stride = 0.55 if action == "walking" else 0.85
        return _Bends(
            (k * s, 0.12, bend, 0),
            (-k * s, 0.12, bend, 0),
            (-stride * s, 0.03, 0.2 + knee * max(0, c)),
            (stride * s, 0.03, 0.2 + knee * max(0, -c)),
            lean=0.02 if action == "walking" else 0.18,
        )
    if action == "dancing":
        return _Bends(
            (0.3 * c, 1.5 + 0.9 * s, 0.6, _SIDEWAYS),
            (0.3 * s, 1.5 - 0.9 * s, 0.6, _SIDEWAYS),
            (0.2 * s, 0.25 + 0.15 * s, 0.3),
            (-0.2 * s, 0.25 - 0.15 * s, 0.3),
            twist=0.25 * s,
        )
    if action == "kicking":
        return _Bends(
            (-0.4 * s, 0.9, 0.3, 0),
            (0.5 * s, 0.9, 0.3, 0),
            (0.75 + 0.45 * s, 0.1, max(0.0, 0.25 - 0.2 * s)),
            (-0.08, 0.06, 0.12),
            lean=-0.12,
        )
    if action == "jumping":
        return _Bends(
            (0.2, 2.1 + 0.4 * s, 0.3, _SIDEWAYS),
            (0.2, 2.1 + 0.4 * c, 0.3, _SIDEWAYS),
            (0.5 + 0.3 * s, 0.3, 1.0 + 0.3 * c),
            (0.5 - 0.3 * s, 0.3, 1.0 - 0.3 * c),
            lift=0.22 + 0.08 * s,
        )
    if action == "sitting":
        return _Bends((0.55, 0.1, 0.75, -0.2), (0.5, 0.1, 0.8, -0.2), (1.5, 0.12, 1.5), (1.5, 0.12, 1.5))
    return _Bends(right_arm=(0.05 + 0.1 * s, 0.15, 0.2, 0), left_arm=(0.05 - 0.1 * s, 0.15, 0.2, 0))


def _limb(
    origin: np.ndarray, base: np.ndarray, side: int, angles: tuple[float, ...], lengths: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return elbow and wrist (or knee and ankle) and the rotation of the lower limb."""
    swing, lift, bend = angles[:3]
    upper = base @ turn_about("x", -swing) @ turn_about("z", side * lift)
    middle = origin + lengths[0] * (upper @ np.array([0, -1.0, 0]))
    if len(angles) == 4:
        lower = upper @ turn_about("y", side * angles[3]) @ turn_about("x", -bend)
    else:
        lower = upper @ turn_about("x", bend)
    return middle, middle + lengths[1] * (lower @ np.array([0, -1.0, 0])), lower


# A right hand in metres, fingers along -y, thumb towards the front (+z), palm towards the body (+x for the right hand): base of each
# finger (y, z), its direction's slope in z, and the lengths of its three bones.
_FINGERS = (
    (-0.022, 0.030, 0.95, (0.034, 0.030, 0.025)),
    (-0.086, 0.028, 0.16, (0.040, 0.025, 0.021)),
    (-0.090, 0.009, 0.03, (0.044, 0.028, 0.023)),
    (-0.086, -0.010, -0.10, (0.040, 0.026, 0.021)),
    (-0.078, -0.027, -0.24, (0.032, 0.020, 0.018)),
)


def hand_points(wrist: np.ndarray, turn: np.ndarray, side: int, curl: float, unit: float) -> np.ndarray:
    """Return the 21 points (21, 3) of a hand.

    Args:
        wrist: (3,) metres.
        turn: (3, 3) rotation of the forearm.
        side: -1 for the right hand, 1 for the left.
        curl: 0 is an open hand, 1 a fist.
        unit: size relative to an adult's hand.
    """
    points = [np.zeros(3)]
    for number, (y, z, slope, bones) in enumerate(_FINGERS):
        bend = (0.25 if number == 0 else 0.12) + curl * (0.55 if number == 0 else 1.45)
        point, direction = np.array([0.0, y, z]), np.array([0.0, -1.0, slope])
        direction /= np.linalg.norm(direction)
        points.append(point)
        angle = 0.0
        for k, bone in enumerate(bones):
            angle += bend * (0.75 if k == 0 else 1.0) * (0.55 if curl < 0.3 else 1.0)
            inwards = np.array([-side * math.sin(angle), 0, 0]) + direction * math.cos(angle)
            point = point + bone * inwards
            points.append(point)
    return wrist + unit * np.array(points) @ turn.T


_BROW = ((0.056, -0.004), (0.046, 0.002), (0.036, 0.004), (0.026, 0.003), (0.017, 0.0))
_EYE = ((-0.018, 0), (-0.008, 0.010), (0.008, 0.010), (0.018, 0), (0.008, -0.009), (-0.008, -0.009))


def _face(head: np.ndarray, turn: np.ndarray, unit: float) -> np.ndarray:
    """Return 68 points of the face: jaw, brows, nose, eyes, mouth, in the iBUG order (the person's right first)."""
    jaw = [
        (-0.088 * math.cos(a), -0.012 - 0.105 * math.sin(a), 0.015 + 0.062 * math.sin(a))
        for a in np.linspace(0, math.pi, 17)
    ]
    right_brow = [(-x, 0.043 + y, 0.088 - x * 0.35) for x, y in _BROW]
    left_brow = [(-x, y, z) for x, y, z in right_brow[::-1]]
    nose = [(0, 0.018, 0.098), (0, 0.006, 0.104), (0, -0.006, 0.111), (0, -0.017, 0.117)]
    nose += [
        (x, -0.027 - 0.004 * (1 - abs(x) / 0.016), 0.104 - abs(x) * 0.3) for x in (-0.016, -0.008, 0, 0.008, 0.016)
    ]
    eyes = [(x + dx, 0.014 + dy, 0.091 - abs(x + dx) * 0.28) for x in (-0.036, 0.036) for dx, dy in _EYE]
    lips = [
        (-w * math.cos(a), -0.060 + h * math.sin(a), 0.092 - 0.25 * abs(w * math.cos(a)))
        for w, h, count in ((0.030, 0.011, 12), (0.022, 0.005, 8))
        for a in np.linspace(0, 2 * math.pi, count, endpoint=False)
    ]
    local = jaw + right_brow + left_brow + nose + eyes + lips
    return head + unit * np.array(local) @ turn.T


_FACE_JOINTS = {
    "nose": (0, -0.014, 0.117),
    "right_eye": (-0.036, 0.014, 0.085),
    "left_eye": (0.036, 0.014, 0.085),
    "right_ear": (-0.104, 0.0, -0.008),
    "left_ear": (0.104, 0.0, -0.008),
}


def place_joints(posture: Posture, shape: Proportions, yaw: float, position: np.ndarray) -> Joints:
    """Place the joints of a person who looks along +z turned by `yaw` radians about the vertical.

    Args:
        posture: what the person does.
        shape: the body's proportions.
        yaw: radians.
        position: (3,) metres, the point on the ground below the person.
    """
    jitter = np.array(posture.jitter)
    angles = _angles(posture.action, posture.phase, jitter)
    arms = [
        tuple(a + 0.12 * j for a, j in zip(arm[:3], jitter[i : i + 3], strict=True)) + arm[3:]
        for arm, i in ((angles.right_arm, 0), (angles.left_arm, 3))
    ]
    legs = [
        (leg[0] + 0.06 * jitter[i], leg[1] + 0.05 * jitter[i + 1], max(0.0, leg[2] + 0.06 * jitter[i + 2]))
        for leg, i in ((angles.right_leg, 6), (angles.left_leg, 9))
    ]
    k = shape.height
    unit = shape.head * (k if k > 0.85 else 0.62 * k + 0.34)  # a child's head has nearly its final size
    around = turn_about("y", yaw)
    chest = (
        around
        @ turn_about("x", angles.lean + 0.03 * jitter[20])
        @ turn_about("y", angles.twist)
        @ turn_about("z", 0.03 * jitter[21])
    )
    head_turn = (
        chest
        @ turn_about("y", posture.head_turn[0])
        @ turn_about("x", posture.head_turn[1])
        @ turn_about("z", posture.head_turn[2])
    )
    pelvis = np.array([0, 0.90 * k, 0.0])
    points = {"pelvis": pelvis, "neck": pelvis + chest @ np.array([0, 0.49 * k, 0])}
    points["chest"] = pelvis + chest @ np.array([0, 0.35 * k, 0])
    points["head"] = (
        points["neck"] + chest @ np.array([0, 0.042 * k, 0.01]) + head_turn @ np.array([0, 0.122 * unit, 0.014 * unit])
    )
    turns, hands = {"hips": around, "chest": chest, "head": head_turn}, []
    for name, side, arm, leg, curl in (
        ("right", -1, arms[0], legs[0], posture.curls[0]),
        ("left", 1, arms[1], legs[1], posture.curls[1]),
    ):
        shoulder = points["neck"] + chest @ np.array([side * 0.178 * shape.shoulders * k, -0.055 * k, 0])
        hip = pelvis + around @ np.array([side * 0.092 * shape.hips * k, -0.03 * k, 0])
        elbow, wrist, forearm = _limb(shoulder, chest, side, arm, (0.27 * k, 0.245 * k))
        knee, ankle, _ = _limb(hip, around, side, leg, (0.41 * k, 0.40 * k))
        points |= {f"{name}_shoulder": shoulder, f"{name}_elbow": elbow, f"{name}_wrist": wrist}
        points |= {f"{name}_hip": hip, f"{name}_knee": knee, f"{name}_ankle": ankle}
        turns[f"{name}_hand"] = forearm
        hands.append(hand_points(wrist, forearm, side, curl, 0.95 * (0.5 * k + 0.5 * unit)))
    points |= {name: points["head"] + unit * (head_turn @ np.array(at)) for name, at in _FACE_JOINTS.items()}
    soles = min(points["right_ankle"][1], points["left_ankle"][1]) - 0.075 * k
    lift = angles.lift * k - soles
    move = np.asarray(position, float) + np.array([0, lift, 0])
    points = {name: point + move for name, point in points.items()}
    face = _face(points["head"], head_turn, unit)
    return Joints(points, turns, np.stack(hands) + move, face, unit, k)
