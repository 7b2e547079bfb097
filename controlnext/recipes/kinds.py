"""The kinds of condition that the project knows: one row a kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

READY_MADE = "none"
"""Annotator of an upload that already is a condition."""

AUTO = "auto"
"""Backend or reader: the best one available."""

POSE: Final = "pose"
"""The kind whose conditions carry people as data, and that drives videos."""


@dataclass(frozen=True)
class Fit:
    """How a picture is resized and padded without inventing anything the annotator did not say.

    Attributes:
        resample: `smooth` for drawings and depth, `nearest` where a colour is a class, `lines` where each line is one
            pixel wide and must still be white after shrinking.
        pad: what fills the border when the shapes differ: `black` says "nothing here", `edge` continues the picture
            (a black border would say "infinitely far", or a class of its own).
    """

    resample: Literal["smooth", "nearest", "lines"] = "smooth"
    pad: Literal["black", "edge"] = "black"


@dataclass(frozen=True)
class ConditionKind:
    """What sets one kind of condition apart.

    Attributes:
        label: what the page calls it.
        score: what its adherence score is called; empty where it has none.
        fit: how its pictures are brought to the size of the picture to be made.
        same_settings: whether a result is annotated with the settings of its condition, as thresholds of edges must be;
            the other kinds are read by the backend that knows the model's pictures.
    """

    label: str
    score: str = ""
    fit: Fit = Fit()
    same_settings: bool = False


KINDS: Mapping[str, ConditionKind] = MappingProxyType(
    {
        POSE: ConditionKind("Pose", "PCK@0.1"),
        "depth": ConditionKind("Depth", "depth rank correlation", Fit(pad="edge")),
        "canny": ConditionKind("Edges", "edge F1", Fit("lines"), same_settings=True),
        "segmentation": ConditionKind("Regions", "mean IoU", Fit("nearest", "edge")),
    }
)
"""Kinds with an annotator of their own, in the order of the page; a training may bring others."""

START_FIT, MASK_FIT = Fit(pad="edge"), Fit("nearest", "edge")
"""Fits of a start picture and of its mask."""


def kind_of(name: str) -> ConditionKind:
    """Return the row of a kind; one that a training brought has its name as label, and no score."""
    return KINDS.get(name) or ConditionKind(name.capitalize())
