"""Clips: reading and writing frames, reading poses, following one person, and fitting it to another figure.

Each step is a function on plain arrays, and none of them needs a model:

    clip = open_clip("dance.mp4")                       # what the file holds, in upright pixels
    plan = plan_cut(clip, Cut(start=2.0, end=6.0))      # what of it will be read, and what that costs
    poses = read_poses(clip, plan, reader)              # everyone in every frame; cached, can be stopped
    person = choose_person(find_tracks(poses))          # one person followed through the clip
    person = smooth(fill_gaps(person))
    fitted = fit(person, reference, height, width)      # placed on the figure of the reference picture
    write_video("poses.mp4", frames, plan.fps, sound=Sound(clip, plan.cut.start))

Importing this package starts nothing; a name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controlnext.lazy import lazy_names

if TYPE_CHECKING:  # what `_HOMES` says, for type checkers
    from controlnext.recipes.mp4 import read_contents as read_contents
    from controlnext.video.alignment import Alignment as Alignment
    from controlnext.video.alignment import align as align
    from controlnext.video.alignment import crop_points as crop_points
    from controlnext.video.clip import Clip as Clip
    from controlnext.video.clip import open_clip as open_clip
    from controlnext.video.extract import PoseCache as PoseCache
    from controlnext.video.extract import is_pose_frame as is_pose_frame
    from controlnext.video.extract import read_pose_frame as read_pose_frame
    from controlnext.video.extract import read_poses as read_poses
    from controlnext.video.ffmpeg import VideoError as VideoError
    from controlnext.video.fitting import Fitted as Fitted
    from controlnext.video.fitting import fit as fit
    from controlnext.video.fitting import with_reference_first as with_reference_first
    from controlnext.video.frames import Frames as Frames
    from controlnext.video.frames import read_frames as read_frames
    from controlnext.video.plan import BOUNDS as BOUNDS
    from controlnext.video.plan import Bounds as Bounds
    from controlnext.video.plan import Cut as Cut
    from controlnext.video.plan import CutPlan as CutPlan
    from controlnext.video.plan import plan_cut as plan_cut
    from controlnext.video.poses import Poses as Poses
    from controlnext.video.smoothing import fill_gaps as fill_gaps
    from controlnext.video.smoothing import follow as follow
    from controlnext.video.smoothing import smooth as smooth
    from controlnext.video.tracks import Track as Track
    from controlnext.video.tracks import choose_person as choose_person
    from controlnext.video.tracks import find_tracks as find_tracks
    from controlnext.video.writer import Sound as Sound
    from controlnext.video.writer import VideoWriter as VideoWriter
    from controlnext.video.writer import beside as beside
    from controlnext.video.writer import write_video as write_video

_HOMES = {
    "BOUNDS": ".plan",
    "Bounds": ".plan",
    "Cut": ".plan",
    "CutPlan": ".plan",
    "plan_cut": ".plan",
    "Clip": ".clip",
    "open_clip": ".clip",
    "VideoError": ".ffmpeg",
    "Frames": ".frames",
    "read_frames": ".frames",
    "Sound": ".writer",
    "VideoWriter": ".writer",
    "beside": ".writer",
    "write_video": ".writer",
    "read_contents": "controlnext.recipes.mp4",
    "Poses": ".poses",
    "PoseCache": ".extract",
    "is_pose_frame": ".extract",
    "read_pose_frame": ".extract",
    "read_poses": ".extract",
    "Track": ".tracks",
    "choose_person": ".tracks",
    "find_tracks": ".tracks",
    "fill_gaps": ".smoothing",
    "follow": ".smoothing",
    "smooth": ".smoothing",
    "Alignment": ".alignment",
    "align": ".alignment",
    "crop_points": ".alignment",
    "Fitted": ".fitting",
    "fit": ".fitting",
    "with_reference_first": ".fitting",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
