"""MediaPipe's model files: extracted from its wheel, verified and cached; the wheel is not installed.

The wheel `mediapipe==0.10.21` is the last that carries the TensorFlow Lite files (Apache-2.0). Only the files are wanted, so
any platform's wheel will do; they run with `ai-edge-litert`, and MediaPipe itself stays off the machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from annotators.base import Availability, BackendMissing

logger = logging.getLogger(__name__)

WHEEL = "mediapipe==0.10.21"
WHEEL_MEGABYTES = 36
COMMAND = "python -m annotators fetch"

_PIP_OPTIONS = (
    *("--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"),
    *("--disable-pip-version-check", "--retries", "1", "--timeout", "15", "--quiet"),
)
_PIP_SECONDS = 600
_RETRY_SECONDS = 60  # after a failure the next fetch by itself waits this long, so that live sliders stay quick


@dataclass(frozen=True)
class ModelFile:
    """One file of the wheel: its path there under `mediapipe/modules`, its size in bytes and SHA-256."""

    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """File name in the cache."""
        return self.path.rsplit("/", 1)[-1]


FILES: dict[str, ModelFile] = {
    file.name.removesuffix(".tflite"): file
    for file in (
        ModelFile(
            "pose_detection/pose_detection.tflite",
            2_959_046,
            "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        ),
        ModelFile(
            "pose_landmark/pose_landmark_full.tflite",
            6_440_512,
            "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        ),
        ModelFile(
            "selfie_segmentation/selfie_segmentation.tflite",
            249_505,
            "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        ),
        ModelFile(
            "holistic_landmark/hand_recrop.tflite",
            123_792,
            "67d996ce96f9d36fe17d2693022c6da93168026ab2f028f9e2365398d8ac7d5d",
        ),
        ModelFile(
            "hand_landmark/hand_landmark_full.tflite",
            5_478_917,
            "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
        ),
        ModelFile(
            "face_detection/face_detection_short_range.tflite",
            229_714,
            "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        ),
        ModelFile(
            "face_landmark/face_landmark.tflite",
            1_242_398,
            "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
        ),
    )
}

_lock = threading.Lock()
_failure: tuple[float, str] | None = None  # when the last fetch by itself failed, and why


def cache_folder() -> Path:
    """Return the folder all fetched files live in: `CONTROLNEXT_CACHE`, else `controlnext` in the user's cache folder."""
    if own := os.environ.get("CONTROLNEXT_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "controlnext"


def mediapipe_folder() -> Path:
    """Return the folder of MediaPipe's files."""
    return cache_folder() / WHEEL.replace("==", "-")


def missing() -> list[str]:
    """Return the files not in the cache (by presence and size; `model_path` checks the content)."""
    folder = mediapipe_folder()
    return [name for name, file in FILES.items() if not _has(folder / file.name, file.size)]


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def availability() -> Availability:
    """Return whether MediaPipe's models can be used now; only reads the disk."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        return Availability(
            usable=False, reason="The package ai-edge-litert is not installed: pip install ai-edge-litert."
        )
    if not missing():
        return Availability(usable=True)
    if _failure is not None and time.monotonic() - _failure[0] < _RETRY_SECONDS:
        return Availability(usable=False, reason=_failure[1])
    return Availability(
        usable=True,
        reason=f"Its model files come from the wheel {WHEEL} ({WHEEL_MEGABYTES} MB), fetched once on first use.",
    )


def ensure() -> str:
    """Fetch what is missing, if anything is; returns a sentence if it did.

    Raises:
        BackendMissing: it could not; the next minute answers the same without trying again.
    """
    global _failure
    with _lock:
        if not missing():
            return ""
        if _failure is not None and time.monotonic() - _failure[0] < _RETRY_SECONDS:
            raise BackendMissing(_failure[1])
        try:
            fetch_mediapipe()
        except BackendMissing as error:
            _failure = (time.monotonic(), str(error))
            raise
        _failure = None
    return "MediaPipe's model files were fetched and cached for the next time."


def fetch_mediapipe(wheel: Path | None = None) -> Path:
    """Put MediaPipe's files into the cache, from a local wheel or through the package client.

    Args:
        wheel: a `mediapipe-0.10.21` wheel already downloaded, for machines without a network.

    Returns:
        The folder the files are in.

    Raises:
        BackendMissing: the wheel cannot be had, or a file in it is not the expected one.
    """
    with tempfile.TemporaryDirectory(prefix="controlnext-") as scratch:
        _unpack(wheel or _download(Path(scratch)), mediapipe_folder())
    return mediapipe_folder()


def _download(folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise BackendMissing(
            f"MediaPipe's model files are missing and this Python has no pip to fetch {WHEEL} with. "
            f"Download that wheel elsewhere and run: {COMMAND} mediapipe --wheel FILE."
        )
    command = [sys.executable, "-m", "pip", "download", WHEEL, *_PIP_OPTIONS, "--dest", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)
        problem = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    wheels = sorted(folder.glob("*.whl"))
    if problem or not wheels:
        logger.warning("pip could not download %s: %s", WHEEL, problem)
        raise BackendMissing(
            f"MediaPipe's model files are missing, and {WHEEL} ({WHEEL_MEGABYTES} MB) could not be fetched from the package "
            f"registry. Connect to a network and run: {COMMAND}."
        )
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            contents = {file: archive.read(f"mediapipe/modules/{file.path}") for file in FILES.values()}
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise BackendMissing(f"{wheel.name} is not the wheel of {WHEEL}: {error}.") from error
    for file, content in contents.items():
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise BackendMissing(
                f"{file.name} in {wheel.name} is not the file expected from {WHEEL}; nothing was kept."
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            _write(folder / file.name, content)
    except OSError as error:
        raise BackendMissing(
            f"MediaPipe's model files cannot be written to the cache folder ({error.strerror}). "
            "Make room or set CONTROLNEXT_CACHE to another folder."
        ) from error


def _write(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    scratch = path.with_name(f".{path.name}-{uuid4().hex}")  # not by `tempfile`, whose files only their owner may read
    try:
        scratch.write_bytes(content)
        os.replace(scratch, path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def model_path(name: str) -> Path:
    """Return the checked file of a model.

    Args:
        name: key of `FILES`.

    Raises:
        BackendMissing: the file is not in the cache, or its content is damaged (then it is removed).
    """
    file = FILES[name]
    path = mediapipe_folder() / file.name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackendMissing(f"MediaPipe's {file.name} is not in the cache. Run: {COMMAND}.") from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        path.unlink(missing_ok=True)
        raise BackendMissing(f"MediaPipe's {file.name} in the cache was damaged and has been removed. Run: {COMMAND}.")
    return path
