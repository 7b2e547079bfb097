"""Temporary files: a folder of its own for every process, swept while it runs, and files that are moved to their place once whole.

Systems share one temporary folder between users and programs. This app keeps its uploads and drafts in a folder that belongs to
the user alone, so that it neither meets another user's files nor shows its own; what a killed process left is removed by the next.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import platform
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO
from uuid import uuid4

from controlnext.errors import ControlNeXtError
from controlnext.held import give_back_memory

try:
    import fcntl
except ImportError:  # Windows, where temporary folders belong to a user anyway
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 60
"""Time between two sweeps of a running process."""

KEPT_SECONDS = 24 * 3600
"""A file unused for so long is removed."""

KEPT_BYTES = 2 * 2**30
"""Most bytes that stay; the files used longest ago go first."""

FRESH_SECONDS = 300
"""A file used so recently stays, however much there is."""

PREFIX = ".unfinished-"
"""Beginning of the name of every file that is not whole yet."""

STALE_SECONDS = 24 * 3600
"""A file of another machine, or of nobody known, that was not touched for so long is nobody's."""

_NAME = re.compile(rf"{re.escape(PREFIX)}(?P<place>[0-9a-f]{{8}})-(?P<process>\d+)-")

_LOCK = ".lock"
_OLD_SECONDS = 7 * 24 * 3600  # where there are no locks, a folder this old belongs to no running process


class ScratchError(ControlNeXtError, OSError):
    """There is no place for temporary files."""


def own_scratch(base: Path | None = None) -> Path:
    """Make the folder for this process's temporary files, and remove those of processes that are gone.

    Args:
        base: the system's folder for temporary files; None asks `tempfile`.

    Returns:
        The folder, readable by this user alone; it is removed when the process ends in good order.

    Raises:
        ScratchError: nothing can be written there.
    """
    base = base or Path(tempfile.gettempdir())
    try:
        folder = _user_folder(base)
        for left in folder.glob("app-*"):
            _remove_if_left(left)
        mine = Path(tempfile.mkdtemp(prefix="app-", dir=folder))
        lock = _hold(mine)
    except OSError as error:
        raise ScratchError(
            f"Temporary files cannot be written ({error.strerror or error}): free some disk space, or name another folder with TMPDIR."
        ) from error
    owner = os.getpid()
    atexit.register(_end, mine, lock, owner)
    return mine


def _user_folder(base: Path) -> Path:
    name = f"controlnext-{os.getuid()}" if hasattr(os, "getuid") else "controlnext"
    folder = base / name
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid()):
            folder.chmod(0o700)
            return folder
    except FileExistsError:
        pass
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))  # somebody else took the name


def _hold(folder: Path) -> IO[str] | None:
    new = folder / f"{_LOCK}-new"
    lock = new.open("w")
    if fcntl is not None:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    new.rename(folder / _LOCK)  # held before anybody can see it
    return lock


def _remove_if_left(folder: Path) -> None:
    """Remove the folder of a process that has ended; one whose lock is held belongs to a running one."""
    try:
        if fcntl is None:
            if time.time() - folder.stat().st_mtime > _OLD_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
            return
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except FileNotFoundError:
        if time.time() - folder.stat().st_mtime > FRESH_SECONDS:  # one that is just being made has no lock yet
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # in use
        pass


def _end(folder: Path, lock: IO[str] | None, owner: int) -> None:
    if os.getpid() == owner:  # a forked process ends without taking its parent's files along
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.close()


@dataclass(frozen=True)
class Kept:
    """What a sweep left.

    Attributes:
        entries: files and folders that stay.
        nbytes: their size.
        removed: how many were removed.
    """

    entries: int
    nbytes: int
    removed: int


def sweep(
    folder: Path,
    *,
    pinned: Iterable[str] = (),
    most_bytes: int = KEPT_BYTES,
    oldest: float = KEPT_SECONDS,
    fresh: float = FRESH_SECONDS,
) -> Kept:
    """Remove what lies in a folder unused, oldest first.

    Args:
        folder: each entry of it, a file or a folder, stays or goes as a whole.
        pinned: names of entries that stay.
        most_bytes: bytes that may stay.
        oldest: seconds after its last use that an entry goes in any case.
        fresh: seconds after its last use that an entry stays in any case.

    Returns:
        What is left.
    """
    pinned, now, entries, removed = frozenset(pinned), time.time(), [], 0
    try:
        found = list(os.scandir(folder))
    except OSError:
        return Kept(0, 0, 0)
    for entry in found:
        if entry.name not in pinned and entry.name != _LOCK:
            used, size = _use_and_size(Path(entry.path))
            entries.append((used, size, Path(entry.path)))
    entries.sort(reverse=True)
    kept, total = 0, 0
    for used, size, path in entries:
        age = now - used
        if age > oldest or (total + size > most_bytes and age > fresh):
            _remove(path)
            removed += 1
        else:
            kept, total = kept + 1, total + size
    return Kept(kept, total, removed)


def touch(path: Path) -> None:
    """Mark a file or folder as used now."""
    try:
        os.utime(path)
    except OSError:  # swept meanwhile, or not ours
        logger.debug("cannot touch %s", path)


def _use_and_size(path: Path) -> tuple[float, int]:
    """When an entry was last used, in seconds since 1970, and its bytes."""
    used, size = 0.0, 0
    for one in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
        try:
            found = one.lstat()
        except OSError:
            continue
        used = max(used, found.st_mtime)
        size += found.st_size
    return used, size


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class Sweeper:
    """A thread that sweeps folders now and then."""

    def __init__(self, folders: Iterable[Path], every: float = SWEEP_SECONDS) -> None:
        """Remember what is there now: it stays, since the page was built with it.

        Args:
            folders: to sweep.
            every: seconds between two sweeps.
        """
        self._pinned = {folder: _names(folder) for folder in folders}
        self._every = every
        self._stop = threading.Event()

    def start(self) -> None:
        """Sweep from now on, in a daemon thread."""
        threading.Thread(target=self._run, name="sweeper", daemon=True).start()

    def stop(self) -> None:
        """Sweep no more."""
        self._stop.set()

    def sweep(self) -> dict[Path, Kept]:
        """Sweep once; return what is left in each folder, beside what was there from the start."""
        return {folder: sweep(folder, pinned=pinned) for folder, pinned in self._pinned.items()}

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self.sweep()
                give_back_memory()
            except OSError as error:
                logger.warning("Temporary files could not be removed: %s", error)


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(entry.name for entry in os.scandir(folder))
    except OSError:
        return frozenset()


def unfinished(folder: Path, suffix: str) -> Path:
    """Return a free name in a folder for a file that is to be moved to its place once it is whole."""
    return folder / f"{PREFIX}{_place()}-{os.getpid()}-{uuid4().hex}{suffix}"


def sweep_unfinished(folder: Path) -> int:
    """Remove what killed processes have left in a folder; what a running one is writing stays.

    Args:
        folder: it need not be there, nor be writable.

    Returns:
        How many files were removed.
    """
    removed = 0
    try:
        found = [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(PREFIX)]
    except OSError:
        return 0
    for path in found:
        try:
            if _left(path):
                path.unlink()
                removed += 1
        except OSError:  # gone meanwhile, or not ours to remove
            continue
    return removed


def _left(path: Path) -> bool:
    match = _NAME.match(path.name)
    if match is not None and match["place"] == _place():
        return not _runs(int(match["process"]))
    return time.time() - path.stat().st_mtime > STALE_SECONDS


def _runs(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


@cache
def _place() -> str:
    """Names this machine, or container: numbers of processes mean something inside of it alone."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return hashlib.sha256(f"{platform.node()}:{space}".encode()).hexdigest()[:8]
