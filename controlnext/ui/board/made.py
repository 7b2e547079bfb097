"""Names of the results that each open page made, for visitors who may see their own only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

MOST_PAGES, MOST_NAMES = 128, 1_000
"""Pages, and results of each, that are remembered; the oldest are forgotten."""


class MadeResults:
    """Remembers which page made which result. Safe to call from several threads."""

    def __init__(self) -> None:
        """Start with nothing made."""
        self._lock = threading.Lock()
        self._names: OrderedDict[str, dict[str, None]] = OrderedDict()

    def add(self, page: str, files: Iterable[Path]) -> None:
        """Note results of a page, by its session hash."""
        with self._lock:
            names = self._names.setdefault(page, {})
            self._names.move_to_end(page)
            names.update(dict.fromkeys(path.name for path in files))
            while len(names) > MOST_NAMES:
                del names[next(iter(names))]
            while len(self._names) > MOST_PAGES:
                self._names.popitem(last=False)

    def of(self, page: str) -> frozenset[str]:
        """Return the names of what a page made."""
        with self._lock:
            return frozenset(self._names.get(page, ()))
