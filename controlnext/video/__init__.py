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

from controlnext.lazy import lazy_names

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
