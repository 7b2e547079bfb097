"""From a person to solids: body, clothes, hands and head."""

import numpy as np

from controlnext.starter.scenes.adorn import add_hair, add_hat, add_held
from controlnext.starter.scenes.character import Character
from controlnext.starter.scenes.joints import Joints, turn_about
from controlnext.starter.scenes.palette import CLOTHES
from controlnext.starter.scenes.solids import SolidCut, Solids, Surface
from controlnext.starter.scenes.tailor import Tailor


def add_person(solids: Solids, who: Character, joints: Joints, person: int) -> None:
    """Add a person's solids; `person` is the index of the face that is painted on the head."""
    _Dresser(solids, who, joints, person).make()


class _Dresser(Tailor):
    """Adds one person part by part."""

    def make(self) -> None:
        self._torso()
        self._arms()
        self._legs()
        self._neck_and_head()
        add_hair(self)
        if self.who.hat:
            add_hat(self)
        add_held(self)

    def _torso(self) -> None:
        p, k, g, who, front = self.p, self.k, self.girth, self.who, self.chest[:, 2]
        female = who.kind == "woman"
        wide = k * who.shape.shoulders
        waist_r = k * g * (0.108 if female else 0.122)
        belly = p["pelvis"] + self.chest @ np.array([0, 0.13 * k, 0.004])
        ribs = p["neck"] - self.chest @ np.array([0, 0.155 * k, -0.004])
        hip_r = k * (0.142 * who.shape.hips) * (0.6 + 0.4 * g)
        shell = who.top in ("jacket", "coat")
        inner, grow = (self.under if shell else self.top), 0.014 * k
        shirt = inner
        self.solids.cone(
            p["right_shoulder"] + self.chest @ np.array([0.012, -0.012, 0]),
            p["left_shoulder"] + self.chest @ np.array([-0.012, -0.012, 0]),
            (0.062 * k, 0.062 * k),
            self.top if shell else shirt,
            flat=0.95,
            front=front,
        )
        self.solids.cone(belly, ribs, (waist_r, 0.138 * wide * (0.75 + 0.25 * g)), shirt, flat=0.74, front=front)
        self.solids.cone(
            ribs,
            p["neck"] - self.chest @ np.array([0, 0.045 * k, 0]),
            (0.135 * wide * (0.75 + 0.25 * g), 0.075 * k),
            shirt,
            flat=0.74,
            front=front,
        )
        hips = p["pelvis"] + self.hips @ np.array([0, -0.005 * k, 0])
        if female:
            depth = 0.034 if shell else 0.052
            self.solids.ball(
                p["neck"] + self.chest @ np.array([0, -0.180 * k, depth * k]),
                (0.122 * k, 0.088 * k, 0.066 * k),
                shirt,
                turn=self.chest,
            )
        for side, name in ((-1, "right"), (1, "left")):
            self.solids.cone(
                p["neck"] + self.chest @ np.array([side * 0.035 * k, -0.012 * k, -0.004]),
                p[f"{name}_shoulder"],
                (0.045 * k, 0.056 * k),
                self.top if shell else shirt,
                front=front,
            )
        self.solids.cone(
            hips,
            belly,
            (hip_r, waist_r * 0.96),
            self.bottom,
            flat=0.78,
            front=self.hips[:, 2],
            cut=SolidCut((0, -1, 0), -0.115 * k),
        )
        self.solids.cone(
            hips + self.hips @ np.array([0, 0.04 * k, 0]),
            belly,
            (hip_r * 1.02, waist_r * 1.03),
            shirt,
            flat=0.79,
            front=self.hips[:, 2],
            cut=SolidCut((0, 1, 0), -0.02 * k),
        )
        if shell:
            opening = {"open_a": 0.045 * k, "open_b": 0.33 * k, "open_z": 0.0}
            self.solids.cone(
                belly,
                ribs,
                (waist_r + grow, 0.138 * wide * (0.75 + 0.25 * g) + grow),
                self.top,
                flat=0.78,
                front=front,
                cut=SolidCut(open_y=0.12 * k, **opening),
            )
            self.solids.cone(
                ribs,
                p["neck"] - self.chest @ np.array([0, 0.06 * k, 0]),
                (0.135 * wide * (0.75 + 0.25 * g) + grow, 0.082 * k),
                self.top,
                flat=0.78,
                front=front,
                cut=SolidCut(open_y=0.05 * k, **opening),
            )
            drop = 0.42 if who.top == "coat" else 0.10
            end = belly + (hips - belly) / max(np.linalg.norm(hips - belly), 1e-6) * (0.13 + drop) * k
            self.solids.cone(
                belly,
                end,
                (
                    waist_r + grow,
                    k * (0.092 * who.shape.hips + 0.094 * (0.5 + 0.5 * g)) * (1.12 if who.top == "coat" else 1.0)
                    + grow,
                ),
                self.top,
                flat=0.82,
                front=self.hips[:, 2],
                cut=SolidCut((0, -1, 0), -(0.13 + drop) * k, open_a=0.05 * k, open_b=0.6 * k, open_y=0.3 * k),
            )
        elif who.top == "sweater":
            self.solids.cone(
                p["neck"] + self.chest @ np.array([0, -0.035 * k, 0]),
                p["neck"] + self.chest @ np.array([0, 0.012 * k, 0.006 * k]),
                (0.075 * k, 0.066 * k),
                self.top._replace(pattern="knit"),
                front=front,
            )
        elif who.top == "shirt":
            for side in (-1, 1):
                collar = p["neck"] + self.chest @ np.array([side * 0.045 * k, -0.025 * k, 0.05 * k])
                self.solids.ball(
                    collar, (0.035 * k, 0.014 * k, 0.022 * k), self.top, turn=self.chest @ turn_about("z", side * -0.7)
                )

    def _arms(self) -> None:
        p, k = self.p, self.k * (0.55 + 0.45 * self.girth)
        for index, name in enumerate(("right", "left")):
            shoulder, elbow, wrist = p[f"{name}_shoulder"], p[f"{name}_elbow"], p[f"{name}_wrist"]
            sleeves = {"t-shirt": 0.62, "dress": 0.4, "tank top": 0.0}.get(self.who.top, 2.0)
            bare = sleeves < 1
            loose = 1.14 if self.who.top in ("sweater", "jacket", "coat") else 1.06
            upper = self.limb if bare else self.top
            grow = 1.0 if bare else loose
            self.solids.cone(shoulder, elbow, (0.056 * k * grow, 0.044 * k * grow), upper, front=self.chest[:, 2])
            self.solids.cone(
                elbow, wrist, (0.044 * k * grow, 0.032 * k * (grow + 0.08 * (not bare))), upper, front=self.chest[:, 2]
            )
            if bare and sleeves:
                end = shoulder + sleeves * (elbow - shoulder)
                self.solids.cone(
                    shoulder,
                    end,
                    (0.064 * k, 0.062 * k),
                    self.top,
                    front=self.chest[:, 2],
                    cut=SolidCut((0, -1, 0), -float(np.linalg.norm(end - shoulder)) - 0.02 * k),
                )
            self._hand(self.joints.hands[index], self.joints.turns[f"{name}_hand"], -1 if name == "right" else 1)

    def _hand(self, points: np.ndarray, turn: np.ndarray, side: int) -> None:
        unit = float(np.linalg.norm(points[9] - points[0])) / 0.09
        palm = 0.5 * points[0] + 0.28 * points[5] + 0.22 * points[17]
        self.solids.ball(palm, (0.021 * unit, 0.054 * unit, 0.040 * unit), self.limb, turn=turn, shades=True)
        self.solids.cone(points[0], points[2], (0.022 * unit, 0.016 * unit), self.limb, shades=False)
        self.solids.cone(points[2], points[4], (0.0155 * unit, 0.012 * unit), self.limb, shades=False)
        for finger, radius in ((5, 0.0135), (9, 0.014), (13, 0.0133), (17, 0.0118)):
            a, b, c = points[finger], points[finger + 1], points[finger + 3]
            self.solids.cone(a, b, (radius * unit * 1.05, radius * unit), self.limb, shades=False)
            self.solids.cone(b, c, (radius * unit, radius * unit * 0.82), self.limb, shades=False)

    def _legs(self) -> None:
        p, k, who = self.p, self.k, self.who
        g = 0.5 + 0.5 * self.girth
        skirted = who.wears_dress or who.bottom == "skirt"
        long = not skirted and who.bottom == "trousers"
        shoe = Surface("shoes", CLOTHES[who.shoes], gloss=0.3)
        front = self.hips[:, 2]
        for name in ("right", "left"):
            hip, knee, ankle = p[f"{name}_hip"], p[f"{name}_knee"], p[f"{name}_ankle"]
            surface = self.bottom if long else self.limb
            grow = 1.07 if long else 0.97
            bare = 0.55 if skirted else 0.0  # what a skirt hides would show through it
            self.solids.cone(
                hip + bare * (knee - hip),
                knee,
                ((0.088 - 0.028 * bare) * k * g * grow, 0.060 * k * g * grow),
                surface,
                front=front,
            )
            self.solids.cone(
                knee, ankle, (0.060 * k * g * grow, 0.043 * k * (grow + 0.1 * long)), surface, front=front
            )
            if who.bottom == "shorts" and not skirted:
                self.solids.cone(
                    hip,
                    hip + 0.72 * (knee - hip),
                    (0.096 * k * g, 0.086 * k * g),
                    self.bottom,
                    front=front,
                    cut=SolidCut((0, -1, 0), -0.33 * k),
                )
            shin = (ankle - knee) / max(np.linalg.norm(ankle - knee), 1e-6)
            toes = front - (front @ shin) * shin
            toes = toes / max(np.linalg.norm(toes), 1e-6)
            heel = ankle + shin * 0.032 * k
            self.solids.cone(
                heel - toes * 0.012 * k,
                heel + toes * 0.125 * k + shin * 0.008 * k,
                (0.047 * k, 0.038 * k),
                shoe,
                front=shin,
            )
        if skirted:
            hips = p["pelvis"] + np.array([0, 0.03 * k, 0])
            knees = 0.5 * (p["right_knee"] + p["left_knee"])
            wide = 0.5 * float(np.linalg.norm(p["right_knee"] - p["left_knee"]))
            length = float(np.linalg.norm(knees - hips))
            self.solids.cone(
                hips,
                knees,
                (0.145 * k * g, max(0.19 * k, wide + 0.10 * k)),
                self.bottom,
                flat=0.85,
                front=front,
                cut=SolidCut((0, -1, 0), -length - 0.02 * k),
            )

    def _neck_and_head(self) -> None:
        p, k, u, who = self.p, self.k, self.unit, self.who
        self.solids.cone(
            p["neck"] - self.chest @ np.array([0, 0.03 * k, 0.0]),
            self.at(0, -0.05, -0.018),
            (0.058 * (0.4 * u + 0.6 * k), 0.054 * u),
            self.skin,
        )
        face = self.skin._replace(pattern="face", person=self.person)
        self.solids.cone(
            self.at(0, -0.066, 0.014),
            self.at(0, 0.028, -0.004),
            (0.060 * u, 0.099 * u),
            face,
            front=self.head[:, 2],
            flat=1.04,
        )
        self.strand((0, 0.008, 0.092), (0, -0.012, 0.107), (0.009, 0.0145), self.skin)
        self.ball(0, -0.016, 0.106, (0.0165, 0.012, 0.011), self.skin)
        for side in (-1, 1):
            self.ball(side * 0.100, 0.0, -0.008, (0.014, 0.031, 0.020), self.skin)
        if who.glasses:
            rim = Surface("glasses", (0.02, 0.02, 0.025), gloss=0.5)
            for side in (-1, 1):
                self.strand((side * 0.068, 0.016, 0.088), (side * 0.104, 0.016, -0.005), (0.0028, 0.0028), rim)
        if who.beard == "beard":
            self.ball(0, -0.093, 0.052, (0.050, 0.034, 0.040), self.hair)
