"""Annotators: pure, deterministic, cached functions from a picture to a condition picture.

Importing this package does nothing: no numpy, no OpenCV, no torch. What a name needs is imported when it is first used, and
what a backend needs when it first reads a picture.

    from annotators import annotate
    annotate("canny", picture, low=80, high=160).image
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what `_HOMES` says, for type checkers
    from annotators.base import Annotation as Annotation
    from annotators.base import AnnotatorError as AnnotatorError
    from annotators.base import BackendMissing as BackendMissing
    from annotators.base import NobodyFound as NobodyFound
    from annotators.base import PictureError as PictureError
    from annotators.base import Setting as Setting
    from annotators.pictures import load_picture as load_picture
    from annotators.poses.people import people_from_json as people_from_json
    from annotators.poses.people import people_to_json as people_to_json
    from annotators.poses.pose_reader import PoseReader as PoseReader
    from annotators.poses.skeleton import draw_skeleton as draw_skeleton
    from annotators.starter.colours import describe_figure as describe_figure
    from annotators.table import ANNOTATORS as ANNOTATORS
    from annotators.table import annotate as annotate
    from annotators.table import check as check
    from annotators.table import describe as describe
    from annotators.table import draw_pose as draw_pose
    from annotators.table import fetch_backend as fetch_backend
    from annotators.table import status as status
    from annotators.weights.loading import unload as unload

_HOMES = {
    "ANNOTATORS": ".table",
    "annotate": ".table",
    "check": ".table",
    "describe": ".table",
    "describe_figure": ".starter.colours",
    "draw_pose": ".table",
    "fetch_backend": ".table",
    "status": ".table",
    "Annotation": ".base",
    "AnnotatorError": ".base",
    "BackendMissing": ".base",
    "NobodyFound": ".base",
    "PoseReader": ".poses.pose_reader",
    "PictureError": ".base",
    "Setting": ".base",
    "load_picture": ".pictures",
    "people_from_json": ".poses.people",
    "people_to_json": ".poses.people",
    "draw_skeleton": ".poses.skeleton",
    "unload": ".weights.loading",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'annotators' has no attribute '{name}'")
    value = getattr(importlib.import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
