"""What each page last made in full: a live picture of the same values does not replace it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

MOST_PAGES = 256
"""Pages that are remembered; of an older one a live picture may replace the full one until the next change."""


class FullPictures:
    """The values with which each page generated last, until it asks for something else."""

    def __init__(self) -> None:
        """Begin with no page."""
        self._asked: OrderedDict[str, Mapping[Any, Any]] = OrderedDict()

    def note(self, session: str, asked: Mapping[Any, Any]) -> None:
        """Note that a page generates with the values `asked`, as `ImageEvents.asked` gives them."""
        self._asked[session] = asked
        self._asked.move_to_end(session)
        while len(self._asked) > MOST_PAGES:
            self._asked.popitem(last=False)

    def covers(self, session: str, asked: Mapping[Any, Any]) -> bool:
        """Return whether these are the values with which the page generated last."""
        return self._asked.get(session) == asked

    def shows(self, session: str) -> bool:
        """Return whether the page shows what it generated last."""
        return session in self._asked

    def forget(self, session: str) -> None:
        """Note that the page asks for something else now."""
        self._asked.pop(session, None)
