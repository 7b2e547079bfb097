"""Downloads of model files, with progress and Stop; an interrupted one resumes where it stopped.

`huggingface_hub` says what a repository holds and who may read it; the bytes are fetched here, since its own download throws
away what it has when it is interrupted. Finished files lie in the hub's cache as if it had fetched them, and its own locks keep
two programs from writing one file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.errors import ControlNeXtError
from controlnext.models import hub
from controlnext.models.download_errors import DownloadError, download_errors, no_room, unwritable
from controlnext.models.hub import Repo
from controlnext.models.sources import Part
from controlnext.progress import Progress, stop_if

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

    from controlnext.models.presets import Preset

logger = logging.getLogger(__name__)

SPARE = 200 * 10**6
"""Bytes that stay free on the disk: a full one breaks other programs, and results have to be saved."""

_TIMEOUT = 10.0  # seconds without a byte
_TRIES = 5  # in a row without a byte more
_PAUSE = 1.0  # seconds between them
_TELL = 0.2  # seconds between two reports
_LOOK = 0.2  # seconds between two looks at a file that another program downloads
_LOCK_MODE = 0o664  # as the hub's client has it: a group may share a cache
_SHA256 = 64  # hexadecimal digits: the name of a large file is its SHA-256, that of a small one a git object's


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository.

    Attributes:
        repo: where it is.
        commit: of which commit.
        name: its name in the repository.
        size: in bytes.
        key: its name in the cache's `blobs`: SHA-256 of a large file, git object of a small one.
    """

    repo: Repo
    commit: str
    name: str
    size: int
    key: str

    @property
    def blob(self) -> Path:
        """Where its content is kept."""
        return self.repo.cache / "blobs" / self.key

    @property
    def partial(self) -> Path:
        """Where its content is collected; it stays there when a download is interrupted."""
        return self.blob.with_name(f"{self.key}.incomplete")

    @property
    def link(self) -> Path:
        """Where programs look for it."""
        return self.repo.cache / "snapshots" / self.commit / self.name

    @property
    def lock(self) -> Path:
        """What a program holds while it downloads the content; where the hub's client has its own."""
        return self.repo.cache.parent / ".locks" / self.repo.cache.name / f"{self.key}.lock"

    def done(self) -> int:
        """Bytes that are here already, at most `size`."""
        for path in (self.link, self.blob, self.partial):
            with suppress(FileNotFoundError):  # another program moved it
                return min(path.stat().st_size, self.size)
        return 0


def fetch(preset: Preset, parts: Sequence[Part], report: Callable[[Progress], None], cancel: threading.Event) -> None:
    """Download parts of a preset into the hub's cache.

    Args:
        preset: names the model in progress and errors.
        parts: what is missing; parts on this disk are passed over.
        report: called with the number of bytes so far.
        cancel: stops it; the part that was downloaded is kept for the next run.

    Raises:
        Cancelled: stopped.
        DownloadError: no network, no permission, no such files, no room; one sentence each.
    """
    missing = [part for part in parts if part.path is None and part.find() is None]
    if not missing:
        return
    report(Progress(f"Asking the hub for {preset.title}"))
    files = []
    for part in missing:
        stop_if(cancel)
        files += _plan(preset, part)
    done = [file.done() for file in files]
    total = sum(file.size for file in files)
    _check_room(preset, total - sum(done))
    meter = _Meter(preset.title, total, total - sum(done), report)
    for file, before in zip(files, done, strict=True):
        _fetch_file(preset, file, before, meter, cancel)
    hub.NETWORK.learned(True)


def _plan(preset: Preset, part: Part) -> list[RemoteFile]:
    """Ask the repository, then its mirrors, for what it has; the first with all of it serves."""
    errors: list[DownloadError] = []
    for repo in part.place.repos:
        try:
            return _files_of(preset, part, repo)
        except DownloadError as error:
            logger.info("%s: %s", repo, error)
            if error.state == "offline":
                raise
            errors.append(error)
    raise next((error for error in errors if error.state == "gated"), errors[0])


def _files_of(preset: Preset, part: Part, repo: Repo) -> list[RemoteFile]:
    from huggingface_hub import HfApi

    revision = part.place.revision or hub.MAIN
    with download_errors(preset, part, repo):
        info = HfApi(endpoint=hub.endpoint(), token=hub.token() or False).model_info(
            repo.id, revision=revision, files_metadata=True, timeout=_TIMEOUT
        )
    prefix = f"{repo.folder}/" if repo.folder else ""
    known = {
        one.rfilename.removeprefix(prefix): one for one in info.siblings or () if one.rfilename.startswith(prefix)
    }
    try:
        chosen = part.choose(known)
    except ValueError as error:
        raise DownloadError(
            f"The repository {repo} does not hold {part.label} of {preset.title}: {error}. "
            f"Name another repository in {preset.name}.yaml.",
            "missing",
        ) from None
    commit = str(info.sha)
    files = [_remote(repo, commit, known[name]) for name in chosen]
    _point(repo, revision, commit)
    return files


def _remote(repo: Repo, commit: str, one: RepoSibling) -> RemoteFile:
    size = one.lfs.size if one.lfs else one.size
    return RemoteFile(repo, commit, one.rfilename, size or 0, one.lfs.sha256 if one.lfs else str(one.blob_id))


def _point(repo: Repo, revision: str, commit: str) -> None:
    """Write down which commit a branch points to, in the cache's layout."""
    if revision == commit:
        return
    try:
        ref = repo.cache / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit, encoding="utf-8")
    except OSError as error:
        raise unwritable(error) from error


def _check_room(preset: Preset, left: int) -> None:
    folder = hub.cache_folder()
    free = free_bytes(folder)
    if free < left + SPARE:
        raise DownloadError(no_room(preset.title, left, free), "disk")


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that a folder is on, or would be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


class _Meter:
    """Counts bytes and reports them at intervals."""

    def __init__(self, title: str, total: int, left: int, report: Callable[[Progress], None]) -> None:
        self._title = title
        self._total, self._done = total, total - left
        self._first = self._done
        self._begun = time.monotonic()
        self._told = 0.0
        self._report = report

    def add(self, count: int, *, waiting: bool = False) -> None:
        """Count bytes; negative ones had to be thrown away. `waiting` says that another program fetches them."""
        self._done += count
        now = time.monotonic()
        if now - self._told >= _TELL or self._done >= self._total:
            self._told = now
            came = self._done - self._first
            left = (self._total - self._done) * (now - self._begun) / came if came > 0 else None
            stage = (
                f"Waiting for another program to download {self._title}" if waiting else f"Downloading {self._title}"
            )
            self._report(Progress(stage, self._done, self._total, left, unit="byte"))


def _fetch_file(preset: Preset, file: RemoteFile, done: int, meter: _Meter, cancel: threading.Event) -> None:
    """Download one file unless it is here; `done` of its bytes are counted already."""
    if file.link.is_file():
        meter.add(file.size - done)
        return
    try:
        with _held(file, done, meter, cancel):
            if file.link.is_file():
                return
            if not file.blob.is_file():
                file.blob.parent.mkdir(parents=True, exist_ok=True)
                _fill(preset, file, meter, cancel)
                file.partial.replace(file.blob)
            _link(file)
    except OSError as error:
        if isinstance(error, ControlNeXtError):
            raise
        raise unwritable(error) from error


@contextmanager
def _held(file: RemoteFile, done: int, meter: _Meter, cancel: threading.Event) -> Iterator[None]:
    """Lock a file, waiting for other programs; the operating system releases the lock of a program that dies."""
    from filelock import FileLock, Timeout

    file.lock.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file.lock, mode=_LOCK_MODE)
    waiting = True
    while waiting:
        stop_if(cancel)
        try:
            lock.acquire(timeout=_LOOK)
            waiting = False
        except Timeout:
            logger.info("%s is being downloaded by another program.", file.name)
        now = file.done()  # what another program fetched meanwhile
        if waiting or now != done:
            meter.add(now - done, waiting=waiting)
        done = now
    try:
        yield
    finally:
        lock.release()


def _fill(preset: Preset, file: RemoteFile, meter: _Meter, cancel: threading.Event) -> None:
    """Download until the content is whole, from where it is."""
    tries = _TRIES
    while True:
        stop_if(cancel)
        before = file.partial.stat().st_size if file.partial.is_file() else 0
        if before >= file.size and before > 0:
            if before == file.size and _is_right(file):
                return
            file.partial.unlink()
            meter.add(-min(before, file.size))
            tries -= 1
        elif file.size == 0:
            file.partial.touch()
            return
        error = _stream(preset, file, meter, cancel)
        after = file.partial.stat().st_size if file.partial.is_file() else 0
        tries = _TRIES if after > before else tries - 1
        if error is not None and tries <= 0:
            raise error
        if tries <= 0:
            raise DownloadError(
                f"The file {file.name} of {file.repo} arrived damaged several times; try again later, or use a mirror.",
                "broken",
            )
        if error is not None:
            logger.info("%s stopped at %d of %d bytes: %s", file.name, after, file.size, error)
            cancel.wait(_PAUSE)


def _stream(preset: Preset, file: RemoteFile, meter: _Meter, cancel: threading.Event) -> DownloadError | None:
    """Append what the hub sends; return the error if another try may help, and raise it if not."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    have = file.partial.stat().st_size if file.partial.is_file() else 0
    headers = build_hf_headers(token=hub.token() or False) | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    url = hf_hub_url(file.repo.id, file.name, revision=file.commit, endpoint=hub.endpoint())
    try:
        with (
            download_errors(preset, None, file.repo),
            get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=_TIMEOUT) as response,
        ):
            hf_raise_for_status(response)
            resumed = have > 0 and response.status_code == 206
            if have and not resumed:  # the server sends it from its start
                meter.add(-have)
            with file.partial.open("ab" if resumed else "wb") as target:
                for chunk in response.iter_raw():
                    target.write(chunk)
                    meter.add(len(chunk))
                    stop_if(cancel)
    except DownloadError as error:
        if error.state in ("offline", "broken"):
            return error
        raise
    return None


def _is_right(file: RemoteFile) -> bool:
    """Whether the content is what the hub lists; small files are known by their size alone."""
    if len(file.key) != _SHA256:
        return True
    with file.partial.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest() == file.key


def _link(file: RemoteFile) -> None:
    """Link a file's name to its content; where the disk has no links, move the content there."""
    file.link.parent.mkdir(parents=True, exist_ok=True)
    target = Path(os.path.relpath(file.blob, file.link.parent))
    try:
        file.link.symlink_to(target)
    except FileExistsError:
        file.link.unlink()  # a link that leads nowhere
        file.link.symlink_to(target)
    except OSError:
        file.blob.replace(file.link)
