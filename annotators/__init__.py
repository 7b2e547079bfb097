"""Annotators: pure, deterministic, cached functions from a picture to a condition picture.

Importing this package does nothing: no numpy, no OpenCV, no torch. What a name needs is imported when it is first used, and
what a backend needs when it first reads a picture.

    from annotators import annotate
    annotate("canny", picture, low=80, high=160).image
"""

from __future__ import annotations

import importlib

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
