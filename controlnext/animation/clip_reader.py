"""The reader of driving clips: from a clip and a reference picture to the poses of a video.

No model of pictures is needed. Reading the clip is the one slow step. It runs once for a part of a clip; a change of person, fit,
smoothing or reference afterwards is answered from the cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from PIL import Image

from controlnext.animation.choice import MOST_PEOPLE, POSE_FRAMES, Choice, ClipUse
from controlnext.animation.driving_clip import DrivingClip
from controlnext.animation.opened_clip import OpenedClip, Source, Stamp, stamp_of
from controlnext.animation.reference import bounded_reference, cropped_share, reference_picture
from controlnext.progress import Progress
from controlnext.recipes.inputs import Annotated
from controlnext.recipes.kinds import AUTO
from controlnext.recipes.pictures import fit_box, picture_digest
from controlnext.video.alignment import crop_points
from controlnext.video.clip import Clip, open_clip
from controlnext.video.edits import with_edits
from controlnext.video.extract import (
    FramePoseReader,
    PoseCache,
    Recent,
    given_poses,
    is_pose_frame,
    is_thin_pose_frame,
    read_pose_frame,
    read_poses,
)
from controlnext.video.fitting import fit
from controlnext.video.plan import plan_cut
from controlnext.video.poses import POINTS, Poses, people_array
from controlnext.video.smoothing import fill_gaps, follow, smooth
from controlnext.video.tracks import NOBODY, Track, TrackError, choose_person, find_tracks

T = TypeVar("T")

THIN_LINES = (
    f"{NOBODY} If it shows pose frames in thin lines, their joints cannot be read: give the clip that they were made from, or its "
    "poses as JSON; an SVD model gets thin lines from either."
)

_KEPT = 64  # clips, readers, tracks and fitted sequences in the cache
_STILLS = 16  # decoded frames in the cache
_FRAMES_AT_ONCE = 4  # in memory while a clip is read: decoded, converted, read, drawn


class PoseTools(Protocol):
    """The part of the package `annotators` that animation uses; it is passed in, as this room does not import it."""

    def PoseReader(self, backend: str = AUTO, **settings: bool | int) -> FramePoseReader:
        """Return a reader of the people in pictures."""

    def draw_pose(self, data: Mapping[str, Any], *, drawing: str = "classic") -> Annotated:
        """Draw the `data` of a pose annotation."""

    def describe_figure(self, image: Image.Image) -> str:
        """Describe a figure in the words that the starter reads."""


class ClipReader:
    """Reads clips and reference pictures for a studio, and caches the results. Safe to share between threads."""

    def __init__(self, tools: PoseTools) -> None:
        """Take what reads and draws poses; nothing is loaded before the first frame.

        Args:
            tools: the package `annotators`, or something that acts like it.
        """
        self.tools = tools
        self.cache = PoseCache()
        self._kept: Recent[object] = Recent(_KEPT)
        self._stills: Recent[np.ndarray] = Recent(_STILLS)

    def open(self, source: Source) -> Clip:
        """Return what a clip holds; as `open_clip`, cached until the file changes."""
        return self._open(source, stamp_of(source))

    def opened(self, source: Source, choice: Choice | None = None) -> OpenedClip:
        """Open a clip and plan which part of it is read.

        Raises:
            VideoError: the clip cannot be read, or the part lies outside of it.
        """
        stamp = stamp_of(source)
        clip = self._open(source, stamp)
        return OpenedClip(stamp, clip, plan_cut(clip, (choice or Choice()).cut))

    def use(self, source: Source, choice: Choice | None = None) -> ClipUse:
        """Return which part of a clip will be read; quick, as only its first frame is decoded.

        Raises:
            VideoError: the clip cannot be read, or the part lies outside of it.
        """
        plan = self.opened(source, choice).plan
        numbers = plan.width * plan.height * 3 * _FRAMES_AT_ONCE + plan.frames * POINTS * 3 * 8
        return ClipUse(plan.frames, plan.fps, plan.width, plan.height, numbers / 1e6, plan.note)

    def tracks(
        self,
        source: Source,
        choice: Choice | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> tuple[Track, ...]:
        """Follow everyone in a part of a clip, the most prominent first; slow the first time, then cached.

        Raises:
            VideoError, TrackError: the clip cannot be read, or shows nobody.
            Cancelled: stopped; what was read is kept for the next call.
        """
        choice = choice or Choice()
        return self._read(self.opened(source, choice), choice, on_progress, cancel)[1]

    def drive(
        self,
        reference: Image.Image | None,
        source: Source,
        choice: Choice | None = None,
        size: tuple[int, int] | None = None,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> DrivingClip:
        """Place the poses of a clip on the figure of a reference picture.

        Args:
            reference: picture of the character, upright RGB; None leaves the poses where the clip has them.
            source: the clip.
            choice: which part of it, and how it is read.
            size: width and height of the video, in pixels; None takes the reference's size, or the clip's.
            on_progress: called after every frame read.
            cancel: stops after the current frame.

        Raises:
            VideoError, TrackError, FitError: the clip cannot be read, shows nobody, or its poses cannot be fitted to the
                reference; one sentence each.
            Cancelled: stopped; what was read is kept for the next call.
        """
        choice = choice or Choice()
        reference = None if reference is None else bounded_reference(reference)
        opened = self.opened(source, choice)
        everyone, tracks = self._read(opened, choice, on_progress, cancel)
        plan = opened.plan
        width, height = size or (reference.size if reference is not None else (plan.width, plan.height))
        digest = "" if reference is None else picture_digest(reference)

        def make() -> DrivingClip:
            person = fill_gaps(choose_person(tracks, choice.person))
            person = smooth(person) if choice.smooth and not everyone.smoothed else person
            person = follow(person) if choice.follow else person
            picture, figure, note, cropped = None, np.zeros((POINTS, 3)), "", 0.0
            if reference is not None:
                picture = reference_picture(reference, width, height)
                figure = crop_points(self.figure(reference, choice), reference.size, height, width)
                cropped = cropped_share(reference, width, height)
            if reference is not None and choice.fit:
                fitted = fit(person, figure, height, width, keep_proportions=choice.limbs)
                person, note = fitted.track, fitted.note
            else:
                person = _placed(person, height, width)
            person = with_edits(person, [edit for edit in choice.edits if edit.person == choice.person])
            return DrivingClip(
                clip=opened.clip,
                plan=plan,
                choice=choice,
                everyone=everyone,
                tracks=tracks,
                track=person,
                reference=picture,
                figure=figure,
                note=note,
                draw_pose=self.tools.draw_pose,
                cropped=cropped,
                is_pose_frames=opened.clip.poses is None and self._frame_reader(opened, choice) is read_pose_frame,
            )

        # `everyone` by identity: poses that were read again are another object
        return self._once(opened.key("driving", id(everyone), digest, choice, width, height), make)

    def figure(self, reference: Image.Image, choice: Choice | None = None) -> np.ndarray:
        """Read the most prominent person of a picture.

        Returns:
            (128, 3) points in pixels of the picture; all zero where there is nobody.
        """
        choice = choice or Choice()
        backend = AUTO if choice.reader == POSE_FRAMES else choice.reader

        def read() -> np.ndarray:
            rgb = np.array(reference.convert("RGB"))  # a copy: readers may write to it
            people = people_array(self._pose_reader(backend, choice, people=1)(rgb))
            return people[0] if len(people) else np.zeros((POINTS, 3))

        return self._once(("figure", picture_digest(reference), backend, choice.hands, choice.face), read)

    def still(self, source: Source, choice: Choice | None, index: int) -> np.ndarray:
        """Decode one frame of a part of a clip, for the page to show: RGB (H, W, 3) uint8."""
        opened = self.opened(source, choice)
        key = (opened.stamp, opened.plan, index)
        frame = self._stills.get(key)
        if frame is None:
            frame = opened.frame(index)
            self._stills.keep(key, frame)
        return frame

    def _open(self, source: Source, stamp: Stamp) -> Clip:
        return self._once(("clip", stamp), lambda: open_clip(source))

    def _read(
        self,
        opened: OpenedClip,
        choice: Choice,
        on_progress: Callable[[Progress], None] | None,
        cancel: threading.Event | None,
    ) -> tuple[Poses, tuple[Track, ...]]:
        """Return everyone in every frame, and everyone who was followed; errors as of `tracks`."""
        if opened.clip.poses is None:
            reader = self._frame_reader(opened, choice)
            everyone = read_poses(
                opened.clip, opened.plan, reader, cache=self.cache, on_progress=on_progress, cancel=cancel
            )
            reading = reader.key
        else:
            reading = f"given:{choice.hands}{choice.face}"
            everyone = self._once(
                opened.key("poses", reading),
                lambda: given_poses(opened.clip, opened.plan, hands=choice.hands, face=choice.face),
            )
        try:
            return everyone, self._once(opened.key("tracks", reading), lambda: tuple(find_tracks(everyone)))
        except TrackError:
            if opened.clip.poses is None and opened.any_frame(is_thin_pose_frame):
                raise TrackError(THIN_LINES) from None
            raise

    def _frame_reader(self, opened: OpenedClip, choice: Choice) -> FramePoseReader:
        """Return the reader of this clip: the dots of pose frames, or a pose model for everything else."""
        if choice.reader == POSE_FRAMES:
            return read_pose_frame
        key = ("pose frames", opened.stamp, opened.plan.cut.start, opened.plan.width)
        if choice.reader == AUTO and self._once(key, lambda: opened.any_frame(is_pose_frame)):
            return read_pose_frame
        return self._pose_reader(choice.reader, choice)

    def _pose_reader(self, backend: str, choice: Choice, people: int = MOST_PEOPLE) -> FramePoseReader:
        settings = {"people": people, "hands": choice.hands, "face": choice.face}
        return self._once(("reader", backend, *settings.values()), lambda: self.tools.PoseReader(backend, **settings))

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is cached under a key, or make and cache it; two threads may both make it, with equal results."""
        value = self._kept.get(key)
        if value is None:
            value = make()
            self._kept.keep(key, value)
        return cast(T, value)


def _placed(track: Track, height: int, width: int) -> Track:
    """Place a clip's whole frame in a picture; its shape is kept and the rest is left empty."""
    if (track.width, track.height) == (width, height):
        return track
    left, top, inner_width, inner_height = fit_box((track.width, track.height), width, height)
    zoom = np.array([inner_width / track.width, inner_height / track.height, 1.0])
    return replace(track, points=track.points * zoom + (left, top, 0.0), height=height, width=width)
