"""A content-addressed cache: a live slider and the generation after it compute each result once."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np
from PIL import Image

T = TypeVar("T")


class Cache:
    """Least-recently-used cache with a budget in bytes, safe to share between threads.

    Two threads that want the same key at the same time compute it once: the second waits for the first.
    """

    def __init__(self, budget: int) -> None:
        """Make an empty cache that keeps at most `budget` bytes of results."""
        self.budget = budget
        self._entries: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._making: dict[Hashable, threading.Event] = {}
        self._lock = threading.Lock()
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self._used

    def __len__(self) -> int:
        """Return the number of results kept."""
        return len(self._entries)

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the result kept under the key, or make it and keep it.

        Args:
            key: identifies everything the result depends on.
            make: computes it; what it raises is passed on and nothing is kept.
        """
        while True:
            with self._lock:
                if key in self._entries:
                    self._entries.move_to_end(key)
                    return self._entries[key][0]  # type: ignore[return-value]
                running = self._making.get(key)
                if running is None:
                    self._making[key] = threading.Event()
                    break
            running.wait()
        try:
            value = make()
            self._keep(key, value)
            return value
        finally:
            with self._lock:
                self._making.pop(key).set()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._used = 0

    def _keep(self, key: Hashable, value: object) -> None:
        size = size_of(value)
        if size > self.budget:
            return
        with self._lock:
            self._entries[key] = (value, size)
            self._used += size
            while self._used > self.budget:
                _, (_, freed) = self._entries.popitem(last=False)
                self._used -= freed


def digest(rgb: np.ndarray) -> str:
    """Return a hash of a picture (H, W, 3) uint8: equal pixels have equal hashes."""
    name = hashlib.blake2b(f"{rgb.shape}".encode(), digest_size=16)
    name.update(np.ascontiguousarray(rgb).data)
    return name.hexdigest()


def size_of(value: object) -> int:
    """Estimate the bytes a result holds: arrays and pictures count in full, the rest a little."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands())
    if isinstance(value, Mapping):
        return 64 + sum(size_of(item) for item in value.values())
    if isinstance(value, list | tuple):
        return 64 + sum(size_of(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return 64 + sum(size_of(getattr(value, row.name)) for row in dataclasses.fields(value))
    return 64


def freeze(value: object) -> None:
    """Make every array of a result read-only: a cached result must not change for other callers."""
    if isinstance(value, np.ndarray):
        value.setflags(write=False)
    elif isinstance(value, Mapping):
        for item in value.values():
            freeze(item)
    elif isinstance(value, list | tuple):
        for item in value:
            freeze(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for row in dataclasses.fields(value):
            freeze(getattr(value, row.name))
