"""A shot: people, a place, things, light and a camera, drawn from a seed the way people photograph each other."""

import math
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from controlnext.starter.scenes.cast import Lens
from controlnext.starter.scenes.character import Character, sample_character
from controlnext.starter.scenes.joints import Joints, place_joints
from controlnext.starter.scenes.palette import CLOTHES, WALLS
from controlnext.starter.scenes.things import FURS

FRAMINGS = MappingProxyType({"head": 0.25, "bust": 0.25, "half": 0.20, "whole": 0.30})
"""How much of a person is meant to be seen, and how often."""

SIDE = 384
"""Height and width of a square picture in pixels. At 256 the autoencoder loses the faces and hands of whole figures."""

SIZES = ((SIDE, SIDE), (448, 320), (320, 448), (448, 288), (288, 448))
"""Heights and widths of pictures in pixels: 1:1, about 3:4 and 4:3, 2:3 and 3:2."""

PLACES = ("studio", "room", "street", "beach", "park", "forest", "snow", "mountains")
TIMES = ("day", "sunset", "night", "dawn")
WEATHERS = ("clear", "clouds", "rain", "snowfall", "fog")

_THINGS_OF = MappingProxyType(
    {
        "studio": ("chair", "plant", "ball", "dog", "cat", "crate"),
        "room": ("sofa", "chair", "table", "lamp", "plant", "bookshelf", "dog", "cat"),
        "street": ("car", "bus", "bicycle", "bench", "tree", "dog"),
        "beach": ("palm", "boat", "ball", "dog", "bird"),
        "park": ("tree", "bush", "flowers", "bench", "bicycle", "dog", "cat", "bird", "ball", "house"),
        "forest": ("tree", "pine", "bush", "dog", "bird"),
        "snow": ("pine", "house", "dog"),
        "mountains": ("pine", "house", "crate", "bush"),
    }
)
_GROUND_OF = MappingProxyType(
    {
        "studio": "plain",
        "room": "planks",
        "street": "road",
        "beach": "sand",
        "park": "grass",
        "forest": "grass",
        "snow": "snow",
        "mountains": "grass",
    }
)


@dataclass(frozen=True)
class Item:
    """A thing on the ground: what it is, its colour, its place in metres, its turn in radians and its size."""

    name: str
    colour: str
    x: float
    z: float
    yaw: float
    scale: float


@dataclass(frozen=True)
class Light:
    """Where the light comes from (radians), how bright the picture is, how much the background is out of focus (pixels of 256)."""

    azimuth: float
    elevation: float
    exposure: float
    warmth: float
    blur: float


@dataclass(frozen=True)
class Shot:
    """Everything of a picture. `seed` also fixes what is drawn of no consequence: buildings, clouds, drops of rain."""

    seed: int
    size: tuple[int, int]
    framing: str
    people: tuple[Character, ...]
    items: tuple[Item, ...]
    place: str
    time: str
    weather: str
    wall: str
    floor: str
    hung: str
    back: float
    side: float
    light: Light
    lens: Lens

    def joints(self) -> tuple[Joints, ...]:
        """Return the placed skeleton of each person."""
        return tuple(
            place_joints(p.posture, p.shape, p.yaw, np.array([p.spot[0], 0.0, p.spot[1]])) for p in self.people
        )

    @property
    def indoors(self) -> bool:
        """Whether walls stand behind the people."""
        return self.place in ("studio", "room")

    @property
    def grown(self) -> float:
        """How many pixels one of a picture of 256 is: blur, rain and snow are measured in those."""
        return math.sqrt(self.size[0] * self.size[1]) / 256

    @property
    def ground(self) -> str:
        """The kind of ground."""
        return self.floor if self.place == "room" else _GROUND_OF[self.place]


def _pick(rng: np.random.Generator, names: object, weights: list[float] | None = None) -> str:
    names = list(names)
    share = None if weights is None else np.array(weights) / sum(weights)
    return names[int(rng.choice(len(names), p=share))]


def _framed(
    rng: np.random.Generator, framing: str, main: Joints, height: float, group: np.ndarray, aspect: float
) -> tuple[np.ndarray, float]:
    """Return the place looked at and half of the height that is seen there, in metres."""
    head, unit, k = main.points["head"], main.unit, height
    if framing == "head":
        target, half = head + np.array([0, rng.uniform(-0.05, 0.02) * unit, 0]), rng.uniform(0.155, 0.30) * unit
    elif framing == "bust":
        target, half = (
            main.points["neck"] + np.array([0, rng.uniform(-0.06, 0.08) * k, 0]),
            rng.uniform(0.30, 0.46) * (0.4 + 0.6 * k),
        )
    elif framing == "half":
        target, half = (
            main.points["chest"] + np.array([0, rng.uniform(-0.15, 0.10) * k, 0]),
            rng.uniform(0.52, 0.74) * k,
        )
    else:
        middle = 0.5 * (main.points["head"][1] + min(main.points["right_ankle"][1], main.points["left_ankle"][1]))
        target, half = np.array([head[0], middle + rng.uniform(-0.10, 0.12) * k, head[2]]), rng.uniform(0.88, 1.75) * k
    room = half * min(aspect, 1.0)
    if len(group) > 1 and rng.random() < (
        0.5 if framing in ("head", "bust") else 0.85
    ):  # step back until the others are in the picture, too
        low, high = group[:, 0].min(), group[:, 0].max()
        target = np.array([0.5 * (low + high), target[1], target[2]])
        half = max(half, min((0.5 * (high - low) + 0.16) / max(aspect, 0.5), 2.4 * half))
        target = target + np.array([rng.uniform(-0.1, 0.1) * half, 0, 0])
    else:
        target = target + np.array([float(np.clip(rng.normal() * 0.22, -0.5, 0.5)) * room, 0, 0])
    return target, half


def _lens(rng: np.random.Generator, framing: str, target: np.ndarray, half: float) -> Lens:
    focal = {"head": rng.uniform(3.6, 6.0), "bust": rng.uniform(2.8, 4.6)}.get(framing, rng.uniform(2.2, 3.8))
    distance = max(focal * half, 0.75)
    focal = distance / half
    climb = float(np.clip(rng.normal() * 0.13 + 0.04, -0.25, 0.45))
    aside = float(np.clip(rng.normal() * 0.15, -0.4, 0.4))
    offset = (
        np.array([math.sin(aside) * math.cos(climb), math.sin(climb), math.cos(aside) * math.cos(climb)]) * distance
    )
    eye = target + offset
    eye[1] = max(eye[1], 0.15)
    roll = float(np.clip(rng.normal() * 0.03, -0.1, 0.1)) if rng.random() < 0.5 else 0.0
    return Lens(tuple(float(v) for v in eye), tuple(float(v) for v in target), focal, roll)


def _people(rng: np.random.Generator, framing: str) -> tuple[Character, ...]:
    count = int(rng.choice([1, 2, 3], p=[0.80, 0.15, 0.05]))
    first = sample_character(rng)
    people, x = [first], 0.0
    side = 1 if rng.random() < 0.5 else -1
    near = 0.46 if framing in ("head", "bust") else 0.62
    for n in range(1, count):
        x = (side * (near + rng.uniform(0, 0.3))) * (1 if n == 1 else -1)
        other = sample_character(rng, (x, rng.uniform(-0.35, 0.15)))
        if framing in ("head", "bust") and other.shape.height < first.shape.height - 0.2:
            other = replace(other, shape=replace(other.shape, height=first.shape.height - 0.1))
        people.append(replace(other, yaw=float(np.clip(other.yaw, -0.9, 0.9)) - math.copysign(0.25, x)))
    return tuple(people)


def _items(
    rng: np.random.Generator, place: str, people: tuple[Character, ...], framing: str, back: float
) -> tuple[Item, ...]:
    items = []
    for who in people:
        if who.posture.action == "sitting":
            seat = "chair" if place not in ("park", "street") else "bench"
            items.append(
                Item(
                    seat,
                    _pick(rng, CLOTHES),
                    who.spot[0] - 0.04 * math.sin(who.yaw),
                    who.spot[1] - 0.04 * math.cos(who.yaw),
                    who.yaw,
                    who.shape.height,
                )
            )
    outdoor = place not in ("studio", "room")
    count = (
        int(rng.choice([0, 1, 2, 3], p=[0.25, 0.40, 0.25, 0.10])) if place != "studio" else int(rng.random() < 0.25)
    )
    if place == "forest":
        count += 3
    taken = [who.spot for who in people]
    for _ in range(count):
        name = _pick(rng, _THINGS_OF[place])
        large = name in ("house", "bus", "car", "tree", "boat", "palm")
        z = -rng.uniform(2.2, 5.5) if large else rng.uniform(-min(back - 0.6, 2.2), 0.25)
        z -= 2.5 if name in ("house", "bus") else 0.0
        reach = 1.1 + 0.35 * abs(z) if outdoor else 1.4
        x = float(rng.choice([-1, 1])) * rng.uniform(0.55 if not large else 0.9, reach + (1.0 if large else 0))
        if min(abs(x - px) + 0.6 * abs(z - pz) for px, pz in taken) < (0.7 if not large else 1.6):
            continue
        taken.append((x, z))
        colour = _pick(rng, FURS if name in ("dog", "cat") else CLOTHES)
        yaw = rng.uniform(-0.5, 0.5) if name not in ("dog", "cat", "bird", "ball") else rng.uniform(-math.pi, math.pi)
        items.append(Item(name, colour, x, z, yaw, rng.uniform(0.85, 1.15)))
    return tuple(items)


def sample_shot(seed: int, size: tuple[int, int] | None = None) -> Shot:
    """Draw the shot of a seed: the same seed and size always give the same shot.

    Args:
        seed: any number, 0 or more.
        size: height and width in pixels; None draws one of `SIZES`.
    """
    rng = np.random.default_rng([seed, 21])
    drawn = SIZES[int(rng.choice(len(SIZES), p=[0.6, 0.13, 0.09, 0.1, 0.08]))]
    size = size or drawn
    framing = _pick(rng, FRAMINGS, list(FRAMINGS.values()))
    people = _people(rng, framing)
    place = _pick(rng, PLACES, [0.17, 0.20, 0.17, 0.11, 0.15, 0.06, 0.06, 0.08])
    back = rng.uniform(0.9, 3.2)
    joints = [place_joints(p.posture, p.shape, p.yaw, np.array([p.spot[0], 0.0, p.spot[1]])) for p in people]
    heads = np.stack([j.points["head"] for j in joints])
    target, half = _framed(rng, framing, joints[0], people[0].shape.height, heads, size[1] / size[0])
    weather = (
        _pick(rng, WEATHERS, [0.45, 0.30, 0.10, 0.0, 0.08])
        if place != "snow"
        else _pick(rng, WEATHERS, [0.4, 0.25, 0, 0.3, 0.05])
    )
    floor = _pick(rng, ("planks", "tiles", "plain"), [0.6, 0.2, 0.2])
    portrait = framing in ("head", "bust")
    light = Light(
        azimuth=float(np.clip(rng.normal() * 0.75, -1.9, 1.9)),
        elevation=rng.uniform(0.35, 1.05),
        exposure=float(np.exp(np.clip(rng.normal() * 0.13, -0.3, 0.3))),
        warmth=float(np.clip(rng.normal() * 0.05, -0.12, 0.12)),
        blur=float(rng.uniform(1.2, 3.5)) if rng.random() < (0.45 if portrait else 0.08) else 0.0,
    )
    return Shot(
        seed=seed,
        size=size,
        framing=framing,
        people=people,
        items=_items(rng, place, people, framing, back),
        place=place,
        time=_pick(rng, TIMES, [0.55, 0.16, 0.16, 0.13]),
        weather=weather if place not in ("studio", "room") else "clear",
        wall=_pick(rng, WALLS),
        floor=floor,
        hung=_pick(rng, ("", "window", *CLOTHES), [6, 6] + [0.7] * len(CLOTHES)) if place == "room" else "",
        back=back if place == "room" else rng.uniform(0.6, 1.6),
        side=float(rng.choice([-1, 1])) * rng.uniform(1.6, 3.5),
        light=light,
        lens=_lens(rng, framing, target, half),
    )
