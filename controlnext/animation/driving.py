"""From a reference picture and a clip to control frames: who moves, how that lies on the character, what is missing.

No model is needed for any of it. Reading the clip is the one slow step; it is done once for a part of a clip, and whatever is
chosen after it (person, fit, smoothing, another reference) is answered at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from controlnext.animation.choice import DRAWING, MOST_PEOPLE, Choice, Use
from controlnext.animation.driven import Driving
from controlnext.progress import Progress
from controlnext.recipes.inputs import Annotated
from controlnext.recipes.kinds import AUTO
from controlnext.recipes.pictures import fit_box, picture_digest
from controlnext.video.alignment import crop_points
from controlnext.video.clip import Clip, open_clip
from controlnext.video.extract import (
    PoseCache,
    PoseReader,
    Recent,
    given_poses,
    looks_drawn,
    looks_thin,
    read_drawing,
    read_poses,
)
from controlnext.video.fitting import fit
from controlnext.video.frames import Frames
from controlnext.video.plan import Plan, plan_cut
from controlnext.video.poses import POINTS, Poses, people_array
from controlnext.video.smoothing import fill_gaps, follow, smooth
from controlnext.video.tracks import NOBODY, Track, TrackError, choose_person, find_tracks

Source = str | Path | Sequence[str | Path]
"""A clip: a video file, a folder of pictures, a list of picture files, or poses saved as JSON."""

THIN = (
    f"{NOBODY} If it shows pose frames in thin lines, their joints cannot be read: give the clip that they were made from, or its "
    "poses as JSON; an SVD model gets thin lines from either."
)

_KEPT = 64  # clips, readers, tracks and fitted sequences that stay at hand
_STILLS = 16  # frames of clips
_FIRST_FRAMES = 8  # looked at to tell a clip of pose frames, which may begin in black
_REFERENCE_SIDE = 1024  # pixels; the longest side of a video model's picture
_FRAMES_AT_ONCE = 4  # in memory while a clip is read: decoded, converted, read, drawn


class PoseTools(Protocol):
    """What is needed of the package `annotators`, which is handed in: this room imports none of it."""

    def PoseReader(self, backend: str = AUTO, **settings: bool | int) -> PoseReader:
        """Return what reads the people of pictures."""

    def draw_pose(self, data: Mapping[str, Any], *, drawing: str = "classic") -> Annotated:
        """Draw the `data` of a pose annotation."""

    def describe_figure(self, image: Image.Image) -> str:
        """Say what a figure looks like in the words that the starter reads."""


class Driver:
    """Reads clips and reference pictures for a studio, and remembers what it read. Safe to share between threads."""

    def __init__(self, tools: PoseTools) -> None:
        """Take what reads and draws poses; nothing is loaded before the first frame.

        Args:
            tools: the package `annotators`, or something that acts like it.
        """
        self.tools = tools
        self.cache = PoseCache()
        self._kept = Recent(_KEPT)
        self._stills = Recent(_STILLS)

    def open(self, source: Source) -> Clip:
        """Find out what a clip holds; as `open_clip`, remembered while the file stays as it is."""
        return self._once(("clip", _stamp(source)), lambda: open_clip(source))

    def use(self, source: Source, choice: Choice | None = None) -> Use:
        """Say what will be used of a clip; quick, as nothing but its first frame is decoded.

        Raises:
            VideoError: the clip cannot be read, or the part lies outside of it.
        """
        plan = plan_cut(self.open(source), (choice or Choice()).cut)
        numbers = plan.width * plan.height * 3 * _FRAMES_AT_ONCE + plan.frames * POINTS * 3 * 8
        return Use(plan.frames, plan.fps, plan.width, plan.height, numbers / 1e6, plan.note)

    def see(
        self,
        source: Source,
        choice: Choice | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> tuple[Poses, tuple[Track, ...]]:
        """Read everyone in a part of a clip; slow the first time, at once after that.

        Returns:
            Everyone in every frame, and everyone who was followed, the most prominent first.

        Raises:
            VideoError, TrackError: the clip cannot be read, or shows nobody.
            Cancelled: stopped; what was read is kept for the next try.
        """
        choice = choice or Choice()
        clip = self.open(source)
        plan = plan_cut(clip, choice.cut)
        if clip.poses is None:
            reader = self._reader(source, clip, plan, choice)
            seen = read_poses(clip, plan, reader, cache=self.cache, on_progress=on_progress, cancel=cancel)
            how = reader.key
        else:
            how = f"given:{choice.hands}{choice.face}"
            seen = self._once(
                ("poses", _stamp(source), plan.cut, how),
                lambda: given_poses(clip, plan, hands=choice.hands, face=choice.face),
            )
        try:
            return seen, self._once(("tracks", _stamp(source), plan.cut, how), lambda: tuple(find_tracks(seen)))
        except TrackError:
            if clip.poses is None and _any_frame(clip, plan, looks_thin):
                raise TrackError(THIN) from None
            raise

    def drive(
        self,
        reference: Image.Image | None,
        source: Source,
        choice: Choice | None = None,
        size: tuple[int, int] | None = None,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Driving:
        """Make control frames of a clip for a reference picture.

        Args:
            reference: picture of the character, upright RGB; None leaves the poses where the clip has them.
            source: the clip.
            choice: what of it, and how.
            size: width and height of the picture to be made, in pixels; None takes the reference's own, or the clip's.
            on_progress: told after every frame read.
            cancel: stops after the current frame.

        Raises:
            VideoError, TrackError, FitError: the clip cannot be read, shows nobody, or its poses cannot be fitted to the
                reference; one sentence each.
            Cancelled: stopped; what was read is kept for the next try.
        """
        choice = choice or Choice()
        reference = None if reference is None else bounded_reference(reference)
        seen, tracks = self.see(source, choice, on_progress, cancel)
        clip = self.open(source)
        plan = plan_cut(clip, choice.cut)
        width, height = size or (reference.size if reference is not None else (plan.width, plan.height))
        digest = "" if reference is None else picture_digest(reference)

        def made() -> Driving:
            person = fill_gaps(choose_person(tracks, choice.person))
            person = smooth(person) if choice.smooth and not seen.smoothed else person
            person = follow(person) if choice.follow else person
            picture, figure, note = None, np.zeros((POINTS, 3)), ""
            if reference is not None:
                picture = reference_picture(reference, width, height)
                figure = crop_points(self.figure(reference, choice), reference.size, height, width)
            if reference is not None and choice.fit:
                fitted = fit(person, figure, height, width, keep_proportions=choice.limbs)
                person, note = fitted.track, fitted.note
            else:
                person = _placed(person, height, width)
            cropped = 0.0 if reference is None else cropped_share(reference, width, height)
            drawn = clip.poses is None and self._reader(source, clip, plan, choice) is read_drawing
            return Driving(
                clip, plan, choice, seen, tracks, person, picture, figure, note, self.tools.draw_pose, cropped, drawn
            )  # fmt: skip

        # `seen` by identity: read again, it is another object
        return self._once(("driving", _stamp(source), id(seen), digest, choice, width, height), made)

    def figure(self, reference: Image.Image, choice: Choice | None = None) -> np.ndarray:
        """Read the most prominent person of a picture.

        Returns:
            (128, 3) points in pixels of the picture; all zero where there is nobody.
        """
        choice = choice or Choice()
        backend = AUTO if choice.reader == DRAWING else choice.reader

        def read() -> np.ndarray:
            rgb = np.array(reference.convert("RGB"))  # one's own: readers may write to it
            people = people_array(self._pose_reader(backend, choice, people=1)(rgb))
            return people[0] if len(people) else np.zeros((POINTS, 3))

        return self._once(("figure", picture_digest(reference), backend, choice.hands, choice.face), read)

    def still(self, source: Source, choice: Choice | None, index: int) -> np.ndarray:
        """Decode one frame of a part of a clip, for the page to show: RGB (H, W, 3) uint8."""
        clip = self.open(source)
        plan = plan_cut(clip, (choice or Choice()).cut)
        fps = plan.cut.fps
        at = replace(plan.cut, start=plan.cut.start + index * plan.cut.stride / fps, end=0.0, max_frames=1)

        def decoded() -> np.ndarray:
            with Frames(clip, replace(plan, cut=at, frames=1)) as frames:
                return next(frames)

        key = (_stamp(source), plan, index)
        frame = self._stills.get(key)
        if frame is None:
            frame = decoded()
            self._stills.keep(key, frame)
        return frame

    def _reader(self, source: Source, clip: Clip, plan: Plan, choice: Choice) -> PoseReader:
        """What reads this clip: pose frames by their dots, all else by a pose model."""
        if choice.reader == DRAWING:
            return read_drawing

        key = ("drawn", _stamp(source), plan.cut.start, plan.width)
        if choice.reader == AUTO and self._once(key, lambda: _any_frame(clip, plan, looks_drawn)):
            return read_drawing
        return self._pose_reader(choice.reader, choice)

    def _pose_reader(self, backend: str, choice: Choice, people: int = MOST_PEOPLE) -> PoseReader:
        settings = {"people": people, "hands": choice.hands, "face": choice.face}
        return self._once(("reader", backend, *settings.values()), lambda: self.tools.PoseReader(backend, **settings))

    def _once(self, key: tuple, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever is kept under the key
        """Return what is kept under a key, or make and keep it; two threads may both make it, to the same end."""
        value = self._kept.get(key)
        if value is None:
            value = make()
            self._kept.keep(key, value)
        return value


def _any_frame(clip: Clip, plan: Plan, looks: Callable[[np.ndarray], bool]) -> bool:
    """Say whether one of the first frames looks like something."""
    with Frames(clip, plan) as frames:
        return any(looks(frame) for frame in islice(frames, _FIRST_FRAMES))


def bounded_reference(reference: Image.Image) -> Image.Image:
    """Shrink a reference to what a video can show of it, RGB; one that is no larger is kept to the pixel.

    A video carries its reference inside: photographs of a phone would be many times its own size, and too large to be read back.
    """
    scale = _REFERENCE_SIDE / min(reference.size)
    if scale >= 1:
        return reference.convert("RGB")
    size = tuple(max(_REFERENCE_SIDE, round(side * scale)) for side in reference.size)
    return reference.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def reference_picture(reference: Image.Image, width: int, height: int) -> Image.Image:
    """Bring a reference picture to the size to be made: resized to fill it, cropped in the middle, as `crop_points`."""
    if reference.size == (width, height):
        return reference.convert("RGB")
    return ImageOps.fit(reference.convert("RGB"), (width, height), Image.Resampling.LANCZOS)


def cropped_share(reference: Image.Image, width: int, height: int) -> float:
    """Say how much `reference_picture` cuts off: a share of the width, or below 0, of the height."""
    wider = reference.width * height / (reference.height * width)
    return 1 - 1 / wider if wider >= 1 else wider - 1


def _placed(track: Track, height: int, width: int) -> Track:
    """Place a clip's frame as a whole into a picture, its shape kept, the rest left empty."""
    if (track.width, track.height) == (width, height):
        return track
    left, top, inner_width, inner_height = fit_box((track.width, track.height), width, height)
    zoom = np.array([inner_width / track.width, inner_height / track.height, 1.0])
    return replace(track, points=track.points * zoom + (left, top, 0.0), height=height, width=width)


def _stamp(source: Source) -> tuple:
    """Name a clip by its places and times of change, so that a file that was replaced is another one."""
    files = [Path(source)] if isinstance(source, str | Path) else [Path(file) for file in source]
    if len(files) == 1 and files[0].is_dir():
        with suppress(OSError):  # `open_clip` says it
            files = sorted(files[0].iterdir())
    return tuple((str(file), *_times(file)) for file in files)


def _times(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size
