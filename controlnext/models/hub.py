"""The hub's cache on this disk, and whether the hub can be reached: nothing here downloads or waits.

The cache has the layout that `huggingface_hub` documents, so that files fetched by other programs are found and the files
fetched here serve other programs: `models--owner--name/` with `blobs/`, `snapshots/<commit>/` and `refs/<branch>`.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from controlnext.errors import fail

ENDPOINT = "https://huggingface.co"
MAIN = "main"
_PROBE_SECONDS = 3.0  # a network that takes longer to open a connection downloads no gigabytes
_TRUST_SECONDS = 60.0  # the online check is cached for this long


@dataclass(frozen=True)
class Repo:
    """A model repository, or a folder in one.

    Attributes:
        id: `owner/name`.
        folder: inside of it, without slashes at its ends; empty for all of it.
    """

    id: str
    folder: str = ""

    @classmethod
    def parse(cls, text: str) -> Repo:
        """Read `owner/name` or `owner/name/folder`, or raise a `ValueError` with a sentence."""
        parts = text.strip("/").split("/")
        if len(parts) < 2 or not all(parts) or ".." in parts:
            fail(f"{text!r} names no hub repository; write owner/name, or owner/name/folder for a folder in one.")
        return cls("/".join(parts[:2]), "/".join(parts[2:]))

    def __str__(self) -> str:
        """Write it as it was read."""
        return f"{self.id}/{self.folder}" if self.folder else self.id

    @property
    def cache(self) -> Path:
        """Its folder in the cache, there or not."""
        return cache_folder() / f"models--{self.id.replace('/', '--')}"

    def snapshots(self, revision: str | None = None) -> list[Path]:
        """Folders of what is cached of it, the one its branch points to first."""
        revision = revision or MAIN
        try:
            found = sorted(path for path in (self.cache / "snapshots").iterdir() if path.is_dir())
        except OSError:
            return []
        try:
            head = (self.cache / "refs" / revision).read_text(encoding="utf-8").strip()
        except OSError:
            head = revision
        if revision != MAIN:  # only the commit or branch that was asked for
            found = [path for path in found if path.name == head]
        return [path / self.folder for path in sorted(found, key=lambda path: path.name != head)]


def cache_folder() -> Path:
    """Return the cache folder, by the environment variables that `huggingface_hub` documents."""
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(folder).expanduser()
    return _home() / "hub"


def endpoint() -> str:
    """Address of the hub; `HF_ENDPOINT` names another one."""
    return os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")


def token() -> str | None:
    """Return the access token of this machine: `HF_TOKEN`, or what `hf auth login` saved; None without one."""
    if found := os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN"):
        return found.strip() or None
    path = Path(os.environ.get("HF_TOKEN_PATH") or _home() / "token").expanduser()
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _home() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser()


class Network:
    """Whether the hub answers; asked in the background, so that a list of models never waits for a network."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._lock = threading.Lock()
        self._known: tuple[float, bool] | None = None
        self._asking = False

    def online(self) -> bool:
        """Return the last answer; True before the first one, since a download would find out soon enough."""
        if switched_off():
            return False
        with self._lock:
            stale = self._known is None or time.monotonic() - self._known[0] > _TRUST_SECONDS
            if stale and not self._asking:
                self._asking = True
                threading.Thread(target=self._ask, name="hub-probe", daemon=True).start()
            return self._known is None or self._known[1]

    def learned(self, online: bool) -> None:
        """Record what a download found out."""
        with self._lock:
            self._known = time.monotonic(), online

    def _ask(self) -> None:
        try:
            online = answers()
        finally:
            with self._lock:
                self._asking = False
        self.learned(online)


NETWORK = Network()
"""What this process knows of its network."""


def switched_off() -> bool:
    """Whether the environment forbids using the network (`HF_HUB_OFFLINE`)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def answers() -> bool:
    """Open a connection to the hub, or to the proxy that leads there, and close it again."""
    address = urlsplit(endpoint())
    proxies = getproxies()
    through = proxies.get(address.scheme) or proxies.get("all")
    if through:
        address = urlsplit(through if "://" in through else f"http://{through}")
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), _PROBE_SECONDS).close()
    except OSError:
        return False
    return True
