"""Who is in a picture: looks, clothes and posture of a person, drawn from a seed."""

import math
from dataclasses import dataclass

import numpy as np

from controlnext.starter.scenes.joints import ACTIONS, JITTERS, Posture, Proportions
from controlnext.starter.scenes.palette import CLOTHES, EYES, HAIR, SKIN

KINDS = ("woman", "man", "girl", "boy")
HAIR_STYLES = ("short", "long", "bob", "curly", "ponytail", "bun", "bald", "spiky", "pigtails", "afro")
TOPS = ("t-shirt", "shirt", "sweater", "jacket", "coat", "dress", "tank top")
BOTTOMS = ("trousers", "shorts", "skirt")
HATS = ("cap", "beanie", "sun hat", "headscarf")
EXPRESSIONS = ("smiling", "neutral", "laughing", "sad", "surprised", "angry")
PATTERNS_WORN = ("plain", "stripes", "dots", "checks")
HELD = ("nothing", "cup", "phone", "flower", "book", "ball", "umbrella", "guitar")

_STANDING = [0.16, 0.06, 0.10, 0.06, 0.06, 0.05, 0.05, 0.03, 0.04, 0.22, 0.06, 0.05, 0.03, 0.03]


@dataclass(frozen=True)
class Character:
    """A person by names of this module and of the palette; `yaw` in radians, `spot` the place on the ground in metres.

    `gaze` moves the irises right and up in half widths of an eye. `beard` and `glasses` are names, or empty.
    """

    kind: str
    shape: Proportions
    posture: Posture
    yaw: float
    spot: tuple[float, float]
    skin: str
    hair: str
    hair_style: str
    parting: float
    fringe: float
    beard: str
    glasses: str
    hat: str
    hat_colour: str
    eyes: str
    gaze: tuple[float, float]
    expression: str
    top: str
    top_colour: str
    top_pattern: str
    second: str
    under: str
    bottom: str
    bottom_colour: str
    shoes: str
    held: str

    @property
    def wears_dress(self) -> bool:
        """Whether the top covers the legs in place of a bottom."""
        return self.top == "dress"


def _pick(rng: np.random.Generator, names: object, weights: list[float] | None = None) -> str:
    names = list(names)
    if weights is None:
        return names[int(rng.integers(len(names)))]
    share = np.array(weights) / sum(weights)
    return names[int(rng.choice(len(names), p=share))]


def _shape(rng: np.random.Generator, kind: str) -> Proportions:
    if kind == "woman":
        return Proportions(
            rng.uniform(0.90, 1.0),
            rng.uniform(1.08, 1.2),
            rng.uniform(0.86, 0.96),
            rng.uniform(0.98, 1.12),
            rng.uniform(0.86, 1.04),
        )
    if kind == "man":
        return Proportions(
            rng.uniform(0.98, 1.08),
            rng.uniform(1.06, 1.18),
            rng.uniform(1.0, 1.14),
            rng.uniform(0.95, 1.05),
            rng.uniform(0.95, 1.25),
        )
    return Proportions(
        rng.uniform(0.60, 0.80),
        rng.uniform(1.10, 1.22),
        rng.uniform(0.86, 0.98),
        rng.uniform(0.92, 1.05),
        rng.uniform(0.92, 1.12),
    )


def _yaw(rng: np.random.Generator) -> float:
    """From the front more often than from the sides, now and then from behind."""
    where = rng.random()
    if where < 0.06:
        return rng.uniform(-0.7, 0.7) + math.pi
    if where < 0.16:
        return float(rng.choice([-1, 1])) * rng.uniform(1.1, 1.75)
    return float(np.clip(rng.normal() * 0.5, -1.2, 1.2))


def _hair(rng: np.random.Generator, kind: str) -> tuple[str, str]:
    female = kind in ("woman", "girl")
    styles = [0.08, 0.30, 0.15, 0.10, 0.15, 0.10, 0.0, 0.0, 0.06 if kind == "woman" else 0.25, 0.06]
    if not female:
        styles = [0.46, 0.05, 0.02, 0.14, 0.01, 0.03, 0.10 if kind == "man" else 0.02, 0.14, 0.0, 0.05]
    old = kind in ("woman", "man")
    return _pick(rng, HAIR_STYLES, styles), _pick(
        rng, HAIR, [0.24, 0.28, 0.20, 0.14, 0.08, 0.06] if old else [0.26, 0.3, 0.26, 0.18, 0, 0]
    )


def sample_character(rng: np.random.Generator, spot: tuple[float, float] = (0.0, 0.0)) -> Character:
    """Draw a person who stands at `spot` (x, z) in metres."""
    kind = _pick(rng, KINDS, [0.36, 0.36, 0.14, 0.14])
    style, hair = _hair(rng, kind)
    female = kind in ("woman", "girl")
    top = _pick(rng, TOPS, [0.22, 0.20, 0.16, 0.12, 0.10, 0.16 if female else 0.0, 0.06])
    colour, second = _pick(rng, CLOTHES), _pick(rng, CLOTHES)
    turned = rng.random() < 0.7
    head_turn = (
        float(np.clip(rng.normal() * 0.30, -0.8, 0.8)) * turned,
        float(np.clip(rng.normal() * 0.13, -0.4, 0.35)),
        float(np.clip(rng.normal() * 0.10, -0.3, 0.3)),
    )
    posture = Posture(
        action=_pick(rng, ACTIONS, _STANDING),
        phase=rng.uniform(0, 2 * math.pi),
        jitter=tuple(rng.normal(size=JITTERS).clip(-2, 2).round(4)),
        head_turn=head_turn,
        curls=(float(rng.choice([0.05, 0.25, 0.5, 0.95])), float(rng.choice([0.05, 0.25, 0.5, 0.95]))),
    )
    hat = _pick(rng, HATS, [0.4, 0.25, 0.2, 0.15 if kind == "woman" else 0.0]) if rng.random() < 0.17 else ""
    return Character(
        kind=kind,
        shape=_shape(rng, kind),
        posture=posture,
        yaw=_yaw(rng),
        spot=spot,
        skin=_pick(rng, SKIN),
        hair=hair,
        hair_style=style,
        parting=rng.uniform(-0.03, 0.03),
        fringe=float(rng.choice([0.0, 0.0, 0.35, 0.7, 1.0])) if style not in ("spiky", "afro") else 0.0,
        beard=_pick(rng, ("beard", "stubble", "moustache"), [0.55, 0.25, 0.2])
        if kind == "man" and rng.random() < 0.32
        else "",
        glasses=_pick(rng, ("glasses", "sunglasses"), [0.7, 0.3]) if rng.random() < 0.18 else "",
        hat=hat,
        hat_colour=_pick(rng, CLOTHES),
        eyes=_pick(rng, EYES, [0.45, 0.25, 0.15, 0.15]),
        gaze=(float(np.clip(rng.normal() * 0.3, -0.55, 0.55)), float(np.clip(rng.normal() * 0.15, -0.3, 0.3))),
        expression=_pick(rng, EXPRESSIONS, [0.40, 0.26, 0.12, 0.08, 0.08, 0.06]),
        top=top,
        top_colour=colour,
        top_pattern=_pick(rng, PATTERNS_WORN, [0.66, 0.16, 0.09, 0.09]) if top not in ("coat", "jacket") else "plain",
        second=second if second != colour else ("white" if colour != "white" else "black"),
        under=_pick(rng, CLOTHES),
        bottom=_pick(rng, BOTTOMS, [0.6, 0.16, 0.24] if female else [0.76, 0.24, 0.0]),
        bottom_colour=_pick(rng, CLOTHES, [1, 3, 1, 0.7, 0.7, 0.7, 1.3, 2.5, 2, 0.8, 1.5, 1.5]),
        shoes=_pick(rng, CLOTHES, [1, 1, 0.5, 0.5, 0.3, 0.5, 2.5, 3, 1, 0.6, 2, 1]),
        held=_pick(rng, HELD[1:], [1, 1, 1, 1, 0.8, 0.7, 0.4]) if rng.random() < 0.12 else "nothing",
    )
