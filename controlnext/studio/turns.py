"""The order of runs: one works at a time, the others wait in the order in which they came and know how many are before them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from controlnext.progress import stop_if

POLL_SECONDS = 0.1
"""How often a run that waits looks whether it was stopped."""


class Turns:
    """A lock that is fair and says how long the line is. Safe to share between threads."""

    def __init__(self) -> None:
        """Start with nobody in line."""
        self._changed = threading.Condition()
        self._line: list[object] = []

    @contextmanager
    def take(self, on_place: Callable[[int], None], cancel: threading.Event) -> Iterator[None]:
        """Wait for those who came before, then hold the turn until the block ends.

        Args:
            on_place: is told how many are before this one, whenever that changes; not at all where there is nobody.
            cancel: set it to leave the line.

        Raises:
            Cancelled: it was set before the turn came.
        """
        ticket, shown = object(), 0
        with self._changed:
            self._line.append(ticket)
        try:
            while before := self._before(ticket):
                if before != shown:
                    on_place(before)
                    shown = before
                stop_if(cancel)
            yield
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _before(self, ticket: object) -> int:
        """How many are before a ticket; where there are some, this waits a moment for that to change."""
        with self._changed:
            before = self._line.index(ticket)
            if before:
                self._changed.wait(POLL_SECONDS)
                before = self._line.index(ticket)
            return before
