"""What a person is dressed with: their joints, their surfaces, and places on their head."""

import numpy as np

from controlnext.starter.scenes.character import Character
from controlnext.starter.scenes.joints import Joints
from controlnext.starter.scenes.palette import CLOTHES, HAIR, SKIN
from controlnext.starter.scenes.solids import SolidCut, Solids, Surface

_KNIT = {"sweater": "knit"}


class Tailor:
    """State shared by the parts of one person; adds solids at places of the head."""

    def __init__(self, solids: Solids, who: Character, joints: Joints, person: int) -> None:
        """Take the skeleton and name the surfaces."""
        self.solids, self.who, self.joints, self.person = solids, who, joints, person
        self.p, self.k, self.unit = joints.points, who.shape.height, joints.unit
        self.girth = who.shape.girth
        self.chest, self.hips, self.head = joints.turns["chest"], joints.turns["hips"], joints.turns["head"]
        skin = SKIN[who.skin]
        self.limb = Surface("limb", skin, gloss=0.18)
        self.skin = Surface("face", skin, gloss=0.18)
        pattern = who.top_pattern if who.top_pattern != "plain" else _KNIT.get(who.top, "plain")
        scale = {"stripes": 14.0, "dots": 15.0, "checks": 12.0, "knit": 60.0}.get(pattern, 20.0)
        second = CLOTHES[who.second]
        shell = who.top in ("jacket", "coat")
        self.top = Surface("coat" if shell else "shirt", CLOTHES[who.top_colour], second, pattern, scale, 0.05)
        self.under = Surface("shirt", CLOTHES[who.under], gloss=0.05)
        self.bottom = Surface("trousers", CLOTHES[who.bottom_colour], gloss=0.04)
        if who.wears_dress:
            self.bottom = self.top
        self.hair = Surface("hair", HAIR[who.hair], pattern="hair", scale=90.0, gloss=0.35)

    def at(self, x: float, y: float, z: float) -> np.ndarray:
        """A place on the head, in an adult head's metres from its middle."""
        return self.p["head"] + self.unit * (self.head @ np.array([x, y, z]))

    def ball(
        self,
        x: float,
        y: float,
        z: float,
        radii: tuple[float, float, float] | float,
        surface: Surface,
        cut: SolidCut | None = None,
    ) -> None:
        """Add an ellipsoid at a place of the head; radii and cut are of an adult's head."""
        radii = (radii,) * 3 if isinstance(radii, float) else radii
        u = self.unit
        self.solids.ball(self.at(x, y, z), tuple(r * u for r in radii), surface, turn=self.head, cut=_scaled(cut, u))

    def strand(
        self,
        start: tuple[float, float, float],
        end: tuple[float, float, float],
        radii: tuple[float, float],
        surface: Surface,
        flat: float = 1.0,
    ) -> None:
        """A cone between two places on the head."""
        u = self.unit
        self.solids.cone(
            self.at(*start),
            self.at(*end),
            (radii[0] * u, radii[1] * u),
            surface,
            flat=flat,
            front=self.head[:, 2],
            shades=False,
        )


def _scaled(cut: SolidCut | None, unit: float) -> SolidCut:
    """A cut given for an adult's head, for a head of another size."""
    if cut is None:
        return SolidCut()
    return SolidCut(cut.normal, cut.offset * unit, *(v * unit for v in cut[2:]))
