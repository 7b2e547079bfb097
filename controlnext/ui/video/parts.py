"""HTML and pictures of the video tab: the clip's strip, the confidence of its reading, and its people."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from controlnext.animation.choice import MOST_PEOPLE
from controlnext.ui.shared import badge_html, note_html
from controlnext.video.ffmpeg import VideoError
from controlnext.video.plan import Cut, plan_cut
from controlnext.video.poses import BODY, visible

if TYPE_CHECKING:
    from controlnext.animation.choice import Choice, ClipUse
    from controlnext.animation.clip_reader import ClipReader
    from controlnext.animation.driving_clip import DrivingClip
    from controlnext.animation.video_run import VideoResult
    from controlnext.video.clip import Clip
    from controlnext.video.tracks import Track

STRIP_PICTURES = 8
STRIP_HEIGHT = 48
PERSON_SIZE = 96
MOST_BANDS = 400
"""More frames than that are shown together, several a band."""

DOUBTFUL = 0.35
"""Confidence below which the reading of a frame is marked."""


def strip_pictures(clip: Clip) -> tuple[str, ...]:
    """Return small pictures from all over a clip as addresses that hold them; each is sought, so length costs nothing.

    Where the clip is damaged the picture before stands in.
    """
    from controlnext.video.frames import Frames

    pictures: list[str] = []
    missing = 0  # before the first that can be decoded
    for index in range(STRIP_PICTURES):
        start = clip.seconds * (index + 0.5) / STRIP_PICTURES
        plan = plan_cut(clip, Cut(start=max(0.0, start - 0.5 / clip.fps), max_frames=1, max_side=2 * STRIP_HEIGHT))
        with Frames(clip, plan) as frames:
            try:
                frame = next(frames, None)
            except VideoError:
                frame = None
        if frame is not None:
            pictures.append(_address(Image.fromarray(frame)))
        elif pictures:
            pictures.append(pictures[-1])
        else:
            missing += 1
    return (*pictures[:1] * missing, *pictures)


def strip_html(pictures: Sequence[str], seconds: float, start: float, used: float) -> str:
    """Return the strip of a clip; what is not used is dimmed.

    Args:
        pictures: addresses of small pictures, evenly spread.
        seconds: length of the clip.
        start: where the part begins, in seconds.
        used: length of what is used, in seconds.
    """
    if not pictures or seconds <= 0:
        return ""
    left = min(100.0, max(0.0, 100 * start / seconds))
    right = min(100.0, max(0.0, 100 * (1 - (start + used) / seconds)))
    images = "".join(f"<img src='{picture}' alt=''>" for picture in pictures)
    label = f"From {start:.1f} s to {min(seconds, start + used):.1f} s of {seconds:.1f} s are used"
    return (
        f"<div class='cnx-strip' role='img' aria-label='{label}'>{images}"
        f"<i style='left:0;width:{left:.2f}%'></i><i style='right:0;width:{right:.2f}%'></i>"
        f"<b style='left:{left:.2f}%;right:{right:.2f}%'></b></div>"
    )


def sure_html(driving: DrivingClip, index: int) -> str:
    """Return how sure the reading of each frame is, with gaps and guesses marked, and a line at frame `index`."""
    count = len(driving)
    bands = min(count, MOST_BANDS)
    parts = np.linspace(0, count, bands + 1).round().astype(int)
    sure = np.array([driving.confidence[a:b].min() for a, b in pairwise(parts)])
    points = " ".join(
        f"{x},{100 - 100 * value:.0f}" for band, value in enumerate(sure) for x in (_share(band, bands), _share(band + 1, bands))
    )  # fmt: skip
    shown = driving.track.shown & (driving.confidence > 0)
    marks = "".join(
        f"<rect class='{name}' x='{_share(first, count)}' width='{_share(last - first, count)}' y='0' height='100'/>"
        for name, which in (
            ("doubtful", shown & (driving.confidence < DOUBTFUL)),
            ("guessed", driving.guessed),
            ("absent", driving.absent),
        )
        for first, last in _runs(which)
    )
    missing = int(driving.absent.sum())
    label = f"The person is seen in {count - missing} of {count} frames"
    at = _share(index + 0.5, count)
    return (
        f"<figure class='cnx-sure'><svg viewBox='0 0 100 100' preserveAspectRatio='none' role='img' aria-label='{label}'>"
        f"<polygon points='0,100 {points} 100,100'/>{marks}<line x1='{at}' x2='{at}' y1='0' y2='100'/></svg>"
        "<figcaption><span>How sure the reading is</span><span><i class='guessed'></i>filled in <i class='absent'></i>nobody"
        "</span></figcaption></figure>"
    )


def legend_html(driving: DrivingClip) -> str:
    """Return which skeleton is whose in `driving.overlay`."""
    own = "<span><i class='own'></i>as the character stands</span>" if driving.has_figure else ""
    fitted = driving.choice.fit and driving.reference is not None
    whose = "the clip's person, fitted to it" if fitted else "the clip's person, where the clip has it"
    return f"<p class='cnx-legend'>{own}<span><i class='clip'></i>{whose}</span></p>"


def notes_html(use: ClipUse, sentences: Sequence[str]) -> str:
    """Return what will be used, and what is missing."""
    return note_html(use.sentence, "info") + "".join(note_html(sentence, "warn") for sentence in sentences)


def people_pictures(
    clip_reader: ClipReader, source: str, choice: Choice, tracks: Sequence[Track]
) -> list[Image.Image]:
    """Return a small picture of each person, from the frame that shows it best."""
    return [_person(clip_reader, source, choice, track) for track in tracks[:MOST_PEOPLE]]


def video_summary_html(result: VideoResult) -> str:
    """Return the badge of a video, and lines on time and place and on what there is to know."""
    badge = badge_html(result.frames, result.seed, result.adherence, result.adherence_name)
    frames = "1 frame" if result.frames == 1 else f"{result.frames} frames"
    stopped = ", then stopped" if result.stopped else ""
    where = escape(result.file.parent.name)
    return (
        f"<div class='cnx-badges'>{badge}</div>"
        f"<p class='cnx-summary'>{frames} at {result.fps:.4g} a second in {result.seconds:.1f} s{stopped}, "
        f"saved in {where}/ with the recipe inside</p>{note_html(' '.join(result.notes), 'warn')}"
    )


def _person(clip_reader: ClipReader, source: str, choice: Choice, track: Track) -> Image.Image:
    index = int(np.argmax(track.confidence))
    points = track.points[index][BODY]
    places = points[visible(points), :2]
    try:
        picture = Image.fromarray(clip_reader.still(source, choice, index))
    except VideoError:  # there the clip is damaged
        return Image.new("RGB", (PERSON_SIZE, PERSON_SIZE), "grey")
    middle, reach = (places.min(axis=0) + places.max(axis=0)) / 2, 0.62 * np.ptp(places, axis=0).max() + 4
    box = tuple(round(value) for value in (*(middle - reach), *(middle + reach)))
    return picture.crop(box).resize((PERSON_SIZE, PERSON_SIZE))


def _address(picture: Image.Image) -> str:
    picture.thumbnail((4 * STRIP_HEIGHT, 2 * STRIP_HEIGHT))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _runs(which: np.ndarray) -> list[tuple[int, int]]:
    """First frame and the one after the last of each stretch of frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], which, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _share(value: float, count: int) -> str:
    return f"{100 * value / count:.2f}".rstrip("0").rstrip(".")
