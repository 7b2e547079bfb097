"""Errors of downloads, each as one sentence that ends with the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from controlnext.errors import ControlNeXtError
from controlnext.models import hub
from controlnext.progress import data_size

if TYPE_CHECKING:
    from controlnext.models.hub import Repo
    from controlnext.models.presets import Preset
    from controlnext.models.sources import Part


DownloadState = Literal["offline", "gated", "missing", "disk", "broken"]
"""Why something cannot be downloaded; `broken` for a download that did not end well."""

_GATED = (
    "{what} is only for those who have accepted its licence: open {hub}/{id} in a browser, accept it there, then run "
    "`hf auth login` or set HF_TOKEN, and try again."
)
_GONE = (
    "{what} cannot be downloaded from {repo}: the hub says that there is no such repository, or it is private. Name another one "
    "in {file}, or copy the files to this machine and name their folder there."
)
_NO_FILE = (
    "{what} cannot be downloaded from {repo}: a file was removed or renamed there. Name another repository in {file}."
)
_PROXY = "The proxy refuses to connect to {hub} ({reason}); set HTTPS_PROXY to the right one, or unset it."
_SLOW = "{hub} does not answer in time; try again, or set HF_ENDPOINT to a mirror near you. What was downloaded so far is kept."
_OFFLINE = (
    "{what} cannot be downloaded: {hub} cannot be reached. Connect and try again; what was downloaded so far is kept."
)
_SWITCHED_OFF = "{what} is not on this machine, and HF_HUB_OFFLINE forbids downloading it; unset it and try again."
_REFUSED = "{hub} refuses {part} (HTTP {code}); try again later."

# Class names in order: the client changed its HTTP library once, and only the names stayed the same.
_ERRORS: tuple[tuple[str, DownloadState, str], ...] = (
    ("GatedRepoError", "gated", _GATED),
    ("RepositoryNotFoundError", "missing", _GONE),
    ("RevisionNotFoundError", "missing", _GONE),
    ("DisabledRepoError", "missing", _GONE),
    ("EntryNotFoundError", "missing", _NO_FILE),
    ("OfflineModeIsEnabled", "offline", _SWITCHED_OFF),
    ("HfHubHTTPError", "broken", _REFUSED),
    ("ProxyError", "offline", _PROXY),
    ("TimeoutException", "offline", _SLOW),
    ("TransportError", "offline", _OFFLINE),
    ("ConnectionError", "offline", _OFFLINE),
    ("HTTPError", "broken", _REFUSED),
)


class DownloadError(ControlNeXtError, RuntimeError):
    """Something that cannot be downloaded.

    Attributes:
        state: why.
    """

    def __init__(self, text: str, state: DownloadState) -> None:
        """Take the sentence and its kind."""
        super().__init__(text)
        self.state = state


@contextmanager
def download_errors(preset: Preset, part: Part | None, repo: Repo) -> Iterator[None]:
    """Turn errors of the hub's client into sentences with the next step; unknown errors pass through.

    Raises:
        DownloadError: the sentence and its state.
    """
    try:
        yield
    except ControlNeXtError:
        raise
    except Exception as error:
        names = {one.__name__ for one in type(error).__mro__}
        row = next((row for row in _ERRORS if row[0] in names), None)
        if row is None:
            raise
        _, state, text = row
        if state == "offline":
            hub.NETWORK.learned(False)
        what = f"{part.label} of {preset.title}" if part else preset.title
        sentence = text.format(
            part=what,
            what=what[0].upper() + what[1:],
            repo=repo,
            id=repo.id,
            hub=hub.endpoint(),
            file=f"{preset.name}.yaml",
            code=getattr(getattr(error, "response", None), "status_code", ""),
            reason=" ".join(str(error).split())[:120],
        )
        raise DownloadError(sentence, state) from error


def no_room(title: str, needed: int, free: int) -> str:
    """Return the sentence about a disk that is too small."""
    return (
        f"{title} needs {data_size(needed)} more, but the disk of {hub.cache_folder()} has {data_size(free)} free; "
        "make room, or set HF_HOME to a folder on a larger disk."
    )


def unwritable(error: OSError) -> DownloadError:
    """Return the error of a cache that cannot be written to."""
    return DownloadError(
        f"The download cannot be written to {hub.cache_folder()}: {error.strerror or error}. Make room or give this "
        "program the right to write there, or set HF_HOME to another folder.",
        "disk",
    )


def absent(preset: Preset, repo: Repo, state: str, size: str) -> str:
    """Return why a model that is not on this machine is not ready.

    Args:
        preset: the model.
        repo: where it would come from.
        state: `gated`, `offline` or `download`.
        size: of the download, in words.

    Returns:
        One sentence with the next step.
    """
    if state == "gated":
        return _GATED.format(what=preset.title, hub=hub.endpoint(), id=repo.id)
    if state == "offline" and hub.switched_off():
        return _SWITCHED_OFF.format(what=preset.title)
    if state == "offline":
        return (
            f"{preset.title} is not on this machine and {hub.endpoint()} cannot be reached; connect to download "
            f"{size}, or copy its files here and name their folder in {preset.name}.yaml."
        )
    return f"{preset.title} is not on this machine yet: the first run downloads {size} from {repo}."
