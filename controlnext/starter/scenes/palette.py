"""Names, synonyms and linear RGB colours of everything that has a colour in a scene, and the parts a picture is made of."""

from types import MappingProxyType

import numpy as np

Rgb = tuple[float, float, float]

PARTS = (
    "sky",
    "ground",
    "face",
    "limb",
    "hair",
    "shirt",
    "trousers",
    "shoes",
    "hat",
    "tree",
    "house",
    "wall",
    "water",
    "vehicle",
    "furniture",
    "animal",
    "thing",
    "coat",
    "glasses",
)
"""Parts that a picture tells apart; the first eleven keep the names and colours of the older world."""

PART = MappingProxyType({name: index for index, name in enumerate(PARTS)})

FIGURE_PARTS = tuple(PART[n] for n in ("face", "limb", "hair", "shirt", "trousers", "shoes", "hat", "coat", "glasses"))
"""Indices of the parts that belong to a person."""

PARTS_COLOURS = np.array(
    [
        (70, 130, 200),
        (110, 110, 90),
        (255, 200, 160),
        (255, 120, 80),
        (90, 50, 20),
        (220, 30, 60),
        (40, 60, 190),
        (20, 20, 20),
        (250, 220, 30),
        (30, 150, 50),
        (160, 60, 180),
        (190, 190, 190),
        (20, 90, 120),
        (255, 0, 255),
        (120, 90, 0),
        (0, 255, 120),
        (0, 220, 220),
        (130, 0, 60),
        (255, 255, 255),
    ],
    np.uint8,
)
"""RGB of each part in a segmentation picture."""

CLOTHES: MappingProxyType[str, Rgb] = MappingProxyType(
    {
        "red": (0.70, 0.06, 0.06),
        "blue": (0.07, 0.16, 0.62),
        "green": (0.07, 0.42, 0.12),
        "yellow": (0.90, 0.70, 0.08),
        "purple": (0.32, 0.09, 0.50),
        "orange": (0.90, 0.34, 0.05),
        "white": (0.86, 0.86, 0.86),
        "black": (0.035, 0.035, 0.04),
        "grey": (0.32, 0.32, 0.34),
        "pink": (0.88, 0.36, 0.52),
        "brown": (0.28, 0.15, 0.07),
        "beige": (0.72, 0.58, 0.40),
    }
)
"""Linear RGB of clothes by name."""

HAIR: MappingProxyType[str, Rgb] = MappingProxyType(
    {
        "black": (0.022, 0.018, 0.018),
        "brown": (0.16, 0.075, 0.030),
        "blond": (0.72, 0.50, 0.17),
        "red": (0.48, 0.12, 0.025),
        "grey": (0.36, 0.36, 0.37),
        "white": (0.80, 0.79, 0.76),
    }
)
"""Linear RGB of hair by name."""

SKIN: MappingProxyType[str, Rgb] = MappingProxyType(
    {
        "pale": (0.90, 0.66, 0.53),
        "light": (0.80, 0.53, 0.38),
        "tan": (0.62, 0.37, 0.23),
        "brown": (0.38, 0.20, 0.115),
        "dark": (0.19, 0.095, 0.055),
    }
)
"""Linear RGB of skin by name."""

EYES: MappingProxyType[str, Rgb] = MappingProxyType(
    {
        "brown": (0.13, 0.055, 0.02),
        "blue": (0.10, 0.28, 0.55),
        "green": (0.12, 0.32, 0.14),
        "black": (0.02, 0.02, 0.02),
    }
)
"""Linear RGB of irises by name."""

WALLS: MappingProxyType[str, Rgb] = MappingProxyType(
    {
        "white": (0.78, 0.77, 0.74),
        "grey": (0.42, 0.43, 0.45),
        "blue": (0.30, 0.42, 0.60),
        "green": (0.36, 0.50, 0.36),
        "yellow": (0.80, 0.66, 0.34),
        "pink": (0.78, 0.50, 0.50),
        "brown": (0.36, 0.24, 0.15),
        "black": (0.05, 0.05, 0.055),
        "red": (0.50, 0.12, 0.10),
    }
)
"""Linear RGB of walls and studio backdrops by name."""

# Other words for a colour, each as people write it.
SAID = MappingProxyType(
    {
        "grey": ("gray", "silver"),
        "blond": ("blonde", "golden", "fair"),
        "red": ("crimson", "scarlet"),
        "blue": ("navy",),
        "purple": ("violet",),
        "brown": ("dark brown",),
        "beige": ("tan", "cream"),
        "pink": ("rose",),
    }
)
"""Colour name -> other words for it."""
