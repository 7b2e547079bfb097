"""Conversion of BlazePose's 33 landmarks to OpenPose's 18 points."""

from __future__ import annotations

import math

import numpy as np

from annotators.poses.skeleton import KEYPOINTS

_SOURCES: dict[str, int] = {
    "nose": 0,
    "right_shoulder": 12,
    "right_elbow": 14,
    "right_wrist": 16,
    "left_shoulder": 11,
    "left_elbow": 13,
    "left_wrist": 15,
    "right_hip": 24,
    "right_knee": 26,
    "right_ankle": 28,
    "left_hip": 23,
    "left_knee": 25,
    "left_ankle": 27,
    "right_eye": 5,
    "left_eye": 2,
    "right_ear": 8,
    "left_ear": 7,
}

# Degrees by which a head is turned from the camera when it hides its far ear, its far eye, and the whole face.
_EAR_HIDDEN = 35.0
_EYE_HIDDEN = 75.0
_FACE_HIDDEN = 105.0


def body_points(landmarks: np.ndarray, depths: np.ndarray) -> np.ndarray:
    """Turn BlazePose's landmarks into OpenPose's points.

    BlazePose places eyes, nose and ears even where the head hides them, and is sure of them; OpenPose leaves them out, and
    so do the skeletons that pose adapters are trained on. The turn of the head determines which ones are hidden.

    Args:
        landmarks: (33, 3) x, y in pixels, confidence.
        depths: (33,) distance in the same unit; negative is nearer.

    Returns:
        (18, 3); the neck, which BlazePose lacks, is the middle of the shoulders, as sure as the less sure of them.
    """
    left, right = landmarks[_SOURCES["left_shoulder"]], landmarks[_SOURCES["right_shoulder"]]
    neck = np.array([*((left[:2] + right[:2]) / 2), min(left[2], right[2])])
    body = np.array([neck if name == "neck" else landmarks[_SOURCES[name]] for name in KEYPOINTS], dtype=np.float64)
    body[[KEYPOINTS.index(name) for name in hidden_points(landmarks, depths)], 2] = 0.0
    return body


def hidden_points(landmarks: np.ndarray, depths: np.ndarray) -> set[str]:
    """Return the points of a face that its own head hides; arguments as of `body_points`."""
    left, right, nose = _SOURCES["left_ear"], _SOURCES["right_ear"], _SOURCES["nose"]
    across = float(np.hypot(*(landmarks[left, :2] - landmarks[right, :2])))
    facing = depths[nose] <= (depths[left] + depths[right]) / 2
    behind = float(depths[left] - depths[right])  # how much further the left ear is than the right one
    turn = math.degrees(math.atan2(abs(behind), across if facing else -across))
    far = "left" if behind > 0 else "right"
    hidden = {f"{far}_ear"} if _EAR_HIDDEN < turn < 180 - _EAR_HIDDEN else set()
    if turn > _EYE_HIDDEN:
        hidden.add(f"{far}_eye")
    if turn > _FACE_HIDDEN:
        hidden |= {"nose", "right_eye", "left_eye"}
    return hidden
