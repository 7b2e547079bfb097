"""The poses of a clip: read frame by frame, with progress, cancellation and a cache."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from controlnext.adherence.skeletons import joints_in_drawing
from controlnext.hashes import weights_digest
from controlnext.held import held_bytes
from controlnext.progress import Clock, Progress, stop_if
from controlnext.video.clip import Clip
from controlnext.video.frames import Frames
from controlnext.video.plan import CutPlan
from controlnext.video.poses import FACE, LEFT_HAND, POINTS, RIGHT_HAND, Poses, people_array

V = TypeVar("V")

STAGE = "Reading poses"
RECENT_BYTES = 64 * 2**20
"""Bytes that the results of one cache hold."""

_KEPT_CLIPS = 16
_BLACK = 24  # brightness up to which a pixel of a compressed drawing is its background
_MOSTLY, _NEARLY_ALL = 0.6, 0.9  # shares of a drawing that are background: dots and limbs; thin lines
_COLOURED = 60  # distance of the brightest channel from the darkest
_A_LINE = 0.0002  # least share of a compressed frame that the lines of one figure cover
_HALF = 0.5 + 1e-6  # a time between two frames takes the later one, whatever its last digit was rounded to
_KEPT_FRAMES = 20_000  # one person's points are 3 KB


class FramePoseReader(Protocol):
    """Reads the people of one picture. `key` identifies everything besides the picture that its result depends on."""

    key: str

    def __call__(self, rgb: np.ndarray) -> Mapping[str, Any]:
        """Return `people`, `hands` and `faces` as a pose annotation's data does; an empty list where there is nobody."""


class Recent(Generic[V]):
    """A least-recently-used cache, bounded by results and by bytes; safe to share between threads."""

    def __init__(self, most: int, most_bytes: int = RECENT_BYTES) -> None:
        """Make an empty cache.

        Args:
            most: results in it.
            most_bytes: bytes that they hold; the newest one stays however large it is.
        """
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0

    def get(self, key: Hashable) -> V | None:
        """Return the result under a key, or None."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def keep(self, key: Hashable, value: V) -> None:
        """Add a result; the least recently used ones are dropped."""
        size = held_bytes(value)
        with self._lock:
            self.nbytes += size - self._kept.pop(key, (None, 0))[1]
            self._kept[key] = (value, size)
            while len(self._kept) > 1 and (len(self._kept) > self._most or self.nbytes > self._most_bytes):
                self.nbytes -= self._kept.popitem(last=False)[1][1]


class PoseCache:
    """A cache of poses: of whole parts of clips, and of single frames for when only the part changes.

    Its keys are content hashes, so file names do not matter. Gamma, fit and smoothing come later and never cause another
    reading. Safe to share between threads.
    """

    def __init__(self, clips: int = _KEPT_CLIPS, frames: int = _KEPT_FRAMES) -> None:
        """Make an empty cache.

        Args:
            clips: most parts of clips.
            frames: most frames.
        """
        self.clips: Recent[Poses] = Recent(clips)
        self.frames: Recent[np.ndarray] = Recent(frames)


def read_poses(
    clip: Clip,
    plan: CutPlan,
    reader: FramePoseReader,
    *,
    cache: PoseCache | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Poses:
    """Read everyone in every frame of a part of a clip.

    Args:
        clip: as `open_clip` found it.
        plan: which part; it bounds the work.
        reader: reads one frame, such as `annotators.poses.pose_reader.PoseReader`, or `read_pose_frame` for ready-made pose frames.
        cache: read first and filled frame by frame, so that a stopped run loses nothing.
        on_progress: called after every frame.
        cancel: stops after the current frame once it is set.

    Returns:
        People in pixels of the frames read; frames with nobody are empty.

    Raises:
        VideoError: the clip cannot be decoded.
        Cancelled: stopped.
    """
    cache, cancel = cache or PoseCache(), cancel or threading.Event()
    key = f"{clip_digest(clip)}:{plan.cut}:{reader.key}"
    kept = cache.clips.get(key)
    if kept is not None:
        return kept
    people: list[np.ndarray] = []
    clock = Clock(plan.frames, 1)
    with Frames(clip, plan) as frames:
        for frame in frames:
            people.append(_people(frame, reader, cache))
            clock.tick()
            if on_progress is not None:
                total = max(plan.frames, len(people))  # a header may promise fewer frames than there are
                on_progress(Progress(STAGE, len(people), total, clock.seconds_left, unit="frame"))
            stop_if(cancel)
        note = " ".join(part for part in (plan.note, frames.note) if part)
    poses = Poses(tuple(people), plan.height, plan.width, plan.fps, plan.cut.start, note)
    cache.clips.keep(key, poses)
    return poses


def given_poses(clip: Clip, plan: CutPlan, *, hands: bool, face: bool) -> Poses:
    """Return a part of the poses of a clip that holds poses and no pictures.

    Args:
        clip: with poses.
        plan: which part; at another frame rate the nearest frame is taken.
        hands: whether to keep hands.
        face: whether to keep faces.
    """
    poses = clip.poses
    kept = np.ones((POINTS, 1))
    for part, wanted in ((LEFT_HAND, hands), (RIGHT_HAND, hands), (FACE, face)):
        kept[part] = wanted
    times = plan.cut.start + np.arange(plan.frames) / plan.fps
    nearest = np.minimum(np.floor(times * clip.fps + _HALF).astype(int), len(poses) - 1)
    note = " ".join(part for part in (poses.note, plan.note) if part)
    frames = tuple(poses.frames[index] * kept for index in nearest)
    return Poses(frames, poses.height, poses.width, plan.fps, plan.cut.start, note, poses.smoothed)


def clip_digest(clip: Clip) -> str:
    """Return a hash of a clip's content, in hexadecimal."""
    if not clip.pictures:
        return weights_digest(clip.path)
    digest = hashlib.sha256()
    for picture in clip.pictures:
        digest.update(weights_digest(picture).encode())
    return digest.hexdigest()


class _PoseFrameReader:
    """Reads ready-made pose frames: the joints of drawn skeletons."""

    key = "drawing"

    def __call__(self, rgb: np.ndarray) -> Mapping[str, Any]:
        return {"people": joints_in_drawing(rgb)}


read_pose_frame: FramePoseReader = _PoseFrameReader()
"""Reader of ready-made pose frames (OpenPose-18 drawings); it reads bodies, no hands or faces."""


def is_pose_frame(rgb: np.ndarray) -> bool:
    """Return whether a frame (H, W, 3) uint8 is a ready-made pose frame: joints in their colours on black.

    A pose model finds nobody in such a frame; `read_pose_frame` reads the clip instead.
    """
    return _background(rgb) >= _MOSTLY and bool(joints_in_drawing(rgb))


def is_thin_pose_frame(rgb: np.ndarray) -> bool:
    """Return whether a frame (H, W, 3) uint8 may be a pose frame of the released SVD adapters: thin lines on black.

    Joints cannot be read back from it: their dots are a pixel or two wide, dimmed by confidence, next to hands of the same
    colours.
    """
    coloured = np.ptp(rgb.astype(int), axis=2) >= _COLOURED
    return _background(rgb) >= _NEARLY_ALL and float(coloured.mean()) >= _A_LINE


def _background(rgb: np.ndarray) -> float:
    return float((rgb.max(axis=2) <= _BLACK).mean())


def _people(frame: np.ndarray, reader: FramePoseReader, cache: PoseCache) -> np.ndarray:
    digest = hashlib.blake2b(f"{frame.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(frame).data)
    key = (digest.hexdigest(), reader.key)
    known = cache.frames.get(key)
    if known is None:
        known = people_array(reader(frame))
        known.setflags(write=False)
        cache.frames.keep(key, known)
    return known
