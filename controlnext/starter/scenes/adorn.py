"""Hair, hats and what people hold."""

import math

import numpy as np

from controlnext.starter.scenes.palette import CLOTHES
from controlnext.starter.scenes.solids import SolidCut, Surface
from controlnext.starter.scenes.tailor import Tailor


def add_hair(t: Tailor) -> None:
    """Add the hair of a person."""
    style, who = t.who.hair_style, t.who
    if style == "bald":
        return
    opening = {
        "open_a": 0.081,
        "open_b": 0.128 - 0.030 * who.fringe,
        "open_x": who.parting,
        "open_y": -0.058,
        "open_z": 0.0,
    }
    nape = SolidCut((0, 1, -0.55), -0.022, **opening)
    shell = (0.109, 0.110, 0.116)
    if who.hat and style in ("curly", "afro", "spiky", "bun"):
        style = "short"
    if style == "short":
        t.ball(0, 0.030, -0.010, shell, t.hair, nape)
        if not who.hat:
            t.ball(who.parting, 0.096, 0.000, (0.090, 0.050, 0.088), t.hair)
    elif style in ("long", "bob"):
        drop, wide = (-0.235, 0.105) if style == "long" else (-0.085, 0.100)
        t.ball(0, 0.028, -0.012, (0.113, 0.112, 0.120), t.hair, SolidCut((0, 1, -0.3), -0.06, **opening))
        for side in (-1, 1):
            t.strand(
                (side * 0.086, 0.035, -0.028),
                (side * wide, drop, -0.020),
                (0.036, 0.030 if style == "long" else 0.036),
                t.hair,
                1.3,
            )
        t.strand((0, 0.05, -0.060), (0, drop, -0.066), (0.104, 0.084), t.hair, 0.6)
    elif style in ("ponytail", "pigtails", "bun"):
        t.ball(0, 0.030, -0.010, (0.108, 0.107, 0.115), t.hair, nape)
        if style == "ponytail":
            t.ball(0, 0.075, -0.125, (0.030, 0.030, 0.030), t.hair)
            t.strand((0, 0.065, -0.140), (0.02, -0.16, -0.165), (0.036, 0.018), t.hair)
        elif style == "bun":
            t.ball(0, 0.130, -0.070, (0.055, 0.046, 0.055), t.hair)
        else:
            for side in (-1, 1):
                t.ball(side * 0.118, 0.03, -0.03, 0.026, t.hair)
                t.strand((side * 0.128, 0.02, -0.03), (side * 0.142, -0.150, -0.010), (0.034, 0.016), t.hair)
    elif style == "afro":
        big = {"open_a": 0.084, "open_b": 0.125, "open_y": -0.060, "open_z": 0.02}
        t.ball(
            0,
            0.060,
            -0.022,
            (0.165, 0.150, 0.155),
            t.hair._replace(pattern="foliage", scale=60.0),
            SolidCut((0, 1, -0.4), -0.085, **big),
        )
    elif style == "curly":
        t.ball(0, 0.030, -0.012, (0.106, 0.106, 0.112), t.hair, nape)
        curl = t.hair._replace(pattern="foliage", scale=70.0)
        for ring, (count, height) in enumerate(((7, 0.128), (11, 0.095), (12, 0.045), (9, -0.005))):
            radius = (0.045, 0.088, 0.108, 0.106)[ring]
            for n in range(count):
                a = 2 * math.pi * (n + 0.5 * (ring % 2)) / count
                x, z = radius * math.sin(a), radius * math.cos(a) - 0.012
                if z > 0.035 and height < 0.09:
                    continue
                t.ball(x, height, z, 0.036 + 0.004 * math.sin(5.1 * n + ring), curl)
    else:  # spiky
        t.ball(0, 0.030, -0.010, shell, t.hair, nape)
        for n in range(20):
            a, r = 2.4 * n, 0.020 * math.sqrt(n)
            x, z = r * math.sin(a), r * math.cos(a) - 0.005
            top = 0.13 - 2.2 * r * r
            t.strand((x, top - 0.02, z), (1.35 * x, top + 0.030, 1.25 * z + 0.020), (0.026, 0.005), t.hair)


def add_hat(t: Tailor) -> None:
    """Add what is worn on the head."""
    hat, cloth = t.who.hat, Surface("hat", CLOTHES[t.who.hat_colour], CLOTHES[t.who.second], gloss=0.05)
    if hat == "cap":
        t.ball(0, 0.045, -0.010, (0.118, 0.112, 0.124), cloth, SolidCut((0, 1, 0.0), 0.004))
        t.ball(0, 0.052, 0.118, (0.082, 0.010, 0.080), cloth)
    elif hat == "beanie":
        knit = cloth._replace(pattern="knit", scale=70.0)
        t.ball(0, 0.045, -0.012, (0.117, 0.125, 0.124), knit, SolidCut((0, 1, -0.15), 0.006))
        t.ball(0, 0.054, -0.008, (0.121, 0.026, 0.128), knit)
        t.ball(0, 0.180, -0.020, 0.030, knit._replace(colour=cloth.second))
    elif hat == "sun hat":
        t.ball(0, 0.062, -0.005, (0.235, 0.012, 0.225), cloth)
        t.ball(0, 0.070, -0.010, (0.115, 0.100, 0.120), cloth, SolidCut((0, 1, 0), 0.0))
        t.ball(0, 0.074, -0.010, (0.118, 0.020, 0.123), cloth._replace(colour=cloth.second))
    else:  # headscarf
        ring = SolidCut((0, 1, 0), -0.2, open_a=0.070, open_b=0.108, open_y=-0.045, open_z=0.0)
        t.ball(0, 0.020, -0.010, (0.117, 0.128, 0.124), cloth, ring)
        t.strand((0, -0.075, -0.005), (0, -0.150, 0.0), (0.088, 0.110), cloth)


def add_held(t: Tailor) -> None:
    """Add what is held in the right hand."""
    held = t.who.held
    if held == "nothing":
        return
    hand, turn, k = t.joints.hands[0], t.joints.turns["right_hand"], t.k
    at, up = 0.5 * (hand[9] + hand[0]) + turn @ np.array([0.035 * k, -0.02 * k, 0.0]), np.array([0, 1.0, 0])
    thing = Surface("thing", CLOTHES[t.who.second], gloss=0.25)
    if held == "cup":
        t.solids.cone(
            at - 0.045 * up,
            at + 0.05 * up,
            (0.036, 0.043),
            thing._replace(colour=CLOTHES["white"]),
            cut=SolidCut((0, -1, 0), -0.1),
        )
    elif held == "phone":
        t.solids.box(at, (0.007, 0.070, 0.036), thing._replace(colour=(0.02, 0.02, 0.03), gloss=0.6), turn=turn)
    elif held == "flower":
        t.solids.cone(at - 0.1 * up, at + 0.12 * up, (0.006, 0.005), thing._replace(colour=(0.06, 0.28, 0.06)))
        for n in range(5):
            a = 2 * math.pi * n / 5
            t.solids.ball(
                at + np.array([0.028 * math.cos(a), 0.14 + 0.028 * math.sin(a), 0.0]), (0.022, 0.022, 0.012), thing
            )
        t.solids.ball(
            at + 0.14 * up + np.array([0, 0, 0.012]),
            (0.018, 0.018, 0.012),
            thing._replace(colour=CLOTHES["yellow"]),
        )
    elif held == "book":
        t.solids.box(at, (0.018, 0.10, 0.075), thing, turn=turn)
    elif held == "ball":
        t.solids.ball(
            at + turn @ np.array([0.07 * k, -0.03, 0]),
            (0.10, 0.10, 0.10),
            thing._replace(pattern="stripes", scale=8.0, second=CLOTHES["white"]),
            shades=True,
        )
    elif held == "umbrella":
        top = at + up * 0.62 * max(k, 0.8)
        t.solids.cone(at - 0.05 * up, top, (0.009, 0.009), thing._replace(colour=(0.1, 0.1, 0.1)))
        t.solids.ball(top - 0.02 * up, (0.52, 0.22, 0.52), thing, cut=SolidCut((0, 1, 0), 0.0), shades=True)
    else:  # guitar
        body = t.p["pelvis"] + t.hips @ np.array([-0.02, 0.14 * k, 0.17 * k])
        wood = thing._replace(colour=(0.50, 0.24, 0.08), gloss=0.5)
        t.solids.ball(
            body + t.hips @ np.array([-0.11, -0.03, 0]) * k,
            (0.15 * k, 0.14 * k, 0.04 * k),
            wood,
            turn=t.hips,
        )
        t.solids.ball(
            body + t.hips @ np.array([0.06, 0.02, 0]) * k, (0.11 * k, 0.105 * k, 0.04 * k), wood, turn=t.hips
        )
        t.solids.cone(
            body + t.hips @ np.array([0.10, 0.03, 0.02]) * k,
            body + t.hips @ np.array([0.52, 0.20, 0.02]) * k,
            (0.02 * k, 0.016 * k),
            wood._replace(colour=(0.12, 0.06, 0.03)),
        )
