"""Gap filling and smoothing of one person's points, without lag and without damping quick moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from controlnext.adherence.skeletons import VISIBLE
from controlnext.video.poses import BODY, visible
from controlnext.video.tracks import Track

LONGEST_GAP = 0.5
"""Seconds up to which a point that was not seen is placed between where it was and where it comes back."""


FOLLOW_SECONDS = 1.0
"""Time that `follow` averages a way over."""


@dataclass(frozen=True)
class OneEuro:
    """Settings of the filter, for places in sizes of the figure and time in seconds.

    Attributes:
        calm: cut-off in Hz for what rests; lower is calmer.
        quick: how much the cut-off rises with speed; higher follows quick moves closer.
        speed: cut-off in Hz of the speed itself.

    Source: Casiez, Roussel and Vogel, "1 € Filter" (CHI 2012): `mincutoff`, `beta`, `dcutoff`.
    """

    calm: float = 1.5
    quick: float = 6.0
    speed: float = 2.0


def fill_gaps(track: Track, longest: float = LONGEST_GAP) -> Track:
    """Place points that were not seen for a short while on the straight way between where they were and come back.

    Args:
        track: one person.
        longest: seconds; longer gaps, and those at the ends, stay open: the person was not there.

    Returns:
        A track in which filled points are just sure enough to be drawn; `confidence` still shows what was read.
    """
    points = track.points.copy()
    most = round(longest * track.fps)
    for index in range(points.shape[1]):
        seen = np.flatnonzero(visible(points[:, index]))
        for before, after in pairwise(seen):
            missing = after - before - 1
            if 0 < missing <= most:
                part = (np.arange(1, missing + 1) / (missing + 1))[:, None]
                between = (1 - part) * points[before, index] + part * points[after, index]
                between[:, 2] = np.maximum(between[:, 2] / 2, VISIBLE)
                points[before + 1 : after, index] = between
    return replace(track, points=points)


def smooth(track: Track, settings: OneEuro | None = None) -> Track:
    """Take the jitter out of a person's points.

    A One Euro filter runs forwards and backwards and the two are averaged: alone it lags behind, together they do not. Each
    stretch in which a point is visible is filtered by itself, so that nothing is dragged over a gap.

    Args:
        track: one person.
        settings: of the filter.

    Returns:
        A track with the same confidences; points that are not visible are untouched.
    """
    settings = settings or OneEuro()
    shown = visible(track.points)
    if not shown.any():
        return track
    size = _figure(track)
    places = track.points[..., :2] / size
    forwards = _filtered(places, shown, track.fps, settings)
    backwards = _filtered(places[::-1], shown[::-1], track.fps, settings)[::-1]
    points = track.points.copy()
    points[..., :2] = np.where(shown[..., None], (forwards + backwards) / 2 * size, points[..., :2])
    return replace(track, points=points)


def follow(track: Track, seconds: float = FOLLOW_SECONDS) -> Track:
    """Take a person's slow way from side to side out, as a camera that follows it would.

    A dancer who crosses a wide clip would otherwise leave the reference's narrower picture. Steps and sways that are quicker
    than the camera stay, and so do all moves up and down.

    Args:
        track: one person.
        seconds: how long the camera takes; longer leaves more of the way.

    Returns:
        A track whose person stays around the mean of its way.
    """
    shown = track.shown
    if not shown.any():
        return track
    middles = np.array([np.median(points[BODY][visible(points[BODY]), 0]) for points in track.points[shown]])
    frames = np.arange(len(shown))
    way = np.interp(frames, frames[shown], middles)
    reach = max(1, round(seconds * track.fps / 2))
    camera = np.array([way[max(0, frame - reach) : frame + reach + 1].mean() for frame in frames])
    points = track.points.copy()
    points[..., 0] -= (camera - middles.mean())[:, None] * (points[..., 2] > 0)
    return replace(track, points=points)


def _figure(track: Track) -> float:
    """Median diagonal of the figure in pixels."""
    sizes = []
    for points in track.points:
        places = points[visible(points), :2]
        if len(places) > 1:
            sizes.append(float(np.hypot(*np.ptp(places, axis=0))))
    return max(1.0, float(np.median(sizes))) if sizes else 1.0


def _filtered(places: np.ndarray, shown: np.ndarray, fps: float, settings: OneEuro) -> np.ndarray:
    """Run the filter over (frames, points, 2) in one direction; it restarts wherever a point comes into sight."""
    filtered = places.copy()
    speed = np.zeros_like(places[0])
    for frame in range(1, len(places)):
        goes_on = (shown[frame] & shown[frame - 1])[:, None]
        step = (places[frame] - places[frame - 1]) * fps
        speed = np.where(goes_on, speed + _share(settings.speed, fps) * (step - speed), 0.0)
        cutoff = settings.calm + settings.quick * np.linalg.norm(speed, axis=1, keepdims=True)
        before = filtered[frame - 1]
        filtered[frame] = np.where(goes_on, before + _share(cutoff, fps) * (places[frame] - before), places[frame])
    return filtered


def _share(cutoff: float | np.ndarray, fps: float) -> float | np.ndarray:
    """Weight of the newest value in an exponential filter with a cut-off in Hz."""
    turn = 2 * np.pi * cutoff / fps
    return turn / (turn + 1)
