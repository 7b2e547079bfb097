"""Names of the results that each visitor made, for visitors who may see their own only."""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from controlnext.results.board import result_name

MOST_PAGES, MOST_NAMES = 128, 1_000
"""Visitors, and results of each, that are remembered; the oldest are forgotten."""

_VISITOR = re.compile(r"[0-9a-f]{32}")


class MadeResults:
    """Remembers who made which result. Safe to call from several threads.

    A page is known by its session hash, which changes when it is loaded again; the secret that its browser keeps does not.
    """

    def __init__(self) -> None:
        """Start with nothing made."""
        self._lock = threading.Lock()
        self._visitors: OrderedDict[str, str] = OrderedDict()
        self._names: OrderedDict[str, dict[str, None]] = OrderedDict()

    def enter(self, page: str, visitor: object = None) -> str:
        """Note whose page it is.

        Args:
            page: its session hash.
            visitor: secret that the browser has kept; anything else is a new visitor.

        Returns:
            The secret, for the browser to keep.
        """
        known = isinstance(visitor, str) and _VISITOR.fullmatch(visitor)
        secret = visitor if isinstance(visitor, str) and known else secrets.token_hex(16)
        with self._lock:
            self._visitors[page] = secret
            self._visitors.move_to_end(page)
            while len(self._visitors) > 4 * MOST_PAGES:
                self._visitors.popitem(last=False)
        return secret

    def add(self, page: str, files: Iterable[Path]) -> None:
        """Note results of a page, by its session hash."""
        with self._lock:
            visitor = self._visitors.get(page, page)
            names = self._names.setdefault(visitor, {})
            self._names.move_to_end(visitor)
            names.update(dict.fromkeys(result_name(path) for path in files))
            while len(names) > MOST_NAMES:
                del names[next(iter(names))]
            while len(self._names) > MOST_PAGES:
                self._names.popitem(last=False)

    def of(self, page: str) -> frozenset[str]:
        """Return the names of what the visitor of a page made."""
        with self._lock:
            return frozenset(self._names.get(self._visitors.get(page, page), ()))
