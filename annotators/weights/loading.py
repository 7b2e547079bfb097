"""A registry of loaded models: each is loaded once, on first use, and all can be released."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar, cast

from annotators.base import AnnotatorError, BackendMissing

logger = logging.getLogger(__name__)

T = TypeVar("T")

_loaded: dict[str, object] = {}
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # one a name: a slow load holds up nobody else
_guard = threading.Lock()


def once(name: str, load: Callable[[], T]) -> T:
    """Return what `load` returned the first time it was asked for under this name.

    Raises:
        BackendMissing: it cannot be loaded: a package that does not fit the others, a damaged file; the log has it all.
    """
    with _guard:
        lock = _locks[name]
    with lock:
        if name not in _loaded:
            try:
                _loaded[name] = load()
            except AnnotatorError:
                raise
            except Exception as error:
                logger.exception("%s could not be loaded", name)
                reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
                raise BackendMissing(
                    f"The model {name} could not be loaded: {reason}. Fetch its files again, or reinstall the package named."
                ) from error
        return cast(T, _loaded[name])


def unload() -> None:
    """Release every loaded model; the next use loads it again."""
    with _guard:
        _loaded.clear()
