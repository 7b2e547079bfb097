"""The animation room: a reference picture and a driving clip become a controlled video.

`driving` turns both into control frames and knows no model; `recipe` says everything a video needs; `run` makes it.

Importing this package starts nothing; a name is imported when it is first used.
"""

from __future__ import annotations

import importlib

_HOMES = {
    "Choice": "choice",
    "Driver": "driving",
    "Driving": "driving",
    "Use": "choice",
    "VideoRecipe": "recipe",
    "read_reference": "output",
    "read_video_recipe": "recipe",
    "Animator": "run",
    "VideoResult": "job",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'controlnext.animation' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"controlnext.animation.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
