"""Memory of this process: bytes that a result holds, for the bounds of caches, and freed memory on its way back to the system."""

from __future__ import annotations

import ctypes
import dataclasses
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

SMALL = 64
"""Bytes that are reckoned for anything that holds no data of its own."""

_ARENAS = 2
_M_ARENA_MAX = -8  # source: glibc, malloc/malloc.h


def share_arenas() -> None:
    """Let all threads share two heaps of glibc's; to be called before they begin.

    glibc gives each of the server's 40 threads a heap of its own, and memory that one has freed is of no use to another.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library keeps it."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
    except (OSError, TypeError):  # Windows has no such handle
        return None


def held_bytes(value: object) -> int:
    """Estimate the bytes a value holds: arrays, tensors, pictures, texts and all that lies in containers and dataclasses.

    What occurs twice in it is counted once.
    """
    return _held(value, set())


def _held(value: Any, seen: set[int]) -> int:  # noqa: ANN401 - anything
    if value is None or isinstance(value, bool | int | float):
        return SMALL // 2
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, str | bytes | bytearray):
        return sys.getsizeof(value)
    if isinstance(size := getattr(value, "nbytes", None), int):  # an array or a tensor
        base = getattr(value, "base", None)  # of a view: the array that it keeps
        return max(size, getattr(base, "nbytes", 0) if id(base) not in seen else 0) + SMALL
    if hasattr(value, "getbands"):  # a picture
        pixels = int(value.width * value.height * len(value.getbands()))
        return pixels + SMALL + _held(getattr(value, "info", None), seen)
    if isinstance(value, Mapping):
        return SMALL + sum(_held(key, seen) + _held(item, seen) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return SMALL + sum(_held(item, seen) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return SMALL + sum(_held(getattr(value, row.name, None), seen) for row in dataclasses.fields(value))
    return SMALL
