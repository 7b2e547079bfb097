"""Models are loaded once, on first use, by whichever thread comes first, and can all be let go again."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_loaded: dict[str, Any] = {}
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # one a name: a slow load holds up nobody else
_guard = threading.Lock()


def once(name: str, load: Callable[[], T]) -> T:
    """Return what `load` returned the first time it was asked for under this name."""
    with _guard:
        lock = _locks[name]
    with lock:
        if name not in _loaded:
            _loaded[name] = load()
        return _loaded[name]


def unload() -> None:
    """Let go of every loaded model; the next use loads it again."""
    with _guard:
        _loaded.clear()
