"""The animation room: a reference picture and a driving clip become a controlled video.

`driving` turns both into control frames and knows no model; `recipe` says everything a video needs; `run` makes it.

Importing this package starts nothing; a name is imported when it is first used.
"""

from __future__ import annotations

from controlnext.lazy import lazy_names

_HOMES = {
    "Choice": ".choice",
    "Driver": ".driving",
    "Driving": ".driven",
    "Use": ".choice",
    "VideoRecipe": "controlnext.recipes.video_recipe",
    "read_reference": ".output",
    "read_video_recipe": "controlnext.recipes.video_recipe",
    "Animator": ".animator",
    "VideoResult": ".job",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
