"""The gate of files: of all that a request names, what was uploaded to this app is read, and nothing else.

Gradio checks a file only where its object carries `meta`, and opens it before an event of ours is called. So every value of
every request passes here first, in `StudioPage.preprocess_data`, however deep a file lies in it. What comes out names files
of Gradio's upload folder for this app, each in a folder that is called by a keyed hash of its content: a path that was not
returned by an upload or an answer cannot be guessed.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gradio import processing_utils
from gradio.utils import get_upload_folder

from controlnext.errors import ControlNeXtError
from controlnext.scratch import touch

DEPTH = 32
"""Objects and lists inside of each other that are read."""

MOST_VALUES = 100_000
"""Values of one request that are looked at."""

META = {"_type": "gradio.FileData"}
"""Mark of a file in what Gradio's clients send."""

REFUSED = "This is not a file that was uploaded to this app, or it is no longer kept: upload it, then send what the upload returned."
"""The one answer for every file that is not let in, whether there is such a file or not."""

NOT_FETCHED = (
    "The file could not be fetched from that address: give a public http or https address, or upload the file."
)
"""The one answer for every address that is not let in, whatever answers there."""

_SERVED = "/gradio_api/file="
"""What stands in the address of a file of this app before its path."""

_HASHED = re.compile(r"[0-9a-f]{64}")

Fetch = Callable[[str, str], Awaitable[str]]
"""Downloads an address into a folder and returns the path: `processing_utils.async_ssrf_protected_download`."""


class UploadError(ControlNeXtError):
    """A request names a file that was not uploaded, or is built in a way that no upload is."""


def uploaded(path: object) -> Path:
    """Return the file of an upload.

    Args:
        path: as a client sent it.

    Raises:
        UploadError: it is anything but the path of a file in Gradio's upload folder, links resolved.
    """
    if not isinstance(path, str) or not path:
        raise UploadError(REFUSED)
    try:
        folder, real = Path(get_upload_folder()).resolve(), Path(path).resolve()
        inside = real.relative_to(folder).parts
        if len(inside) != 2 or not _HASHED.fullmatch(inside[0]) or not real.is_file():
            raise UploadError(REFUSED)
    except (OSError, ValueError, RuntimeError) as error:  # not inside, a name that is none, a circle of links
        raise UploadError(REFUSED) from error
    touch(real.parent)  # what is used stays in the next sweep
    return real


async def let_in(value: Any, *, fetch: Fetch | None = None) -> Any:  # noqa: ANN401 - whatever a request holds
    """Return a value of a request with every file in it checked, and reduced to what an upload is.

    Args:
        value: as JSON gave it.
        fetch: gets the file of an http address; None takes Gradio's guarded download, which follows redirects by the same
            rule and refuses whatever is not a public address.

    Raises:
        UploadError: a file in it was not uploaded, an address cannot be fetched, or it is nested too deep.
    """
    return await _let_in(value, fetch or processing_utils.async_ssrf_protected_download, _Count(), 0)


def is_file(value: object) -> bool:
    """Tell whether a value stands for a file: an object with a path or an address."""
    return isinstance(value, Mapping) and ("path" in value or "url" in value)


class _Count:
    """How many values were looked at."""

    def __init__(self) -> None:
        self.values = 0

    def one_more(self, depth: int) -> None:
        self.values += 1
        if depth > DEPTH:
            raise UploadError(f"The values sent lie in more than {DEPTH} lists or objects: send them flat.")
        if self.values > MOST_VALUES:
            raise UploadError(f"More than {MOST_VALUES:,} values were sent: send fewer.")


async def _let_in(value: Any, fetch: Fetch, count: _Count, depth: int) -> Any:  # noqa: ANN401
    count.one_more(depth)
    if is_file(value):
        return await _file(value, fetch)
    if isinstance(value, Mapping):
        return {key: await _let_in(item, fetch, count, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [await _let_in(item, fetch, count, depth + 1) for item in value]
    return value


async def _file(value: Mapping[str, Any], fetch: Fetch) -> dict[str, Any]:
    path = value.get("path")
    if isinstance(path, str) and path.lower().startswith(("http://", "https://")):
        path = _served_here(path) or await _fetched(path, fetch)
    name = value.get("orig_name")
    return {
        "path": str(uploaded(path)),
        "url": None,
        "size": None,
        "orig_name": name[:255] if isinstance(name, str) else None,
        "mime_type": None,
        "is_stream": False,
        "meta": dict(META),
    }


def _served_here(address: str) -> str | None:
    """Return the file that an answer of this app stands for, whatever name the app is reached by; None for other addresses."""
    _, served, path = address.partition(_SERVED)
    if not served:
        return None
    try:
        return str(uploaded(unquote(path)))
    except UploadError:
        return None


async def _fetched(address: str, fetch: Fetch) -> str:
    try:
        return await fetch(address, get_upload_folder())
    except Exception as error:  # refused, not found, no network: said alike, so that nothing is learned of a network
        raise UploadError(NOT_FETCHED) from error
