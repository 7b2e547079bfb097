"""Readiness of models: whether each can be used now, and if not why; nothing is loaded and no network is waited for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from controlnext.method.families import FAMILIES
from controlnext.models import hub
from controlnext.models.download_errors import absent, no_room
from controlnext.models.downloads import SPARE, free_bytes
from controlnext.models.presets import Preset
from controlnext.models.sources import INDEX_FILE, Part, adapter_of, parts_of, pickled_files
from controlnext.progress import data_size

State = Literal["ready", "experimental", "download", "gated", "offline", "missing", "disk", "video", "broken"]

WORDS: dict[str, str] = {
    "ready": "",
    "experimental": "experimental",
    "download": "download",
    "gated": "needs a token",
    "offline": "offline",
    "missing": "not here",
    "disk": "disk too small",
    "video": "video",
    "broken": "not here",
}
"""State -> the words after a model's name in a list."""

_UNKNOWN = "files of unknown size"


@dataclass(frozen=True)
class Readiness:
    """State of a model on this machine.

    Attributes:
        state: in one word; see `WORDS`.
        reason: a sentence with the next step; empty when it is ready.
        download_bytes: what the first picture has to download, as far as the preset knows; 0 when nothing.
    """

    state: State
    reason: str = ""
    download_bytes: int = 0


@dataclass(frozen=True)
class Failure:
    """Why a model could not be downloaded or loaded the last time.

    Attributes:
        reason: the sentence.
        state: which state that is.
        token: the access token it was tried with; another one may have access.
    """

    reason: str
    state: State = "broken"
    token: str | None = None

    def still(self) -> bool:
        """Whether it still holds."""
        return self.state != "gated" or self.token == hub.token()


def readiness(preset: Preset, failure: Failure | None = None, *, half: bool = False, video: bool = False) -> Readiness:
    """Return whether a preset can be used now.

    Args:
        preset: the preset.
        failure: what went wrong with it before, if something did.
        half: whether it would run in float16.
        video: whether it is to make videos.

    Returns:
        Its state.
    """
    refused, why = refusal(preset, video=video)
    if refused is not None:
        return Readiness(refused, why)
    parts = parts_of(preset, (), half=half)
    gone = next((part for part in parts if part.path is not None and part.find() is None), None)
    if gone is not None:
        return Readiness("missing", missing_reason(preset, gone))
    if failure is not None and failure.still():
        return Readiness(failure.state, failure.reason)
    adapters = [adapter_of(preset, kind) for kind in preset.adapters]
    wanted = [part for part in parts if part.find() is None]
    if adapters and not any(part.find() for part in adapters):
        wanted += sorted((part for part in adapters if part.path is None), key=lambda part: part.size() or 0)[-1:]
    return _download(preset, wanted) if wanted else Readiness("ready")


def _download(preset: Preset, wanted: list[Part]) -> Readiness:
    sizes = [part.size() for part in wanted]
    known = sum(size for size in sizes if size)
    said = data_size(known) if None not in sizes else f"more than {data_size(known)}" if known else _UNKNOWN
    closed = next((part for part in wanted if part.place.gated), None)
    if closed is not None and hub.token() is None:
        return Readiness("gated", absent(preset, closed.place.repos[0], "gated", said), known)
    repo = wanted[0].place.repos[0]
    if not hub.NETWORK.online():
        return Readiness("offline", absent(preset, repo, "offline", said), known)
    free = free_bytes(hub.cache_folder())
    if free < known + SPARE:
        return Readiness("disk", no_room(preset.title, known, free), known)
    return Readiness("download", absent(preset, repo, "download", said), known)


def refusal(preset: Preset, *, video: bool) -> tuple[State | None, str]:
    """Return the state and the sentence of a preset that is of no use here, whatever is on this disk; (None, "") for all others."""
    if why := experimental_reason(preset):
        return "experimental", why
    if preset.video and not video:
        return "video", video_reason(preset)
    if why := single_file_reason(preset):
        return "broken", why
    return None, ""


def experimental_reason(preset: Preset) -> str:
    """Why an experimental model runs from Python alone; empty for all others."""
    family = FAMILIES[preset.family]
    if not family.experimental:
        return ""
    return (
        f"{preset.title} is experimental: no adapter is published for {family.title}. Train one, as docs/transformers.md says, and "
        f"run it from Python with {family.pipeline}."
    )


def video_reason(preset: Preset) -> str:
    """Why a video model makes no pictures."""
    return (
        f"{preset.title} makes videos: it moves one picture along a sequence of poses and makes no single pictures. "
        "Choose another model for pictures."
    )


def single_file_reason(preset: Preset) -> str:
    """Why a video model is not read from the single file its preset names; empty for all that can be read."""
    base = parts_of(preset, ())[0]
    if not preset.video or base.layout != "checkpoint":
        return ""
    return (
        f"{preset.title} names the single file {base.checkpoint or base.place.path}, but video models are read only from "
        f"diffusers' folders: name a folder or repository that holds {INDEX_FILE}, unet, vae and image_encoder, such as "
        f"stabilityai/stable-video-diffusion-img2vid-xt, in {preset.name}.yaml."
    )


def missing_reason(preset: Preset, part: Part) -> str:
    """Which files a local model lacks."""
    lacks = {"pipeline": f"holds no {INDEX_FILE}", "adapter": "holds no control file"}
    what = "weights" if part.layout in ("pipeline", "checkpoint") else part.label.removeprefix("the ")
    verb = "is" if part.layout == "adapter" else "are"
    subject = f"The {what} of {preset.title} {verb} not there"
    return f"{subject}: {part.path} {lacks.get(part.layout, 'is not the file it should be')}."


def conversion_advice(preset: Preset, kinds: Sequence[str]) -> list[str]:
    """Sentences about adapters that lie on this disk as pickles, each with the command that turns them into safetensors."""
    found = {kind: adapter_of(preset, kind).find() for kind in kinds}
    return [
        f"The {kind} adapter of {preset.title} is a pickled file; python -m controlnext convert {path} "
        f"{path.with_suffix('.safetensors')} makes a safetensors file of it, which loads faster."
        for kind, place in found.items()
        if place is not None
        for path in pickled_files(place)
    ]
