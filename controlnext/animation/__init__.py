"""Animation: a reference picture and a driving clip become a controlled video.

`clip_reader` turns both into control frames without a diffusion model; `animator` makes a video of them.

Importing this package starts nothing; a name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controlnext.lazy import lazy_names

if TYPE_CHECKING:  # what `_HOMES` says, for type checkers
    from controlnext.animation.animator import Animator as Animator
    from controlnext.animation.choice import Choice as Choice
    from controlnext.animation.choice import ClipUse as ClipUse
    from controlnext.animation.clip_reader import ClipReader as ClipReader
    from controlnext.animation.driving_clip import DrivingClip as DrivingClip
    from controlnext.animation.reference import read_reference as read_reference
    from controlnext.animation.video_run import VideoResult as VideoResult
    from controlnext.recipes.video_recipe import VideoRecipe as VideoRecipe
    from controlnext.recipes.video_recipe import read_video_recipe as read_video_recipe

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
