"""Animation: a reference picture and a driving clip become a controlled video.

`clip_reader` turns both into control frames without a diffusion model; `animator` makes a video of them.

Importing this package starts nothing; a name is imported when it is first used.
"""

from __future__ import annotations

from controlnext.lazy import lazy_names

_HOMES = {
    "Choice": ".choice",
    "ClipReader": ".clip_reader",
    "ClipUse": ".choice",
    "DrivingClip": ".driving_clip",
    "VideoRecipe": "controlnext.recipes.video_recipe",
    "read_reference": ".reference",
    "read_video_recipe": "controlnext.recipes.video_recipe",
    "Animator": ".animator",
    "VideoResult": ".video_run",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
